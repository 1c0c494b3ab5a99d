"""What legacy tools see of code that is not bytecode."""

import bdb
import cProfile
import collections
import contextlib
import io
import linecache
import operator
import pdb
import profile
import pstats
import random
import re
import sys
import threading
import trace
import traceback
import types
import unittest
from functools import partial
from test import support
from test.support import import_helper, threading_helper
from .monitoring_frames_support import (FILENAME, Template, foreign,
                                        iterate_traceback, walk)
from .monitoring_support import (E, EXCEPTION_EVENTS, TOOL,
                                 MonitoringTestCase, Plain, make_producer,
                                 monitoring)

_testcapi = import_helper.import_module("_testcapi")

TWIN_SOURCE = """\
def leaf():
    a = len("abc")
    return a

def fails():
    leaf()
    {}.popitem()

def raises():
    try:
        raise LookupError("here")
    finally:
        leaf()

def passes(which):
    leaf()
    which()
    leaf()

def catches():
    try:
        passes(fails)
    except LookupError:
        leaf()
    return "caught"

def catches_again():
    try:
        passes(raises)
    except LookupError as exc:
        pass

def generator():
    leaf()
    yield 1
    leaf()
    yield 2

def consumes():
    for number in generator():
        leaf()
        catches()
    return 3

def recurses(depth):
    if depth:
        recurses(depth - 1)
    leaf()

def main():
    leaf()
    consumes()
    catches_again()
    recurses(3)
"""

REPLAYED = ("PY_START", "PY_RESUME", "PY_RETURN", "PY_YIELD", "CALL", "LINE",
            "JUMP", "BRANCH", "STOP_ITERATION", "RAISE", "RERAISE",
            "EXCEPTION_HANDLED", "PY_UNWIND", "C_RETURN", "C_RAISE")
BEGIN = {"PY_START", "PY_RESUME"}
END = {"PY_RETURN", "PY_YIELD", "PY_UNWIND"}


class Activation:
    """A run of a function: its events, and the runs that it began."""

    def __init__(self, code, frame):
        self.name = code.co_name
        self.args = tuple(frame.f_locals[name] for name in
                          code.co_varnames[:code.co_argcount])
        self.parts = []


class Twin:
    """Functions of Python, any of which can be replaced by a producer that
    signals what they did, with their code objects."""

    def __init__(self):
        self.python = {"__name__": "twin", "__file__": FILENAME}
        exec(compile(TWIN_SOURCE, FILENAME, "exec"), self.python)
        self.names = [name for name, value in self.python.items()
                      if isinstance(value, types.FunctionType)]
        self.codes = {self.python[name].__code__ for name in self.names}
        self.record()

    def record(self):
        """Note all events of the program in Python."""
        self.activations = collections.defaultdict(list)
        stack = []

        def register(name):
            def callback(code, *args):
                if code not in self.codes:
                    return
                frame = sys._getframe(1)
                if name in BEGIN:
                    stack.append(Activation(code, frame))
                    self.activations[code.co_name].append(stack[-1])
                    for caller in stack[-2:-1]:
                        caller.parts.append(stack[-1])
                # What callbacks get first is not always where the frame is,
                # or the line.
                if name != "LINE":
                    args = args[1:]
                if name == "C_RAISE":
                    args = *args, KeyError()
                stack[-1].parts.append((name, frame.f_lasti, *args))
                if name in END:
                    stack.pop()
            monitoring.register_callback(TOOL, getattr(E, name), callback)

        for name in REPLAYED:
            register(name)
        monitoring.set_events(TOOL, sum(getattr(E, name) for name in REPLAYED
                                        if not name.startswith("C_")))
        self.python["main"]()
        monitoring.set_events(TOOL, 0)
        for name in REPLAYED:
            monitoring.register_callback(TOOL, getattr(E, name), None)

    def program(self, foreign_names=()):
        """Return main() of a program with the functions of these names
        foreign.  All that it does besides is done by functions of C."""
        namespace = dict(self.python)
        for name in self.names:
            code = self.python[name].__code__
            namespace[name] = types.FunctionType(code, namespace, name)
        python_generator = namespace["generator"]
        # A foreign function takes the next of its runs, which are put there
        # when all can be called.
        runs = {name: [] for name in foreign_names}
        for name in foreign_names:
            namespace[name] = partial(
                next, map(operator.call, iter(runs[name])))
        if "generator" in foreign_names:
            # Its runs belong to one generator; the last one ends it.
            number = len(self.activations["generator"])
            generator = filter(None, map(
                operator.is_, map(operator.call, iter(runs["generator"])),
                (None,) * (number - 1) + (0,)))
            namespace["generator"] = partial(iter, generator)
        else:
            generator = python_generator()

        def call(activation):
            if activation.name == "generator":
                return partial(next, generator, None)
            return partial(namespace[activation.name],
                           *(namespace[arg.__name__] if callable(arg) else arg
                             for arg in activation.args))
        for name in foreign_names:
            runs[name] += (self.replay(activation, call)
                           for activation in self.activations[name])
        return namespace["main"]

    def replay(self, activation, call):
        """Return a producer that does what an activation did."""
        actions, failed = [], []
        done = actions
        pending = False
        for part in activation.parts:
            if isinstance(part, Activation):
                done.append(call(part))
                pending |= part.parts[-1][0] == "PY_UNWIND"
                continue
            name, *args = part
            if name in {"RAISE", "RERAISE"} and done is actions:
                if not pending:
                    done.append(partial(_testcapi.err_set_raised,
                                        type(args[1])(*args[1].args)))
                done = failed
            if name == "RAISE":
                done.append(("traceback", args[0], 0))
            if done is failed and name in EXCEPTION_EVENTS:
                del args[1:]
            done.append((name, *args))
        return make_producer(
            self.python[activation.name].__code__, *actions, failed=failed,
            handles=activation.parts[-1][0] != "PY_UNWIND")


