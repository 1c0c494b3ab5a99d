"""Local events of code-likes."""

import gc
import unittest
import weakref
from test import support
from test.support import import_helper
from .monitoring_support import (DISABLE, E, IDS, OTHER_TOOL, TOOL,
                                 WITH_BYTECODE, CodelikeTestCase, Plain, enter,
                                 line_producer, make_function, make_producer,
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

    def test_whose_states_are_active(self):
        # States are active for a tool that has the event on, or is in use and
        # has a callback for it.
        def active():
            enter(other, "LINE", "JUMP")
            return list(other.states[::2])

        def in_use_by_global_events():
            monitoring.set_events(TOOL, E.RAISE)

        def in_use_by_local_events():
            # It stays so until the tool is freed.
            monitoring.set_local_events(TOOL, codelike, E.LINE)
            monitoring.set_local_events(TOOL, codelike, 0)

        codelike = Plain()
        other = _testcapi.WeakCodeLike(2)
        for use in (in_use_by_global_events, in_use_by_local_events):
            with self.subTest(use.__name__):
                self.assertEqual(active(), [0, 0])
                monitoring.register_callback(TOOL, E.LINE, lambda *args: None)
                self.assertEqual(active(), [0, 0])
                # That is no choice.
                monitoring.set_local_events(TOOL, codelike, 0)
                self.assertEqual(active(), [0, 0])
                use()
                self.assertEqual(active(), [1 << TOOL, 0])
                monitoring.register_callback(TOOL, E.LINE, None)
                self.assertEqual(active(), [0, 0])
                monitoring.register_callback(TOOL, E.JUMP, lambda *args: None)
                self.assertEqual(active(), [0, 1 << TOOL])
                monitoring.set_events(TOOL, 0)
                monitoring.free_tool_id(TOOL)
                self.assertEqual(active(), [0, 0])
                monitoring.use_tool_id(TOOL, "another")
                self.assertEqual(active(), [0, 0])
                monitoring.register_callback(TOOL, E.JUMP, None)

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
        # Of a tool that was not in use, from the next EnterScope on.
        codelike = _testcapi.WeakCodeLike(1)
        lines = self.record(codelike, "LINE", events=0)
        enter(codelike, "LINE")
        monitoring.set_local_events(TOOL, codelike, E.LINE)
        _testcapi.fire_event_line(codelike, 0, 1)
        enter(codelike, "LINE")
        _testcapi.fire_event_line(codelike, 0, 2)
        monitoring.set_local_events(TOOL, codelike, 0)
        _testcapi.fire_event_line(codelike, 0, 3)
        # Now it is in use.
        monitoring.set_local_events(TOOL, codelike, E.LINE)
        _testcapi.fire_event_line(codelike, 0, 4)
        monitoring.set_local_events(TOOL, codelike, E.JUMP)
        _testcapi.fire_event_line(codelike, 0, 5)
        self.assertEqual(lines, [2, 4])

    def test_chosen_in_a_callback_of_the_event(self):
        # Whose tools are fixed.
        def callback(code, line):
            if code is codelike:
                monitoring.set_local_events(1, codelike, E.LINE)
                monitoring.set_local_events(0, codelike, 0)

        codelike = _testcapi.WeakCodeLike(1)
        on, off = (self.record(codelike, "LINE", events=0, tool=tool)
                   for tool in (1, 0))
        monitoring.set_events(1, E.RAISE)
        monitoring.set_local_events(0, codelike, E.LINE)
        monitoring.register_callback(TOOL, E.LINE, callback)
        monitoring.set_local_events(TOOL, codelike, E.LINE)
        enter(codelike, "LINE")
        _testcapi.fire_event_line(codelike, 0, 1)
        self.assertEqual((on, off), ([], [1]))
        _testcapi.fire_event_line(codelike, 0, 2)
        self.assertEqual((on, off), ([2], [1]))

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
            if kind in WITH_BYTECODE:
                continue
            with self.subTest(kind):
                lines = self.record(codelike, "LINE", events=0)
                others = self.record(codelike, "LINE", events=0,
                                     tool=OTHER_TOOL)
                monitoring.set_local_events(TOOL, codelike, E.LINE)
                monitoring.set_local_events(OTHER_TOOL, codelike, E.LINE)
                producer = line_producer(codelike, (1, 2), fresh=False)
                producer()
                monitoring.free_tool_id(TOOL)
                producer()
                monitoring.use_tool_id(TOOL, "another")
                # In use again, by an event that nothing fires here.
                monitoring.set_events(TOOL, E.PY_THROW)
                producer()
                self.assertEqual(
                    monitoring.get_local_events(TOOL, codelike), 0)
                monitoring.set_events(TOOL, 0)
                monitoring.set_local_events(OTHER_TOOL, codelike, 0)
                self.assertEqual(lines, [1, 2])
                self.assertEqual(others, [1, 2] * 3)

    def test_code_with_bytecode(self):
        # Its local events are those that the interpreter keeps for bytecode.
        function = make_function()
        code = function.__code__
        lines = self.record(code, "LINE", events=0)
        producer = line_producer(code, (5,))
        monitoring.set_local_events(TOOL, code, E.LINE)
        self.assertEqual(monitoring.get_local_events(TOOL, code), E.LINE)
        self.assertEqual(weakref.getweakrefcount(code), 0)
        function()
        producer()
        self.assertEqual(lines, [2, 3, 5])
        # They outlive the tool, as in the base.
        monitoring.free_tool_id(TOOL)
        function()
        monitoring.use_tool_id(TOOL, "another")
        self.assertEqual(monitoring.get_local_events(TOOL, code), E.LINE)
        function()
        self.assertEqual(lines, [2, 3, 5] + [2, 3] * 2)
        monitoring.set_local_events(TOOL, code, E.LINE)
        producer()
        monitoring.set_local_events(TOOL, code, 0)
        self.assertEqual(monitoring.get_local_events(TOOL, code), 0)
        function()
        producer()
        self.assertEqual(lines, [2, 3, 5] + [2, 3] * 2 + [5])

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


class TestFirstActivation(CodelikeTestCase):
    """A callback for PY_START chooses local events for its code-like, as those
    of debuggers and coverage tools do.

    They count in the activation that runs, of a producer that entered its
    scope once, before PY_START.
    """

    ACTIONS = (("PY_START", 0), ("LINE", 1, 10), ("JUMP", 1, 2),
               ("LINE", 2, 20))

    def check_first(self, use, tool=TOOL):
        """use(codelike) makes TOOL one that is in use; the callback for
        PY_START that chooses for it is that of tool."""
        def check(codelike, fresh):
            def start(code, offset):
                if code is codelike:
                    starts.append(offset)
                    monitoring.set_local_events(TOOL, code,
                                                E.LINE | E.PY_START)

            starts = []
            lines = self.record(codelike, "LINE", events=0)
            jumps = self.record(codelike, "JUMP", events=0)
            monitoring.register_callback(tool, E.PY_START, start)
            use(codelike)
            producer = make_producer(codelike, *self.ACTIONS, fresh=fresh)
            other = make_producer(Plain(), *self.ACTIONS, fresh=fresh)
            for expected in ([10, 20], [10, 20] * 2):
                producer()
                other()
                self.assertEqual(lines, expected)
            self.assertEqual(jumps, [])
            self.assertEqual(starts, [0, 0])
            monitoring.set_local_events(TOOL, codelike, 0)
            monitoring.free_tool_id(TOOL)
            monitoring.use_tool_id(TOOL, "test")
            monitoring.register_callback(tool, E.PY_START, None)

        self.each_codelike(check)

    def test_in_use_by_a_global_event(self):
        self.check_first(lambda codelike:
                         monitoring.set_events(TOOL, E.PY_START))

    def test_in_use_by_local_events(self):
        self.check_first(lambda codelike: monitoring.set_local_events(
            TOOL, codelike, E.PY_START))

    def test_in_use_by_earlier_local_events(self):
        # Of another code-like, and gone; another tool's callback chooses.
        def use(codelike):
            other = Plain()
            monitoring.set_local_events(TOOL, other, E.JUMP)
            monitoring.set_local_events(TOOL, other, 0)
            monitoring.set_events(OTHER_TOOL, E.PY_START)

        self.check_first(use, OTHER_TOOL)

    def test_generator(self):
        # PY_RESUME of an activation that nobody saw begin.
        def resume(code, offset):
            if code is codelike:
                monitoring.set_local_events(TOOL, code, E.LINE)

        codelike = Plain()
        lines = self.record(codelike, "LINE", events=0)
        monitoring.register_callback(TOOL, E.PY_RESUME, resume)
        monitoring.set_events(TOOL, E.PY_RESUME)
        make_producer(codelike, ("LINE", 1, 10))()
        make_producer(codelike, ("PY_RESUME", 1), ("LINE", 2, 20))()
        monitoring.register_callback(TOOL, E.PY_RESUME, None)
        self.assertEqual(lines, [20])

    def test_callback_that_chooses_nothing_more(self):
        # In the activation that runs, too.
        def start(code, offset):
            if code is codelike:
                monitoring.set_local_events(TOOL, code, 0)

        codelike = Plain()
        lines = self.record(codelike, "LINE", events=0)
        monitoring.register_callback(OTHER_TOOL, E.PY_START, start)
        monitoring.set_events(OTHER_TOOL, E.PY_START)
        monitoring.set_local_events(TOOL, codelike, E.LINE)
        make_producer(codelike, ("LINE", 1, 5), *self.ACTIONS)()
        monitoring.set_events(OTHER_TOOL, 0)
        monitoring.register_callback(OTHER_TOOL, E.PY_START, None)
        self.assertEqual(lines, [5])


if __name__ == "__main__":
    unittest.main()
