"""Entering and exiting scopes: what the states are then."""

import textwrap
import tracemalloc
import unittest
from test.support import import_helper, script_helper
from .monitoring_support import (E, EVENT_NAMES, EVENT_SETS, IDS, OTHER_TOOL,
                                 TOOL, TOOL_BITS, MonitoringTestCase, enter,
                                 exit_scope, monitoring, scope)

_testcapi = import_helper.import_module("_testcapi")


class TestScopes(MonitoringTestCase):

    def setUp(self):
        super().setUp()
        self.codelike = _testcapi.CodeLike(4)

    def active(self):
        return [active & TOOL_BITS for active in self.codelike.states[::2]]

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
        active = {name: active & TOOL_BITS for name, active
                  in zip(EVENT_NAMES, codelike.states[::2])}
        self.assertEqual(active.pop("INSTRUCTION"), 0)
        self.assertEqual(set(active.values()), {TOOL_BITS}, active)

    def test_no_event_type(self):
        enter(self.codelike)
        self.assertNotEqual(self.codelike.version, 0)

    def test_unknown_event_type(self):
        garbage = b"\x01\x02" * 4
        for event in (len(EVENT_NAMES), 100, 255):
            with self.subTest(event):
                types = IDS["LINE"], event
                # Nobody looks while nobody listens.
                self.codelike.states = garbage
                self.codelike.version = 0
                _testcapi.monitoring_enter_scope(self.codelike, *types)
                self.assertEqual(self.codelike.states[:4], bytes(4))
                stale = self.codelike.version
                self.assertNotEqual(stale, 0)
                monitoring.set_events(TOOL, E.LINE)
                message = rf"event_types\[1\] is {event}\b"
                for version in (0, stale):
                    self.codelike.states = garbage
                    self.codelike.version = version
                    with self.assertRaisesRegex(ValueError, message):
                        _testcapi.monitoring_enter_scope(self.codelike, *types)
                    self.assertEqual(self.codelike.states[:4], bytes(4))
                    self.assertEqual(self.codelike.version, 0)
                # The array serves again.
                enter(self.codelike, "LINE", "PY_START")
                self.assertEqual(self.active()[:2], [1 << TOOL, 0])
                monitoring.set_events(TOOL, 0)

    def test_c_return_and_c_raise_are_active_with_call(self):
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
        monitoring.set_events(TOOL, E.LINE)
        enter(self.codelike, "LINE", pending=exc)
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

    def test_exit_does_nothing(self):
        calls = self.listen("LINE", "CALL")
        exit_scope()
        enter(self.codelike, "LINE", "CALL")
        kept = self.codelike.states, self.codelike.version
        for _ in range(10):
            exit_scope()
            self.assertEqual((self.codelike.states, self.codelike.version),
                             kept)
        _testcapi.fire_event_line(self.codelike, 0, 1)
        self.assertEqual(calls, [("LINE", self.codelike, 1)])

    def test_exits_in_any_order(self):
        # As under greenlets, where the scopes of two stacks take turns.
        first, second = (_testcapi.WeakCodeLike(2) for _ in range(2))
        calls = self.listen("LINE", "CALL")
        lines = iter(range(100))

        def use(codelike):
            _testcapi.fire_event_line(codelike, 0, next(lines))
            _testcapi.fire_event_call(codelike, 1, len, "x")

        enter(first, "LINE", "CALL")
        use(first)
        enter(second, "LINE", "CALL")
        use(second)
        exit_scope()                    # that of first
        use(second)
        use(first)
        enter(first, "LINE", "CALL")
        exit_scope()                    # that of second
        exit_scope()                    # never entered
        use(second)
        use(first)
        self.assertEqual(calls, [
            call for line, codelike
            in enumerate((first, second, second, first, second, first))
            for call in (("LINE", codelike, line),
                         ("CALL", codelike, 1, len, "x"))])

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


if __name__ == "__main__":
    unittest.main()
