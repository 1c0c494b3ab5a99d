"""Tests of tinybasic: python -m unittest test_tinybasic"""

import contextlib
import cProfile
import functools
import gc
import io
import itertools
import os
import pstats
import re
import signal
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import threading
import traceback
import types
import unittest
import weakref

import listing
import profile_subs
import tinybasic

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = os.path.join(HERE, "programs")

monitoring = sys.monitoring
events = monitoring.events
TOOL = monitoring.DEBUGGER_ID


def program(*lines):
    return tinybasic.Program("\n".join(lines) + "\n", "test.bas")


def run(*lines, functions={}, answers=()):
    """Run a program and return what it prints."""
    output = io.StringIO()
    rest = iter(answers)
    program(*lines).run(functions, lambda prompt: next(rest), output)
    return output.getvalue()


def value(expression, *lines):
    return run(*lines, f"9000 PRINT {expression}")[:-1]


@contextlib.contextmanager
def tool(callbacks, tool_id=TOOL):
    """Have callbacks, a dict by event, called for all code."""
    monitoring.use_tool_id(tool_id, "test")
    try:
        for event, callback in callbacks.items():
            monitoring.register_callback(tool_id, event, callback)
        monitoring.set_events(tool_id, functools.reduce(
            int.__or__, (event for event in callbacks
                         if event not in (events.C_RETURN, events.C_RAISE)),
            0))
        yield
    finally:
        monitoring.set_events(tool_id, 0)
        for event in callbacks:
            monitoring.register_callback(tool_id, event, None)
        monitoring.free_tool_id(tool_id)


NAMES = {getattr(events, name): name for name in dir(events)
         if name.isupper() and name != "NO_EVENTS"}
ALL = ("PY_START PY_RETURN PY_UNWIND LINE JUMP BRANCH CALL C_RETURN C_RAISE "
       "RAISE").split()


def record(*lines, names=ALL, functions={}, error=None):
    """Run a program and return its events as strings.

    LINE is shown with the line number, the others with the offset.
    """
    seen = []

    def callback(name, code, *args):
        if code.co_filename == "test.bas":
            seen.append(" ".join([name, code.co_name, *map(repr, args)]))

    subject = program(*lines)
    with tool({getattr(events, name): functools.partial(callback, name)
               for name in names}):
        try:
            subject.run(functions, None, io.StringIO())
        except BaseException as exc:
            caught = exc
        else:
            caught = None
    if error is None and caught is not None:
        raise caught
    if error is not None and not isinstance(caught, error):
        raise AssertionError(f"{caught!r} is not {error}")
    return seen


def recursion():
    """Return a builtin and a function that runs a program three times.

    The second run is in a CALL of the builtin by the first, the third in an
    INPUT of the second, which is no CALL.
    """
    def generator():
        yield
        yield subject.run({}, answer)

    def answer(prompt):
        number = next(numbers)
        if number == 3:
            subject.run({}, answer)
        return str(number)

    numbers = itertools.count(1)
    subject = program("10 INPUT A", "20 IF A = 2 THEN 50",
                      "30 IF A = 1 THEN CALL AGAIN(A)", "40 END",
                      "50 INPUT B")
    again = generator()
    next(again)
    return again.send, functools.partial(subject.run, {"AGAIN": again.send},
                                         answer)


def trace(call):
    """Return the traceback of the exception that a call ends in."""
    try:
        call()
    except BaseException as exc:
        return [(entry.filename, entry.lineno, entry.name)
                for entry in traceback.extract_tb(exc.__traceback__)
                if entry.filename != __file__ or entry.name == "callback"]
    raise AssertionError("no exception")


