"""Firing events: what is reported, and to which tools."""

import sys
import threading
import unittest
import weakref
from test.support import import_helper
from .monitoring_support import (E, EVENT_NAMES, EVENT_SETS, EXCEPTION_EVENTS,
                                 IDS, OTHER_TOOL, TOOL, MonitoringTestCase,
                                 enter, exit_scope, fire, make_cases,
                                 monitoring, scope)

_testcapi = import_helper.import_module("_testcapi")


class TestArguments(MonitoringTestCase):

    def test_arguments(self):
        def check(case, calls):
            fire(case, self.codelike, offset)
            self.assertEqual(calls,
                             [(case.name, self.codelike, *case.reported)])

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

    def test_negative_offset_that_nobody_gets(self):
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
                fire(case._replace(args=(*case.args[:-1], None)),
                     self.codelike)
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

    def test_f_lineno_after_call_tracing(self):
        # No other tool is called for the event: what the thread runs for
        # Python code is not forgotten.
        def on_line(code, line):
            if code is target.__code__:
                frame = sys._getframe(1)
                frame.f_trace = print
                sys.call_tracing(_testcapi.fire_event_py_throw,
                                 (self.codelike, 0, KeyError()))
                frame.f_lineno = line
                allowed.append(frame)

        def target():
            pass

        allowed = []
        monitoring.register_callback(TOOL, E.PY_THROW, lambda *args: None)
        monitoring.register_callback(TOOL, E.LINE, on_line)
        monitoring.set_events(TOOL, E.PY_THROW)
        monitoring.set_local_events(TOOL, target.__code__, E.LINE)
        enter(self.codelike, "PY_THROW")
        target()
        monitoring.set_local_events(TOOL, target.__code__, 0)
        self.assertEqual(len(allowed), 1)

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


if __name__ == "__main__":
    unittest.main()
