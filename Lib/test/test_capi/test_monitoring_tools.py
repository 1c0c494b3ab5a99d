"""The tools of the standard library beside a producer."""

import cProfile
import contextlib
import functools
import itertools
import operator
import os
import sys
import trace
import unittest
from test import support
from test.support import import_helper
from .monitoring_support import (CALL_NAMES, CAN_DISABLE, E, EVENT_NAMES,
                                 EVENT_SETS, IDS, MISSING, OTHER_TOOL, TOOL,
                                 MonitoringTestCase, Plain, enter, exit_scope,
                                 make_cases, make_codelikes, make_producer,
                                 monitoring)

_testcapi = import_helper.import_module("_testcapi")


def helper(number):
    doubled = number * 2
    return doubled


def called_back():
    result = helper(1)
    return result


def raising():
    helper(2)
    raise LookupError("from a callback")


def numbers(call):
    yield 1
    call()
    yield 2


def is_python(frame):
    return frame.f_code.co_filename == program.__code__.co_filename


def program(call, depth=1):
    total = 0
    for i in range(2):
        try:
            call()
            total += i
        except LookupError:
            total -= i
    if depth:
        program(call, depth - 1)
    try:
        total += sum(numbers(call))
    except LookupError:
        total -= 1
    return total


class TestLegacyTools(MonitoringTestCase):
    """What they report of Python code is the same with a producer's events,
    whatever their order."""

    # Between the events: what foreign code calls back.
    CALLBACKS = {
        "nothing": (),
        "Python": (called_back, called_back),
        "exception": (called_back, raising),
    }

    def each_producer(self, check):
        """Call check(producer, without): the same calls without the events.

        In turn for each kind of code-like, of states and of calls back, with
        a tool that listens to the producer and with none.
        """
        # One for each event; the jump goes backwards, as a loop's does.
        cases = {case.name: case for case in make_cases()}
        cases["JUMP"] = cases["JUMP"]._replace(args=(0,))
        events = tuple((IDS[name], offset, *cases[name].args)
                       for offset, name in enumerate(cases, 5))
        codelikes = make_codelikes()
        types = tuple(IDS[name] for name in cases)
        for kind, codelike in codelikes.items():
            for calls, callbacks in self.CALLBACKS.items():
                actions = events
                for callback in callbacks:
                    actions += callback, None, *events
                without = (_testcapi.Producer(codelike, (), callbacks)
                           if callbacks else functools.partial(dict))
                for fresh in (True, False):
                    for listening in (False, True):
                        seen = []
                        producer = _testcapi.Producer(
                            codelike, types, actions, fresh=fresh)
                        with (self.subTest(kind=kind, calls=calls, fresh=fresh,
                                           listening=listening),
                              self.listening(codelike, seen, listening)):
                            check(producer, without)
                            self.assertEqual(bool(seen), listening)

    @contextlib.contextmanager
    def listening(self, codelike, seen, listening):
        local = sum(EVENT_SETS[name] for name in CAN_DISABLE)
        for name in EVENT_NAMES:
            monitoring.register_callback(
                TOOL, getattr(E, name), lambda code, *args:
                seen.append(args) if code is codelike else None)
        if listening:
            monitoring.set_local_events(TOOL, codelike, local)
            monitoring.set_events(TOOL, E.RAISE | E.PY_UNWIND | E.RERAISE
                                  | E.EXCEPTION_HANDLED | E.PY_THROW)
        try:
            yield
        finally:
            monitoring.set_local_events(TOOL, codelike, 0)
            monitoring.set_events(TOOL, 0)

    def same(self, observe, at_least=1):
        """observe(call) gives the same with the events as without."""
        def check(producer, without):
            expected = observe(without)
            self.assertGreaterEqual(len(expected), at_least)
            self.assertEqual(observe(producer), expected)

        self.each_producer(check)

    def test_settrace(self):
        def observe(call):
            def trace(frame, event, arg):
                frame.f_trace_opcodes = True
                if event == "exception":
                    arg = arg[0]
                if is_python(frame):
                    seen.append((event, frame.f_code.co_name, frame.f_lineno,
                                 frame.f_lasti, repr(arg)))
                return trace

            seen = []
            sys.settrace(trace)
            try:
                program(call)
            finally:
                sys.settrace(None)
            return seen

        self.same(observe, 50)

    def test_setprofile(self):
        def observe(call):
            def profile(frame, event, arg):
                if is_python(frame):
                    seen.append((event, frame.f_code.co_name, frame.f_lineno,
                                 frame.f_lasti,
                                 getattr(arg, "__name__", arg)))

            seen = []
            sys.setprofile(profile)
            try:
                program(call)
            finally:
                sys.setprofile(None)
            return seen

        self.same(observe, 10)

    def test_switched_on_in_a_producer(self):
        def start():
            sys.settrace(trace)
            sys.setprofile(profile)

        def trace(frame, event, arg):
            if is_python(frame):
                seen.append((event, frame.f_code.co_name, frame.f_lineno))
            return trace

        def profile(frame, event, arg):
            if is_python(frame):
                seen.append(("profile " + event, frame.f_code.co_name))

        def observe(call):
            seen.clear()
            outer = _testcapi.Producer(codelike, types, (start, None, *fired))
            try:
                outer()
                called_back()
                program(call)
            finally:
                sys.settrace(None)
                sys.setprofile(None)
            return [*seen]

        seen = []
        codelike = Plain()
        types = IDS["LINE"], IDS["JUMP"]
        fired = (IDS["LINE"], 3, 30), (IDS["JUMP"], 5, 0)
        self.same(observe, 50)

    def test_trace(self):
        def observe(call):
            results = []
            for options in ({"countfuncs": True},
                            {"count": True, "trace": True}):
                tracer = trace.Trace(**options)
                with support.captured_stdout() as output:
                    tracer.runfunc(program, call)
                found = tracer.results()
                results.append([
                    [line for line in output.getvalue().splitlines()
                     if this_file in line],
                    *({key: value for key, value in counts.items()
                       if __file__ in str(key)} for counts in
                      (found.counts, found.calledfuncs))])
                self.assertTrue(any(results[-1]))
            return results

        this_file = os.path.basename(__file__)

        self.same(observe)


