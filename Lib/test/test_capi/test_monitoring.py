"""Tests of the C-API that signals sys.monitoring events.

A code-like of _testcapi has as many states as it was made with; its
fire_event_*() functions take the state as a keyword and check that a set
exception stays the same.
"""

import bdb
import cProfile
import collections
import contextlib
import functools
import gc
import io
import itertools
import operator
import os
import pdb
import re
import shlex
import subprocess
import sys
import sysconfig
import textwrap
import threading
import time
import trace
import tracemalloc
import types
import unittest
import weakref
from test import support
from test.support import (import_helper, os_helper, script_helper,
                          threading_helper)

_testcapi = import_helper.import_module("_testcapi")

monitoring = sys.monitoring
E = monitoring.events
DISABLE = monitoring.DISABLE
MISSING = monitoring.MISSING

TOOL = 2
OTHER_TOOL = 4

# In the order of the ids.
EVENT_NAMES = (
    "PY_START", "PY_RESUME", "PY_RETURN", "PY_YIELD", "CALL", "LINE",
    "INSTRUCTION", "JUMP", "BRANCH", "STOP_ITERATION", "RAISE",
    "EXCEPTION_HANDLED", "PY_UNWIND", "PY_THROW", "RERAISE", "C_RETURN",
    "C_RAISE",
)
IDS = {name: event for event, name in enumerate(EVENT_NAMES)}

# What a tool has to listen to for an event.
EVENT_SETS = {name: getattr(E, name) for name in EVENT_NAMES}
EVENT_SETS["C_RETURN"] = EVENT_SETS["C_RAISE"] = E.CALL

EXCEPTION_EVENTS = {"RAISE", "EXCEPTION_HANDLED", "PY_UNWIND", "PY_THROW",
                    "RERAISE", "C_RAISE"}

CAN_DISABLE = {"PY_START", "PY_RESUME", "PY_RETURN", "PY_YIELD", "CALL",
               "LINE", "JUMP", "BRANCH", "STOP_ITERATION"}

# One way to fire: its arguments after the offset, and what callbacks get after
# the code-like.
Case = collections.namedtuple("Case", "name fire args told")


def make_cases(offset=0):
    """Every Fire function, with the event that it is for."""
    def value(name, function=None):
        obj = object()
        return Case(name, function or name.lower(), (obj,), (offset, obj))

    def exception(name):
        exc = LookupError(name)
        return Case(name, name.lower(), (exc,), (offset, exc))

    exc = LookupError("C_RAISE")
    stop = StopIteration(7)
    return [
        Case("PY_START", "py_start", (), (offset,)),
        Case("PY_RESUME", "py_resume", (), (offset,)),
        value("PY_RETURN"),
        value("PY_YIELD"),
        Case("CALL", "call", (len, "x"), (offset, len, "x")),
        Case("LINE", "line", (1000,), (1000,)),
        value("JUMP"),
        value("BRANCH"),
        value("BRANCH", "branch_left"),
        value("BRANCH", "branch_right"),
        Case("STOP_ITERATION", "stop_iteration", (stop,), (offset, stop)),
        exception("RAISE"),
        exception("EXCEPTION_HANDLED"),
        exception("PY_UNWIND"),
        exception("PY_THROW"),
        exception("RERAISE"),
        Case("C_RETURN", "c_return", (42,), (offset, MISSING, MISSING)),
        Case("C_RAISE", "c_raise", (exc,), (offset, MISSING, MISSING)),
    ]


def fire(case, codelike, offset=0, **kwargs):
    function = getattr(_testcapi, "fire_event_" + case.fire)
    return function(codelike, offset, *case.args, **kwargs)


def enter(codelike, *names, **kwargs):
    _testcapi.monitoring_enter_scope(
        codelike, *(IDS[name] for name in names), **kwargs)


exit_scope = _testcapi.monitoring_exit_scope


@contextlib.contextmanager
def scope(codelike, *names):
    enter(codelike, *names)
    try:
        yield
    finally:
        exit_scope()


def chain(exc):
    """The exception and its contexts; fails on a ring."""
    found = []
    while exc is not None:
        if any(exc is other for other in found):
            raise AssertionError(f"ring of contexts: {found}")
        found.append(exc)
        exc = exc.__context__
    return found


class MonitoringTestCase(unittest.TestCase):

    def setUp(self):
        # With one state, which is then that of every offset.
        self.codelike = _testcapi.CodeLike(1)
        for tool in range(6):
            monitoring.use_tool_id(tool, "test")
            self.addCleanup(self.free_tool, tool)

    def free_tool(self, tool):
        monitoring.set_events(tool, 0)
        for name in EVENT_NAMES:
            monitoring.register_callback(tool, getattr(E, name), None)
        monitoring.free_tool_id(tool)

    def listen(self, *names, tool=TOOL, callback=None):
        """Have a tool listen to events; return the list of the calls.

        The tool hears of the test's own code too: only events of code-likes
        count, and only for them is callback called.
        """
        calls = []

        def register(name):
            def record(code, *args):
                if isinstance(code, (_testcapi.CodeLike,
                                     _testcapi.WeakCodeLike)):
                    calls.append((name, code, *args))
                    if callback is not None:
                        return callback(code, *args)
            monitoring.register_callback(tool, getattr(E, name), record)

        event_set = monitoring.get_events(tool)
        for name in names:
            register(name)
            event_set |= EVENT_SETS[name]
        monitoring.set_events(tool, event_set)
        return calls

    def each_case(self, check, cases=None):
        """Call check(case, calls) in a scope where TOOL listens to the event.

        Not a generator: on 3.13's debug build, one that yields to a loop while
        a tool listens to BRANCH fails an assertion.
        """
        for case in make_cases() if cases is None else cases:
            with self.subTest(case.fire):
                calls = self.listen(case.name)
                with scope(self.codelike, case.name):
                    check(case, calls)
                for tool in range(6):
                    monitoring.set_events(tool, 0)


class TestArguments(MonitoringTestCase):

    def test_arguments(self):
        def check(case, calls):
            fire(case, self.codelike, offset)
            self.assertEqual(calls, [(case.name, self.codelike, *case.told)])

        for offset in (0, 1, 256, 257, 2**31 - 1):
            self.each_case(check, make_cases(offset))

    def test_event_numbers(self):
        for name in EVENT_NAMES:
            self.assertEqual(getattr(E, name), 1 << IDS[name], name)

    def test_line_number_is_not_the_offset(self):
        calls = self.listen("LINE")
        with scope(self.codelike, "LINE"):
            for offset, line in ((0, 0), (300, 1), (7, 70_000), (1, -5)):
                _testcapi.fire_event_line(self.codelike, offset, line)
        self.assertEqual([call[2] for call in calls], [0, 1, 70_000, -5])

    def test_any_object_is_a_codelike(self):
        class Plain:
            pass

        for codelike in (Plain(), "text", make_cases.__code__, None):
            calls = []
            monitoring.register_callback(
                TOOL, E.PY_RESUME, lambda *args: calls.append(args))
            monitoring.set_events(TOOL, E.PY_RESUME)
            for fresh in (True, False):
                producer = _testcapi.Producer(
                    codelike, (IDS["PY_RESUME"],),
                    ((IDS["PY_RESUME"], 3),), fresh=fresh)
                producer()
            self.assertEqual(calls, [(codelike, 3)] * 2)
            monitoring.set_events(TOOL, 0)

    def test_negative_offset(self):
        def check(case, calls):
            for offset in (-1, -2**31):
                message = f"offset of {case.name} event .* not {offset}$"
                with self.assertRaisesRegex(ValueError, message):
                    fire(case, self.codelike, offset)
            self.assertEqual(calls, [])

        self.each_case(check)

    def test_negative_offset_that_nobody_is_told(self):
        enter(self.codelike, "PY_START")
        _testcapi.fire_event_py_start(self.codelike, -1)

        calls = self.listen(
            "PY_START", callback=lambda code, offset:
            _testcapi.fire_event_py_start(code, -1))
        enter(self.codelike, "PY_START")
        _testcapi.fire_event_py_start(self.codelike, 1)
        self.assertEqual(len(calls), 1)
        monitoring.set_events(TOOL, 0)
        _testcapi.fire_event_py_start(self.codelike, -1)

    def test_no_exception_set(self):
        def check(case, calls):
            message = f"^Firing event {IDS[case.name]} with no exception set$"
            with self.assertRaisesRegex(ValueError, message):
                fire(case._replace(args=(None,)), self.codelike)
            self.assertEqual(calls, [])

        self.each_case(check, [case for case in make_cases()
                               if case.name in EXCEPTION_EVENTS])

    def test_stop_iteration_value(self):
        class Subclass(StopIteration):
            pass

        calls = self.listen("STOP_ITERATION")
        with scope(self.codelike, "STOP_ITERATION"):
            for value in (None, 7, (), (1,), (1, 2), [1], ValueError(3),
                          StopIteration, ValueError):
                with self.subTest(value):
                    _testcapi.fire_event_stop_iteration(self.codelike, 0,
                                                        value)
                    exc = calls.pop()[-1]
                    self.assertIs(type(exc), StopIteration)
                    self.assertIs(exc.value, value)
            for value in (StopIteration(), StopIteration(1), Subclass(1, 2)):
                with self.subTest(value):
                    _testcapi.fire_event_stop_iteration(self.codelike, 0,
                                                        value)
                    self.assertIs(calls.pop()[-1], value)

    def test_branch_left_and_right(self):
        calls = self.listen("BRANCH")
        with scope(self.codelike, "BRANCH"):
            _testcapi.fire_event_branch_left(self.codelike, 1, 2)
            _testcapi.fire_event_branch_right(self.codelike, 1, 3)
        self.assertEqual(calls, [("BRANCH", self.codelike, 1, 2),
                                 ("BRANCH", self.codelike, 1, 3)])


class TestScopes(MonitoringTestCase):

    def setUp(self):
        super().setUp()
        self.codelike = _testcapi.CodeLike(4)

    def active(self):
        return list(self.codelike.states[::2])

    def test_states_are_defined(self):
        # In a process where no tool was ever used, too.
        script = textwrap.dedent("""
            import _testcapi
            codelike = _testcapi.CodeLike(3)
            codelike.states = b"\\xff" * 6
            _testcapi.monitoring_enter_scope(codelike, 0, 5, 6)
            assert codelike.states == bytes(6), codelike.states
            assert codelike.version != 0
        """)
        script_helper.assert_python_ok("-c", script)

        self.listen("LINE")
        self.listen("LINE", "RAISE", tool=OTHER_TOOL)
        self.codelike.states = b"\xff" * 8
        self.codelike.version = 0
        enter(self.codelike, "LINE", "PY_START", "RAISE", "INSTRUCTION")
        both = 1 << TOOL | 1 << OTHER_TOOL
        self.assertEqual(self.active(), [both, 0, 1 << OTHER_TOOL, 0])

    def test_every_event_type(self):
        codelike = _testcapi.CodeLike(len(EVENT_NAMES))
        for tool in range(6):
            monitoring.set_events(tool, sum(set(EVENT_SETS.values())))
        enter(codelike, *EVENT_NAMES)
        active = dict(zip(EVENT_NAMES, codelike.states[::2]))
        self.assertEqual(active.pop("INSTRUCTION"), 0)
        self.assertEqual(set(active.values()), {0b111111}, active)

    def test_no_event_type(self):
        enter(self.codelike)
        self.assertNotEqual(self.codelike.version, 0)

    def test_unknown_event_type(self):
        for event in (len(EVENT_NAMES), 100, 255):
            with self.subTest(event):
                garbage = b"\x01\x02" * 4
                self.codelike.states = garbage
                self.codelike.version = 0
                message = rf"event_types\[1\] is {event}\b"
                with self.assertRaisesRegex(ValueError, message):
                    _testcapi.monitoring_enter_scope(self.codelike, 0, event)
                self.assertEqual(self.codelike.states, garbage)
                self.assertEqual(self.codelike.version, 0)

    def test_answers_to_calls_are_active_with_call(self):
        for name in ("C_RETURN", "C_RAISE"):
            enter(self.codelike, "CALL", name)
            self.assertEqual(self.active()[:2], [0, 0])
            monitoring.set_events(TOOL, E.CALL)
            enter(self.codelike, "CALL", name)
            self.assertEqual(self.active()[:2], [1 << TOOL] * 2)
            monitoring.set_events(TOOL, 0)
            self.codelike.version = 0

    def test_pending_exception(self):
        exc = KeyError("pending")
        self.codelike.version = 0
        enter(self.codelike, "LINE", pending=exc)
        enter(self.codelike, "LINE", pending=exc)
        exit_scope(pending=exc)
        self.codelike.version = 0
        with self.assertRaises(ValueError) as caught:
            _testcapi.monitoring_enter_scope(self.codelike, 99, pending=exc)
        self.assertIs(caught.exception.__context__, exc)

    def test_events_set_before_and_after_entering(self):
        with scope(self.codelike, "LINE"):
            calls = self.listen("LINE")
            _testcapi.fire_event_line(self.codelike, 0, 1)
            self.assertEqual(calls, [])
            with scope(self.codelike, "LINE"):
                _testcapi.fire_event_line(self.codelike, 0, 2)
            _testcapi.fire_event_line(self.codelike, 0, 3)
            monitoring.set_events(TOOL, 0)
            _testcapi.fire_event_line(self.codelike, 0, 4)
            # It listened when the scope was entered.
            monitoring.set_events(TOOL, E.LINE)
            _testcapi.fire_event_line(self.codelike, 0, 5)
        self.assertEqual([call[2] for call in calls], [2, 3, 5])

    def test_mid_scope_repeat(self):
        codelike = _testcapi.CodeLike(0)
        lines = (IDS["LINE"], 0, 1), (IDS["LINE"], 0, 2), (IDS["LINE"], 0, 3)
        for fresh in (True, False):
            calls = []
            monitoring.set_events(TOOL, 0)
            monitoring.register_callback(
                TOOL, E.LINE, lambda code, line:
                calls.append(line) if code is codelike else None)
            producer = _testcapi.Producer(
                codelike, (IDS["LINE"],),
                (lines[0], lambda: monitoring.set_events(TOOL, E.LINE),
                 lines[1], None, lines[2]), fresh=fresh)
            producer()
            self.assertEqual(calls, [3])

    def test_recursion_shares_the_states(self):
        calls = self.listen("PY_START", "PY_RETURN")

        def recurse(depth):
            with scope(self.codelike, "PY_START", "PY_RETURN"):
                _testcapi.fire_event_py_start(self.codelike, depth, state=0)
                if depth:
                    recurse(depth - 1)
                _testcapi.fire_event_py_return(self.codelike, depth, None,
                                               state=1)

        recurse(3)
        self.assertEqual(
            [call[0::2] for call in calls],
            [("PY_START", depth) for depth in (3, 2, 1, 0)]
            + [("PY_RETURN", depth) for depth in (0, 1, 2, 3)])

    def test_nested_scopes(self):
        inner = _testcapi.CodeLike(1)
        calls = self.listen("LINE")
        with scope(self.codelike, "LINE"):
            _testcapi.fire_event_line(self.codelike, 0, 1)
            with scope(inner, "LINE"):
                _testcapi.fire_event_line(inner, 0, 2)
                _testcapi.fire_event_line(self.codelike, 0, 3)
            _testcapi.fire_event_line(self.codelike, 0, 4)
        self.assertEqual([call[1:] for call in calls],
                         [(self.codelike, 1), (inner, 2), (self.codelike, 3),
                          (self.codelike, 4)])

    def test_unpaired(self):
        def unpaired(number):
            for _ in range(number):
                exit_scope()
                exit_scope()
            for _ in range(number):
                enter(self.codelike, "LINE")
                _testcapi.fire_event_line(self.codelike, 0, 1)
            for _ in range(number):
                self.codelike.version = 0
                enter(self.codelike, "LINE", "CALL")

        calls = self.listen("LINE", callback=lambda *args: calls.clear())
        unpaired(10)
        tracemalloc.start()
        try:
            unpaired(10)
            before = tracemalloc.get_traced_memory()[0]
            unpaired(5_000)
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        self.assertLess(grown, 4_000)

    def test_generator(self):
        calls = self.listen("PY_START", "PY_YIELD", "PY_RESUME", "PY_RETURN",
                            "LINE")
        names = ("PY_START", "PY_YIELD", "PY_RESUME", "PY_RETURN")

        def generator(codelike):
            enter(codelike, *names)
            _testcapi.fire_event_py_start(codelike, 0, state=0)
            for value in range(2):
                _testcapi.fire_event_py_yield(codelike, 1, value, state=1)
                exit_scope()
                yield value
                enter(codelike, *names)
                _testcapi.fire_event_py_resume(codelike, 1, state=2)
            _testcapi.fire_event_py_return(codelike, 2, None, state=3)
            exit_scope()

        one = _testcapi.CodeLike(4)
        two = _testcapi.CodeLike(4)
        # Not zip(): nothing of this may be seen by anything but the scopes.
        first, second = generator(one), generator(two)
        next(first)
        next(second)
        next(first)
        next(second)
        self.assertIsNone(next(second, None))
        self.assertIsNone(next(first, None))
        expected = ["PY_START", "PY_YIELD", "PY_RESUME", "PY_YIELD",
                    "PY_RESUME", "PY_RETURN"]
        for codelike in (one, two):
            self.assertEqual(
                [call[0] for call in calls if call[1] is codelike], expected)

    def test_events_that_change_while_a_generator_is_suspended(self):
        def generator():
            enter(self.codelike, "PY_RESUME")
            exit_scope()
            yield
            enter(self.codelike, "PY_RESUME")
            _testcapi.fire_event_py_resume(self.codelike, 5)
            exit_scope()

        suspended = generator()
        next(suspended)
        calls = self.listen("PY_RESUME")
        next(suspended, None)
        self.assertEqual(calls, [("PY_RESUME", self.codelike, 5)])


