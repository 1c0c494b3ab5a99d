"""Measures operations inside the interpreter that it runs on.

worker.py FOLDER KIND count RESULT NAME...  operations once, for callgrind
worker.py FOLDER KIND serve                 what standard input asks for, JSON
worker.py FOLDER KIND memory WHAT N LINES   before and after disabling LINES of
                                            each of N code-likes ("disabled"),
                                            or local events on N code-likes
                                            ("local") or "functions", or a
                                            code object of LINES "locations"

FOLDER holds the extension module, KIND is "stock" or "ours".
"""

import gc
import itertools
import json
import os
import sys
import threading
import time

sys.path.insert(0, sys.argv[1])

import frames
import loops
import operations
import programs
from codelikes import CodeLike, Layout, new_code

monitoring = sys.monitoring
E = monitoring.events


def two(codelike, number):
    """Be a callback."""
    return None


def three(codelike, number, value):
    """Be a callback."""
    return None


def four(codelike, number, value, arg0=None):
    """Be a callback; stock calls it for C_RETURN and C_RAISE without arg0."""
    return None


def object_from_two(codelike, number):
    """Be a callback that returns something."""
    return codelike


def object_from_three(codelike, number, value):
    """Be a callback that returns something."""
    return codelike


PYTHON_CALLBACKS = {
    ("None", 2): two, ("None", 3): three, ("None", 4): four,
    ("object", 2): object_from_two, ("object", 3): object_from_three}
C_CALLBACKS = {"None": loops.ignore, "object": loops.return_first}


class Prepared:
    """An operation whose tools are in place."""

    def __init__(self, operation, is_stock, layout=0):
        self.operation = operation
        self.layout = Layout(layout)
        self.is_stock = is_stock
        self.twin = (is_stock and operation.stock_twin) or operation.twin
        self.stale = stale_version() if operation.stale else 0
        self.error = ValueError("pending") if operation.needs_error else None
        self.codelikes = self.layout.make(
            max(operation.disabled[0], operation.local, 1),
            self.layout.codelike)
        self.with_local_events = (
            [new_code()] if operation.local_function
            else self.codelikes if operation.local else [])
        self.tools = range(operation.tools)
        self.start_tools()
        self.locations = self.choose_locations()
        self.value, self.arguments = self.choose_target()
        # Half of their memory is free again: without it chance decides
        # whether each number that a loop makes has a pool begun and given up.
        self.ints = list(range(2000, 2100))[:50]

    def start_tools(self):
        """Switch events on, disable locations, and register callbacks."""
        operation = self.operation
        events = event_set(operation.listen_to)
        for tool in self.tools:
            monitoring.use_tool_id(tool, "benchmark")
            monitoring.set_events(tool, events)
            for code in self.with_local_events:
                monitoring.set_local_events(tool, code, E.LINE)
        if operation.disabled[0]:
            self.disable_lines()
        if operation.callback == "python":
            self.quiet_callbacks()
        for name in operation.call_for:
            self.register(name, self.callback(name))

    def disable_lines(self):
        """Disable as many lines as the operation wants."""
        for tool in self.tools:
            monitoring.set_events(tool, E.LINE)
        self.register("LINE", loops.disable)
        loops.fire_lines(self.codelikes, self.operation.disabled[1])

    def quiet_callbacks(self):
        """Disable the bytecode of the callbacks for the tools.

        They run as they would if their tools had no events on, so that what
        is measured is not their own instrumentation.
        """
        for name in self.operation.listen_to:
            self.register(name, loops.disable)
        for (_, arity), callback in PYTHON_CALLBACKS.items():
            for _ in range(8):
                callback(*[None] * arity)
        for name in self.operation.listen_to:
            self.register(name, None)

    def register(self, name, callback):
        """Register a callback for an event of all tools."""
        for tool in self.tools:
            monitoring.register_callback(tool, getattr(E, name), callback)

    def callback(self, name):
        """Return the callback for an event."""
        returns = self.operation.returns
        if self.operation.callback in frames.LOOKS:
            return frames.LOOKS[self.operation.callback]
        if self.operation.callback == "c":
            return C_CALLBACKS[returns]
        return PYTHON_CALLBACKS[returns, operations.BY_NAME[name].arity]

    def choose_locations(self):
        """Return the locations that the loop goes round."""
        operation = self.operation
        if operation.code:
            code = loops.new_code(*operation.code)
            return [(code, number) for number in operation.numbers]
        if operation.others:
            maker = (new_code if operation.others == "code"
                     else self.layout.codelike)
            return list(zip(self.layout.make(len(operation.numbers), maker),
                            operation.numbers))
        lines = operation.disabled[1] or operation.local and 1
        if not lines:
            return [(self.codelikes[0], number)
                    for number in operation.numbers]
        choices = self.layout.random.choices
        return list(zip(choices(self.codelikes, k=1024),
                        choices(range(lines), k=1024)))

    def choose_target(self):
        """Return what is called or what events report, and arguments."""
        target = self.operation.target
        if target == "set_events":
            return monitoring.set_events, itertools.cycle(((0, E.LINE),
                                                           (0, 0)))
        if target == "set_local_events":
            return monitoring.set_local_events, (
                (0, new_code(), E.PY_START) for _ in itertools.count())
        if target == "ignore":
            return loops.ignore, ()
        if target == "get_location":
            return (monitoring.get_location,
                    itertools.repeat(self.locations[0]))
        if target in frames.TARGETS:
            function, arguments = frames.TARGETS[target]
            return function, itertools.repeat(arguments)
        if self.operation.traced:
            return self.choose_traced()
        if target:
            return getattr(programs, target), itertools.repeat(())
        return 123456, ()

    def choose_traced(self):
        """Return what runs under a trace function, and arguments."""
        code, _ = self.locations[0]
        if self.operation.target == "run_foreign":
            frames.check_events(loops.run_foreign, code, code)
            return loops.run_foreign, itertools.repeat((code,))
        frames.check_events(frames.run_python, code,
                            frames.run_python.__code__)
        return frames.run_python, itertools.repeat((code,))

    def callbacks(self, name):
        """Return what the twin calls for an event, for each tool."""
        return tuple(self.callback(name) for _ in self.tools)

    def run(self, loop, n):
        """Run the loop or its twin n times and return the nanoseconds.

        No exception is pending in twins, which call what could not run then.
        """
        names = self.operation.call_for
        callbacks = self.callbacks(names[0]) if names else ()
        return_callbacks = (self.callbacks("PY_RETURN")
                            if "PY_RETURN" in names else ())
        arguments = (tuple(itertools.islice(self.arguments, n))
                     if loop == "call" else ())
        error = None if loop == self.twin else self.error
        if self.operation.traced:
            sys.settrace(frames.trace)
        try:
            return loops.run(loop, n, self.locations, self.operation.types,
                             self.value, callbacks, return_callbacks,
                             arguments, self.stale, error)
        finally:
            if self.operation.traced:
                sys.settrace(None)

    def end(self):
        """Forget what the operation needed."""
        for tool in self.tools:
            monitoring.set_events(tool, 0)
        for name in {*self.operation.call_for, *self.operation.listen_to}:
            self.register(name, None)
        for tool in self.tools:
            monitoring.free_tool_id(tool)
        if self.tools:
            monitoring.restart_events()


