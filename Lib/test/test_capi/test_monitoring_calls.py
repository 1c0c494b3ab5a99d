"""CALL, C_RETURN and C_RAISE, and PyMonitoring_Vectorcall()."""

import contextlib
import functools
import sys
import types
import unittest
import weakref
from test.support import import_helper
from .monitoring_support import (CALL_NAMES, DISABLE, E, MISSING, OTHER_TOOL,
                                 TOOL, CodelikeTestCase, Plain, enter,
                                 exit_scope, make_producer, monitoring)

_testcapi = import_helper.import_module("_testcapi")


class Tracked:
    """An object that can be weakly referenced, and called."""

    def __call__(self, *args, **kwargs):
        return args, kwargs


def identity(*args, **kwargs):
    return args, kwargs


def fail(*args, **kwargs):
    raise KeyError("failed")


class Class:
    """Callables of each kind that a class has."""

    def __init__(self, *args):
        pass

    def __call__(self, *args):
        return args

    def __repr__(self):
        return "an instance"

    def method(self, *args):
        return args

    @classmethod
    def of_class(cls, *args):
        return args

    @staticmethod
    def static(*args):
        return args


class CallTestCase(CodelikeTestCase):
    """With a code-like that has the states of the three events."""

    def setUp(self):
        super().setUp()
        self.codelike = _testcapi.WeakCodeLike(3)
        self.calls = self.listen_to_calls()

    def listen_to_calls(self, tool=TOOL, react=None, *, events=E.CALL):
        """Have a tool listen; return the list of (event, offset, callable,
        arg0), in which an instance of Tracked is its class.

        react is called with the same, and what it returns is returned.
        """
        calls = []

        def register(name):
            def callback(code, *args):
                if isinstance(code, types.CodeType):
                    return None
                # What is kept here must not live because of that.
                calls.append((name, args[0], *(
                    Tracked if isinstance(arg, Tracked) else arg
                    for arg in args[1:])))
                return react and react(name, *args)
            monitoring.register_callback(tool, getattr(E, name), callback)

        for name in CALL_NAMES:
            register(name)
        monitoring.set_events(tool, events)
        return calls

    def enter(self, codelike=None):
        enter(codelike or self.codelike, *CALL_NAMES)

    def fire_call(self, offset, callable, arg0, codelike=None):
        _testcapi.fire_event_call(codelike or self.codelike, offset, callable,
                                  arg0, state=0)

    def fire_return(self, offset, callable, arg0, codelike=None):
        _testcapi.fire_event_call_return(codelike or self.codelike, offset,
                                         callable, arg0, state=1)

    def fire_raise(self, offset, callable, arg0, codelike=None):
        _testcapi.fire_event_call_raise(codelike or self.codelike, offset,
                                        callable, arg0, KeyError(), state=2)

    def vectorcall(self, offset, callable, *args, **kwargs):
        return _testcapi.monitoring_vectorcall(self.codelike, offset, callable,
                                               *args, **kwargs)


