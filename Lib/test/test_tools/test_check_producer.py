"""Tests of Tools/monitoring/check_producer.py: each rule, broken and kept."""

import contextlib
import gc
import importlib.util
import io
import json
import os
import subprocess
import sys
import textwrap
import threading
import tracemalloc
import unittest
import weakref
from unittest import mock
from test.support import import_helper, os_helper
from test.test_tools import skip_if_missing, toolsdir

skip_if_missing("monitoring")
_testcapi = import_helper.import_module("_testcapi")
if not hasattr(_testcapi, "Producer"):
    raise unittest.SkipTest("_testcapi has no producers")

TOOL = os.path.join(toolsdir, "monitoring", "check_producer.py")
spec = importlib.util.spec_from_file_location("check_producer", TOOL)
check_producer = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_producer)

# As the header numbers them; _testcapi takes no names.
EVENTS = {name: number for number, name in enumerate((
    "PY_START", "PY_RESUME", "PY_RETURN", "PY_YIELD", "CALL", "LINE",
    "INSTRUCTION", "JUMP", "BRANCH", "STOP_ITERATION", "RAISE",
    "EXCEPTION_HANDLED", "PY_UNWIND", "PY_THROW", "RERAISE", "C_RETURN",
    "C_RAISE"))}
START = "PY_START", 0
RETURN = "PY_RETURN", 0, None
MISSING = sys.monitoring.MISSING


class Code:
    """A code-like; one with lines has a location on each, of two columns."""

    def __init__(self, lines=None, name="f", filename="foreign.src",
                 firstlineno=1):
        self.co_name = name
        self.co_filename = filename
        self.co_firstlineno = firstlineno
        if lines is not None:
            self.co_positions = lambda: iter(
                [(line, line, 4 * i, 4 * i + 2)
                 for i, line in enumerate(lines)])


def producer(code, *actions, failed=(), **kwargs):
    """Return what fires events, ("NAME", offset, ...), and calls functions."""
    def numbered(actions):
        return tuple((EVENTS.get(action[0], action[0]), *action[1:])
                     if isinstance(action, tuple) else action
                     for action in actions)

    kwargs.setdefault("states", tuple(EVENTS.values()))
    states = kwargs.pop("states")
    return _testcapi.Producer(code, states, numbered(actions),
                              numbered(failed), **kwargs)


def function(code, *actions, **kwargs):
    """Return a producer with PY_START first, and PY_RETURN on the last line.
    """
    offset = next((action[1] for action in reversed(actions)
                   if isinstance(action, tuple) and action[0] == "LINE"), 0)
    return producer(code, START, *actions, ("PY_RETURN", offset, None),
                    **kwargs)


def failing(code, *actions, failed, error=LookupError, **kwargs):
    """Return a producer in which an exception is raised after the actions."""
    def fail():
        raise error

    return producer(code, START, *actions, fail, failed=failed, **kwargs)


def python_function(*args):
    pass


class RuleTestCase(unittest.TestCase):

    def check(self, *calls, times=1, **options):
        """Call producers; return the report."""
        with check_producer.checking(**options) as report:
            for _ in range(times):
                for call in calls:
                    with contextlib.suppress(LookupError):
                        call()
        return report

    def assert_right(self, *calls, **options):
        report = self.check(*calls, **options)
        self.assertTrue(report.ok, report)
        self.assertGreater(report.events, 0)
        return report

    def assert_broken(self, rule, pattern, *calls, place=None, count=None,
                      **options):
        """See that one rule is found broken, and nothing else."""
        report = self.check(*calls, **options)
        self.assertEqual({found.rule for found in report.findings}, {rule},
                         report)
        found = report.findings[0]
        self.assertRegex(found.message, pattern)
        if place is not None:
            self.assertEqual(found.place(), place)
        if count is not None:
            self.assertEqual(found.count, count, report)
        # The same with this rule alone, and without it.
        ignored = options.pop("ignore", [])
        self.assertFalse(self.check(*calls, rules=[rule], **options).ok)
        self.assertTrue(
            self.check(*calls, ignore=[rule, *ignored], **options).ok)
        return report


class StartTests(RuleTestCase):

    def test_right(self):
        code, other = Code([1, 2]), Code([5], "g")
        inner = function(other, ("LINE", 0, 5))
        report = self.assert_right(
            function(code, ("LINE", 0, 1), inner, ("LINE", 2, 2)), inner,
            times=3)
        self.assertEqual((report.events, report.code_likes), (30, 2))

    def test_no_start(self):
        report = self.assert_broken(
            "start", "LINE comes outside of an activation",
            producer(Code(), ("LINE", 0, 7), ("LINE", 0, 8), RETURN),
            place="foreign.src:7", count=3, times=3)
        self.assertEqual(report.findings[0].events, ["LINE 7"])
        self.assertEqual(report.events, 9)

    def test_end_without_start(self):
        self.assert_broken("start", "PY_RETURN comes outside of an activation",
                           producer(Code(), RETURN))

    def test_event_after_the_end(self):
        code = Code([3])
        self.assert_broken(
            "start", "LINE comes outside of an activation",
            producer(code, START, ("LINE", 0, 3), RETURN, ("LINE", 0, 3)),
            place="foreign.src:3")