class TestFiring(MonitoringTestCase):

    def test_not_active(self):
        for case in make_cases():
            with self.subTest(case.fire):
                calls = self.listen(case.name)
                self.codelike.states = bytes(2)
                fire(case, self.codelike)
                self.assertEqual(calls, [])

    def test_no_callback(self):
        for case in make_cases():
            with self.subTest(case.fire):
                monitoring.set_events(TOOL, EVENT_SETS[case.name])
                with scope(self.codelike, case.name):
                    fire(case, self.codelike)
                # The tool is passed over, not the next ones.
                others = self.listen(case.name, tool=TOOL - 1)
                with scope(self.codelike, case.name):
                    fire(case, self.codelike)
                self.assertEqual(len(others), 1)
                monitoring.set_events(TOOL - 1, 0)

    def test_switched_off_in_mid_scope(self):
        def check(case, calls):
            others = self.listen(case.name, tool=OTHER_TOOL)
            enter(self.codelike, case.name)
            monitoring.set_events(TOOL, 0)
            fire(case, self.codelike)
            self.assertEqual(len(calls), 0)
            self.assertEqual(len(others), 1)

        self.each_case(check)

    def test_switched_on_in_mid_scope(self):
        def check(case, calls):
            others = self.listen(case.name, tool=OTHER_TOOL)
            fire(case, self.codelike)
            self.assertEqual(len(calls), 1)
            self.assertEqual(len(others), 0)
            enter(self.codelike, case.name)
            fire(case, self.codelike)
            self.assertEqual(len(others), 1)

        self.each_case(check)

    def test_state_of_another_event(self):
        # A state only gates.
        calls = self.listen("LINE", "PY_START")
        with scope(self.codelike, "LINE"):
            _testcapi.fire_event_py_start(self.codelike, 0)
            _testcapi.fire_event_py_return(self.codelike, 0, None)
        self.assertEqual(calls, [("PY_START", self.codelike, 0)])

    def test_order_of_tools(self):
        # That of bytecode.
        def add_tool(tool):
            monitoring.register_callback(
                tool, E.PY_START, lambda code, offset:
                order.append((code, tool)))
            monitoring.set_events(tool, E.PY_START)

        def bytecode():
            pass

        order = []
        for tool in (3, 0, 5, 1):
            add_tool(tool)
        bytecode()
        enter(self.codelike, "PY_START")
        _testcapi.fire_event_py_start(self.codelike, 0)
        expected = [tool for code, tool in order if code is bytecode.__code__]
        self.assertEqual(sorted(expected), [0, 1, 3, 5])
        self.assertEqual(
            [tool for code, tool in order if code is self.codelike], expected)

    def test_first_callback_that_raises_ends_the_event(self):
        def fail(*args):
            raise OSError("first")

        for case in make_cases():
            with self.subTest(case.fire):
                before = self.listen(case.name, tool=5)
                failing = self.listen(case.name, tool=3, callback=fail)
                after = self.listen(case.name, tool=1, callback=fail)
                with scope(self.codelike, case.name):
                    with self.assertRaisesRegex(OSError, "first"):
                        fire(case, self.codelike)
                for tool in (5, 3, 1):
                    monitoring.set_events(tool, 0)
                self.assertEqual(
                    [len(calls) for calls in (before, failing, after)],
                    [1, 1, 0])

    def test_tools_are_fixed_when_it_fires(self):
        def swap(*args):
            monitoring.set_events(3, 0)
            monitoring.set_events(1, E.PY_RESUME)

        first = self.listen("PY_RESUME", tool=5, callback=swap)
        switched_off = self.listen("PY_RESUME", tool=3)
        switched_on = self.listen("PY_RESUME", tool=1)
        monitoring.set_events(1, 0)
        with scope(self.codelike, "PY_RESUME"):
            _testcapi.fire_event_py_resume(self.codelike, 0)
        self.assertEqual(
            [len(calls) for calls in (first, switched_off, switched_on)],
            [1, 1, 0])
        with scope(self.codelike, "PY_RESUME"):
            _testcapi.fire_event_py_resume(self.codelike, 0)
        self.assertEqual(
            [len(calls) for calls in (first, switched_off, switched_on)],
            [2, 1, 1])

    def test_callback_that_unregisters_itself(self):
        class Callback:
            def __call__(self, code, offset, exc):
                monitoring.register_callback(TOOL, E.PY_THROW, None)
                gc.collect()
                seen.append((type(self), offset))

        # Bytecode of this test has no PY_THROW.
        seen = []
        callback = Callback()
        alive = weakref.ref(callback)
        monitoring.register_callback(TOOL, E.PY_THROW, callback)
        monitoring.set_events(TOOL, E.PY_THROW)
        del callback
        enter(self.codelike, "PY_THROW")
        _testcapi.fire_event_py_throw(self.codelike, 1, KeyError())
        _testcapi.fire_event_py_throw(self.codelike, 2, KeyError())
        self.assertEqual(seen, [(Callback, 1)])
        self.assertIsNone(alive())

    def test_bytecode_callback_that_unregisters_itself(self):
        # Where no producer is: it dies as ever.
        class Callback:
            def __call__(self, code, offset):
                monitoring.register_callback(TOOL, E.PY_START, None)

        def function():
            pass

        callbacks = [Callback() for _ in range(10)]
        alive = [weakref.ref(callback) for callback in callbacks]
        while callbacks:
            monitoring.register_callback(TOOL, E.PY_START, callbacks.pop())
            monitoring.set_events(TOOL, E.PY_START)
            function()
            monitoring.set_events(TOOL, 0)
        self.assertEqual([ref() for ref in alive], [None] * 10)

    def test_no_reentry(self):
        for case in make_cases():
            with self.subTest(case.fire):
                def fire_all(code, *args):
                    enter(code, *names)
                    for other in make_cases():
                        fire(other, code, state=names.index(other.name))
                        # Not even checked.
                        fire(other, code, -1, state=names.index(other.name))
                    exit_scope()

                names = [name for name in EVENT_NAMES if name != "INSTRUCTION"]
                codelike = _testcapi.CodeLike(len(names))
                own = self.listen(case.name, callback=fire_all)
                others = self.listen(*names, tool=OTHER_TOOL)
                enter(codelike, *names)
                fire(case, codelike, state=names.index(case.name))
                monitoring.set_events(TOOL, 0)
                monitoring.set_events(OTHER_TOOL, 0)
                self.assertEqual(len(own), 1)
                self.assertEqual(len(others), 1)

    def test_other_threads_fire_while_a_callback_runs(self):
        def callback(code, offset):
            if threading.current_thread() is thread:
                return
            thread.start()
            thread.join()
            # In this thread a callback still runs.
            _testcapi.fire_event_py_resume(self.codelike, 3)

        thread = threading.Thread(target=_testcapi.fire_event_py_resume,
                                  args=(self.codelike, 2))
        calls = self.listen("PY_RESUME", callback=callback)
        enter(self.codelike, "PY_RESUME")
        _testcapi.fire_event_py_resume(self.codelike, 1)
        self.assertEqual([call[2] for call in calls], [1, 2])

    def test_bytecode_in_a_callback_fires_nothing(self):
        def function():
            pass

        seen = []
        monitoring.register_callback(OTHER_TOOL, E.PY_START,
                                     lambda code, offset: seen.append(code))
        monitoring.set_events(OTHER_TOOL, E.PY_START)
        self.listen("PY_RESUME", callback=lambda *args: function())
        with scope(self.codelike, "PY_RESUME"):
            _testcapi.fire_event_py_resume(self.codelike, 0)
        monitoring.set_events(OTHER_TOOL, 0)
        self.assertNotIn(function.__code__, seen)

    def test_f_lineno_cannot_be_set(self):
        def callback(*args):
            try:
                sys._getframe(2).f_lineno = line
            except ValueError as exc:
                errors.append(exc)

        def caller(case):
            nonlocal line
            line = sys._getframe().f_lineno + 1
            fire(case, self.codelike)
            return "returned"

        line = None
        for case in make_cases():
            with self.subTest(case.fire):
                errors = []
                self.listen(case.name, callback=callback)
                with scope(self.codelike, case.name):
                    self.assertEqual(caller(case), "returned")
                monitoring.set_events(TOOL, 0)
                self.assertEqual(len(errors), 1)

    def test_callback_that_is_removed_under_call_tracing(self):
        # Where bytecode's callback runs within, it is still kept.
        def remove():
            monitoring.register_callback(TOOL, E.LINE, None)
            gc.collect()
            removed.append(True)

        def start(code, offset):
            if code is traced.__code__ and not removed:
                sys.call_tracing(remove, ())

        def traced():
            pass

        removed = []
        monitoring.register_callback(OTHER_TOOL, E.PY_START, start)
        monitoring.set_local_events(OTHER_TOOL, traced.__code__, E.PY_START)
        # The cache's destructor releases what it calls.
        monitoring.register_callback(TOOL, E.LINE, functools.lru_cache(
            lambda code, line: sys.call_tracing(traced, ())))
        codelike = _testcapi.WeakCodeLike(1)
        monitoring.set_local_events(TOOL, codelike, E.LINE)
        enter(codelike, "LINE")
        _testcapi.fire_event_line(codelike, 0, 1)
        exit_scope()
        monitoring.set_local_events(OTHER_TOOL, traced.__code__, 0)
        self.assertEqual(removed, [True])

    def test_f_lineno_under_call_tracing(self):
        # A trace function may set it, until it comes to a producer's event.
        def callback(code, offset, exc):
            try:
                traced.f_lineno = traced.f_lineno
            except ValueError as error:
                errors.append(error)

        def trace(frame, event, arg):
            nonlocal traced
            if frame.f_code is not target.__code__:
                return None
            if event == "line" and traced is None:
                traced = frame
                sys.call_tracing(_testcapi.fire_event_py_throw,
                                 (self.codelike, 0, KeyError()))
                frame.f_lineno = frame.f_lineno
                allowed.append(frame)
            return trace

        def target():
            pass

        traced = None
        errors = []
        allowed = []
        # Bytecode of this test has no PY_THROW.
        monitoring.register_callback(TOOL, E.PY_THROW, callback)
        monitoring.set_events(TOOL, E.PY_THROW)
        enter(self.codelike, "PY_THROW")
        sys.settrace(trace)
        try:
            target()
        finally:
            sys.settrace(None)
        self.assertEqual(len(errors), 1)
        self.assertEqual(len(allowed), 1)

    def test_legacy_tools_get_nothing(self):
        def program():
            codelike = _testcapi.CodeLike(1)
            for case in make_cases():
                enter(codelike, case.name)
                self.assertEqual(codelike.states, bytes(2))
                fire(case, codelike)
                exit_scope()

        for setter in (sys.settrace, sys.setprofile):
            setter(lambda *args: None)
            try:
                program()
            finally:
                setter(None)

    def test_no_foreign_line_in_a_traced_frame(self):
        def trace(frame, event, arg):
            if event == "line" and frame.f_code is caller.__code__:
                lines.append(frame.f_lineno - first)
            return trace

        def caller():
            enter(codelike, "LINE", "JUMP")
            _testcapi.fire_event_line(codelike, 0, 12345)
            _testcapi.fire_event_jump(codelike, 1, 0)
            exit_scope()

        lines = []
        codelike = _testcapi.CodeLike(2)
        first = caller.__code__.co_firstlineno
        sys.settrace(trace)
        try:
            caller()
        finally:
            sys.settrace(None)
        self.assertEqual(lines, [1, 2, 3, 4])

    def test_bad_callback(self):
        # Bytecode of this test has no PY_THROW.
        for callback in (42, len):
            monitoring.register_callback(TOOL, E.PY_THROW, callback)
            monitoring.set_events(TOOL, E.PY_THROW)
            enter(self.codelike, "PY_THROW")
            self.assertRaises(TypeError, _testcapi.fire_event_py_throw,
                              self.codelike, 0, KeyError())
            monitoring.set_events(TOOL, 0)

    def test_producer(self):
        codelike = _testcapi.WeakCodeLike(0, "name", "file", 10)
        names = ("PY_START", "LINE", "PY_RETURN")
        for fresh in (True, False):
            calls = self.listen(*names)
            producer = _testcapi.Producer(
                codelike, tuple(IDS[name] for name in names),
                ((IDS["PY_START"], 0), (IDS["LINE"], 1, 10),
                 (IDS["LINE"], 2, 11), (IDS["PY_RETURN"], 3, "value")),
                fresh=fresh)
            producer()
            self.assertEqual(calls, [("PY_START", codelike, 0),
                                     ("LINE", codelike, 10),
                                     ("LINE", codelike, 11),
                                     ("PY_RETURN", codelike, 3, "value")])
            monitoring.set_events(TOOL, 0)
            producer()
            self.assertEqual(len(calls), 4)

    def test_kinds_of_codelikes(self):
        weak = _testcapi.WeakCodeLike(1, "name", "file", 10)
        alive = weakref.ref(weak)
        self.assertEqual(
            (weak.co_name, weak.co_filename, weak.co_firstlineno),
            ("name", "file", 10))
        calls = self.listen("LINE")
        with scope(weak, "LINE"):
            _testcapi.fire_event_line(weak, 0, 10)
        self.assertEqual(calls.pop(), ("LINE", weak, 10))
        del weak
        self.assertIsNone(alive())
        self.assertRaises(TypeError, weakref.ref, self.codelike)


