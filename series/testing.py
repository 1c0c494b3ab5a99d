"""Running the tests and counting what they say."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
import os
import re
from threading import Lock
from xml.etree import ElementTree

from series.common import print_tail, say, status_of

CPYTHON_TESTS = ("test_monitoring", "test_capi", "test_sys_settrace",
                 "test_sys_setprofile", "test_cprofile", "test_bdb",
                 "test_trace", "test_code", "test_free_threading")
# The series' own tests are in test_capi too, and counted once.
OURS = ("test_code_locations*", "test_monitoring*")
NOT_OURS = tuple(argument for pattern in OURS
                 for argument in ("--ignore", f"test.test_capi.{pattern}"))
FAILURE_TITLE = re.compile(r"^(?:FAIL|ERROR): (.+)$", re.MULTILINE)


class Outcome:
    """How many tests of one run passed, and which failed."""

    def __init__(self, passed, skipped, failed):
        self.passed = passed
        self.skipped = skipped
        self.failed = failed


class Tally:
    """The outcomes of all runs, each printed when it ends."""

    def __init__(self, build):
        self.logs = build / "test-logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.passed = 0
        self.failed = 0
        self.adding = Lock()

    def at_once(self, runs):
        """Call functions that run tests, as many at a time as there are
        processors."""
        with ThreadPoolExecutor(os.cpu_count() or 1) as executor:
            for future in [executor.submit(run) for run in runs]:
                future.result()

    def run(self, name, command, read, **environment):
        """Run tests and add what read(log, status) makes of them."""
        log = self.logs / f"{name}.log"
        report = log.with_suffix(".xml")
        if report.exists():
            report.unlink()
        status = status_of(command, log, **environment)
        outcome = read(log, status)
        if status and not outcome.failed:
            outcome.failed.append(f"{name}: exit status {status}")
        if not outcome.passed and not outcome.failed:
            outcome.failed.append(f"{name}: no test ran")
        self.add(name, outcome, log)

    def regrtest(self, name, python, *arguments, **environment):
        """Run test modules with CPython's own runner, which with -W names
        each test that fails."""
        report = self.logs / f"{name}.xml"
        self.run(name, [python, "-m", "test", "-j2", "-W", "--timeout", "900",
                        "--junit-xml", report, *arguments], read_junit,
                 **environment)

    def leak_tests(self, python, modules):
        """Look for reference leaks in test modules; each counts as a test."""
        self.at_once(
            partial(self.run, f"leaks-{module}",
                    [python, "-m", "test", "-R", "3:3", "--timeout", "900",
                     module],
                    lambda _, status: Outcome(0 if status else 1, 0, []))
            for module in modules)

    def unittest(self, name, python, *arguments, **environment):
        """Run test modules with unittest."""
        self.run(name, [python, "-m", "unittest", *arguments], read_unittest,
                 **environment)

    def no_reports(self, folder):
        """Count it as a test that the sanitizers reported nothing."""
        reports = sorted(folder.iterdir())
        titles = [report_title(report) for report in reports]
        self.add("reports", Outcome(0 if titles else 1, 0, titles),
                 reports[0] if reports else folder)

    def add(self, name, outcome, log):
        """Add an outcome and print it."""
        skipped = f", {outcome.skipped} skipped" if outcome.skipped else ""
        with self.adding:
            self.passed += outcome.passed
            self.failed += len(outcome.failed)
            say("tests", f"{name}: {outcome.passed} passed, "
                         f"{len(outcome.failed)} failed{skipped}")
            if outcome.failed:
                print_tail(log)
            for title in outcome.failed:
                say("FAILED", f"{title} ({log})")

    def finish(self):
        """Print the total and return it as an exit status."""
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return 1 if self.failed else 0


def read_unittest(log, status):
    """Count the tests of a run of unittest from its summary."""
    text = log.read_text(errors="replace")
    ran = sum(map(int, re.findall(r"^Ran (\d+) tests?", text, re.MULTILINE)))
    skipped = sum(map(int, re.findall(r"skipped=(\d+)\)?", text)))
    failed = failed_titles(text)
    return Outcome(max(0, ran - skipped - len(failed)), skipped, failed)


def read_junit(log, status):
    """Count the tests of a run of regrtest from its XML report."""
    report = log.with_suffix(".xml")
    if not report.is_file():
        return Outcome(0, 0, [])
    counts = Counter(result for _, result in read_report(report))
    titles = failed_titles(log.read_text(errors="replace"))
    titles += ["a test that the log names"] * (counts["failed"] - len(titles))
    return Outcome(counts["passed"], counts["skipped"], titles)


def read_report(report):
    """Yield (test, result) from regrtest's XML report.

    A test whose subtests fail has no name there: None, and "failed".
    """
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        name = case.get("name")
        if "skipped" in kinds:
            yield name, "skipped"
        elif name is None or kinds & {"failure", "error", "outcome"}:
            yield name, "failed"
        else:
            yield name, "passed"


def failed_titles(text):
    """Return the tests that a log says failed, subtests as their test."""
    titles = [re.split(r"\) [\[(]", title)[0].rstrip(")") + ")"
              for title in FAILURE_TITLE.findall(text)]
    return list(dict.fromkeys(titles))


def report_title(report):
    """Return the line of a sanitizer's report that says what was wrong."""
    text = report.read_text(errors="replace")
    found = re.search(r"^.*(?:ERROR|WARNING): .*$", text,
                      re.MULTILINE)
    return found.group() if found else f"{report} without a message"


def our_tests(source):
    """Return the modules of the API's tests that a tree has."""
    folder = source / "Lib/test/test_capi"
    return sorted(f"test_capi.{file.stem}" for pattern in OURS
                  for file in folder.glob(f"{pattern}.py"))


def tool_tests(source):
    """Return the modules of the tests of our tools that a tree has."""
    return [name for name in ("test_tools.test_check_producer",)
            if (source / "Lib/test" / (name.replace(".", "/") + ".py")
                ).is_file()]


def test_interpreter(tally, python, name, source):
    """Run CPython's own tests, and those of the API if the tree has them."""
    ours = [*our_tests(source), *tool_tests(source)]
    if ours:
        tally.regrtest(f"api-{name}", python, *ours)
    tally.regrtest(f"cpython-{name}", python, *NOT_OURS, *CPYTHON_TESTS)