def describe(arg):
    """What a tracer got, without what differs each time."""
    if isinstance(arg, tuple) and len(arg) == 3:
        exc_type, exc, tb = arg
        return exc_type.__name__, type(exc).__name__, [
            (tb.tb_frame.f_code.co_name, tb.tb_lineno, tb.tb_lasti)
            for tb in iterate_traceback(tb)]
    return getattr(arg, "__name__", repr(arg))


class TwinTestCase(MonitoringTestCase):

    @classmethod
    def setUpClass(cls):
        monitoring.use_tool_id(TOOL, "test")
        try:
            cls.twin = Twin()
        finally:
            monitoring.free_tool_id(TOOL)

    def subsets(self):
        """Which functions are foreign: every one, every other one alone, all
        but one, and some at random."""
        names = self.twin.names
        yield tuple(names)
        for name in names:
            yield name,
            yield tuple(other for other in names if other != name)
        choice = random.Random(7)
        for _ in range(10):
            yield tuple(name for name in names if choice.random() < 0.5)

    def same(self, observe, python=()):
        """observe(make) gives the same whatever is foreign but for the names
        in python.

        make() returns a program, which can be run once.
        """
        expected = observe(self.twin.program)
        self.assertTrue(expected)
        for names in self.subsets():
            names = tuple(name for name in names if name not in python)
            found = observe(partial(self.twin.program, names))
            if found != expected:
                with self.subTest(foreign=names):
                    self.assertEqual(found, expected)
                break

    def is_ours(self, frame):
        return frame.f_code in self.twin.codes

    def stack_of(self, frame):
        return [(f.f_code.co_name, f.f_lineno)
                for f in walk(frame) if self.is_ours(f)]