class TestPendingException(MonitoringTestCase):
    # That it stays the same is checked at every fire_event_*() of this file.

    def listen_to_resume(self, callback):
        self.listen("PY_RESUME", callback=callback)
        enter(self.codelike, "PY_RESUME")
        self.addCleanup(exit_scope)

    def raised_by(self, callback, pending):
        """What arrives when callback runs with an exception pending."""
        self.listen_to_resume(callback)
        with self.assertRaises(Exception) as caught:
            _testcapi.fire_event_py_resume(self.codelike, 0, pending=pending)
        return caught.exception

    def test_kept(self):
        def callback(code, *args):
            self.assertIsNone(sys.exception())
            with self.assertRaises(ZeroDivisionError):
                1 / 0
            called.append(args)

        called = []
        for case in make_cases():
            with self.subTest(case.fire):
                self.listen(case.name, callback=callback)
                with scope(self.codelike, case.name):
                    fire(case, self.codelike, pending=KeyError("pending"))
                self.assertTrue(called)
                called.clear()
                monitoring.set_events(TOOL, 0)

    def test_handled_exception_is_not_the_pending_one(self):
        seen = []
        self.listen_to_resume(lambda *args: seen.append(sys.exception()))
        try:
            raise KeyError("handled")
        except KeyError as exc:
            handled = exc
            _testcapi.fire_event_py_resume(self.codelike, 0,
                                           pending=OSError("pending"))
        self.assertEqual(seen, [handled])

    def test_context(self):
        def fail(*args):
            raise ValueError("callback")

        for case in make_cases():
            with self.subTest(case.fire):
                pending = KeyError("pending")
                if case.name in EXCEPTION_EVENTS:
                    pending = case.args[0]
                self.listen(case.name, callback=fail)
                with scope(self.codelike, case.name):
                    with self.assertRaises(ValueError) as caught:
                        fire(case, self.codelike, pending=pending)
                self.assertEqual(chain(caught.exception),
                                 [caught.exception, pending])
                monitoring.set_events(TOOL, 0)

    def test_context_of_errors_of_the_api(self):
        pending = KeyError("pending")
        self.listen_to_resume(None)
        with self.assertRaises(ValueError) as caught:
            _testcapi.fire_event_py_resume(self.codelike, -1, pending=pending)
        self.assertEqual(chain(caught.exception),
                         [caught.exception, pending])

    def test_pending_exception_raised_again(self):
        def fail(*args):
            raise pending

        pending = KeyError("pending")
        self.assertIs(self.raised_by(fail, pending), pending)
        self.assertEqual(chain(pending), [pending])

    def test_callback_handled_another_exception(self):
        def fail(*args):
            try:
                1 / 0
            except ZeroDivisionError:
                raise ValueError("callback")

        pending = KeyError("pending")
        exc = self.raised_by(fail, pending)
        self.assertEqual([type(link) for link in chain(exc)],
                         [ValueError, ZeroDivisionError, KeyError])

    def test_callback_raises_a_context_of_the_pending_exception(self):
        def fail(*args):
            raise inner

        inner = ValueError("inner")
        middle = OSError("middle")
        pending = KeyError("pending")
        pending.__context__ = middle
        middle.__context__ = inner
        exc = self.raised_by(fail, pending)
        self.assertIs(exc, inner)
        self.assertEqual(chain(exc), [inner, pending, middle])

    def test_callback_raises_with_the_pending_exception_as_context(self):
        def fail(*args):
            try:
                raise pending
            except KeyError:
                raise ValueError("callback")

        pending = KeyError("pending")
        exc = self.raised_by(fail, pending)
        self.assertEqual(chain(exc), [exc, pending])

    def test_in_an_except_block(self):
        def fail(*args):
            raise ValueError("callback")

        for context in (True, False):
            with self.subTest(context=context):
                pending = OSError("pending")
                try:
                    raise KeyError("handled")
                except KeyError as exc:
                    handled = exc
                    if context:
                        pending.__context__ = handled
                    raised = self.raised_by(fail, pending)
                self.assertIs(raised.__context__, pending)
                self.assertEqual(chain(pending)[1:],
                                 [handled] if context else [])

    def test_chains_that_join(self):
        def fail(*args):
            raised = ValueError("callback")
            raised.__context__ = own
            # Raising sets __context__ only where something is handled.
            raise raised

        shared = LookupError("shared")
        own = OSError("own")
        own.__context__ = shared
        pending = KeyError("pending")
        pending.__context__ = shared
        exc = self.raised_by(fail, pending)
        self.assertEqual(chain(exc), [exc, own, pending, shared])

    def test_ring_of_contexts(self):
        def fail(*args):
            raise raised

        def make_ring(length):
            ring = [OSError(i) for i in range(length)]
            for i in range(length):
                ring[i - 1].__context__ = ring[i]
            return ring

        def unlink(excs):
            for exc in excs:
                exc.__context__ = None

        for length in (2, 3, 4, 7):
            with self.subTest(length=length):
                ring = make_ring(length)
                self.addCleanup(unlink, ring)
                # Of the pending exception, before it and behind it.
                raised = ValueError("callback")
                self.assertIs(self.raised_by(fail, ring[0]), raised)
                self.assertIs(raised.__context__, ring[0])
                pending = KeyError("pending")
                pending.__context__ = ring[1]
                raised = ValueError("callback")
                self.assertIs(self.raised_by(fail, pending), raised)
                self.assertIs(raised.__context__, pending)
                # Of the exception that is raised.
                pending = KeyError("pending")
                raised = ValueError("callback")
                raised.__context__ = ring[0]
                self.assertIs(self.raised_by(fail, pending), raised)
                self.assertEqual(chain(raised), [raised, pending])


class Plain:
    """A code-like that is no code object."""

    co_name = "plain"
    co_filename = "plain.src"
    co_firstlineno = 1


def make_codelikes():
    """One code-like of each kind that can be weakly referenced."""
    namespace = {}
    exec("def function():\n    a = 1\n    return a\n", namespace)
    return {
        "type of C": _testcapi.WeakCodeLike(0),
        "code object": namespace["function"].__code__,
        "empty code object": _testcapi.code_newempty("empty.src", "empty", 1),
        "object": Plain(),
    }


class CodelikeTestCase(MonitoringTestCase):
    """Events of any code-like, told by a producer that fires each in turn."""

    def setUp(self):
        super().setUp()
        self.codelikes = make_codelikes()

    def each_codelike(self, check):
        """Call check(codelike, fresh) for each kind of both."""
        for kind, codelike in make_codelikes().items():
            for fresh in (True, False):
                with self.subTest(kind=kind, fresh=fresh):
                    check(codelike, fresh)
                for tool in range(6):
                    monitoring.set_events(tool, 0)
                monitoring.restart_events()

    def tell(self, codelike, name, result=None, *, tool=TOOL, events=None):
        """Have a tool listen to an event; return what it is told of codelike.

        result is what the callback returns.  The event set is that of the
        event; with events=0 the tool does not listen.
        """
        told = []

        def callback(code, *args):
            if code is codelike:
                told.append(args[0])
                return result

        monitoring.register_callback(tool, getattr(E, name), callback)
        if events is None:
            events = EVENT_SETS[name]
        monitoring.set_events(tool, events)
        return told


def line_producer(codelike, lines, **kwargs):
    return _testcapi.Producer(
        codelike, (IDS["PY_START"], IDS["LINE"]),
        tuple((IDS["LINE"], offset, line)
              for offset, line in enumerate(lines)), **kwargs)


class TestDisable(CodelikeTestCase):

    def test_each_line_once(self):
        # What a coverage tool does.
        def check(codelike, fresh):
            producer = line_producer(codelike, (1, 2, 3, 2, 3, 4), fresh=fresh)
            lines = self.tell(codelike, "LINE", DISABLE)
            producer()
            producer()
            self.assertEqual(lines, [1, 2, 3, 4])
            # A new array of states, an old location.
            line_producer(codelike, (5, 4, 3), fresh=fresh)()
            self.assertEqual(lines, [1, 2, 3, 4, 5])

        self.each_codelike(check)

    def test_each_location_once(self):
        names = sorted(CAN_DISABLE - {"LINE"})
        args = {case.name: case.args for case in make_cases()}

        def check(codelike, fresh):
            actions = [(IDS[name], offset, *args[name])
                       for offset in (0, 7, 2**31 - 1, 7) for name in names]
            producer = _testcapi.Producer(
                codelike, tuple(IDS[name] for name in names), tuple(actions),
                fresh=fresh)
            told = {}
            for tool, result in ((TOOL, DISABLE), (OTHER_TOOL, None)):
                for name in names:
                    told[tool, name] = self.tell(codelike, name, result,
                                                 tool=tool)
                monitoring.set_events(tool, sum(EVENT_SETS[name]
                                                for name in names))
            producer()
            producer()
            for name in names:
                self.assertEqual(told[TOOL, name], [0, 7, 2**31 - 1], name)
                self.assertEqual(told[OTHER_TOOL, name],
                                 [0, 7, 2**31 - 1, 7] * 2, name)

        self.each_codelike(check)

    def test_other_codelikes_are_not_disabled(self):
        producers = []
        told = []
        for codelike in self.codelikes.values():
            producers.append(line_producer(codelike, (1, 2)))
        monitoring.register_callback(
            TOOL, E.LINE, lambda code, line:
            told.append((code, line)) or DISABLE
            if code in self.codelikes.values() else None)
        monitoring.set_events(TOOL, E.LINE)
        for producer in producers * 2:
            producer()
        monitoring.set_events(TOOL, 0)
        self.assertEqual(told, [(codelike, line)
                                for codelike in self.codelikes.values()
                                for line in (1, 2)])

    def test_holds_across_changes(self):
        def check(codelike, fresh):
            producer = line_producer(codelike, (1, 2), fresh=fresh)
            lines = self.tell(codelike, "LINE", DISABLE)
            producer()
            monitoring.set_events(OTHER_TOOL, E.PY_START)
            producer()
            monitoring.set_events(TOOL, 0)
            producer()
            monitoring.set_events(TOOL, E.LINE | E.PY_START)
            producer()
            again = self.tell(codelike, "LINE")
            producer()
            self.assertEqual(lines, [1, 2])
            self.assertEqual(again, [])

        self.each_codelike(check)

    def test_restart_events(self):
        def check(codelike, fresh):
            producer = line_producer(codelike, (1, 2), fresh=fresh)
            lines = self.tell(codelike, "LINE", DISABLE)
            producer()
            monitoring.restart_events()
            producer()
            producer()
            self.assertEqual(lines, [1, 2, 1, 2])

        self.each_codelike(check)

    def test_free_tool_id(self):
        def check(codelike, fresh):
            producer = line_producer(codelike, (1, 2), fresh=fresh)
            lines = self.tell(codelike, "LINE", DISABLE)
            others = self.tell(codelike, "LINE", DISABLE, tool=OTHER_TOOL)
            producer()
            monitoring.free_tool_id(TOOL)
            monitoring.use_tool_id(TOOL, "another")
            producer()
            self.assertEqual(lines, [1, 2, 1, 2])
            self.assertEqual(others, [1, 2])

        self.each_codelike(check)

    def check_next_owner(self, codelike, producer):
        """Have another take the tool, who must be told of all lines."""
        if monitoring.get_tool(TOOL) is None:
            monitoring.use_tool_id(TOOL, "another")
        lines = self.tell(codelike, "LINE")
        producer()
        self.assertEqual(lines, [1, 2])

    def test_callback_that_frees_its_tool(self):
        # What it then disables is not disabled for the next owner.
        def check(codelike, fresh):
            def free(code, line):
                if code is codelike:
                    monitoring.free_tool_id(TOOL)
                    if at_once:
                        monitoring.use_tool_id(TOOL, "another")
                    return DISABLE

            for at_once in (True, False):
                with self.subTest(at_once=at_once):
                    producer = line_producer(codelike, (1, 2), fresh=fresh)
                    only_first = line_producer(codelike, (1,), fresh=fresh)
                    monitoring.register_callback(TOOL, E.LINE, free)
                    monitoring.set_events(TOOL, E.LINE)
                    only_first()
                    self.check_next_owner(codelike, producer)
                    monitoring.restart_events()

        self.each_codelike(check)

    def test_callback_that_frees_another_tool(self):
        # That tool is told of the event, for which the tools are fixed.
        def check(codelike, fresh):
            def free(code, line):
                if code is codelike:
                    monitoring.free_tool_id(TOOL)

            producer = line_producer(codelike, (1, 2), fresh=fresh)
            only_first = line_producer(codelike, (1,), fresh=fresh)
            lines = self.tell(codelike, "LINE", DISABLE)
            monitoring.register_callback(OTHER_TOOL, E.LINE, free)
            monitoring.set_events(OTHER_TOOL, E.LINE)
            only_first()
            monitoring.set_events(OTHER_TOOL, 0)
            self.assertEqual(lines, [1])
            self.check_next_owner(codelike, producer)

        self.each_codelike(check)

    def test_tool_that_is_freed_while_its_callback_runs(self):
        def check(codelike, fresh):
            def callback(code, line):
                if code is codelike:
                    running.set()
                    freed.wait(support.SHORT_TIMEOUT)
                    return DISABLE

            running = threading.Event()
            freed = threading.Event()
            producer = line_producer(codelike, (1, 2), fresh=fresh)
            only_first = line_producer(codelike, (1,), fresh=fresh)
            monitoring.register_callback(TOOL, E.LINE, callback)
            monitoring.set_events(TOOL, E.LINE)
            # Not with the empty keywords that a thread would pass.
            thread = threading.Thread(target=lambda: only_first())
            with threading_helper.start_threads([thread]):
                self.assertTrue(running.wait(support.SHORT_TIMEOUT))
                monitoring.free_tool_id(TOOL)
                monitoring.use_tool_id(TOOL, "another")
                freed.set()
            self.check_next_owner(codelike, producer)

        self.each_codelike(check)

    def test_freed_tool_leaves_the_callback_of_its_next_owner(self):
        # PY_THROW cannot be disabled: the callback that tries is removed.
        def new(*args):
            pass

        def old(code, offset, exc):
            monitoring.free_tool_id(TOOL)
            monitoring.use_tool_id(TOOL, "another")
            monitoring.register_callback(TOOL, E.PY_THROW, new)
            return DISABLE

        monitoring.register_callback(TOOL, E.PY_THROW, old)
        monitoring.set_events(TOOL, E.PY_THROW)
        enter(self.codelike, "PY_THROW")
        with self.assertRaisesRegex(ValueError, "Cannot disable"):
            _testcapi.fire_event_py_throw(self.codelike, 0, KeyError())
        exit_scope()
        self.assertIs(monitoring.register_callback(TOOL, E.PY_THROW, None),
                      new)

    def test_callback_of_the_weak_reference(self):
        # Everybody can get at it.
        codelike = Plain()
        lines = self.tell(codelike, "LINE", DISABLE)
        producer = line_producer(codelike, (1, 2))
        producer()
        for ref in weakref.getweakrefs(codelike):
            if ref.__callback__ is not None:
                ref.__callback__(ref)
                ref.__callback__(b"no reference" * 20)
                ref.__callback__(None)
        producer()
        self.assertEqual(lines, [1, 2])

    def test_none_is_no_dead_codelike(self):
        # Weak references that died are equal to None for a moment, in which
        # some have the place in a table where it is looked for.
        def callback(code, line):
            if code is None:
                lines.append(line)
            return DISABLE if isinstance(code, _testcapi.WeakCodeLike) else None

        def fire(codelike):
            _testcapi.Producer(codelike, (IDS["LINE"],),
                               ((IDS["LINE"], 1, 7),))()

        lines = []
        others = []
        monitoring.register_callback(TOOL, E.LINE, callback)
        monitoring.set_events(TOOL, E.LINE)
        for _ in range(200):
            codelike = _testcapi.WeakCodeLike(1)
            fire(codelike)
            reference = weakref.ref(codelike, lambda _: fire(None))
            del codelike
            # The next one gets another address.
            others.append(_testcapi.WeakCodeLike(1))
        monitoring.set_events(TOOL, 0)
        self.assertEqual(lines, [7] * 200)

    @support.skip_if_sanitizer("uses no address again soon", address=True)
    @unittest.skipIf(support.Py_GIL_DISABLED, "memory is not given back soon")
    def test_address_used_again_after_an_untold_death(self):
        # Weak references are not told where a tuple cannot be made for them.
        script_helper.assert_python_ok("-c", textwrap.dedent("""
            import sys, _testcapi

            def told(codelike):
                offsets.clear()
                _testcapi.monitoring_enter_scope(codelike, PY_YIELD)
                _testcapi.fire_event_py_yield(codelike, 0, None)
                return offsets

            def callback(code, offset, value):
                offsets.append(offset)
                return M.DISABLE

            M = sys.monitoring
            PY_YIELD = 3
            M.use_tool_id(3, "test")
            M.register_callback(3, M.events.PY_YIELD, callback)
            M.set_events(3, M.events.PY_YIELD)
            offsets = []
            again = 0
            for start in range(4):
                codelike = _testcapi.WeakCodeLike(1)
                assert told(codelike) == [0]
                address = id(codelike)
                # What is kept for tuples is used up.
                tuples = [(i, start) for i in range(3000)]
                _testcapi.set_nomemory(start)
                del codelike
                _testcapi.remove_mem_hooks()
                others = []
                for _ in range(10_000):
                    others.append(_testcapi.WeakCodeLike(1))
                    if id(others[-1]) == address:
                        again += 1
                        assert told(others[-1]) == [0], start
                        break
            assert again
        """))

    def test_callback_that_a_freed_tool_left_behind(self):
        # Its events stay too, until somebody sets others.
        def check(codelike, fresh):
            producer = line_producer(codelike, (1, 2), fresh=fresh)
            only_first = line_producer(codelike, (1,), fresh=fresh)
            lines = self.tell(codelike, "LINE", DISABLE)
            monitoring.free_tool_id(TOOL)
            only_first()
            self.assertEqual(lines, [1])
            self.check_next_owner(codelike, producer)

        self.each_codelike(check)

    @support.skip_if_sanitizer("uses no address again soon", address=True)
    def test_address_used_again(self):
        addresses = set()
        told = []
        for i in range(300):
            codelike = Plain()
            addresses.add(id(codelike))
            told.append(self.tell(codelike, "LINE", DISABLE))
            producer = line_producer(codelike, (1, 2))
            producer()
            producer()
            del producer, codelike
            monitoring.register_callback(TOOL, E.LINE, None)
        self.assertLess(len(addresses), 300)
        self.assertEqual(told, [[1, 2]] * 300)

    def test_codelike_is_not_kept_alive(self):
        codelike = Plain()
        codelike.itself = codelike
        alive = weakref.ref(codelike)
        producer = line_producer(codelike, (1, 2))
        monitoring.register_callback(TOOL, E.LINE, lambda *args: DISABLE)
        monitoring.set_events(TOOL, E.LINE)
        producer()
        monitoring.set_events(TOOL, 0)
        del codelike, producer
        gc.collect()
        self.assertIsNone(alive())

    def test_memory_goes_with_the_codelike(self):
        def run():
            codelikes = [Plain() for _ in range(2000)]
            for codelike in codelikes:
                line_producer(codelike, range(20))()

        monitoring.register_callback(TOOL, E.LINE, lambda *args: DISABLE)
        monitoring.set_events(TOOL, E.LINE)
        run()
        before = sys.getallocatedblocks()
        run()
        grown = sys.getallocatedblocks() - before
        monitoring.set_events(TOOL, 0)
        self.assertLess(grown, 200)

    def test_many_locations(self):
        codelike = Plain()
        number = 20_000
        producer = line_producer(codelike, range(number))
        lines = self.tell(codelike, "LINE", DISABLE)
        producer()
        producer()
        self.assertEqual(lines, list(range(number)))

    def test_without_weak_references(self):
        # The state is off until it is next written.
        def check(case, calls):
            others = self.listen(case.name, tool=OTHER_TOOL)
            disabling = self.listen(case.name,
                                    callback=lambda *args: DISABLE)
            enter(self.codelike, case.name)
            for _ in range(3):
                fire(case, self.codelike)
                # Nothing changed, so nothing is written.
                enter(self.codelike, case.name)
            self.assertEqual(len(disabling), 1)
            self.assertEqual(len(others), 3)
            monitoring.restart_events()
            enter(self.codelike, case.name)
            fire(case, self.codelike)
            self.assertEqual(len(disabling), 2)

        self.each_case(check, [case for case in make_cases()
                               if case.name in CAN_DISABLE])

    def test_cannot_disable(self):
        def check(case, calls):
            disabling = self.listen(case.name, callback=lambda *args: DISABLE)
            others = self.listen(case.name, tool=TOOL - 1)
            enter(self.codelike, case.name)
            message = (f"^Cannot disable {case.name} events. "
                       "Callback removed.$")
            with self.assertRaisesRegex(ValueError, message):
                fire(case, self.codelike)
            self.assertEqual(others, [])
            fire(case, self.codelike)
            self.assertEqual(len(disabling), 1)
            self.assertEqual(len(others), 1)
            self.assertIsNone(monitoring.register_callback(
                TOOL, getattr(E, case.name), None))

        self.each_case(check, [case for case in make_cases()
                               if case.name not in CAN_DISABLE])


