"""Run the API's tests: run_tests.py TESTS RESULTS [DONE...].

TESTS is test_monitoring.py.  RESULTS gets a line "start TEST" before each test
and "passed", "failed" or "skipped" after it, so that the one that crashed the
process is known.  Tests that are DONE are left out.
"""

import importlib.util
import sys
import unittest
from test import support

import _testcapi

# Not in 3.12.
if not hasattr(support, "Py_GIL_DISABLED"):
    support.Py_GIL_DISABLED = False


def load(path):
    """Import the tests and tell them the events of this interpreter."""
    spec = importlib.util.spec_from_file_location("test_monitoring", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if _testcapi.EVENT_BRANCH_LEFT != _testcapi.EVENT_BRANCH:
        events = sys.monitoring.events
        names = sorted((name for name in vars(events)
                        if getattr(events, name) > 0),
                       key=lambda name: getattr(events, name))
        module.EVENT_NAMES = tuple(names)
        module.IDS.update((name, index) for index, name in enumerate(names))
    return module


def tests_of(suite):
    """Return the tests of a suite, flat."""
    tests = []
    for test in suite:
        tests += tests_of(test) if isinstance(test, unittest.TestSuite) \
            else [test]
    return tests


class Result(unittest.TextTestResult):
    """Writes what becomes of each test."""

    def __init__(self, *args, results, **kwargs):
        super().__init__(*args, **kwargs)
        self.results = results

    def startTest(self, test):
        super().startTest(test)
        self.before = len(self.failures) + len(self.errors)
        self.skips = len(self.skipped)
        self.write("start " + name_of(test))

    def stopTest(self, test):
        super().stopTest(test)
        if len(self.failures) + len(self.errors) > self.before:
            self.write("failed")
        elif len(self.skipped) > self.skips:
            self.write("skipped")
        else:
            self.write("passed")

    def write(self, line):
        self.results.write(line + "\n")
        self.results.flush()


def name_of(test):
    """Return a test's name without its module."""
    return ".".join(test.id().split(".")[-2:])


def main(path, results, *done):
    """Run the tests; the exit status is of interest only if it crashed."""
    loaded = unittest.defaultTestLoader.loadTestsFromModule(load(path))
    tests = [test for test in tests_of(loaded)
             if name_of(test) not in done
             # Of the API's own header, which is not in use here.
             and type(test).__name__ != "TestHeader"]
    with open(results, "a") as file:
        unittest.TextTestRunner(
            verbosity=2,
            resultclass=lambda *args, **kwargs:
            Result(*args, results=file, **kwargs),
        ).run(unittest.TestSuite(tests))


main(*sys.argv[1:])
