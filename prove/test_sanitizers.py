"""Tests of how the sanitizers are listened to."""

import contextlib
import io
import re
import unittest
from unittest import mock

from prove import sanitizers
from series import builder, manifest
from series.fixture import FixtureCase, write
from series.workspace import ROOT


class SanitizerTest(FixtureCase):
    """A python that plays the tests, and writes a report or none."""

    def run_tests(self, script):
        """Return the exit status of make asan and what it printed."""
        python = self.top / "python"
        write(python, f"#!/bin/sh\n{script}\n".encode())
        python.chmod(0o755)
        for name in ("test_monitoring_a.py", "test_monitoring_b.py",
                     "monitoring_support.py", "test_other.py"):
            write(self.build / "src/Lib/test/test_capi" / name, b"")
        with mock.patch.object(builder, "build_python",
                               return_value=python), \
                contextlib.redirect_stderr(io.StringIO()):
            status = sanitizers.test_addresses(self.build)
        return status, self.output.getvalue()

    REPORT = 'log=${ASAN_OPTIONS##*log_path=}\n'
    PASSED = ('while [ "$1" != --junit-xml ]; do shift; done\n'
              'echo "<a><testcase name=\\"t\\"/></a>" > $2\n')

    def test_passed(self):
        status, text = self.run_tests(self.PASSED)
        self.assertEqual(status, 0, text)
        self.assertTrue(text.endswith("4 passed, 0 failed\n"), text)

    def test_report_of_a_subprocess_is_a_failure(self):
        status, text = self.run_tests(
            self.PASSED + self.REPORT
            + 'echo "=1=ERROR: AddressSanitizer: why" > $log.1')
        self.assertEqual(status, 1)
        self.assertRegex(text, r"FAILED +=1=ERROR: AddressSanitizer: why \(")
        self.assertTrue(text.endswith("3 passed, 1 failed\n"), text)

    def test_old_reports_do_not_count(self):
        write(self.build / "asan-reports/address.1", b"old")
        self.assertEqual(self.run_tests(self.PASSED)[0], 0)

    def test_aborted(self):
        status, text = self.run_tests("kill -ABRT $$")
        self.assertEqual(status, 1)
        self.assertRegex(text, "FAILED +asan-test_monitoring: exit status")


class SuppressionTest(unittest.TestCase):
    def test_no_suppression_names_our_code(self):
        ours = "".join((ROOT / path).read_text()
                       for patch in manifest.Series(ROOT).patches
                       for path in patch.files if re.search(r"\.[ch]$", path))
        for line in sanitizers.TSAN_OURS.read_text().splitlines():
            if line and not line.startswith("#"):
                self.assertRegex(line, r"^race(_top)?:\w+$")
                function = line.partition(":")[2]
                self.assertIsNone(
                    re.search(rf"^{function}\(", ours, re.MULTILINE), line)
