"""The frames of code that is not bytecode."""

import gc
import inspect
import sys
import threading
import traceback
import types
import unittest
import weakref
from test import support
from test.support import import_helper, threading_helper
from .monitoring_frames_support import (FILENAME, FrameTestCase, Template,
                                        foreign, lines_of, walk)
from .monitoring_support import (E, IDS, TOOL, Plain, make_codelikes,
                                 make_function, make_producer, monitoring)

_testcapi = import_helper.import_module("_testcapi")


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

    # Without a GIL, the first thread of any test makes code objects immortal.
    @support.suppress_immortalization()
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

    def test_what_a_code_object_of_locations_cannot_have(self):
        """What get_location() takes disturbs no program under a tool."""
        class Name(str):
            pass

        bytecode = compile("a = 1\n", FILENAME, "exec")
        for name, value in (("co_positions", bytecode.co_positions),
                            ("co_positions", lambda: [(3, 3, 9, 2)]),
                            ("co_positions", lambda: [(3, 2, 0, 9)]),
                            ("co_positions", lambda: [(None, None, 0, 9)]),
                            ("co_name", Name("name")),
                            ("co_filename", Name("name")),
                            ("co_firstlineno", -1)):
            with self.subTest(name=name, value=value):
                codelike = Plain()
                setattr(codelike, name, value)
                monitoring.get_location(codelike, 0)
                frame = self.first_frame(codelike, ("LINE", 0, 3))
                self.assertEqual(frame.f_lineno, 3)
                if name != "co_positions":
                    self.assertIs(type(frame.f_code.co_name), str)
                monitoring.set_events(TOOL, 0)
        codelike = Plain()
        codelike.co_positions = bytecode.co_positions
        positions = [*self.first_frame(
            codelike, ("LINE", 0, 1)).f_code.co_positions()]
        self.assertEqual(positions[0], (None,) * 4)
        number = len([*bytecode.co_positions()])
        self.assertEqual(positions[1:number],
                         [*bytecode.co_positions()][1:])

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


if __name__ == "__main__":
    unittest.main()