class TestCoverage(CodelikeTestCase):
    """A tool that disables each line is told of each line once.

    The functions have one state for all their lines, in an array on the C
    stack that is new at each call, or in one that lives as long as they do.
    """

    def disable_lines(self, codelike):
        return self.tell(codelike, "LINE", DISABLE)

    def test_loops_and_calls(self):
        def check(codelike, fresh):
            loop = line_producer(codelike, (1, *(2, 3, 4) * 50, 2, 5),
                                 fresh=fresh)
            lines = self.disable_lines(codelike)
            for _ in range(3):
                loop()
            self.assertEqual(lines, [1, 2, 3, 4, 5])

        self.each_codelike(check)

    def test_one_offset_for_all_lines(self):
        def check(codelike, fresh):
            producer = _testcapi.Producer(
                codelike, (IDS["LINE"],),
                tuple((IDS["LINE"], 0, line) for line in (1, 2, 1, 300, 3, 2)),
                fresh=fresh)
            lines = self.disable_lines(codelike)
            producer()
            producer()
            self.assertEqual(lines, [1, 2, 300, 3])

        self.each_codelike(check)

    def test_lines_that_run_later(self):
        def check(codelike, fresh):
            def change():
                # Other tools, and another event of this one.
                monitoring.set_events(OTHER_TOOL, next(events))
                monitoring.set_events(TOOL, E.LINE | next(events))

            events = itertools.cycle((0, E.PY_START, E.JUMP | E.CALL))
            lines = self.disable_lines(codelike)
            expected = []
            for last in range(1, 8):
                producer = _testcapi.Producer(
                    codelike, (IDS["LINE"], IDS["PY_START"]),
                    (*((IDS["LINE"], line, line) for line in range(1, last)),
                     change, (IDS["LINE"], last, last),
                     None, (IDS["LINE"], last, last)), fresh=fresh)
                producer()
                producer()
                expected.append(last)
                self.assertEqual(lines, expected)

        self.each_codelike(check)

    def test_recursion(self):
        def check(codelike, fresh):
            def recurse():
                nonlocal depth
                depth -= 1
                if depth >= 0:
                    producer()
                depth += 1

            depth = 3
            producer = _testcapi.Producer(
                codelike, (IDS["LINE"],),
                ((IDS["LINE"], 1, 1), recurse, (IDS["LINE"], 2, 2)),
                fresh=fresh)
            lines = self.disable_lines(codelike)
            producer()
            producer()
            self.assertEqual(lines, [1, 2])

        self.each_codelike(check)

    def test_generators(self):
        # Of one code-like: each exits its scope where it yields.
        def check(codelike, fresh):
            lines = self.disable_lines(codelike)
            generators = [
                [_testcapi.Producer(
                    codelike, (IDS["PY_START"], IDS["PY_RESUME"], IDS["LINE"],
                               IDS["PY_YIELD"]),
                    ((IDS["LINE"], line, line), (IDS["PY_YIELD"], line, None),
                     (IDS["LINE"], 9, 9)), fresh=fresh)
                 for line in (1, 2, 3)]
                for _ in range(4)]
            for parts in zip(*generators):
                for resume in parts:
                    resume()
            self.assertEqual(lines, [1, 9, 2, 3])

        self.each_codelike(check)

    def test_functions_by_turns(self):
        told = []
        monitoring.register_callback(
            TOOL, E.LINE, lambda code, line:
            told.append((code, line)) or DISABLE
            if code in functions else None)
        functions = [codelike for _ in range(5)
                     for codelike in make_codelikes().values()]
        producers = [line_producer(codelike, (1, 2), fresh=fresh)
                     for fresh in (True, False) for codelike in functions]
        monitoring.set_events(TOOL, E.LINE)
        for producer in producers * 2:
            producer()
        monitoring.set_events(TOOL, 0)
        self.assertEqual(told, [(codelike, line) for codelike in functions
                                for line in (1, 2)])

    def test_beside_a_tool_that_is_told_always(self):
        def check(codelike, fresh):
            producer = line_producer(codelike, (1, 2, 1), fresh=fresh)
            lines = self.disable_lines(codelike)
            others = self.tell(codelike, "LINE", tool=OTHER_TOOL)
            producer()
            producer()
            self.assertEqual(lines, [1, 2])
            self.assertEqual(others, [1, 2, 1] * 2)

        self.each_codelike(check)

    def test_bytecode_and_its_producer(self):
        # What one of them disables is not disabled for the other.
        for fresh in (True, False):
            for bytecode_first in (True, False):
                namespace = {}
                exec("def function():\n    a = 1\n    return a\n", namespace)
                function = namespace["function"]
                producer = line_producer(function.__code__, (2, 3, 4),
                                         fresh=fresh)
                lines = self.disable_lines(function.__code__)
                parts = [(function, [2, 3]), (producer, [2, 3, 4])]
                if not bytecode_first:
                    parts.reverse()
                for _ in range(2):
                    for call, expected in parts:
                        call()
                monitoring.set_events(TOOL, 0)
                self.assertEqual(lines, parts[0][1] + parts[1][1])


def assert_same(test, found, expected):
    """Compare long lists: the difference of all of them would take long."""
    different = [pair for pair in zip(found, expected) if pair[0] != pair[1]]
    test.assertEqual(different[:5], [])
    test.assertEqual(len(found), len(expected))


class Numbers:
    """Keeps numbers that callbacks get, with what they were then."""

    def __init__(self):
        self.kept = []
        self.texts = []

    def keep(self, number):
        self.kept.append(number)
        self.texts.append(str(number))

    def check(self, test, expected):
        """They are what was fired, and still what they were."""
        assert_same(test, [str(number) for number in self.kept], self.texts)
        assert_same(test, self.kept, [*expected])


def enter_at_once(codelike, name):
    """Enter a scope of one event; no bytecode of this fires PY_RESUME."""
    _testcapi.monitoring_enter_scope(codelike, IDS[name])


class TestKeptNumbers(MonitoringTestCase):
    """An offset or line that a callback keeps never changes."""

    NUMBERS = range(300, 5000)

    def keep(self, name, tool=TOOL):
        numbers = Numbers()

        def callback(code, number, *args):
            if isinstance(code, _testcapi.CodeLike):
                numbers.keep(number)

        monitoring.register_callback(tool, getattr(E, name), callback)
        monitoring.set_events(tool, EVENT_SETS[name])
        return numbers

    def test_every_event(self):
        for case, tools in itertools.product(make_cases(),
                                             [(TOOL,), (1, TOOL, 5)]):
            with self.subTest(case.fire, tools=tools):
                kept = [self.keep(case.name, tool) for tool in tools]
                numbers = range(300, 5000, 5)
                enter(self.codelike, case.name)
                for number in numbers:
                    if case.name == "LINE":
                        case = case._replace(args=(number,))
                    fire(case, self.codelike, number)
                exit_scope()
                for tool in tools:
                    monitoring.set_events(tool, 0)
                for numbers_of_tool in kept:
                    numbers_of_tool.check(self, numbers)

    def test_one_tool(self):
        # One that keeps them all, or each other one, or lets each go.
        for every in (1, 2, 7):
            numbers = Numbers()
            monitoring.register_callback(
                TOOL, E.PY_RESUME, lambda code, offset:
                offset % every or numbers.keep(offset))
            monitoring.set_events(TOOL, E.PY_RESUME)
            enter_at_once(self.codelike, "PY_RESUME")
            for number in self.NUMBERS:
                _testcapi.fire_event_py_resume(self.codelike, number)
            exit_scope()
            numbers.check(self, [number for number in self.NUMBERS
                                 if number % every == 0])

    def test_nested_scopes(self):
        def recurse(first, depth):
            enter(self.codelike, "PY_RESUME")
            for number in range(first, first + 10):
                _testcapi.fire_event_py_resume(self.codelike, number)
                fired.append(number)
                if depth and number % 5 == 0:
                    recurse(number + 100, depth - 1)
            exit_scope()

        for tools in ((TOOL,), (0, TOOL)):
            fired = []
            kept = [self.keep("PY_RESUME", tool) for tool in tools]
            recurse(300, 6)
            self.assertGreater(len(fired), 1000)
            for numbers in kept:
                numbers.check(self, fired)

    def test_generators(self):
        def generator(codelike, first):
            # The callback makes one too, which is never exhausted.
            for number in range(first, first + 300):
                enter(codelike, "PY_THROW")
                _testcapi.fire_event_py_throw(codelike, number, exc)
                fired.append(number)
                exit_scope()
                yield number

        def callback(code, offset, exc):
            def inner():
                yield offset
                yield offset
            suspended.append(inner())
            numbers.keep(next(suspended[-1]))

        exc = KeyError()
        fired = []
        suspended = []
        numbers = Numbers()
        monitoring.register_callback(TOOL, E.PY_THROW, callback)
        monitoring.set_events(TOOL, E.PY_THROW)
        generators = [generator(_testcapi.CodeLike(1), 1000 * i)
                      for i in range(1, 5)]
        while any([next(running, None) for running in generators]):
            pass
        self.assertEqual(len(fired), 1200)
        numbers.check(self, fired)
        assert_same(self, [next(inner) for inner in suspended], fired)

    def test_ways_to_keep(self):
        class Callback:
            def __call__(self, *args):
                kept.append(lambda: args[1])

            def method(self, code, offset):
                kept.append(functools.partial(int, offset))

        def frame(code, offset):
            found = sys._getframe()
            kept.append(lambda: found.f_locals["offset"])

        def generator(code, offset):
            kept.append(lambda: offset)
            return (offset for _ in range(2))

        def failing(code, offset):
            raise OSError(offset)

        def keeping_instance(self, code, offset):
            kept.append(lambda: offset)

        instance = Callback()
        for callback in (instance, instance.method, frame, generator,
                         failing, functools.partial(generator),
                         keeping_instance.__get__(instance)):
            with self.subTest(callback):
                kept = []
                expected = []
                monitoring.register_callback(TOOL, E.PY_RESUME, callback)
                monitoring.set_events(TOOL, E.PY_RESUME)
                enter_at_once(self.codelike, "PY_RESUME")
                for number in range(300, 2000):
                    try:
                        _testcapi.fire_event_py_resume(self.codelike, number)
                    except OSError as exc:
                        found = exc.__traceback__.tb_next.tb_frame
                        error = exc.with_traceback(None)
                        kept.append(lambda error=error: error.args[0])
                        kept.append(lambda found=found:
                                    found.f_locals["offset"])
                        expected.append(number)
                    expected.append(number)
                exit_scope()
                monitoring.set_events(TOOL, 0)
                assert_same(self, [get() for get in kept], expected)

    def test_callbacks_of_c(self):
        # They get borrowed references; one keeps its argument last.
        class Key(Plain):
            def __hash__(self):
                # Foreign code runs, a tracer's way, before it is kept.
                sys.call_tracing(nested, ())
                return id(self)

        def nested():
            for number in range(6000, 6004):
                _testcapi.fire_event_py_throw(other, number, KeyError())

        other = _testcapi.CodeLike(1)
        kept = {}
        # Of the inner events no number is kept, so that it may be used again.
        inner = []
        monitoring.register_callback(
            OTHER_TOOL, E.PY_THROW, lambda code, offset, exc:
            inner.append(str(offset)))
        monitoring.set_events(OTHER_TOOL, E.PY_THROW)
        enter(other, "PY_THROW")
        keys = [Key() for _ in range(500)]
        producers = [
            # Of two events one number at most is kept.
            _testcapi.Producer(key, (IDS["PY_RESUME"],),
                               ((IDS["PY_RESUME"], number),) * 2)
            for number, key in enumerate(keys, 300)]
        for callback in (kept.setdefault, kept.__setitem__,
                         types.MethodType(dict.setdefault, kept),
                         functools.partial(operator.setitem, kept)):
            with self.subTest(callback):
                kept.clear()
                monitoring.register_callback(TOOL, E.PY_RESUME, callback)
                monitoring.set_events(TOOL, E.PY_RESUME)
                for producer in producers:
                    producer()
                monitoring.set_events(TOOL, 0)
                assert_same(self, [*kept.values()],
                            [*range(300, 300 + len(keys))])
        monitoring.set_events(OTHER_TOOL, 0)
        assert_same(self, inner, [str(number) for number in range(6000, 6004)]
                    * (8 * len(keys)))

    def test_disable_and_local_events(self):
        numbers = Numbers()
        codelikes = [_testcapi.WeakCodeLike(0) for _ in range(5)]
        monitoring.register_callback(
            TOOL, E.JUMP, lambda code, offset, target:
            numbers.keep(offset) or DISABLE if code in codelikes else None)
        for codelike in codelikes[1:]:
            monitoring.set_local_events(TOOL, codelike, E.JUMP)
        actions = tuple((IDS["JUMP"], offset, 7)
                        for offset in range(300, 1300))
        for codelike in codelikes * 2:
            _testcapi.Producer(codelike, (IDS["JUMP"],), actions)()
        numbers.check(self, [*range(300, 1300)] * 4)

    def test_threads(self):
        def callback(code, offset):
            if not isinstance(code, _testcapi.CodeLike):
                return
            text = str(offset)
            if offset % 16 == 0:
                time.sleep(0)
            numbers[threading.get_ident()].keep(offset)
            if str(offset) != text:
                changed.append((text, offset))

        def run(first):
            numbers[threading.get_ident()] = Numbers()
            codelike = shared if first % 2 else _testcapi.CodeLike(1)
            enter(codelike, "PY_RESUME")
            for number in range(first, first + 2000):
                _testcapi.fire_event_py_resume(codelike, number)
            exit_scope()
            expected[threading.get_ident()] = range(first, first + 2000)

        interval = sys.getswitchinterval()
        self.addCleanup(sys.setswitchinterval, interval)
        support.setswitchinterval(1e-5)
        shared = self.codelike
        for tools in ((TOOL,), (0, TOOL)):
            numbers = {}
            expected = {}
            changed = []
            for tool in tools:
                monitoring.register_callback(
                    tool, E.PY_RESUME,
                    callback if tool == TOOL else lambda code, offset: offset)
                monitoring.set_events(tool, E.PY_RESUME)
            threads = [threading.Thread(target=run, args=(300 + 501 * i,))
                       for i in range(4)]
            with threading_helper.start_threads(threads):
                pass
            self.assertEqual(changed, [])
            self.assertEqual(len(expected), 4)
            for ident, fired in expected.items():
                numbers[ident].check(self, fired)


