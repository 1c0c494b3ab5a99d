"""DISABLE, and what coverage tools do with it."""

import copy
import gc
import itertools
import sys
import threading
import unittest
import weakref
from test import support
from test.support import import_helper, threading_helper
from .monitoring_support import (CAN_DISABLE, DISABLE, E, EVENT_SETS, IDS,
                                 OTHER_TOOL, TOOL, CodelikeTestCase, Plain,
                                 count_blocks, enter, exit_scope, fire,
                                 line_producer, make_cases, make_codelikes,
                                 make_function, monitoring)

_testcapi = import_helper.import_module("_testcapi")


class TestDisable(CodelikeTestCase):

    def test_each_line_once(self):
        # What a coverage tool does.
        def check(codelike, fresh):
            producer = line_producer(codelike, (1, 2, 3, 2, 3, 4), fresh=fresh)
            lines = self.record(codelike, "LINE", DISABLE)
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
            seen = {}
            for tool, result in ((TOOL, DISABLE), (OTHER_TOOL, None)):
                for name in names:
                    seen[tool, name] = self.record(codelike, name, result,
                                                   tool=tool)
                monitoring.set_events(tool, sum(EVENT_SETS[name]
                                                for name in names))
            producer()
            producer()
            for name in names:
                self.assertEqual(seen[TOOL, name], [0, 7, 2**31 - 1], name)
                self.assertEqual(seen[OTHER_TOOL, name],
                                 [0, 7, 2**31 - 1, 7] * 2, name)

        self.each_codelike(check)

    def test_other_codelikes_are_not_disabled(self):
        producers = []
        seen = []
        for codelike in self.codelikes.values():
            producers.append(line_producer(codelike, (1, 2)))
        monitoring.register_callback(
            TOOL, E.LINE, lambda code, line:
            seen.append((code, line)) or DISABLE
            if code in self.codelikes.values() else None)
        monitoring.set_events(TOOL, E.LINE)
        for producer in producers * 2:
            producer()
        monitoring.set_events(TOOL, 0)
        self.assertEqual(seen, [(codelike, line)
                                for codelike in self.codelikes.values()
                                for line in (1, 2)])

    def test_holds_across_changes(self):
        def check(codelike, fresh):
            producer = line_producer(codelike, (1, 2), fresh=fresh)
            lines = self.record(codelike, "LINE", DISABLE)
            producer()
            monitoring.set_events(OTHER_TOOL, E.PY_START)
            producer()
            monitoring.set_events(TOOL, 0)
            producer()
            monitoring.set_events(TOOL, E.LINE | E.PY_START)
            producer()
            again = self.record(codelike, "LINE")
            producer()
            self.assertEqual(lines, [1, 2])
            self.assertEqual(again, [])

        self.each_codelike(check)

    def test_restart_events(self):
        def check(codelike, fresh):
            producer = line_producer(codelike, (1, 2), fresh=fresh)
            lines = self.record(codelike, "LINE", DISABLE)
            producer()
            monitoring.restart_events()
            producer()
            producer()
            self.assertEqual(lines, [1, 2, 1, 2])

        self.each_codelike(check)

    def test_free_tool_id(self):
        def check(codelike, fresh):
            producer = line_producer(codelike, (1, 2), fresh=fresh)
            lines = self.record(codelike, "LINE", DISABLE)
            others = self.record(codelike, "LINE", DISABLE, tool=OTHER_TOOL)
            producer()
            monitoring.free_tool_id(TOOL)
            monitoring.use_tool_id(TOOL, "another")
            producer()
            self.assertEqual(lines, [1, 2, 1, 2])
            self.assertEqual(others, [1, 2])

        self.each_codelike(check)

    def check_next_owner(self, codelike, producer):
        """Have another take the tool, who must get all lines."""
        if monitoring.get_tool(TOOL) is None:
            monitoring.use_tool_id(TOOL, "another")
        lines = self.record(codelike, "LINE")
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
        # That tool gets the event, for which the tools are fixed.
        def check(codelike, fresh):
            def free(code, line):
                if code is codelike:
                    monitoring.free_tool_id(TOOL)

            producer = line_producer(codelike, (1, 2), fresh=fresh)
            only_first = line_producer(codelike, (1,), fresh=fresh)
            lines = self.record(codelike, "LINE", DISABLE)
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
            thread = threading.Thread(target=only_first)
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

    def test_none_is_no_dead_codelike(self):
        # What is left of a weak reference that died is None.
        def callback(code, line):
            if code is None:
                lines.append(line)
            if isinstance(code, _testcapi.WeakCodeLike):
                return DISABLE

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

    def test_tool_taken_again_with_what_is_left(self):
        # The events and the callback are the next owner's, who may disable.
        def check(codelike, fresh):
            producer = line_producer(codelike, (1, 2), fresh=fresh)
            for runs_between in (False, True):
                lines = self.record(codelike, "LINE", DISABLE)
                monitoring.free_tool_id(TOOL)
                if runs_between:
                    producer()
                    self.assertEqual(lines, [1, 2])
                    lines.clear()
                monitoring.use_tool_id(TOOL, "another")
                producer()
                producer()
                self.assertEqual(lines, [1, 2])

        self.each_codelike(check)

    def test_tool_taken_by_the_finalizer_of_its_name(self):
        class Name(str):
            def __del__(self):
                monitoring.use_tool_id(TOOL, "another")

        def check(codelike, fresh):
            monitoring.free_tool_id(TOOL)
            monitoring.use_tool_id(TOOL, Name())
            monitoring.free_tool_id(TOOL)
            self.assertEqual(monitoring.get_tool(TOOL), "another")
            lines = self.record(codelike, "LINE", DISABLE)
            producer = line_producer(codelike, (1, 2), fresh=fresh)
            producer()
            producer()
            self.assertEqual(lines, [1, 2])

        self.each_codelike(check)

    def test_callback_that_a_freed_tool_left_behind(self):
        # Its events stay too, until somebody sets others.
        def check(codelike, fresh):
            producer = line_producer(codelike, (1, 2), fresh=fresh)
            only_first = line_producer(codelike, (1,), fresh=fresh)
            lines = self.record(codelike, "LINE", DISABLE)
            monitoring.free_tool_id(TOOL)
            only_first()
            self.assertEqual(lines, [1])
            self.check_next_owner(codelike, producer)

        self.each_codelike(check)

    @support.skip_if_sanitizer("uses no address again soon", address=True)
    def test_address_used_again(self):
        addresses = set()
        seen = []
        for i in range(300):
            codelike = Plain()
            addresses.add(id(codelike))
            seen.append(self.record(codelike, "LINE", DISABLE))
            producer = line_producer(codelike, (1, 2))
            producer()
            producer()
            del producer, codelike
            monitoring.register_callback(TOOL, E.LINE, None)
        self.assertLess(len(addresses), 300)
        # One by one: to show how long lists differ takes minutes.
        for lines in seen:
            self.assertEqual(lines, [1, 2])

    def test_weak_references(self):
        # Everybody can get at them: they are like any other.
        def check(codelike, fresh):
            lines = self.record(codelike, "LINE", DISABLE)
            producer = line_producer(codelike, (1, 2), fresh=fresh)
            producer()
            for ref in weakref.getweakrefs(codelike):
                self.assertIs(type(ref), weakref.ref)
                self.assertIs(copy.copy(ref)(), codelike)
                self.assertIs(copy.deepcopy(ref)(), codelike)
                self.assertIsNone(ref.__callback__)
            producer()
            self.assertEqual(lines, [1, 2])

        self.each_codelike(check)

    def test_revived_codelike(self):
        # What is chosen for it goes when the garbage collector finds it dying.
        class Revived(Plain):
            def __del__(self):
                revived.append(self)

        def choose(codelike):
            monitoring.set_local_events(OTHER_TOOL, codelike, E.LINE)
            lines = self.record(codelike, "LINE", DISABLE)
            others = self.record(codelike, "LINE", events=0, tool=OTHER_TOOL)
            line_producer(codelike, (1, 2))()
            line_producer(codelike, (1, 2))()
            self.assertEqual(lines, [1, 2])
            self.assertEqual(others, [1, 2] * 2)
            del others[:], lines[:]
            return lines, others

        for collected in (False, True):
            with self.subTest(collected=collected):
                revived = []
                codelike = Revived()
                lines, others = choose(codelike)
                address = id(codelike)
                # The callbacks have it too.
                for tool in (TOOL, OTHER_TOOL):
                    monitoring.register_callback(tool, E.LINE, None)
                if collected:
                    codelike.itself = codelike
                del codelike
                if collected:
                    self.assertEqual(revived, [])
                    gc.collect()
                codelike, = revived
                self.assertEqual(id(codelike), address)
                self.assertEqual(
                    monitoring.get_local_events(OTHER_TOOL, codelike),
                    0 if collected else E.LINE)
                lines = self.record(codelike, "LINE", DISABLE)
                others = self.record(codelike, "LINE", events=0,
                                     tool=OTHER_TOOL)
                line_producer(codelike, (1, 2, 3))()
                if collected:
                    self.assertEqual(lines, [1, 2, 3])
                    self.assertEqual(others, [])
                    # It can be chosen again.
                    monitoring.restart_events()
                    choose(codelike)
                else:
                    self.assertEqual(lines, [3])
                    self.assertEqual(others, [1, 2, 3])
                monitoring.set_local_events(OTHER_TOOL, codelike, 0)

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

        def blocks(rounds):
            return max(run() or count_blocks() for _ in range(rounds))

        monitoring.register_callback(TOOL, E.LINE, lambda *args: DISABLE)
        monitoring.set_events(TOOL, E.LINE)
        # What is known of dead ones may stay for a while, as much as fits.
        before = blocks(5)
        grown = blocks(15) - before
        monitoring.restart_events()
        left = count_blocks()
        run()
        monitoring.restart_events()
        left = count_blocks() - left
        monitoring.set_events(TOOL, 0)
        self.assertLess(grown, 200)
        self.assertLess(left, 200)

    @unittest.skipUnless(sys.getallocatedblocks(), "malloc counts no blocks")
    def test_memory_goes_with_the_locations(self):
        # Of code-likes that live on.
        codelikes = [Plain() for _ in range(2000)]
        monitoring.register_callback(TOOL, E.LINE, lambda *args: DISABLE)
        monitoring.set_events(TOOL, E.LINE)
        before = count_blocks()
        for codelike in codelikes:
            line_producer(codelike, (1,))()
        kept = count_blocks() - before
        monitoring.restart_events()
        left = count_blocks() - before
        monitoring.set_events(TOOL, 0)
        self.assertGreater(kept, len(codelikes))
        self.assertLess(left, 200)

    def test_many_locations(self):
        codelike = Plain()
        number = 20_000
        producer = line_producer(codelike, range(number))
        lines = self.record(codelike, "LINE", DISABLE)
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
    """A tool that disables each line gets each line once.

    The functions have one state for all their lines, in an array on the C
    stack that is new at each call, or in one that lives as long as they do.
    """

    def disable_lines(self, codelike):
        return self.record(codelike, "LINE", DISABLE)

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
        seen = []
        monitoring.register_callback(
            TOOL, E.LINE, lambda code, line:
            seen.append((code, line)) or DISABLE
            if code in functions else None)
        functions = [codelike for _ in range(5)
                     for codelike in make_codelikes().values()]
        producers = [line_producer(codelike, (1, 2), fresh=fresh)
                     for fresh in (True, False) for codelike in functions]
        monitoring.set_events(TOOL, E.LINE)
        for producer in producers * 2:
            producer()
        monitoring.set_events(TOOL, 0)
        self.assertEqual(seen, [(codelike, line) for codelike in functions
                                for line in (1, 2)])

    def test_beside_a_tool_that_disables_nothing(self):
        def check(codelike, fresh):
            producer = line_producer(codelike, (1, 2, 1), fresh=fresh)
            lines = self.disable_lines(codelike)
            others = self.record(codelike, "LINE", tool=OTHER_TOOL)
            producer()
            producer()
            self.assertEqual(lines, [1, 2])
            self.assertEqual(others, [1, 2, 1] * 2)

        self.each_codelike(check)

    def test_bytecode_and_its_producer(self):
        # What one of them disables is not disabled for the other.
        for fresh in (True, False):
            for bytecode_first in (True, False):
                function = make_function()
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


if __name__ == "__main__":
    unittest.main()
