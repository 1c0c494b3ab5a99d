"""How long callbacks live: until they are replaced, and while they run."""

import contextlib
import functools
import gc
import sys
import threading
import types
import unittest
import weakref
from test import support
from test.support import import_helper, threading_helper
from .monitoring_support import (E, OTHER_TOOL, TOOL, MonitoringTestCase,
                                 enter, exit_scope, make_producer, monitoring)

_testcapi = import_helper.import_module("_testcapi")


class Callback:
    """A callback that does something in its calls for code-likes."""

    def __init__(self, action):
        self.action = action

    def __call__(self, code, *args):
        if not isinstance(code, types.CodeType):
            self.action()


def make_partial(action):
    """A callback of C, which does not hold what it calls meanwhile."""
    return functools.partial(Callback(action).__call__)


def make_cache(action):
    """Another, whose destructor releases what it calls."""
    return functools.lru_cache(Callback(action).__call__)


KINDS = Callback, make_partial, make_cache


class CallbackTestCase(MonitoringTestCase):

    def setUp(self):
        super().setUp()
        # Of another code-like and another event.
        self.fire_inner = make_producer(_testcapi.WeakCodeLike(0),
                                        ("PY_UNWIND", 1, KeyError()))

    def fire(self):
        # No bytecode of these tests fires it.
        enter(self.codelike, "PY_THROW")
        _testcapi.fire_event_py_throw(self.codelike, 0, KeyError())
        exit_scope()

    def register(self, callback, event=E.PY_THROW, tool=TOOL):
        """Register a callback and listen; return a weak reference to it."""
        monitoring.register_callback(tool, event, callback)
        monitoring.set_events(tool, monitoring.get_events(tool) | event)
        return weakref.ref(callback)

    def replace_many(self, number, tool=OTHER_TOOL, event=E.PY_THROW):
        """Register one callback after the other; return how many live."""
        replaced = []
        for i in range(number):
            callback = KINDS[i % 3](list)
            monitoring.register_callback(tool, event, callback)
            replaced.append(weakref.ref(callback))
            del callback
        monitoring.register_callback(tool, event, None)
        gc.collect()
        return sum(ref() is not None for ref in replaced)