class TestLocalEvents(CodelikeTestCase):

    def set_local(self, codelike, events, tool=TOOL):
        monitoring.set_local_events(tool, codelike, events)
        self.addCleanup(monitoring.set_local_events, tool, codelike, 0)

    def test_only_that_codelike(self):
        for kind, codelike in self.codelikes.items():
            with self.subTest(kind):
                lines = {name: self.tell(other, "LINE", events=0, tool=tool)
                         for tool, (name, other)
                         in enumerate(self.codelikes.items())}
                for tool in range(len(lines)):
                    monitoring.set_local_events(tool, codelike, E.LINE)
                for other in self.codelikes.values():
                    line_producer(other, (1, 2))()
                for tool in range(len(lines)):
                    monitoring.set_local_events(tool, codelike, 0)
                line_producer(codelike, (3,))()
                self.assertEqual(lines.pop(kind), [1, 2])
                self.assertEqual(list(lines.values()), [[]] * len(lines))

    def test_get_and_set(self):
        for kind, codelike in self.codelikes.items():
            with self.subTest(kind):
                for events in (E.LINE, E.PY_START | E.CALL, 0, E.JUMP):
                    monitoring.set_local_events(TOOL, codelike, events)
                    self.assertEqual(
                        monitoring.get_local_events(TOOL, codelike), events)
                    self.assertEqual(
                        monitoring.get_local_events(OTHER_TOOL, codelike), 0)
                monitoring.set_local_events(TOOL, codelike, 0)
                self.assertEqual(weakref.getweakrefcount(codelike), 0)
                self.assertRaises(ValueError, monitoring.set_local_events,
                                  TOOL, codelike, E.RAISE)
                self.assertRaises(ValueError, monitoring.set_local_events,
                                  TOOL, codelike, E.C_RETURN)
                monitoring.free_tool_id(TOOL)
                self.assertRaises(ValueError, monitoring.set_local_events,
                                  TOOL, codelike, E.LINE)
                monitoring.use_tool_id(TOOL, "test")
                self.assertEqual(
                    monitoring.get_local_events(TOOL, codelike), 0)

    def test_not_a_codelike(self):
        class Incomplete:
            co_name = co_filename = "x"

        class Failing(Incomplete):
            @property
            def co_firstlineno(self):
                raise OSError("fails")

        for codelike in (None, "x", object(), Incomplete(), self.codelike):
            with self.subTest(codelike):
                self.assertRaises(TypeError, monitoring.set_local_events,
                                  TOOL, codelike, E.LINE)
                self.assertRaises(TypeError, monitoring.get_local_events,
                                  TOOL, codelike)
        self.assertRaises(OSError, monitoring.set_local_events, TOOL,
                          Failing(), E.LINE)

    def test_beside_global_events(self):
        codelike = self.codelikes["object"]
        lines = self.tell(codelike, "LINE")
        starts = self.tell(codelike, "PY_START", events=E.LINE)
        producer = _testcapi.Producer(
            codelike, (IDS["LINE"], IDS["PY_START"]),
            ((IDS["PY_START"], 0), (IDS["LINE"], 1, 10)))
        producer()
        self.set_local(codelike, E.PY_START | E.LINE)
        producer()
        monitoring.set_events(TOOL, 0)
        producer()
        monitoring.set_local_events(TOOL, codelike, 0)
        producer()
        self.assertEqual(lines, [10] * 3)
        self.assertEqual(starts, [0] * 2)

    def test_nothing_is_paid_without(self):
        codelike = _testcapi.WeakCodeLike(1)
        monitoring.set_local_events(TOOL, codelike, E.LINE)
        other = _testcapi.WeakCodeLike(1)
        enter(other, "LINE")
        self.assertEqual(other.states, bytes([1 << TOOL, 0]))
        monitoring.set_local_events(TOOL, codelike, 0)
        enter(other, "LINE")
        self.assertEqual(other.states, bytes(2))
        monitoring.set_local_events(TOOL, codelike, E.LINE)
        enter(other, "LINE")
        self.assertEqual(other.states, bytes([1 << TOOL, 0]))
        del codelike
        enter(other, "LINE")
        self.assertEqual(other.states, bytes(2))

    @support.skip_if_sanitizer("uses no address again soon", address=True)
    def test_address_used_again(self):
        # Without a GIL, an allocator hands out a whole page first.
        addresses = set()
        told = []
        while len(told) < len(addresses) + 50 and len(addresses) < 5000:
            codelike = Plain()
            addresses.add(id(codelike))
            self.assertEqual(monitoring.get_local_events(TOOL, codelike), 0)
            lines = self.tell(codelike, "LINE", events=0)
            # What is on for another makes the states active.
            monitoring.set_local_events(TOOL, self.codelikes["object"], E.LINE)
            line_producer(codelike, (1,))()
            monitoring.set_local_events(TOOL, codelike, E.LINE)
            line_producer(codelike, (2,))()
            told.append(lines)
            monitoring.register_callback(TOOL, E.LINE, None)
            del codelike
        self.assertLess(len(addresses), 5000)
        self.assertEqual(told, [[2]] * len(told))

    def test_codelike_is_not_kept_alive(self):
        codelike = Plain()
        codelike.itself = codelike
        alive = weakref.ref(codelike)
        monitoring.set_local_events(TOOL, codelike, E.LINE)
        del codelike
        gc.collect()
        self.assertIsNone(alive())

    def test_restart_events_leaves_them(self):
        for kind, codelike in self.codelikes.items():
            with self.subTest(kind):
                lines = self.tell(codelike, "LINE", events=0)
                self.set_local(codelike, E.LINE)
                monitoring.restart_events()
                line_producer(codelike, (1, 2))()
                self.assertEqual(lines, [1, 2])

    def test_switched_in_mid_scope(self):
        codelike = _testcapi.WeakCodeLike(1)
        lines = self.tell(codelike, "LINE", events=0)
        enter(codelike, "LINE")
        monitoring.set_local_events(TOOL, codelike, E.LINE)
        _testcapi.fire_event_line(codelike, 0, 1)
        enter(codelike, "LINE")
        _testcapi.fire_event_line(codelike, 0, 2)
        monitoring.set_local_events(TOOL, codelike, 0)
        _testcapi.fire_event_line(codelike, 0, 3)
        self.assertEqual(lines, [2])

    def test_answers_to_calls(self):
        codelike = self.codelikes["object"]
        names = ("CALL", "C_RETURN", "C_RAISE")
        told = {name: self.tell(codelike, name, events=0) for name in names}
        self.set_local(codelike, E.CALL | E.C_RETURN | E.C_RAISE)
        producer = _testcapi.Producer(
            codelike, tuple(IDS[name] for name in names),
            ((IDS["CALL"], 1, len, 1), (IDS["C_RETURN"], 1, 1),
             (IDS["CALL"], 2, len, 1), (IDS["C_RAISE"], 2, KeyError())))
        producer()
        self.assertEqual(told, {"CALL": [1, 2], "C_RETURN": [1],
                                "C_RAISE": [2]})

    def test_disable(self):
        codelike = self.codelikes["object"]
        lines = self.tell(codelike, "LINE", DISABLE, events=0)
        self.set_local(codelike, E.LINE)
        producer = line_producer(codelike, (1, 2, 1))
        producer()
        monitoring.set_local_events(TOOL, codelike, 0)
        monitoring.set_local_events(TOOL, codelike, E.LINE)
        producer()
        self.assertEqual(lines, [1, 2])
        monitoring.restart_events()
        producer()
        self.assertEqual(lines, [1, 2, 1, 2])

    def test_bytecode_has_its_own(self):
        namespace = {}
        exec("def function():\n    a = 1\n    return a\n", namespace)
        function = namespace["function"]
        code = function.__code__
        lines = self.tell(code, "LINE", DISABLE, events=0)
        self.set_local(code, E.LINE)
        producer = line_producer(code, (2, 3))
        for _ in range(2):
            function()
            producer()
        self.assertEqual(lines, [2, 3, 2, 3])

    def test_free_tool_id(self):
        for kind, codelike in self.codelikes.items():
            with self.subTest(kind):
                lines = self.tell(codelike, "LINE", events=0)
                others = self.tell(codelike, "LINE", events=0,
                                   tool=OTHER_TOOL)
                self.set_local(codelike, E.LINE)
                self.set_local(codelike, E.LINE, OTHER_TOOL)
                monitoring.free_tool_id(TOOL)
                monitoring.use_tool_id(TOOL, "another")
                line_producer(codelike, (1, 2))()
                monitoring.set_local_events(OTHER_TOOL, codelike, 0)
                self.assertEqual(lines, [])
                self.assertEqual(others, [1, 2])

    def test_many_codelikes(self):
        codelikes = [Plain() for _ in range(1000)]
        told = []
        monitoring.register_callback(
            TOOL, E.LINE, lambda code, line: told.append((code, line)))
        for codelike in codelikes[::2]:
            monitoring.set_local_events(TOOL, codelike, E.LINE)
        for line, codelike in enumerate(codelikes):
            line_producer(codelike, (line,))()
        expected = [(codelike, line) for line, codelike
                    in enumerate(codelikes) if line % 2 == 0]
        self.assertEqual(told, expected)
        told.clear()
        del codelikes[::4], codelike
        expected.clear()
        for line, codelike in enumerate(codelikes):
            line_producer(codelike, (line,))()
        self.assertEqual(len(told), 250)


class Tracked:
    """An object that can be told dead, and called."""

    def __call__(self):
        pass


def function():
    pass


