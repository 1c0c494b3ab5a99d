"""check_producer.py over Cython and Numba: what is known is found."""

import json
import re

from prove.clients import producers, programs
from series.common import SeriesError, say

# Often enough for what needs several activations.
DRIVER = """
import contextlib
import io
import around

for _ in range(100):
    with contextlib.redirect_stdout(io.StringIO()):
        around.main()
    with contextlib.suppress(LookupError):
        around.shapes.failing(1)
"""
# What is wrong in Cython 3.3.1: the rule, the line that is named, and what is
# said.  PY_YIELD is fired with the state of PY_RETURN, RAISE with a line as its
# offset, and PY_UNWIND with 0; an offset is an index; a generator's code-like
# lacks its lines, and each yield leaks it.
CYTHON_FINDINGS = (
    ("state", "def numbers(number):", "PY_YIELD does not reach a tool"),
    ("offset", "raise LookupError(number)", "offset of RAISE is"),
    ("place", "def failing(number):", "offset of PY_UNWIND is on line"),
    ("offset", "return first + second", "offset of PY_RETURN is odd"),
    ("line", "yield i", "is no line of the code"),
    ("leak", "def numbers(number):", "references to the code-like"),
)


def check_findings(checker, column, place):
    """Check Cython's module, with known mistakes, and Numba's program."""
    cython = programs.Cython()
    subject = cython.subject(column, place / "cython")
    driver = subject.folder / "driver.py"
    driver.write_text(DRIVER)
    found = check(checker, subject, driver)["findings"]
    missing = first_missing(cython, found)
    if missing:
        raise SeriesError(f"check_producer does not find in {cython.title}: "
                          f"{missing}")
    say("clients", f"check_producer, {cython.title}: the "
                   f"{len(CYTHON_FINDINGS)} known mistakes among "
                   f"{len(found)} findings")
    numba = producers.Numba()
    subject = numba.subject(column, place / "numba")
    report = check(checker, subject, subject.script,
                   "--python-code", f"{subject.script}:total",
                   "--python-code", f"{subject.script}:calling")
    if report["findings"] or not report["events"]:
        raise SeriesError(f"check_producer finds in {numba.title}, of "
                          f"{report['events']} events: {report['findings']}")
    say("clients", f"check_producer, {numba.title}: nothing is wrong with "
                   f"{report['events']} events")


def check(checker, subject, program, *options):
    """Return the report of a program."""
    path = subject.folder / "report.json"
    subject.run(subject.folder / "check.log", checker.resolve(), "--json",
                "-o", path, *options, program, statuses=(0, 1))
    return json.loads(path.read_text())


def first_missing(language, findings):
    """Return the first known mistake that was not found, or None."""
    for rule, text, message in CYTHON_FINDINGS:
        line = language.line_of(text)
        if not any(found["rule"] == rule and found["place"]["line"] == line
                   and re.search(message, found["message"])
                   for found in findings):
            return f"[{rule}] {message!r}, at {text!r}"
    return None
