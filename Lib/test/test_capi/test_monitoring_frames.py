"""The frames of code that is not bytecode, and who sees them."""

import _thread
import bdb
import cProfile
import collections
import contextlib
import gc
import inspect
import io
import itertools
import linecache
import logging
import operator
import pdb
import profile
import pstats
import random
import re
import sys
import textwrap
import threading
import trace
import traceback
import types
import unittest
import warnings
import weakref
from functools import partial
from test import support
from test.support import import_helper, script_helper, threading_helper
from .monitoring_support import (E, EXCEPTION_EVENTS, IDS, OTHER_TOOL, TOOL,
                                 MonitoringTestCase, Plain, count_blocks,
                                 make_codelikes, make_function, make_producer,
                                 monitoring)

_testcapi = import_helper.import_module("_testcapi")

FILENAME = "foreign.src"


def setUpModule():
    # Without a GIL the first thread makes code objects immortal: a test of
    # what dies would depend on the tests before it.
    unittest.enterModuleContext(support.suppress_immortalization())


class Template(types.CodeLike):
    """A code-like with locations: (line, end line, column, end column)."""

    def __init__(self, name, firstlineno, *positions, filename=FILENAME):
        self.co_name = name
        self.co_qualname = f"template.{name}"
        self.co_filename = filename
        self.co_firstlineno = firstlineno
        self.positions = positions

    co_name = co_qualname = co_filename = co_firstlineno = None

    def co_positions(self):
        return iter(self.positions)


def lines_of(*linenos):
    """Locations of whole lines."""
    return tuple((lineno, lineno, 0, 4) for lineno in linenos)


def walk(frame):
    """The frames from one on, by f_back."""
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


def walk_by_depth(depth):
    """The frames from sys._getframe(depth) of the caller on."""
    frames = []
    while True:
        try:
            frames.append(sys._getframe(depth + 1))
        except ValueError:
            return frames
        depth += 1


def names_of(frames, until):
    """The names of the code of frames, up to a Python function."""
    names = []
    for frame in frames:
        names.append(frame.f_code.co_name)
        if frame.f_code is until.__code__:
            return names
    raise AssertionError(f"{until} is not in {names}")


class FrameTestCase(MonitoringTestCase):

    def look_at(self, codelikes, look, *names):
        """Have a tool call look(frame) with the frame of the callback's
        caller, in events with the given names of the code-likes."""
        ids = set(map(id, codelikes))

        def register(name):
            def callback(code, *args):
                if id(code) in ids:
                    look(sys._getframe(1))
            monitoring.register_callback(TOOL, getattr(E, name), callback)

        for name in names:
            register(name)
        monitoring.set_events(TOOL, sum(getattr(E, name) for name in names))


def foreign(codelike, *actions, line=None, value=None, **kwargs):
    """A producer that signals its start and end around the actions."""
    first = (("LINE", 0, line),) if line is not None else ()
    return make_producer(codelike, ("PY_START", 0), *first, *actions,
                         ("PY_RETURN", 0, value),
                         failed=(("RAISE", 0), ("PY_UNWIND", 0)), **kwargs)