class LanguageTests(unittest.TestCase):

    def test_arithmetic(self):
        for expression in ("1+2*3", "(1+2)*3", "7-2-1", "-3+5", "--3", "2*-3",
                           "-7/2", "7/2/2", "-(2+3)", "0", "007"):
            with self.subTest(expression):
                expected = eval(expression.replace("/", "//").lstrip("0")
                                or "0")
                self.assertEqual(value(expression), str(expected))
        self.assertEqual(value("-7 MOD 3"), "2")
        self.assertEqual(value("2 + 7 MOD 3 * 2"), "4")

    def test_64_bits(self):
        self.assertEqual(value("9223372036854775807"), "9223372036854775807")
        self.assertEqual(value("-9223372036854775807-1"),
                         "-9223372036854775808")

    def test_comparison(self):
        for left in (1, 2, 3):
            for basic, python in {"=": "==", "<>": "!=", "<": "<", ">": ">",
                                  "<=": "<=", ">=": ">="}.items():
                expected = str(int(eval(f"{left} {python} 2")))
                self.assertEqual(value(f"{left} {basic} 2"), expected)
                self.assertEqual(value(f'"{left}" {basic} "2"'), expected)

    def test_logic(self):
        for left in (0, 1):
            for right in (0, 1):
                self.assertEqual(value(f"{left} = 1 AND {right} = 1"),
                                 str(left & right))
                self.assertEqual(value(f"{left} = 1 OR {right} = 1"),
                                 str(left | right))
        self.assertEqual(value("1 = 1 OR 1 = 1 AND 1 = 2"), "1")

    def test_strings(self):
        self.assertEqual(value('"a" + A$ + "ü;" + ""', '1 LET A$ = "b, c"'),
                         "ab, cü;")

    def test_variables(self):
        self.assertEqual(value('A; "/"; A$; "/"; A(1); "/"; A$(1)',
                               "1 DIM A(1)", "2 DIM A$(1)"), "0//0/")
        self.assertEqual(value('A; A$; A(1); A$(1); A(0); TOTAL2',
                               "1 DIM A(1)", "2 DIM A$(1)", "3 LET A = 1",
                               '4 LET A$ = "b"', "5 LET A(A) = 2",
                               '6 LET A$(A) = "c"', "7 LET TOTAL2 = 5"),
                         "1b2c05")

    def test_print(self):
        self.assertEqual(run('10 PRINT "a"; 1, "b"', "20 PRINT",
                             '30 PRINT "c";', '40 PRINT "d",', "50 PRINT 2",
                             '60 PRINT ,; "e" 3 A$;;"f"'),
                         "a1\tb\n\ncd\t2\n\te3f\n")

    def test_input(self):
        prompts = []
        answers = iter(["x y", " 12 ", "-3"])

        def answer(prompt):
            prompts.append(prompt)
            return next(answers)

        output = io.StringIO()
        program("5 DIM B(1)", '10 INPUT "Name, please: "; A$', "20 INPUT A",
                "30 INPUT B(1)",
                "40 PRINT A$; A; B(1)").run({}, answer, output)
        self.assertEqual(prompts, ["Name, please: ", "? ", "? "])
        self.assertEqual(output.getvalue(), "x y12-3\n")

    def test_default_input_and_output(self):
        stdin, stdout = sys.stdin, sys.stdout
        sys.stdin, sys.stdout = io.StringIO("hello\n"), io.StringIO()
        try:
            program("10 INPUT A$", "20 PRINT A$").run()
            output = sys.stdout.getvalue()
        finally:
            sys.stdin, sys.stdout = stdin, stdout
        self.assertEqual(output, "? hello\n")

    def test_goto_and_if(self):
        self.assertEqual(run("10 GOTO 30", "20 PRINT 20", "30 PRINT 30",
                             "40 IF 1 = 1 THEN 60", "50 PRINT 50",
                             "60 IF 1 = 2 THEN 80", "70 PRINT 70",
                             "80 IF 5 THEN PRINT 80",
                             "90 IF 0 THEN PRINT 90"), "30\n70\n80\n")

    def test_gosub(self):
        self.assertEqual(run("10 GOSUB 40", "20 PRINT 20", "30 END",
                             "40 PRINT 40", "50 GOSUB 80", "60 PRINT 60",
                             "70 RETURN", "80 PRINT 80", "90 RETURN"),
                         "40\n80\n60\n20\n")

    def test_end_in_subroutine(self):
        self.assertEqual(run("10 GOSUB 30", "20 PRINT 20", "30 END"), "")
        self.assertEqual(run("10 GOSUB 30", "20 PRINT 20", "30 REM"), "")

    def test_gosub_to_the_first_line(self):
        self.assertEqual(run("10 LET A = A + 1", "20 IF A = 1 THEN GOSUB 10",
                             "30 PRINT A", "40 IF A = 2 THEN 60", "50 END",
                             "60 LET A = 3", "70 RETURN"), "2\n3\n")

    def test_for(self):
        def loop(header):
            return run(f"10 FOR I = {header}", "20 PRINT I;", "30 NEXT I",
                       '40 PRINT "/"; I')
        self.assertEqual(loop("1 TO 3"), "123/3\n")
        self.assertEqual(loop("1 TO 4 STEP 2"), "13/3\n")
        self.assertEqual(loop("3 TO 1 STEP -1"), "321/1\n")
        self.assertEqual(loop("3 TO 0 STEP -2"), "31/1\n")
        self.assertEqual(loop("2 TO 1"), "/2\n")
        self.assertEqual(loop("1 TO 2 STEP -1"), "/1\n")
        self.assertEqual(loop("9223372036854775806 TO 9223372036854775807"),
                         "92233720368547758069223372036854775807"
                         "/9223372036854775807\n")
        least = "-9223372036854775807 - 1"
        self.assertEqual(loop(f"{least} TO 9223372036854775807 "
                              "STEP 9223372036854775807"),
                         "-9223372036854775808-19223372036854775806"
                         "/9223372036854775806\n")
        self.assertEqual(loop(f"0 TO {least} STEP {least}"),
                         "0-9223372036854775808/-9223372036854775808\n")

    def test_for_keeps_its_limit(self):
        self.assertEqual(run("10 LET N = 2", "20 FOR I = 1 TO N",
                             "30 LET N = N + 1", "40 NEXT I", "50 PRINT N"),
                         "4\n")

    def test_nested_for(self):
        self.assertEqual(run("10 FOR I = 1 TO 2", "20 FOR J = I TO 2",
                             "30 PRINT I; J;", "40 NEXT J", "50 NEXT I"),
                         "111222")

    def test_leaving_a_loop_and_coming_again(self):
        self.assertEqual(run("10 FOR I = 1 TO 9", "20 IF I = 2 THEN 40",
                             "30 NEXT I", "40 PRINT I;", "50 LET K = K + 1",
                             "60 IF K < 3 THEN 10"), "222")

    def test_call(self):
        got = []
        functions = {"F": lambda *args: got.append(args),
                     "UP": str.upper, "SEVEN": lambda: 7}
        self.assertEqual(
            run("10 CALL F", "20 CALL F()", '30 CALL F(1, "a" + "b")',
                '40 CALL UP("x") INTO A$', "50 CALL SEVEN INTO A",
                "60 DIM B(2)", "70 CALL SEVEN() INTO B(1 + 1)",
                "80 PRINT A$; A; B(2)", functions=functions), "X77\n")
        self.assertEqual(got, [(), (), (1, "ab")])

    def test_values_from_python_are_plain(self):
        class Text(str):
            def __add__(self, other):
                return 5

        class Number(int):
            def __add__(self, other):
                return "five"

        self.assertEqual(run("10 CALL F INTO A$", "20 CALL G INTO A",
                             '30 PRINT A$ + "b"; A + 1',
                             functions={"F": lambda: Text("a"),
                                        "G": lambda: Number(1)}), "ab2\n")

    def test_layout(self):
        self.assertEqual(run("", " 10  PRINT  1 ; 2", "\t20PRINT 3\r", "   ",
                             "30 REM", '40 REM "anything: goes', "50 PRINT 4"),
                         "12\n3\n4\n")

    def test_programs(self):
        for name in os.listdir(PROGRAMS):
            subject = listing.load(os.path.join(PROGRAMS, name))
            answers = ("PAY IN|ADA|250|DRAW|BOB|700|MOVE|ADA|MAX|EVE|300|YEAR|"
                       "LIST|QUIT").split("|")
            output = io.StringIO()
            subject.run(listing.FUNCTIONS,
                        lambda prompt: answers.pop(0), output)
            self.assertIn({"bank.bas": "ALL\t1802\n",
                           "cipher.bas": "LEFT THE BRIDGE BEFORE THE RIVER\n",
                           "sieve.bas": "303 PRIMES\n",
                           "sort.bas": "0 15 22 ... 981\n"}[name],
                          output.getvalue())

    def test_run_twice(self):
        subject = program("10 LET A = A + 1", "20 PRINT A")
        output = io.StringIO()
        subject.run(output=output)
        subject.run(output=output)
        self.assertEqual(output.getvalue(), "1\n1\n")

    def test_program_in_a_program(self):
        output = io.StringIO()
        subject = program("10 LET A = A + 1", "20 CALL F(A)", "30 PRINT A")

        def nested(number):
            if number == 1:
                subject.run({"F": lambda number: None}, output=output)

        subject.run({"F": nested}, output=output)
        self.assertEqual(output.getvalue(), "1\n1\n")