class EndTests(RuleTestCase):

    def test_right(self):
        code = Code()
        self.assert_right(
            function(code, ("LINE", 0, 1)),
            producer(code, START, ("PY_YIELD", 0, 1)),
            failing(code, failed=(("RAISE", 0), ("PY_UNWIND", 0))))

    def test_recursion(self):
        code, calls = Code([1, 2]), []

        def again():
            calls.append(1)
            if len(calls) % 5:
                recursive()

        recursive = function(code, ("LINE", 0, 1), again, ("LINE", 2, 2))
        self.assert_right(recursive, times=3)

    def test_open_at_the_end(self):
        report = self.assert_broken(
            "end", "ended without PY_RETURN, PY_YIELD or PY_UNWIND, after",
            producer(Code([4, 5]), START, ("LINE", 0, 4), ("LINE", 2, 5)),
            place="foreign.src:5", count=3, times=3)
        self.assertEqual(report.findings[0].events[-3:],
                         ["PY_START 0", "LINE 4", "LINE 5"])

    def test_open_in_an_activation(self):
        """It is known as soon as the outer one goes on."""
        inner = producer(Code([4], "g"), START, ("LINE", 0, 4))
        report = self.assert_broken(
            "end", "after this line",
            function(Code([1]), inner, ("LINE", 0, 1)),
            place="foreign.src:4")
        self.assertEqual(report.findings[0].events,
                         ["PY_START 0", "LINE 4", "LINE 1 of f"])

    def test_no_line(self):
        self.assert_broken("end", "PY_UNWIND$",
                           producer(Code(firstlineno=12), START),
                           place="foreign.src:12")

    def test_ends_twice(self):
        self.assert_broken(
            "end", "PY_RETURN comes after the activation has ended",
            function(Code([1]), ("LINE", 0, 1), RETURN),
            place="foreign.src:1:1", count=2, times=2)

    def test_unwinds_after_it_returned(self):
        code = Code()

        def fail():
            raise LookupError

        self.assert_broken(
            "end", "PY_UNWIND comes after",
            producer(code, START, RETURN, fail, failed=[("PY_UNWIND", 0)]))

    def test_another_tool_fails(self):
        """What ends it then is PY_UNWIND, though PY_RETURN was signaled."""
        code = Code([1])

        def on_return(code, offset, value):
            if isinstance(code, Code):
                raise LookupError

        monitoring = sys.monitoring
        for tool in (1, 5):
            with self.subTest(tool=tool):
                monitoring.use_tool_id(tool, "test")
                monitoring.register_callback(
                    tool, monitoring.events.PY_RETURN, on_return)
                monitoring.set_events(tool, monitoring.events.PY_RETURN)
                try:
                    self.assert_right(
                        function(code, ("LINE", 0, 1), failed=(
                            ("RAISE", 0), ("PY_UNWIND", 0))), times=2)
                finally:
                    monitoring.set_events(tool, 0)
                    monitoring.register_callback(
                        tool, monitoring.events.PY_RETURN, None)
                    monitoring.free_tool_id(tool)

    def test_threads(self):
        """Each has activations of its own."""
        code, barrier = Code([1]), threading.Barrier(2)
        run = function(code, ("LINE", 0, 1), barrier.wait, barrier.wait,
                       ("LINE", 0, 1))

        def both():
            threads = [threading.Thread(target=run) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        self.assert_right(both, times=5)

    def test_open_in_a_thread(self):
        run = producer(Code([6]), START, ("LINE", 0, 6))

        def in_a_thread():
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()

        self.assert_broken("end", "after this line", in_a_thread,
                           place="foreign.src:6", count=4, times=4)

    def test_more_than_can_be_open(self):
        """What has no end must not take memory for each activation."""
        run = producer(Code([6]), START, ("LINE", 0, 6))
        with check_producer.checking() as report:
            for _ in range(3 * check_producer.MAX_DEPTH):
                run()
        found, = report.findings
        self.assertEqual(found.count, 3 * check_producer.MAX_DEPTH)


class ResumeTests(RuleTestCase):

    def test_right(self):
        code = Code()
        first = producer(code, START, ("PY_YIELD", 0, 1))
        second = producer(code, ("PY_RESUME", 0), ("PY_YIELD", 0, 2))
        last = producer(code, ("PY_RESUME", 0), RETURN)
        self.assert_right(first, second, second, last, times=3)

    def test_thrown(self):
        code = Code()

        def fail():
            raise LookupError

        thrown = producer(code, fail, failed=(
            ("PY_THROW", 0), ("RAISE", 0), ("PY_UNWIND", 0)))
        # The second time before the first item was asked for.
        self.assert_right(producer(code, START, ("PY_YIELD", 0, 1)), thrown,
                          thrown)

    def test_resumed_without_yield(self):
        code = Code(firstlineno=3)
        self.assert_broken(
            "resume", "PY_RESUME comes without PY_YIELD",
            producer(code, START, ("PY_YIELD", 0, 1)),
            *[producer(code, ("PY_RESUME", 0), RETURN)] * 2,
            place="foreign.src:3", count=2, times=2)

    def test_start_at_each_resume(self):
        code = Code(firstlineno=3)
        self.assert_broken(
            "resume", "after each PY_YIELD comes PY_START",
            *[producer(code, START, ("PY_YIELD", 0, 1))] * 3, function(code),
            place="foreign.src:3")


class ExceptionTests(RuleTestCase):

    def test_right(self):
        code = Code()
        self.assert_right(
            failing(code, failed=(("RAISE", 0), ("PY_UNWIND", 0))),
            failing(code, failed=(("RAISE", 0), ("EXCEPTION_HANDLED", 0),
                                  ("RERAISE", 0), ("PY_UNWIND", 0))),
            failing(code, failed=(("RAISE", 0), ("EXCEPTION_HANDLED", 0),
                                  RETURN), handles=True))

    def test_handled_after_a_yield(self):
        code = Code()
        self.assert_right(
            failing(code, failed=(("RAISE", 0), ("EXCEPTION_HANDLED", 0),
                                  ("PY_YIELD", 0, 1)), handles=True),
            producer(code, ("PY_RESUME", 0), lambda: 1 / 0, failed=(
                ("RERAISE", 0), ("PY_UNWIND", 0), RETURN)[:2],
                handles=True))

    def test_unwinds_without_raise(self):
        self.assert_broken(
            "exception", "PY_UNWIND comes without RAISE",
            failing(Code([7]), ("LINE", 0, 7), failed=[("PY_UNWIND", 0)]),
            place="foreign.src:7:1")

    def test_another_exception(self):
        code = Code()
        second = failing(Code(name="g"), failed=[])

        def replace():
            raise LookupError("another")

        for name in ("PY_UNWIND", "EXCEPTION_HANDLED"):
            with self.subTest(name):
                self.assert_broken(
                    "exception", f"{name} has another exception than RAISE",
                    failing(code, failed=(
                        ("RAISE", 0), replace, (name, 0),
                        *[RETURN] * (name != "PY_UNWIND")), handles=True))

    def test_left_pending(self):
        for end in (RETURN, ("PY_YIELD", 0, 1)):
            with self.subTest(end=end):
                self.assert_broken(
                    "exception", f"{end[0]} comes while an exception",
                    failing(Code(), failed=(("RAISE", 0), end), handles=True))

    def test_handled_without_raise(self):
        self.assert_broken(
            "exception", "EXCEPTION_HANDLED comes without RAISE",
            failing(Code(), failed=(("EXCEPTION_HANDLED", 0), RETURN),
                    handles=True))

    def test_raised_twice(self):
        self.assert_broken(
            "exception", "RAISE comes again",
            failing(Code(), failed=(("RAISE", 0), ("RAISE", 0),
                                    ("PY_UNWIND", 0))))

    def test_reraise(self):
        self.assert_broken(
            "exception", "RERAISE comes before EXCEPTION_HANDLED",
            failing(Code(), failed=(("RAISE", 0), ("RERAISE", 0),
                                    ("PY_UNWIND", 0))))
        self.assert_broken(
            "exception", "RERAISE comes without RAISE",
            failing(Code(), failed=(("RERAISE", 0), ("PY_UNWIND", 0))))


class CallTests(RuleTestCase):

    def call(self, *ends, function_called=len, offset=0):
        return function(Code([1, 1]), ("LINE", 0, 1),
                        ("CALL", offset, function_called, "x"), *ends)

    def test_right(self):
        self.assert_right(
            self.call(("C_RETURN", 0, len, "x")),
            self.call(function_called=python_function),
            self.call(function_called=self.check),
            function(Code(), (None, 0, len, "x"), (None, 0, dict),
                     (None, 0, python_function, 1), (None, 0, self.setUp)),
            producer(Code(), START, (None, 0, int, "x"),
                     failed=(("RAISE", 0), ("PY_UNWIND", 0)), handles=True),
            times=3)

    def test_no_end(self):
        self.assert_broken("call", "neither C_RETURN nor C_RAISE",
                           self.call(), place="foreign.src:1:1")
        self.assert_broken("call", "neither C_RETURN nor C_RAISE",
                           self.call(("CALL", 2, len, "x"),
                                     ("C_RETURN", 2, len, "x")),
                           place="foreign.src:1:1")
        self.assert_broken(
            "call", "neither C_RETURN nor C_RAISE",
            failing(Code(), ("CALL", 0, len, 1), failed=(
                ("RAISE", 0), ("PY_UNWIND", 0))))

    def test_interpreter_without_ends(self):
        """There a CALL without an end is right, but for who signals ends."""
        code = Code()
        call = function(code, ("CALL", 0, len, 1))
        with mock.patch.object(check_producer, "IS_WHOLE", False):
            report = self.assert_right(call, times=3)
            self.assertIn("signals neither C_RETURN nor C_RAISE", str(report))
            self.assert_broken("call", "neither C_RETURN nor C_RAISE", call,
                               function(code, (None, 0, len, "x")), times=3)

    def test_another_tool_fails(self):
        def on_call(code, offset, function, arg0):
            if isinstance(code, Code):
                raise LookupError

        monitoring = sys.monitoring
        monitoring.use_tool_id(5, "test")
        monitoring.register_callback(5, monitoring.events.CALL, on_call)
        monitoring.set_events(5, monitoring.events.CALL)
        try:
            self.assert_right(
                function(Code(), (None, 0, len, "x"), failed=(
                    ("RAISE", 0), ("PY_UNWIND", 0))), times=2)
        finally:
            monitoring.set_events(5, 0)
            monitoring.register_callback(5, monitoring.events.CALL, None)
            monitoring.free_tool_id(5)

    def test_no_call(self):
        self.assert_broken("call", "C_RETURN comes while no call is open",
                           function(Code(), ("C_RETURN", 0, len, "x")))
        self.assert_broken("call", "C_RETURN comes while no call is open",
                           self.call(("C_RETURN", 0, python_function, "x"),
                                     function_called=python_function))

    def test_another_offset(self):
        self.assert_broken("call", "another offset than CALL, 0",
                           self.call(("C_RETURN", 2, len, "x")),
                           place="foreign.src:1:5")

    def test_another_callable(self):
        for end in ((dict, "x"), (len, "y")):
            self.assert_broken("call", "another callable or argument",
                               self.call(("C_RETURN", 0, *end)))

    def test_first_version(self):
        self.assert_broken("call", "C_RETURN has no callable",
                           self.call(("C_RETURN", 0, 42)))


class LineTests(RuleTestCase):

    def test_right(self):
        self.assert_right(function(Code([3, 5]), ("LINE", 0, 3),
                                   ("LINE", 2, 5)))
        self.assert_right(function(Code(), ("LINE", 0, 1000)))

    def test_text_that_spans_lines(self):
        code = Code()
        code.co_positions = lambda: iter([(2, 4, 0, 9)])
        self.assert_right(function(code, ("LINE", 0, 2), ("LINE", 0, 3)))

    def test_other_file(self):
        code = Code([1])
        code.co_location = lambda offset: ("other.src", 40, 40, 0, 5)
        self.assert_right(function(code, ("LINE", 0, 40)))

    def test_no_line_of_the_code(self):
        report = self.assert_broken(
            "line", "LINE 4 is no line of the code",
            function(Code([3, 5]), ("LINE", 0, 3), ("LINE", 2, 4)),
            place="foreign.src:4", count=3, times=3)
        self.assertEqual(report.findings[0].events,
                         ["PY_START 0", "LINE 3", "LINE 4"])

    def test_no_line_of_the_file(self):
        code = Code(filename=__file__)
        self.assert_right(function(code, ("LINE", 0, 1)))
        for line in (0, 10**6):
            self.assert_broken("line", f"LINE {line} is no line",
                               function(code, ("LINE", 0, line)))


class PlaceTests(RuleTestCase):

    def test_right(self):
        jump = "JUMP", 2, 0
        code = Code([3, 4, 4])
        self.assert_right(
            function(code, ("LINE", 0, 3), ("LINE", 2, 4),
                     ("CALL", 4, python_function, 1), jump, ("LINE", 0, 3)))
        # Without locations, on one line each.
        self.assert_right(
            function(Code(), ("LINE", 3, 3), ("JUMP", 3, 4), ("LINE", 4, 4),
                     ("CALL", 4, python_function, 1)), times=2)

    def test_handler(self):
        """Bytecode, too, is there before the LINE of the handler."""
        code = Code([3, 5])
        self.assert_right(failing(
            code, ("LINE", 0, 3), failed=(
                ("RAISE", 0), ("EXCEPTION_HANDLED", 2), ("LINE", 2, 5),
                ("PY_RETURN", 2, None)), handles=True))

    def test_unknown_lines(self):
        code = Code()
        code.co_positions = lambda: iter([(3, 3, 0, 1), (None,) * 4])
        self.assert_right(function(
            code, ("LINE", 0, 3), ("JUMP", 2, 0)))

    def test_end_without_text(self):
        """The end of a program, without columns, may be of any line."""
        code = Code()
        code.co_positions = lambda: iter([(3, 3, 0, 1), (4, 4, None, None)])
        self.assert_right(function(code, ("LINE", 0, 3), ("JUMP", 2, 0)))
        code = Code()
        code.co_positions = lambda: iter([(3, 3, None, None),
                                          (4, 4, None, None)])
        self.assert_broken("place", "JUMP is on line 4",
                           function(code, ("LINE", 0, 3), ("JUMP", 2, 0)))

    def test_late_line(self):
        self.assert_broken(
            "place", "offset of JUMP is on line 4, but the last LINE was 3",
            producer(Code([3, 4]), START, ("LINE", 0, 3), ("JUMP", 2, 0),
                     ("LINE", 2, 4), ("PY_RETURN", 2, None)),
            place="foreign.src:4:5")

    def test_one_offset_for_all(self):
        self.assert_broken(
            "place", "offset of PY_RETURN is on line 3, but the last LINE",
            function(Code([3, 4]), ("LINE", 0, 3), ("LINE", 0, 4)))

    def test_two_places(self):
        self.assert_broken(
            "place", "offset of JUMP stands for another place as well, on "
            "line 3", function(Code(), ("LINE", 0, 3), ("JUMP", 0, 7),
                               ("LINE", 0, 4), ("JUMP", 0, 7)),
            place="foreign.src:4")


class OffsetTests(RuleTestCase):

    def test_right(self):
        self.assert_right(
            function(Code([1, 1, 1]), ("LINE", 0, 1), ("JUMP", 4, 2)))
        self.assert_right(function(Code(), ("JUMP", 12345, 77)))

    def test_code_objects(self):
        located = _testcapi.code_newwithlocations(
            "foreign.src", "f", None, 1, [(1, 1, 0, 2), (-1, -1, -1, -1)])
        self.assert_right(function(located, ("LINE", 0, 1), ("JUMP", 2, 0)))
        self.assert_broken("offset", "beyond that of the last location, 2",
                           function(located, ("LINE", 0, 1), ("JUMP", 4, 0)),
                           place="foreign.src:1")
        empty = _testcapi.code_newempty("foreign.src", "f", 1)
        self.assert_right(function(empty, ("JUMP", 12345, 77)))

    def test_odd(self):
        self.assert_broken("offset", "offset of JUMP is odd",
                           function(Code([1, 1]), ("LINE", 0, 1),
                                    ("JUMP", 1, 0)), place="foreign.src:1")

    def test_too_large(self):
        self.assert_broken("offset", "is beyond that of the last location, 2",
                           function(Code([1, 1]), ("LINE", 0, 1),
                                    ("JUMP", 4, 0)), place="foreign.src:1")


class BranchTests(RuleTestCase):

    def test_right(self):
        code = Code([1, 2, 3])
        line, branch = ("LINE", 0, 1), ("BRANCH", 0, 2)
        report = self.assert_right(
            function(code, line, ("BRANCH", 0, 2)),
            function(code, line, ("BRANCH", 0, 4)), times=5)
        self.assertEqual(report.one_way, [])

    def test_one_way(self):
        """That is no mistake, but said."""
        report = self.assert_right(
            function(Code([1, 2]), ("LINE", 0, 1), ("BRANCH", 0, 2)), times=9)
        self.assertEqual(report.one_way, [("foreign.src:1:1, offset 0", "f")])
        self.assertIn("branches that went one way only: 1\n"
                      "    foreign.src:1:1", str(report))

    def test_only_when_true(self):
        code, line = Code([1, 2]), ("LINE", 0, 1)
        self.assert_broken(
            "branch", "line 1 ran 6 times without its BRANCH, which always "
            "leads to 2", function(code, line),
            function(code, line, ("BRANCH", 0, 2)), function(code, line),
            place="foreign.src:1:1", times=3)

    def test_exceptions_before_the_branch(self):
        code, line = Code([1, 2]), ("LINE", 0, 1)
        self.assert_right(
            function(code, line, ("BRANCH", 0, 2)),
            failing(code, line, failed=(("RAISE", 0), ("PY_UNWIND", 0))),
            times=5)

    def test_exceptions_after_the_branch(self):
        code, line = Code([1, 2]), ("LINE", 0, 1)
        self.assert_broken(
            "branch", "line 1 ran 5 times without its BRANCH",
            failing(code, line, ("BRANCH", 0, 2),
                    failed=(("RAISE", 0), ("PY_UNWIND", 0))),
            function(code, line), times=5)

    def test_targets(self):
        for target in (-2, 3, 6, "2", None):
            with self.subTest(target=target):
                self.assert_broken(
                    "branch", "target of BRANCH is no offset of the code",
                    function(Code([1, 2, 3]), ("LINE", 0, 1),
                             ("BRANCH", 0, target)), place="foreign.src:1:1")
        self.assert_broken("branch", "target of JUMP is no offset",
                           function(Code([1]), ("JUMP", 0, 2)))

    def test_three_targets(self):
        branches = [("BRANCH", 0, target) for target in (2, 4, 6)]
        self.assert_broken(
            "branch", "more than two places: 2, 4, 6",
            function(Code([1, 2, 3, 4]), ("LINE", 0, 1), *branches))


class AttributeTests(RuleTestCase):

    def test_right(self):
        self.assert_right(function(Code()))

    def test_missing_and_wrong(self):
        class Other(Code):
            pass

        for name, value in (("co_name", 1), ("co_filename", b"x"),
                            ("co_firstlineno", "1"), ("co_qualname", 2)):
            with self.subTest(name):
                code = Other()
                setattr(code, name, value)
                self.assert_broken("attributes", f"its {name} is no ",
                                   function(code))
                delattr(code, name)
                if name != "co_qualname":
                    self.assert_broken("attributes", f"it has no {name}",
                                       function(code))

    def test_locations(self):
        code = Code()
        code.co_positions = lambda: [1, 2]
        self.assert_broken("attributes", "its locations cannot be read",
                           function(code))

    def test_weak_references(self):
        self.assert_broken("attributes", "cannot be weakly referenced",
                           function(_testcapi.CodeLike(0)))
        self.assert_right(function(_testcapi.WeakCodeLike(0)))

    def test_change(self):
        code = Code()
        names = iter("abcdef")

        def rename():
            code.co_name = next(names)

        self.assert_broken("attributes", "its attributes have changed",
                           function(code, rename))


class IdentityTests(RuleTestCase):

    def test_right(self):
        """Some may be equal, if each of them runs more than once."""
        functions = [function(Code([1])) for _ in range(20)]
        self.assert_right(*functions[:5], times=20)
        self.assert_right(*[run for run in functions for _ in range(5)])

    def test_new_one_for_each_call(self):
        self.assert_broken(
            "identity", "more than 10 objects stand for the same code",
            lambda: function(Code([1]), ("LINE", 0, 1))(),
            place="foreign.src:1", count=290, times=300)

    def test_memory(self):
        """Of such code-likes few are kept alive."""
        alive = weakref.WeakSet()
        most = 0
        with check_producer.checking() as report:
            for _ in range(1000):
                code = Code([1])
                alive.add(code)
                function(code)()
                del code
                most = max(most, len(alive))
        self.assertLess(most, 150)
        self.assertEqual(report.events, 2000)


class StateTests(RuleTestCase):

    ACTIONS = (("LINE", 0, 1), ("CALL", 0, python_function, 1),
               ("JUMP", 0, 0), ("BRANCH", 0, 0),
               ("STOP_ITERATION", 0, None))

    def test_right(self):
        for fresh in (True, False):
            code = Code([1, 2])
            self.assert_right(
                function(code, *self.ACTIONS, fresh=fresh),
                producer(code, START, ("PY_YIELD", 0, 1), fresh=fresh),
                producer(code, ("PY_RESUME", 0), RETURN, fresh=fresh),
                failing(code, failed=(("RAISE", 0), ("PY_UNWIND", 0)),
                        fresh=fresh), times=100)

    def test_state_of_another_event(self):
        """PY_YIELD is fired through the state of PY_RETURN."""
        code = _testcapi.WeakCodeLike(2)
        start, end = EVENTS["PY_START"], EVENTS["PY_RETURN"]

        def generator(state):
            _testcapi.monitoring_enter_scope(code, start, end)
            _testcapi.fire_event_py_start(code, 0, state=0)
            _testcapi.fire_event_py_yield(code, 1, None, state=state)
            _testcapi.monitoring_exit_scope()

        self.assert_broken("state", "PY_YIELD does not reach a tool that "
                           "listens to nothing else", lambda: generator(1),
                           times=100)


class EnterTests(RuleTestCase):

    def loop(self, *actions, fresh=True):
        return function(Code([1]), *[*actions, ("LINE", 0, 1)] * 2000,
                        fresh=fresh)

    def test_right(self):
        for fresh in (True, False):
            self.assert_right(self.loop(None, fresh=fresh), times=20)

    def test_short(self):
        """Few lines need not notice a tool that comes."""
        self.assert_right(function(Code([1]), *[("LINE", 0, 1)] * 200),
                          times=20)

    def test_never_entered_again(self):
        self.assert_broken("enter", "came 1000 lines ago", self.loop(),
                           place="foreign.src:1", times=20)


class DisableTests(RuleTestCase):

    def test_right(self):
        code = Code([1])
        run = function(code, *StateTests.ACTIONS)
        self.assert_right(run, times=300)

    def test_restart_events(self):
        run = function(Code([1]), ("LINE", 0, 1))
        original = sys.monitoring.restart_events
        with check_producer.checking() as report:
            for _ in range(50):
                run()
                sys.monitoring.restart_events()
        self.assertTrue(report.ok, report)
        self.assertIs(sys.monitoring.restart_events, original)

    def test_tools_called_whatever_they_want(self):
        """A producer that does not ask the interpreter whom to call."""
        monitoring = sys.monitoring
        jump = monitoring.events.JUMP
        code = Code([1])

        def call_all():
            for tool in reversed(range(6)):
                callback = monitoring.register_callback(tool, jump, None)
                monitoring.register_callback(tool, jump, callback)
                if callback is not None:
                    callback(code, 0, 0)

        calls = function(code, ("JUMP", 0, 0)), function(code, call_all)
        self.assert_broken(
            "disable", "JUMP comes again at a place that was disabled",
            *calls, times=200, place="foreign.src:1:1")
        # Where the interpreter forgets it, nothing is disabled.
        with mock.patch.object(check_producer, "KEEPS_DISABLED", False):
            report = self.assert_right(*calls, times=200)
        self.assertIn("the rule disable was not looked at", str(report))


class LeakTests(RuleTestCase):

    def test_right(self):
        code, kept = Code(), []
        run = function(code)

        def keep():
            kept.append(code)
            run()

        self.assert_right(run, times=1000)
        self.assert_right(keep, times=1000)

    def test_leak(self):
        ctypes = import_helper.import_module("ctypes")
        code = Code()
        run = function(code)
        leaked = []

        def leak():
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(code))
            leaked.append(1)
            run()

        self.assert_broken("leak", "references to the code-like are left "
                           r"after 100 activations, 9.\d in a thousand",
                           leak, times=100)
        for _ in leaked:
            ctypes.pythonapi.Py_DecRef(ctypes.py_object(code))


