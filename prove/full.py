"""CPython's whole test suite on the stock interpreter and on ours."""

from collections import Counter
import os
import re
import signal
import subprocess

from series import builder, testing
from series.common import SeriesError, clean_environment, say

# regrtest's line on a module, for instance '[ 3/478/1] test_x failed (1 error)'.
MODULE_RESULT = re.compile(r"\[ *\d+/\d+(?:/\d+)?\] (\w[\w.]*) (.+)$",
                           re.MULTILINE)


def test(series, base, build, modules):
    """Run the tests; fail if one passes on stock and does not on ours."""
    pythons = (builder.build_stock(base, build),
               builder.build_python(build, "release"))
    stock, ours = (run(build, name, python, modules)
                   for name, python in zip(("stock", "ours"), pythons))
    lost = lost_tests(stock, ours, replaced(series))
    again = sorted({module_of(name, ours) for name in lost} - {None})
    if again:
        say("again", f"on ours: {', '.join(again)}")
        ours.update(run(build, "ours-again", pythons[1], again))
    still = lost_tests(stock, ours, replaced(series))
    for name in lost:
        say("FAILED" if name in still else "unsteady",
            f"{name} passes on stock; on ours: "
            + (ours.get(name, "absent") if name in still
               else "passes when it is repeated"))
    if still:
        raise SeriesError(f"tests that pass on stock and not on ours: "
                          f"{len(still)}, the first is {still[0]}")
    say("checked", "every test that passes on stock passes on ours")


def run(build, name, python, modules):
    """Run CPython's tests and return {module or test: result}."""
    log = build / "test-logs" / f"full-{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    report = log.with_suffix(".xml")
    report.unlink(missing_ok=True)
    say("running", f"{python}, {log}")
    with open(log, "wb") as file:
        subprocess.run([python, "-m", "test", "-W", f"-j{os.cpu_count() or 1}",
                        "--timeout", "1200", "--junit-xml", report, *modules],
                       stdout=file, stderr=subprocess.STDOUT,
                       stdin=subprocess.DEVNULL, env=clean_environment(),
                       preexec_fn=allow_interrupts)
    tests = read_tests(report, log.read_text(errors="replace"))
    results = read_modules(log.read_text(errors="replace"))
    if not results:
        raise SeriesError(f"{python}: no test ran, see {log}")
    say(name, f"modules: {counted(results)}; tests: {counted(tests)}")
    return {**results, **tests}


def allow_interrupts():
    """Undo what a shell does for jobs in the background.

    Tests that interrupt themselves would fail, or never end.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def read_modules(text):
    """Return {module: result} from what regrtest printed."""
    return {module: simple_result(result)
            for module, result in MODULE_RESULT.findall(text)}


def simple_result(text):
    """Return regrtest's words for a module without times and counts."""
    if text.startswith("passed"):
        return "passed"
    if text.startswith(("skipped", "run no tests")):
        return "skipped"
    return "failed"


def read_tests(report, text):
    """Return {test: result} from regrtest's XML report and its log."""
    results = {}
    for name, result in (testing.read_report(report) if report.is_file()
                         else ()):
        if name is not None and (result == "failed" or name not in results):
            results[name] = result
    for title in testing.failed_titles(text):
        results[title.rpartition("(")[2].rstrip(")")] = "failed"
    return results


def counted(results):
    """Say how many of the results are which."""
    counts = Counter(results.values())
    return ", ".join(f"{counts[word]} {word}"
                     for word in ("passed", "failed", "skipped"))


def replaced(series):
    """Return how the names of tests start whose file the series replaces."""
    return tuple(path[len("Lib/"):-len(".py")].replace("/", ".") + "."
                 for path in series.touched()
                 if path.startswith("Lib/test/") and path.endswith(".py"))


def lost_tests(stock, ours, prefixes):
    """Return what passes on stock and does not pass on ours.

    A test of stock may be absent where the series has tests of its own. Where
    a module crashed it stands for its tests.
    """
    lost = {name for name, result in stock.items()
            if result == "passed" and ours.get(name) != "passed"
            and (name in ours or not name.startswith(prefixes))}
    return sorted(name for name in lost
                  if name in ours or module_of(name, ours) not in lost)


def module_of(name, results):
    """Return the module that regrtest runs for a test, or None."""
    short = name.removeprefix("test.")
    return max((module for module in results
                if f"{short}.".startswith(f"{module}.")),
               key=len, default=None)
