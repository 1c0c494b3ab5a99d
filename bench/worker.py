"""Measures operations inside the interpreter that it runs on.

worker.py FOLDER KIND count RESULT    every operation once, for callgrind
worker.py FOLDER KIND serve           what standard input asks for, as JSON
worker.py FOLDER KIND memory N LINES  before and after disabling LINES of each
                                      of N code-likes (0: after local events)

FOLDER holds the extension module, KIND is "stock" or "ours".
"""

import gc
import json
import os
import random
import sys
import threading
import time

sys.path.insert(0, sys.argv[1])

import loops
import operations
import programs

monitoring = sys.monitoring
E = monitoring.events


class CodeLike:
    """What stands for a piece of foreign code."""

    __slots__ = ("__weakref__",)
    co_name = "code"
    co_filename = "benchmark"
    co_firstlineno = 1


def two(codelike, number):
    """Be a callback."""
    return None


def three(codelike, number, value):
    """Be a callback."""
    return None


def four(codelike, number, value, arg0=None):
    """Be a callback; stock tells of C_RETURN and C_RAISE without arg0."""
    return None


PYTHON_CALLBACKS = {2: two, 3: three, 4: four}


class Prepared:
    """An operation whose listeners are in place."""

    def __init__(self, operation, is_stock):
        self.operation = operation
        self.is_stock = is_stock
        self.twin = (is_stock and operation.stock_twin) or operation.twin
        self.stale = stale_version() if operation.stale else 0
        self.error = ValueError("pending") if operation.needs_error else None
        self.codelikes = [CodeLike() for _ in range(
            max(operation.disabled[0], operation.local, 1))]
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
        if operation.disabled[0]:
            self.disable_lines()
        for tool in self.tools if operation.local else ():
            for codelike in self.codelikes:
                monitoring.set_local_events(tool, codelike, E.LINE)
        if operation.callback == "python":
            self.quiet_callbacks()
        for name in operation.tell:
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
        for arity, callback in PYTHON_CALLBACKS.items():
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
        if self.operation.callback == "c":
            return loops.ignore
        return PYTHON_CALLBACKS[operations.BY_NAME[name].arity]

    def choose_locations(self):
        """Return the locations that the loop goes round."""
        operation = self.operation
        if operation.others:
            return [(CodeLike(), number) for number in operation.numbers]
        if not operation.disabled[0]:
            if operation.local:
                chosen = random.Random(1).choices(self.codelikes, k=1024)
                return [(codelike, 1) for codelike in chosen]
            return [(self.codelikes[0], number)
                    for number in operation.numbers]
        generator = random.Random(1)
        return [(generator.choice(self.codelikes),
                 generator.randrange(operation.disabled[1]))
                for _ in range(1024)]

    def choose_target(self):
        """Return what is called and with what, or what events report."""
        target = self.operation.target
        if target == "set_events":
            return monitoring.set_events, ((0, E.LINE), (0, 0))
        if target:
            return getattr(programs, target), ((), ())
        return 123456, ((), ())

    def callbacks(self):
        """Return what the twin calls."""
        if self.twin == "bare_workload":
            return self.callback("PY_START"), self.callback("PY_RETURN")
        return tuple(self.callback(self.operation.tell[0])
                     for _ in self.tools if self.operation.tell)

    def run(self, loop, n):
        """Run the loop or its twin n times and return the nanoseconds.

        No exception is pending in twins, which call what could not run then.
        """
        error = None if loop == self.twin else self.error
        return loops.run(loop, n, self.locations, self.operation.types,
                         self.value, self.callbacks(), self.arguments,
                         self.stale, error)

    def end(self):
        """Forget what the operation needed."""
        for tool in self.tools:
            monitoring.set_events(tool, 0)
        for name in {*self.operation.tell, *self.operation.listen_to}:
            self.register(name, None)
        for tool in self.tools if self.operation.local else ():
            for codelike in self.codelikes:
                monitoring.set_local_events(tool, codelike, 0)
        for tool in self.tools:
            monitoring.free_tool_id(tool)
        if self.tools:
            monitoring.restart_events()


def stale_version():
    """Return a version that states were written for before a change."""
    version = loops.enter()[0]
    monitoring.use_tool_id(0, "benchmark")
    for events in (E.LINE, 0):
        monitoring.set_events(0, events)
    monitoring.free_tool_id(0)
    if loops.enter()[0] == version:
        raise RuntimeError("a change of events changed no version")
    return version


def event_set(names):
    """Return the events of these names as a set that monitoring takes."""
    events = 0
    for name in names:
        events |= getattr(E, name)
    return events


def possible(is_stock):
    """Yield the operations that the interpreter can do."""
    for operation in operations.all_operations():
        if operation.stock or not is_stock:
            yield operation


def count(is_stock, result):
    """Run every loop and twin three times, the first to get going.

    Write the names of the operations, in order, when all of it is done.
    """
    names = []
    for operation in possible(is_stock):
        prepared = Prepared(operation, is_stock)
        for loop in (operation.loop, prepared.twin):
            for n in (operation.lengths[0], *operation.lengths):
                prepared.run(loop, n)
        prepared.end()
        names.append(operation.name)
    with open(result, "w", encoding="utf-8") as file:
        json.dump(names, file)


def serve(is_stock):
    """Answer requests until standard input ends.

    They are ["prepare", operation], ["run", loop, n], ["threads", loop, n,
    threads] and ["end"].
    """
    known = {operation.name: operation for operation in possible(is_stock)}
    prepared = None
    for line in sys.stdin:
        request = json.loads(line)
        if request[0] == "prepare":
            prepared = Prepared(known[request[1]], is_stock)
            answer = prepared.twin
        elif request[0] == "run":
            answer = prepared.run(*request[1:])
        elif request[0] == "threads":
            answer = run_threads(prepared, *request[1:])
        else:
            prepared.end()
            prepared = answer = None
        print(json.dumps(answer), flush=True)


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


def memory(_is_stock, codelikes, lines):
    """Print what malloc gave, and make pymalloc tell what it gave, twice."""
    made = [CodeLike() for _ in range(int(codelikes))]
    monitoring.use_tool_id(0, "benchmark")
    tell_memory()
    if int(lines):
        monitoring.register_callback(0, E.LINE, loops.disable)
        monitoring.set_events(0, E.LINE)
        loops.fire_lines(made, int(lines))
        monitoring.set_events(0, 0)
    else:
        for codelike in made:
            monitoring.set_local_events(0, codelike, E.LINE)
    tell_memory()


def tell_memory():
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
