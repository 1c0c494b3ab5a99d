"""Activations whose ends are not signalled, or that tools disturb."""

import collections
import contextlib
import gc
import itertools
import operator
import sys
import textwrap
import threading
import traceback
import unittest
import weakref
from functools import partial
from test import support
from test.support import import_helper, script_helper, threading_helper
from .monitoring_frames_support import (FILENAME, BadAttribute, FrameTestCase,
                                        Template, foreign, walk)
from .monitoring_support import (E, OTHER_TOOL, TOOL, Plain, count_blocks,
                                 make_producer, monitoring)

_testcapi = import_helper.import_module("_testcapi")


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
            from test.test_capi import test_monitoring_activations as tests
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

    # Without a GIL, the first thread of any test makes code objects immortal.
    @support.suppress_immortalization()
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


if __name__ == "__main__":
    unittest.main()
