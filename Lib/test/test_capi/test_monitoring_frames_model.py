"""A random test of foreign frames against a model of the stack.

Two threads take turns in running random programs: foreign functions, Python
functions and generators that call each other, exceptions, tools and legacy
tools that come and go.  The driver notes each call that it makes; Model says
which activations the interpreter has to know of, and where they are.  In
callbacks, and in the program itself, the frames are compared with that.

    python -m test.test_capi.test_monitoring_frames_model --steps N --seed S

does at least N steps by hand, in programs the first of which has the seed S,
the next one S + 1, and so on.
"""

import argparse
import collections
import gc
import os
import random
import sys
import threading
import time
import traceback
import unittest
from functools import partial
from test import support
from test.support import import_helper, threading_helper
from .monitoring_support import (E, EVENT_SETS, OTHER_TOOL, TOOL,
                                 make_producer, monitoring)
from .test_monitoring_model import in_child

_testcapi = import_helper.import_module("_testcapi")

FILENAME = "<frames model>"
TOOLS = TOOL, OTHER_TOOL
BEGIN = "PY_START", "PY_RESUME", "PY_THROW"
END = "PY_RETURN", "PY_YIELD", "PY_UNWIND"
# Those that activations follow besides, once somebody looked.
FOLLOWED = {*BEGIN, *END, "LINE", "CALL"}
EVENTS = (*BEGIN, *END, "LINE", "CALL", "BRANCH", "RAISE")
LEGACY_EVENTS = {
    "settrace": {*BEGIN, *END, "LINE", "RAISE"},
    "setprofile": {*BEGIN, *END, "CALL"},
}


class Error(Exception):
    """What callbacks and programs raise."""


class Plain:
    """A code-like without locations."""

    co_filename = FILENAME


class Located(Plain):
    """One with some."""

    def co_positions(self):
        return iter(self.positions)


def make_code(name, firstlineno):
    """The code object of a Python function that never runs."""
    namespace = {}
    source = "\n" * (firstlineno - 1) + f"def {name}(a):\n b = a\n return b\n"
    exec(compile(source, FILENAME, "exec"), namespace)
    return namespace[name].__code__


def make_codelikes():
    """One of each kind, with different names and lines."""
    locations = [(line, line, 0, 4) for line in (301, 302, 302, 305)]
    plain, located = Plain(), Located()
    plain.co_name, plain.co_firstlineno = "plain", 100
    located.co_name, located.co_firstlineno = "located", 200
    located.positions = [(200, 200, 0, 1), (None,) * 4, (203, 204, None, None)]
    return [
        plain, located,
        _testcapi.CodeLike(0, "strong", FILENAME, 400),
        _testcapi.WeakCodeLike(0, "weak", FILENAME, 500),
        _testcapi.code_newempty(FILENAME, "empty", 600),
        _testcapi.code_newwithlocations(FILENAME, "code", None, 300,
                                        locations),
        make_code("function", 700),
    ]