class TestTracers(TwinTestCase):
    """They report the same of a foreign function as of the same in Python."""

    def trace_with(self, tracer, program, setter=sys.settrace):
        setter(tracer)
        try:
            program()
        finally:
            setter(None)

    def test_settrace(self):
        def observe(make):
            def tracer(frame, event, arg):
                if self.is_ours(frame):
                    seen.append((event, describe(arg), self.stack_of(frame)))
                return tracer

            seen = []
            self.trace_with(tracer, make())
            self.assertGreater(len(seen), 150)
            self.assertEqual({event for event, _, _ in seen},
                             {"call", "line", "return", "exception"})
            return seen

        self.same(observe)

    def test_local_trace_functions(self):
        def observe(make):
            def local(frame, event, arg):
                seen.append(("local", event, frame.f_code.co_name,
                             frame.f_lineno))
                if event == "line" and frame.f_code.co_name == "passes":
                    return changed
                return local

            def changed(frame, event, arg):
                seen.append(("changed", event, frame.f_code.co_name,
                             frame.f_lineno))

            def tracer(frame, event, arg):
                if not self.is_ours(frame):
                    return None
                seen.append((event, frame.f_code.co_name))
                if frame.f_code.co_name == "leaf":
                    return None
                if frame.f_code.co_name == "catches":
                    frame.f_trace_lines = False
                return local

            seen = []
            self.trace_with(tracer, make())
            return seen

        self.same(observe)

    def test_setprofile(self):
        def observe(make):
            def profiler(frame, event, arg):
                if self.is_ours(frame) and arg is not sys.setprofile:
                    # Lines are known by offsets alone, and only CALL, the
                    # start and the end have any.
                    seen.append((event, describe(arg), frame.f_lineno,
                                 [name for name, _ in self.stack_of(frame)]))

            seen = []
            self.trace_with(profiler, make(), sys.setprofile)
            self.assertEqual({event for event, *_ in seen},
                             {"call", "return", "c_call", "c_return",
                              "c_exception"})
            return seen

        self.same(observe)

    def test_both(self):
        def observe(make):
            def tracer(frame, event, arg):
                if self.is_ours(frame):
                    seen.append(("trace", event, frame.f_code.co_name))
                return tracer

            def profiler(frame, event, arg):
                if self.is_ours(frame):
                    seen.append(("profile", event, frame.f_code.co_name))

            seen = []
            program = make()
            sys.setprofile(profiler)
            self.trace_with(tracer, program)
            sys.setprofile(None)
            return seen

        self.same(observe)

    def test_frames_of_activations(self):
        # From 'call' to 'return' it is one object, of that activation alone.
        def tracer(frame, event, arg):
            if not self.is_ours(frame):
                return None
            if event == "call":
                running.append(frame)
            self.assertIs(running[-1], frame)
            self.assertEqual([f for f in walk(frame) if self.is_ours(f)],
                             running[::-1])
            if event == "return":
                ended.append(running.pop())
            return tracer

        for names in self.subsets():
            with self.subTest(foreign=names):
                running = []
                ended = []
                self.trace_with(tracer, self.twin.program(names))
                self.assertEqual(running, [])
                number = sum(map(len, self.twin.activations.values()))
                self.assertEqual(len(ended), number)
                foreign = [f for f in ended if f.f_code.co_name in names]
                self.assertEqual(len(set(foreign)), len(foreign))

    def test_tracer_that_raises(self):
        # That ends tracing, and the event with that exception.
        class Stop(BaseException):
            pass

        def count(program, at):
            def tracer(frame, event, arg):
                if self.is_ours(frame):
                    seen.append((event, self.stack_of(frame)))
                    if len(seen) == at:
                        raise Stop
                return tracer

            seen = []
            sys.settrace(tracer)
            with contextlib.suppress(Stop, LookupError):
                program()
            self.assertIs(sys.gettrace(), None if at else tracer)
            sys.settrace(None)
            return seen

        number = len(count(self.twin.program(), 0))
        foreign = tuple(self.twin.names)
        for at in range(1, number, 3):
            with self.subTest(at=at):
                self.assertEqual(count(self.twin.program(foreign), at),
                                 count(self.twin.program(), at))

    def test_exception_of_a_tracer(self):
        def tracer(frame, event, arg):
            raise error

        error = ArithmeticError()
        producer = foreign(Plain(), line=3)
        with self.assertRaises(ArithmeticError) as caught:
            sys.settrace(tracer)
            producer()
        self.assertIs(caught.exception, error)
        self.assertIsNone(sys.gettrace())

    def test_profiler_that_raises(self):
        def profiler(frame, event, arg):
            if frame.f_code.co_name == "plain":
                raise ArithmeticError

        producer = foreign(Plain(), line=3)
        with self.assertRaises(ArithmeticError):
            sys.setprofile(profiler)
            producer()
        self.assertIsNone(sys.getprofile())

    def test_local_trace_function_that_cannot_be_called(self):
        def tracer(frame, event, arg):
            seen.append((event, frame.f_code.co_name))
            return "uncallable" if frame.f_code.co_name == "plain" else None

        seen = []
        producer = foreign(Plain(), line=3)
        with self.assertRaises(TypeError):
            sys.settrace(tracer)
            producer()
        self.assertIsNone(sys.gettrace())
        self.assertEqual(seen, [("call", "plain")])

    def test_tracer_that_raises_in_a_late_return(self):
        def tracer(frame, event, arg):
            if event == "return" and frame.f_code.co_name == "forgotten":
                raise ArithmeticError
            return tracer

        def profiler(frame, event, arg):
            if frame.f_code.co_filename == FILENAME:
                seen.append((event, frame.f_code.co_name))

        seen = []
        forgotten = make_producer(Template("forgotten", 1), ("PY_START", 0))

        def fail():
            raise LookupError

        producer = foreign(Template("fails", 1), forgotten, fail)
        sys.setprofile(profiler)
        sys.settrace(tracer)
        try:
            with self.assertRaises(ArithmeticError):
                producer()
        finally:
            sys.settrace(None)
            sys.setprofile(None)
        self.assertEqual(seen, [("call", "fails"), ("call", "forgotten"),
                                ("return", "fails")])

    def test_opcodes(self):
        forgotten = make_producer(Template("forgotten", 1), ("PY_START", 0))

        def run():
            forgotten()
            return 1

        def tracer(frame, event, arg):
            if frame.f_code is run.__code__:
                frame.f_trace_opcodes = True
            seen.append((event, frame.f_code.co_name))
            return tracer

        seen = []
        sys.settrace(tracer)
        run()
        sys.settrace(None)
        i = seen.index(("call", "forgotten"))
        self.assertEqual(seen[i + 1], ("return", "forgotten"))

    @threading_helper.requires_working_threading()
    def test_threads_that_are_not_traced(self):
        # They make no frame, so nobody asks the code-like.
        class Nameless(Template):
            @property
            def co_name(self):
                asked.append(self)

            @co_name.setter
            def co_name(self, name):
                pass

        def trace_on():
            sys.settrace(lambda *args: None)
            on.set()
            off.wait(support.SHORT_TIMEOUT)
            sys.settrace(None)

        asked = []
        on, off = threading.Event(), threading.Event()
        thread = threading.Thread(target=trace_on)
        thread.start()
        on.wait(support.SHORT_TIMEOUT)
        producer = foreign(Nameless("nameless", 1), line=1)
        look = foreign(Template("look", 1), sys._getframe)
        try:
            for _ in range(2):
                look()
                producer()
        finally:
            off.set()
            thread.join()
        self.assertEqual(asked, [])

    def test_code_like_that_looks(self):
        class Looks(Template):
            def co_positions(self):
                looked.append(traceback.extract_stack()[-1].name)
                return iter([(1, 1, 0, 5)])

        def tracer(frame, event, arg):
            if frame.f_code.co_filename == FILENAME:
                seen.append(event)
            return tracer

        seen, looked = [], []
        producer = foreign(Looks("looks", 1), line=1)
        sys.settrace(tracer)
        producer()
        sys.settrace(None)
        self.assertEqual(seen, ["call", "line", "return"])
        self.assertEqual(looked, ["co_positions"])

    def test_tracer_that_runs_a_producer(self):
        inner = foreign(Template("inner", 1), line=1)

        def tracer(frame, event, arg):
            if frame.f_code.co_filename == FILENAME:
                seen.append((frame.f_code.co_name, event))
                inner()
            return tracer

        outer = foreign(Template("outer", 1), line=1)
        for setter, events in ((sys.settrace, ["call", "line", "return"]),
                               (sys.setprofile, ["call", "return"])):
            seen = []
            setter(tracer)
            outer()
            setter(None)
            self.assertEqual(seen, [("outer", event) for event in events])

    def test_jumps(self):
        # What sys.settrace() does for them is about bytecode.
        def tracer(frame, event, arg):
            if frame.f_code.co_filename == FILENAME:
                seen.append(event)
            return tracer

        code = _testcapi.code_newwithlocations(
            FILENAME, "code", None, 1, [(1, 1, 0, 4)] * 10)
        for target in 0, 2, 18, "nowhere":
            for codelike in code, Template("template", 1):
                seen = []
                producer = foreign(codelike, ("JUMP", 8, target), line=1)
                sys.settrace(tracer)
                producer()
                sys.settrace(None)
                self.assertEqual(seen, ["call", "line", "return"])

    def test_switched_on_in_the_middle(self):
        # As breakpoint() does it: the callers are traced from then on.
        def on():
            frame = sys._getframe().f_back
            while frame is not None and frame.f_code is not outer.__code__:
                frame.f_trace = tracer
                frame = frame.f_back
            outer_frame.f_trace = tracer
            sys.settrace(tracer)

        def tracer(frame, event, arg):
            seen.append((event, frame.f_code.co_name, frame.f_lineno))
            return tracer

        def outer():
            nonlocal outer_frame
            outer_frame = sys._getframe()
            producer()
            sys.settrace(None)

        outer_frame = None
        seen = []
        producer = foreign(Plain(), on, None, ("LINE", 0, 5), ("LINE", 0, 6))
        outer()
        first = outer.__code__.co_firstlineno
        self.assertEqual(seen, [
            ("line", "plain", 5), ("line", "plain", 6),
            ("return", "plain", 6), ("line", "outer", first + 4)])

    def test_switched_off_in_the_middle(self):
        def tracer(frame, event, arg):
            seen.append((event, frame.f_code.co_name))
            if event == "line":
                sys.settrace(None)
            return tracer

        seen = []
        for names in ("main",), tuple(self.twin.names):
            program = self.twin.program(names)
            sys.settrace(tracer)
            program()
            self.assertEqual(seen, [("call", "main"), ("line", "main")])
            seen.clear()

    def test_threads(self):
        def tracer(frame, event, arg):
            if self.is_ours(frame):
                seen.append((event, self.stack_of(frame)))
            return tracer

        seen = []
        found = []
        for names in (), ("passes", "generator", "main"):
            threading.settrace(tracer)
            thread = threading.Thread(target=self.twin.program(names))
            thread.start()
            thread.join()
            threading.settrace(None)
            found.append(seen[:])
            seen.clear()
        self.assertTrue(found[0])
        self.assertEqual(*found)