def stale_version():
    """Return a version that states were written for before a change."""
    version = loops.version()
    monitoring.use_tool_id(0, "benchmark")
    for events in (E.LINE, 0):
        monitoring.set_events(0, events)
    monitoring.free_tool_id(0)
    if loops.version() == version:
        raise RuntimeError("a change of events changed no version")
    return version


def event_set(names):
    """Return the events of these names as a set that monitoring takes."""
    events = 0
    for name in names:
        events |= getattr(E, name)
    return events


def count(is_stock, result, *names):
    """Run every loop and twin three times, the first to get going.

    Write the names of the operations, in order, when all of it is done: once
    for each of its layouts.
    """
    stale_version()     # most processes have had a tool
    known = operations.known()
    done = []
    for name in names:
        for layout in range(known[name].layouts):
            count_one(Prepared(known[name], is_stock, layout))
            done.append(name)
    with open(result, "w", encoding="utf-8") as file:
        json.dump(done, file)


def count_one(prepared):
    """Run the loop and the twin of an operation."""
    shorter, longer = prepared.operation.lengths
    for loop in (prepared.operation.loop, prepared.twin):
        for n in (shorter, shorter, longer):
            prepared.run(loop, n)
    prepared.end()


def serve(is_stock):
    """Reply to requests until standard input ends.

    They are ["prepare", operation], ["run", loop, n], ["threads", loop, n,
    threads] and ["end"].
    """
    known = operations.known()
    prepared = None
    for line in sys.stdin:
        request = json.loads(line)
        if request[0] == "prepare":
            prepared = Prepared(known[request[1]], is_stock)
            reply = prepared.twin
        elif request[0] == "run":
            reply = prepared.run(*request[1:])
        elif request[0] == "threads":
            reply = run_threads(prepared, *request[1:])
        else:
            prepared.end()
            prepared = reply = None
        print(json.dumps(reply), flush=True)


def run_threads(prepared, loop, n, threads):
    """Run the loop n times in each of some threads at once.

    Return the nanoseconds from the first one's start to the last one's end.
    Each thread has a processor of its own: left to the scheduler, two often
    took turns on one.
    """
    barrier = threading.Barrier(threads)
    processors = sorted(os.sched_getaffinity(0))
    times = []

    def work(processor):
        os.sched_setaffinity(0, {processor})
        barrier.wait()
        start = time.perf_counter_ns()
        prepared.run(loop, n)
        times.append((start, time.perf_counter_ns()))

    workers = [threading.Thread(target=work,
                                args=[processors[i % len(processors)]])
               for i in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return max(end for _, end in times) - min(start for start, _ in times)


def memory(_is_stock, what, objects, lines):
    """Print what malloc gave, and make pymalloc say what it gave, twice."""
    maker = new_code if what == "functions" else CodeLike
    made = [maker() for _ in range(int(objects))]
    monitoring.use_tool_id(0, "benchmark")
    write_memory()
    if what == "locations":
        made.append(loops.new_code(int(lines), 4))
    elif what == "disabled":
        monitoring.register_callback(0, E.LINE, loops.disable)
        monitoring.set_events(0, E.LINE)
        loops.fire_lines(made, int(lines))
        monitoring.set_events(0, 0)
    else:
        # For LINE stock too would make a table of a function's lines.
        for codelike in made:
            monitoring.set_local_events(0, codelike, E.PY_START)
    write_memory()


def write_memory():
    """Write the bytes in use to standard error, pymalloc's in its own way."""
    gc.collect()
    print(f"malloced = {loops.malloced()}", file=sys.stderr, flush=True)
    sys._debugmallocstats()


def main(_folder, kind, command, *arguments):
    """Run a command."""
    gc.disable()
    commands = {"count": count, "serve": serve, "memory": memory}
    commands[command](kind == "stock", *arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
