"""Stacks with frames of code that is not bytecode, and who sees them."""

import _thread
import collections
import inspect
import io
import logging
import sys
import traceback
import unittest
import warnings
from functools import partial
from test.support import import_helper
from .monitoring_frames_support import (FILENAME, FrameTestCase, Template,
                                        foreign, iterate_traceback, lines_of,
                                        names_of, walk, walk_by_depth)
from .monitoring_support import (E, OTHER_TOOL, TOOL, Plain, make_producer,
                                 monitoring)

_testcapi = import_helper.import_module("_testcapi")


class TestStacks(FrameTestCase):
    """Foreign in foreign code, in Python, in a generator, in foreign code."""

    def setUp(self):
        super().setUp()
        self.codelikes = {
            name: Template(name, line, *lines_of(line, line + 1))
            for line, name in ((100, "outer"), (200, "middle"),
                               (300, "inner"))
        }
        outer, middle, inner = self.codelikes.values()
        self.inner = foreign(inner, ("LINE", 2, 301))
        self.middle = foreign(middle, ("LINE", 2, 201), self.inner,
                              ("LINE", 0, 200))

        def python():
            self.middle()

        def generator():
            yield 1
            python()
            yield 2

        def consume():
            for _ in generator():
                pass

        self.outer = foreign(outer, ("LINE", 2, 101), consume)
        self.python = python
        self.generator = generator

    def program(self):
        self.outer()

    EXPECTED = ["inner", "middle", "python", "generator", "consume", "outer",
                "program"]

    def look(self, look, *names):
        self.look_at(self.codelikes.values(), look, *names)

    def test_ways_to_look(self):
        seen = []

        def look(frame):
            if frame.f_code.co_name != "inner":
                return
            frames = walk(frame)
            seen.append(frames)
            self.assertEqual(names_of(frames, self.program.__func__),
                             self.EXPECTED)
            # Of this function and of the callback.
            by_depth = walk_by_depth(0)
            self.assertEqual(by_depth[2:], frames)
            self.assertEqual([frame for frame, _ in
                              traceback.walk_stack(frame)], frames)
            self.assertEqual([info.frame for info in inspect.stack()[2:]],
                             frames)
            summary = traceback.extract_stack(frame)
            self.assertEqual([(entry.name, entry.lineno)
                              for entry in reversed(summary)],
                             [(f.f_code.co_name, f.f_lineno)
                              for f in frames])
            self.assertEqual([f.f_lineno for f in frames
                              if f.f_code.co_filename == FILENAME],
                             [frame.f_lineno, 201, 101])
            output = io.StringIO()
            traceback.print_stack(frame, file=output)
            self.assertIn(f'File "{FILENAME}", line 201, in middle',
                          output.getvalue())

        # So that the callers are kept: the first look was at them.
        self.look(look, "PY_START", "LINE", "PY_RETURN")
        for _ in range(3):
            self.program()
        # The first event of the first run is too early to see the callers.
        for frames in seen:
            self.assertEqual(names_of(frames, self.program.__func__),
                             self.EXPECTED)
        self.assertEqual(len(seen), 9)

    def test_same_frame_for_an_activation(self):
        frames = collections.defaultdict(list)

        def look(frame):
            for f in walk(frame):
                if f.f_code.co_filename == FILENAME:
                    frames[f.f_code.co_name].append(f)

        self.look(look, "PY_START", "PY_RETURN", "LINE")
        self.program()
        self.assertEqual({name: len(set(map(id, found)))
                          for name, found in frames.items()},
                         dict.fromkeys(self.codelikes, 1))
        first = {name: found[0] for name, found in frames.items()}
        frames.clear()
        self.program()
        for name, found in frames.items():
            self.assertEqual(len(set(map(id, found))), 1)
            self.assertIsNot(found[0], first[name])

    def test_in_bytecode_events(self):
        def callback(code, offset):
            if code is self.python.__code__:
                seen.append(names_of(walk(sys._getframe(1)),
                                     self.program.__func__))

        seen = []
        for name in "PY_START", "LINE":
            monitoring.register_callback(TOOL, getattr(E, name), callback)
        monitoring.register_callback(
            OTHER_TOOL, E.PY_START, lambda code, offset: sys._getframe(1))
        monitoring.set_events(TOOL, E.PY_START | E.LINE)
        monitoring.set_events(OTHER_TOOL, E.PY_START)
        self.program()
        self.assertEqual(seen, [self.EXPECTED[2:]] * 2)

    def test_from_what_a_callback_calls(self):
        def deeper(depth):
            return deeper(depth - 1) if depth else walk(sys._getframe())

        def callback(code, offset):
            if code is self.codelikes["inner"]:
                found = deeper(3)
                self.assertEqual([f.f_code.co_name for f in found[:5]],
                                 ["deeper"] * 4 + ["callback"])
                seen.append(names_of(found[5:], self.program.__func__))
                # A generator that the callback runs, too.
                for found in (walk(sys._getframe()) for _ in (1,)):
                    seen.append(names_of(found[2:], self.program.__func__))

        seen = []
        monitoring.register_callback(TOOL, E.PY_START, callback)
        monitoring.set_events(TOOL, E.PY_START)
        # From the second time on, the callers are known.
        self.program()
        monitoring.register_callback(
            OTHER_TOOL, E.PY_START, lambda code, offset: sys._getframe(1))
        monitoring.set_events(OTHER_TOOL, E.PY_START)
        seen.clear()
        self.program()
        self.assertEqual(seen, [self.EXPECTED] * 2)

    def test_callback_of_c(self):
        frames = []
        monitoring.register_callback(
            TOOL, E.LINE, _testcapi.monitoring_frame_recorder(frames))
        for codelike in self.codelikes.values():
            monitoring.set_local_events(TOOL, codelike, E.LINE)
        self.program()
        self.assertEqual([frame.f_code.co_name for frame in frames],
                         ["outer", "middle", "inner", "middle"])
        self.assertIs(frames[1], frames[3])
        self.assertEqual([frame.f_lineno for frame in frames],
                         [101, 200, 301, 200])

    def test_no_python_frame_below(self):
        # A thread that runs foreign code alone.
        frames = []
        codelike = Plain()
        monitoring.register_callback(
            TOOL, E.LINE, _testcapi.monitoring_frame_recorder(frames))
        monitoring.set_events(TOOL, E.LINE)
        producer = foreign(codelike, ("LINE", 0, 3), ("LINE", 0, 4))
        handle = _thread.start_joinable_thread(producer)
        handle.join()
        monitoring.set_events(TOOL, 0)
        frames = [frame for frame in frames
                  if frame.f_code.co_name == codelike.co_name]
        self.assertEqual(len(frames), 2)
        self.assertIs(*frames)
        self.assertIsNone(frames[0].f_back)
        self.assertEqual(frames[0].f_lineno, 4)

    def test_recursion(self):
        codelike = self.codelikes["inner"]
        producer = foreign(codelike, ("LINE", 2, 301))
        for i in range(20):
            producer = foreign(codelike, ("LINE", 0, 400 + i), producer,
                               ("LINE", 0, 500 + i))
        lines = []

        def look(frame):
            lines.append([f.f_lineno for f in walk(frame)
                          if f.f_code.co_filename == FILENAME])

        self.look([].append, "LINE")
        self.look(look, "LINE")
        producer()
        lines.clear()
        producer()
        expected = []
        stack = []
        for i in reversed(range(20)):
            stack.insert(0, 400 + i)
            expected.append(stack[:])
        expected.append([301, *stack])
        for i in range(20):
            stack[0] = 500 + i
            expected.append(stack[:])
            del stack[0]
        self.assertEqual(lines, expected)

    def test_one_of_two_codelikes_looked_at(self):
        # A tool that listens to one event of one code-like.
        seen = []
        monitoring.register_callback(
            TOOL, E.LINE, lambda code, line: seen.append(
                names_of(walk(sys._getframe(1)), self.program.__func__)))
        monitoring.set_local_events(TOOL, self.codelikes["inner"], E.LINE)
        self.program()
        self.program()
        self.assertEqual(seen[1], self.EXPECTED)

    def test_generator_of_foreign_code(self):
        codelike = self.codelikes["inner"]
        parts = [
            make_producer(codelike, ("PY_START", 0), ("LINE", 0, 300),
                          ("PY_YIELD", 0, 1)),
            make_producer(codelike, ("PY_RESUME", 0), ("LINE", 0, 301),
                          ("PY_YIELD", 0, 2)),
            make_producer(codelike, failed=(
                ("PY_THROW", 0), ("LINE", 0, 302), ("RAISE", 0),
                ("PY_UNWIND", 0))),
        ]
        seen = []

        def look(frame):
            seen.append([f.f_lineno for f in walk(frame)
                         if f.f_code.co_filename == FILENAME])

        def fail():
            raise LookupError

        events = ("PY_START", "LINE", "PY_YIELD", "PY_RESUME", "PY_THROW",
                  "RAISE", "PY_UNWIND")
        self.look(look, *events)
        thrower = make_producer(codelike, fail, failed=(
            ("PY_THROW", 0), ("LINE", 0, 302), ("RAISE", 0),
            ("PY_UNWIND", 0)), handles=True)
        for part in parts:
            part()
        thrower()
        self.assertEqual(seen, [[300]] * 3 + [[300], [301], [301], [300],
                                              [302], [302], [302]])


