"""Further producers: Numba's dispatcher, and the test layer of the API."""

import json

from prove.clients import programs
from series.common import SeriesError

LAYER = programs.ROOT / "prove/layer.c"
# What two greenlets run in the same order, and how often both together call
# each builtin.
WAYS = ("fired", "fired, shared states", "vectorcalled",
        "vectorcalled, shared states")
CALLS = {"len": 4, "hex": 2, "chr": 2}


class Numba(programs.Language):
    """Functions that Numba compiles, or leaves as they are."""

    def __init__(self):
        super().__init__("Numba", "a program of numba==0.68.1", "numbas.py",
                         "numbas.py", "numbas.py")

    def subject(self, column, folder):
        # Its binaries are of the package index.
        if column.flags:
            raise programs.Ended("-")
        return self.make(column, folder, False,
                         NUMBA_ENABLE_SYS_MONITORING="1")

    def python_subject(self, column, folder):
        return self.make(column, folder, True, NUMBA_DISABLE_JIT="1")

    def make(self, column, folder, is_python, **environment):
        self.fill(folder)
        lines = {number: number for number in range(
            1, 1 + len(self.module.read_text().splitlines()))}
        subject = programs.Subject(self, folder, column.python, lines, lines,
                                   is_python, **environment)
        subject.has_lines = False
        return subject


class Layer(programs.Language):
    """Python code around producers of the test layer."""

    def __init__(self, build):
        super().__init__("layer", "the test layer of the API", "events.py",
                         "greenlets.py", "greenlets.py")
        self.include = f"-I{(build / 'src/Modules/_testcapi').resolve()}"

    def subject(self, column, folder, is_python=False):
        self.fill(folder)
        column.compile(folder, "_monitoring_layer", LAYER, self.include)
        return programs.Subject(self, folder, column.python, {}, {}, is_python)

    def python_subject(self, column, folder):
        return self.subject(column, folder, True)


def greenlets(subject, place):
    """Look at what cProfile counts and another tool's callbacks get of two
    greenlets, in each order in which they can take turns, and in each way."""
    if subject.is_python:
        found = turns(subject, place, "python")
        check_python(found)
        return {f"{way}, {order}": what for way in WAYS
                for order, what in found.items()}
    return {f"{way}, {order}": what for way in WAYS
            for order, what in turns(subject, place, way).items()}


def turns(subject, place, way):
    """Return {order: what was counted and called}."""
    return json.loads(subject.run(place / f"{way}.log", "greenlets.py", way))


def check_python(found):
    """Fail unless Python code's calls are counted at all."""
    for order, what in found.items():
        for name, calls in CALLS.items():
            # All its calls, not the primitive ones: to cProfile, a call
            # during another of the same builtin is recursion.
            counted = sum(row[2] for row in what["counts"]
                          if row[0] == f"<built-in method builtins.{name}>")
            if counted != calls:
                raise SeriesError(f"in the order {order} of Python code's "
                                  f"calls {name} is counted {counted} times, "
                                  f"not {calls}")


def coverage_around(core, *options):
    """Return what looks at coverage's report of Python code around a producer,
    whose events must not show in it."""
    def look(subject, place):
        data = f"--data-file={place / 'coverage'}"
        file = place / "report.json"
        choice = "without" if subject.is_python else "with"
        events = int(subject.run(
            place / "log", "-W", "error", "-m", "coverage", "run", data,
            "--include=*/events.py", *options, "events.py", choice,
            COVERAGE_CORE=core))
        if (events == 0) != subject.is_python:
            raise programs.Ended(f"wrong: {events} events")
        subject.run(place / "report.log", "-m", "coverage", "json", "--quiet",
                    data, "-o", file)
        report, = json.loads(file.read_text())["files"].values()
        return {f"{kind} {item}": True
                for kind in ("executed_lines", "missing_lines",
                             "executed_branches")
                for item in report.get(kind, ())}
    return look
