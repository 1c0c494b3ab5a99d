"""Tools and libraries from the package index, over producers.

coverage must notice nothing of events in Python's files and all of foreign
ones and of code with locations, cProfile must count calls right where greenlets
switch, and debuggers must step through Cython as through Python.
"""

from itertools import zip_longest
import json
from pathlib import Path

from prove import (clients_checked, clients_covered, clients_debugpy,
                   clients_pdb, clients_twins)
from prove.clients_covered import COVERAGE
from series import builder
from series.common import SeriesError, print_tail, say, status_of
from series.environments import make_environment

GREENLET = "greenlet==3.5.6"
PACKAGES = (COVERAGE, GREENLET, clients_twins.CYTHON, clients_twins.SETUPTOOLS,
            clients_debugpy.DEBUGPY, clients_debugpy.NUMBA)
# The core and the options of each run.
RUNS = ("ctrace", "--branch"), ("pytrace", "--branch"), ("sysmon",)
PROGRAM = Path(__file__).with_name("clients_program.py")
# What has the lines of another file, and which of those run.
LOCATED = Path(__file__).with_name("clients_located.py")
LOCATED_LINES = [1, 2]
READ_LINES = """
import sys
from coverage import CoverageData
data = CoverageData(sys.argv[1])
data.read()
print(sorted(data.lines(sys.argv[2]) or ()))
"""
# What two greenlets run, and how often both together call each builtin.
TURNS = Path(__file__).with_name("clients_greenlets.py")
WAYS = ("fired", "fired, shared states", "vectorcalled",
        "vectorcalled, shared states")
CALLS = {"len": 4, "hex": 2, "chr": 2}


def check_clients(build, python):
    """Run each tool over a producer."""
    log = build / "clients-install.log"
    tool = make_environment(build / "clients-venv", [python], log,
                            "--only-binary", ":all:", *PACKAGES)
    if tool is None:
        raise SeriesError(f"make clients needs a package index that pip "
                          f"reaches, the log is {log}")
    check_coverage(build, tool)
    check_located(build, tool)
    check_greenlets(build, tool)
    example = builder.build_example(build, python).resolve()
    clients_covered.check_basic(build, tool, example)
    clients_debugpy.check_basic(build, tool, example)
    cython, python_twin = clients_twins.build_twins(build, tool)
    clients_covered.check_cython(build, cython, python_twin)
    clients_checked.check_findings(build, build / "src", cython)
    clients_pdb.check_pdb(build, cython, python_twin)
    clients_debugpy.check_debugpy(build, cython, python_twin)
    clients_debugpy.check_numba(build, tool)


def check_coverage(build, tool):
    """Run coverage over a program with a producer's events and without."""
    for core, *options in RUNS:
        found = [measure(build, tool, core, options, choice)
                 for choice in ("without", "with")]
        title = " ".join([COVERAGE, core, *options])
        difference = compare(*found)
        if difference:
            raise SeriesError(f"{title}: {difference}")
        say("clients", f"{title}: the same {len(found[0]['lines'])} lines "
                       f"with {found[1]['events']} of a producer's events")


def check_located(build, tool):
    """Run coverage over code that is not bytecode but has locations."""
    log = build / "clients.log"
    data = build / "clients.coverage"
    source = (build / "clients.src").resolve()
    source.write_text("one\ntwo; two\nthree\n")
    for command in (["-m", "coverage", "run", f"--data-file={data}",
                     f"--include={source}", LOCATED, source],
                    ["-c", READ_LINES, data, source]):
        if status_of([tool, "-W", "error", *command], log,
                     COVERAGE_CORE="sysmon"):
            print_tail(log)
            raise SeriesError(f"coverage failed over code with locations, the "
                              f"log is {log}")
    lines = json.loads(log.read_text())
    if lines != LOCATED_LINES:
        raise SeriesError(f"{COVERAGE} sysmon: the lines of code with "
                          f"locations are {lines}, not {LOCATED_LINES}")
    say("clients", f"{COVERAGE} sysmon: the {len(lines)} lines that ran of "
                   f"code with locations")


def check_greenlets(build, tool):
    """Profile two greenlets that call the same from Python and from a
    producer, in each order in which they can take turns."""
    from_python = take_turns(build, tool, "python")
    for way in WAYS:
        difference = compare_turns(from_python, take_turns(build, tool, way))
        if difference:
            raise SeriesError(f"{GREENLET}, {way}: {difference}")
        say("clients", f"{GREENLET}, {way}: the same calls and counts in "
                       f"{len(from_python)} orders")


def measure(build, tool, core, options, choice):
    """Return the lines and branches that ran and how many events there were.
    """
    log = build / "clients.log"
    data = f"--data-file={build / 'clients.coverage'}"
    report = build / "clients.json"
    commands = (["run", data, f"--include={PROGRAM}", *options,
                 PROGRAM, choice],
                ["json", "--quiet", data, "-o", report])
    for command in commands:
        # That a core is not to be had is but a warning of coverage.
        if status_of([tool, "-W", "error", "-m", "coverage", *command], log,
                     COVERAGE_CORE=core):
            print_tail(log)
            raise SeriesError(f"coverage {command[0]} failed with the core "
                              f"{core}, the log is {log}")
        if command[0] == "run":
            events = int(log.read_text())
    (found,) = json.loads(report.read_text())["files"].values()
    return {"events": events, "lines": found["executed_lines"],
            "missing": found["missing_lines"],
            "branches": found.get("executed_branches")}


def compare(without, with_events):
    """Say what differs, or return None."""
    if without["events"] or not with_events["events"]:
        return (f"{without['events']} events without a producer, "
                f"{with_events['events']} with one")
    for part in ("lines", "missing", "branches"):
        if without[part] != with_events[part]:
            return (f"{part} are {with_events[part]} with a producer's "
                    f"events and {without[part]} without")
    if not without["lines"] or not without["missing"]:
        return "the program is to have lines that run and lines that do not"
    return None


def take_turns(build, tool, way):
    """Return {order: what was counted and called} of two greenlets."""
    log = build / "clients.log"
    if status_of([tool, TURNS, way], log):
        print_tail(log)
        raise SeriesError(f"{GREENLET}, {way}: failed, the log is {log}")
    return json.loads(log.read_text())


def compare_turns(from_python, from_producer):
    """Say what differs, or return None."""
    for order, expected in from_python.items():
        for name, calls in CALLS.items():
            # All its calls, not the primitive ones: to cProfile, a call
            # during another of the same builtin is recursion.
            counted = sum(row[2] for row in expected["counts"]
                          if row[0] == f"<built-in method builtins.{name}>")
            if counted != calls:
                return (f"in the order {order} of Python code's calls "
                        f"{name} is counted {counted} times, not {calls}")
        for part, rows in expected.items():
            for row, found in zip_longest(rows, from_producer[order][part]):
                if found != row:
                    return (f"in the order {order} the first of the {part} "
                            f"that differs is {found} of a producer and "
                            f"{row} of Python code")
    return None
