"""Traceback entries of code that is not bytecode."""

import io
import linecache
import logging
import sys
import textwrap
import traceback
import types
import unittest
from test import support
from test.support import import_helper, script_helper
from .monitoring_frames_support import (FILENAME, BadAttribute, FrameTestCase,
                                        Template, foreign, iterate_traceback)
from .monitoring_support import (E, TOOL, Plain, count_blocks, make_codelikes,
                                 make_function, make_producer, monitoring)

_testcapi = import_helper.import_module("_testcapi")


class Located:
    """A code-like whose locations are in several files."""

    co_name = "located"
    co_filename = FILENAME
    co_firstlineno = 1

    def __init__(self, *locations):
        self.locations = locations

    def co_location(self, offset):
        return self.locations[offset // 2]


class TestAddTraceback(FrameTestCase):

    SOURCE = "first = 1\nanswer = some + other\nlast = 3\n"

    def setUp(self):
        super().setUp()
        self.cache(FILENAME, self.SOURCE)

    def cache(self, filename, source):
        linecache.cache[filename] = (
            len(source), None, source.splitlines(True), filename)
        self.addCleanup(linecache.cache.pop, filename)

    def entry(self, codelike, offset=0, lineno=0):
        """The entry that is added for an exception without one."""
        exc = LookupError("test")
        self.assertEqual(_testcapi.monitoring_add_traceback(
            exc, codelike, offset, lineno), 0)
        tb = exc.__traceback__
        self.assertIsNone(tb.tb_next)
        self.assertEqual(tb.tb_frame.f_code.co_name, codelike.co_name)
        self.assertEqual(tb.tb_frame.f_lineno, tb.tb_lineno)
        return exc, tb

    def shown(self, exc):
        return "".join(traceback.format_exception(exc))

    def template(self, *positions):
        return Template("page", 1, *positions)

    def test_carets(self):
        codelike = self.template((1, 1, 0, 5), (2, 2, 9, 21))
        exc, tb = self.entry(codelike, 2)
        self.assertEqual((tb.tb_lineno, tb.tb_lasti), (2, 2))
        expected = (f'  File "{FILENAME}", line 2, in page\n'
                    "    answer = some + other\n"
                    "             ~~~~~^~~~~~~\n"
                    "LookupError: test\n")
        self.assertTrue(self.shown(exc).endswith(expected))
        with support.captured_stderr() as output:
            sys.excepthook(type(exc), exc, exc.__traceback__)
        self.assertTrue(output.getvalue().endswith(expected))
        with support.captured_stderr() as output:
            _testcapi.exception_print(exc)
        self.assertTrue(output.getvalue().endswith(expected))

    def test_logging(self):
        exc, _ = self.entry(self.template((1, 1, 0, 5)))
        output = io.StringIO()
        logger = logging.Logger("test")
        logger.addHandler(logging.StreamHandler(output))
        try:
            raise exc
        except LookupError:
            logger.exception("failed")
        self.assertIn(f'File "{FILENAME}", line 1, in page\n    first = 1\n',
                      output.getvalue())

    def test_uncaught(self):
        script = textwrap.dedent("""
            import _testcapi
            class Codelike:
                co_name = "page"
                co_filename = "foreign.src"
                co_firstlineno = 7
            exc = LookupError("test")
            _testcapi.monitoring_add_traceback(exc, Codelike(), 0, 9)
            raise exc
        """)
        result = script_helper.assert_python_failure("-c", script)
        self.assertEqual(result.err.decode().splitlines()[-3:], [
            '    raise exc', '  File "foreign.src", line 9, in page',
            "LookupError: test"])

    def test_lines(self):
        located = self.template((3, 3, 0, 4), (2, 2, None, None), (None,) * 4)
        for codelike, offset, lineno, expected in (
            # (tb_lineno, tb_lasti)
            (located, 0, 0, (3, 0)), (located, 0, 3, (3, 0)),
            (located, 2, 0, (2, 2)), (located, 2, 2, (2, 2)),
            # They differ: no columns.
            (located, 0, 2, (2, -1)), (located, 2, 3, (3, -1)),
            (located, 0, 1000, (1000, -1)),
            # Nothing is known of the offset.
            (located, 4, 2, (2, -1)), (located, 4, 0, (1, -1)),
            (located, 1, 3, (3, -1)), (located, 1, 0, (1, -1)),
            (located, 10_000, 3, (3, -1)), (located, 10_000, 0, (1, -1)),
            (located, 2**31 - 2, 0, (1, -1)),
            (Plain(), 0, 5, (5, -1)), (Plain(), 0, 0, (1, -1)),
            (_testcapi.CodeLike(0, "page", FILENAME, 4), 6, 0, (4, -1)),
            (_testcapi.CodeLike(0, "page", FILENAME, 4), 6, 5, (5, -1)),
        ):
            with self.subTest(codelike.co_name, offset=offset, lineno=lineno):
                exc, tb = self.entry(codelike, offset, lineno)
                lasti = tb.tb_lasti
                if expected[1] == -1 and lasti != -1:
                    # Or a place of the same line, without columns.
                    place = [*tb.tb_frame.f_code.co_positions()][lasti // 2]
                    self.assertIn(place[0], (None, tb.tb_lineno))
                    self.assertIn(place[2], (None, 0))
                    lasti = -1
                self.assertEqual((tb.tb_lineno, lasti), expected)
                summary = traceback.extract_tb(exc.__traceback__)
                self.assertEqual(summary[0].lineno, expected[0])
                if expected[1] == -1:
                    self.assertNotIn("^", self.shown(exc))

    def test_code_objects(self):
        for kind, codelike in make_codelikes().items():
            with self.subTest(kind):
                _, tb = self.entry(codelike, 0, 5)
                self.assertEqual(tb.tb_lineno, 5)
                if isinstance(codelike, types.CodeType):
                    self.assertIs(tb.tb_frame.f_code, codelike)

    def test_other_file(self):
        self.cache("included.src", "included = 1\nname = other\n")
        codelike = Located(
            (FILENAME, 3, 3, 0, 4), ("included.src", 2, 2, 7, 12),
            ("included.src", 1, None, None, None),
            ("included.src", None, None, None, None))
        for offset, lineno, filename, expected in (
            (0, 0, FILENAME, 3), (2, 0, "included.src", 2),
            (2, 2, "included.src", 2), (2, 1, "included.src", 1),
            (4, 0, "included.src", 1), (4, 2, "included.src", 2),
            (6, 2, "included.src", 2), (0, 1, FILENAME, 1),
        ):
            with self.subTest(offset=offset, lineno=lineno):
                exc, tb = self.entry(codelike, offset, lineno)
                entry, = traceback.extract_tb(tb)
                self.assertEqual((entry.filename, entry.lineno, entry.name),
                                 (filename, expected, "located"))
                has_columns = offset in (0, 2) and lineno in (0, expected) \
                    and expected != 1
                self.assertEqual("^" in self.shown(exc), has_columns)

    def test_frame_of_the_activation(self):
        codelike = self.template((1, 1, 0, 5), (2, 2, 9, 21))
        frames = []
        names = "PY_START", "LINE", "RAISE", "PY_UNWIND"
        self.look_at([codelike], frames.append, *names)

        def fail():
            raise LookupError

        variables = {"a": 1}
        producer = make_producer(
            codelike, ("PY_START", 0), ("namespaces", None, variables),
            ("LINE", 2, 2), fail,
            failed=(("traceback", 2, 0), ("RAISE", 2), ("PY_UNWIND", 2)))
        for events in names, ():
            frames.clear()
            monitoring.set_events(TOOL, sum(getattr(E, name)
                                            for name in events))
            try:
                producer()
            except LookupError as exc:
                tb = exc.__traceback__.tb_next
                self.assertEqual(tb.tb_frame.f_code.co_name, "page")
            self.assertEqual((tb.tb_lineno, tb.tb_lasti), (2, 2))
            self.assertEqual(tb.tb_frame.f_lineno, 2)
            if frames:
                self.assertEqual(len(frames), 4)
                self.assertEqual({*frames}, {tb.tb_frame})
                self.assertEqual(dict(tb.tb_frame.f_locals), variables)

    def test_entries_of_a_stack(self):
        # Foreign in Python in foreign code, with a tracer and without.
        inner, outer = self.template((1, 1, 0, 5)), Template("outer", 3)

        def fail():
            raise LookupError

        def entry(lineno):
            return {"failed": (("traceback", 0, lineno), ("RAISE", 0),
                               ("PY_UNWIND", 0))}

        def python():
            make_producer(inner, ("PY_START", 0), ("LINE", 0, 1), fail,
                          **entry(0))()

        producer = make_producer(outer, ("PY_START", 0), ("LINE", 0, 4),
                                 python, **entry(4))
        shown = []
        for tracer in None, lambda *args: None:
            sys.settrace(tracer)
            try:
                producer()
            except LookupError as exc:
                sys.settrace(None)
                shown.append(self.shown(exc))
                names = [tb.tb_frame.f_code.co_name for tb in
                         iterate_traceback(exc.__traceback__)]
                self.assertEqual(names, ["test_entries_of_a_stack", "outer",
                                         "python", "page", "fail"])
        self.assertEqual(*shown)

    def test_no_exception_set(self):
        with self.assertRaises(SystemError):
            _testcapi.monitoring_add_traceback(None, Plain(), 0, 0)

    def test_exception_is_kept(self):
        # Whatever the code-like does.
        def fail():
            raise ZeroDivisionError

        class NoName:
            co_name = 3

        class Positions(Plain):
            def co_positions(self):
                raise ZeroDivisionError

        for codelike in BadAttribute(fail), NoName(), Positions():
            with self.subTest(type(codelike)):
                exc = LookupError("test")
                exc.__context__ = context = KeyError()
                self.assertEqual(_testcapi.monitoring_add_traceback(
                    exc, codelike, 0, 0), -1)
                self.assertIs(exc.__context__, context)
                self.assertIsNone(exc.__traceback__)
                self.assertIsNone(exc.__cause__)

    def test_location_that_cannot_be_known(self):
        def fail(offset):
            raise ZeroDivisionError

        codelike = self.template((1, 1, 0, 5))
        codelike.co_location = fail
        _, tb = self.entry(codelike, 0, 2)
        self.assertEqual(tb.tb_lineno, 2)

    def test_locations_of_bytecode(self):
        """Line 0, which bytecode has, takes no other location's place."""
        codelike = Plain()
        codelike.co_positions = compile(
            "a = 1\n", FILENAME, "exec").co_positions
        for offset, lineno, line in ((0, 0, 1), (0, 3, 3), (2, 0, 1),
                                     (2, 1, 1)):
            with self.subTest(offset=offset, lineno=lineno):
                _, tb = self.entry(codelike, offset, lineno)
                self.assertEqual(tb.tb_lineno, line)
        _, tb = self.entry(Located(("included.src", 0, 1, 0, 0)))
        self.assertEqual(tb.tb_frame.f_code.co_filename, "included.src")
        self.assertEqual(tb.tb_lineno, 1)

    def test_events_while_the_codelike_is_asked(self):
        # They would not be the program's.
        def fire():
            foreign(Plain(), line=3)()
            asked.append(True)

        asked = []
        codelike = BadAttribute(fire)
        plain = []
        monitoring.register_callback(TOOL, E.LINE,
                                     lambda code, line: plain.append(code))
        monitoring.set_events(TOOL, E.LINE)
        exc = LookupError()
        _testcapi.monitoring_add_traceback(exc, codelike, 0, 3)
        monitoring.set_events(TOOL, 0)
        self.assertTrue(asked)
        self.assertNotIn(fire.__code__, plain)

    @unittest.skipUnless(hasattr(_testcapi, "set_nomemory"),
                         "needs _testcapi.set_nomemory")
    def test_in_a_callback(self):
        """Events that the callback fires after it do nothing."""
        def callback(code, *args):
            if code is codelike:
                lines.append(args)
                if len(lines) < 5:
                    self.entry(codelike)
                    producer()

        codelike = self.template((1, 1, 0, 5))
        lines = []
        producer = foreign(codelike, line=1)
        monitoring.register_callback(TOOL, E.LINE, callback)
        monitoring.set_events(TOOL, E.LINE)
        producer()
        self.assertEqual(lines, [(1,)])

    def test_no_memory(self):
        script = textwrap.dedent("""
            import _testcapi, sys, types
            from test.test_capi import test_monitoring_tracebacks as tests
            codelikes = [
                tests.Plain(), tests.make_function().__code__,
                tests.Template("page", 1, (1, 1, 0, 5), (2, 2, 9, 21)),
                tests.Located(("included.src", 2, 2, 7, 12)),
            ]
            add, set_nomemory, remove_mem_hooks = (
                _testcapi.monitoring_add_traceback, _testcapi.set_nomemory,
                _testcapi.remove_mem_hooks)
            M = sys.monitoring
            M.use_tool_id(2, "test")
            for events in 0, M.events.LINE:
                M.set_events(2, events)
                for codelike in codelikes:
                    for stop in 0, 1:
                        failures = 0
                        for start in range(300):
                            exc = LookupError("test")
                            result = None
                            set_nomemory(start, start + 1 if stop else 0)
                            try:
                                result = add(exc, codelike, 0, 2)
                            finally:
                                remove_mem_hooks()
                            if result == 0 and exc.__traceback__:
                                if stop and start < 40:
                                    continue
                                break
                            assert result == -1, result
                            assert exc.__traceback__ is None
                            assert exc.args == ("test",)
                            failures += 1
                        else:
                            raise AssertionError("never succeeded")
                        assert failures > 1, failures
                # Others, for the next round has their code objects.
                codelikes = [
                    tests.Plain(),
                    tests.Template("page", 1, (1, 1, 0, 5), (2, 2, 9, 21)),
                    tests.Located(("included.src", 2, 2, 7, 12)),
                ]
        """)
        script_helper.assert_python_ok("-c", script)

    def test_no_leak(self):
        codelike = self.template((1, 1, 0, 5), (2, 2, 9, 21))

        def add():
            for codelike in codelikes:
                _testcapi.monitoring_add_traceback(LookupError(), codelike, 2,
                                                   0)

        codelikes = (codelike, Plain(), _testcapi.CodeLike(0),
                     Located(*[("included.src", 2, 2, 7, 12)] * 2))
        # Without a GIL memory is also freed later; a leak is there always.
        leaked = []
        for _ in range(5):
            before = count_blocks()
            for _ in range(50):
                add()
            leaked.append(count_blocks() - before)
        self.assertLess(min(leaked), 20)


if __name__ == "__main__":
    unittest.main()