class NamedCodelike:
    """Has the names of a code object."""

    def __init__(self, code):
        self.co_name = code.co_name
        self.co_filename = code.co_filename
        self.co_firstlineno = code.co_firstlineno


def returns(callable, arg0=MISSING, *within):
    """What a producer does for a call; within is what happens in it."""
    return (("CALL", 1, callable, arg0), *within,
            ("C_RETURN", 1, callable, arg0))


def raises(callable, arg0, *within):
    """The same for one that raises."""
    return (("CALL", 1, callable, arg0), *within,
            ("C_RAISE", 1, callable, arg0, TypeError()))


class TestCProfile(unittest.TestCase):
    """It counts of a producer what it counts of the same calls in Python."""

    def profile(self, function, times=2):
        """What cProfile counts while a function is called.

        {name: (primitive calls, calls, {caller: calls})}
        """
        def driver():
            for _ in range(times):
                try:
                    function()
                except StopIteration:
                    pass

        profiler = cProfile.Profile()
        profiler.enable()
        try:
            driver()
        finally:
            profiler.disable()
        profiler.create_stats()
        counts = {}
        for name, (primitive, calls, _, _, callers) in profiler.stats.items():
            counts[name] = (primitive, calls,
                            {caller: numbers[:2]
                             for caller, numbers in callers.items()})
        return counts

    def make(self, function, *actions, codelike=None, **kwargs):
        """A producer that stands for a Python function."""
        return make_producer(codelike or NamedCodelike(function.__code__),
                             ("PY_START", 0), *actions,
                             ("PY_RETURN", 9, None), **kwargs)

    def check(self, function, *actions, contains=None):
        expected = self.profile(function)
        key = (function.__code__.co_filename,
               function.__code__.co_firstlineno, function.__code__.co_name)
        self.assertEqual(expected[key][1], 2)
        if contains is not None:
            self.assertIn(contains, [name[2] for name in expected])
        for fresh in (True, False):
            with self.subTest(fresh=fresh):
                producer = self.make(function, *actions, fresh=fresh)
                self.assertEqual(self.profile(producer), expected)

    def test_builtin(self):
        def function():
            len(())

        name = "<built-in method builtins.len>"
        self.check(function, *returns(len, ()), contains=name)
        self.check(function, (None, 1, len, ()), contains=name)

    def test_several(self):
        def function():
            len(())
            abs(1)
            len(())

        self.check(function, *returns(len, ()), *returns(abs, 1),
                   *returns(len, ()))
        self.check(function, (None, 1, len, ()), (None, 2, abs, 1),
                   (None, 1, len, ()))

    def test_raises(self):
        def function():
            try:
                len(1)
            except TypeError:
                pass
            abs(1)

        self.check(function, *raises(len, 1), *returns(abs, 1))

    def test_kinds_of_callables(self):
        def function():
            list.append([], 1)
            bound(1)
            int(1)
            called_back()
            method()
            abs(1)

        bound = [].append
        method = TestCProfile().bound_method
        name = "<method 'append' of 'list' objects>"
        self.check(function, *returns(list.append, []), *returns(bound, 1),
                   *returns(int, 1),
                   ("CALL", 1, called_back, MISSING), called_back,
                   ("CALL", 1, method, MISSING), method,
                   *returns(abs, 1), contains=name)
        self.check(function, (None, 1, list.append, [], 1),
                   (None, 1, bound, 1), (None, 1, int, 1),
                   (None, 1, called_back), (None, 1, method),
                   (None, 1, abs, 1), contains=name)

    def bound_method(self):
        return helper(2)

    def test_nested(self):
        # Foreign code calls a builtin, that foreign code, that a builtin.
        def inner():
            len(())

        def function():
            next(calls_inner, None)
            abs(1)

        calls_inner = map(operator.call, [inner] * 2)
        expected = self.profile(function)
        for fresh in (True, False):
            inner_producer = self.make(inner, *returns(len, ()), fresh=fresh)
            calls_inner = map(operator.call, [inner_producer] * 4)
            call = functools.partial(next, calls_inner, None)
            producer = self.make(function, *returns(next, calls_inner, call),
                                 *returns(abs, 1), fresh=fresh)
            self.assertEqual(self.profile(producer), expected)
            producer = self.make(function, (None, 1, next, calls_inner, None),
                                 (None, 2, abs, 1), fresh=fresh)
            self.assertEqual(self.profile(producer), expected)

    def test_recursion(self):
        # The innermost makes no call that goes on.
        def function():
            next(recurse, None)
            len(())

        recurse = map(operator.call, [function] * 3)
        expected = self.profile(function)
        for fresh in (True, False):
            for vectorcall in (True, False):
                callables = []
                recurse = map(operator.call, callables)
                if vectorcall:
                    actions = ((None, 1, next, recurse, None),
                               (None, 2, len, ()))
                else:
                    call = functools.partial(next, recurse, None)
                    actions = (*returns(next, recurse, call),
                               *returns(len, ()))
                producer = self.make(function, *actions, fresh=fresh)
                callables += [producer] * 3
                self.assertEqual(self.profile(producer), expected)
        # With states for each depth, of one code-like.
        codelike = NamedCodelike(function.__code__)
        producer = None
        for _ in range(4):
            inner = () if producer is None else (producer,)
            producer = self.make(function, *returns(next, MISSING, *inner),
                                 *returns(len, ()), codelike=codelike)
        recurse = map(operator.call, [function] * 3)
        self.assertEqual(self.profile(producer, 1), self.profile(function, 1))

    def test_nested_and_raises(self):
        # The inner function ends by an exception that a builtin passes on.
        def inner():
            len(())
            raise StopIteration

        def function():
            try:
                next(calls_inner)
            except StopIteration:
                pass
            abs(1)

        def raise_stop():
            return functools.partial(next, iter(()))

        calls_inner = map(operator.call, itertools.repeat(inner))
        expected = self.profile(function)
        for fresh in (True, False):
            inner_producer = make_producer(
                NamedCodelike(inner.__code__), ("PY_START", 0),
                *returns(len, ()), ("PY_UNWIND", 9, StopIteration()),
                raise_stop(), fresh=fresh)
            calls_inner = map(operator.call, itertools.repeat(inner_producer))
            call = functools.partial(next, calls_inner, None)
            producer = self.make(function, *raises(next, calls_inner, call),
                                 *returns(abs, 1), fresh=fresh)
            self.assertEqual(self.profile(producer), expected)

    def test_recursion_that_raises(self):
        def function():
            try:
                next(recurse)
            except StopIteration:
                pass
            len(())

        recurse = map(operator.call, [function] * 3)
        expected = self.profile(function)
        for fresh in (True, False):
            callables = []
            recurse = map(operator.call, callables)
            call = functools.partial(next, recurse, None)
            producer = self.make(function, *raises(next, recurse, call),
                                 *returns(len, ()), fresh=fresh)
            callables += [producer] * 3
            self.assertEqual(self.profile(producer), expected)

    def test_scopes_that_do_not_nest(self):
        # The call of one goes on while the other one's ends.
        def function():
            len(())

        def other_function():
            abs(1)

        def alternate():
            exit_scope()
            _testcapi.fire_event_call(other, 1, abs, 1, state=0)
            exit_scope()
            _testcapi.fire_event_call_return(other, 1, abs, 1, state=1)

        other = _testcapi.WeakCodeLike(
            2, other_function.__code__.co_name,
            other_function.__code__.co_filename,
            other_function.__code__.co_firstlineno)
        producer = self.make(function, lambda: enter(other, *CALL_NAMES[:2]),
                             *returns(len, (), alternate))
        found = self.profile(producer)
        for name in ("len", "abs"):
            key = "~", 0, f"<built-in method builtins.{name}>"
            self.assertEqual(found[key][:2], (2, 2))

    def test_another_tool_fails(self):
        def function():
            len(())
            abs(1)

        def fail(code, offset, callable, arg0):
            if callable is len:
                raise StopIteration

        monitoring.use_tool_id(OTHER_TOOL, "test")
        self.addCleanup(monitoring.free_tool_id, OTHER_TOOL)
        for event in (E.CALL, E.C_RETURN):
            with self.subTest(event=event):
                monitoring.register_callback(OTHER_TOOL, event, fail)
                monitoring.set_events(OTHER_TOOL, E.CALL)
                try:
                    expected = self.profile(function)
                    codelike = NamedCodelike(function.__code__)
                    failing = make_producer(codelike, *returns(len, ()))
                    failing_calls = map(operator.call,
                                        itertools.repeat(failing))
                    producer = make_producer(
                        codelike, ("PY_START", 0),
                        # It swallows the StopIteration.
                        functools.partial(next, failing_calls, None),
                        ("PY_UNWIND", 9, StopIteration()))
                    found = self.profile(producer)
                finally:
                    monitoring.set_events(OTHER_TOOL, 0)
                    monitoring.register_callback(OTHER_TOOL, event, None)
                self.assertEqual(found, expected)

    def test_calls_without_an_end(self):
        def function():
            len(())

        # What else is counted of that time is up to cProfile, whose call of
        # abs() never ends.
        call = "CALL", 1, abs, 1
        for fresh in (True, False):
            producer = self.make(function, call, *returns(len, ()), call,
                                 fresh=fresh)
            found = self.profile(producer)
            name = "~", 0, "<built-in method builtins.len>"
            self.assertEqual(found[name][:2], (2, 2))
        # And nothing of it is left for others.
        self.test_nested()
        self.test_raises()


if __name__ == "__main__":
    unittest.main()
