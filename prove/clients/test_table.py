"""Tests of the table of tools."""

import contextlib
import io
from pathlib import Path
import tempfile
import unittest

from prove.clients import covered, producers, profilers, programs, table
from series.common import SeriesError


class CellTest(unittest.TestCase):

    def test_things(self):
        expected = {"a": 1, "b": [2]}
        for found, says in (
                (expected, "right"),
                ({"a": 1}, "wrong: 1 of 2 things right"),
                ({"a": 2, "b": [2]}, "wrong: 1 of 2 things right"),
                ({**expected, "c": 3}, "wrong: 2 of 2 things right, 1 more"),
                ("crash (SIGSEGV)", "crash (SIGSEGV)")):
            self.assertEqual(table.describe(expected, found, "things"), says)

    def test_sequence(self):
        expected = ["a", "b", "c"]
        for found, says in (
                (expected, "right"),
                (["a", "c", "b"], "wrong: the first 1 of 3 steps right"),
                (["a", "b"], "wrong: the first 2 of 3 steps right"),
                ([*expected, "d"], "wrong: the first 3 of 3 steps right")):
            self.assertEqual(table.describe(expected, found, "steps"), says)

    def test_ends(self):
        for status, printed, says in (
                (-11, "", "crash (SIGSEGV)"),
                (None, "", "wrong: hangs"),
                (None, "a.b.KeyError: x\n", "wrong: KeyError"),
                (1, "ValueError: x\nKeyError\n", "wrong: KeyError"),
                (1, "Couldn't parse 'a' as Python source: 'b'\n",
                 "wrong: parsed as Python"),
                (3, "", "wrong: status 3")):
            self.assertEqual(programs.describe(status, printed), says)

    def test_rows_have_names(self):
        for rows in table.ROWS, table.LAYER_ROWS:
            self.assertEqual(len({row.name for row in rows}), len(rows))

    def test_no_package_index(self):
        with tempfile.TemporaryDirectory() as build:
            with self.assertRaisesRegex(SeriesError, "needs a package index"):
                with contextlib.redirect_stdout(io.StringIO()):
                    table.check_clients(None, Path(build), "false",
                                        "false")


class ShortTableTest(unittest.TestCase):

    def test_shares(self):
        for cell, says in (("right", 1), ("crash (SIGSEGV)", 0),
                           ("wrong: KeyError", 0),
                           ("wrong: 1 of 4 lines right", 0.25),
                           ("wrong: 4 of 4 lines right, 1 more", 0.99),
                           ("wrong: the first 1 of 2 replies right", 0.5)):
            self.assertEqual(table.share(cell), says)

    def test_table(self):
        class Title:
            title = "here"

        rows = [table.Row(*row, None) for row in (
            ("a, one", "", ""), ("a, two", "", ""), ("b", "", ""),
            ("c", "", ""))]
        rows[-1].is_short = False
        found = table.short_table(
            list(zip(rows, [["right"], ["wrong: 1 of 9 lines right"],
                            ["right"], ["crash"]])), [Title])
        self.assertEqual(found, "==== ======\nTool here\n==== ======\n"
                                "a    partly\nb    yes\n==== ======\n")
        found = table.short_table([(rows[2], ["crash"])], [Title])
        self.assertIn("\nb    no\n", found)


