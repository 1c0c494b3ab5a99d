"""Tests of how tests are counted."""

import contextlib
import io
import sys

from series import testing
from series.fixture import FixtureCase, write

XML_REPORT = """<testsuites>
<testsuite tests="4"><testcase name="a"/>
<testcase name="b"><failure type="X"/></testcase>
<testcase name="c"><skipped>why</skipped></testcase>
<testcase/></testsuite></testsuites>"""


class TallyTest(FixtureCase):
    def run_tests(self, script, read, report=None):
        """Let a Python script play the tests; return what is counted."""
        tally = testing.Tally(self.build)
        if report:
            target = self.build / "test-logs/fake.xml"
            script += f"\nopen({str(target)!r}, 'w').write({report!r})"
        with contextlib.redirect_stderr(io.StringIO()):
            tally.run("fake", [sys.executable, "-c", script], read)
            status = tally.finish()
        self.assertEqual(self.output.getvalue().splitlines()[-1],
                         f"{tally.passed} passed, {tally.failed} failed")
        return tally.passed, tally.failed, status

    def test_unittest_passed(self):
        self.assertEqual(self.run_tests(
            "print('Ran 5 tests in 1s\\n\\nOK (skipped=2)')",
            testing.read_unittest), (3, 0, 0))

    def test_unittest_failed(self):
        self.assertEqual(self.run_tests(
            "print('FAIL: a (m.C.a)\\nFAIL: b (m.C.b) (x=1)\\n"
            "FAIL: b (m.C.b) (x=2)\\nERROR: d (m.C.d)\\n"
            "Ran 5 tests in 1s\\n\\n"
            "FAILED (failures=3, errors=1, skipped=1)'); exit(1)",
            testing.read_unittest), (1, 3, 1))
        self.assertRegex(self.output.getvalue(), r"FAILED +b \(m\.C\.b\)")

    def test_no_test_is_a_failure(self):
        self.assertEqual(self.run_tests("print('Ran 0 tests in 0s\\n\\nOK')",
                                        testing.read_unittest), (0, 1, 1))

    def test_exit_status_is_a_failure(self):
        self.assertEqual(self.run_tests(
            "print('Ran 5 tests in 1s\\n\\nOK'); exit(3)",
            testing.read_unittest), (5, 1, 1))

    def test_junit(self):
        self.assertEqual(self.run_tests(
            "print('FAIL: b (m.C.b)\\nFAIL: d (m.C.d) [x]')",
            testing.read_junit, XML_REPORT), (1, 2, 1))

    def test_junit_failure_without_title(self):
        self.assertEqual(self.run_tests("", testing.read_junit, XML_REPORT),
                         (1, 2, 1))

    def test_crash_without_report(self):
        write(self.build / "test-logs/fake.xml", XML_REPORT.encode())
        self.assertEqual(self.run_tests("exit(2)", testing.read_junit),
                         (0, 1, 1))

    def test_leaks(self):
        python = self.build / "python"
        write(python, b"#!/bin/sh\n[ $7 = good ]\n")
        python.chmod(0o755)
        tally = testing.Tally(self.build)
        with contextlib.redirect_stderr(io.StringIO()):
            tally.leak_tests(python, ["good", "bad", "good"])
        self.assertEqual((tally.passed, tally.failed), (2, 1))