class ErrorTests(unittest.TestCase):

    def check(self, message, call, *args, **kwargs):
        with self.assertRaises(tinybasic.Error) as caught:
            call(*args, **kwargs)
        self.assertEqual(str(caught.exception), f"test.bas{message}")

    def test_lines(self):
        for source, message in {
            "": ": there is no line in it",
            "\n  \r\n": ": there is no line in it",
            "PRINT":
                ", line 1: expected a line number from 1 to 65535 at "
                "'PRINT'",
            "0 END":
                ", line 1: expected a line number from 1 to 65535 at "
                "'0 END'",
            "65536 END":
                ", line 1: expected a line number from 1 to 65535 at "
                "'65536 END'",
            "99999999999999999999999 END":
                ", line 1: expected a line number from 1 to 65535 at "
                "'99999999999999999999999 END'",
            "10 END\n\n10 END":
                ", line 3: expected a line number from 11 to 65535 at "
                "'10 END'",
        }.items():
            with self.subTest(source):
                self.check(message, tinybasic.Program, source, "test.bas")

    def test_statements(self):
        for text, message in {
            "": "expected a statement at the end of the line",
            "PRNT 1": "expected a statement at 'PRNT'",
            "let A = 1": "expected a statement at 'let'",
            "TO": "expected a statement at 'TO'",
            "END 1": "expected the end of the line at '1'",
            "LET 1 = 2": "expected a variable at '1'",
            "LET A": "expected '=' at the end of the line",
            "LET A = ": "expected a value at the end of the line",
            "LET A = 1 2": "expected the end of the line at '2'",
            "LET A = (1": "expected ')' at the end of the line",
            "LET A = 1 + * 2": "expected a value at '*'",
            "LET A = B(1": "expected ')' at the end of the line",
            "LET A = B(C$)": "expected a number, not str",
            'LET A = "x"': "expected a number, not str",
            "LET A$ = 1": "expected a string, not int",
            "LET A$(1) = 1": "expected a string, not int",
            'LET A = 1 + "x"': "a number and a string do not mix",
            'LET A = "x" = 1': "a number and a string do not mix",
            'LET A$ = "x" - "y"': "strings can only be joined and compared",
            'LET A = -"x"': "expected a number, not str",
            "LET A = 9223372036854775808":
                "the number does not fit in 64 bits",
            "LET A = 99999999999999999999999999":
                "the number does not fit in 64 bits",
            'PRINT "x': "expected a value at '\"'",
            "PRINT ?": "expected a value at '?'",
            "PRINT \x7f\xe9": "expected a value at '\x7f'",
            "PRINT \u20ac1": "expected a value at '\u20ac'",
            "INPUT": "expected a variable at the end of the line",
            'INPUT "x"': "expected ';' at the end of the line",
            'INPUT "x"; 1': "expected a variable at '1'",
            "DIM A": "expected '(' at the end of the line",
            "DIM 1": "expected an array at '1'",
            "DIM A(": "expected a value at the end of the line",
            "DIM A(1": "expected ')' at the end of the line",
            'DIM A("x")': "expected a number, not str",
            "GOTO": "expected a line number at the end of the line",
            "GOTO A": "expected a line number at 'A'",
            "GOTO 11": "no line is numbered 11",
            "GOTO 99999999999999999999":
                "no line is numbered 99999999999999999999",
            "GOSUB 11": "no line is numbered 11",
            "IF": "expected a value at the end of the line",
            'IF "x" THEN 10': "expected a number, not str",
            "IF 1": "expected THEN at the end of the line",
            "IF 1 THEN": "expected a statement at the end of the line",
            "IF 1 THEN 11": "no line is numbered 11",
            "IF 1 THEN IF 1 THEN 10": "IF cannot follow THEN",
            "IF 1 THEN FOR I = 1 TO 2": "FOR cannot follow THEN",
            "IF 1 THEN NEXT I": "NEXT cannot follow THEN",
            "FOR": "expected a variable at the end of the line",
            "FOR I": "expected '=' at the end of the line",
            "FOR I = 1": "expected TO at the end of the line",
            "FOR I = 1 TO": "expected a value at the end of the line",
            "FOR I = 1 TO 2 STEP": "expected a value at the end of the line",
            'FOR I = 1 TO "x"': "expected a number, not str",
            "FOR I$ = 1 TO 2": "expected a string, not int",
            "FOR I = 1 TO 2": "FOR without NEXT",
            "NEXT": "expected a variable at the end of the line",
            "NEXT I": "NEXT I without FOR",
            "CALL": "expected a function at the end of the line",
            "CALL F(": "expected a value at the end of the line",
            "CALL F(1": "expected ')' at the end of the line",
            "CALL F(1,)": "expected a value at ')'",
            "CALL F INTO": "expected a variable at the end of the line",
            "CALL F INTO 1": "expected a variable at '1'",
            "LET A = " + "(" * 200: "the expression is nested too deeply",
            "LET A = " + "-" * 200: "the expression is nested too deeply",
        }.items():
            with self.subTest(text):
                self.check(f", line 1: {message}", program, f"10 {text}")

    def test_next_for_another_loop(self):
        self.check(", line 3: NEXT I without FOR", program,
                   "10 FOR I = 1 TO 2", "20 FOR J = 1 TO 2", "30 NEXT I",
                   "40 NEXT J")

    def test_long_expression(self):
        self.assertEqual(value("1" + "+1" * 10000), "10001")

    def test_run_time(self):
        for text, message in {
            "PRINT 1 / A": "division by zero",
            "PRINT 1 MOD A": "division by zero",
            "PRINT 9223372036854775807 + B":
                "the number does not fit in 64 bits",
            "PRINT (-9223372036854775807 - B) / -1":
                "the number does not fit in 64 bits",
            "PRINT -(-9223372036854775807 - B)":
                "the number does not fit in 64 bits",
            "PRINT D(1)": "D(1) is not in a DIM",
            "LET D$(1) = \"\"": "D$(1) is not in a DIM",
            "PRINT E(3)": "E(3) is not in a DIM",
            "LET E(-1) = 1": "E(-1) is not in a DIM",
            "RETURN": "RETURN without GOSUB",
            "FOR I = 1 TO 2 STEP A": "STEP is 0",
            "INPUT A": "'one' is not a number",
            "CALL NOBODY": "there is no function NOBODY",
            'CALL F("x") INTO A': "expected a number, not str",
            "CALL F(1) INTO A$": "expected a string, not int",
            "CALL BIG INTO A": "the number does not fit in 64 bits",
        }.items():
            with self.subTest(text):
                self.check(f", line 3: {message}", run, "10 LET B = 1",
                           "20 DIM E(2)", f"40 {text}", "50 REM",
                           *(["60 NEXT I"] if text.startswith("FOR") else []),
                           functions={"F": lambda x: x, "BIG": lambda: 2**63},
                           answers=["one"])

    def test_next_before_for(self):
        self.check(", line 3: NEXT comes before its FOR", run, "10 GOTO 30",
                   "20 FOR I = 1 TO 2", "30 NEXT I")

    def test_input_that_is_no_string(self):
        with self.assertRaisesRegex(tinybasic.Error, "string, not int"):
            run("10 INPUT A$", answers=[5])

    def test_arguments(self):
        for args, error in [((), TypeError), (("10 END",), TypeError),
                            (("10 END", 5), TypeError),
                            (("10 END\0", "x"), ValueError),
                            (("10 PRINT \"\udc80\"", "x"), ValueError)]:
            with self.subTest(args), self.assertRaises(error):
                tinybasic.Program(*args)
        with self.assertRaises(TypeError):
            program("10 END").run([])

    def test_errors_from_python(self):
        with self.assertRaises(KeyError):
            run("10 CALL F", functions={"F": lambda: {}[0]})
        with self.assertRaises(StopIteration):
            run("10 INPUT A")
        with self.assertRaises(AttributeError):
            program("10 PRINT").run(output=5)

    def test_endless_recursion(self):
        with self.assertRaisesRegex(RecursionError, "in a GOSUB"):
            run("10 GOSUB 10")
        subject = program("10 CALL F")
        functions = {}
        functions["F"] = functools.partial(subject.run, functions)
        with self.assertRaises(RecursionError):
            subject.run(functions)

    def test_depth_is_given_back(self):
        self.assertEqual(run("10 FOR I = 1 TO 20000", "20 GOSUB 50",
                             "30 NEXT I", "40 GOTO 60", "50 RETURN",
                             "60 PRINT I"), "20000\n")
        self.check(", line 2: RETURN without GOSUB", run, "10 GOSUB 30",
                   "20 RETURN", "30 RETURN")