class ProgramTest(unittest.TestCase):
    """Where the two languages have the same lines and functions."""

    def subject(self, language, is_python):
        return programs.Subject(language, Path("nowhere"), "false",
                                *self.lines(language, is_python), is_python)

    def lines(self, language, is_python):
        if isinstance(language, programs.Cython):
            return language.source.lines, language.source.starts
        return language.python_lines() if is_python else language.own_lines()

    def test_basic(self):
        language = programs.Basic()
        text = (programs.FOLDER / language.twin).read_text().splitlines()
        line = text.index("def SUB():") + 1
        python = self.subject(language, True)
        basic = self.subject(language, False)
        self.assertEqual(python.function("a/counting.py", line, "SUB"),
                         basic.function("counting.bas", 12, "SUB"))
        self.assertEqual(python.place("counting.py", line + 2),
                         ("counting", 12))
        self.assertIsNone(python.place("counting.py", line + 1))
        self.assertIsNone(python.place("other.py", 12))
        self.assertEqual(python.place("basic.py", 3), ("basic", 3))
        self.assertEqual(len(python.lines), len(basic.lines))

    def test_cython(self):
        language = programs.Cython()
        source = language.source
        line = language.line_of("total += number")
        self.assertIn(line, source.lines)
        self.assertIn(("shapes", line), source.hidden)
        self.assertNotIn(language.line_of("total = 1"),
                         [number for _, number in source.hidden])
        for text in "yield i", "found = await answer(number)":
            self.assertIn(("shapes", language.line_of(text)),
                          source.generators)
        self.assertNotIn(("shapes", line), source.generators)
        self.assertNotIn(language.line_of("cdef int total"), source.lines)
        subject = self.subject(language, False)
        self.assertEqual(
            subject.function("shapes.pyx", language.line_of(
                "cdef int add_up(int number) noexcept nogil:"), "a.add_up"),
            "shapes %d add_up" % language.line_of(
                "cdef int add_up(int number) noexcept nogil:"))
        self.assertIsNone(subject.function(
            "shapes.pyx", language.line_of("class Shape:"), "Shape"))

    def test_no_line(self):
        with self.assertRaisesRegex(SeriesError, "is to have one line"):
            programs.Basic().line_of("nothing like it")

    def test_arcs(self):
        language = programs.Cython()
        subject = self.subject(language, False)
        first = language.line_of("total = number + 1")
        turn = language.line_of("yield i")
        self.assertEqual(covered.arc(subject, "shapes.pyx", 1 - first, first),
                         f"shapes:-{first - 1}-{first}")
        for start, end in (first, first), (turn - 1, turn), (1, first):
            self.assertIsNone(covered.arc(subject, "shapes.pyx", start, end))

    def test_counts(self):
        language = programs.Cython()
        subject = self.subject(language, False)
        loop = language.line_of("if i % 2:") - 1
        self.assertEqual(
            profilers.lines(subject, [["shapes.pyx", loop, 9],
                                      ["shapes.pyx", loop + 1, 4],
                                      ["elsewhere", 1, 1]]),
            {f"shapes:{loop}": True, f"shapes:{loop + 1}": 4})


class GreenletsTest(unittest.TestCase):
    COUNTS = [[f"<built-in method builtins.{name}>", 1, calls]
              for name, calls in producers.CALLS.items()]

    def test_counted(self):
        producers.check_python({"01": {"counts": self.COUNTS}})

    def test_python_code_that_shows_nothing(self):
        for counts in ([[name, 1, 1] for name, *_ in self.COUNTS],
                       self.COUNTS[1:], []):
            with self.assertRaisesRegex(SeriesError, "is counted"):
                producers.check_python({"01": {"counts": counts}})


class VerdictsTest(unittest.TestCase):
    """What may differ between a page and a measurement."""

    MARKDOWN = "| trace | `run` | wrong: 1 of 2 lines right | right | right |"
    SHORT = "trace    no      yes     yes"

    def test_another_failure_elsewhere(self):
        for text, one, other in (
                (self.MARKDOWN, "wrong: 1 of 2 lines right", "wrong: hangs"),
                (self.SHORT, "no     ", "partly ")):
            self.assertEqual(table.verdicts(text),
                             table.verdicts(text.replace(one, other)))

    def test_what_counts(self):
        for text, one, other in (
                (self.MARKDOWN, "wrong: 1 of 2 lines right", "right"),
                (self.MARKDOWN, "| right | right |", "| crash | right |"),
                (self.MARKDOWN, "| right | right |", "| right | wrong |"),
                (self.MARKDOWN, "trace", "pdb"),
                (self.SHORT, "no ", "yes"),
                (self.SHORT, "yes     yes", "yes     no")):
            self.assertNotEqual(table.verdicts(text),
                                table.verdicts(text.replace(one, other)),
                                other)
