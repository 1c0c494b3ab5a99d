"""Tests of how two runs of the whole test suite are compared."""

from unittest import mock

from prove import full
from series import builder, manifest
from series.common import SeriesError
from series.fixture import FixtureCase, write
from series.test_testing import XML_REPORT

MODULES_LOG = """\
0:00:01 load avg: 1.72 [ 1/300] test_a passed
0:00:01 load avg: 1.72 [ 2/300] test_b.test_x passed (1 min 2 sec) -- running
0:00:01 load avg: 1.72 [ 3/300/1] test_c failed (2 failures)
0:00:01 load avg: 1.72 [ 4/300/2] test_d worker non-zero exit code (Exit code \
-11 (SIGSEGV))
0:00:01 load avg: 1.72 [ 5/300/2] test_e skipped (resource denied)
0:00:01 load avg: 1.72 [ 6/300/2] test_f run no tests
0:00:01 load avg: 1.72 [ 7/300/2] test_g failed (env changed)
FAIL: t (test.test_c.C.t) [sub]
"""


class FullTest(FixtureCase):
    def test_modules(self):
        self.assertEqual(full.read_modules(MODULES_LOG), {
            "test_a": "passed", "test_b.test_x": "passed",
            "test_c": "failed", "test_d": "failed", "test_e": "skipped",
            "test_f": "skipped", "test_g": "failed"})

    def test_tests(self):
        report = self.top / "report.xml"
        write(report, XML_REPORT.encode())
        self.assertEqual(full.read_tests(report, MODULES_LOG), {
            "a": "passed", "b": "failed", "c": "skipped",
            "test.test_c.C.t": "failed"})

    def test_lost(self):
        stock = {"a": "passed", "b": "passed", "c": "failed", "d": "skipped",
                 "e": "passed", "ours.f": "passed", "ours.g": "passed"}
        ours = {"a": "passed", "b": "failed", "c": "failed", "d": "failed",
                "ours.g": "failed"}
        self.assertEqual(full.lost_tests(stock, ours, ("ours.",)),
                         ["b", "e", "ours.g"])

    def test_a_module_that_crashed_stands_for_its_tests(self):
        self.assertEqual(
            full.lost_tests({"test_a": "passed", "test.test_a.C.t": "passed"},
                            {"test_a": "failed"}, ()), ["test_a"])

    def test_replaced(self):
        self.put("Lib/test/test_x/test_y.py", b"")
        self.manifest["patches"][0]["files"].append(
            "Lib/test/test_x/test_y.py")
        self.put_manifest()
        self.assertEqual(full.replaced(manifest.Series(self.root)),
                         ("test.test_x.test_y.",))

    def test_module_of(self):
        results = dict.fromkeys(("test_a", "test_a.test_b", "test_c"))
        for name, module in (("test.test_a.C.t", "test_a"),
                             ("test.test_a.test_b.C.t", "test_a.test_b"),
                             ("test.test_abc.C.t", None), ("test_c", "test_c"),
                             ("elsewhere", None)):
            self.assertEqual(full.module_of(name, results), module, name)

    def compare(self, *runs):
        """Run both suites with made-up results; return what is printed."""
        with mock.patch.object(builder, "build_stock"), \
                mock.patch.object(builder, "build_python"), \
                mock.patch.object(full, "run", side_effect=map(dict, runs)):
            full.test(*self.load(), ())
        return self.output.getvalue()

    GOOD = {"test_a": "passed", "test.test_a.C.t": "passed"}
    BAD = dict.fromkeys(GOOD, "failed")

    def test_nothing_lost(self):
        self.assertIn("passes on ours", self.compare(self.GOOD, self.GOOD))
        self.assertIn("passes on ours", self.compare(self.BAD, self.BAD))

    def test_fails_again(self):
        with self.assertRaises(SeriesError) as caught:
            self.compare(self.GOOD, self.BAD, self.BAD)
        self.assertEqual(str(caught.exception),
                         "tests that pass on stock and not on ours: 2, the "
                         "first is test.test_a.C.t")

    def test_test_of_no_module_fails_without_being_repeated(self):
        with self.assertRaisesRegex(SeriesError, "ours: 1, .* is elsewhere"):
            self.compare({"elsewhere": "passed"}, {"test_a": "passed"})

    def test_unsteady(self):
        text = self.compare(self.GOOD, self.BAD, self.GOOD)
        self.assertRegex(text, "unsteady +test_a passes on stock; on ours: "
                               "passes when it is repeated")
