"""Tests of the comparison with stock."""

import contextlib
import io
import os
import time

from prove import compare
from series.common import SeriesError
from series.fixture import FixtureCase, write
from series.workspace import ROOT

TABLE = [("A.test_x", ["crash (SIGSEGV)", "ok"]),
         ("A.test_y", ["ok", "skipped"]),
         ("B.test_z", ["FAILED", "ok"])]
TITLES = "stock 9.9.9", "ours"


class CompareTest(FixtureCase):
    def setUp(self):
        super().setUp()
        self.first = self.load()[0]

    def run_test(self, script, timeout=30):
        """Let a shell script play one test and return its result."""
        python = self.top / "python"
        write(python, f"#!/bin/sh\n{script}\n".encode())
        python.chmod(0o755)
        return compare.run_test(python, "A.test_x", self.top / "log", timeout)

    def test_results(self):
        for script, result in (
                ("echo 'Ran 1 test'; echo OK", "ok"),
                ("echo 'OK (skipped=1)'", "skipped"),
                ("echo OK; exit 1", "FAILED"),
                ("kill -SEGV $$", "crash (SIGSEGV)")):
            self.assertEqual(self.run_test(script), result, script)

    def test_timeout_ends_what_the_test_started(self):
        child = self.top / "child"
        self.assertEqual(
            self.run_test(f"sleep 60 & echo $! > {child}; wait", 0.5),
            "timeout")
        with self.assertRaises(ProcessLookupError):
            for _ in range(100):
                os.kill(int(child.read_text()), 0)
                time.sleep(0.05)

    def test_table(self):
        self.assertEqual(compare.markdown(TABLE, TITLES), """\
| | stock 9.9.9 | ours |
|---|---|---|
| **A** | | |
| test_x | crash (SIGSEGV) | ok |
| test_y | ok | skipped |
| **B** | | |
| test_z | FAILED | ok |
""")

    def test_summary(self):
        self.assertEqual(compare.summary(TABLE, TITLES), """\
| 3 tests | |
|---|---|
| stock 9.9.9 | 1 ok, 1 FAILED, 1 crash |
| ours | 2 ok, 1 skipped |
""")

    def test_ours_fails(self):
        compare.check_ours(TABLE, self.top)
        for result in ("FAILED", "crash (SIGABRT)", "timeout"):
            log = self.top / "ours-logs/B.test_w.log"
            write(log, b"why\n")
            errors = io.StringIO()
            with self.assertRaises(SeriesError) as caught, \
                    contextlib.redirect_stderr(errors):
                compare.check_ours([*TABLE, ("B.test_w", ["ok", result])],
                                   self.top)
            self.assertEqual(str(caught.exception),
                             f"ours fails 1 of 4 tests, the first is "
                             f"B.test_w ({log})")
            self.assertEqual(errors.getvalue(), "why\n")

    def page(self, between):
        """Write the page with something between the marks."""
        self.put(compare.TABLE.page, f"a\n{compare.TABLE.start}\n{between}\n"
                                     f"{compare.TABLE.end}\nb\n".encode())
        return self.root / compare.TABLE.page

    def test_page(self):
        fragment = compare.markdown(TABLE, TITLES)
        write(compare.TABLE.file(self.build), fragment.encode())
        for between in ("", "old", fragment):
            page = self.page(between)
            compare.TABLE.write(self.root, self.build)
            self.assertEqual(page.read_text(),
                             f"a\n{compare.TABLE.start}\n\n{fragment}\n"
                             f"{compare.TABLE.end}\nb\n")
            compare.check_page(self.first, page, fragment)

    def test_stock_may_fail_in_another_way(self):
        fragment = compare.markdown(TABLE, TITLES)
        for result in ("FAILED", "timeout", "crash (SIGABRT)"):
            page = self.page(fragment.replace("crash (SIGSEGV)", result))
            compare.check_page(self.first, page, fragment)

    def test_page_with_an_old_table(self):
        fragment = compare.markdown(TABLE, TITLES)
        for old in ("", fragment.replace("| FAILED", "| ok"),
                    fragment.replace("test_z", "test_w")):
            with self.assertRaises(SeriesError) as caught:
                compare.check_page(self.first, self.page(old), fragment)
            self.assertEqual(str(caught.exception),
                             "prove/README.md: its table is not what was "
                             "measured, make compare-readme puts it in")

    def test_page_is_on_the_first_base(self):
        self.set_version("9.9.15")
        compare.check_page(self.load(self.stock)[0], self.page(""),
                           compare.markdown(TABLE, TITLES))

    def test_page_without_marks(self):
        for mark in (compare.TABLE.start, compare.TABLE.end):
            page = self.page("")
            page.write_text(page.read_text().replace(mark, ""))
            with self.assertRaisesRegex(SeriesError, "lacks the line"):
                compare.check_page(self.first, page, "")

    def test_nothing_measured(self):
        with self.assertRaisesRegex(SeriesError, "does not exist, make "
                                                 "compare writes it"):
            compare.TABLE.write(self.root, self.build)

    def test_there_is_a_place_for_them(self):
        for table in (compare.TABLE, compare.SUMMARY):
            table.split(ROOT / table.page)