class ReportTests(RuleTestCase):

    def test_places_of_a_kind(self):
        """The first ten are shown, and the others counted."""
        lines = range(100, 130)
        report = self.check(*[
            function(Code([1]), ("LINE", 0, line)) for line in lines
        ], rules=["line"])
        self.assertEqual([found.location[1] for found in report.findings],
                         [*lines[:10]])
        self.assertEqual(report.hidden, {"line": 20})
        self.assertIn("[line] 20 more times at other places", str(report))

    def test_files(self):
        good = function(Code([1], filename="good.src"), ("LINE", 0, 1))
        bad = function(Code([1], filename="bad.src"), ("LINE", 0, 2))
        options = {"rules": ["line"], "times": 3}
        self.assertFalse(self.check(good, bad, **options).ok)
        report = self.check(good, bad, files=["*good*"], **options)
        self.assertEqual((report.ok, report.events, report.code_likes),
                         (True, 9, 1))

    def test_python_code(self):
        """A producer that uses the code object of a Python function."""
        code = python_function.__code__
        bad = function(code, ("LINE", 0, 10**6))
        self.assertEqual(self.check(bad).events, 0)
        for pattern in ("*test_check_producer.py:python_function",
                        "*:python_function"):
            with self.subTest(pattern):
                report = self.check(bad, rules=["line"],
                                    python_code=[pattern])
                self.assertEqual((report.ok, report.events), (False, 3))

    def test_python_functions_are_no_producers(self):
        def generator():
            try:
                yield len("x")
            except LookupError:
                yield 2
            raise ValueError

        def run():
            items = generator()
            next(items)
            items.throw(LookupError)
            self.assertRaises(ValueError, next, items)

        report = self.check(run, compile("assert False", "f", "exec").replace,
                            times=3)
        self.assertEqual((report.events, report.code_likes), (0, 0))
        self.assertIn("has a producer run at all?", str(report))

    def test_rules(self):
        with self.assertRaisesRegex(ValueError, "no rule 'lines'"):
            with check_producer.checking(["lines"]):
                pass

    def test_tools(self):
        """The tool ids are free afterwards, and two are enough."""
        monitoring = sys.monitoring
        used = [tool for tool in range(6) if not monitoring.get_tool(tool)]
        run = function(Code())
        for left in (2, 1):
            taken = used[left:]
            for tool in taken:
                monitoring.use_tool_id(tool, "test")
            try:
                report = self.assert_right(run)
                self.assertEqual("one tool of sys.monitoring" in str(report),
                                 left == 1)
            finally:
                for tool in taken:
                    monitoring.free_tool_id(tool)
        self.assertEqual(
            used, [tool for tool in range(6) if not monitoring.get_tool(tool)])

    def test_no_tool(self):
        monitoring = sys.monitoring
        free = [tool for tool in range(6) if not monitoring.get_tool(tool)]
        for tool in free:
            monitoring.use_tool_id(tool, "test")
        try:
            with self.assertRaisesRegex(RuntimeError, "are in use"):
                with check_producer.checking():
                    pass
        finally:
            for tool in free:
                monitoring.free_tool_id(tool)

    def test_within_another(self):
        run = function(Code([1]), ("LINE", 0, 2))
        with check_producer.checking(rules=["line"]) as outer:
            with check_producer.checking(rules=["line"]) as inner:
                run()
            run()
        self.assertEqual([report.findings[0].count
                          for report in (inner, outer)], [1, 2])

    def test_exceptions_are_not_kept(self):
        """Nor what they and the calls refer to."""
        class Value(LookupError):
            pass

        value = Value()
        alive = weakref.ref(value)
        code = Code()
        run = failing(code, failed=(("RAISE", 0), ("PY_UNWIND", 0)),
                      error=value)
        with check_producer.checking() as report:
            with contextlib.suppress(Value):
                run()
            del run, value
            gc.collect()
            self.assertIsNone(alive())
        self.assertTrue(report.ok, report)

    def test_memory(self):
        """It grows with the code-likes, not with the events."""
        code = Code([1, 2])
        run = function(code, ("LINE", 0, 1), ("BRANCH", 0, 0), ("JUMP", 0, 2),
                       ("LINE", 2, 2))
        with check_producer.checking() as report:
            for _ in range(2000):
                run()
            tracemalloc.start()
            try:
                for _ in range(10000):
                    run()
                size, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        self.assertLess(size, 10000)
        self.assertEqual(report.events, 6 * 12000)

    def test_memory_of_places(self):
        """It does not grow with places that never come again."""
        def run(numbers):
            for i in numbers:
                function(code, ("LINE", 0, i), ("CALL", 2 * i, len, ""),
                         ("C_RETURN", 2 * i, len, ""),
                         ("BRANCH", 2 * i, 0), ("JUMP", 2 * i, 0))()

        for probing in (True, False):
            code = Code()
            rules = None if probing else ["call", "branch"]
            with mock.patch.object(check_producer, "MAX_PLACES", 100), \
                    check_producer.checking(rules) as report:
                run(range(1, 1000))
                sizes = []
                # What an interpreter allocates once is in one of them.
                for start in range(1000, 5000, 1000):
                    tracemalloc.start()
                    try:
                        run(range(start, start + 1000))
                        sizes.append(tracemalloc.get_traced_memory()[0])
                    finally:
                        tracemalloc.stop()
            self.assertTrue(report.ok, report)
            self.assertLess(min(sizes), 10000)
            self.assertEqual(report.events, 7 * 4999)


