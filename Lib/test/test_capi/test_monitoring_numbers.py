"""Offsets and lines that callbacks keep."""

import functools
import itertools
import operator
import sys
import threading
import time
import types
import unittest
from test import support
from test.support import import_helper, threading_helper
from .monitoring_support import (DISABLE, E, EVENT_SETS, IDS, OTHER_TOOL, TOOL,
                                 MonitoringTestCase, Plain, enter, exit_scope,
                                 fire, make_cases, monitoring)

_testcapi = import_helper.import_module("_testcapi")


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


if __name__ == "__main__":
    unittest.main()