class TestAnswersToCalls(CodelikeTestCase):
    """C_RETURN and C_RAISE get the callable and the argument of their CALL."""

    NAMES = ("CALL", "C_RETURN", "C_RAISE")

    def setUp(self):
        super().setUp()
        self.codelike = _testcapi.WeakCodeLike(3)
        self.told = self.listen_to_answers()

    def listen_to_answers(self, tool=TOOL, callback=None):
        """Return the list of (event, offset, callable, arg0) that is told."""
        told = []

        def register(name):
            def record(code, *args):
                if isinstance(code, (_testcapi.CodeLike,
                                     _testcapi.WeakCodeLike)):
                    # What is told of must not live because of this.
                    told.append((name, args[0], *map(
                        lambda arg: Tracked if isinstance(arg, Tracked) else arg,
                        args[1:])))
                    if callback is not None:
                        return callback(name, *args)
            monitoring.register_callback(tool, getattr(E, name), record)

        for name in self.NAMES:
            register(name)
        monitoring.set_events(tool, E.CALL)
        return told

    def enter(self, codelike=None):
        enter(codelike or self.codelike, *self.NAMES)

    def call(self, offset, callable, arg0, codelike=None):
        _testcapi.fire_event_call(codelike or self.codelike, offset, callable,
                                  arg0, state=0)

    def c_return(self, offset, codelike=None):
        _testcapi.fire_event_c_return(codelike or self.codelike, offset,
                                      "value", state=1)

    def c_raise(self, offset):
        _testcapi.fire_event_c_raise(self.codelike, offset, KeyError(),
                                     state=2)

    def test_matching(self):
        self.enter()
        self.call(1, len, "x")
        self.c_return(1)
        self.call(2, abs, MISSING)
        self.c_raise(2)
        self.c_return(3)
        exit_scope()
        self.c_raise(4)
        self.assertEqual(self.told, [
            ("CALL", 1, len, "x"), ("C_RETURN", 1, len, "x"),
            ("CALL", 2, abs, MISSING), ("C_RAISE", 2, abs, MISSING),
            ("C_RETURN", 3, MISSING, MISSING),
            ("C_RAISE", 4, MISSING, MISSING)])

    def test_newest_that_is_not_answered(self):
        self.enter()
        self.call(1, len, "x")
        self.call(2, abs, 1)
        for offset in (2, 1, 0):
            self.c_return(offset)
        exit_scope()
        self.assertEqual(self.told[2:], [
            ("C_RETURN", 2, abs, 1), ("C_RETURN", 1, len, "x"),
            ("C_RETURN", 0, MISSING, MISSING)])

    def test_recursion(self):
        # It shares the array of states.
        def recurse(depth):
            self.enter()
            if depth:
                self.call(depth, len, depth)
                recurse(depth - 1)
                recurse(0)
                self.c_return(depth)
            exit_scope()

        recurse(5)
        self.assertEqual(
            self.told,
            [("CALL", depth, len, depth) for depth in (5, 4, 3, 2, 1)]
            + [("C_RETURN", depth, len, depth) for depth in (1, 2, 3, 4, 5)])

    def test_many_wait(self):
        number = 200
        self.enter()
        for offset in range(number):
            self.call(offset, len, offset)
            self.enter()
        for offset in reversed(range(number)):
            exit_scope()
            self.c_return(offset)
        exit_scope()
        self.assertEqual(self.told[number:], [
            ("C_RETURN", offset, len, offset)
            for offset in reversed(range(number))])

    def test_each_codelike_has_its_own(self):
        other = _testcapi.CodeLike(3)
        self.enter()
        self.enter(other)
        self.call(1, len, "x")
        self.call(2, abs, 1, other)
        self.c_return(1)
        self.c_return(1)
        self.c_return(2, other)
        exit_scope()
        exit_scope()
        self.assertEqual(self.told[2:], [
            ("C_RETURN", 1, len, "x"), ("C_RETURN", 1, MISSING, MISSING),
            ("C_RETURN", 2, abs, 1)])

    def test_each_thread_has_its_own(self):
        def run():
            self.enter()
            self.c_return(1)
            self.call(2, abs, alive)
            # No exit.

        alive = Tracked()
        dead = weakref.ref(alive)
        self.enter()
        self.call(1, len, "x")
        thread = threading.Thread(target=run)
        with threading_helper.start_threads([thread]):
            pass
        del alive
        self.assertIsNone(dead())
        self.c_return(3)
        exit_scope()
        self.assertEqual(self.told, [
            ("CALL", 1, len, "x"), ("C_RETURN", 1, MISSING, MISSING),
            ("CALL", 2, abs, Tracked), ("C_RETURN", 3, len, "x")])

    def test_python_functions_are_not_kept(self):
        class Class:
            def method(self):
                pass

        for callable in (function, Class.method, Class().method):
            self.enter()
            self.call(1, len, "x")
            self.call(2, callable, "y")
            self.c_return(2)
            exit_scope()
            self.assertEqual(self.told.pop(), ("C_RETURN", 2, len, "x"))
        for callable in (Class, Tracked(), [].append, list.append):
            self.enter()
            self.call(2, callable, "y")
            self.c_return(2)
            exit_scope()
            self.assertEqual(self.told[-1][1:], self.told[-2][1:])

    def test_disabled_location(self):
        # Nothing is told of it from its next CALL on.
        told = self.listen_to_answers(
            OTHER_TOOL, lambda name, *args: DISABLE if name == "CALL" else None)
        self.enter()
        self.call(9, abs, 1)
        for _ in range(2):
            self.call(1, len, "x")
            self.c_return(1)
        self.call(2, len, "y")
        self.c_raise(2)
        self.c_return(9)
        exit_scope()
        self.assertEqual(told, [
            ("CALL", 9, abs, 1),
            ("CALL", 1, len, "x"), ("C_RETURN", 1, len, "x"),
            ("CALL", 2, len, "y"), ("C_RAISE", 2, len, "y"),
            ("C_RETURN", 9, abs, 1)])
        self.assertEqual(self.told, [
            ("CALL", 9, abs, 1),
            ("CALL", 1, len, "x"), ("C_RETURN", 1, len, "x"),
            ("CALL", 1, len, "x"), ("C_RETURN", 1, len, "x"),
            ("CALL", 2, len, "y"), ("C_RAISE", 2, len, "y"),
            ("C_RETURN", 9, abs, 1)])

    def test_location_that_every_tool_disabled(self):
        monitoring.set_events(TOOL, 0)
        told = self.listen_to_answers(
            OTHER_TOOL, lambda name, offset, *args:
            DISABLE if name == "CALL" and offset == 1 else None)
        self.enter()
        self.call(2, abs, 1)
        for _ in range(2):
            self.call(1, len, "x")
            self.c_return(1)
        # The CALL of location 1 is not told of, but answered.
        self.c_return(2)
        monitoring.restart_events()
        self.call(1, len, "z")
        self.c_return(1)
        exit_scope()
        self.assertEqual(told, [
            ("CALL", 2, abs, 1),
            ("CALL", 1, len, "x"), ("C_RETURN", 1, len, "x"),
            ("C_RETURN", 2, abs, 1),
            ("CALL", 1, len, "z"), ("C_RETURN", 1, len, "z")])

    def test_without_a_callback_for_calls(self):
        monitoring.register_callback(TOOL, E.CALL, None)
        self.enter()
        self.call(1, len, "x")
        self.c_return(1)
        exit_scope()
        self.assertEqual(self.told, [("C_RETURN", 1, len, "x")])

    def test_local_events(self):
        monitoring.set_events(TOOL, 0)
        self.enter()
        self.call(1, len, "x")
        self.c_return(1)
        exit_scope()
        monitoring.set_local_events(TOOL, self.codelike, E.CALL)
        self.enter()
        self.call(2, len, "x")
        self.c_return(2)
        exit_scope()
        self.assertEqual(self.told, [("CALL", 2, len, "x"),
                                     ("C_RETURN", 2, len, "x")])

    def test_callback_that_raises(self):
        # The call is not made then.
        def fail(name, offset, *args):
            if offset == 2:
                raise OSError

        self.listen_to_answers(OTHER_TOOL, fail)
        arg = Tracked()
        dead = weakref.ref(arg)
        self.enter()
        self.call(1, len, "x")
        self.assertRaises(OSError, self.call, 2, abs, arg)
        del arg
        self.assertIsNone(dead())
        self.c_return(1)
        # An answer whose callback raises is given.
        self.call(3, len, "y")
        self.assertRaises(OSError, self.c_return, 2)
        self.c_return(4)
        exit_scope()
        self.assertEqual(self.told[1:], [
            ("C_RETURN", 1, len, "x"), ("CALL", 3, len, "y"),
            ("C_RETURN", 4, MISSING, MISSING)])

    def test_in_a_callback(self):
        def fire(*args):
            self.call(2, abs, 1)
            self.c_return(2)

        told = self.listen_to_answers(OTHER_TOOL, fire)
        self.enter()
        self.call(1, len, "x")
        self.call(3, len, "y")
        self.c_return(3)
        self.c_return(1)
        exit_scope()
        self.assertEqual(told, self.told)
        self.assertEqual(self.told[1:], [
            ("CALL", 3, len, "y"), ("C_RETURN", 3, len, "y"),
            ("C_RETURN", 1, len, "x")])

    def test_tool_that_stops_between(self):
        self.enter()
        self.call(1, len, "x")
        self.call(2, abs, 1)
        monitoring.set_events(TOOL, 0)
        self.c_return(2)
        monitoring.set_events(TOOL, E.CALL)
        self.c_return(1)
        exit_scope()
        self.assertEqual(self.told[2:], [("C_RETURN", 1, len, "x")])

    def kept(self, forget, codelike=None):
        """Return what a CALL and then forget() keeps alive."""
        args = [Tracked(), Tracked()]
        alive = [weakref.ref(arg) for arg in args]
        self.enter(codelike)
        self.call(1, *args, codelike)
        del args
        self.assertIsNotNone(alive[0]())
        self.assertIsNotNone(alive[1]())
        forget()
        return [ref() for ref in alive if ref() is not None]

    def test_not_kept_past_the_exit(self):
        self.assertEqual(self.kept(exit_scope), [])
        self.assertEqual(self.kept(exit_scope, _testcapi.CodeLike(3)), [])
        self.c_return(1)
        self.assertEqual(self.told[-1], ("C_RETURN", 1, MISSING, MISSING))

    def test_not_kept_past_the_answer(self):
        self.assertEqual(self.kept(lambda: self.c_return(1)), [])
        exit_scope()

    def test_not_kept_past_the_exit_of_a_repeated_enter(self):
        self.enter()
        self.assertEqual(self.kept(exit_scope), [])
        self.enter()
        self.enter()
        self.call(1, len, "x")
        self.c_return(1)
        self.enter()
        self.assertEqual(self.kept(exit_scope), [])

    def test_not_kept_past_the_exit_around_a_repeated_enter(self):
        def scopes():
            other = _testcapi.WeakCodeLike(3)
            for _ in range(3):
                self.enter(other)
            exit_scope()
            exit_scope()

        self.assertEqual(self.kept(scopes), [])
        self.assertEqual(self.kept(scopes), [])

    def test_not_kept_past_the_thread(self):
        # Even if what is released then has another call wait.
        class Last(Tracked):
            def __del__(this):
                self.call(2, kept.pop(), None)

        def work():
            self.enter()
            self.call(1, Last(), None)

        kept = [Tracked()]
        alive = weakref.ref(kept[0])
        thread = threading.Thread(target=work)
        with threading_helper.start_threads([thread]):
            pass
        for _ in support.sleeping_retry(support.SHORT_TIMEOUT, error=False):
            if not kept and alive() is None:
                break
        self.assertEqual(kept, [])
        self.assertIsNone(alive())

    def test_not_kept_by_scopes_within(self):
        def scopes():
            for _ in range(3):
                self.enter()
                exit_scope()
            exit_scope()

        self.assertEqual(self.kept(scopes), [])

    def test_surplus_exits(self):
        for _ in range(3):
            exit_scope()
        self.enter()
        self.call(1, len, "x")
        self.enter()
        exit_scope()
        self.c_return(1)
        self.assertEqual(self.told[-1], ("C_RETURN", 1, len, "x"))
        self.assertEqual(self.kept(exit_scope), [])

    def test_missing_exits(self):
        def run(number):
            for _ in range(number):
                self.enter()
                self.call(1, len, "x")

        monitoring.register_callback(TOOL, E.CALL, None)
        tracemalloc.start()
        try:
            run(36_000)
            before = tracemalloc.get_traced_memory()[0]
            run(24_000)
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        self.assertLess(grown, 10_000)
        self.c_return(1)
        self.assertEqual(self.told, [("C_RETURN", 1, len, "x")])

    def test_not_kept_past_the_codelike(self):
        for make in (lambda: _testcapi.WeakCodeLike(3), Plain):
            codelike = make()
            arg = Tracked()
            alive = weakref.ref(arg)
            producer = _testcapi.Producer(
                codelike, (IDS["CALL"],), ((IDS["CALL"], 1, len, arg),),
                exits=False)
            producer()
            del producer, arg
            monitoring.restart_events()
            self.assertIsNotNone(alive())
            del codelike
            self.assertIsNone(alive())
            exit_scope()

    @support.skip_if_sanitizer("uses no address again soon", address=True)
    def test_address_used_again(self):
        addresses = set()
        for _ in range(100):
            codelike = _testcapi.WeakCodeLike(3)
            addresses.add(id(codelike))
            self.enter(codelike)
            self.c_return(1, codelike)
            self.assertEqual(self.told.pop(),
                             ("C_RETURN", 1, MISSING, MISSING))
            self.call(1, len, "x", codelike)
            self.told.clear()
            del codelike
        self.assertLess(len(addresses), 100)

    def test_not_kept_past_the_tool(self):
        def free():
            monitoring.free_tool_id(TOOL)
            monitoring.use_tool_id(TOOL, "another")

        self.assertEqual(self.kept(free), [])
        exit_scope()
        # But for another tool.
        told = self.listen_to_answers(OTHER_TOOL)
        self.enter()
        self.call(1, len, "x")
        free()
        self.c_return(1)
        exit_scope()
        self.assertEqual(told[-1], ("C_RETURN", 1, len, "x"))

    def test_freed_tool_had_disabled_the_location(self):
        told = self.listen_to_answers(OTHER_TOOL, lambda *args:
                                      DISABLE if args[0] == "CALL" else None)
        self.enter()
        self.call(1, len, "x")
        self.c_return(1)
        self.call(1, abs, 1)
        monitoring.free_tool_id(OTHER_TOOL)
        monitoring.use_tool_id(OTHER_TOOL, "another")
        self.c_return(1)
        exit_scope()
        self.assertEqual(told[2:], [("C_RETURN", 1, abs, 1)])

    def test_disabled_location_where_the_tool_stopped_to_listen(self):
        told = self.listen_to_answers(callback=lambda name, offset, *args:
                                      DISABLE if name == "CALL" and offset == 1
                                      else None)
        other = _testcapi.WeakCodeLike(1)
        self.enter()
        self.call(1, len, "x")
        self.c_return(1)
        self.call(2, abs, 1)
        # The states stay active, for the other one.
        monitoring.set_events(TOOL, 0)
        monitoring.set_local_events(TOOL, other, E.CALL)
        self.call(1, hex, 3)
        monitoring.set_events(TOOL, E.CALL)
        self.c_return(2)
        exit_scope()
        self.assertEqual(told[2:], [("CALL", 2, abs, 1),
                                    ("C_RETURN", 2, abs, 1)])

    def test_not_kept_past_the_callbacks(self):
        def unregister():
            monitoring.register_callback(TOOL, E.C_RAISE, None)
            monitoring.register_callback(TOOL, E.C_RETURN, None)

        self.assertEqual(self.kept(unregister), [])
        exit_scope()

    def test_either_answer_is_enough(self):
        for name, answer in (("C_RETURN", self.c_raise),
                             ("C_RAISE", self.c_return)):
            told = self.listen_to_answers()
            monitoring.register_callback(TOOL, getattr(E, name), None)
            self.assertEqual(self.kept(exit_scope), [])
            self.enter()
            self.call(1, len, "x")
            answer(1)
            exit_scope()
            self.assertEqual(told[-1][1:], (1, len, "x"))

    def test_not_kept_for_a_tool_that_wants_no_answers(self):
        def free():
            monitoring.free_tool_id(OTHER_TOOL)
            monitoring.use_tool_id(OTHER_TOOL, "another")

        for name in ("C_RETURN", "C_RAISE"):
            monitoring.register_callback(TOOL, getattr(E, name), None)
        # It is another one that wants them.
        self.listen_to_answers(OTHER_TOOL)
        self.assertEqual(self.kept(free), [])
        exit_scope()
        monitoring.set_events(OTHER_TOOL, 0)
        self.assert_not_kept_at_all()

    def test_not_kept_for_a_disabled_location(self):
        monitoring.register_callback(TOOL, E.CALL, lambda *args: DISABLE)
        self.enter()
        self.call(1, len, "x")
        exit_scope()
        self.assert_not_kept_at_all()

    def assert_not_kept_at_all(self):
        arg = Tracked()
        alive = weakref.ref(arg)
        self.enter()
        self.call(1, len, arg)
        del arg
        self.assertIsNone(alive())
        exit_scope()

    def test_restart_leaves_it(self):
        self.enter()
        self.call(1, len, "x")
        monitoring.restart_events()
        self.c_return(1)
        exit_scope()
        self.assertEqual(self.told[-1], ("C_RETURN", 1, len, "x"))

    def test_finalizer_that_enters_and_calls(self):
        class Finalized(Tracked):
            def __del__(this):
                self.enter()
                self.call(2, abs, 1)
                self.c_return(2)
                exit_scope()
                order.append("finalized")

        order = []
        self.enter()
        self.call(1, len, Finalized())
        self.call(1, len, Finalized())
        exc = KeyError("pending")
        exit_scope(pending=exc)
        self.assertEqual(order, ["finalized"] * 2)

    def test_finalizer_that_calls_outside_of_the_scope(self):
        class Finalized(Tracked):
            def __del__(this):
                self.call(3, abs, 1)

        kept = Tracked()
        reference = weakref.ref(kept)
        self.enter()
        self.enter(_testcapi.WeakCodeLike(3))
        self.call(1, len, kept)
        self.call(2, len, Finalized())
        del kept
        exit_scope()
        self.assertIsNone(reference())
        self.c_return(3)
        exit_scope()
        self.assertEqual(self.told[-1], ("C_RETURN", 3, abs, 1))

    def test_pending_exception(self):
        exc = KeyError("pending")
        self.enter()
        _testcapi.fire_event_call(self.codelike, 0, len, "x", pending=exc)
        _testcapi.fire_event_c_return(self.codelike, 1, None, pending=exc)
        self.assertEqual(self.told[-1], ("C_RETURN", 1, len, "x"))
        exit_scope(pending=exc)


