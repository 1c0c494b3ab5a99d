"""coverage, with each of its cores, and what its reports show."""

import json

from prove.clients.profilers import read

# Tells the plugin of the files that a core measured that asks no plugin.
AMEND = """
import sys
from coverage import CoverageData
path, plugin = sys.argv[1:]
data = CoverageData(path)
data.read()
data.add_file_tracers({file: f"{plugin}.Plugin"
                       for file in data.measured_files()
                       if not file.endswith(".py")})
"""


def run(subject, place, core, *options):
    """Run the program; return coverage's file."""
    data = place / "coverage"
    # That a core is not to be had is but a warning of coverage.
    subject.run(place / "log", "-W", "error", "-m", "coverage", "run",
                f"--data-file={data}", "--include=" + ",".join(
                    f"*/{path.stem}.*" for path in (subject.script,
                                                    subject.language.module)),
                *options, subject.script, COVERAGE_CORE=core)
    return data


def lines(core, *options):
    """Return what looks at the lines that ran, and at which came after which
    if coverage looks at that."""
    def look(subject, place):
        found = {}
        data = run(subject, place, core, *options)
        for path, (covered, arcs) in read(subject, place, "covered",
                                          data).items():
            for line in covered:
                key = subject.place(path, line)
                if key:
                    found["%s:%d" % key] = True
            for start, end in arcs or ():
                key = arc(subject, path, start, end)
                if key:
                    found[key] = True
        return found
    return look


def arc(subject, path, start, end):
    """Return an arc as both languages have it, or None.

    That a generator goes on is what bytecode alone shows; Cython signals a
    line twice where it begins a loop.
    """
    ends = []
    for line in start, end:
        place = (subject.place(path, line) if line > 0 else
                 subject.start(path, -line))
        if place is None or place in subject.language.generators:
            return None
        ends.append(place[1] if line > 0 else -place[1])
    if ends[0] == ends[1]:
        return None
    return f"{place[0]}:{ends[0]}-{ends[1]}"


def report(core, plugin=True, amend=False, client=("-m", "coverage")):
    """Return what looks at the lines that a report says ran and did not.

    The sysmon core asks no plugin; that the plugin knows the file is amended
    after the run, or not at all.
    """
    def look(subject, place):
        settings = place / "settings"
        settings.write_text(f"[run]\nplugins = {subject.language.plugin}\n")
        options = ([f"--rcfile={settings}"] if plugin and not subject.is_python
                   else [])
        data = run(subject, place, core,
                   *([] if core == "sysmon" else options))
        if amend and not subject.is_python:
            subject.run(place / "amend.log", "-c", AMEND, data,
                        subject.language.plugin)
        file = place / "report.json"
        subject.run(place / "report.log", "-W", "error", *client, "json",
                    "--quiet", f"--data-file={data}", "-o", file, *options)
        found = {}
        for path, lines in json.loads(file.read_text())["files"].items():
            for kind in "executed_lines", "missing_lines":
                for line in lines[kind]:
                    key = subject.place(path, line)
                    if key:
                        found["%s:%d" % key] = kind
        return found
    return look
