"""Run the API's tests: run_tests.py RESULTS [DONE...].

RESULTS gets a line of JSON after each test, its name and the list of what
failed: null for the test itself, else a subtest.  A line before each test says
that it crashed, which the one after it replaces.  Tests that are DONE are left
out.
"""

import collections
import contextlib
import importlib
import itertools
import json
from pathlib import Path
import sys
import types
import unittest

import _testcapi

API_TESTS = Path(__file__).resolve().parent.parent.parent / "Lib/test/test_capi"
# Of the API's own header, which is not in use here; of frames and of what only
# the series can look up; and tests that run long and look for what only the
# interpreter's implementation can get wrong.
LEFT_OUT = ("header", "frames", "stacks", "tracers", "activations", "debuggers",
            "model", "threads", "class", "lookup")


# Of the interpreter's functions, not the layer's; and where an event is waited
# for that the limited C-API does not let through.
NOT_HERE = ("that_outlive_the_interpreter", "TestHeader.test_standards",
            "TestAddTraceback.test_no_memory",
            *(["TestCallbacksInThreads.test_other_callback_within"]
              if hasattr(_testcapi, "EVENT_LINE") else []))


def load():
    """Import the tests; adapt them to this interpreter."""
    if not hasattr(sys.monitoring, "get_location"):
        look_up_positions()
    files = {*API_TESTS.glob("test_code_locations*.py"),
             API_TESTS / "test_monitoring_tracebacks.py"}
    if sends_events():
        files.update(API_TESTS.glob("test_monitoring_*.py"))
    names = [path.stem for path in sorted(files)
             if path.stem.rpartition("_")[2] not in LEFT_OUT]
    modules = {name: importlib.import_module("test_capi." + name)
               for name in names}
    if sends_events() and not has_local_events():
        listen_everywhere(modules["test_monitoring_tools"])
    if sends_events() and sys.version_info < (3, 13):
        trace_opcodes_once(modules["test_monitoring_tools"])
    return list(map(unittest.defaultTestLoader.loadTestsFromModule,
                    modules.values()))


def sends_events():
    """Does the header send any here?"""
    try:
        import _monitoring_abi3
    except ImportError:
        return True
    return _monitoring_abi3.sends_events()


def look_up_positions():
    """Have what the tests ask the interpreter for, and only the series has."""
    def get_location(code, offset):
        positions = itertools.islice(code.co_positions(), offset // 2, None)
        try:
            return Location(code.co_filename, *next(positions))
        except StopIteration:
            raise ValueError(offset) from None

    Location = collections.namedtuple("Location", (
        "filename", "lineno", "end_lineno", "col_offset", "end_col_offset"))
    sys.monitoring.get_location = get_location
    types.CodeLike = object


def has_local_events():
    """Does the interpreter have them for code-likes?"""
    try:
        sys.monitoring.get_local_events(0, _testcapi.WeakCodeLike(1))
    except TypeError:
        return False
    except ValueError:
        # The tool is not in use.
        pass
    return True


def listen_everywhere(tools):
    """Have the tests of legacy tools listen to every code-like, not to one."""
    @contextlib.contextmanager
    def listening(self, codelike, seen, listening):
        for name in tools.EVENT_NAMES:
            sys.monitoring.register_callback(
                tools.TOOL, tools.EVENT_SETS[name], lambda code, *args:
                seen.append(args) if code is codelike else None)
        if listening:
            sys.monitoring.set_events(
                tools.TOOL, sum(set(tools.EVENT_SETS.values())))
        try:
            yield
        finally:
            sys.monitoring.set_events(tools.TOOL, 0)

    tools.TestLegacyTools.listening = listening


def trace_opcodes_once(tools):
    """Have what the tests trace traced: at first 3.12 reports no opcodes."""
    def trace(frame, event, arg):
        frame.f_trace_opcodes = True
        return trace

    sys.settrace(trace)
    tools.program(lambda: None)
    sys.settrace(None)


def tests_of(suite):
    """Return the tests of a suite, flat."""
    tests = []
    for test in suite:
        tests += tests_of(test) if isinstance(test, unittest.TestSuite) \
            else [test]
    return tests


class Result(unittest.TextTestResult):
    """Writes what becomes of each test."""

    def __init__(self, *args, file, **kwargs):
        super().__init__(*args, **kwargs)
        self.file = file
        self.failed = []

    def startTest(self, test):
        super().startTest(test)
        self.write(test, ["(crashed)"])

    def stopTest(self, test):
        super().stopTest(test)
        self.write(test, self.failed)
        self.failed = []

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.failed.append(None)

    def addError(self, test, err):
        super().addError(test, err)
        self.failed.append(None)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.failed.append(subtest._subDescription())

    def write(self, test, failed):
        self.file.write(json.dumps([name_of(test), failed]) + "\n")
        self.file.flush()


def name_of(test):
    """Return a test's name without its module."""
    return ".".join(test.id().split(".")[-2:])


def main(results, *done):
    """Run the tests; the exit status says only whether it got to the end."""
    tests = [test for suite in load() for test in tests_of(suite)
             if name_of(test) not in done
             and not name_of(test).endswith(NOT_HERE)]
    with open(results, "a") as file:
        unittest.TextTestRunner(
            verbosity=2,
            resultclass=lambda *args, **kwargs:
            Result(*args, file=file, **kwargs),
        ).run(unittest.TestSuite(tests))


if __name__ == "__main__":
    main(*sys.argv[1:])