class TracebackTests(unittest.TestCase):

    def test_scopes(self):
        subject = program("10 GOSUB 30", "20 END", "30 REM INNER",
                          "40 PRINT 1 / A")
        self.assertEqual(trace(subject.run), [("test.bas", 1, "MAIN"),
                                              ("test.bas", 4, "INNER")])

    def test_errors_in_callbacks(self):
        # Wherever it arises, the callback's exception has the whole way.
        subject = program("10 GOSUB 30", "20 END", "30 REM INNER",
                          "40 PRINT 1 / A")
        for event, line in [(events.PY_START, 3), (events.LINE, 3),
                            (events.RAISE, 4), (events.PY_UNWIND, 4)]:
            def callback(code, *args):
                if getattr(code, "co_name", "") == "INNER":
                    raise KeyError

            def call():
                with tool({event: callback}):
                    subject.run()

            with self.subTest(NAMES[event]):
                self.assertEqual([entry[1:] for entry in trace(call)][:2],
                                 [(1, "MAIN"), (line, "INNER")])
                self.assertEqual(trace(call)[2][2], "callback")
                self.assertRaises(KeyError, call)

    def test_errors_from_python(self):
        def callback():
            raise KeyError

        subject = program("10 REM", "20 CALL F")
        self.assertEqual(
            [entry[2] for entry in
             trace(lambda: subject.run({"F": callback}))],
            ["MAIN", "callback"])

    def test_file_name(self):
        for name in os.fsdecode(b"caf\xc3\xa9 \xff.bas"), "":
            subject = tinybasic.Program("10 PRINT 1 / A", name)
            self.assertEqual(subject.subroutines[0].co_filename, name)
            self.assertEqual(trace(subject.run), [(name, 1, "MAIN")])


class CodeLikeTests(unittest.TestCase):

    def test_attributes(self):
        subject = program("10 GOSUB 40", "20 GOSUB 60", "30 GOSUB 40",
                          "35 GOTO 80", "", "40 REM  A NAME ", "50 RETURN",
                          "60 REM", "70 RETURN", "80 GOSUB 60", "90 GOSUB 10")
        self.assertEqual(
            [(code.co_name, code.co_qualname, code.co_firstlineno,
              code.co_filename) for code in subject.subroutines],
            [("MAIN", "MAIN", 1, "test.bas"),
             ("A NAME", "A NAME", 6, "test.bas"),
             ("SUB 60", "SUB 60", 8, "test.bas")])
        self.assertIsInstance(subject.subroutines, tuple)
        for code in subject.subroutines:
            self.assertIsInstance(code, types.CodeLike)

    def test_it_never_runs(self):
        with self.assertRaises(AssertionError):
            exec(program("10 END").subroutines[0])

    def test_read_only(self):
        with self.assertRaises(AttributeError):
            program("10 END").subroutines = ()

    def test_weak_reference(self):
        subject = program("10 END")
        reference = weakref.ref(subject.subroutines[0])
        self.assertIs(reference(), subject.subroutines[0])
        del subject
        gc.collect()    # a build without a GIL needs it for code objects
        self.assertIsNone(reference())


class LocationTests(unittest.TestCase):

    SOURCE = """\
10 REM THE LOCATIONS

  20   PRINT "caf\N{LATIN SMALL LETTER E WITH ACUTE}"; A\t\r
\t30 IF 1 THEN  PRINT 1; "\N{EURO SIGN}"
40 GOSUB 10
"""
    STATEMENTS = [
        (1, "REM THE LOCATIONS"),
        (3, 'PRINT "caf\N{LATIN SMALL LETTER E WITH ACUTE}"; A'),
        (4, 'IF 1 THEN  PRINT 1; "\N{EURO SIGN}"'),
        (4, 'PRINT 1; "\N{EURO SIGN}"'),
        (5, "GOSUB 10"),
    ]

    def test_columns(self):
        lines = self.SOURCE.encode().split(b"\n")
        for code in tinybasic.Program(self.SOURCE, "x").subroutines:
            *statements, end = itertools.islice(code.co_positions(), 6)
            found = []
            for first, last, start, stop in statements:
                self.assertEqual(first, last)
                found.append((first, lines[first - 1][start:stop].decode()))
            self.assertEqual(found, self.STATEMENTS)
            self.assertEqual(end, (5, 5, None, None))

    def test_get_location(self):
        code = tinybasic.Program(self.SOURCE, "x.bas").subroutines[0]
        for i, (position, (lineno, text)) in enumerate(
                zip(code.co_positions(), self.STATEMENTS)):
            place = monitoring.get_location(code, 2 * i)
            self.assertEqual(place, ("x.bas", *position))
            self.assertEqual(place.lineno, lineno)
        with self.assertRaises(ValueError):
            monitoring.get_location(code, -2)

    def test_traceback(self):
        """It shows where RAISE happened, with the same columns."""
        for text, failing in [("PRINT 1 / A", "PRINT 1 / A"),
                              ("IF 1 / A THEN PRINT",
                               "IF 1 / A THEN PRINT"),
                              ("IF 1 THEN LET B = 1 / A", "LET B = 1 / A")]:
            with self.subTest(text), tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "test.bas")
                source = f"10 GOSUB 30\n20 END\n\n  30 {text}\n"
                with open(path, "w") as file:
                    file.write(source)
                subject = listing.load(path)
                seen = []

                def on_raise(code, offset, exc):
                    if code.co_filename == path:
                        seen.append((code, offset))

                with tool({events.RAISE: on_raise}):
                    try:
                        subject.run()
                    except tinybasic.Error as error:
                        entries = traceback.extract_tb(error.__traceback__)
                entries = [entry for entry in entries
                           if entry.filename == path]
                self.assertEqual([code.co_name for code, _ in seen],
                                 ["SUB 30", "MAIN"])
                for (code, offset), entry, expected in zip(
                        seen, reversed(entries), (failing, "GOSUB 30"),
                        strict=True):
                    self.assertEqual(
                        monitoring.get_location(code, offset),
                        (entry.filename, entry.lineno, entry.end_lineno,
                         entry.colno, entry.end_colno))
                    self.assertEqual(listing.text_at(code, offset), expected)
                    self.assertEqual(entry.name, code.co_name)
                    self.assertIn(expected, entry.line)

    def test_text(self):
        """listing.text_at() is for code of every kind."""
        def add(a, b):
            return a.add(
                b)

        class Unknown:
            def co_location(self, offset):
                return __file__, *self.place

        code, unknown = add.__code__, Unknown()
        texts = [listing.text_at(code, offset)
                 for offset in range(0, len(code.co_code), 2)]
        self.assertIn("a.add", texts)
        self.assertIn("b", texts)
        self.assertIn("a.add(\n                b)", texts)
        for place, text in [((None, None, None, None), ""),
                            ((1, None, None, None), __doc__.join(['"""'] * 2)),
                            ((1, 1, 3, None), __doc__.join(['"""'] * 2)),
                            ((1, 1, 3, 8), "Tests"),
                            ((10**6, 10**6, 3, 8), "")]:
            unknown.place = place
            self.assertEqual(listing.text_at(unknown, 0), text, place)

    def test_line_is_that_of_the_location(self):
        """What LINE says is the line in the file, at each offset."""
        path = os.path.join(PROGRAMS, "sieve.bas")
        subject = listing.load(path)
        lines = listing.count(subject, ())[0]
        for code in subject.subroutines:
            monitoring.use_tool_id(listing.TOOL, "test")
            self.assertEqual(
                monitoring.get_local_events(listing.TOOL, code), 0)
            monitoring.free_tool_id(listing.TOOL)
        with open(path) as file:
            text = file.readlines()
        self.assertEqual({text[lineno - 1] for lineno in lines}, {*text})
        self.assertEqual(listing.lines_of(subject.subroutines), {*lines})