class TestMemory(MonitoringTestCase):

    def test_no_event_leaks(self):
        def run(case, number):
            for _ in range(number):
                fire(case, self.codelike, offset)

        offset = 100_000
        value = Case("STOP_ITERATION", "stop_iteration", (7,), None)
        for case in [*make_cases(offset), value]:
            with self.subTest(case.fire):
                # What a callback returns must not leak either.
                monitoring.register_callback(TOOL, getattr(E, case.name),
                                             lambda *args: object())
                monitoring.set_events(TOOL, EVENT_SETS[case.name])
                with scope(self.codelike, case.name):
                    # As many as are counted: free lists fill up.  Without a
                    # GIL, memory is also freed later; a leak is there always.
                    blocks = []
                    for _ in range(4):
                        run(case, 500)
                        blocks.append(sys.getallocatedblocks())
                    leaked = min(map(operator.sub, blocks[1:], blocks))
                monitoring.set_events(TOOL, 0)
                self.assertLess(leaked, 100)

    def test_failures_do_not_leak(self):
        def fail(*args):
            raise ValueError

        def run(number):
            for _ in range(number):
                for offset in (-1, 1000):
                    try:
                        _testcapi.fire_event_py_throw(self.codelike, offset,
                                                      KeyError())
                    except ValueError:
                        pass

        monitoring.register_callback(TOOL, E.PY_THROW, fail)
        monitoring.set_events(TOOL, E.PY_THROW)
        enter(self.codelike, "PY_THROW")
        run(500)
        before = sys.getallocatedblocks()
        run(500)
        leaked = sys.getallocatedblocks() - before
        monitoring.set_events(TOOL, 0)
        self.assertLess(leaked, 100)

    @unittest.skipUnless(hasattr(_testcapi, "set_nomemory"),
                         "needs _testcapi.set_nomemory")
    def test_allocation_failures(self):
        # In a process of its own: what is not ours may not survive it.
        script = textwrap.dedent("""
            import _testcapi, sys
            M = sys.monitoring
            function_name, event_set, event, *args = sys.argv[1:]
            function = getattr(_testcapi, "fire_event_" + function_name)
            event = int(event)
            args = [int(arg) for arg in args]
            if function_name == "raise":
                args = [KeyError("pending")]
            pending = KeyError("pending")
            codelike = _testcapi.CodeLike(1)
            # Whole, and a tuple: a free-threaded build crashes where the list
            # of a call with more than *args cannot be allocated.
            args = (codelike, 1000, *args)
            calls = 0
            class Callback:
                __slots__ = ()
                def __call__(self, *args):
                    global calls
                    if args[0] is codelike:
                        calls += 1
            M.use_tool_id(2, "test")
            M.register_callback(2, 1 << event, Callback())
            M.set_events(2, int(event_set))
            _testcapi.monitoring_enter_scope(codelike, event)
            for _ in range(2):  # warm up
                function(*args, pending=pending)
            set_nomemory = _testcapi.set_nomemory
            remove_mem_hooks = _testcapi.remove_mem_hooks
            failures = 0
            for start in range(100):
                before = calls
                try:
                    set_nomemory(start, 0)
                    function(*args, pending=pending)
                except MemoryError:
                    remove_mem_hooks()
                    failures += 1
                    continue
                remove_mem_hooks()
                assert calls == before + 1
                break
            else:
                raise AssertionError("never succeeded")
            function(*args, pending=pending)
            assert calls == before + 2
            print(failures)
        """)
        for name, function, args in (
            ("LINE", "line", ("1000",)), ("PY_RESUME", "py_resume", ()),
            ("STOP_ITERATION", "stop_iteration", ("1000",)),
            ("PY_RETURN", "py_return", ("1000",)), ("RAISE", "raise", ()),
        ):
            with self.subTest(name):
                result = script_helper.assert_python_ok(
                    "-c", script, function, str(EVENT_SETS[name]),
                    str(IDS[name]), *args)
                self.assertGreater(int(result.out), 0)


class TestInterpreters(MonitoringTestCase):

    def test_events_while_it_ends(self):
        # Callbacks are released; the destructor of one fires an event of
        # which another was told.
        code = textwrap.dedent("""
            import os, sys, _testcapi

            class First:
                def __call__(self, code, offset):
                    pass

            class Second(First):
                def __del__(self, enter=_testcapi.monitoring_enter_scope,
                            fire=_testcapi.fire_event_py_start,
                            codelike=_testcapi.CodeLike(2), write=os.write):
                    enter(codelike, 0, 5)
                    fire(codelike, 0)
                    write(1, b"fired")

            M = sys.monitoring
            M.use_tool_id(3, "test")
            M.register_callback(3, M.events.PY_START, First())
            M.register_callback(3, M.events.LINE, Second())
            M.set_events(3, M.events.PY_START | M.events.LINE)
        """)
        _, out, err = script_helper.assert_python_ok("-c", code, PYTHONMALLOC="debug")
        self.assertEqual((out, err), (b"fired", b""))

    @unittest.skipIf(support.Py_GIL_DISABLED,
                     "_testcapi does not load in subinterpreters")
    def test_interpreters_do_not_see_each_other(self):
        calls = self.listen("LINE")
        code = textwrap.dedent("""
            import sys
            import _testcapi

            M = sys.monitoring
            LINE = 5
            codelike = _testcapi.CodeLike(1)
            _testcapi.monitoring_enter_scope(codelike, LINE)
            assert codelike.states == bytes(2), codelike.states
            _testcapi.fire_event_line(codelike, 0, 1)

            lines = []
            M.use_tool_id(3, "test")
            M.register_callback(3, M.events.LINE, lambda code, line:
                                lines.append(line) if code is codelike
                                else None)
            M.set_events(3, M.events.LINE)
            _testcapi.monitoring_enter_scope(codelike, LINE)
            assert codelike.states == bytes([1 << 3, 0]), codelike.states
            _testcapi.fire_event_line(codelike, 0, 2)
            M.set_events(3, 0)
            assert lines == [2], lines
        """)
        self.assertEqual(support.run_in_subinterp(code), 0)
        self.assertEqual(calls, [])
        with scope(self.codelike, "LINE"):
            _testcapi.fire_event_line(self.codelike, 0, 3)
        self.assertEqual(calls, [("LINE", self.codelike, 3)])

    def test_states_that_outlive_the_interpreter(self):
        # _testembed runs this four times, each in a new interpreter.
        build = os.path.dirname(sys._base_executable)
        testembed = os.path.join(build, "Programs", "_testembed")
        if not os.path.exists(testembed):
            self.skipTest("needs Programs/_testembed of a build")
        import_helper.import_module("ctypes")
        code = textwrap.dedent("""
            import ctypes
            import os
            import sys

            api = ctypes.pythonapi
            enter = api.PyMonitoring_EnterScope
            enter.argtypes = (ctypes.c_void_p, ctypes.c_void_p,
                              ctypes.c_char_p, ctypes.c_ssize_t)
            api.PyMem_RawCalloc.restype = ctypes.c_void_p
            first = "VERSION" not in os.environ
            if first:
                os.environ["VERSION"] = str(api.PyMem_RawCalloc(1, 16))
            version = int(os.environ["VERSION"])
            states = version + 8
            M = sys.monitoring
            M.use_tool_id(3, "test")
            M.set_events(3, M.events.PY_START if first else M.events.LINE)
            PY_START = 0
            enter(states, version, bytes([PY_START]), 1)
            print(ctypes.string_at(states)[:1])
        """)
        result = subprocess.run(
            [testembed, "test_repeated_init_exec", code], capture_output=True,
            text=True, cwd=build, check=True)
        self.assertEqual(result.stdout.split(), [repr(bytes([1 << 3]))]
                         + [repr(b"")] * 3)

    @unittest.skipIf(support.Py_GIL_DISABLED,
                     "_testcapi does not load in subinterpreters")
    def test_what_is_kept_ends_with_the_interpreter(self):
        code = textwrap.dedent("""
            import os
            import sys
            import _testcapi

            class Object:
                co_name = co_filename = "code"
                co_firstlineno = 1
                write = os.write
                def __del__(self):
                    self.write({end}, self.text)

            def make(text):
                made = Object()
                made.text = text
                return made

            M = sys.monitoring
            codelike = make(b"codelike ")
            M.use_tool_id(3, "test")
            M.register_callback(3, M.events.LINE, lambda *args: M.DISABLE)
            M.register_callback(3, M.events.C_RETURN, lambda *args: None)
            M.set_local_events(3, codelike, M.events.JUMP)
            M.set_events(3, M.events.LINE | M.events.CALL)
            CALL, LINE = 4, 5
            _testcapi.Producer(
                codelike, (CALL, LINE),
                ((LINE, 1, 1), (CALL, 2, len, make(b"argument "))),
                exits=False)()
            if {answers}:
                M.set_events(3, 0)
        """)
        for answers in (False, True):
            start, end = os.pipe()
            self.assertEqual(support.run_in_subinterp(
                code.format(end=end, answers=answers)), 0)
            os.close(end)
            with open(start) as file:
                self.assertEqual(sorted(file.read().split()),
                                 ["argument", "codelike"])
        calls = self.listen("LINE", callback=lambda *args: DISABLE)
        with scope(self.codelike, "LINE"):
            _testcapi.fire_event_line(self.codelike, 0, 3)
        self.assertEqual(len(calls), 1)


# The sweeps of TestAllocationFailures, each run in processes of its own.

def sweep(attempt, check, alone):
    """Let each allocation of attempt() fail in turn, until it succeeds.

    The n-th one fails, alone or with all after it, for n = 0, 1, ...: then
    attempt() must raise MemoryError each time that it is called, and
    check(done) is called.  Return at how many allocations it failed.

    While allocations fail nothing else may allocate.  Tools must not be told
    of this function's lines and calls, and attempt() must not make a list,
    which crashes in the base of the free-threaded build.
    """
    repeat = 20
    for start in range(1000):
        stop = start + 1 if alone else 0
        done = not fails(attempt, start, stop)
        check(done)
        if done:
            return start
        before = count_blocks()
        for _ in range(repeat):
            # What was cached meanwhile may make it succeed.
            if not fails(attempt, start, stop):
                check(True)
                return start
        leaked = count_blocks() - before
        if leaked >= repeat // 2:
            raise AssertionError(f"allocation {start}: {leaked} blocks leaked")
    raise AssertionError("never succeeded")


def count_blocks():
    gc.collect()
    # It keeps each string that an attribute was looked up with.
    sys._clear_type_cache()
    return sys.getallocatedblocks()


def fails(attempt, start, stop):
    # Short, so that a tool is told of offsets that need no allocation.
    try:
        _testcapi.set_nomemory(start, stop)
        attempt()
    except MemoryError:
        _testcapi.remove_mem_hooks()
        return True
    _testcapi.remove_mem_hooks()
    return False


class Recorder:
    """Registers a callback; keeps what that was last told of a code-like."""

    def __init__(self, codelike, event, result=None):
        self.result = result
        self.told = None

        # No star-arguments: these would allocate for other code too.
        def callback(code, first, second=None, third=None):
            if code is codelike:
                self.told = first, second, third
                return self.result

        monitoring.register_callback(TOOL, event, callback)

    def take(self):
        told, self.told = self.told, None
        return told


def sweep_fire(alone):
    codelike = _testcapi.WeakCodeLike(1)
    pending = KeyError("pending")
    for case in make_cases(1000):
        print(case.fire, file=sys.stderr)
        recorder = Recorder(codelike, getattr(E, case.name))
        if case.name in EXCEPTION_EVENTS - {"C_RAISE"}:
            monitoring.set_events(TOOL, EVENT_SETS[case.name])
        else:
            monitoring.set_local_events(TOOL, codelike, EVENT_SETS[case.name])
        if case.name == "STOP_ITERATION":
            case = case._replace(args=("value",))
        function = getattr(_testcapi, "fire_event_" + case.fire)
        args = (codelike, 1000, *case.args)

        def attempt():
            function(*args, pending=pending)

        def check(done):
            if not done:
                recorder.take()
                attempt()
            told = [arg for arg in recorder.take() if arg is not None]
            if case.name == "STOP_ITERATION":
                told[1] = told[1].value
                assert told == [1000, "value"], told
            else:
                assert told == [*case.told], told

        with scope(codelike, case.name):
            # What is cached at the first calls.
            attempt()
            attempt()
            assert sweep(attempt, check, alone) > 1
        monitoring.set_events(TOOL, 0)
        monitoring.set_local_events(TOOL, codelike, 0)
        monitoring.register_callback(TOOL, getattr(E, case.name), None)


def sweep_waiting_calls(alone):
    # As many as make their table grow.
    number = 20
    codelike = _testcapi.WeakCodeLike(1)
    recorder = Recorder(codelike, E.C_RETURN)
    monitoring.set_local_events(TOOL, codelike, E.CALL)
    failed = 0
    with scope(codelike, "CALL"):
        for i in range(number):
            failed += sweep(
                lambda: _testcapi.fire_event_call(codelike, 1, len, i),
                lambda done: None, alone)
        for i in range(number):
            _testcapi.fire_event_c_return(codelike, 1, None)
            assert recorder.take() == (1, len, number - 1 - i)
        _testcapi.fire_event_c_return(codelike, 1, None)
        assert recorder.take() == (1, MISSING, MISSING)
    assert failed >= 3, failed


def sweep_enter_scope(alone):
    names = "PY_YIELD", "C_RETURN", "PY_START"
    garbage = b"\xff\xee" * len(names)
    codelike = _testcapi.CodeLike(len(names))
    # A tool that wants answers to calls.
    recorder = Recorder(codelike, E.C_RETURN)
    monitoring.set_events(TOOL, E.PY_YIELD | E.CALL)
    codelike.states = garbage
    args = codelike, *(IDS[name] for name in names)

    def attempt():
        _testcapi.monitoring_enter_scope(*args)

    def check(done):
        if done:
            active = bytes((1 << TOOL, 0))
            assert codelike.states == active * 2 + bytes(2), codelike.states
        else:
            assert codelike.states == garbage, codelike.states
            assert codelike.version == 0

    assert sweep(attempt, check, alone) > 0
    fire(Case("C_RETURN", "c_return", (42,), None), codelike, state=1)
    assert recorder.take() == (0, MISSING, MISSING)


def sweep_set_local_events(alone):
    for kind, codelike in make_codelikes().items():
        for known in (False, True):
            print(kind, known, file=sys.stderr)
            if known:
                monitoring.set_local_events(OTHER_TOOL, codelike, E.JUMP)
            recorder = Recorder(codelike, E.LINE)
            producer = line_producer(codelike, (7,))

            def check(done):
                events = E.LINE if done else 0
                assert monitoring.get_local_events(TOOL, codelike) == events
                assert (monitoring.get_local_events(OTHER_TOOL, codelike)
                        == (E.JUMP if known else 0))
                producer()
                assert recorder.take() == ((7, None, None) if done else None)

            def switch(events):
                return lambda: monitoring.set_local_events(TOOL, codelike,
                                                           events)

            failed = sweep(switch(E.LINE), check, alone)
            assert known or failed > 0
            sweep(switch(0), lambda done: check(not done), alone)