class TestProgram(FrameTestCase):
    """The program itself does what it does without a tool."""

    def observe(self, producer, output):
        """What a Python function that foreign code calls finds."""
        def called():
            found.append([f.f_code.co_name for f in walk(sys._getframe())
                          if f.f_code is not run.__code__])
            found.append(sys._getframe(1).f_globals["__name__"])
            found.append([f.f_code.co_name for f in walk_by_depth(0)])
            found.append([info.function for info in inspect.stack()])
            traceback.print_stack(file=output)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                warnings.warn("here", stacklevel=1)
                warnings.warn("caller", stacklevel=2)
                warnings.warn("caller's", stacklevel=3)
            found.append([(w.filename, w.lineno) for w in caught])
            logger.warning("logged", stack_info=True)
            logger.warning("logged", stacklevel=2)
            try:
                raise LookupError
            except LookupError:
                traceback.print_exc(file=output)
            found.append([f.f_code.co_name for f in
                          walk(next(sys._getframe() for _ in (1,)))])

        def run():
            producer(called)()

        found = []
        logger = logging.Logger("test")
        handler = logging.StreamHandler(output)
        handler.setFormatter(logging.Formatter(
            "%(filename)s:%(lineno)d %(funcName)s %(message)s"))
        logger.addHandler(handler)
        run()
        return found, output.getvalue()

    def producer(self, called):
        inner = foreign(Plain(), ("LINE", 0, 5), called, ("LINE", 0, 6))
        return foreign(Template("outer", 1), ("LINE", 0, 2), inner)

    def test_the_same(self):
        def look(frame):
            looked.append(len(walk(frame)))

        def tracer(frame, event, arg):
            walk(frame)
            walk(sys._getframe())
            return tracer

        looked = []
        for name in "PY_START", "LINE", "PY_RETURN":
            monitoring.register_callback(
                TOOL, getattr(E, name),
                lambda code, *args: look(sys._getframe(1)))
        found = []
        # One line, which is shown.
        for switch_on, switch_off in (
            (int, int),
            (partial(monitoring.set_events, TOOL,
                     E.PY_START | E.LINE | E.PY_RETURN),
             partial(monitoring.set_events, TOOL, 0)),
            (partial(sys.settrace, tracer), partial(sys.settrace, None)),
            (partial(sys.setprofile, tracer), partial(sys.setprofile, None)),
        ):
            switch_on()
            found.append(self.observe(self.producer, io.StringIO()))
            switch_off()
        self.assertGreater(len(looked), 10)
        for other in found[1:]:
            self.assertEqual(other, found[0])

    def test_exceptions_of_python_code(self):
        # Their tracebacks have the frames of Python code.
        def fail():
            raise LookupError

        self.look_at([], None, "RAISE")
        monitoring.register_callback(
            TOOL, E.RAISE, lambda code, *args: walk(sys._getframe(1)))
        try:
            self.producer(fail)()
        except LookupError as exc:
            names = [tb.tb_frame.f_code.co_name for tb in
                     iterate_traceback(exc.__traceback__)]
        self.assertEqual(names, ["test_exceptions_of_python_code", "fail"])

    def test_frames_of_python_code_that_ended(self):
        # Their f_back is that of the program, whoever looked meanwhile.
        def called():
            kept.append(sys._getframe())

        kept = []
        monitoring.register_callback(
            TOOL, E.PY_START, lambda code, *args: walk(sys._getframe(1)))
        monitoring.register_callback(
            TOOL, E.LINE, lambda code, *args: walk(sys._getframe(1)))
        monitoring.set_events(TOOL, E.PY_START | E.LINE)
        self.producer(called)()
        monitoring.set_events(TOOL, 0)
        self.assertIs(kept[0].f_back, sys._getframe())


if __name__ == "__main__":
    unittest.main()