class EventTests(unittest.TestCase):

    def check(self, expected, *lines, **kwargs):
        self.assertEqual(record(*lines, **kwargs),
                         [text for line in expected.strip().splitlines()
                          if (text := line.strip())])

    def test_plain_lines(self):
        self.check("""
            PY_START MAIN 0
            LINE MAIN 1
            LINE MAIN 2
            LINE MAIN 4
            LINE MAIN 5
            PY_RETURN MAIN 8 None
            """, "10 LET A = 1", "20 DIM A(3)", "", "35 REM",
            '40 PRINT "x"')

    def test_end(self):
        self.check("""
            PY_START MAIN 0
            LINE MAIN 1
            PY_RETURN MAIN 0 None
            """, "10 END", "20 REM")

    def test_goto(self):
        self.check("""
            PY_START MAIN 0
            LINE MAIN 1
            JUMP MAIN 0 4
            LINE MAIN 3
            PY_RETURN MAIN 4 None
            """, "10 GOTO 30", "20 REM", "30 END")

    def test_if(self):
        self.check("""
            PY_START MAIN 0
            LINE MAIN 1
            BRANCH MAIN 0 4
            LINE MAIN 3
            BRANCH MAIN 4 6
            LINE MAIN 4
            BRANCH MAIN 6 8
            JUMP MAIN 8 12
            LINE MAIN 6
            BRANCH MAIN 12 16
            PY_RETURN MAIN 16 None
            """, "10 IF 1 THEN 30", "20 REM", "30 IF 0 THEN 20",
            "40 IF 1 THEN GOTO 60", "50 REM", "60 IF 0 THEN LET A = 1")

    def test_if_that_goes_to_itself(self):
        self.check("""
            LINE MAIN 1
            BRANCH MAIN 0 4
            LINE MAIN 2
            LINE MAIN 3
            BRANCH MAIN 6 0
            LINE MAIN 1
            BRANCH MAIN 0 2
            PY_RETURN MAIN 2 None
            """, "10 IF A = 1 THEN END", "20 LET A = A + 1",
            "30 IF A < 2 THEN 10", names=["LINE", "BRANCH", "PY_RETURN"])

    def test_line_that_goes_to_itself(self):
        class Enough(Exception):
            pass

        def on_line(code, lineno):
            seen.append(lineno)
            if len(seen) == 3:
                raise Enough

        seen = []
        subject = program("10 IF A = 0 THEN GOTO 10")
        with tool({}):
            monitoring.register_callback(TOOL, events.LINE, on_line)
            monitoring.set_local_events(TOOL, subject.subroutines[0],
                                        events.LINE)
            self.assertRaises(Enough, subject.run)
            monitoring.register_callback(TOOL, events.LINE, None)
        self.assertEqual(seen, [1, 1, 1])

    def test_one_line_for_two_statements(self):
        self.check(f"""
            LINE MAIN 1
            BRANCH MAIN 0 2
            CALL MAIN 2 <class 'int'> {monitoring.MISSING!r}
            LINE MAIN 2
            """,
            "10 IF A = 0 THEN CALL F INTO A", "20 REM",
            names=["LINE", "BRANCH", "CALL"], functions={"F": int})

    def test_for(self):
        self.check("""
            PY_START MAIN 0
            LINE MAIN 1
            BRANCH MAIN 0 2
            LINE MAIN 2
            LINE MAIN 3
            JUMP MAIN 4 0
            LINE MAIN 1
            BRANCH MAIN 0 2
            LINE MAIN 2
            LINE MAIN 3
            JUMP MAIN 4 0
            LINE MAIN 1
            BRANCH MAIN 0 6
            LINE MAIN 4
            PY_RETURN MAIN 6 None
            """, "10 FOR I = 1 TO 2", "20 REM", "30 NEXT I", "40 END")

    def test_gosub(self):
        self.check("""
            PY_START MAIN 0
            LINE MAIN 1
            PY_START OUTER 6
            LINE OUTER 4
            LINE OUTER 5
            PY_START SUB 70 12
            LINE SUB 70 7
            PY_RETURN SUB 70 12 None
            LINE OUTER 6
            PY_RETURN OUTER 10 None
            LINE MAIN 2
            PY_RETURN MAIN 2 None
            """, "10 GOSUB 40", "20 END", "30 REM", "40 REM OUTER",
            "50 GOSUB 70", "60 RETURN", "70 RETURN")

    def test_end_returns_from_all_scopes(self):
        self.check("""
            PY_START MAIN 0
            PY_START SUB 20 2
            PY_RETURN SUB 20 2 None
            PY_RETURN MAIN 0 None
            """, "10 GOSUB 20", "20 END",
            names=["PY_START", "PY_RETURN", "PY_UNWIND"])

    def test_recursion(self):
        self.check("""
            PY_START MAIN 0
            PY_START S 4
            PY_START S 4
            PY_RETURN S 12 None
            PY_RETURN S 12 None
            PY_RETURN MAIN 2 None
            """, "10 GOSUB 30", "20 END", "30 REM S", "40 LET A = A + 1",
            "50 IF A < 2 THEN GOSUB 30", "60 RETURN",
            names=["PY_START", "PY_RETURN"])

    def test_call(self):
        def function(*args):
            return len(args)

        bound = types.MethodType(function, 5)
        missing = repr(monitoring.MISSING)
        self.check(f"""
            CALL MAIN 0 <built-in function len> 'abc'
            C_RETURN MAIN 0 <built-in function len> 'abc'
            CALL MAIN 2 <class 'int'> {missing}
            C_RETURN MAIN 2 <class 'int'> {missing}
            CALL MAIN 4 {function} 1
            CALL MAIN 6 {bound} 1
            """, '10 CALL LEN("abc")', "20 CALL INT", "30 CALL F(1, 2)",
            "40 CALL B(1)", names=["CALL", "C_RETURN", "C_RAISE"],
            functions={"LEN": len, "INT": int, "F": function, "B": bound})

    def test_call_that_fails(self):
        self.check("""
            PY_START MAIN 0
            LINE MAIN 1
            CALL MAIN 0 <built-in function len> 1
            C_RAISE MAIN 0 <built-in function len> 1
            RAISE MAIN 0 TypeError("object of type 'int' has no len()")
            PY_UNWIND MAIN 0 TypeError("object of type 'int' has no len()")
            """, "10 CALL LEN(1)", functions={"LEN": len}, error=TypeError)

    def test_call_around_recursion(self):
        seen = []

        def callback(name, code, *args):
            if code.co_filename == "test.bas":
                seen.append((name, *args))

        again, run_thrice = recursion()
        with tool({getattr(events, name): functools.partial(callback, name)
                   for name in ("CALL", "C_RETURN")}):
            run_thrice()
        self.assertEqual(seen, [("CALL", 6, again, 1),
                                ("C_RETURN", 6, again, 1)])

    def test_error(self):
        error = "Error('test.bas, line 4: division by zero')"
        self.check(f"""
            PY_START MAIN 0
            LINE MAIN 1
            PY_START SUB 30 4
            LINE SUB 30 3
            LINE SUB 30 4
            RAISE SUB 30 6 {error}
            PY_UNWIND SUB 30 6 {error}
            RAISE MAIN 0 {error}
            PY_UNWIND MAIN 0 {error}
            """, "10 GOSUB 30", "20 END", "30 LET A = 0", "40 PRINT 1 / A",
            error=tinybasic.Error)

    def test_large_offset(self):
        lines = [f"{number} REM" for number in range(1, 1001)]
        self.check("""
            JUMP MAIN 0 2000
            BRANCH MAIN 2000 2002
            PY_RETURN MAIN 2002 None
            """, lines[0][:-3] + "GOTO 1001", *lines[1:],
            "1001 IF 0 THEN 1", names=["JUMP", "BRANCH", "PY_RETURN"])

    def test_error_of_a_subroutine(self):
        """It is raised at the GOSUB, wherever that is."""
        self.check("""
            RAISE SUB 40 6 KeyError(1)
            RAISE MAIN 2 KeyError(1)
            """, "10 REM", "20 GOSUB 40", "30 END", "40 CALL F(1)",
            names=["RAISE"], functions={"F": {}.__getitem__}, error=KeyError)

    def test_lines_only(self):
        self.check("LINE MAIN 1\nLINE SUB 20 2", "10 GOSUB 20",
                   "20 PRINT 1 / A", names=["LINE"], error=tinybasic.Error)

    def test_no_events_while_a_program_loads(self):
        with tool({events.LINE: lambda code, line:
                   self.assertNotIsInstance(code, str),
                   events.CALL: lambda *args: None}):
            subject = program("10 GOTO 20", "20 END")
        self.assertEqual(len(subject.subroutines), 1)


