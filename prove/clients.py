"""Tools from the package index that must not notice a producer's events."""

import json
from pathlib import Path

from series.common import SeriesError, print_tail, say, status_of

COVERAGE = "coverage==7.17.3"
# The core and the options of each run.
RUNS = ("ctrace", "--branch"), ("pytrace", "--branch"), ("sysmon",)
PROGRAM = Path(__file__).with_name("clients_program.py")


def check_clients(build, python):
    """Run coverage over a program with a producer's events and without."""
    tool = install_coverage(build, python)
    for core, *options in RUNS:
        found = [measure(build, tool, core, options, choice)
                 for choice in ("without", "with")]
        title = " ".join([COVERAGE, core, *options])
        difference = compare(*found)
        if difference:
            raise SeriesError(f"{title}: {difference}")
        say("clients", f"{title}: the same {len(found[0]['lines'])} lines "
                       f"with {found[1]['told']} of a producer's events")


def install_coverage(build, python):
    """Return the Python of an environment that has coverage."""
    environment = build / "clients-venv"
    installed = environment / ".installed"
    tool = environment.resolve() / "bin/python"
    if installed.is_file() and installed.read_text() == COVERAGE:
        return tool
    say("install", COVERAGE)
    log = build / "clients-install.log"
    for command in ([python, "-m", "venv", "--clear", environment],
                    [tool, "-m", "pip", "install", "--retries", "1",
                     "--only-binary", ":all:", COVERAGE]):
        if status_of(command, log):
            raise SeriesError(f"make clients needs a package index that pip "
                              f"reaches, the log is {log}")
    installed.write_text(COVERAGE)
    return tool


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
            told = int(log.read_text())
    (found,) = json.loads(report.read_text())["files"].values()
    return {"told": told, "lines": found["executed_lines"],
            "missing": found["missing_lines"],
            "branches": found.get("executed_branches")}


def compare(without, with_events):
    """Say what differs, or return None."""
    if without["told"] or not with_events["told"]:
        return (f"{without['told']} events were told without a producer, "
                f"{with_events['told']} with one")
    for part in ("lines", "missing", "branches"):
        if without[part] != with_events[part]:
            return (f"{part} are {with_events[part]} with a producer's "
                    f"events and {without[part]} without")
    if not without["lines"] or not without["missing"]:
        return "the program is to have lines that run and lines that do not"
    return None
