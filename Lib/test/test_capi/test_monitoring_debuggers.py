"""Tests of pdb and bdb on code that is not bytecode.

The functions of foreign code are producers of a file of their own, as a small
language would have them; those between them are Python's.
"""

import bdb
import io
import os
import pdb
import re
import sys
import unittest
from functools import partial
from test.support import os_helper
from .monitoring_support import (
    E, TOOL, MonitoringTestCase, _testcapi, make_producer, monitoring)

SOURCE = """\
to outer
    let count = 1
    call middle
    let count = 2
to inner
    let name = "inner"
    let name = "changed"
to failing
    call fail
"""
OUTER, INNER, FAILING = (number for number, line
                         in enumerate(SOURCE.splitlines(), 1)
                         if line.startswith("to "))


class Program:
    """outer calls middle, which is Python's, and that calls inner."""

    def __init__(self, filename):
        self.filename = filename
        self.inner_variables = {}
        self.outer_variables = {}
        self.inner = self.define(
            "inner", INNER, self.inner_variables,
            1, partial(self.inner_variables.update, name="inner"),
            2, partial(self.inner_variables.update, name="changed"))
        self.outer = self.define(
            "outer", OUTER, self.outer_variables,
            1, partial(self.outer_variables.update, count=1), 2, self.middle,
            3, partial(self.outer_variables.update, count=2))
        self.failing = self.define(
            "failing", FAILING, {"reason": "none"}, 1, self.fail)

    def define(self, name, first, variables, *body):
        """A function of the file: the body has the numbers of the lines after
        its first one, and what they call."""
        size = 1 + max(part for part in body if isinstance(part, int))
        lines = range(first, first + size)
        code = _testcapi.code_newwithlocations(
            self.filename, name, None, first,
            [(line, line, 4, 8) for line in lines])
        actions = [("PY_START", 0), ("namespaces", {"__name__": "program"},
                                     variables)]
        for part in body:
            if isinstance(part, int):
                actions.append(("LINE", 2 * part, lines[part]))
            else:
                # What is called can switch tools on.
                actions += [part, None]
        last = 2 * (size - 1)
        actions.append(("PY_RETURN", last, name.upper()))
        return make_producer(
            code, *actions, failed=(("traceback", last, 0), ("RAISE", last),
                                    ("PY_UNWIND", last)))

    def middle(self):
        number = 7
        self.inner()
        return number

    def fail(self):
        raise LookupError("nothing there")


class DebuggerTestCase(unittest.TestCase):

    def setUp(self):
        directory = self.enterContext(os_helper.temp_dir())
        self.filename = os.path.realpath(
            os.path.join(directory, "program.src"))
        with open(self.filename, "w", encoding="utf-8") as file:
            file.write(SOURCE)
        self.addCleanup(sys.settrace, sys.gettrace())
        self.addCleanup(bdb.Breakpoint.clearBreakpoints)
        bdb.Breakpoint.clearBreakpoints()
        # pdb remembers each file for good.
        self.addCleanup(pdb.Pdb._file_mtime_table.clear)
        self.program = Program(self.filename)