class ToolTests(unittest.TestCase):

    def test_local_events(self):
        subject = program("10 GOSUB 40", "20 GOSUB 60", "30 END",
                          "40 REM A", "50 RETURN", "60 REM B", "70 RETURN")
        main, chosen, other = subject.subroutines
        seen = []
        with tool({}):
            monitoring.register_callback(
                TOOL, events.LINE, lambda *args: seen.append(args))
            monitoring.set_local_events(TOOL, chosen, events.LINE)
            self.assertEqual(monitoring.get_local_events(TOOL, chosen),
                             events.LINE)
            subject.run()
            monitoring.set_local_events(TOOL, chosen, 0)
            subject.run()
            monitoring.register_callback(TOOL, events.LINE, None)
        self.assertEqual(seen, [(chosen, 4), (chosen, 5)])

    def test_chosen_while_it_starts(self):
        """A debugger sets LINE in its callback for PY_START."""
        def on_start(code, offset):
            if code is subject.subroutines[1]:
                monitoring.set_local_events(TOOL, code, events.LINE)

        subject = program("10 GOSUB 30", "20 END", "30 REM", "40 RETURN")
        seen = []
        with tool({events.PY_START: on_start}):
            monitoring.register_callback(
                TOOL, events.LINE, lambda code, lineno: seen.append(lineno))
            subject.run()
            monitoring.set_local_events(TOOL, subject.subroutines[1], 0)
            monitoring.register_callback(TOOL, events.LINE, None)
        self.assertEqual(seen, [3, 4])

    def test_disable(self):
        seen = []
        subject = program("10 GOSUB 40", "20 GOSUB 40", "30 END",
                          "40 GOSUB 60", "50 RETURN", "60 RETURN")
        inner = subject.subroutines[-1]

        def on_line(code, lineno):
            if code in subject.subroutines:
                seen.append(lineno)
                if code is inner:
                    return monitoring.DISABLE

        with tool({events.LINE: on_line}):
            subject.run()
            self.assertEqual(seen, [1, 4, 6, 5, 2, 4, 5, 3])
            monitoring.restart_events()
        del seen[:]
        with tool({events.LINE: on_line}):
            subject.run()
        self.assertEqual(seen, [1, 4, 6, 5, 2, 4, 5, 3])

    def test_every_event_may_fail(self):
        lines = ["10 GOSUB 30", "20 END", "30 FOR I = 1 TO 2",
                 "40 CALL LEN(A$)", "50 NEXT I", "60 RETURN"]
        for name in "PY_START LINE BRANCH CALL JUMP PY_RETURN".split():
            seen = []

            def fail(code, *args):
                if getattr(code, "co_name", "") == "SUB 30":
                    raise KeyError(name)

            def on_unwind(code, offset, exc):
                if getattr(code, "co_filename", "") == "test.bas":
                    seen.append((code.co_name, type(exc)))

            with self.subTest(name), self.assertRaises(KeyError), \
                    tool({getattr(events, name): fail,
                          events.PY_UNWIND: on_unwind}):
                run(*lines, functions={"LEN": len})
            self.assertEqual(seen, [("SUB 30", KeyError), ("MAIN", KeyError)])

    def test_the_end_of_a_call_may_fail(self):
        def fail(code, *args):
            if getattr(code, "co_filename", "") == "test.bas":
                raise KeyError

        for event, argument in (events.C_RETURN, '"x"'), (events.C_RAISE, "1"):
            with self.subTest(NAMES[event]), self.assertRaises(KeyError), \
                    tool({events.CALL: lambda *args: None, event: fail}):
                run(f"10 CALL LEN({argument})", functions={"LEN": len})

    def test_switched_on_in_mid_scope(self):
        seen = []

        def on_line(code, lineno):
            if code in subject.subroutines:
                seen.append(lineno)

        def switch():
            monitoring.set_events(TOOL, events.LINE)

        subject = program("10 REM", "20 CALL SWITCH", "30 REM")
        with tool({}):
            monitoring.register_callback(TOOL, events.LINE, on_line)
            subject.run({"SWITCH": switch})
            monitoring.register_callback(TOOL, events.LINE, None)
        self.assertEqual(seen, [3])

    def test_two_programs(self):
        first, second = program("10 END"), program("10 END")
        seen = []
        with tool({events.PY_START: lambda code, offset: seen.append(code)}):
            first.run()
            second.run()
        mains = [first.subroutines[0], second.subroutines[0]]
        # Code objects with the same content are equal.
        self.assertEqual([id(code) for code in seen if code in mains],
                         [id(code) for code in mains])

    def test_a_callback_that_runs_the_program(self):
        subject = program("10 PRINT 1")
        output = io.StringIO()
        started = []

        def on_start(code, offset):
            if code in subject.subroutines:
                started.append(code)
                subject.run(output=output)

        with tool({events.PY_START: on_start}):
            subject.run(output=output)
        self.assertEqual(len(started), 1)
        self.assertEqual(output.getvalue(), "1\n1\n")

    def test_a_callback_that_runs_the_program_within_a_call(self):
        subject = program('10 CALL LEN("a")')
        seen = []

        def callback(name, code, *args):
            if code in subject.subroutines:
                subject.run({"LEN": len})
                seen.append((name, *args))

        with tool({getattr(events, name): functools.partial(callback, name)
                   for name in ("LINE", "CALL", "C_RETURN")}):
            subject.run({"LEN": len})
        self.assertEqual(seen, [("LINE", 1), ("CALL", 0, len, "a"),
                                ("C_RETURN", 0, len, "a")])


