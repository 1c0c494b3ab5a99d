"""Exceptions that are set when events are fired."""

import sys
import unittest
from test.support import import_helper
from .monitoring_support import (EXCEPTION_EVENTS, TOOL, MonitoringTestCase,
                                 enter, exit_scope, fire, make_cases,
                                 monitoring, scope)

_testcapi = import_helper.import_module("_testcapi")


def chain(exc):
    """The exception and its contexts; fails on a ring."""
    found = []
    while exc is not None:
        if any(exc is other for other in found):
            raise AssertionError(f"ring of contexts: {found}")
        found.append(exc)
        exc = exc.__context__
    return found


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
                    pending = case.args[-1]
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


if __name__ == "__main__":
    unittest.main()