def sweep_disable(alone):
    # As many code-likes and locations as make both tables grow.
    codelikes = [Plain() for _ in range(12)]
    # Nothing but the producers fires it.
    monitoring.set_events(TOOL, E.PY_RESUME)
    failed = 0
    for codelike in codelikes:
        recorder = Recorder(codelike, E.PY_RESUME)
        producers = [
            _testcapi.Producer(codelike, (IDS["PY_RESUME"],),
                               ((IDS["PY_RESUME"], offset),))
            for offset in range(8)
        ]

        def check(done):
            recorder.result = None
            recorder.take()
            disabled = offset + 1 if done else offset
            for other, producer in enumerate(producers):
                producer()
                expected = None if other < disabled else (other, None, None)
                assert recorder.take() == expected, (done, offset, other)
            if not disabled:
                assert weakref.getweakrefcount(codelike) == 0
            recorder.result = DISABLE

        recorder.result = DISABLE
        for offset, producer in enumerate(producers):
            failed += sweep(producer, check, alone)
    assert failed > len(codelikes), failed


@unittest.skipUnless(hasattr(_testcapi, "set_nomemory"),
                     "needs _testcapi.set_nomemory")
class TestAllocationFailures(unittest.TestCase):

    def run_sweep(self, function):
        script = textwrap.dedent(f"""
            import gc, runpy, sys
            namespace = runpy.run_path({__file__!r})
            for tool in (namespace["TOOL"], namespace["OTHER_TOOL"]):
                sys.monitoring.use_tool_id(tool, "test")
            # What is there now need not be looked at in each collection.
            gc.freeze()
            namespace[{function.__name__!r}](alone=eval(sys.argv[1]))
        """)
        # In processes of their own: what is not ours may not survive it.
        for alone in (False, True):
            with self.subTest(alone=alone):
                script_helper.assert_python_ok("-c", script, str(alone))

    def test_fire(self):
        self.run_sweep(sweep_fire)

    def test_waiting_calls(self):
        self.run_sweep(sweep_waiting_calls)

    def test_enter_scope(self):
        self.run_sweep(sweep_enter_scope)

    def test_set_local_events(self):
        self.run_sweep(sweep_set_local_events)

    def test_disable(self):
        self.run_sweep(sweep_disable)


# What the tests of legacy tools run and trace.

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
    """What they tell of Python code is the same with a producer's events."""

    PDB_SCRIPTS = (
        "next\n" * 11,
        "step\n" * 30,
        "next\nnext\nnext\nstep\nwhere\nup\nreturn\nnext\nstep\nwhere\n",
        "next\nnext\nnext\nnext\nwhere\nreturn\nnext\nreturn\n",
        "until\n" * 12,
        "break helper\ncontinue\nwhere\nreturn\nnext\nstep\ncontinue\nnext\n",
        "tbreak called_back\ncontinue\nnext\nreturn\nnext\nstep\nuntil\n",
        "break raising\ncontinue\nnext\nnext\nnext\nwhere\nnext\nnext\n",
    )

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
        codelikes["bytecode that runs"] = program.__code__
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
                        told = []
                        producer = _testcapi.Producer(
                            codelike, types, actions, fresh=fresh)
                        with (self.subTest(kind=kind, calls=calls, fresh=fresh,
                                           listening=listening),
                              self.listening(codelike, told, listening)):
                            check(producer, without)
                            self.assertEqual(bool(told), listening)

    @contextlib.contextmanager
    def listening(self, codelike, told, listening):
        local = sum(EVENT_SETS[name] for name in CAN_DISABLE)
        for name in EVENT_NAMES:
            monitoring.register_callback(
                TOOL, getattr(E, name), lambda code, *args:
                told.append(args) if code is codelike else None)
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
                seen.append((event, frame.f_code.co_name, frame.f_lineno,
                             frame.f_lasti, getattr(arg, "__name__", arg)))

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
            seen.append((event, frame.f_code.co_name, frame.f_lineno))
            return trace

        def profile(frame, event, arg):
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

    def test_bdb(self):
        class Debugger(bdb.Bdb):

            def __init__(self, step):
                super().__init__()
                self.step = step
                self.seen = []

            def stop(self, event, frame):
                self.seen.append((event, frame.f_code.co_name, frame.f_lineno))
                if len(self.seen) % 3 == 0:
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
                self.stop("return", frame)

            def user_exception(self, frame, exc_info):
                self.stop(exc_info[0], frame)

        for step in ("step", "next", "until"):
            def observe(call):
                debugger = Debugger(step)
                debugger.runcall(program, call)
                return debugger.seen

            self.same(observe, 3)

    def test_pdb(self):
        def observe(call):
            outputs = []
            for script in self.PDB_SCRIPTS:
                output = io.StringIO()
                bdb.Breakpoint.clearBreakpoints()
                debugger = pdb.Pdb(stdin=io.StringIO(script), stdout=output,
                                   nosigint=True, readrc=False)
                debugger.use_rawinput = False
                with contextlib.suppress(bdb.BdbQuit):
                    debugger.runcall(program, call)
                sys.settrace(None)
                outputs.append(output.getvalue())
            self.assertGreater(len(set(outputs)), 5)
            return outputs

        self.same(observe)

    def test_trace(self):
        def observe(call):
            results = []
            for options in ({"countfuncs": True}, {"countcallers": True},
                            {"count": True, "trace": True}):
                tracer = trace.Trace(**options)
                with support.captured_stdout() as output:
                    tracer.runfunc(program, call)
                found = tracer.results()
                results.append((output.getvalue(), found.counts,
                                found.calledfuncs, found.callers))
            return results

        self.same(observe)


class NamedCodelike:
    """Has the names of a code object."""

    def __init__(self, code):
        self.co_name = code.co_name
        self.co_filename = code.co_filename
        self.co_firstlineno = code.co_firstlineno


class TestCProfile(unittest.TestCase):
    """It tells of a producer what it tells of the same calls in Python."""

    CALLS = tuple(IDS[name] for name in
                  ("PY_START", "PY_RETURN", "CALL", "C_RETURN", "C_RAISE",
                   "PY_UNWIND"))

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

    def make(self, function, *actions, fresh=True):
        """A producer that stands for a Python function."""
        codelike = NamedCodelike(function.__code__)
        return _testcapi.Producer(
            codelike, self.CALLS,
            ((IDS["PY_START"], 0), *actions, (IDS["PY_RETURN"], 9, None)),
            fresh=fresh)

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

    @staticmethod
    def call(callable, arg0=MISSING, offset=1):
        return IDS["CALL"], offset, callable, arg0

    RETURNED = IDS["C_RETURN"], 1, None
    RAISED = IDS["C_RAISE"], 1, TypeError()

    def test_builtin(self):
        def function():
            len(())

        self.check(function, self.call(len, ()), self.RETURNED,
                   contains="<built-in method builtins.len>")

    def test_several(self):
        def function():
            len(())
            abs(1)
            len(())

        self.check(function, self.call(len, ()), self.RETURNED,
                   self.call(abs, 1, 2), self.RETURNED,
                   self.call(len, (), 3), self.RETURNED)

    def test_raises(self):
        def function():
            try:
                len(1)
            except TypeError:
                pass
            abs(1)

        self.check(function, self.call(len, 1), self.RAISED,
                   self.call(abs, 1), self.RETURNED)

    def test_kinds_of_callables(self):
        def function():
            list.append([], 1)
            bound(1)
            int(1)
            called_back()
            method()
            abs(1)

        bound = [].append
        instance = TestCProfile()
        method = instance.bound_method
        self.check(function,
                   self.call(list.append, []), self.RETURNED,
                   self.call(bound, 1), self.RETURNED,
                   self.call(int, 1), self.RETURNED,
                   self.call(called_back), called_back,
                   self.call(method, instance), method,
                   self.call(abs, 1), self.RETURNED,
                   contains="<method 'append' of 'list' objects>")

    def bound_method(self):
        return helper(2)

    def test_nested(self):
        # Foreign code calls a builtin, that foreign code, that a builtin.
        def inner():
            len(())

        def function():
            next(calls_inner, None)
            abs(1)

        inner_producer = self.make(inner, self.call(len, ()), self.RETURNED)
        calls_inner = map(operator.call, [inner] * 2)
        expected = self.profile(function)
        for fresh in (True, False):
            calls_inner = map(operator.call, [inner_producer] * 2)
            producer = self.make(
                function, self.call(next, calls_inner),
                functools.partial(next, calls_inner, None), self.RETURNED,
                self.call(abs, 1), self.RETURNED, fresh=fresh)
            self.assertEqual(self.profile(producer), expected)

    def test_recursion(self):
        def function():
            next(recurse, None)
            len(())

        recurse = map(operator.call, [function] * 3)
        expected = self.profile(function)
        for fresh in (True, False):
            callables = []
            recurse = map(operator.call, callables)
            producer = self.make(
                function, self.call(next, recurse),
                functools.partial(next, recurse, None), self.RETURNED,
                self.call(len, ()), self.RETURNED, fresh=fresh)
            callables += [producer] * 3
            self.assertEqual(self.profile(producer), expected)
        # With states for each depth, of one code-like.
        codelike = NamedCodelike(function.__code__)
        producer = None
        for _ in range(4):
            inner = () if producer is None else (producer,)
            producer = _testcapi.Producer(
                codelike, self.CALLS,
                ((IDS["PY_START"], 0), self.call(next), *inner, self.RETURNED,
                 self.call(len, ()), self.RETURNED,
                 (IDS["PY_RETURN"], 9, None)))
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
            inner_producer = _testcapi.Producer(
                NamedCodelike(inner.__code__), self.CALLS,
                ((IDS["PY_START"], 0), self.call(len, ()), self.RETURNED,
                 (IDS["PY_UNWIND"], 9, StopIteration()), raise_stop()),
                fresh=fresh)
            calls_inner = map(operator.call, itertools.repeat(inner_producer))
            producer = self.make(
                function, self.call(next, calls_inner),
                functools.partial(next, calls_inner, None), self.RAISED,
                self.call(abs, 1), self.RETURNED, fresh=fresh)
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
            producer = self.make(
                function, self.call(next, recurse),
                functools.partial(next, recurse, None), self.RAISED,
                self.call(len, ()), self.RETURNED, fresh=fresh)
            callables += [producer] * 3
            self.assertEqual(self.profile(producer), expected)

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
                    failing = _testcapi.Producer(
                        codelike, self.CALLS,
                        (self.call(len, ()), self.RETURNED))
                    failing_calls = map(operator.call,
                                        itertools.repeat(failing))
                    producer = _testcapi.Producer(
                        codelike, self.CALLS,
                        ((IDS["PY_START"], 0),
                         # It swallows the StopIteration.
                         functools.partial(next, failing_calls, None),
                         (IDS["PY_UNWIND"], 9, StopIteration())))
                    found = self.profile(producer)
                finally:
                    monitoring.set_events(OTHER_TOOL, 0)
                    monitoring.register_callback(OTHER_TOOL, event, None)
                self.assertEqual(found, expected)

    def test_never_answered(self):
        def function():
            len(())

        # What else is told of that time is up to cProfile, whose call of
        # abs() never ends.
        for fresh in (True, False):
            producer = self.make(
                function, self.call(abs, 1), self.call(len, ()),
                self.RETURNED, self.call(abs, 1), fresh=fresh)
            found = self.profile(producer)
            name = "~", 0, "<built-in method builtins.len>"
            self.assertEqual(found[name][:2], (2, 2))
        # And nothing of it is left for others.
        self.test_nested()
        self.test_raises()


HEADER_SOURCE = """\
#include "Python.h"

int use_monitoring(PyObject *code, PyObject *obj);

int
use_monitoring(PyObject *code, PyObject *obj)
{{
    static const uint8_t types[] = {{ {types} }};
    PyMonitoringState states[sizeof(types)];
    uint64_t version = 0;
    int err = PyMonitoring_EnterScope(states, &version, types,
                                      (Py_ssize_t)sizeof(types));
    {calls}
    err |= PY_MONITORING_IS_INSTRUMENTED_EVENT(types[0]);
    return err | PyMonitoring_ExitScope();
}}
"""


class TestHeader(unittest.TestCase):

    FIRE_ARGUMENTS = {
        "PyStart": "", "PyResume": "", "PyReturn": ", obj", "PyYield": ", obj",
        "Call": ", obj, obj", "Line": ", 1", "Jump": ", obj",
        "Branch": ", obj", "BranchLeft": ", obj", "BranchRight": ", obj",
        "CReturn": ", obj", "PyThrow": "", "Raise": "", "Reraise": "",
        "ExceptionHandled": "", "CRaise": "", "PyUnwind": "",
        "StopIteration": ", obj",
    }
    # Every warning, but where it stands in something else of CPython's.
    WARNINGS = ("-Wall", "-Wextra", "-pedantic")

    @staticmethod
    def compiler(variable):
        return shlex.split(sysconfig.get_config_var(variable) or "")[:1]

    def compile(self, compiler, flags, name, source):
        """Return the exit status and what the compiler said."""
        path = os.path.join(self.enterContext(os_helper.temp_dir()), name)
        with open(path, "w") as file:
            file.write(source)
        config_h = os.path.dirname(sysconfig.get_config_h_filename())
        command = [*compiler, *flags, "-fsyntax-only",
                   "-I" + sysconfig.get_path("include"), "-I" + config_h, path]
        # The test looks for words of the compiler's own language.
        done = subprocess.run(command, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True,
                              env=os.environ | {"LC_ALL": "C"})
        return done.returncode, done.stdout

    def check(self, variable, standard, suffix):
        compiler = self.compiler(variable)
        try:
            status, output = self.compile(compiler, ["-std=" + standard],
                                          "alone" + suffix,
                                          '#include "Python.h"\n')
        except (OSError, IndexError, ValueError):
            self.skipTest(f"no compiler for {standard}")
        if status:
            self.skipTest(f"Python.h alone does not compile as {standard}")
        ids = [f"PY_MONITORING_EVENT_{name}" for name in EVENT_NAMES]
        ids += ["PY_MONITORING_EVENT_BRANCH_LEFT",
                "PY_MONITORING_EVENT_BRANCH_RIGHT"]
        source = HEADER_SOURCE.format(
            types=", ".join(ids),
            calls="\n    ".join(
                f"err |= PyMonitoring_Fire{name}Event(&states[{i}], code, 0"
                f"{args});"
                for i, (name, args) in enumerate(self.FIRE_ARGUMENTS.items())))
        status, output = self.compile(
            compiler, ["-std=" + standard, *self.WARNINGS],
            "producer" + suffix, source)
        self.assertEqual(status, 0, output)
        ours = [line for line in output.splitlines()
                if re.search(r"(monitoring\.h|producer\.\w+):\d+", line)]
        self.assertEqual(ours, [], output)

    def test_exported_functions(self):
        ctypes = import_helper.import_module("ctypes")
        for name in self.FIRE_ARGUMENTS:
            if name not in ("BranchLeft", "BranchRight"):
                getattr(ctypes.pythonapi, f"_PyMonitoring_Fire{name}Event")
        ctypes.pythonapi.PyMonitoring_EnterScope
        ctypes.pythonapi.PyMonitoring_ExitScope


def _add_header_tests():
    def add(variable, standard, suffix):
        @support.requires_subprocess()
        @unittest.skipIf(support.MS_WINDOWS, "options of GCC and Clang")
        def test(self):
            self.check(variable, standard, suffix)
        name = "test_compiles_as_" + standard.replace("+", "x")
        setattr(TestHeader, name, test)

    for standard in ("c99", "c11", "c17", "c2x"):
        add("CC", standard, ".c")
    for standard in ("c++11", "c++14", "c++17", "c++20", "c++2b"):
        add("CXX", standard, ".cpp")


_add_header_tests()


if __name__ == "__main__":
    unittest.main()
