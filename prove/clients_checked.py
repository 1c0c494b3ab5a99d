"""check_producer.py over Cython and Numba: what is known is found."""

import json
import re

from prove import clients_twins
from prove.clients_debugpy import NUMBA, NUMBA_PROGRAM
from series.common import SeriesError, print_tail, say, status_of

# Often enough for what needs several activations.
DRIVER = """
import contextlib
import io
import clients_around

for _ in range(100):
    with contextlib.redirect_stdout(io.StringIO()):
        clients_around.main()
    with contextlib.suppress(LookupError):
        clients_around.shapes.failing(1)
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


def check_findings(build, source, cython):
    """Check Cython's module, with known mistakes, and Numba's program."""
    driver = cython.folder / "driver.py"
    driver.write_text(DRIVER)
    found = check(build, source, cython.tool, driver)["findings"]
    missing = compare(found)
    if missing:
        raise SeriesError(f"check_producer does not find in "
                          f"{clients_twins.CYTHON}: {missing}")
    say("clients", f"check_producer, {clients_twins.CYTHON}: the "
                   f"{len(CYTHON_FINDINGS)} known mistakes among "
                   f"{len(found)} findings")
    report = check(build, source, cython.tool, NUMBA_PROGRAM,
                   "--python-code", f"{NUMBA_PROGRAM}:total",
                   "--python-code", f"{NUMBA_PROGRAM}:calling")
    if report["findings"] or not report["events"]:
        raise SeriesError(f"check_producer finds in {NUMBA}, of "
                          f"{report['events']} events: {report['findings']}")
    say("clients", f"check_producer, {NUMBA}: nothing is wrong with "
                   f"{report['events']} events")


def check(build, source, tool, program, *options):
    """Return the report of a program."""
    log = build / "clients-checked.log"
    path = build.resolve() / "clients-checked.json"
    checker = (source / "Tools/monitoring/check_producer.py").resolve()
    status = status_of([tool, checker, "--json", "-o", path, *options,
                        program], log, NUMBA_ENABLE_SYS_MONITORING="1")
    report = json.loads(path.read_text()) if status in (0, 1) else None
    if report is None or status != bool(report["findings"]):
        print_tail(log)
        raise SeriesError(f"check_producer ended with the status {status}, "
                          f"the log is {log}")
    return report


def compare(findings):
    """Return the first known mistake that was not found, or None."""
    for rule, text, message in CYTHON_FINDINGS:
        line = clients_twins.line_of(text)
        if not any(found["rule"] == rule and found["place"]["line"] == line
                   and re.search(message, found["message"])
                   for found in findings):
            return f"[{rule}] {message!r}, at {text!r}"
    return None
