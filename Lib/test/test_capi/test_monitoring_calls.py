"""C_RETURN and C_RAISE."""

import threading
import tracemalloc
import unittest
import weakref
from test import support
from test.support import import_helper, threading_helper
from .monitoring_support import (DISABLE, E, IDS, MISSING, OTHER_TOOL, TOOL,
                                 CodelikeTestCase, Plain, enter, exit_scope,
                                 monitoring)

_testcapi = import_helper.import_module("_testcapi")


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


if __name__ == "__main__":
    unittest.main()