PROGRAM = """
import sys
import _testcapi

class Code:
    co_name = "f"
    co_filename = "foreign.src"
    co_firstlineno = 1

code = Code()
start, line, end = 0, 5, 2
run = _testcapi.Producer(code, (start, line, end), (
    (start, 0), (line, 0, 1), *[(end, 0, None)] * ("bad" not in sys.argv)))
run()
print(sys.argv, __name__, sys.path[0])
if "fail" in sys.argv:
    raise LookupError("x")
if "exit" in sys.argv:
    sys.exit(5)
"""


class CommandTests(unittest.TestCase):

    def setUp(self):
        self.folder = os.path.realpath(
            self.enterContext(os_helper.temp_dir()))
        self.program = os.path.join(self.folder, "program.py")
        with open(self.program, "w") as file:
            file.write(PROGRAM)

    def run_tool(self, *arguments, status=0):
        done = subprocess.run(
            [sys.executable, TOOL, *arguments], cwd=self.folder, text=True,
            capture_output=True)
        self.assertEqual(done.returncode, status, done)
        return done.stdout, done.stderr

    def test_program(self):
        stdout, stderr = self.run_tool("program.py", "-x", "--json")
        self.assertEqual(stdout, f"['program.py', '-x', '--json'] __main__ "
                                 f"{self.folder}\n")
        self.assertIn("3 events of 1 code-like", stderr)
        self.assertIn("no rule was found broken", stderr)

    def test_module(self):
        stdout, stderr = self.run_tool("-m", "program", "-x")
        self.assertEqual(stdout, f"[{self.program!r}, '-x'] __main__ "
                                 f"{self.folder}\n")
        self.assertIn("3 events of 1 code-like", stderr)

    def test_folder(self):
        os.rename(self.program, os.path.join(self.folder, "__main__.py"))
        stdout, stderr = self.run_tool(".", "-x")
        self.assertIn("3 events of 1 code-like", stderr)

    def test_broken(self):
        stdout, stderr = self.run_tool("program.py", "bad", status=1)
        self.assertIn("foreign.src:1: [end] f: the activation ended without",
                      stderr)
        self.assertIn("    after PY_START 0, LINE 1\n", stderr)
        self.run_tool("--ignore", "end,line", "program.py", "bad")
        self.run_tool("--rules", "end", "program.py", "bad", status=1)
        self.run_tool("--file", "other.*", "program.py", "bad")

    def test_json(self):
        stdout, stderr = self.run_tool("--json", "-o", "report.json",
                                       "program.py", "bad", status=1)
        self.assertEqual(stderr, "")
        with open(os.path.join(self.folder, "report.json")) as file:
            report = json.load(file)
        self.assertEqual(
            report["findings"],
            [{"rule": "end", "count": 1,
              "message": "the activation ended without PY_RETURN, PY_YIELD or "
                         "PY_UNWIND, after this line",
              "code": {"name": "f", "file": "foreign.src", "line": 1},
              "place": {"file": "foreign.src", "line": 1, "end_line": 1,
                        "column": None, "end_column": None},
              "events": ["PY_START 0", "LINE 1"]}])
        self.assertEqual((report["events"], report["code_likes"]), (2, 1))

    def test_program_that_fails(self):
        stdout, stderr = self.run_tool("program.py", "fail")
        self.assertIn(f'Traceback (most recent call last):\n  File '
                      f'"program.py", line 17, in <module>', stderr)
        self.assertIn("note: the program has ended with LookupError", stderr)
        stdout, stderr = self.run_tool("program.py", "exit")
        self.assertIn("note: the program has exited with 5", stderr)

    def test_wrong_calls(self):
        for arguments, message in (
                ((), "required: PROGRAM"),
                (("nothing.py",), "there is no file nothing.py"),
                (("-m", "nothing"), "there is no module nothing"),
                (("--rules", "ends", "program.py"), "no rule 'ends'"),
                (("-o", "no/folder", "program.py"), "no/folder"),
                (("--unknown", "program.py"), "unrecognized")):
            with self.subTest(arguments):
                stdout, stderr = self.run_tool(*arguments, status=2)
                self.assertIn(message, stderr)
                self.assertEqual(stdout, "")

    def test_progress(self):
        stream = io.StringIO()
        checker = check_producer.Checker()
        progress = check_producer.Progress(checker, stream, interval=0.01)
        checker.start()
        try:
            function(Code([1]), ("LINE", 0, 1))()
            progress.start()
            while "\r" not in stream.getvalue():
                pass
            progress.end()
        finally:
            checker.stop()
        shown = stream.getvalue().split("\r")
        self.assertEqual(shown[1], "check_producer: 3 events of 1 code-like, "
                                   "0 mistakes")
        self.assertEqual((shown[-2].strip(), shown[-1]), ("", ""))

    def test_threads(self):
        """The report is made when they have ended."""
        with open(self.program, "a") as file:
            file.write(textwrap.dedent("""
                import threading, time
                threading.Thread(target=lambda: (time.sleep(0.2),
                                                 run())).start()
                """))
        stdout, stderr = self.run_tool("program.py")
        self.assertIn("6 events of 1 code-like", stderr)


if __name__ == "__main__":
    unittest.main()