class TestCReturnAndCRaise(CallTestCase):

    def test_what_is_passed_is_reported(self):
        # Whatever it is, with a CALL before or without.
        for callable, arg0 in ((len, "x"), (identity, MISSING), (42, None),
                               (Tracked, self.codelike)):
            self.enter()
            self.fire_return(1, callable, arg0)
            self.fire_call(2, abs, 1)
            self.fire_call(3, callable, arg0)
            self.fire_raise(4, callable, arg0)
            self.fire_return(5, callable, arg0)
            exit_scope()
            self.fire_raise(6, callable, arg0)
            self.assertEqual(self.calls, [
                ("C_RETURN", 1, callable, arg0), ("CALL", 2, abs, 1),
                ("CALL", 3, callable, arg0), ("C_RAISE", 4, callable, arg0),
                ("C_RETURN", 5, callable, arg0),
                ("C_RAISE", 6, callable, arg0)])
            self.calls.clear()

    def test_functions_of_the_first_version(self):
        self.enter()
        self.fire_call(1, len, "x")
        _testcapi.fire_event_c_return(self.codelike, 1, 1)
        self.fire_call(2, len, 1)
        _testcapi.fire_event_c_raise(self.codelike, 2, TypeError())
        exit_scope()
        self.assertEqual(self.calls, [
            ("CALL", 1, len, "x"), ("C_RETURN", 1, MISSING, MISSING),
            ("CALL", 2, len, 1), ("C_RAISE", 2, MISSING, MISSING)])

    def test_scopes_that_do_not_nest(self):
        # Those of two greenlets.
        one, two = (_testcapi.WeakCodeLike(3) for _ in range(2))
        self.enter(one)
        self.fire_call(1, len, "x", one)
        self.enter(two)
        self.fire_call(2, ord, "y", two)
        self.fire_return(1, len, "x", one)
        exit_scope()
        self.fire_return(2, ord, "y", two)
        exit_scope()
        self.assertEqual(self.calls, [
            ("CALL", 1, len, "x"), ("CALL", 2, ord, "y"),
            ("C_RETURN", 1, len, "x"), ("C_RETURN", 2, ord, "y")])

    def test_recursion_shares_the_states(self):
        # The innermost scope makes no call.
        functions = (len, abs, ord)

        def recurse(depth):
            self.enter()
            if depth < len(functions):
                self.fire_call(depth, functions[depth], depth)
                recurse(depth + 1)
                self.fire_return(depth, functions[depth], depth)
            exit_scope()

        recurse(0)
        self.assertEqual(self.calls, [
            ("CALL", 0, len, 0), ("CALL", 1, abs, 1), ("CALL", 2, ord, 2),
            ("C_RETURN", 2, ord, 2), ("C_RETURN", 1, abs, 1),
            ("C_RETURN", 0, len, 0)])

    def test_callback_that_runs_the_producer(self):
        def run(name, offset, *args):
            if offset == 1 and name == "CALL":
                inner()

        inner = make_producer(self.codelike, ("CALL", 2, abs, 1),
                              ("C_RETURN", 2, abs, 1))
        others = self.listen_to_calls(OTHER_TOOL, run)
        self.enter()
        self.fire_call(1, len, "x")
        self.fire_return(1, len, "x")
        exit_scope()
        self.assertEqual(self.calls, [("CALL", 1, len, "x"),
                                      ("C_RETURN", 1, len, "x")])
        self.assertEqual(others, self.calls)

    def check_disabled_location(self, fire_return, fire_raise, reported):
        """The first events of a location are all that a tool gets of it which
        disables its CALL; another gets all."""
        others = self.listen_to_calls(
            OTHER_TOOL, lambda name, offset, *args:
            DISABLE if name == "CALL" and offset == 1 else None)
        self.enter()
        self.fire_call(1, len, "x")
        fire_return(1)
        fire_raise(1)
        self.fire_call(1, len, "x")
        fire_return(2)
        fire_raise(2)
        self.assertEqual(others, [("CALL", 1, len, "x"),
                                  ("C_RETURN", 2, *reported),
                                  ("C_RAISE", 2, *reported)])
        self.assertEqual(self.calls, [
            ("CALL", 1, len, "x"), ("C_RETURN", 1, *reported),
            ("C_RAISE", 1, *reported), ("CALL", 1, len, "x"), *others[1:]])
        # It holds without a scope, and where no other tool listens.
        monitoring.set_events(TOOL, 0)
        others.clear()
        self.enter()
        exit_scope()
        self.fire_call(1, len, "x")
        fire_return(1)
        fire_raise(1)
        # Not even checked.
        self.assertEqual(others, [])
        monitoring.restart_events()
        self.enter()
        fire_return(1)
        fire_raise(1)
        self.assertEqual(others, [("C_RETURN", 1, *reported),
                                  ("C_RAISE", 1, *reported)])

    def test_disabled_location(self):
        self.check_disabled_location(
            lambda offset: self.fire_return(offset, len, "x"),
            lambda offset: self.fire_raise(offset, len, "x"), (len, "x"))

    def test_disabled_location_in_the_first_version(self):
        self.check_disabled_location(
            lambda offset: _testcapi.fire_event_c_return(
                self.codelike, offset, None, state=1),
            lambda offset: _testcapi.fire_event_c_raise(
                self.codelike, offset, KeyError(), state=2),
            (MISSING, MISSING))

    def test_disabled_for_other_codelikes(self):
        other = _testcapi.WeakCodeLike(3)
        self.listen_to_calls(react=lambda name, *args:
                             DISABLE if name == "CALL" else None)
        self.enter()
        self.fire_call(1, len, "x")
        calls = self.listen_to_calls()
        self.enter(other)
        self.fire_return(1, len, "x")
        self.fire_return(1, abs, "y", other)
        self.assertEqual(calls, [("C_RETURN", 1, abs, "y")])

    def test_without_a_callback_for_calls(self):
        monitoring.register_callback(TOOL, E.CALL, None)
        self.enter()
        self.fire_call(1, len, "x")
        self.fire_return(1, len, "x")
        monitoring.register_callback(TOOL, E.C_RETURN, None)
        self.fire_return(2, len, "x")
        self.fire_raise(2, len, "x")
        exit_scope()
        self.assertEqual(self.calls, [("C_RETURN", 1, len, "x"),
                                      ("C_RAISE", 2, len, "x")])

    def test_local_events(self):
        # C_RETURN and C_RAISE are on where CALL is.
        calls = self.listen_to_calls(events=0)
        other = _testcapi.WeakCodeLike(3)
        for events in (E.CALL, E.CALL | E.C_RETURN | E.C_RAISE):
            monitoring.set_local_events(TOOL, self.codelike, events)
            for codelike in (self.codelike, other):
                self.enter(codelike)
                self.fire_call(1, len, "x", codelike)
                self.fire_return(1, len, "x", codelike)
                self.fire_raise(2, abs, "y", codelike)
                exit_scope()
            monitoring.set_local_events(TOOL, self.codelike, 0)
            self.fire_return(1, len, "x")
            self.assertEqual(calls, [
                ("CALL", 1, len, "x"), ("C_RETURN", 1, len, "x"),
                ("C_RAISE", 2, abs, "y")])
            calls.clear()

    def test_nothing_is_kept(self):
        def fire(function, *further):
            args = [Tracked(), Tracked()]
            alive = [weakref.ref(arg) for arg in args]
            function(1, *args, *further)
            del args
            self.assertEqual([ref() for ref in alive], [None, None])

        for codelike in (self.codelike, _testcapi.CodeLike(3)):
            self.enter(codelike)
            for function in (self.fire_call, self.fire_return,
                             self.fire_raise):
                fire(function, codelike)
        self.assertEqual(
            [call[1:] for call in self.calls], [(1, Tracked, Tracked)] * 6)
        fire(self.vectorcall)

    def test_events_that_change_within_the_call(self):
        self.enter()
        self.fire_call(1, len, "x")
        monitoring.set_events(OTHER_TOOL, E.LINE)
        self.enter()
        self.fire_return(1, len, "x")
        monitoring.set_events(TOOL, 0)
        self.fire_return(2, len, "x")
        monitoring.set_events(TOOL, E.CALL)
        self.enter()
        self.fire_return(3, len, "x")
        self.assertEqual(self.calls, [
            ("CALL", 1, len, "x"), ("C_RETURN", 1, len, "x"),
            ("C_RETURN", 3, len, "x")])


