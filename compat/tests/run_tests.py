"""Run the API's tests: run_tests.py RESULTS [DONE...].

RESULTS gets a line of JSON before each test, its
name, and one after it, the list of what failed: null for the test itself, else
a subtest.  So the test that crashed the process is known.  Tests that are DONE
are left out.
"""

import contextlib
import importlib.util
import json
from pathlib import Path
import sys
import unittest

import _testcapi


API_TESTS = (Path(__file__).resolve().parent.parent.parent
             / "Lib/test/test_capi/test_monitoring.py")


def load():
    """Import the tests and tell them the events of this interpreter."""
    spec = importlib.util.spec_from_file_location("test_monitoring", API_TESTS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if _testcapi.EVENT_BRANCH_LEFT != _testcapi.EVENT_BRANCH:
        split_branch(module)
    if not has_local_events():
        listen_everywhere(module)
    if sys.version_info < (3, 13):
        trace_opcodes_once(module)
    return module


def split_branch(module):
    """Have the tests use BRANCH_LEFT and BRANCH_RIGHT, as from 3.14 on."""
    events = vars(sys.monitoring.events)
    names = sorted((name for name, value in events.items()
                    if name.isupper() and value > 0 and name != "BRANCH"),
                   key=events.get)
    cprofile = module.TestCProfile
    cprofile.CALLS = [module.EVENT_NAMES[event] for event in cprofile.CALLS]
    module.EVENT_NAMES = tuple(names)
    # What they run in a process of its own: see the end of this file.
    module.__file__ = __file__
    module.IDS.update((name, index) for index, name in enumerate(names))
    # These have ids in them.
    cprofile.CALLS = tuple(map(module.IDS.get, cprofile.CALLS))
    cprofile.RETURNED = module.IDS["C_RETURN"], *cprofile.RETURNED[1:]
    cprofile.RAISED = module.IDS["C_RAISE"], *cprofile.RAISED[1:]
    halves = {"branch_left": "BRANCH_LEFT", "branch_right": "BRANCH_RIGHT",
              "branch": "BRANCH_RIGHT"}
    for name in halves.values():
        module.EVENT_SETS[name] = events[name]
        module.CAN_DISABLE.add(name)
    module.CAN_DISABLE.discard("BRANCH")
    # Who registers for BRANCH itself gets whatever the memory holds behind a
    # code-like that is no code object.
    module.EVENT_SETS["BRANCH"] = events["BRANCH_LEFT"]
    make_cases = module.make_cases
    module.make_cases = lambda *args: [
        case._replace(name=halves.get(case.fire, case.name))
        for case in make_cases(*args)]


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


def listen_everywhere(module):
    """Have the tests of legacy tools listen to every code-like, not to one."""
    @contextlib.contextmanager
    def listening(self, codelike, told, listening):
        for name in module.EVENT_NAMES:
            sys.monitoring.register_callback(
                module.TOOL, module.EVENT_SETS[name], lambda code, *args:
                told.append(args) if code is codelike else None)
        if listening:
            sys.monitoring.set_events(
                module.TOOL, sum(set(module.EVENT_SETS.values())))
        try:
            yield
        finally:
            sys.monitoring.set_events(module.TOOL, 0)

    module.TestLegacyTools.listening = listening


def trace_opcodes_once(module):
    """Have what the tests trace traced: 3.12 tells of no opcodes at first."""
    def trace(frame, event, arg):
        frame.f_trace_opcodes = True
        return trace

    sys.settrace(trace)
    module.program(lambda: None)
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

    def startTest(self, test):
        super().startTest(test)
        self.failed = []
        self.write(name_of(test))

    def stopTest(self, test):
        super().stopTest(test)
        self.write(self.failed)

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

    def write(self, value):
        self.file.write(json.dumps(value) + "\n")
        self.file.flush()


def name_of(test):
    """Return a test's name without its module."""
    return ".".join(test.id().split(".")[-2:])


def main(results, *done):
    """Run the tests; the exit status says only whether it got to the end."""
    loaded = unittest.defaultTestLoader.loadTestsFromModule(load())
    tests = [test for test in tests_of(loaded)
             if name_of(test) not in done
             # Of the API's own header, which is not in use here.
             and type(test).__name__ != "TestHeader"
             # Calls the interpreter's function, not the layer.
             and not name_of(test).endswith("that_outlive_the_interpreter")]
    with open(results, "a") as file:
        unittest.TextTestRunner(
            verbosity=2,
            resultclass=lambda *args, **kwargs:
            Result(*args, file=file, **kwargs),
        ).run(unittest.TestSuite(tests))


if __name__ == "__main__":
    main(*sys.argv[1:])
else:
    globals().update(vars(load()))
