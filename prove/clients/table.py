"""The table: what each tool sees, on which interpreter.

A cell is "right" where a tool says of a program what it says of the same in
Python on stock CPython.
"""

from concurrent.futures import ThreadPoolExecutor
import json
import os
from pathlib import Path
import re
import resource
import shutil

from prove.clients import (checked, covered, debugpy_sessions, pdb_sessions,
                           producers, profilers, programs)
from prove.clients.programs import Column, Ended
from series.common import SeriesError, clean_environment, output_of, say
from series.environments import make_environment
from series.readme import Table
from series.workspace import ROOT

PACKAGES = (programs.CYTHON, "coverage==7.17.3", "debugpy==1.8.22",
            "greenlet==3.5.6", "line_profiler==5.1.0", "numba==0.68.1",
            "pyinstrument==5.1.3", "viztracer==1.1.1")
HEADER = ROOT / "compat/pymonitoring_compat.h"
TABLE = Table("clients", "prove/clients/README.md")
SHORT = Table("clients", "Doc/howto/monitoring-producers.rst", "summary",
              comment=".. {}")
RIGHT = "right"


class Row:
    """A tool, what a person runs, and what looks at what it says.

    look(subject, place) returns {thing: what is said of it}, or a list; place
    is a folder for the files that it makes.
    """

    def __init__(self, tool, command, unit, look, is_short=True):
        self.tool = tool
        self.command = command
        self.unit = unit
        self.look = look
        self.is_short = is_short        # it counts in the short table

    @property
    def name(self):
        return self.tool.lower().replace(" ", "-").replace(",", "")


PATCHED = str(Path(__file__).with_name("patched.py"))
CPROFILE = Row("cProfile", "`python -m cProfile`", "functions",
               profilers.profile("cProfile"))
LINE_PROFILER = Row("line_profiler", "`python -m kernprof -l -p MODULE`",
                    "lines", profilers.line_profiler)
PLACES = Row("sys.monitoring", "`sys.monitoring.get_location()` in callbacks "
             "for PY_START, PY_YIELD, RAISE; on stock `co_positions()`",
             "places", profilers.places)
DEBUGPY = (
    Row("debugpy, compiled", "VS Code", "sessions",
        debugpy_sessions.look("compiled")),
    Row("debugpy, pure Python", "VS Code, where debugpy has no binary",
        "sessions", debugpy_sessions.look("pure Python")),
)
ROWS = (
    CPROFILE,
    Row("profile", "`python -m profile`", "functions",
        profilers.profile("profile")),
    Row("trace", "`python -m trace --count -C FOLDER`", "lines",
        profilers.trace()),
    Row("trace, missing lines", "the same with `--missing`", "lines",
        profilers.trace("--missing"), is_short=False),
    Row("trace, missing lines, patched", "the same with trace patched",
        "lines", profilers.trace("--missing", client=(PATCHED, "trace")),
        is_short=False),
    Row("pdb, steps", "`python -m pdb`", "replies",
        pdb_sessions.look(pdb_sessions.STEPS)),
    Row("pdb, variables", "the same", "replies",
        pdb_sessions.look(pdb_sessions.VARIABLES)),
    Row("coverage, ctrace", "`COVERAGE_CORE=ctrace coverage run --branch`",
        "lines and arcs", covered.lines("ctrace", "--branch")),
    Row("coverage, pytrace", "`COVERAGE_CORE=pytrace coverage run --branch`",
        "lines and arcs", covered.lines("pytrace", "--branch")),
    Row("coverage, sysmon", "`COVERAGE_CORE=sysmon coverage run`", "lines",
        covered.lines("sysmon")),
    Row("coverage, report of ctrace",
        "`coverage run` and `coverage report`, both with the language's "
        "plugin", "lines", covered.report("ctrace")),
    Row("coverage, report of sysmon",
        "`coverage run`, then `CoverageData.add_file_tracers()`, then "
        "`coverage report` with the plugin", "lines",
        covered.report("sysmon", amend=True)),
    Row("coverage, report of sysmon without more", "`coverage run`, then "
        "`coverage report` with the plugin", "lines",
        covered.report("sysmon"), is_short=False),
    Row("coverage, the same, patched", "the same with coverage patched",
        "lines", covered.report("sysmon", client=(PATCHED, "coverage")),
        is_short=False),
    LINE_PROFILER,
    Row("viztracer", "`python -m viztracer`", "calls", profilers.viztracer),
    Row("pyinstrument", "`python -m pyinstrument`", "stacks",
        profilers.pyinstrument),
    *DEBUGPY,
    PLACES,
)
LAYER_ROWS = (
    Row("greenlet, cProfile", "`cProfile` over greenlets that switch within "
        "calls that a producer signals", "orders", producers.greenlets),
    *(Row(f"coverage, {core}", f"`COVERAGE_CORE={core} coverage run` of "
          "Python code whose lines a producer signals, too",
          "lines and branches", producers.coverage_around(core, *options))
      for core, *options in (("ctrace", "--branch"), ("pytrace", "--branch"),
                             ("sysmon",))),
)