def line_of(codelike, offset):
    """Return the line of an offset."""
    positions = getattr(codelike, "co_positions", lambda: ())
    positions = [*positions()]
    if offset % 2 == 0 and offset // 2 < len(positions):
        lineno = positions[offset // 2][0]
        if lineno is not None:
            return lineno
    return codelike.co_firstlineno


# ------ What runs Python code of the program ------

def python_function(actions):
    for action in actions:
        action()


def catching_function(actions):
    for action in actions:
        try:
            action()
        except Error:
            pass


def generator_function(actions):
    for action in actions:
        if action is None:
            yield
        else:
            action()


def root(action):
    action()


def call_line(function, text):
    """Return the line of a function where a text is."""
    code = function.__code__
    lines = traceback.linecache.getlines(code.co_filename)
    for lineno in range(code.co_firstlineno, len(lines)):
        if lines[lineno - 1].strip() == text:
            return lineno


PROGRAM = {
    function.__code__: call_line(function, "action()")
    for function in (python_function, catching_function, generator_function,
                     root)
}


# ------ The model ------

class Call:
    """A call that the driver makes, of foreign code or of Python code."""

    def __init__(self, codelike):
        self.codelike = codelike
        self.is_foreign = codelike not in PROGRAM
        self.forget()

    def forget(self):
        """The interpreter knows nothing of the activation."""
        self.is_known = False
        self.frame = None
        self.variables = None
        self.offset = 0
        self.heard = None       # the line that LINE said last
        self.shown = None       # that of a traceback entry since then

    @property
    def name(self):
        return self.codelike.co_name

    @property
    def line(self):
        if not self.is_foreign:
            return PROGRAM[self.codelike]
        return self.shown or self.heard or line_of(self.codelike, self.offset)


class Thread:
    """A thread: its calls, the innermost one last."""

    def __init__(self):
        self.calls = []
        self.legacy = set()     # the names of the functions it has set
        self.event = None       # the one fired last: call, name, place
        self.in_event = False   # it may not be over
        self.may_fail = False   # a callback for it may raise
        self.failed = False     # and has
        self.looked = False     # a callback for it looked at its frame


class Model:
    """What the interpreter has to know."""

    def __init__(self):
        self.threads = []
        self.events = dict.fromkeys(TOOLS, ())
        self.keeps_frames = False

    @property
    def legacy(self):
        """The legacy tools of any thread."""
        return set().union(*(thread.legacy for thread in self.threads))

    def is_in_use(self):
        """Say whether any tool is."""
        return any(self.events.values()) or bool(self.legacy)

    def update(self):
        """Tools changed."""
        if self.legacy:
            self.keeps_frames = True
        elif not self.is_in_use():
            self.keeps_frames = False
            for thread in self.threads:
                for call in thread.calls:
                    call.forget()

    def end_callback(self, thread):
        """What a callback did by looking comes when it has returned."""
        if thread.looked:
            thread.looked = False
            self.keeps_frames = True
            self.update()

    def is_called(self, name):
        """Say whether a callback is called for an event."""
        return (any(name in events for events in self.events.values())
                or any(name in LEGACY_EVENTS[tool] for tool in self.legacy))

    def move(self, call, offset, lineno):
        """The activation is at another place."""
        call.offset = offset
        call.heard = lineno or call.heard
        call.shown = None

    def fire(self, call, name, offset, lineno):
        """An event is fired."""
        if not self.keeps_frames or not (
                name in FOLLOWED or self.is_called(name)):
            return
        if name in BEGIN:
            call.forget()
        if call.is_known or name not in END:
            call.is_known = True
            self.move(call, offset, lineno)

    def look(self, call, offset, lineno):
        """A callback looks at the frame of its event."""
        call.is_known = True
        self.move(call, offset, lineno)

    def set_namespaces(self, call, variables):
        """The producer says its variables."""
        if self.is_in_use():
            self.keeps_frames = True
            call.is_known = True
            call.variables = variables

    def add_traceback(self, call, offset, lineno):
        """The producer adds a traceback entry."""
        if call.is_known:
            call.offset = offset
            call.shown = lineno or line_of(call.codelike, offset)

    def expected(self, thread):
        """The calls that are seen in a callback, innermost first."""
        return [call for call in reversed(thread.calls)
                if call.is_known or not call.is_foreign]


# ------ The driver ------

class Difference(BaseException):
    """The frames are not those that the model expects."""


class Driver:
    """Makes a random program, runs it and looks at its frames."""

    SIZE = 60               # calls and events of a program, about

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.model = Model()
        self.codelikes = make_codelikes()
        self.kept = []      # frames, used later
        self.steps = 0
        self.looks = 0
        self.difference = None
        self.history = collections.deque(maxlen=40)
        self.turns = [threading.Semaphore(0) for _ in range(2)]
        self.is_over = [False, False]
        # How often something is done differs from one program to the next.
        self.rates = {what: self.random.choice(rates) for what, rates in {
            "look": (0.05, 0.5, 1), "raise": (0, 0.02, 0.1),
            "toggle": (0, 0.1), "deep": (0.3, 0.5),
        }.items()}

    def note(self, *what):
        """Note a step for the report."""
        self.steps += 1
        self.history.append((self.running, len(self.thread.calls), *what))

    def maybe(self, what):
        """Return a truth value at random."""
        return self.random.random() < self.rates.get(what, what)

    @property
    def thread(self):
        """The model of the thread that runs."""
        return self.model.threads[self.running]

    # ------ Making programs ------

    def actions(self, depth):
        """Return what a Python function does."""
        return [self.action(depth) for _ in range(self.random.randint(1, 4))]

    def action(self, depth):
        """Return something that is called without arguments."""
        self.budget -= 1
        if depth == 0 or self.budget < 0:
            return self.small_action()
        what = self.random.choice(
            ("foreign",) * 5 + ("python", "catching", "generator", "small",
                                "small"))
        if what == "foreign":
            return self.foreign(depth - 1)
        if what == "python":
            return partial(self.call_python, python_function,
                           self.actions(depth - 1))
        if what == "catching":
            return partial(self.call_python, catching_function,
                           self.actions(depth - 1))
        if what == "generator":
            return self.generator(depth - 1)
        return self.small_action()

    def small_action(self):
        """Return one that calls nothing of the program."""
        return self.random.choice((
            self.change_tools, self.change_tools, self.look_in_program,
            self.switch, self.resume, self.use_kept, self.fail, gc.collect))

    def place(self, codelike):
        """Return a random offset and line."""
        offset = self.random.choice((0, 0, 2, 4, 6, 1, 1000))
        return offset, codelike.co_firstlineno + self.random.randrange(6)

    def foreign(self, depth):
        """Return a foreign function."""
        codelike = self.random.choice(self.codelikes)
        call = Call(codelike)
        actions = [partial(self.enter, call)]
        actions += self.event_actions(call, self.random.choice(BEGIN))
        if self.maybe(0.3):
            variables = {"id": self.random.random()}
            actions += [None, partial(self.set_namespaces, call, variables),
                        ("namespaces", None, variables)]
        for _ in range(self.random.randint(0, 5)):
            if self.maybe("deep"):
                actions.append(self.action(depth))
            else:
                actions += self.event_actions(call, self.random.choice(
                    ("LINE", "LINE", "LINE", "CALL", "BRANCH")))
        actions += self.event_actions(
            call, self.random.choice(("PY_RETURN", "PY_YIELD")))
        actions.append(partial(self.leave, call))

        offset, lineno = self.place(codelike)
        failed = [partial(self.fail_in, call)]
        if self.maybe(0.7):
            lineno = self.random.choice((0, lineno))
            failed += [partial(self.add_traceback, call, offset, lineno),
                       ("traceback", offset, lineno)]
        failed += self.event_actions(call, "RAISE")
        handles = self.maybe(0.5)
        if handles:
            failed += self.event_actions(call, "LINE")
        # Nothing would be done about a PY_RETURN that fails.
        failed += self.event_actions(
            call, "PY_RETURN" if handles else "PY_UNWIND",
            may_fail=not handles)
        failed.append(partial(self.leave, call))
        return make_producer(codelike, *actions, failed=failed,
                             handles=handles)

    def event_actions(self, call, name, may_fail=True):
        """Return the actions that fire an event, for which a callback may
        raise or not."""
        offset, lineno = self.place(call.codelike)
        args = {"LINE": (lineno,), "CALL": (len, "x"), "BRANCH": (4,),
                "PY_RETURN": (7,), "PY_YIELD": (8,),
                "PY_THROW": (Error("thrown"),)}.get(name, ())
        return [None, partial(self.before, call, name, offset,
                              lineno if name == "LINE" else None, may_fail),
                (name, offset, *args)]

    def generator(self, depth):
        """Return what makes a generator and resumes it once."""
        actions = self.actions(depth)
        for _ in range(2):
            actions.insert(self.random.randrange(len(actions) + 1), None)
        call = Call(generator_function.__code__)

        def start():
            generator = generator_function(actions)
            self.generators.append((generator, call))
            self.go_on(generator, call)

        return start

    # ------ Running them ------

    def run(self):
        """Run programs in two threads, which take turns."""
        self.budget = self.SIZE
        self.generators = []
        self.model.threads = [Thread(), Thread()]
        programs = [partial(self.call_python, catching_function, [
            self.foreign(5) for _ in range(4)]) for _ in range(2)]
        for tool in TOOLS:
            monitoring.use_tool_id(tool, "model")
            for name in EVENTS:
                monitoring.register_callback(
                    tool, getattr(E, name), partial(self.callback, name))
        threads = [threading.Thread(target=self.work, args=(i, program))
                   for i, program in enumerate(programs)]
        self.running = 0
        self.turns[0].release()
        with threading_helper.start_threads(threads):
            pass
        for tool in TOOLS:
            monitoring.set_events(tool, 0)
            for name in EVENTS:
                monitoring.register_callback(tool, getattr(E, name), None)
            monitoring.free_tool_id(tool)
        for generator, _ in self.generators:
            generator.close()
        self.generators.clear()

    def work(self, index, program):
        """Run the program of a thread."""
        self.turns[index].acquire()
        thread = self.model.threads[index]
        self.toggle()
        try:
            self.call_python(root, program)
        except Error:
            pass
        except BaseException as exc:
            # Not after the other thread's, which may follow from it.
            self.difference = self.difference or exc
        finally:
            sys.settrace(None)
            sys.setprofile(None)
            thread.legacy.clear()
            self.model.update()
            self.is_over[index] = True
            self.running = 1 - index
            self.turns[1 - index].release()

    def switch(self):
        """Let the other thread run, if it can."""
        self.end_event()
        self.note("switch")
        index = self.running
        if not self.is_over[1 - index] and not self.difference:
            self.running = 1 - index
            self.turns[1 - index].release()
            self.turns[index].acquire()
            self.running = index

    def call_python(self, function, actions):
        """Call a function of the program."""
        self.note("call", function.__name__)
        call = Call(function.__code__)
        self.thread.calls.append(call)
        try:
            function(actions)
        finally:
            self.cut(call)

    def cut(self, call):
        """A call has ended, and those that it made."""
        calls = self.thread.calls
        del calls[calls.index(call):]

    def go_on(self, generator, call):
        """Resume a generator."""
        if generator.gi_running or generator.gi_frame is None:
            return
        self.thread.calls.append(call)
        try:
            next(generator, None)
        finally:
            self.cut(call)

    def resume(self):
        """Resume any of the generators there are, wherever it was begun."""
        self.note("resume")
        if self.generators:
            self.go_on(*self.random.choice(self.generators))

    def fail(self):
        """Raise an exception."""
        self.note("fail")
        raise Error("of the program")

    # ------ What foreign functions do ------

    def enter(self, call):
        """A foreign function is called."""
        self.stop()
        call.forget()
        self.thread.calls.append(call)

    def leave(self, call):
        """A foreign function returns."""
        self.end_event()
        self.cut(call)

    def fail_in(self, call):
        """Something that a foreign function did has raised."""
        self.end_event()
        calls = self.thread.calls
        del calls[calls.index(call) + 1:]

    def before(self, call, name, offset, lineno, may_fail):
        """An event is about to be fired."""
        self.stop()
        self.end_event()
        self.note(name, call.name, offset, lineno)
        thread = self.thread
        self.model.fire(call, name, offset, lineno)
        thread.event = call, name, offset, lineno
        thread.may_fail = may_fail
        thread.failed = False
        thread.in_event = True

    def end_event(self):
        """The event that was fired last is over."""
        thread = self.thread
        self.model.end_callback(thread)
        if thread.in_event:
            thread.in_event = False
            call, name, *_ = thread.event
            if name == "PY_UNWIND" or name in END and not thread.failed:
                call.forget()

    def set_namespaces(self, call, variables):
        """A producer says its variables."""
        self.end_event()
        self.model.set_namespaces(call, variables)

    def add_traceback(self, call, offset, lineno):
        """A producer adds a traceback entry."""
        self.end_event()
        self.model.add_traceback(call, offset, lineno)

    def stop(self):
        """Do no more after a difference."""
        if self.difference:
            raise self.difference

    # ------ Tools ------

    def change_tools(self):
        """Change what tools listen to, in the program."""
        self.end_event()
        self.toggle()

    def toggle(self):
        """Change what tools listen to."""
        what = self.random.choice((*TOOLS, *TOOLS, "settrace", "setprofile"))
        if what in TOOLS:
            names = self.random.choice(
                ((), EVENTS, ("LINE",), ("PY_START", "PY_RETURN"),
                 self.random.sample(EVENTS, 3)))
            event_set = 0
            for name in names:
                event_set |= EVENT_SETS[name]
            self.note("events", what, names)
            monitoring.set_events(what, event_set)
            self.model.events[what] = names
        else:
            legacy = self.thread.legacy
            on = what not in legacy
            self.note(what, on)
            (legacy.add if on else legacy.remove)(what)
            function = {"settrace": self.tracer, "setprofile": self.profiler}
            getattr(sys, what)(function[what] if on else None)
        self.model.update()

    def callback(self, name, code, *args):
        """The callback of a tool."""
        thread = self.thread
        if code in PROGRAM:
            if self.maybe("look"):
                self.look(sys._getframe(1))
        elif code in self.codelikes:
            self.model.end_callback(thread)
            call, fired, offset, lineno = thread.event
            if fired != name or call.codelike is not code:
                self.differ("event", thread.event, (name, code))
            self.react(call, name, offset, lineno)

    def react(self, call, name, offset, lineno):
        """Do something in the callback for an event of foreign code."""
        thread = self.thread
        if self.maybe("look"):
            thread.looked = True
            self.model.look(call, offset, lineno)
            self.look(sys._getframe(2))
        if self.maybe("toggle"):
            self.toggle()
        if thread.may_fail and self.maybe("raise"):
            self.note("raise")
            thread.failed = True
            raise Error("of a callback")

    def tracer(self, frame, event, arg):
        """The function of sys.settrace()."""
        code = frame.f_code
        if code in PROGRAM or code.co_filename == FILENAME:
            if code.co_filename == FILENAME:
                self.model.end_callback(self.thread)
                call, _, offset, lineno = self.thread.event
                self.thread.looked = True
                self.model.look(call, offset, lineno)
            self.look(frame)
        return self.tracer

    def profiler(self, frame, event, arg):
        """The function of sys.setprofile()."""
        self.tracer(frame, event, arg)

    # ------ Looking ------

    def differ(self, what, expected, found):
        """Note a difference, and end the program."""
        if self.difference is None:
            history = "\n".join(map(str, self.history))
            self.difference = Difference(
                f"{history}\n{what}\nexpected: {expected}\n"
                f"found:    {found}")
        raise self.difference

    def look(self, innermost):
        """Compare the frames from one on with the model."""
        self.looks += 1
        self.history.append("look")
        frames = []
        frame = innermost
        while frame.f_code is not root.__code__:
            frames.append(frame)
            frame = frame.f_back
        frames.append(frame)
        if self.maybe(0.1):
            self.look_by_depth(frames)
        frames = [frame for frame in frames
                  if frame.f_code in PROGRAM
                  or frame.f_code.co_filename == FILENAME]
        calls = self.model.expected(self.thread)
        # Where the innermost frame is depends on its event.
        found = [(frame.f_code.co_name, frame.f_lineno) for frame in frames]
        expected = [(call.name, call.line) for call in calls]
        if not calls[0].is_foreign:
            expected[0] = calls[0].name, innermost.f_lineno
        if found != expected:
            self.differ("stack", expected, found)
        if self.maybe(0.1):
            summary = [(entry.name, entry.lineno) for entry in
                       reversed(traceback.extract_stack(innermost))]
            if [entry for entry in summary if entry in expected] != [
                    entry for entry in found if entry in summary]:
                self.differ("extract_stack", found, summary)
        for call, frame in zip(calls, frames):
            if not call.is_foreign:
                continue
            if call.frame not in (None, frame):
                self.differ("frame", call.frame, frame)
            call.frame = frame
            if isinstance(call.codelike, type(frame.f_code)):
                if frame.f_code is not call.codelike:
                    self.differ("code", call.codelike, frame.f_code)
            variables = frame.f_locals
            if variables.get("id") != (call.variables or {}).get("id"):
                self.differ("variables", call.variables, dict(variables))
        if self.maybe(0.05):
            self.kept.append(self.random.choice(frames))

    def look_by_depth(self, frames):
        """sys._getframe() finds the same."""
        depth = 0
        while sys._getframe(depth) is not frames[0]:
            depth += 1
        for i, frame in enumerate(frames):
            if sys._getframe(depth + i) is not frame:
                self.differ("depth", frames,
                            [sys._getframe(depth + i)
                             for i in range(len(frames))])

    def look_in_program(self):
        """The program sees no foreign frame."""
        self.stop()
        self.note("look")
        self.looks += 1
        frames = []
        frame = sys._getframe()
        while frame.f_code is not root.__code__:
            frames.append(frame.f_code.co_name)
            frame = frame.f_back
            if frame.f_code.co_filename == FILENAME:
                self.differ("frame in the program", "none", frame)
        expected = [call.name for call in reversed(self.thread.calls)
                    if not call.is_foreign]
        found = [name for name in frames if name in expected]
        if found != expected[:-1]:
            self.differ("stack of the program", expected[:-1], found)

    def use_kept(self):
        """Do something with a frame that was seen long ago."""
        self.note("kept")
        if not self.kept:
            return
        frame = self.kept.pop(self.random.randrange(len(self.kept)))
        repr(frame), frame.f_lineno, frame.f_lasti, frame.f_back
        traceback.extract_stack(frame)
        if frame.f_code.co_filename != FILENAME:
            return
        try:
            frame.f_lineno = 3
        except ValueError:
            pass
        else:
            self.differ("setting f_lineno", ValueError, None)
        frame.f_trace_opcodes = True
        known = {call.frame for thread in self.model.threads
                 for call in thread.calls if call.is_known}
        if frame not in known:
            frame.clear()
        elif frame in {call.frame for call in self.thread.calls}:
            try:
                frame.clear()
            except RuntimeError:
                pass
            else:
                self.differ("clearing a running frame", RuntimeError, None)


def difference(seed):
    """Run a program; return how many steps and looks it had, and what went
    wrong or None."""
    driver = Driver(seed)
    driver.run()
    wrong = driver.difference
    if isinstance(wrong, Difference):
        wrong = str(wrong)
    elif wrong is not None:
        wrong = "".join(traceback.format_exception(wrong))
    return driver.steps, driver.looks, wrong


def run(steps, seed):
    """Run programs until there were so many steps; return the steps, the
    looks, the next seed, and the report of the one that failed, or None."""
    parent = os.getppid()
    all_steps = all_looks = 0
    while all_steps < steps and os.getppid() == parent:
        steps_done, looks, wrong = difference(seed)
        if wrong is not None:
            return all_steps, all_looks, seed, f"seed {seed}: {wrong}"
        all_steps += steps_done
        all_looks += looks
        seed += 1
    return all_steps, all_looks, seed, None


STEPS_OF_A_CHILD = 10_000


def main():
    """Do steps by hand, in children so that crashes are seen."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.monotonic()
    steps = looks = 0
    seed = options.seed
    wrong = None
    while steps < options.steps and wrong is None:
        found = in_child(run, STEPS_OF_A_CHILD, seed)
        if isinstance(found, str):
            found = 0, 0, seed, f"from seed {seed} on: {found}"
        steps_done, looks_done, seed, wrong = found
        steps += steps_done
        looks += looks_done
    elapsed = time.monotonic() - started
    print(f"{steps} steps without a difference, {looks} looks, "
          f"{elapsed:.1f} s", flush=True)
    if wrong is not None:
        sys.exit(wrong)


@threading_helper.requires_working_threading()
class TestModel(unittest.TestCase):

    def test_random_programs(self):
        _, looks, _, wrong = run(10_000, 111997)
        self.assertIsNone(wrong, wrong)
        self.assertGreater(looks, 10_000)

    @unittest.skipIf(support.Py_GIL_DISABLED,
                     "the base keeps memory of dicts in cycles")
    def test_nothing_is_left(self):
        def blocks():
            for seed in range(10):
                self.assertIsNone(difference(seed)[-1])
            gc.collect()
            monitoring.restart_events()
            sys._clear_type_cache()
            return sys.getallocatedblocks()

        blocks()
        before = min(blocks(), blocks())
        self.assertLess(min(blocks(), blocks()) - before, 50)


if __name__ == "__main__":
    main()