class TestVectorcall(CallTestCase):

    def check(self, callable, args=(), kwargs={}, *, python=False):
        """It is the call, and the events around it."""
        arg0 = args[0] if args else MISSING
        try:
            expected = callable(*args, **kwargs)
        except Exception as exc:
            expected = exc
        reported = [("CALL", 7, callable, arg0)]
        if not python:
            name = ("C_RAISE" if isinstance(expected, Exception)
                    else "C_RETURN")
            reported.append((name, 7, callable, arg0))
        self.enter()
        functions = [lambda: self.vectorcall(7, callable, *args, **kwargs)]
        if not kwargs:
            # It does not offer the place before the arguments.
            functions.append(make_producer(self.codelike,
                                           (None, 7, callable, *args)))
        for i, function in enumerate(functions):
            with self.subTest(callable, args=args, kwargs=kwargs, way=i):
                self.calls.clear()
                try:
                    found = function()
                except Exception as exc:
                    found = exc
                self.assertEqual(self.calls, reported)
                if i == 0 or isinstance(expected, Exception):
                    self.assertEqual(repr(found), repr(expected))

    # Callables for one argument, a string of digits.
    PYTHON_FUNCTIONS = (
        identity, lambda arg: arg, Class.method, Class().method,
        Class.of_class, Class.static, types.MethodType(identity, "self"),
        types.MethodType(fail, "self"), fail,
    )
    OTHERS = (
        len, abs, int, Class, type, "x".join, [].append, str.upper, str.join,
        Class(), functools.partial(identity), functools.partial(fail),
    )
    # Bytecode reports these as what they call in the end.
    BOUND_OTHERS = (types.MethodType(str.__add__, "x"),
                    types.MethodType(Class(), 5))

    def test_kinds_of_callables(self):
        for callable in self.PYTHON_FUNCTIONS:
            self.check(callable, ("3",), python=True)
        for callable in self.OTHERS + self.BOUND_OTHERS:
            self.check(callable, ("3",))

    def test_same_as_bytecode(self):
        def call(callable, arg0):
            return callable(arg0)

        def record(name):
            def callback(code, offset, *args):
                if code is call.__code__:
                    calls.append((name, *args))
            monitoring.register_callback(OTHER_TOOL, getattr(E, name),
                                         callback)

        for name in CALL_NAMES:
            record(name)
        monitoring.set_local_events(OTHER_TOOL, call.__code__, E.CALL)
        for callable in self.PYTHON_FUNCTIONS + self.OTHERS:
            with self.subTest(callable):
                calls = []
                with contextlib.suppress(KeyError, TypeError):
                    call(callable, "3")
                self.enter()
                self.calls.clear()
                with contextlib.suppress(KeyError, TypeError):
                    self.vectorcall(1, callable, "3")
                self.assertEqual([(name, *args) for name, _, *args
                                  in self.calls], calls)
        monitoring.set_local_events(OTHER_TOOL, call.__code__, 0)

    def test_arguments(self):
        for callable, python in ((identity, True),
                                 (functools.partial(identity), False)):
            self.check(callable, (), python=python)
            self.check(callable, ("x",), python=python)
            self.check(callable, ("x",), {"a": 1, "b": 2}, python=python)
            self.check(callable, (), {"a": 1}, python=python)
            self.check(callable, tuple(range(1000, 1010)), python=python)
        self.check(dict, (), {"a": 1})
        self.check(sorted, ([3, 1, 2],), {"reverse": True})

    def test_raises(self):
        self.check(len, (1,))
        self.check(int, ("x",))
        self.check(42, ("x",))
        self.check(functools.partial(fail))
        self.check(fail, python=True)
        self.check(types.MethodType(fail, 1), python=True)
        self.check(len, ("x",), {"key": 1})
        # The exception is the one that was raised.
        exc = KeyError("raised")
        raising = functools.partial(exec, "raise exc", {"exc": exc})
        self.enter()
        with self.assertRaises(KeyError) as caught:
            self.vectorcall(1, raising)
        self.assertIs(caught.exception, exc)
        self.assertIsNone(exc.__context__)

    def test_callback_for_call_raises(self):
        # There is no call then.
        def refuse(name, offset, callable, arg0):
            if arg0 == "refused":
                raise OSError(name)

        results = []
        self.listen_to_calls(OTHER_TOOL, refuse)
        self.enter()
        for callable in (results.append,
                         lambda *args: results.append(args)):
            with self.assertRaisesRegex(OSError, "^CALL$"):
                self.vectorcall(1, callable, "refused")
        self.assertEqual(results, [])
        # Nor for an event that is refused.
        with self.assertRaisesRegex(ValueError, "not -1$"):
            self.vectorcall(-1, results.append, "negative")
        self.assertEqual(results, [])
        self.assertEqual(self.calls, [])

    def test_callback_for_c_return_raises(self):
        def refuse(name, *args):
            if name == "C_RETURN":
                raise OSError(name)

        def make():
            result = Tracked()
            alive.append(weakref.ref(result))
            return result

        alive = []
        self.listen_to_calls(OTHER_TOOL, refuse)
        self.enter()
        with self.assertRaisesRegex(OSError, "^C_RETURN$"):
            self.vectorcall(1, functools.partial(make))
        self.assertIsNone(alive[0]())
        # A Python function has none.
        self.assertIsInstance(self.vectorcall(1, make), Tracked)

    def test_callback_for_c_raise_raises(self):
        def refuse(name, *args):
            if name == "C_RAISE":
                raise OSError(name)

        self.listen_to_calls(OTHER_TOOL, refuse)
        self.enter()
        with self.assertRaisesRegex(OSError, "^C_RAISE$") as caught:
            self.vectorcall(1, len, 1)
        self.assertIsInstance(caught.exception.__context__, TypeError)
        self.assertRaises(KeyError, self.vectorcall, 1, fail)

    def test_disabled_location(self):
        others = self.listen_to_calls(
            OTHER_TOOL, lambda name, *args:
            DISABLE if name == "CALL" else None)
        self.enter()
        for _ in range(2):
            self.assertEqual(self.vectorcall(1, len, "x"), 1)
            self.assertRaises(TypeError, self.vectorcall, 1, len, 1)
        self.assertEqual(others, [("CALL", 1, len, "x")])
        self.assertEqual(len(self.calls), 8)
        # What it costs then is the call, and no scope.
        monitoring.set_events(TOOL, 0)
        self.enter()
        self.assertEqual(self.vectorcall(1, len, "xy"), 2)
        self.assertEqual(self.vectorcall(2, len, "xy"), 2)
        self.assertEqual(others[1:], [("CALL", 2, len, "xy")])

    def test_not_active(self):
        # The state of CALL decides alone.
        self.codelike.states = bytes((0, 0, 1 << TOOL, 0, 1 << TOOL, 0))
        self.assertEqual(self.vectorcall(1, len, "x"), 1)
        self.assertEqual(self.vectorcall(-1, identity, 1, a=2),
                         ((1,), {"a": 2}))
        self.assertRaises(TypeError, self.vectorcall, 1, len, 1)
        self.assertEqual(self.calls, [])
        self.codelike.states = bytes((1 << TOOL, 0, 0, 0, 0, 0))
        self.assertEqual(self.vectorcall(1, len, "x"), 1)
        self.assertRaises(TypeError, self.vectorcall, 1, len, 1)
        self.assertEqual(self.calls, [("CALL", 1, len, "x"),
                                      ("CALL", 1, len, 1)])

    def test_in_a_callback(self):
        def call(*args):
            results.append(self.vectorcall(2, len, "xyz"))
            with self.assertRaises(TypeError):
                self.vectorcall(-2, len, 1)

        results = []
        others = self.listen_to_calls(OTHER_TOOL, call)
        self.enter()
        self.assertEqual(self.vectorcall(1, abs, -1), 1)
        self.assertEqual(results, [3, 3])
        self.assertEqual(self.calls, [("CALL", 1, abs, -1),
                                      ("C_RETURN", 1, abs, -1)])
        self.assertEqual(others, self.calls)

    def test_recursion_shares_the_states(self):
        def recurse(depth):
            self.enter()
            try:
                return depth and 1 + self.vectorcall(
                    depth, functools.partial(recurse), depth - 1)
            finally:
                exit_scope()

        self.assertEqual(recurse(5), 5)
        depths = [(name, offset, arg0)
                  for name, offset, _, arg0 in self.calls]
        self.assertEqual(
            depths, [("CALL", depth, depth - 1) for depth in (5, 4, 3, 2, 1)]
            + [("C_RETURN", depth, depth - 1) for depth in (1, 2, 3, 4, 5)])

    def test_scopes_that_do_not_nest(self):
        # The callable enters a scope that goes on, and exits the caller's.
        def switch(number):
            enter(other, *CALL_NAMES)
            self.fire_call(2, ord, "y", other)
            exit_scope()
            return number

        other = _testcapi.WeakCodeLike(3)
        self.enter()
        callable = functools.partial(switch)
        self.assertEqual(self.vectorcall(1, callable, 5), 5)
        self.fire_return(2, ord, "y", other)
        self.assertEqual(self.calls, [
            ("CALL", 1, callable, 5), ("CALL", 2, ord, "y"),
            ("C_RETURN", 1, callable, 5), ("C_RETURN", 2, ord, "y")])

    def test_switched_within_the_call(self):
        # Off counts at once; on counts from the next EnterScope on.
        def switch(tool, events):
            monitoring.set_events(tool, events)

        others = self.listen_to_calls(OTHER_TOOL, events=0)
        callable = functools.partial(switch)
        self.enter()
        self.vectorcall(1, callable, TOOL, 0)
        self.vectorcall(2, callable, TOOL, E.CALL)
        self.vectorcall(3, callable, OTHER_TOOL, E.CALL)
        self.enter()
        self.vectorcall(4, callable, OTHER_TOOL, 0)
        self.assertEqual(self.calls, [
            ("CALL", 1, callable, TOOL), ("C_RETURN", 2, callable, TOOL),
            ("CALL", 3, callable, OTHER_TOOL),
            ("C_RETURN", 3, callable, OTHER_TOOL),
            ("CALL", 4, callable, OTHER_TOOL),
            ("C_RETURN", 4, callable, OTHER_TOOL)])
        self.assertEqual(others, [("CALL", 4, callable, OTHER_TOOL)])

    def test_only_a_callback_for_c_return(self):
        # The state of CALL must be active for it.
        monitoring.register_callback(TOOL, E.CALL, None)
        monitoring.register_callback(TOOL, E.C_RAISE, None)
        self.enter()
        self.assertEqual(self.vectorcall(1, len, "x"), 1)
        self.assertEqual(self.calls, [("C_RETURN", 1, len, "x")])

    def test_chosen_in_the_first_activation(self):
        # By the callback for PY_START, when the scope was entered already.
        def start(code, offset):
            if code is codelike:
                monitoring.set_local_events(TOOL, code, E.CALL)

        monitoring.register_callback(TOOL, E.PY_START, start)
        self.addCleanup(monitoring.register_callback, TOOL, E.PY_START, None)
        for names in (CALL_NAMES, CALL_NAMES[:1], CALL_NAMES[1:2],
                      CALL_NAMES[2:]):
            calls = self.listen_to_calls(events=E.PY_START)
            for name in set(CALL_NAMES) - set(names):
                monitoring.register_callback(TOOL, getattr(E, name), None)
            codelike = Plain()
            producer = make_producer(codelike, ("PY_START", 0),
                                     (None, 1, len, "x"), (None, 2, len, 1))
            self.assertRaises(TypeError, producer)
            self.assertEqual(calls, [call for call in [
                ("CALL", 1, len, "x"), ("C_RETURN", 1, len, "x"),
                ("CALL", 2, len, 1), ("C_RAISE", 2, len, 1)]
                if call[0] in names])

    def test_references(self):
        def call():
            for callable in callables:
                with contextlib.suppress(KeyError):
                    self.vectorcall(1, callable, *args, key=args[0])
                with contextlib.suppress(KeyError):
                    self.vectorcall(1, callable, *args)
            self.calls.clear()

        args = [Tracked(), Tracked()]
        callables = [identity, fail, functools.partial(identity),
                     functools.partial(fail)]
        self.enter()
        call()
        before = [sys.getrefcount(obj) for obj in (*args, *callables)]
        for _ in range(10):
            call()
        self.assertEqual([sys.getrefcount(obj) for obj in (*args, *callables)],
                         before)


if __name__ == "__main__":
    unittest.main()