class ProfileTests(unittest.TestCase):

    def calls(self, profiler, filename):
        """Return how often each code of a file called each builtin."""
        return {(caller[2], callee[2].strip("<>").rpartition(".")[2]): times[0]
                for callee, (*_, callers)
                in pstats.Stats(profiler).stats.items() if callee[0] == "~"
                for caller, times in callers.items() if caller[0] == filename}

    def test_builtins(self):
        path = os.path.join(PROGRAMS, "cipher.bas")
        subject = listing.load(path)
        lines = listing.count(subject, ())[0]
        self.assertEqual(
            self.calls(profile_subs.profile(subject, ()), path),
            {("SHIFT", "len"): lines[18],
             ("SHIFT LETTER", "ord"): lines[27],
             ("SHIFT LETTER", "chr"): lines[29],
             ("FIND KEY", "len"): lines[33],
             ("FIND KEY", "ord"): lines[37]})
        self.assertGreater(lines[37], 1)

    def test_recursion(self):
        again, run_thrice = recursion()
        with cProfile.Profile() as profiler:
            run_thrice()
        self.assertEqual(self.calls(profiler, "test.bas"),
                         {("MAIN", "method 'send' of 'generator' objects"): 1})

    def test_calls_that_fail(self):
        subject = program("10 CALL TRY", '20 CALL LEN("a")', "30 CALL ASC(A)")
        depths = iter((1, 2, 3))

        def attempt():
            if next(depths) < 3:
                self.assertRaises(TypeError, subject.run, functions)

        functions = {"TRY": attempt, "LEN": len, "ASC": ord}
        with cProfile.Profile() as profiler:
            self.assertRaises(TypeError, subject.run, functions)
        self.assertEqual(self.calls(profiler, "test.bas"),
                         {("MAIN", "len"): 3, ("MAIN", "ord"): 3})

    def test_another_tool_runs_the_program(self):
        subject = program('10 CALL LEN("a")', '20 CALL ASC("b")')
        functions = {"LEN": len, "ASC": ord}

        def callback(code, *args):
            if code in subject.subroutines:
                subject.run(functions)

        with cProfile.Profile() as profiler, \
                tool({events.PY_START: callback, events.CALL: callback,
                      events.C_RETURN: callback}):
            subject.run(functions)
        self.assertEqual(self.calls(profiler, "test.bas"),
                         {("MAIN", "len"): 1, ("MAIN", "ord"): 1})