class TestTools(TwinTestCase):
    """The standard library's: the same for a foreign function."""

    def test_bdb(self):
        class Debugger(bdb.Bdb):

            def __init__(self, step):
                super().__init__()
                self.step = step
                self.seen = []

            def stop(self, event, frame):
                if frame.f_code.co_filename != FILENAME:
                    return self.set_step()
                self.seen.append((event, frame.f_code.co_name,
                                  frame.f_lineno))
                if len(self.seen) % 5 == 0:
                    self.set_return(frame)
                elif self.step == "step":
                    self.set_step()
                elif self.step == "next":
                    self.set_next(frame)
                else:
                    self.set_until(frame)

            def user_call(self, frame, args):
                self.stop("call", frame)

            def user_line(self, frame):
                self.stop("line", frame)

            def user_return(self, frame, value):
                self.stop(("return", value), frame)

            def user_exception(self, frame, exc_info):
                self.stop(exc_info[0], frame)

        def run(program):
            program()

        for step in "step", "next", "until":
            def observe(make):
                debugger = Debugger(step)
                debugger.runcall(run, make())
                return debugger.seen

            self.same(observe)

    def test_pdb(self):
        scripts = ("step\n" * 60, "next\n" * 30,
                   "step\nstep\nstep\nwhere\nup\nup\ndown\nlist\n"
                   "until\n" * 4,
                   "step\n" * 20 + "where\nreturn\nwhere\nnext\nreturn\n")
        linecache.cache[FILENAME] = (
            len(TWIN_SOURCE), None, TWIN_SOURCE.splitlines(True), FILENAME)
        self.addCleanup(linecache.cache.pop, FILENAME)

        def observe(make):
            outputs = []
            for script in scripts:
                output = io.StringIO()
                debugger = pdb.Pdb(stdin=io.StringIO(script), stdout=output,
                                   nosigint=True, readrc=False)
                debugger.use_rawinput = False
                with contextlib.suppress(bdb.BdbQuit):
                    debugger.runcall(run, make())
                sys.settrace(None)
                outputs.append(re.sub(" at 0x[0-9a-f]+", "",
                                      output.getvalue()))
            self.assertGreater(len(set(outputs)), 3)
            return outputs

        def run(program):
            program()

        # It keeps what was yielded in the variables of a generator's frame,
        # of which a foreign one has another each time that it goes on.
        self.same(observe, {"generator"})

    def test_trace(self):
        def observe(make):
            results = []
            for options in ({"countfuncs": True}, {"countcallers": True},
                            {"count": True}):
                tracer = trace.Trace(trace=False, **options)
                tracer.runfunc(make())
                found = tracer.results()
                ours = [(key, value) for counts in
                        (found.counts, found.calledfuncs, found.callers)
                        for key, value in counts.items()
                        if FILENAME in str(key)]
                self.assertTrue(ours)
                results.append(sorted(ours, key=repr))
            return results

        self.same(observe)

    def test_profilers(self):
        monitoring.free_tool_id(monitoring.PROFILER_ID)
        self.addCleanup(monitoring.use_tool_id, monitoring.PROFILER_ID, "test")

        def observe(make):
            return [calls(profiler(), make())
                    for profiler in (profile.Profile, cProfile.Profile)]

        def calls(profiler, program):
            profiler.runcall(program)
            if isinstance(profiler, cProfile.Profile):
                # Its callers are tuples, of which the first is the number.
                profiler.disable()
            found = {}
            stats = pstats.Stats(profiler).stats
            for key, (primitive, total, _, _, callers) in stats.items():
                if key[0] == FILENAME:
                    found[key] = primitive, total, {
                        caller: counts[0] if isinstance(counts, tuple)
                        else counts
                        for caller, counts in callers.items()
                        if caller[0] == FILENAME}
            return found

        python = observe(self.twin.program)
        self.assertEqual(*python)
        self.assertEqual(len(python[0]), len(self.twin.names))
        self.same(observe)


if __name__ == "__main__":
    unittest.main()