class PdbTest(DebuggerTestCase):

    def debug(self, run, *commands):
        """Return what pdb says first and to each command.

        Of places it is FILE(LINE)FUNCTION without folders, and the end of a
        stack alone: how the test is run does not matter.
        """
        output = io.StringIO()
        run(pdb.Pdb(stdin=io.StringIO("\n".join([*commands, "continue"])),
                    stdout=output, nosigint=True, readrc=False))
        text = re.sub(r"[^\s']*[/\\]", "", output.getvalue())
        replies = [reply.rstrip() for reply in text.split("(Pdb) ")]
        self.assertGreater(len(replies), len(commands), text)
        return replies

    def call(self, function, *commands):
        """Call it from Python, where pdb stops first."""
        def start():
            function()

        return self.debug(lambda debugger: debugger.runcall(start), *commands)

    def at(self, reply, line, name, end=""):
        """Check that pdb has stopped at a line of the foreign file."""
        text = SOURCE.splitlines()[line - 1].strip()
        self.assertRegex(reply, rf"(?m)^> program\.src\({line}\){name}\(\)"
                                rf"{end}\n-> {re.escape(text)}\Z")

    def run_at(self, line, function, *commands):
        """Return what pdb says from the first stop at the line on."""
        return self.call(function, f"break {self.filename}:{line}",
                         "continue", *commands)[2:]

    def test_breakpoint(self):
        replies = self.call(self.program.outer,
                            f"break {self.filename}:{INNER + 2}", "continue",
                            "where", "list", "p name", "continue")
        self.assertIn(f"Breakpoint 1 at program.src:{INNER + 2}", replies[1])
        self.at(replies[2], INNER + 2, "inner")
        stack = replies[3].splitlines()[-6:]
        self.assertEqual(stack[0], "  program.src(3)outer()")
        self.assertRegex(stack[2], r"^  test_monitoring_debuggers\.py\(\d+\)"
                                   r"middle\(\)$")
        self.assertEqual(stack[4], f"> program.src({INNER + 2})inner()")
        listing = replies[4].splitlines()
        self.assertIn('  7 B->\t    let name = "changed"', listing)
        self.assertIn("  3  \t    call middle", listing)
        self.assertEqual(replies[5], "'inner'")
        self.assertEqual(replies[6:], [""])

    def test_breakpoint_of_module_name(self):
        directory = os.path.dirname(self.filename)
        sys.path.append(directory)
        self.addCleanup(sys.path.remove, directory)
        replies = self.call(self.program.outer, "break program.src:7")
        self.assertIn("Breakpoint 1 at program.src:7", replies[1])
        self.at(replies[2], INNER + 2, "inner")

    def test_step(self):
        replies = self.run_at(OUTER + 1, self.program.outer, *["step"] * 13)
        self.assertEqual(
            self.stops(replies),
            [("outer", 2), ("outer", 3),
             "middle", "middle", "middle",
             ("inner", 5), ("inner", 6), ("inner", 7), ("inner", 7),
             "middle", "middle", ("outer", 4), ("outer", 4),
             "start"])
        self.assertIn("--Call--", replies[5])
        self.at(replies[8], INNER + 2, "inner", "->'INNER'")
        self.at(replies[12], OUTER + 3, "outer", "->'OUTER'")

    def stops(self, replies):
        """Return (function, line) of each stop; of Python's, without one."""
        found = []
        for reply in replies:
            for file, line, name in re.findall(
                    r"^> (.*)\((\d+)\)(.*)\(\)", reply, re.MULTILINE):
                found.append((name, int(line)) if file == "program.src"
                             else name)
        return found

    def test_next(self):
        replies = self.run_at(OUTER + 1, self.program.outer, *["next"] * 3)
        self.assertEqual(self.stops(replies[:4]),
                         [("outer", 2), ("outer", 3), ("outer", 4),
                          ("outer", 4)])
        self.at(replies[3], OUTER + 3, "outer", "->'OUTER'")

    def test_return_and_out(self):
        replies = self.run_at(INNER + 1, self.program.outer,
                              "return", "next", "next", "next", "next")
        self.at(replies[1], INNER + 2, "inner", "->'INNER'")
        self.assertEqual(self.stops(replies[2:5]),
                         ["middle", "middle", ("outer", 4)])

    def test_until(self):
        replies = self.run_at(OUTER + 1, self.program.outer,
                              f"until {OUTER + 3}")
        self.at(replies[1], OUTER + 3, "outer")

    def test_up_and_down(self):
        replies = self.run_at(INNER + 2, self.program.outer, "up", "p number",
                              "up", "p count", "p __name__", "down", "down",
                              "p name")
        self.assertEqual(self.stops(replies[1:]),
                         ["middle", ("outer", 3), "middle", ("inner", 7)])
        self.assertEqual([replies[i] for i in (2, 4, 5, 8)],
                         ["7", "1", "'program'", "'inner'"])

    def test_variables(self):
        replies = self.run_at(
            INNER + 2, self.program.outer, "p locals()['name']",
            "!mine = name * 2", "p mine", "!name = 'written'", "p name",
            "display name", "next")
        self.assertEqual([replies[i] for i in (1, 3, 5)],
                         ["'inner'", "'innerinner'", "'written'"])
        # What a debugger writes is the frame's own.
        self.assertEqual(self.program.inner_variables, {"name": "changed"})

    def test_temporary_breakpoint(self):
        replies = self.call(self.twice, f"tbreak {self.filename}:{INNER + 1}",
                            "continue", "continue")
        self.assertIn(f"Deleted breakpoint 1 at program.src:{INNER + 1}",
                      replies[2])
        self.at(replies[2], INNER + 1, "inner")
        self.assertEqual(replies[3], "")

    def test_condition(self):
        replies = self.call(self.twice, f"break {self.filename}:{INNER + 1}",
                            "condition 1 locals().get('name') == 'changed'",
                            "continue", "p name", "continue")
        self.assertEqual(self.stops(replies[3:]), [("inner", 6)])
        self.assertEqual(replies[4], "'changed'")

    def twice(self):
        self.program.outer()
        self.program.outer()

    def test_jump(self):
        replies = self.run_at(OUTER + 1, self.program.outer,
                              f"jump {OUTER + 3}", "where")
        self.assertIn("*** Jump failed: f_lineno can only be set",
                      replies[1])
        self.at(replies[2], OUTER + 1, "outer")

    def test_breakpoint_function(self):
        """One of Python's that foreign code calls, whose frames were made for
        nobody before: the one that runs is seen when it goes on."""
        def called():
            breakpoint()
            return 1

        caller = self.program.define("caller", OUTER, {}, 1, called, 2, 3)

        def run(debugger):
            hook = sys.breakpointhook
            sys.breakpointhook = lambda: debugger.set_trace(sys._getframe(1))
            try:
                caller()
            finally:
                sys.breakpointhook = hook

        replies = self.debug(run, "next", "next", "next", "where", "next")
        self.assertEqual(self.stops(replies[:1]), ["called"])
        self.at(replies[3], OUTER + 2, "caller")
        self.assertRegex(replies[4], r"\)run\(\)\n-> caller\(\)\n"
                                     r"> program\.src\(3\)caller\(\)")
        self.at(replies[5], OUTER + 3, "caller")

    def test_called_without_python_code(self):
        replies = self.debug(
            lambda debugger: debugger.runcall(self.program.inner), "step")
        self.at(replies[0], INNER + 1, "inner")
        self.at(replies[1], INNER + 2, "inner")

    def test_exception(self):
        """It is shown where foreign code passes it on."""
        def run(debugger):
            with self.assertRaises(LookupError):
                debugger.runcall(self.program.failing)

        replies = self.debug(run, "next", "next", "p reason")
        for reply in replies[:2]:
            self.at(reply, FAILING + 1, "failing")
        self.assertIn("LookupError: nothing there", replies[1])
        self.at(replies[2], FAILING + 1, "failing", "->None")
        self.assertEqual(replies[3], "'none'")

    def test_post_mortem(self):
        """A tool was in use, so the entry has the variables."""
        tracer = sys.gettrace()
        sys.settrace(lambda *args: None)
        try:
            self.program.failing()
        except LookupError as exc:
            error = exc
        finally:
            sys.settrace(tracer)

        def run(debugger):
            debugger.reset()
            debugger.interaction(None, error)

        replies = self.debug(run, "where", "up", "p reason", "list", "down")
        self.assertEqual(self.stops(replies[:1]), ["fail"])
        self.at(replies[2], FAILING + 1, "failing")
        self.assertEqual(replies[3], "'none'")
        self.assertIn(f"  {FAILING + 1}  ->\t    call fail", replies[4])
        self.assertEqual(self.stops(replies[5:]), ["fail"])


