"""Local events of code-likes."""

import gc
import unittest
import weakref
from test import support
from test.support import import_helper
from .monitoring_support import (DISABLE, E, IDS, OTHER_TOOL, TOOL,
                                 CodelikeTestCase, Plain, enter, line_producer,
                                 monitoring)

_testcapi = import_helper.import_module("_testcapi")


class TestLocalEvents(CodelikeTestCase):

    def set_local(self, codelike, events, tool=TOOL):
        monitoring.set_local_events(tool, codelike, events)
        self.addCleanup(monitoring.set_local_events, tool, codelike, 0)

    def test_only_that_codelike(self):
        for kind, codelike in self.codelikes.items():
            with self.subTest(kind):
                lines = {name: self.record(other, "LINE", events=0, tool=tool)
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
        lines = self.record(codelike, "LINE")
        starts = self.record(codelike, "PY_START", events=E.LINE)
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
        seen = []
        while len(seen) < len(addresses) + 50 and len(addresses) < 5000:
            codelike = Plain()
            addresses.add(id(codelike))
            self.assertEqual(monitoring.get_local_events(TOOL, codelike), 0)
            lines = self.record(codelike, "LINE", events=0)
            # What is on for another makes the states active.
            monitoring.set_local_events(TOOL, self.codelikes["object"], E.LINE)
            line_producer(codelike, (1,))()
            monitoring.set_local_events(TOOL, codelike, E.LINE)
            line_producer(codelike, (2,))()
            seen.append(lines)
            monitoring.register_callback(TOOL, E.LINE, None)
            del codelike
        self.assertLess(len(addresses), 5000)
        self.assertEqual(seen, [[2]] * len(seen))

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
                lines = self.record(codelike, "LINE", events=0)
                self.set_local(codelike, E.LINE)
                monitoring.restart_events()
                line_producer(codelike, (1, 2))()
                self.assertEqual(lines, [1, 2])

    def test_switched_in_mid_scope(self):
        codelike = _testcapi.WeakCodeLike(1)
        lines = self.record(codelike, "LINE", events=0)
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
        seen = {name: self.record(codelike, name, events=0) for name in names}
        self.set_local(codelike, E.CALL | E.C_RETURN | E.C_RAISE)
        producer = _testcapi.Producer(
            codelike, tuple(IDS[name] for name in names),
            ((IDS["CALL"], 1, len, 1), (IDS["C_RETURN"], 1, 1),
             (IDS["CALL"], 2, len, 1), (IDS["C_RAISE"], 2, KeyError())))
        producer()
        self.assertEqual(seen, {"CALL": [1, 2], "C_RETURN": [1],
                                "C_RAISE": [2]})

    def test_disable(self):
        codelike = self.codelikes["object"]
        lines = self.record(codelike, "LINE", DISABLE, events=0)
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
        function = make_function()
        code = function.__code__
        lines = self.record(code, "LINE", DISABLE, events=0)
        self.set_local(code, E.LINE)
        producer = line_producer(code, (2, 3))
        for _ in range(2):
            function()
            producer()
        self.assertEqual(lines, [2, 3, 2, 3])

    def test_free_tool_id(self):
        for kind, codelike in self.codelikes.items():
            with self.subTest(kind):
                lines = self.record(codelike, "LINE", events=0)
                others = self.record(codelike, "LINE", events=0,
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
        seen = []
        monitoring.register_callback(
            TOOL, E.LINE, lambda code, line: seen.append((code, line)))
        for codelike in codelikes[::2]:
            monitoring.set_local_events(TOOL, codelike, E.LINE)
        for line, codelike in enumerate(codelikes):
            line_producer(codelike, (line,))()
        expected = [(codelike, line) for line, codelike
                    in enumerate(codelikes) if line % 2 == 0]
        self.assertEqual(seen, expected)
        seen.clear()
        del codelikes[::4], codelike
        expected.clear()
        for line, codelike in enumerate(codelikes):
            line_producer(codelike, (line,))()
        self.assertEqual(len(seen), 250)


if __name__ == "__main__":
    unittest.main()