def languages(build):
    """Return [(language, its rows), ...]; the first is that of the short
    table."""
    return [
        (programs.Cython(), ROWS),
        (programs.Cython(
            PATCHED, "cython", title=f"the same, {programs.CYTHON} patched"),
         (LINE_PROFILER, *DEBUGPY, PLACES)),
        (programs.Basic(), ROWS),
        (producers.Numba(), (CPROFILE, *DEBUGPY)),
        (producers.Layer(build), LAYER_ROWS),
    ]


def check_clients(series, build, stock, ours):
    """Print and write the table; fail if a page, which is on the first base,
    has another."""
    columns, reference = make_columns(build, stock, ours)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    place = build.resolve() / "clients"
    shutil.rmtree(place, ignore_errors=True)
    # One more than there are processors: stock hangs where it fails.
    with ThreadPoolExecutor(1 + (os.cpu_count() or 1)) as executor:
        sections = [
            (language.title, measure(executor, place / str(number), language,
                                     rows, columns, reference))
            for number, (language, rows) in enumerate(languages(build))]
    checked.check_findings(build / "src/Tools/monitoring/check_producer.py",
                           columns[-1], place / "checked")
    TABLE.keep(build, markdown(sections, columns))
    SHORT.keep(build, short_table(sections[0][1], columns))
    for table in TABLE, SHORT if series.is_first else ():
        check_page(table, table.file(build).read_text(encoding="utf-8"))


def make_columns(build, stock, ours):
    """Return the columns, and the one whose Python the others are compared
    with; each has an environment with the tools."""
    log = build / "clients-install.log"
    tool = make_environment(build / "clients-venv", [stock], log,
                            "--only-binary", ":all:", *PACKAGES)
    if tool is None:
        raise SeriesError(f"make clients needs a package index that pip "
                          f"reaches, the log is {log}")
    own = build / "clients-venv-ours"
    output_of([ours, "-m", "venv", "--clear", "--without-pip", own],
              env=clean_environment())
    # The packages that were installed for stock: ours loads the same binaries.
    packages, = tool.parent.parent.glob("lib/python*/site-packages")
    for target in own.glob("lib/python*/site-packages"):
        (target / "packages.pth").write_text(f"{packages}\n")
    version = output_of([stock, "-c", "import platform; "
                         "print(platform.python_version())"],
                        env=clean_environment()).decode().strip()
    headers = build / "stock-src", build / "stock"
    return [
        Column("stock", f"stock {version}", tool, *headers),
        Column("header", "with the header", tool, *headers,
               "-include", HEADER),
        Column("ours", "with the series", own.resolve() / "bin/python",
               build / "src", build / "release"),
    ], Column("python", "", tool, *headers)