class TestCallbacks(CallbackTestCase):

    def test_unregisters_itself(self):
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

    def test_replaced_while_it_runs(self):
        # It lives until it returns, and no longer.
        def replace():
            monitoring.register_callback(TOOL, E.PY_THROW, None)
            gc.collect()
            lives.append(alive() is not None)

        for kind in KINDS:
            with self.subTest(kind.__name__):
                lives = []
                alive = self.register(kind(replace))
                self.fire()
                self.assertIsNone(alive())
                self.fire()
                self.assertEqual(lives, [True])

    def test_replaced_while_it_runs_and_fails(self):
        def replace():
            monitoring.register_callback(TOOL, E.PY_THROW, None)
            raise OSError

        for kind in KINDS:
            with self.subTest(kind.__name__):
                alive = self.register(kind(replace))
                with self.assertRaises(OSError):
                    self.fire()
                self.assertIsNone(alive())

    def test_others_are_replaced(self):
        # Those of other tools and events, and its own successors.
        def replace():
            for tool in (0, OTHER_TOOL, TOOL):
                for event in (E.PY_THROW, E.C_RETURN):
                    left.append(self.replace_many(100, tool, event))

        for kind in KINDS:
            with self.subTest(kind.__name__):
                left = []
                self.register(Callback(list), tool=OTHER_TOOL)
                alive = self.register(kind(replace))
                self.fire()
                self.assertEqual(left, [0] * 6)
                self.assertIsNone(alive())

    def test_other_callback_within(self):
        # sys.call_tracing() lets events through.
        def act():
            sys.call_tracing(self.fire_inner, ())
            gc.collect()
            lives.append([ref() is not None for ref in alive])

        def act_within():
            monitoring.register_callback(TOOL, E.PY_THROW, None)
            monitoring.register_callback(tool, E.PY_UNWIND, None)
            gc.collect()
            lives.append([ref() is not None for ref in alive])
            left.append(self.replace_many(100, tool, E.PY_UNWIND))
            left.append(self.replace_many(10_000))

        for kind in KINDS:
            for tool in (TOOL, OTHER_TOOL):
                with self.subTest(kind.__name__, tool=tool):
                    lives = []
                    left = []
                    alive = [self.register(kind(act)),
                             self.register(kind(act_within), E.PY_UNWIND,
                                           tool)]
                    self.fire()
                    self.assertEqual(lives, [[True, True], [True, False]])
                    self.assertEqual(left, [0, 0])
                    self.assertEqual([ref() for ref in alive], [None, None])
                    monitoring.set_events(tool, 0)

    def test_same_callback_within(self):
        def act():
            nonlocal depth
            depth += 1
            if depth < 4:
                sys.call_tracing(self.fire, ())
            else:
                monitoring.register_callback(TOOL, E.PY_THROW, None)
            gc.collect()
            lives.append(alive() is not None)

        for kind in KINDS:
            with self.subTest(kind.__name__):
                depth = 0
                lives = []
                alive = self.register(kind(act))
                self.fire()
                self.assertEqual(lives, [True] * 4)
                # With events within, the frames of the outer ones are kept,
                # here of activations that do not end.
                monitoring.set_events(TOOL, 0)
                self.assertIsNone(alive())

    def test_finalizer_that_lets_events_through(self):
        # The next tool's callback still gets the offset of its own event.
        class Callback:
            def __call__(self, code, offset, value):
                monitoring.register_callback(OTHER_TOOL, E.PY_YIELD,
                                             lambda *args: None)

            def __del__(self):
                sys.call_tracing(fire, (5000,))
                sys.call_tracing(fire, (6000,))

        def fire(offset):
            _testcapi.fire_event_py_yield(codelike, offset, None)

        codelike = _testcapi.WeakCodeLike(1)
        offsets = []
        self.register(lambda code, offset, value: offsets.append(offset + 0),
                      E.PY_YIELD)
        self.register(lambda *args: None, E.PY_YIELD, OTHER_TOOL)
        enter(codelike, "PY_YIELD")
        fire(1000)
        monitoring.register_callback(OTHER_TOOL, E.PY_YIELD, Callback())
        offsets.clear()
        fire(2000)
        # In the interpreter's order the other tool's callback comes first.
        self.assertEqual(offsets, [5000, 6000, 2000])

    def test_removed_where_bytecode_runs_within(self):
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


@threading_helper.requires_working_threading()
class TestCallbacksInThreads(CallbackTestCase):
    """A thread waits in a callback, as at a debugger's prompt, while others
    come and go."""

    def wait(self):
        self.waiting.release()
        self.assertTrue(self.resume.wait(support.SHORT_TIMEOUT))

    @contextlib.contextmanager
    def threads_in_callback(self, number, alive):
        """Have threads wait in a callback, to the last of these weak
        references; all of them must be alive till the threads go on."""
        self.waiting = threading.Semaphore(0)
        self.resume = threading.Event()
        threads = [threading.Thread(target=self.fire) for _ in range(number)]
        with threading_helper.start_threads(threads, self.resume.set):
            for _ in threads:
                self.assertTrue(
                    self.waiting.acquire(timeout=support.SHORT_TIMEOUT))
            yield
            gc.collect()
            for ref in alive:
                self.assertIsNotNone(ref())
        for ref in alive:
            self.assertIsNone(ref())

    def test_others_are_replaced(self):
        for kind in KINDS:
            with self.subTest(kind.__name__):
                alive = [self.register(kind(self.wait))]
                with self.threads_in_callback(1, alive):
                    self.assertEqual(self.replace_many(10_000), 0)
                    self.assertEqual(self.replace_many(100, TOOL), 0)

    def test_one_callback_in_several_threads(self):
        for kind in KINDS:
            with self.subTest(kind.__name__):
                alive = [self.register(kind(self.wait))]
                with self.threads_in_callback(3, alive):
                    self.assertEqual(self.replace_many(100, TOOL), 0)

    def test_other_callback_within(self):
        for kind in KINDS:
            with self.subTest(kind.__name__):
                alive = [self.register(kind(
                             lambda: sys.call_tracing(self.fire_inner, ()))),
                         self.register(kind(self.wait), E.PY_UNWIND)]
                with self.threads_in_callback(2, alive):
                    for event in (E.PY_THROW, E.PY_UNWIND):
                        self.assertEqual(
                            self.replace_many(100, TOOL, event), 0)
                    self.assertEqual(self.replace_many(10_000), 0)


if __name__ == "__main__":
    unittest.main()
