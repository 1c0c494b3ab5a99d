"""coverage of code that is not Python: Cython's and BASIC's files."""

import json
from pathlib import Path

from prove import clients_twins
from series.common import SeriesError, print_tail, say

COVERAGE = "coverage==7.17.3"
BASIC = Path(__file__).with_name("clients_basic.bas")
BASIC_PROGRAM = BASIC.with_suffix(".py")
RECORD = Path(__file__).with_name("clients_record.py")
RUNS = ("ctrace", "--branch"), ("ctrace",), ("pytrace", "--branch")
PLUGIN = "[run]\nplugins = Cython.Coverage\n"
# Prints what a file of coverage's has, in the form of clients_record.py.
DUMP = """\
import json, os, sys
from coverage import CoverageData
data = CoverageData(sys.argv[1])
data.read()
print(json.dumps({os.path.basename(path): {
    "lines": sorted(data.lines(path)), "arcs": sorted(data.arcs(path) or [])}
    for path in data.measured_files()}))
"""


class Coverage:
    """Runs of a program in a folder, all with the same settings."""

    def __init__(self, build, tool, folder, include, **environment):
        self.build = build.resolve()
        self.tool = tool
        self.folder = folder
        self.include = include
        self.environment = environment

    def run(self, core, options, *command):
        """Return what coverage keeps of a program."""
        data = self.build / "clients.coverage"
        data.unlink(missing_ok=True)
        # That a core is not to be had is but a warning of coverage.
        self.output("-W", "error", "-m", "coverage", "run",
                    f"--data-file={data}", f"--include={self.include}",
                    *options, *command, COVERAGE_CORE=core)
        return json.loads(self.output("-c", DUMP, data).splitlines()[-1])

    def report(self, *options):
        """Return the report of the last run."""
        report = self.build / "clients.json"
        self.output("-m", "coverage", "json", "--quiet", "-o", report,
                    f"--data-file={self.build / 'clients.coverage'}", *options)
        return json.loads(report.read_text())["files"]

    def output(self, *command, **environment):
        log = self.build / "clients-covered.log"
        status = clients_twins.run_in(
            self.folder, [self.tool, *command], log,
            **self.environment, **environment)
        if status:
            print_tail(log)
            raise SeriesError(f"{COVERAGE} failed, the log is {log}")
        return log.read_text()


def check_basic(build, tool, example):
    """Compare coverage of BASIC with what sys.monitoring says."""
    coverage = Coverage(build, tool, BASIC.parent,
                        f"*.bas,*/{BASIC_PROGRAM.name}",
                        PYTHONPATH=str(example))
    recorded = json.loads(coverage.output(RECORD, BASIC_PROGRAM.name,
                                          BASIC.name))
    for core, *options in RUNS:
        found = coverage.run(core, options, BASIC_PROGRAM.name, BASIC.name)
        check(compare(recorded, found, bool(options)), "tinybasic", core,
              options, found)


def check_cython(build, cython, python):
    """Compare coverage of Cython with coverage of Python."""
    settings = build.resolve() / "clients-plugin.ini"
    settings.write_text(PLUGIN)
    plugin = f"--rcfile={settings}"
    include = ",".join(["*.pyx", f"*/{clients_twins.SOURCE.stem}.py",
                        f"*/{clients_twins.PROGRAM.name}"])
    program = clients_twins.PROGRAM.name
    for core, *options in RUNS:
        expected, found = (
            as_python(Coverage(build, twin.tool, twin.folder, include).run(
                core, options, program)) for twin in (python, cython))
        check(compare(expected, found, bool(options)),
              clients_twins.CYTHON, core, options, found)
        # Its tracer in Python has no plugins for files.
        if core == "ctrace":
            coverage = Coverage(build, cython.tool, cython.folder, include)
            found = as_python(coverage.run(core, [*options, plugin], program))
            check(compare(expected, found, bool(options))
                  or compare_report(coverage.report(plugin)),
                  clients_twins.CYTHON, core, [*options, "its plugin"], found)


def check(difference, title, core, options, found):
    title = " ".join([COVERAGE, core, *options, "of", title])
    if difference:
        raise SeriesError(f"{title}: {difference}")
    say("clients", f"{title}: {len(found)} files, "
                   f"{sum(len(file['lines']) for file in found.values())} "
                   f"lines")


def compare(expected, found, has_arcs):
    """Say what differs, or return None."""
    if sorted(expected) != sorted(found):
        return f"the files are {sorted(found)}, not {sorted(expected)}"
    for name, file in expected.items():
        for part in ["lines", "arcs"] if has_arcs else ["lines"]:
            if file[part] != found[name][part]:
                return (f"the {part} of {name} are {found[name][part]}, not "
                        f"{file[part]}")
            if not file[part]:
                return f"{name} has no {part}"
    return None


def compare_report(files):
    """Say what the plugin's report has wrong, or return None."""
    missing = files[clients_twins.SOURCE.name]["missing_lines"]
    first = clients_twins.line_of("total = 1")
    if missing != [first, first + 1]:
        return f"lines {missing} are reported as missing, not two from {first}"
    return None


def as_python(found):
    """Leave of what coverage keeps what is the same for both twins.

    The differences are Cython's own: it signals the line of a `for` once more
    before its first turn, and has no events of what runs once, of modules'
    and classes' own code.  A foreign generator is one more: no bytecode shows
    coverage that it goes on.
    """
    name = clients_twins.SOURCE.stem
    text = clients_twins.SOURCE.read_text().splitlines()
    generator = clients_twins.line_of("def numbers(number):")
    skipped = {generator, generator + 1, generator + 2} | {
        number for number, line in enumerate(text, 1)
        if line.startswith(("#", '"', "class")) or line.lstrip()[:4] == "def "}
    return {
        path.replace(".pyx", ".py"): file if not path.startswith(name) else {
            "lines": [line for line in file["lines"] if line not in skipped],
            "arcs": [[start, end] for start, end in file["arcs"]
                     if start != end and not {start, end} & skipped
                     and generator not in (-start, -end)]}
        for path, file in found.items()}