class InterpreterTests(unittest.TestCase):

    def test_interrupt(self):
        def interrupt(signum, frame):
            raise KeyboardInterrupt

        old = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            entries = trace(lambda: run("10 GOTO 10"))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
        self.assertEqual(entries, [("test.bas", 1, "MAIN")])

    def test_threads(self):
        subject = program("10 FOR I = 1 TO 300", "20 GOSUB 40", "30 NEXT I",
                          "35 PRINT A", "37 END", "40 LET A = A + I",
                          "45 CALL F", "50 RETURN")
        outputs = [io.StringIO() for _ in range(4)]
        threads = [threading.Thread(target=subject.run,
                                    args=({"F": lambda: None}, None, output))
                   for output in outputs]
        with tool({events.LINE: lambda code, lineno: None}):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.assertEqual([output.getvalue() for output in outputs],
                         ["45150\n"] * 4)

    @unittest.skipUnless(sysconfig.get_config_var("Py_GIL_DISABLED"),
                         "needs a free-threaded build")
    def test_runs_without_a_gil(self):
        self.assertFalse(sys._is_gil_enabled())

    def test_subinterpreter(self):
        import _interpreters
        interpreter = _interpreters.create("isolated")
        self.addCleanup(_interpreters.destroy, interpreter)
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        failure = _interpreters.exec(interpreter, textwrap.dedent(f"""
            import sys
            sys.path[:] = {sys.path!r}
            import os, tinybasic
            seen = []
            def on_line(code, lineno):
                if code is main:
                    seen.append(lineno)
            program = tinybasic.Program("10 REM\\n20 END\\n", "sub.bas")
            main, = program.subroutines
            program.run()
            sys.monitoring.use_tool_id(1, "sub")
            sys.monitoring.register_callback(1, 32, on_line)
            assert sys.monitoring.events.LINE == 32
            sys.monitoring.set_events(1, 32)
            program.run()
            os.write({writer}, str(seen).encode())
            """))
        os.close(writer)
        self.assertIsNone(failure)
        self.assertEqual(os.read(reader, 100), b"[1, 2]")

    def test_no_leaks(self):
        # Names and values are such that each is an object of its own.
        good = """\
10 DIM TEXTS$(2)
20 FOR INDEX = 1000 TO 1002
30 GOSUB 100
40 NEXT INDEX
50 INPUT "?"; ANSWER$
60 INPUT NUMBER
70 IF NUMBER = 1234 THEN CALL LEN(ANSWER$, NUMBER) INTO COUNT
80 PRINT TEXTS$(0) + ANSWER$, 1 / (COUNT - 1000); -NUMBER * 2 MOD 1000
90 END
100 LET TEXTS$(INDEX - 1000) = ANSWER$ + "more"
110 IF INDEX > 2000 THEN 20
120 RETURN
"""
        bad = [good.replace(*change) for change in [
            ("DIM TEXTS$(2)", "DIM TEXTS$(1)"), ("COUNT - 1000", "INDEX / 0"),
            ("LEN(", "NONE("), ("INTO COUNT", "INTO COUNT$"),
            ("INPUT NUMBER\n", "INPUT NUMBER(1)\n"), ("120", "20"),
            ("RETURN", "RETURN 1"), ("GOSUB 100", "GOSUB 101"),
            ("NEXT INDEX", "NEXT INDICES"), ('"?"', '"?'), ("INTO", "TO"),
            ("ANSWER$ + ", "ANSWER$ - "), ("TO 1002", "TO 1002 STEP 0"),
            ("-NUMBER", "-ANSWER$"), ("FOR INDEX = 1000", "FOR INDEX = A$"),
            ("NEXT INDEX\n", ""), ("(2)", "(2"), ("NUMBER) INTO", "NUMBER")]]
        assert len({good, *bad}) == len(bad) + 1

        def once():
            for source in [good, *bad]:
                answers = iter(["yes", "1234"])
                with contextlib.suppress(tinybasic.Error):
                    tinybasic.Program(source, "leak.bas").run(
                        {"LEN": lambda text, number: len(text) + number},
                        lambda prompt: next(answers), io.StringIO())

        def everything():
            once()
            with tool({event: lambda *args: None for event in
                       (events.LINE, events.RAISE, events.JUMP, events.BRANCH,
                        events.CALL, events.PY_RETURN, events.PY_UNWIND)}):
                once()

        def measure():
            gc.collect()
            if hasattr(sys, "gettotalrefcount"):
                return sys.gettotalrefcount()
            return sys.getallocatedblocks()

        for _ in range(5):
            everything()
        before = measure()
        for _ in range(100):
            everything()
        self.assertLess(measure() - before, 80)


class ScriptTests(unittest.TestCase):

    def script(self, *args):
        return subprocess.run(
            [sys.executable, *args], cwd=HERE, text=True, encoding="utf-8",
            capture_output=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})

    def test_listing(self):
        done = self.script("listing.py", "programs/bank.bas", "LIST", "QUIT")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("  17     x2  170 IF C$ <> \"QUIT\" THEN 110"
                      "            1 to 110, 1 to 180\n", done.stdout)
        self.assertIn("  56     x8  720 FOR I = 1 TO M"
                      "                      6 to 730, 2 to 760\n",
                      done.stdout)
        self.assertIn("  16     x2  160 IF C$ = \"LIST\" THEN GOSUB 700"
                      "       1 to GOSUB 700, 1 to 170\n", done.stdout)
        self.assertIn("  54     x2  700 REM LIST\n", done.stdout)
        self.assertIn("  28      -  400 REM DRAW\n", done.stdout)

    def test_listing_of_a_branch_to_the_end(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "end.bas")
            with open(path, "w") as file:
                file.write("10 GOTO 30\n\n 20 END\n30 IF 0 THEN 20\n")
            done = self.script("listing.py", path)
        self.assertEqual(done.stdout.splitlines(), [
            "   1     x1  10 GOTO 30",
            "   2",
            "   3      -   20 END",
            f"   4     x1  {'30 IF 0 THEN 20':38}  1 to the end",
        ])

    def test_profile(self):
        done = self.script("profile_subs.py", "programs/bank.bas", "LIST",
                           "QUIT")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        lines = done.stdout.splitlines()
        self.assertEqual(lines[0].split()[0], "ncalls")
        self.assertEqual(
            sorted((line.split()[0], line.split(":")[1])
                   for line in lines[1:]),
            [("1", "1(MAIN)"), ("2", "54(LIST)")])

    def test_profile_of_calls(self):
        path = "programs/cipher.bas"
        hits = dict(re.findall(r"^ *(\d+) +x(\d+) ",
                               self.script("listing.py", path).stdout,
                               re.MULTILINE))
        done = self.script("profile_subs.py", path)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        calls = {re.search(r":(\d+)\(", line)[1]: line.split()[0]
                 for line in done.stdout.splitlines()[1:]}
        self.assertEqual(calls, {number: hits[number]
                                 for number in ("1", "15", "25", "31")})
        self.assertEqual(calls["25"], "92")

    def test_report(self):
        done = self.script("report.py")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        lines = done.stdout.splitlines()
        self.assertLess(len(lines), 70)
        self.assertLessEqual(max(map(len, lines)), 79)
        self.assertRegex(done.stdout,
                         r"\n +11 +x44  220 IF I \* I > N THEN 260"
                         r" +43 to 230, 1 to 260\n")
        self.assertRegex(done.stdout, r"\n +14 .* sieve.bas:34\(CROSS OUT\)")

    def test_bad_files(self):
        with tempfile.TemporaryDirectory() as folder:
            for content, message in [
                (None, "No such file or directory"),
                (b"10 PRINT \"\xff\"\n", "not a text in UTF-8"),
                (b"10 END\0\n", "embedded null character"),
                (b"", "there is no line in it"),
                (b"10 PRNT\n", "line 1: expected a statement at 'PRNT'"),
                (b"10 PRINT 1/A\n", "line 1: division by zero"),
                (b"10 INPUT A\n20 GOTO 10\n",
                 "no answer is left for '? '"),
            ]:
                path = os.path.join(folder, "bad.bas")
                if content is not None:
                    with open(path, "wb") as file:
                        file.write(content)
                for name in "listing.py", "profile_subs.py":
                    with self.subTest(content=content, script=name):
                        done = self.script(name, path, "1")
                        self.assertEqual((done.returncode, done.stdout),
                                         (1, ""))
                        self.assertRegex(done.stderr, r"\Aerror: [^\n]*\n\Z")
                        self.assertRegex(done.stderr,
                                         re.escape(message) + r"\n\Z")
            done = self.script("listing.py", folder)
            self.assertEqual(done.returncode, 1)
            self.assertIn("Is a directory", done.stderr)

    def test_usage(self):
        for name in "listing.py", "profile_subs.py":
            done = self.script(name)
            self.assertEqual(done.returncode, 1)
            self.assertIn("usage:", done.stderr)


if __name__ == "__main__":
    unittest.main()