def measure(executor, place, language, rows, columns, reference):
    """Return [(row, cells), ...] of a language."""
    folder = place / "programs"
    subjects = list(executor.map(
        lambda column: make_subject(language, column, folder / column.name),
        columns))
    if isinstance(subjects[-1], str):
        raise SeriesError(f"{language.title}: {subjects[-1]}")
    subjects.insert(0, language.python_subject(reference, folder / "python"))
    names = ["python", *(column.name for column in columns)]
    # Those that take longest first.
    running = {row: [executor.submit(look, row, subject,
                                     place / "cells" / row.name / name)
                     for name, subject in zip(names, subjects)]
               for row in sorted(rows, key=lambda row: row.unit != "sessions")}
    measured = []
    for row in rows:
        wanted, *found = (future.result() for future in running[row])
        if not wanted or isinstance(wanted, str):
            raise SeriesError(f"{row.tool}, {language.title} in Python: "
                              f"{wanted or 'nothing'}")
        cells = [describe(wanted, one, row.unit) for one in found]
        say("clients", f"{language.name}, {row.tool}: {'; '.join(cells)}")
        measured.append((row, cells))
    return measured


def make_subject(language, column, folder):
    """Return a program, or in words why there is none."""
    try:
        return language.subject(column, folder)
    except Ended as end:
        return str(end)


def look(row, subject, place):
    """Return what a tool says, or in words how it ended; it is kept."""
    if isinstance(subject, str):
        return subject
    place.mkdir(parents=True)
    try:
        found = row.look(subject, place)
    except Ended as end:
        found = str(end)
    (place / "found.json").write_text(json.dumps(found, indent=1))
    return found


def describe(expected, found, unit):
    """Return the cell."""
    if isinstance(found, str):
        return found
    if found == expected:
        return RIGHT
    if isinstance(expected, list):
        same = next((number for number, (one, other)
                     in enumerate(zip(expected, found)) if one != other),
                    min(len(expected), len(found)))
        return f"wrong: the first {same} of {len(expected)} {unit} right"
    same = sum(found.get(key) == value for key, value in expected.items())
    more = len(found.keys() - expected.keys())
    return (f"wrong: {same} of {len(expected)} {unit} right"
            + (f", {more} more" if more else ""))


def markdown(sections, columns):
    """Return the table as its page shows it."""
    titles = ["", "what a person runs", *(column.title for column in columns)]
    lines = [titles, ["---"] * len(titles)]
    for title, measured in sections:
        lines.append([f"**{title}**", *[""] * (len(titles) - 1)])
        lines += [[row.tool, row.command, *cells] for row, cells in measured]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def short_table(measured, columns):
    """Return a table in reStructuredText of whether each tool shows all of a
    language, some or less."""
    shares = {}
    for row, cells in measured:
        if row.is_short:
            tool = row.tool.partition(",")[0]
            shares.setdefault(tool, []).append(list(map(share, cells)))
    lines = [["Tool", *(column.title for column in columns)]]
    for tool, rows in shares.items():
        lines.append([tool, *(
            "yes" if min(parts) == 1 else
            "partly" if sum(parts) / len(parts) >= 0.5 else "no"
            for parts in zip(*rows))])
    widths = [max(map(len, column)) for column in zip(*lines)]
    rule = " ".join("=" * width for width in widths)
    text = [" ".join(cell.ljust(width) for cell, width
                     in zip(line, widths)).rstrip() for line in lines]
    return "\n".join([rule, text[0], rule, *text[1:], rule, ""])


def share(cell):
    """Return how much of a cell is right."""
    if cell == RIGHT:
        return 1
    found = re.search(r"(\d+) of (\d+) ", cell)
    return min(int(found[1]) / int(found[2]), 0.99) if found else 0


def check_page(table, fragment):
    """Fail if a page shows another table."""
    shown = table.split(ROOT / table.page)[1]
    if verdicts(shown) != verdicts(fragment):
        raise SeriesError(f"{table.page}: its table is not what was measured, "
                          f"make clients-readme puts it in")


def verdicts(text):
    """Return what a table says of the series, and what is right elsewhere: a
    tool that fails there may fail in another way each time."""
    rows = []
    for line in text.strip().splitlines():
        cells = [cell.strip() for cell in (
            line.strip("|").split("|") if line.startswith("|")
            else re.split("  +", line))]
        rows.append([*cells[:-3], *(cell in (RIGHT, "yes")
                                    for cell in cells[-3:-1]), cells[-1]])
    return rows