class BdbTest(DebuggerTestCase):

    def test_set_break(self):
        stops = []

        class Debugger(bdb.Bdb):
            def user_line(self, frame):
                if self.break_here(frame):
                    stops.append((frame.f_code.co_name, frame.f_lineno,
                                  frame.f_back.f_code.co_name,
                                  frame.f_locals.get("name")))
                self.set_continue()

        debugger = Debugger()
        for line in (OUTER + 2, INNER + 2, INNER + 1):
            self.assertIsNone(debugger.set_break(self.filename, line))
        debugger.runcall(self.program.outer)
        self.assertEqual(stops, [("outer", 3, "runcall", None),
                                 ("inner", 6, "middle", None),
                                 ("inner", 7, "middle", "inner")])


class CallersTest(DebuggerTestCase, MonitoringTestCase):
    """Tools that listen to little see all of the stack."""

    def setUp(self):
        DebuggerTestCase.setUp(self)
        MonitoringTestCase.setUp(self)

    def test_lines_nobody_listens_to(self):
        stacks = []

        def look(code, offset):
            if code.co_name == "inner":
                frame = sys._getframe(1)
                stacks.append([(frame.f_code.co_name, frame.f_lineno),
                               (frame.f_back.f_back.f_code.co_name,
                                frame.f_back.f_back.f_lineno)])

        monitoring.register_callback(TOOL, E.PY_START, look)
        monitoring.set_events(TOOL, E.PY_START)
        self.program.inner()        # From the first look on.
        for _ in range(2):
            self.program.outer()
        monitoring.set_events(TOOL, 0)
        self.assertEqual(stacks[1:], [[("inner", INNER), ("outer", 3)]] * 2)


if __name__ == "__main__":
    unittest.main()