class TestAttributes(FrameTestCase):

    def first_frame(self, codelike, *actions, name="LINE"):
        """The frame in the first event of a name."""
        frames = []
        self.look_at([codelike], frames.append, name)
        make_producer(codelike, ("PY_START", 0), *actions,
                      ("PY_RETURN", 0, None))()
        return frames[0]

    def test_code_objects(self):
        for kind, codelike in make_codelikes().items():
            with self.subTest(kind):
                frame = self.first_frame(codelike, ("LINE", 0, 7))
                self.assertIsInstance(frame, types.FrameType)
                if isinstance(codelike, types.CodeType):
                    self.assertIs(frame.f_code, codelike)
                else:
                    self.assertEqual(frame.f_code.co_name, codelike.co_name)
                    self.assertEqual(frame.f_code.co_filename,
                                     codelike.co_filename)
                    self.assertEqual(frame.f_code.co_firstlineno,
                                     codelike.co_firstlineno)
                self.assertEqual(frame.f_lineno, 7)
                again = self.first_frame(codelike, ("LINE", 0, 8))
                self.assertIsNot(again, frame)
                self.assertIs(again.f_code, frame.f_code)

    def test_code_object_of_template(self):
        positions = (3, 3, 1, 5), (4, 6, None, None), (None,) * 4
        codelike = Template("page", 3, *positions)
        frame = self.first_frame(codelike, ("LINE", 0, 3))
        code = frame.f_code
        self.assertEqual(code.co_qualname, "template.page")
        self.assertEqual(list(code.co_positions())[:3], list(positions))

    def test_code_object_dies_with_the_codelike(self):
        codelike = Plain()
        ref = weakref.ref(self.first_frame(codelike, ("LINE", 0, 3)).f_code)
        monitoring.set_events(TOOL, 0)
        gc.collect()
        self.assertIsNotNone(ref())
        monitoring.register_callback(TOOL, E.LINE, None)
        del codelike
        gc.collect()
        # What is kept for code-likes that died goes when it is looked for.
        monitoring.restart_events()
        gc.collect()
        self.assertIsNone(ref())

    def test_codelike_without_weak_references(self):
        codelike = _testcapi.CodeLike(0, "strong", FILENAME, 5)
        frames = []
        self.look_at([codelike], frames.append, "PY_START", "PY_RETURN")
        foreign(codelike)()
        self.assertIs(frames[0], frames[1])
        self.assertEqual(frames[0].f_code.co_name, "strong")
        self.assertEqual(frames[0].f_code.co_filename, FILENAME)
        self.assertEqual(frames[0].f_lineno, 5)

    def test_missing_and_wrong_attributes(self):
        class Bare:
            pass

        frame = self.first_frame(Bare(), ("LINE", 0, 3))
        self.assertEqual(frame.f_code.co_name, "<unknown>")
        self.assertEqual(frame.f_code.co_filename, "<unknown>")
        for name, value in (("co_name", 3), ("co_filename", b"x"),
                            ("co_firstlineno", "x"), ("co_qualname", ()),
                            ("co_positions", lambda: 3),
                            ("co_positions", lambda: [3]),
                            ("co_positions", lambda: [(1, 2, 3)]),
                            ("co_positions", lambda: [(1, 2, 3, "x")])):
            with self.subTest(name=name, value=value):
                codelike = Bare()
                setattr(codelike, name, value)
                with self.assertRaises(TypeError):
                    self.first_frame(codelike, ("LINE", 0, 3))
                monitoring.set_events(TOOL, 0)

    def places(self, codelike, *actions):
        """(f_lineno, f_lasti) in the callback of each action's event."""
        seen = []

        def look(frame):
            seen.append((frame.f_lineno, frame.f_lasti))
            # What traceback shows agrees.
            self.assertEqual(traceback.extract_stack(frame)[-1].lineno,
                             frame.f_lineno)
            self.assertEqual(inspect.getframeinfo(frame).lineno,
                             frame.f_lineno)
            lineno = [*frame.f_code.co_positions()][frame.f_lasti // 2][0]
            self.assertIn(lineno, (None, frame.f_lineno))

        self.look_at([codelike], look, *{action[0] for action in actions})
        make_producer(codelike, *actions)()
        monitoring.set_events(TOOL, 0)
        return seen

    def test_lines_and_offsets(self):
        codelike = Template("page", 10, *lines_of(10, 11, 11, 12),
                            (None,) * 4)
        positions = [tuple(-1 if number is None else number for number in p)
                     for p in codelike.positions]
        for codelike in codelike, _testcapi.code_newwithlocations(
                FILENAME, "page", "page", 10, positions):
            found = self.places(
                codelike, ("PY_START", 0), ("BRANCH", 2, 4), ("BRANCH", 6, 4),
                ("LINE", 4, 11), ("BRANCH", 2, 4), ("BRANCH", 6, 4),
                ("LINE", 6, 12), ("PY_RETURN", 8, None))
            self.assertEqual(found, [
                (10, 0), (11, 2), (12, 6), (11, 4), (11, 2),
                # Of another line than that which LINE said.
                (11, 8), (12, 6), (12, 8)])

    def test_offsets_that_count_otherwise(self):
        codelike = Template("page", 10, *lines_of(10, 11))
        end = 4
        self.assertEqual(
            self.places(codelike, ("PY_START", 1), ("LINE", 3, 11),
                        ("BRANCH", 1000, 0), ("BRANCH", 2, 0),
                        ("LINE", 2**31 - 1, 2**31 - 1)),
            [(10, end), (11, end), (11, end), (11, 2), (2**31 - 1, end)])

    def test_offsets_without_locations(self):
        found = self.places(Plain(), ("PY_START", 0), ("LINE", 0, 5),
                            ("LINE", 6, 1))
        self.assertEqual([line for line, _ in found], [1, 5, 1])

    def test_coverage_can_read_the_bytecode(self):
        # It looks whether a call is that of a generator that goes on, and a
        # return one that yields.
        for kind, codelike in make_codelikes().items():
            for offset in 0, 2, 1001:
                with self.subTest(kind, offset=offset):
                    frame = self.first_frame(codelike, ("LINE", offset, 7))
                    self.assertGreaterEqual(frame.f_lasti, 0)
                    self.assertLess(frame.f_lasti,
                                    len(frame.f_code.co_code))

    def test_line_of_a_kept_frame(self):
        frames = []
        codelike = Plain()
        self.look_at([codelike], frames.append, "LINE")
        foreign(codelike, ("LINE", 0, 3), ("LINE", 0, 4))()
        self.assertIs(*frames)
        self.assertEqual(frames[0].f_lineno, 4)

    def test_line_cannot_be_set(self):
        codelike = Plain()
        kept = []

        def set_line(frame):
            with self.assertRaises(ValueError):
                frame.f_lineno = 3
            with self.assertRaises((ValueError, AttributeError)):
                del frame.f_lineno

        def look(frame):
            kept.append(frame)
            set_line(frame)
            # Nor of the Python frame.
            set_line(frame.f_back)

        names = {"LINE", "PY_START", "PY_RETURN", "RAISE", "PY_UNWIND"}
        self.look_at([codelike], look, *names)

        def fail():
            raise LookupError

        foreign(codelike, line=3)()
        with self.assertRaises(LookupError):
            foreign(codelike, fail, line=3)()
        self.assertEqual(len(kept), 7)
        for frame in kept:
            set_line(frame)
            self.assertEqual(frame.f_lineno, 3)

        # In a callback for a line of bytecode it can be set, of that frame.
        def python():
            a = 1
            return a

        def callback(code, line):
            if code is python.__code__:
                lines.append(line)
                set_line(kept[0])
                if len(lines) == 2:
                    sys._getframe(1).f_lineno = lines[0]

        lines = []
        monitoring.register_callback(TOOL, E.LINE, callback)
        monitoring.set_events(TOOL, E.LINE)
        python()
        monitoring.set_events(TOOL, 0)
        self.assertEqual([line - lines[0] for line in lines], [0, 1, 1])

    def test_line_cannot_be_set_by_a_trace_function(self):
        codelike = Plain()
        failures = []

        def tracer(frame, event, arg):
            if frame.f_code.co_name == codelike.co_name:
                try:
                    frame.f_lineno = 3
                except ValueError:
                    failures.append(event)
            return tracer

        producer = foreign(codelike, line=3)
        sys.settrace(tracer)
        producer()
        sys.settrace(None)
        self.assertEqual(failures, ["call", "line", "return"])

    def test_clear(self):
        codelike = Plain()
        kept = []

        def look(frame):
            kept.append(frame)
            for running in walk(frame):
                with self.assertRaises(RuntimeError):
                    running.clear()

        self.look_at([codelike], look, "LINE")
        variables = {"a": 1}
        foreign(codelike, ("namespaces", None, variables), ("LINE", 0, 3),
                make_producer(codelike, ("LINE", 0, 4)), ("LINE", 0, 5))()
        for frame in kept:
            frame.clear()
            frame.clear()
            self.assertEqual(frame.f_lineno, frame.f_lineno)
            repr(frame)
        self.assertEqual(variables, {"a": 1})

    @threading_helper.requires_working_threading()
    def test_clear_of_a_frame_of_another_thread(self):
        def wait():
            ready.set()
            done.wait(support.SHORT_TIMEOUT)

        codelike = Plain()
        frames = []
        ready, done = threading.Event(), threading.Event()
        self.look_at([codelike], frames.append, "LINE")
        thread = threading.Thread(target=foreign(
            codelike, ("namespaces", None, {"a": 1}), ("LINE", 0, 3), wait,
            ("LINE", 0, 4)))
        thread.start()
        try:
            ready.wait(support.SHORT_TIMEOUT)
            with self.assertRaises(RuntimeError):
                frames[0].clear()
        finally:
            done.set()
            thread.join()
        self.assertIs(frames[0], frames[1])
        self.assertEqual(dict(frames[0].f_locals), {"a": 1})
        frames[0].clear()

    def test_trace_attributes(self):
        frame = self.first_frame(Plain(), ("LINE", 0, 7))
        self.assertIsNone(frame.f_trace)
        frame.f_trace = print
        self.assertIs(frame.f_trace, print)
        del frame.f_trace
        for codelike in make_codelikes().values():
            frame = self.first_frame(codelike, ("LINE", 0, 7))
            self.assertTrue(frame.f_trace_lines)
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
            self.assertFalse(frame.f_trace_lines)
            self.assertIn(f"line 7, code {frame.f_code.co_name}", repr(frame))

    def test_garbage(self):
        # A cycle through a foreign frame is found.
        frame = self.first_frame(Plain(), ("LINE", 0, 7))
        monitoring.set_events(TOOL, 0)
        monitoring.register_callback(TOOL, E.LINE, None)

        class Thing:
            pass

        thing = Thing()
        thing.frame = frame
        frame.f_locals["thing"] = thing
        ref = weakref.ref(thing)
        del thing, frame
        gc.collect()
        self.assertIsNone(ref())


class TestNamespaces(FrameTestCase):

    def test_defaults(self):
        codelike = Template("page", 1)
        frames = []
        self.look_at([codelike], frames.append, "PY_START")
        foreign(codelike)()
        frame = frames[0]
        self.assertEqual(frame.f_globals, {
            "__name__": __name__, "__file__": FILENAME,
            "__builtins__": frame.f_builtins})
        self.assertEqual(dict(frame.f_locals), {})
        self.assertIs(frame.f_builtins, frame.f_back.f_builtins)
        self.assertEqual(eval("len('abc')", frame.f_globals, frame.f_locals),
                         3)

    def test_name_of_the_code_below(self):
        # Where it was found last is kept.
        def name_in(namespace):
            exc = LookupError()
            exec("add(exc, codelike, 0, 0)", namespace, {
                "add": _testcapi.monitoring_add_traceback, "exc": exc,
                "codelike": Plain()})
            return exc.__traceback__.tb_frame.f_globals.get("__name__")

        first = {"__name__": "first"}
        second = {"a": 1, "__name__": "second"}
        for _ in range(2):
            self.assertEqual(name_in(first), "first")
            self.assertEqual(name_in(second), "second")
            self.assertIsNone(name_in({"a": 1}))
            self.assertEqual(name_in(second), "second")
        second["__name__"] = "other"
        self.assertEqual(name_in(second), "other")
        del second["__name__"]
        self.assertIsNone(name_in(second))
        second.update({"b": 2, "__name__": "again"})
        self.assertEqual(name_in(second), "again")
        second[1] = 2
        self.assertEqual(name_in(second), "again")
        second.clear()
        self.assertIsNone(name_in(second))

    def test_variables_of_the_code_object(self):
        # The code of a closure, as Numba's are: none of it runs.
        def outer(a=1):
            def inner(b=2):
                return a, b
            return inner

        code = outer().__code__
        frames = []
        self.look_at([code], frames.append, "PY_START")
        make_producer(code, ("PY_START", 0))()
        frame = frames[0]
        self.assertEqual(frame.f_locals, {})
        frame.f_locals["a"] = 3
        frame.f_locals["c"] = 4
        self.assertEqual(frame.f_locals, {"a": 3, "c": 4})
        for name in "ab":
            with self.assertRaises(NameError):
                _testcapi.frame_getvar(frame, name)

    def test_what_is_written_before_the_producer_says(self):
        def callback(frame):
            if not frame.f_locals:
                frame.f_locals["a"] = 3
            seen.append(dict(frame.f_locals))

        def code(a=1):
            pass

        seen = []
        self.look_at([code.__code__], callback, "PY_START", "LINE")
        make_producer(code.__code__, ("PY_START", 0),
                      ("namespaces", None, {"b": 2}), ("LINE", 0, 1))()
        self.assertEqual(seen, [{"a": 3}, {"a": 3, "b": 2}])

    def test_what_the_producer_says(self):
        codelike = Plain()
        for look_first in False, True:
            with self.subTest(look_first=look_first):
                frames = []
                names = {"LINE"} | ({"PY_START"} if look_first else set())
                self.look_at([codelike], frames.append, *names)
                namespace = {"g": 1}
                variables = types.MappingProxyType({"a": 2})
                foreign(codelike, ("namespaces", namespace, variables),
                        ("LINE", 0, 5))()
                frame = frames[-1]
                self.assertIs(frame.f_globals, namespace)
                self.assertEqual(dict(frame.f_locals), {"a": 2})
                self.assertEqual(eval("a + g", frame.f_globals,
                                      frame.f_locals), 3)

    def test_null_leaves_what_was(self):
        codelike = Plain()
        frames = []
        self.look_at([codelike], frames.append, "LINE")
        first, second = {"g": 1}, {"g": 2}
        seen = []

        def look():
            seen.append((frames[-1].f_globals["g"], *frames[-1].f_locals))

        foreign(codelike, ("namespaces", first, {"a": 1}), ("LINE", 0, 3),
                look, ("namespaces", None, {"b": 1}), ("LINE", 0, 4), look,
                ("namespaces", second, None), ("LINE", 0, 5), look,
                ("namespaces", None, None), ("LINE", 0, 6), look)()
        self.assertEqual(seen, [(1, "a"), (1, "b"), (2, "b"), (2, "b")])

    def test_live_variables(self):
        codelike = Plain()
        seen = []
        variables = {}
        self.look_at([codelike], lambda frame: seen.append(
            dict(frame.f_locals)), "LINE")
        foreign(codelike, ("namespaces", None, variables), ("LINE", 0, 3),
                lambda: variables.update(a=1), ("LINE", 0, 4),
                lambda: variables.clear(), ("LINE", 0, 5))()
        self.assertEqual(seen, [{}, {"a": 1}, {}])

    def test_what_a_debugger_writes(self):
        # It stays with the frame, also where variables come later.
        codelike = Plain()
        variables = {"a": 1}
        seen = []

        def look(frame):
            seen.append(dict(frame.f_locals))
            frame.f_locals["mark"] = len(seen)
            frame.f_locals["a"] = "shadowed"

        self.look_at([codelike], look, "LINE")
        producer = foreign(codelike, ("LINE", 0, 3),
                           ("namespaces", None, variables), ("LINE", 0, 4))
        producer()
        self.assertEqual(variables, {"a": 1})
        self.assertEqual(seen, [{}, {"mark": 1, "a": "shadowed"}])
        seen.clear()
        producer()
        self.assertEqual(seen[0], {})

    def test_code_object_with_variables(self):
        # That of a Python function: its frame has none of its variables.
        code = make_function().__code__
        self.assertEqual(code.co_varnames, ("a",))
        frames = []
        self.look_at([code], frames.append, "LINE")
        foreign(code, ("LINE", 0, 2), ("namespaces", {"g": 1}, {"b": 2}),
                ("LINE", 0, 2))()
        frame = frames[-1]
        self.assertIs(frame.f_code, code)
        found = dict(frame.f_locals)
        frame.f_locals["c"] = 3
        self.assertEqual(frame.f_locals["c"], 3)
        self.assertEqual(found.get("b"), 2)
        self.assertNotIn("a", found)

    def test_inactive(self):
        # As the functions that fire.
        codelike = _testcapi.WeakCodeLike(1)
        _testcapi.monitoring_enter_scope(codelike, IDS["LINE"])
        _testcapi.monitoring_set_frame_namespaces(codelike, 3, 3)
        self.look_at([codelike], lambda frame: None, "LINE")
        _testcapi.monitoring_enter_scope(codelike, IDS["LINE"])
        pending = KeyError("pending")
        for args in ((3, None), (None, 3), ([], {}), ({}, 2)):
            with self.subTest(args):
                with self.assertRaises(TypeError) as caught:
                    _testcapi.monitoring_set_frame_namespaces(
                        codelike, *args, pending=pending)
                self.assertIs(caught.exception.__context__, pending)
        _testcapi.monitoring_set_frame_namespaces(codelike, {}, {},
                                                  pending=pending)

    def test_in_a_callback(self):
        # As the functions that fire, it does nothing there.
        codelike = _testcapi.WeakCodeLike(1)
        frames = []

        def look(frame):
            frames.append(frame)
            _testcapi.monitoring_set_frame_namespaces(codelike, {"g": 1}, {})
            self.assertNotIn("g", frame.f_globals)

        self.look_at([codelike], look, "LINE")
        _testcapi.monitoring_enter_scope(codelike, IDS["LINE"])
        _testcapi.fire_event_line(codelike, 0, 3)
        self.assertEqual(len(frames), 1)

    def test_kept_until_the_end(self):
        class Namespace(dict):
            pass

        def note():
            gc.collect()
            alive.append([ref() is not None for ref in refs])

        codelike = _testcapi.WeakCodeLike(2)
        monitoring.set_events(TOOL, E.PY_START | E.PY_RETURN)
        _testcapi.monitoring_enter_scope(codelike, IDS["PY_START"],
                                         IDS["PY_RETURN"])
        alive = []
        namespaces = [Namespace(), Namespace()]
        refs = [*map(weakref.ref, namespaces)]
        _testcapi.fire_event_py_start(codelike, 0)
        _testcapi.monitoring_set_frame_namespaces(codelike, *namespaces)
        del namespaces
        note()
        _testcapi.fire_event_py_return(codelike, 1, None)
        note()
        self.assertEqual(alive, [[True, True], [False, False]])

    def test_globals_that_change_in_the_middle(self):
        codelike = Plain()
        frames = []
        self.look_at([codelike], frames.append, "LINE")
        foreign(codelike, *(
            action for i in range(100)
            for action in (("namespaces", {"i": i}, {"i": i}),
                           ("LINE", 0, i + 1))))()
        self.assertIs(frames[0], frames[-1])
        self.assertEqual(frames[0].f_globals, {"i": 99})
        self.assertEqual(dict(frames[0].f_locals), {"i": 99})


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


# ------ A program that is both Python and foreign ------

TWIN_SOURCE = """\
def leaf():
    a = len("abc")
    return a

def fails():
    leaf()
    {}.popitem()

def raises():
    try:
        raise LookupError("here")
    finally:
        leaf()

def passes(which):
    leaf()
    which()
    leaf()

def catches():
    try:
        passes(fails)
    except LookupError:
        leaf()
    return "caught"

def catches_again():
    try:
        passes(raises)
    except LookupError as exc:
        pass

def generator():
    leaf()
    yield 1
    leaf()
    yield 2

def consumes():
    for number in generator():
        leaf()
        catches()
    return 3

def recurses(depth):
    if depth:
        recurses(depth - 1)
    leaf()

def main():
    leaf()
    consumes()
    catches_again()
    recurses(3)
"""

REPLAYED = ("PY_START", "PY_RESUME", "PY_RETURN", "PY_YIELD", "CALL", "LINE",
            "JUMP", "BRANCH", "STOP_ITERATION", "RAISE", "RERAISE",
            "EXCEPTION_HANDLED", "PY_UNWIND", "C_RETURN", "C_RAISE")
BEGIN = {"PY_START", "PY_RESUME"}
END = {"PY_RETURN", "PY_YIELD", "PY_UNWIND"}


class Activation:
    """A run of a function: its events, and the runs that it began."""

    def __init__(self, code, frame):
        self.name = code.co_name
        self.args = tuple(frame.f_locals[name] for name in
                          code.co_varnames[:code.co_argcount])
        self.parts = []


class Twin:
    """Functions of Python, any of which can be replaced by a producer that
    signals what they did, with their code objects."""

    def __init__(self):
        self.python = {"__name__": "twin", "__file__": FILENAME}
        exec(compile(TWIN_SOURCE, FILENAME, "exec"), self.python)
        self.names = [name for name, value in self.python.items()
                      if isinstance(value, types.FunctionType)]
        self.codes = {self.python[name].__code__ for name in self.names}
        self.record()

    def record(self):
        """Note all events of the program in Python."""
        self.activations = collections.defaultdict(list)
        stack = []

        def register(name):
            def callback(code, *args):
                if code not in self.codes:
                    return
                frame = sys._getframe(1)
                if name in BEGIN:
                    stack.append(Activation(code, frame))
                    self.activations[code.co_name].append(stack[-1])
                    for caller in stack[-2:-1]:
                        caller.parts.append(stack[-1])
                # What callbacks get first is not always where the frame is,
                # or the line.
                if name != "LINE":
                    args = args[1:]
                if name == "C_RAISE":
                    args = *args, KeyError()
                stack[-1].parts.append((name, frame.f_lasti, *args))
                if name in END:
                    stack.pop()
            monitoring.register_callback(TOOL, getattr(E, name), callback)

        for name in REPLAYED:
            register(name)
        monitoring.set_events(TOOL, sum(getattr(E, name) for name in REPLAYED
                                        if not name.startswith("C_")))
        self.python["main"]()
        monitoring.set_events(TOOL, 0)
        for name in REPLAYED:
            monitoring.register_callback(TOOL, getattr(E, name), None)

    def program(self, foreign_names=()):
        """Return main() of a program with the functions of these names
        foreign.  All that it does besides is done by functions of C."""
        namespace = dict(self.python)
        for name in self.names:
            code = self.python[name].__code__
            namespace[name] = types.FunctionType(code, namespace, name)
        python_generator = namespace["generator"]
        # A foreign function takes the next of its runs, which are put there
        # when all can be called.
        runs = {name: [] for name in foreign_names}
        for name in foreign_names:
            namespace[name] = partial(
                next, map(operator.call, iter(runs[name])))
        if "generator" in foreign_names:
            # Its runs belong to one generator; the last one ends it.
            number = len(self.activations["generator"])
            generator = filter(None, map(
                operator.is_, map(operator.call, iter(runs["generator"])),
                (None,) * (number - 1) + (0,)))
            namespace["generator"] = partial(iter, generator)
        else:
            generator = python_generator()

        def call(activation):
            if activation.name == "generator":
                return partial(next, generator, None)
            return partial(namespace[activation.name],
                           *(namespace[arg.__name__] if callable(arg) else arg
                             for arg in activation.args))
        for name in foreign_names:
            runs[name] += (self.replay(activation, call)
                           for activation in self.activations[name])
        return namespace["main"]

    def replay(self, activation, call):
        """Return a producer that does what an activation did."""
        actions, failed = [], []
        done = actions
        pending = False
        for part in activation.parts:
            if isinstance(part, Activation):
                done.append(call(part))
                pending |= part.parts[-1][0] == "PY_UNWIND"
                continue
            name, *args = part
            if name in {"RAISE", "RERAISE"} and done is actions:
                if not pending:
                    done.append(partial(_testcapi.err_set_raised,
                                        type(args[1])(*args[1].args)))
                done = failed
            if name == "RAISE":
                done.append(("traceback", args[0], 0))
            if done is failed and name in EXCEPTION_EVENTS:
                del args[1:]
            done.append((name, *args))
        return make_producer(
            self.python[activation.name].__code__, *actions, failed=failed,
            handles=activation.parts[-1][0] != "PY_UNWIND")


def describe(arg):
    """What a tracer got, without what differs each time."""
    if isinstance(arg, tuple) and len(arg) == 3:
        exc_type, exc, tb = arg
        return exc_type.__name__, type(exc).__name__, [
            (tb.tb_frame.f_code.co_name, tb.tb_lineno, tb.tb_lasti)
            for tb in iterate_traceback(tb)]
    return getattr(arg, "__name__", repr(arg))


def iterate_traceback(tb):
    while tb is not None:
        yield tb
        tb = tb.tb_next


class TwinTestCase(MonitoringTestCase):

    @classmethod
    def setUpClass(cls):
        monitoring.use_tool_id(TOOL, "test")
        try:
            cls.twin = Twin()
        finally:
            monitoring.free_tool_id(TOOL)

    def subsets(self):
        """Which functions are foreign: every one, every other one alone, all
        but one, and some at random."""
        names = self.twin.names
        yield tuple(names)
        for name in names:
            yield name,
            yield tuple(other for other in names if other != name)
        choice = random.Random(7)
        for _ in range(10):
            yield tuple(name for name in names if choice.random() < 0.5)

    def same(self, observe, python=()):
        """observe(make) gives the same whatever is foreign but for the names
        in python.

        make() returns a program, which can be run once.
        """
        expected = observe(self.twin.program)
        self.assertTrue(expected)
        for names in self.subsets():
            names = tuple(name for name in names if name not in python)
            found = observe(partial(self.twin.program, names))
            if found != expected:
                with self.subTest(foreign=names):
                    self.assertEqual(found, expected)
                break

    def is_ours(self, frame):
        return frame.f_code in self.twin.codes

    def stack_of(self, frame):
        return [(f.f_code.co_name, f.f_lineno)
                for f in walk(frame) if self.is_ours(f)]


class TestTracers(TwinTestCase):
    """They report the same of a foreign function as of the same in Python."""

    def trace_with(self, tracer, program, setter=sys.settrace):
        setter(tracer)
        try:
            program()
        finally:
            setter(None)

    def test_settrace(self):
        def observe(make):
            def tracer(frame, event, arg):
                if self.is_ours(frame):
                    seen.append((event, describe(arg), self.stack_of(frame)))
                return tracer

            seen = []
            self.trace_with(tracer, make())
            self.assertGreater(len(seen), 150)
            self.assertEqual({event for event, _, _ in seen},
                             {"call", "line", "return", "exception"})
            return seen

        self.same(observe)

    def test_local_trace_functions(self):
        def observe(make):
            def local(frame, event, arg):
                seen.append(("local", event, frame.f_code.co_name,
                             frame.f_lineno))
                if event == "line" and frame.f_code.co_name == "passes":
                    return changed
                return local

            def changed(frame, event, arg):
                seen.append(("changed", event, frame.f_code.co_name,
                             frame.f_lineno))

            def tracer(frame, event, arg):
                if not self.is_ours(frame):
                    return None
                seen.append((event, frame.f_code.co_name))
                if frame.f_code.co_name == "leaf":
                    return None
                if frame.f_code.co_name == "catches":
                    frame.f_trace_lines = False
                return local

            seen = []
            self.trace_with(tracer, make())
            return seen

        self.same(observe)

    def test_setprofile(self):
        def observe(make):
            def profiler(frame, event, arg):
                if self.is_ours(frame) and arg is not sys.setprofile:
                    # Lines are known by offsets alone, and only CALL, the
                    # start and the end have any.
                    seen.append((event, describe(arg), frame.f_lineno,
                                 [name for name, _ in self.stack_of(frame)]))

            seen = []
            self.trace_with(profiler, make(), sys.setprofile)
            self.assertEqual({event for event, *_ in seen},
                             {"call", "return", "c_call", "c_return",
                              "c_exception"})
            return seen

        self.same(observe)

    def test_both(self):
        def observe(make):
            def tracer(frame, event, arg):
                if self.is_ours(frame):
                    seen.append(("trace", event, frame.f_code.co_name))
                return tracer

            def profiler(frame, event, arg):
                if self.is_ours(frame):
                    seen.append(("profile", event, frame.f_code.co_name))

            seen = []
            program = make()
            sys.setprofile(profiler)
            self.trace_with(tracer, program)
            sys.setprofile(None)
            return seen

        self.same(observe)

    def test_frames_of_activations(self):
        # From 'call' to 'return' it is one object, of that activation alone.
        def tracer(frame, event, arg):
            if not self.is_ours(frame):
                return None
            if event == "call":
                running.append(frame)
            self.assertIs(running[-1], frame)
            self.assertEqual([f for f in walk(frame) if self.is_ours(f)],
                             running[::-1])
            if event == "return":
                ended.append(running.pop())
            return tracer

        for names in self.subsets():
            with self.subTest(foreign=names):
                running = []
                ended = []
                self.trace_with(tracer, self.twin.program(names))
                self.assertEqual(running, [])
                number = sum(map(len, self.twin.activations.values()))
                self.assertEqual(len(ended), number)
                foreign = [f for f in ended if f.f_code.co_name in names]
                self.assertEqual(len(set(foreign)), len(foreign))

    def test_tracer_that_raises(self):
        # That ends tracing, and the event with that exception.
        class Stop(BaseException):
            pass

        def count(program, at):
            def tracer(frame, event, arg):
                if self.is_ours(frame):
                    seen.append((event, self.stack_of(frame)))
                    if len(seen) == at:
                        raise Stop
                return tracer

            seen = []
            sys.settrace(tracer)
            with contextlib.suppress(Stop, LookupError):
                program()
            self.assertIs(sys.gettrace(), None if at else tracer)
            sys.settrace(None)
            return seen

        number = len(count(self.twin.program(), 0))
        foreign = tuple(self.twin.names)
        for at in range(1, number, 3):
            with self.subTest(at=at):
                self.assertEqual(count(self.twin.program(foreign), at),
                                 count(self.twin.program(), at))

    def test_exception_of_a_tracer(self):
        def tracer(frame, event, arg):
            raise error

        error = ArithmeticError()
        producer = foreign(Plain(), line=3)
        with self.assertRaises(ArithmeticError) as caught:
            sys.settrace(tracer)
            producer()
        self.assertIs(caught.exception, error)
        self.assertIsNone(sys.gettrace())

    def test_profiler_that_raises(self):
        def profiler(frame, event, arg):
            if frame.f_code.co_name == "plain":
                raise ArithmeticError

        producer = foreign(Plain(), line=3)
        with self.assertRaises(ArithmeticError):
            sys.setprofile(profiler)
            producer()
        self.assertIsNone(sys.getprofile())

    def test_local_trace_function_that_cannot_be_called(self):
        def tracer(frame, event, arg):
            seen.append((event, frame.f_code.co_name))
            return "uncallable" if frame.f_code.co_name == "plain" else None

        seen = []
        producer = foreign(Plain(), line=3)
        with self.assertRaises(TypeError):
            sys.settrace(tracer)
            producer()
        self.assertIsNone(sys.gettrace())
        self.assertEqual(seen, [("call", "plain")])

    def test_tracer_that_raises_in_a_late_return(self):
        def tracer(frame, event, arg):
            if event == "return" and frame.f_code.co_name == "forgotten":
                raise ArithmeticError
            return tracer

        def profiler(frame, event, arg):
            if frame.f_code.co_filename == FILENAME:
                seen.append((event, frame.f_code.co_name))

        seen = []
        forgotten = make_producer(Template("forgotten", 1), ("PY_START", 0))

        def fail():
            raise LookupError

        producer = foreign(Template("fails", 1), forgotten, fail)
        sys.setprofile(profiler)
        sys.settrace(tracer)
        try:
            with self.assertRaises(ArithmeticError):
                producer()
        finally:
            sys.settrace(None)
            sys.setprofile(None)
        self.assertEqual(seen, [("call", "fails"), ("call", "forgotten"),
                                ("return", "fails")])

    def test_opcodes(self):
        forgotten = make_producer(Template("forgotten", 1), ("PY_START", 0))

        def run():
            forgotten()
            return 1

        def tracer(frame, event, arg):
            if frame.f_code is run.__code__:
                frame.f_trace_opcodes = True
            seen.append((event, frame.f_code.co_name))
            return tracer

        seen = []
        sys.settrace(tracer)
        run()
        sys.settrace(None)
        i = seen.index(("call", "forgotten"))
        self.assertEqual(seen[i + 1], ("return", "forgotten"))

    @threading_helper.requires_working_threading()
    def test_threads_that_are_not_traced(self):
        # They make no frame, so nobody asks the code-like.
        class Nameless(Template):
            @property
            def co_name(self):
                asked.append(self)

            @co_name.setter
            def co_name(self, name):
                pass

        def trace_on():
            sys.settrace(lambda *args: None)
            on.set()
            off.wait(support.SHORT_TIMEOUT)
            sys.settrace(None)

        asked = []
        on, off = threading.Event(), threading.Event()
        thread = threading.Thread(target=trace_on)
        thread.start()
        on.wait(support.SHORT_TIMEOUT)
        producer = foreign(Nameless("nameless", 1), line=1)
        look = foreign(Template("look", 1), sys._getframe)
        try:
            for _ in range(2):
                look()
                producer()
        finally:
            off.set()
            thread.join()
        self.assertEqual(asked, [])

    def test_code_like_that_looks(self):
        class Looks(Template):
            def co_positions(self):
                looked.append(traceback.extract_stack()[-1].name)
                return iter([(1, 1, 0, 5)])

        def tracer(frame, event, arg):
            if frame.f_code.co_filename == FILENAME:
                seen.append(event)
            return tracer

        seen, looked = [], []
        producer = foreign(Looks("looks", 1), line=1)
        sys.settrace(tracer)
        producer()
        sys.settrace(None)
        self.assertEqual(seen, ["call", "line", "return"])
        self.assertEqual(looked, ["co_positions"])

    def test_tracer_that_runs_a_producer(self):
        inner = foreign(Template("inner", 1), line=1)

        def tracer(frame, event, arg):
            if frame.f_code.co_filename == FILENAME:
                seen.append((frame.f_code.co_name, event))
                inner()
            return tracer

        outer = foreign(Template("outer", 1), line=1)
        for setter, events in ((sys.settrace, ["call", "line", "return"]),
                               (sys.setprofile, ["call", "return"])):
            seen = []
            setter(tracer)
            outer()
            setter(None)
            self.assertEqual(seen, [("outer", event) for event in events])

    def test_jumps(self):
        # What sys.settrace() does for them is about bytecode.
        def tracer(frame, event, arg):
            if frame.f_code.co_filename == FILENAME:
                seen.append(event)
            return tracer

        code = _testcapi.code_newwithlocations(
            FILENAME, "code", None, 1, [(1, 1, 0, 4)] * 10)
        for target in 0, 2, 18, "nowhere":
            for codelike in code, Template("template", 1):
                seen = []
                producer = foreign(codelike, ("JUMP", 8, target), line=1)
                sys.settrace(tracer)
                producer()
                sys.settrace(None)
                self.assertEqual(seen, ["call", "line", "return"])

    def test_switched_on_in_the_middle(self):
        # As breakpoint() does it: the callers are traced from then on.
        def on():
            frame = sys._getframe().f_back
            while frame is not None and frame.f_code is not outer.__code__:
                frame.f_trace = tracer
                frame = frame.f_back
            outer_frame.f_trace = tracer
            sys.settrace(tracer)

        def tracer(frame, event, arg):
            seen.append((event, frame.f_code.co_name, frame.f_lineno))
            return tracer

        def outer():
            nonlocal outer_frame
            outer_frame = sys._getframe()
            producer()
            sys.settrace(None)

        outer_frame = None
        seen = []
        producer = foreign(Plain(), on, None, ("LINE", 0, 5), ("LINE", 0, 6))
        outer()
        first = outer.__code__.co_firstlineno
        self.assertEqual(seen, [
            ("line", "plain", 5), ("line", "plain", 6),
            ("return", "plain", 6), ("line", "outer", first + 4)])

    def test_switched_off_in_the_middle(self):
        def tracer(frame, event, arg):
            seen.append((event, frame.f_code.co_name))
            if event == "line":
                sys.settrace(None)
            return tracer

        seen = []
        for names in ("main",), tuple(self.twin.names):
            program = self.twin.program(names)
            sys.settrace(tracer)
            program()
            self.assertEqual(seen, [("call", "main"), ("line", "main")])
            seen.clear()

    def test_threads(self):
        def tracer(frame, event, arg):
            if self.is_ours(frame):
                seen.append((event, self.stack_of(frame)))
            return tracer

        seen = []
        found = []
        for names in (), ("passes", "generator", "main"):
            threading.settrace(tracer)
            thread = threading.Thread(target=self.twin.program(names))
            thread.start()
            thread.join()
            threading.settrace(None)
            found.append(seen[:])
            seen.clear()
        self.assertTrue(found[0])
        self.assertEqual(*found)


class TestTools(TwinTestCase):
    """The standard library's: the same for a foreign function."""

    def test_bdb(self):
        class Debugger(bdb.Bdb):

            def __init__(self, step):
                super().__init__()
                self.step = step
                self.seen = []

            def stop(self, event, frame):
                if frame.f_code.co_filename != FILENAME:
                    return self.set_step()
                self.seen.append((event, frame.f_code.co_name,
                                  frame.f_lineno))
                if len(self.seen) % 5 == 0:
                    self.set_return(frame)
                elif self.step == "step":
                    self.set_step()
                elif self.step == "next":
                    self.set_next(frame)
                else:
                    self.set_until(frame)

            def user_call(self, frame, args):
                self.stop("call", frame)

            def user_line(self, frame):
                self.stop("line", frame)

            def user_return(self, frame, value):
                self.stop(("return", value), frame)

            def user_exception(self, frame, exc_info):
                self.stop(exc_info[0], frame)

        def run(program):
            program()

        for step in "step", "next", "until":
            def observe(make):
                debugger = Debugger(step)
                debugger.runcall(run, make())
                return debugger.seen

            self.same(observe)

    def test_pdb(self):
        scripts = ("step\n" * 60, "next\n" * 30,
                   "step\nstep\nstep\nwhere\nup\nup\ndown\nlist\n"
                   "until\n" * 4,
                   "step\n" * 20 + "where\nreturn\nwhere\nnext\nreturn\n")
        linecache.cache[FILENAME] = (
            len(TWIN_SOURCE), None, TWIN_SOURCE.splitlines(True), FILENAME)
        self.addCleanup(linecache.cache.pop, FILENAME)

        def observe(make):
            outputs = []
            for script in scripts:
                output = io.StringIO()
                debugger = pdb.Pdb(stdin=io.StringIO(script), stdout=output,
                                   nosigint=True, readrc=False)
                debugger.use_rawinput = False
                with contextlib.suppress(bdb.BdbQuit):
                    debugger.runcall(run, make())
                sys.settrace(None)
                outputs.append(re.sub(" at 0x[0-9a-f]+", "",
                                      output.getvalue()))
            self.assertGreater(len(set(outputs)), 3)
            return outputs

        def run(program):
            program()

        # It keeps what was yielded in the variables of a generator's frame,
        # of which a foreign one has another each time that it goes on.
        self.same(observe, {"generator"})

    def test_trace(self):
        def observe(make):
            results = []
            for options in ({"countfuncs": True}, {"countcallers": True},
                            {"count": True}):
                tracer = trace.Trace(trace=False, **options)
                tracer.runfunc(make())
                found = tracer.results()
                ours = [(key, value) for counts in
                        (found.counts, found.calledfuncs, found.callers)
                        for key, value in counts.items()
                        if FILENAME in str(key)]
                self.assertTrue(ours)
                results.append(sorted(ours, key=repr))
            return results

        self.same(observe)

    def test_profilers(self):
        monitoring.free_tool_id(monitoring.PROFILER_ID)
        self.addCleanup(monitoring.use_tool_id, monitoring.PROFILER_ID, "test")

        def observe(make):
            return [calls(profiler(), make())
                    for profiler in (profile.Profile, cProfile.Profile)]

        def calls(profiler, program):
            profiler.runcall(program)
            if isinstance(profiler, cProfile.Profile):
                # Its callers are tuples, of which the first is the number.
                profiler.disable()
            found = {}
            stats = pstats.Stats(profiler).stats
            for key, (primitive, total, _, _, callers) in stats.items():
                if key[0] == FILENAME:
                    found[key] = primitive, total, {
                        caller: counts[0] if isinstance(counts, tuple)
                        else counts
                        for caller, counts in callers.items()
                        if caller[0] == FILENAME}
            return found

        python = observe(self.twin.program)
        self.assertEqual(*python)
        self.assertEqual(len(python[0]), len(self.twin.names))
        self.same(observe)


# ------ Who sees no foreign frames ------

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


# ------ Tracebacks ------

class BadAttribute:
    """A code-like that does something when it is asked for its name."""

    co_filename = FILENAME
    co_firstlineno = 1

    def __init__(self, function):
        self.function = function

    @property
    def co_name(self):
        self.function()
        return "bad"


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
    def test_no_memory(self):
        script = textwrap.dedent("""
            import _testcapi, sys, types
            from test.test_capi import test_monitoring_frames as tests
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


# ------ Never wrong later ------

def repeat(function, number):
    """What calls a function that often, once, without any Python code."""
    return partial(collections.deque, map(operator.call, itertools.repeat(
        function, number)), 0)


class TestUnpaired(FrameTestCase):
    """Activations whose ends are not signalled."""

    def setUp(self):
        super().setUp()
        self.codelikes = [Template(name, 10 * i) for i, name in
                          enumerate(("one", "two", "three"), 1)]
        self.seen = []
        for name in "PY_START", "LINE", "PY_RETURN", "CALL":
            monitoring.register_callback(TOOL, getattr(E, name), self.callback)
        self.events = E.PY_START | E.LINE | E.PY_RETURN | E.CALL

    def callback(self, code, *args):
        if code in self.codelikes:
            self.seen.append(self.foreign_names(walk(sys._getframe(1))))

    def foreign_names(self, frames):
        return [frame.f_code.co_name for frame in frames
                if frame.f_code.co_filename == FILENAME]

    def test_missing_ends(self):
        one, two, _ = self.codelikes
        unpaired = make_producer(two, ("PY_START", 0))

        def caller():
            unpaired()
            unpaired()
            return 1

        producer = make_producer(one, ("PY_START", 0), caller, ("LINE", 0, 3),
                                 ("PY_RETURN", 0, None))
        monitoring.set_events(TOOL, self.events)
        for _ in range(3):
            producer()
            monitoring.set_events(TOOL, self.events)
        self.assertEqual(self.seen, 3 * [
            ["one"], ["two", "one"], ["two", "one"], ["one"], ["one"]])

    def test_event_of_the_caller(self):
        # What foreign code called has ended when an event of its own comes.
        one, two, three = self.codelikes
        forgets = make_producer(three, ("PY_START", 0))
        between = make_producer(two, ("PY_START", 0), forgets)
        producer = make_producer(one, ("PY_START", 0), between,
                                 ("LINE", 0, 3), forgets,
                                 ("PY_RETURN", 0, None))
        monitoring.set_events(TOOL, self.events)
        producer()
        producer()
        self.assertEqual(self.seen, 2 * [
            ["one"], ["two", "one"], ["three", "two", "one"], ["one"],
            ["three", "one"], ["one"]])

    def test_exception_without_unwind(self):
        one, two, _ = self.codelikes

        def fail():
            raise LookupError

        fails = make_producer(two, ("PY_START", 0), ("LINE", 0, 2), fail)
        producer = make_producer(one, ("PY_START", 0), ("LINE", 0, 2), fails,
                                 handles=True)
        monitoring.set_events(TOOL, self.events)
        producer()
        look = make_producer(one, ("PY_START", 0), ("PY_RETURN", 0, None))
        look()
        self.assertEqual(self.seen[-2:], [["one"], ["one"]])

    def test_in_a_loop(self):
        # Where no bytecode has events, but they do not grow without bound.
        one, two, three = self.codelikes

        def grow():
            grown.append(sys.getallocatedblocks())

        grown = []
        unpaired = make_producer(two, ("PY_START", 0))
        looks = self.looking(three)
        self.listen_to_codelikes_alone()
        for _ in range(3):
            make_producer(one, ("PY_START", 0), ("LINE", 0, 3), grow,
                          repeat(unpaired, 100_000), grow, looks,
                          ("LINE", 0, 3), ("PY_RETURN", 0, None))()
        self.assertEqual([self.seen[i] for i in (0, 2, 3, 5, 6, 8)],
                         [["one"]] * 6)
        for i in 1, 4, 7:
            self.assertLess(len(self.seen[i]), 50_000)
            self.assertLessEqual({*self.seen[i]}, {"one", "two", "three"})
        self.assertLess(grown[-1] - grown[-2], 50_000)

    def listen_to_codelikes_alone(self):
        """No Python code has events, which would show what has ended."""
        for codelike in self.codelikes:
            monitoring.set_local_events(TOOL, codelike, E.LINE)

    def looking(self, codelike):
        return make_producer(codelike, ("PY_START", 0), ("LINE", 0, 3),
                             ("PY_RETURN", 0, None))

    def test_frames_that_ended(self):
        # Another frame is at the same address.
        one, two, _ = self.codelikes
        forgotten = make_producer(two, ("PY_START", 0), ("LINE", 0, 3))
        looking = self.looking(one)

        def forget():
            forgotten()

        def look():
            looking()

        self.listen_to_codelikes_alone()
        for _ in range(3):
            forget()
            look()
        self.assertEqual(self.seen, [["two"], ["one"]] * 3)

    def test_unwinding_that_fails(self):
        # It has ended all the same.
        def fail():
            raise LookupError

        def callback(code, offset, exc):
            if code is one:
                raise ArithmeticError

        one, two, _ = self.codelikes
        fails = make_producer(one, ("PY_START", 0), ("LINE", 0, 3), fail,
                              failed=(("PY_UNWIND", 0),), handles=True)
        looking = self.looking(two)
        self.listen_to_codelikes_alone()
        monitoring.register_callback(OTHER_TOOL, E.PY_UNWIND, callback)
        monitoring.set_events(OTHER_TOOL, E.PY_UNWIND)
        for _ in range(3):
            fails()
            looking()
        self.assertEqual(self.seen, [["one"], ["two"]] * 3)

    def test_generators_that_went_on(self):
        one, two, three = self.codelikes
        forgotten = make_producer(two, ("PY_START", 0), ("LINE", 0, 3))
        looking = self.looking(one)
        elsewhere = self.looking(three)

        def generator():
            while True:
                forgotten()
                yield
                looking()
                yield

        self.listen_to_codelikes_alone()
        runs = generator()
        for _ in range(3):
            next(runs)
            elsewhere()
            next(runs)
        self.assertEqual(self.seen, [["two"], ["three"], ["one"]] * 3)

    def test_nothing_is_kept_without_tools(self):
        class Code(Plain):
            co_filename = FILENAME

        codelike = Code()
        ref = weakref.ref(codelike)
        self.codelikes.append(codelike)
        monitoring.set_events(TOOL, self.events)
        make_producer(codelike, ("PY_START", 0))()
        self.assertEqual(self.seen, [["plain"]])
        del codelike, self.codelikes[-1]
        monitoring.set_events(TOOL, 0)
        self.assertIsNone(ref())

    def test_start_again_and_again(self):
        # Recursion that does not end, as far as can be known.
        one, _, _ = self.codelikes
        starts = make_producer(one, *[("PY_START", 0)] * 5)
        monitoring.set_events(TOOL, self.events)
        starts()
        starts()
        self.assertEqual(self.seen[:5], [["one"] * i for i in range(1, 6)])
        self.assertEqual(self.seen[5:], self.seen[:5])

    def test_ends_without_starts(self):
        one, _, _ = self.codelikes
        ends = make_producer(one, ("PY_RETURN", 0, None),
                             ("PY_RETURN", 0, None), ("LINE", 0, 3),
                             ("PY_RETURN", 0, None), ("CALL", 0, len, 1))
        monitoring.set_events(TOOL, self.events)
        ends()
        ends()
        self.assertEqual(self.seen, [["one"]] * 10)

    def test_generator_that_is_suspended_for_good(self):
        one, two, _ = self.codelikes
        inner = make_producer(two, ("PY_START", 0))

        def generator():
            inner()
            yield 1
            inner()

        def call_next():
            suspended = generator()
            next(suspended)
            return suspended

        producer = make_producer(one, ("PY_START", 0), call_next,
                                 ("LINE", 0, 3), ("PY_RETURN", 0, None))
        monitoring.set_events(TOOL, self.events)
        for _ in range(2):
            producer()
        self.assertEqual(self.seen, 2 * [["one"], ["two", "one"], ["one"],
                                         ["one"]])

    @threading_helper.requires_working_threading()
    def test_generator_that_moves_between_threads(self):
        # Whether it runs, and whether it still exists, is up to the others.
        one, two, _ = self.codelikes
        forgotten = make_producer(two, ("PY_START", 0), ("LINE", 0, 3))
        looking = self.looking(one)
        suspended = collections.deque()

        def generator():
            for _ in range(5):
                forgotten()
                yield

        def run():
            for _ in range(200):
                try:
                    moved = suspended.popleft()
                except IndexError:
                    moved = generator()
                if next(moved, self) is not self:
                    suspended.append(moved)
                del moved
                looking()

        self.listen_to_codelikes_alone()
        threads = [threading.Thread(target=run) for _ in range(4)]
        with threading_helper.start_threads(threads):
            pass
        self.assertEqual(self.seen.count(["one"]), 800)
        self.assertEqual(sorted(set(map(tuple, self.seen))),
                         [("one",), ("two",)])

    def test_generator_closed_elsewhere(self):
        one, two, three = self.codelikes
        inner = make_producer(two, ("PY_START", 0), ("LINE", 0, 2),
                              ("PY_RETURN", 0, None))
        forgets = make_producer(three, ("PY_START", 0))

        def generator():
            try:
                forgets()
                yield 1
            finally:
                inner()

        suspended = generator()
        monitoring.set_events(TOOL, self.events)
        foreign(one, partial(next, suspended))()
        self.seen.clear()
        foreign(one, suspended.close)()
        self.assertEqual(self.seen, [["one"]] + [["two", "one"]] * 3
                         + [["one"]])

    def test_legacy_tools_get_a_return_for_each_call(self):
        one, two, three = self.codelikes
        forgets = make_producer(two, ("PY_START", 0),
                                make_producer(three, ("PY_START", 0)))

        def caller():
            forgets()
            forgets()
            a = 1
            return a

        def tracer(frame, event, arg):
            if event == "call":
                stack.append(frame)
            elif event == "return":
                self.assertIs(stack.pop(), frame)
                ended.append(frame.f_code.co_name)
            else:
                self.assertIs(stack[-1], frame)
            return tracer

        producer = foreign(one, caller)
        for setter in sys.settrace, sys.setprofile:
            stack = []
            ended = []
            if setter is sys.setprofile:
                def tracer(frame, event, arg, tracer=tracer):
                    if not event.startswith("c_"):
                        tracer(frame, event, arg)
            setter(tracer)
            producer()
            setter(None)
            self.assertEqual(stack, [])
            self.assertEqual(ended, ["three", "two", "three", "two", "caller",
                                     "one"])

    def test_tracer_that_ends_tracing_in_a_late_return(self):
        one, two, _ = self.codelikes
        forgets = make_producer(two, ("PY_START", 0), ("PY_START", 0))

        def tracer(frame, event, arg):
            seen.append((event, frame.f_code.co_name))
            if event == "return":
                if how == "off":
                    sys.settrace(None)
                elif how == "raise":
                    raise ArithmeticError
            return tracer

        def caller():
            forgets()
            return 1

        for how in "off", "raise", "on":
            for producer in (foreign(one, caller),
                             foreign(one, forgets, line=3)):
                with self.subTest(how):
                    seen = []
                    try:
                        sys.settrace(tracer)
                        producer()
                    except ArithmeticError:
                        self.assertEqual(how, "raise")
                    else:
                        self.assertNotEqual(how, "raise")
                    self.assertEqual(sys.gettrace() is None, how != "on")
                    sys.settrace(None)
                    if how != "on":
                        self.assertEqual(
                            [event for event, _ in seen].count("return"), 1)

    def test_tracer_that_switches_off_when_many_are_dropped(self):
        one, two, _ = self.codelikes
        returned = []

        def tracer(frame, event, arg):
            if event == "return":
                returned.append(frame)
                sys.settrace(None)
            return tracer

        for tool in 0, E.LINE:
            many = make_producer(one, repeat(
                make_producer(two, ("PY_START", 0)), 20_000))
            monitoring.set_events(TOOL, tool)
            sys.settrace(tracer)
            many()
            sys.settrace(None)
            self.assertEqual(len(returned), 1)
            returned.clear()


class TestCallbacks(FrameTestCase):
    """What callbacks do to tools and frames in mid-activation."""

    def setUp(self):
        super().setUp()
        self.codelike = Plain()

    def listen_with(self, callback, events=E.PY_START | E.LINE | E.PY_RETURN):
        def call(code, *args):
            if code is self.codelike:
                return callback(sys._getframe(1), *args)

        for name in "PY_START", "LINE", "PY_RETURN":
            monitoring.register_callback(TOOL, getattr(E, name), call)
        monitoring.set_events(TOOL, events)
        return call

    def run_producer(self):
        foreign(self.codelike, ("LINE", 0, 3), None, ("LINE", 0, 4), None,
                ("LINE", 0, 5), None, line=2)()

    def test_tools_switched_off_and_on(self):
        def callback(frame, number, *args):
            lines.append(frame.f_lineno)
            names.append([f.f_code.co_name for f in walk(frame)].count(
                "plain"))
            monitoring.set_events(TOOL, 0)
            gc.collect()
            if len(lines) % 3:
                monitoring.set_events(TOOL, E.LINE | E.PY_RETURN)

        lines = []
        names = []
        self.listen_with(callback)
        self.run_producer()
        self.assertEqual(lines, [1, 2, 3])
        self.assertEqual(names, [1, 1, 1])

    def test_nothing_runs_before_tools_are_back(self):
        # What is pending in the interpreter has to wait: nothing but C code
        # is between.
        frames = []
        on = partial(sys.settrace, _testcapi.monitoring_frame_recorder(frames))
        off = partial(sys.settrace, None)
        first = make_producer(Template("first", 1), ("PY_START", 0), off, None,
                              ("PY_RETURN", 0, None))
        second = make_producer(Template("second", 1), ("PY_START", 0),
                               ("PY_RETURN", 0, None))
        _testcapi.Producer(None, (), (on, first, on, second, off))()
        self.assertEqual([frame.f_code.co_name for frame in frames],
                         ["first", "second"])
        for frame in frames:
            self.assertIs(frame.f_back, sys._getframe())

    def test_look_after_all_was_dropped(self):
        def callback(frame, number):
            monitoring.set_events(TOOL, 0)
            again = sys._getframe(2)
            names.append((frame.f_code.co_name, again.f_code.co_name,
                          again is frame))

        names = []
        self.listen_with(callback)
        self.run_producer()
        self.assertEqual([name[:2] for name in names], [("plain", "plain")])

    def test_freed_tool(self):
        def callback(frame, *args):
            kept.append(frame)
            monitoring.free_tool_id(TOOL)
            self.assertEqual(frame.f_code.co_name, "plain")
            self.assertIs(sys._getframe(2).f_code, frame.f_code)
            monitoring.use_tool_id(TOOL, "test")

        kept = []
        self.listen_with(callback)
        self.run_producer()
        self.assertTrue(kept)

    def test_tracing_switched_on_in_a_callback(self):
        def callback(frame, number):
            sys.settrace(tracer)

        def tracer(frame, event, arg):
            if frame.f_code.co_name == "plain":
                seen.append((event, frame.f_lineno))
            return tracer

        seen = []
        self.listen_with(callback, E.PY_START)
        self.run_producer()
        sys.settrace(None)
        # The frame knows no trace function: it was entered before.
        self.assertEqual(seen, [])

    def test_call_tracing(self):
        def callback(frame, number):
            if len(frames) == 3:
                return
            frames.append(frame)
            names.append([f.f_code.co_name for f in walk(frame)].count(
                "plain"))
            sys.call_tracing(self.run_producer, ())
            again = sys._getframe(2)
            self.assertIs(again, frame)
            self.assertEqual(again.f_lineno, frame.f_lineno)

        frames = []
        names = []
        self.listen_with(callback, E.LINE)
        self.run_producer()
        self.assertEqual(names, [1, 2, 3])
        self.assertEqual(len(set(frames)), 3)

    def test_call_tracing_without_a_look_before(self):
        other = Template("other", 1)

        def nested(code, *args):
            if code is other:
                seen.append([f.f_code.co_name for f in
                             walk(sys._getframe(1))])

        def callback(code, *args):
            if code is self.codelike:
                sys.call_tracing(foreign(other), ())

        seen = []
        monitoring.register_callback(TOOL, E.LINE, callback)
        monitoring.register_callback(OTHER_TOOL, E.PY_START, nested)
        monitoring.set_events(TOOL, E.LINE)
        monitoring.set_events(OTHER_TOOL, E.PY_START)
        foreign(self.codelike, line=2)()
        self.assertEqual(seen[0][:3], ["other", "callback", "plain"])

    def test_callback_that_raises(self):
        def callback(frame, *args):
            frames.append(frame)
            if len(frames) == at:
                raise ArithmeticError

        for at in range(1, 6):
            frames = []
            self.listen_with(callback)
            with self.assertRaises(ArithmeticError):
                self.run_producer()
            self.assertEqual(len(frames), at)
            # The next activation is not within that one.
            frames.clear()
            at = 0
            self.run_producer()
            for frame in frames:
                self.assertEqual([f.f_code.co_name for f in walk(frame)].count(
                    "plain"), 1)

    def test_kept_frames(self):
        def callback(frame, *args):
            kept.append(frame)

        kept = []
        self.listen_with(callback)
        for _ in range(3):
            self.run_producer()
        monitoring.set_events(TOOL, 0)
        monitoring.free_tool_id(TOOL)
        gc.collect()
        self.assertEqual(len(set(kept)), 3)
        for frame in set(kept):
            self.assertEqual(frame.f_lineno, 5)
            self.assertEqual(frame.f_back.f_code.co_name, "run_producer")
            self.assertIs(frame.f_back.f_back, sys._getframe())
            frame.f_locals["a"] = 1
            self.assertEqual(frame.f_locals["a"], 1)
            frame.f_trace = print
            frame.f_trace_opcodes = True
            with self.assertRaises(ValueError):
                frame.f_lineno = 3
            traceback.extract_stack(frame)
            self.assertIn("plain", repr(frame))
            frame.clear()
            frame.clear()
            self.assertEqual(frame.f_lineno, 5)
            self.assertEqual(frame.f_code.co_name, "plain")
        monitoring.use_tool_id(TOOL, "test")

    def test_codelike_that_switches_off(self):
        # While its frame is made.
        def look(code, *args):
            if isinstance(code, BadAttribute):
                seen.append(code)
                self.assertEqual(sys._getframe(1).f_code.co_name, "bad")

        def switch_off():
            monitoring.set_events(TOOL, 0)
            gc.collect()

        seen = []
        monitoring.register_callback(TOOL, E.LINE, look)
        monitoring.register_callback(TOOL, E.PY_START, look)
        for _ in range(2):
            for what in (switch_off, partial(sys.settrace, None),
                         partial(monitoring.set_events, TOOL, 0),
                         partial(sys._getframe), gc.collect):
                inner = foreign(BadAttribute(what), ("LINE", 0, 3), line=2)
                outer = foreign(BadAttribute(what), inner, line=2)
                monitoring.set_events(TOOL, E.LINE | E.PY_START)
                outer()
        monitoring.set_events(TOOL, 0)
        self.assertGreaterEqual(len(seen), 10)

    def test_codelike_that_stops_tracing(self):
        def tracer(frame, event, arg):
            seen.append(event)
            return tracer

        for what in (partial(sys.settrace, None), partial(sys.settrace, print),
                     partial(sys.setprofile, None)):
            for setter, events in itertools.product(
                    (sys.settrace, sys.setprofile), (0, E.LINE)):
                seen = []
                # With a tool in use activations are not dropped.
                monitoring.set_events(TOOL, events)
                inner = foreign(BadAttribute(what), line=2)
                producer = foreign(BadAttribute(what), inner, inner, line=2)
                with support.captured_stdout():
                    setter(tracer)
                    producer()
                    sys.settrace(None)
                    sys.setprofile(None)
        monitoring.set_events(TOOL, 0)

    def test_codelike_that_always_switches_off(self):
        # It has another code object for each of its frames, since it cannot
        # be weakly referenced.
        class Never:
            __slots__ = ()

            @property
            def co_name(self):
                switched.append(True)
                sys.settrace(lambda *args: None)
                sys.settrace(None)
                monitoring.set_events(TOOL, 0)
                return "never"

        switched = []
        monitoring.register_callback(
            TOOL, E.LINE, _testcapi.monitoring_frame_recorder([]))
        producer = foreign(Never(), line=3)
        with self.assertRaises(RuntimeError):
            monitoring.set_events(TOOL, E.LINE)
            producer()
        self.assertGreater(len(switched), 1)

    def test_codelike_that_raises(self):
        def fail():
            raise ZeroDivisionError

        producer = foreign(BadAttribute(fail), line=2)
        monitoring.register_callback(TOOL, E.LINE, lambda code, line:
                                     sys._getframe(1))
        monitoring.set_events(TOOL, E.LINE)
        with self.assertRaises(ZeroDivisionError):
            producer()
        monitoring.set_events(TOOL, 0)
        with self.assertRaises(ZeroDivisionError):
            sys.settrace(lambda *args: None)
            producer()
        sys.settrace(None)
        # Who does not look does not notice.
        monitoring.register_callback(TOOL, E.LINE, lambda code, line: None)
        monitoring.set_events(TOOL, E.LINE)
        producer()

    @unittest.skipUnless(hasattr(_testcapi, "set_nomemory"),
                         "needs _testcapi.set_nomemory")
    def test_no_memory(self):
        # For a frame, at a look.
        script = textwrap.dedent("""
            import _testcapi, sys
            from test.test_capi import test_monitoring_frames as tests
            set_nomemory, remove_mem_hooks = (
                _testcapi.set_nomemory, _testcapi.remove_mem_hooks)
            get_frame = sys._getframe
            frames = []
            variables = {"a": 1}
            def callback(code, line):
                # No allocation of its own.
                if code is codelike:
                    set_nomemory(start, stop)
                    frames.append(get_frame(1))
                    remove_mem_hooks()
            M = sys.monitoring
            M.use_tool_id(2, "test")
            M.register_callback(2, M.events.LINE, callback)
            inner = tests.Template("inner", 1, (1, 1, 0, 5))
            outer = tests.Plain()
            for alone in False, True:
                for start in range(300):
                    stop = start + 1 if alone else 0
                    # Others, for they have their code objects after it.
                    codelike = tests.Template("page", 1, (1, 1, 0, 5))
                    producer = tests.foreign(
                        tests.Plain(), tests.foreign(
                            codelike, ("namespaces", {}, variables),
                            ("LINE", 0, 3)), line=2)
                    frames.clear()
                    M.set_events(2, M.events.LINE)
                    failed = False
                    try:
                        producer()
                    except MemoryError:
                        failed = True
                    finally:
                        remove_mem_hooks()
                    M.set_events(2, 0)
                    if not failed and (not alone or start > 60):
                        break
                    assert failed or frames
                else:
                    raise AssertionError("never succeeded")
                assert start > 5, start
                frame, = frames
                assert frame.f_lineno == 3
                assert frame.f_locals["a"] == 1
        """)
        script_helper.assert_python_ok("-c", script)

    def test_no_leak(self):
        def callback(frame, *args):
            # No cycle: without a GIL the base keeps memory of dicts in cycles.
            walk(frame)
            frame.f_locals["a"] = len(args)

        def trace_program():
            sys.settrace(lambda frame, *args: trace_program
                         if frame.f_lineno == 4 else None)
            self.run_producer()
            sys.settrace(None)

        codelike = self.codelike
        for look in True, False:
            leaked = []
            for _ in range(5):
                before = count_blocks()
                for _ in range(30):
                    self.codelike = Plain() if look else codelike
                    if look:
                        self.listen_with(callback)
                    self.run_producer()
                    monitoring.set_events(TOOL, 0)
                    with contextlib.suppress(TypeError):
                        trace_program()
                monitoring.restart_events()
                leaked.append(count_blocks() - before)
            self.assertLess(min(leaked), 25)


class TestElsewhere(FrameTestCase):
    """Threads, interpreters, processes and their ends."""

    @threading_helper.requires_working_threading()
    def test_threads_that_look_at_each_other(self):
        # At frames that others are running, and at their own.
        def callback(code, *args):
            if isinstance(code, Template):
                frame = sys._getframe(1)
                shared[:] = [frame]
                names = [f.f_code.co_name for f in walk(frame)]
                mine = names.count(threading.current_thread().name)
                if mine != 2 or "other" in names:
                    wrong.append(names)

        def look():
            while not done.is_set():
                for frame in shared[:]:
                    # Without a GIL it is a race of the base's to look at
                    # Python frames that others run.
                    free = support.Py_GIL_DISABLED
                    for f in [frame] if free else walk(frame):
                        f.f_lineno, f.f_lasti, f.f_code, dict(f.f_locals)
                        f.f_globals, f.f_back, repr(f)
                    traceback.extract_stack(frame, 1 if free else None)
                sys._current_frames()

        def work(name):
            inner = Template(name, 1, *lines_of(1, 2))
            outer = Template(name, 1, *lines_of(1, 2))
            variables = {"a": 1}

            def python():
                foreign(inner, ("namespaces", None, variables),
                        ("LINE", 0, 1), ("LINE", 2, 2))()

            for _ in range(100):
                # Not the outer one: whether that is known is another matter.
                foreign(outer, python)()

        shared = []
        wrong = []
        done = threading.Event()
        for name in "LINE", "PY_START":
            monitoring.register_callback(TOOL, getattr(E, name), callback)
        # One that the frames are kept for, and looked at by nobody.
        monitoring.register_callback(
            OTHER_TOOL, E.LINE, lambda code, line: sys._getframe(1))
        monitoring.set_events(OTHER_TOOL, E.LINE)
        foreign(Template("first", 1), line=3)()
        monitoring.set_events(TOOL, E.LINE)
        threads = [threading.Thread(target=work, args=(name,), name=name)
                   for name in ("first", "second")]
        looker = threading.Thread(target=look, name="looker")
        with threading_helper.start_threads([looker]):
            with threading_helper.start_threads(threads):
                pass
            done.set()
        monitoring.set_events(TOOL, 0)
        monitoring.set_events(OTHER_TOOL, 0)
        self.assertEqual(wrong, [])

    @threading_helper.requires_working_threading()
    def test_tools_that_change_in_other_threads(self):
        def work():
            for _ in range(200):
                foreign(Template("inner", 1), ("namespaces", {}, {}),
                        foreign(Plain(), line=2), line=3)()

        def change():
            while not done.is_set():
                monitoring.set_events(TOOL, E.LINE)
                monitoring.set_events(TOOL, 0)

        def callback(code, *args):
            for frame in walk(sys._getframe(1)):
                frame.f_lineno

        done = threading.Event()
        monitoring.register_callback(TOOL, E.LINE, callback)
        changer = threading.Thread(target=change)
        with threading_helper.start_threads([changer]):
            with threading_helper.start_threads(
                    [threading.Thread(target=work) for _ in range(2)]):
                pass
            done.set()

    @support.requires_fork()
    def test_fork(self):
        script = textwrap.dedent("""
            import os, sys, threading
            from test.test_capi.test_monitoring_frames import *
            def fork():
                global pid
                pid = os.fork()
            def callback(code, *args):
                if code is codelike:
                    names.append([f.f_code.co_name for f in
                                  walk(sys._getframe(1))])
            def work():
                foreign(Plain(), started.set, wait.wait, line=3)()
            names = []
            codelike = Plain()
            M = sys.monitoring
            M.use_tool_id(2, "test")
            M.register_callback(2, M.events.LINE, callback)
            M.set_events(2, M.events.LINE)
            foreign(codelike, line=2)()
            started, wait = threading.Event(), threading.Event()
            thread = threading.Thread(target=work)
            thread.start()
            started.wait()
            names.clear()
            foreign(codelike, fork, ("LINE", 0, 4), line=3)()
            assert names == [["plain", "<module>"]] * 2, names
            M.set_events(2, 0)
            if pid == 0:
                os._exit(0)
            wait.set()
            thread.join()
            assert os.waitpid(pid, 0)[1] == 0
        """)
        script_helper.assert_python_ok("-W", "ignore", "-c", script)

    @support.skip_if_sanitizer("CPython reads what it freed when a daemon "
                               "thread goes on at the end", address=True,
                               thread=True)
    def test_end_of_the_interpreter(self):
        # With activations, tools, tracers and frames that are still there.
        script = textwrap.dedent("""
            import sys, threading
            from test.test_capi.test_monitoring_frames import *
            def callback(code, *args):
                kept.append(sys._getframe(1))
            class Late:
                def __del__(self):
                    foreign(Plain(), line=3)()
                    sys._getframe().f_back
            kept = []
            codelike = Plain()
            M = sys.monitoring
            M.use_tool_id(2, "test")
            M.register_callback(2, M.events.LINE, callback)
            M.set_events(2, M.events.LINE)
            make_producer(codelike, ("PY_START", 0), ("LINE", 0, 3))()
            make_producer(codelike, ("PY_START", 0), ("LINE", 0, 3),
                          ("namespaces", {"late": Late()}, {"a": Late()}))()
            codelike.late = Late()
            thread = threading.Thread(target=make_producer(
                Plain(), ("PY_START", 0), ("LINE", 0, 3),
                threading.Event().wait), daemon=True)
            thread.start()
            sys.settrace(lambda *args: None)
            sys.setprofile(lambda *args: None)
            make_producer(codelike, ("PY_START", 0), ("LINE", 0, 3),
                          sys.exit)()
        """)
        script_helper.assert_python_ok("-c", script)

    @unittest.skipIf(support.Py_GIL_DISABLED,
                     "_testcapi does not load in subinterpreters")
    def test_subinterpreters(self):
        script = textwrap.dedent("""
            import sys
            from test.test_capi.test_monitoring_frames import *
            def callback(code, *args):
                if code is codelike:
                    kept.append(sys._getframe(1))
                    names.append([f.f_code.co_name for f in walk(kept[-1])])
            names = []
            kept = []
            codelike = Plain()
            M = sys.monitoring
            M.use_tool_id(2, "test")
            M.register_callback(2, M.events.LINE, callback)
            M.set_events(2, M.events.LINE)
            foreign(codelike, ("LINE", 0, 4), line=3)()
            assert names == [["plain", "<module>"]] * 2, names
            assert kept[0] is kept[1]
            sys.settrace(lambda *args: None)
            make_producer(codelike, ("PY_START", 0), ("LINE", 0, 3))()
        """)

        def run():
            self.assertEqual(support.run_in_subinterp(script), 0)

        frames = []
        codelike = Plain()
        self.look_at([codelike], frames.append, "LINE")
        # That of an outer interpreter is none of an inner one.
        foreign(codelike, run, ("LINE", 0, 4), line=3)()
        self.assertEqual(len(frames), 2)
        self.assertIs(*frames)
        self.assertEqual(frames[0].f_lineno, 4)



if __name__ == "__main__":
    unittest.main()
