"""Tests of the comparison with stock."""

import contextlib
import io
import os
import time

from prove import compare
from series.common import SeriesError
from series.fixture import FixtureCase, write

TABLE = [("A.test_x", ["crash (SIGSEGV)", "ok"]),
         ("A.test_y", ["ok", "skipped"]),
         ("B.test_z", ["FAILED", "ok"])]


class CompareTest(FixtureCase):
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
        self.assertEqual(compare.markdown(TABLE, "9.9.9"), """\
<details>
<summary>3 tests. stock 9.9.9: 1 ok, 1 FAILED, 1 crash; with the series: \
2 ok, 1 skipped</summary>

| | stock 9.9.9 | with the series |
|---|---|---|
| **A** | | |
| test_x | crash (SIGSEGV) | ok |
| test_y | ok | skipped |
| **B** | | |
| test_z | FAILED | ok |

</details>
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

    def readme(self, between):
        """Write a README with something between the marks."""
        self.put("README.md", f"a\n{compare.README.start}\n{between}\n"
                              f"{compare.README.end}\nb\n".encode())
        return self.root / "README.md"

    def test_readme(self):
        fragment = compare.markdown(TABLE, "9.9.9")
        write(compare.README.file(self.build), fragment.encode())
        for between in ("", "old", fragment):
            readme = self.readme(between)
            compare.README.write(self.root, self.build)
            self.assertEqual(readme.read_text(),
                             f"a\n{compare.README.start}\n\n{fragment}\n"
                             f"{compare.README.end}\nb\n")
            compare.check_readme(readme, fragment)

    def test_stock_may_fail_in_another_way(self):
        fragment = compare.markdown(TABLE, "9.9.9")
        for result in ("FAILED", "timeout", "crash (SIGABRT)"):
            readme = self.readme(fragment.replace("crash (SIGSEGV)", result))
            compare.check_readme(readme, fragment)

    def test_readme_with_an_old_table(self):
        fragment = compare.markdown(TABLE, "9.9.9")
        for old in ("", fragment.replace("| FAILED", "| ok"),
                    fragment.replace("test_z", "test_w")):
            with self.assertRaises(SeriesError) as caught:
                compare.check_readme(self.readme(old), fragment)
            self.assertEqual(str(caught.exception),
                             "README.md: its table is not what was measured, "
                             "make compare-readme puts it in")

    def test_readme_without_marks(self):
        for mark in (compare.README.start, compare.README.end):
            readme = self.readme("")
            readme.write_text(readme.read_text().replace(mark, ""))
            with self.assertRaisesRegex(SeriesError, "lacks the line"):
                compare.check_readme(readme, "")

    def test_nothing_measured(self):
        with self.assertRaisesRegex(SeriesError, "does not exist, make "
                                                 "compare writes it"):
            compare.README.write(self.root, self.build)
