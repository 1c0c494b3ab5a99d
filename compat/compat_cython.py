"""The header under Cython: what tools see of a module compiled with it."""

import json
from pathlib import Path
import subprocess

from series.common import clean_environment, output_of, say
from series.environments import make_environment
from series.testing import Outcome

CYTHON = "Cython>=3.1"
# One for each argument: a macro of Cython's own.
TRACE = ("-DCYTHON_TRACE=1", "-DCYTHON_TRACE_NOGIL=1",
         "-DCYTHON_USE_SYS_MONITORING=1")
REPORTS = ("lines", "once", "profile")


def translate(build, sample, pythons):
    """Return sample.c, or None, having said so, without a package index."""
    directory = build.resolve() / "compat/cython"
    log = directory.with_suffix(".log")
    tool = make_environment(directory, pythons, log, CYTHON)
    if tool is None:
        say("skipped", f"Cython: no package index gives {CYTHON}, see {log}")
        return None
    source = directory / "sample.c"
    output_of([tool.with_name("cython"), sample, "-o", source],
              env=clean_environment())
    return source


def report(interpreter, source, directory, *options):
    """Compile the sample; return what each tool sees of it, or as text how
    that ended."""
    directory.mkdir(exist_ok=True)
    output_of(["gcc", "-shared", "-fPIC", "-O1", *interpreter.includes, *TRACE,
               *options, "-o", directory / ("sample" + interpreter.suffix),
               source])
    script = Path(__file__).resolve().parent.parent / (
        "compat/tests/cython/report.py")
    found = {}
    for name in REPORTS:
        done = subprocess.run(
            [interpreter.python, script, name], stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=clean_environment(PYTHONPATH=str(directory)))
        found[name] = (json.loads(done.stdout) if done.returncode == 0
                       else f"exit status {done.returncode}")
    return found


def test_cython(interpreter, source, directory, header, expected):
    """Compare what tools see with what they should; return the outcome.

    A stock 3.13 or later is looked at without the header too: how often each
    line runs is reported there as well.
    """
    outcome = Outcome(0, 0, [])
    found = report(interpreter, source, directory / "cython",
                   *([] if interpreter.series else ["-include", header]))
    add(outcome, found, expected, REPORTS, interpreter.name)
    if interpreter.minor != "3.12" and not interpreter.series:
        stock = report(interpreter, source, directory / "cython-stock")
        add(outcome, stock, expected, REPORTS[:1],
            f"{interpreter.name} without the header")
        say("stock", f"{interpreter.name} without the header: "
            + ", ".join(describe(stock[name], expected[name], name)
                        for name in REPORTS[1:]))
    return outcome


def add(outcome, found, expected, names, where):
    """Count a test for each of the reports."""
    for name in names:
        if found[name] == expected[name]:
            outcome.passed += 1
        else:
            outcome.failed.append(
                f"{where}: {describe(found[name], expected[name], name)}")


def describe(found, expected, name):
    """Say in a few words how a report differs."""
    if isinstance(found, str):
        return f"{name} ends with {found}"
    same = sum(found.get(key) == value for key, value in expected.items())
    return f"{name} has {same} of {len(expected)} right"
