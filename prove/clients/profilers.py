"""Profilers and tracers that are run once over a whole program."""

import collections
import json
from pathlib import Path

READ = Path(__file__).with_name("read.py")
PLACES = Path(__file__).with_name("places.py")
PATCHED = Path(__file__).with_name("patched.py")
# Cython signals the line of these twice for each turn.
REPEATED = "for "


def read(subject, place, kind, file):
    """Return what a tool wrote, by read.py."""
    return json.loads(subject.run(place / "read.log", READ, kind, file))


def run(subject, place, *command, **environment):
    subject.run(place / "log", *command, **environment)


def profile(name):
    """Return what looks at cProfile or profile: at each function's calls, and
    at which of the others it was called from."""
    def look(subject, place):
        stats = place / "stats"
        run(subject, place, "-m", name, "-o", stats, subject.script)
        found = {}
        for *function, calls, primitive, callers in read(
                subject, place, "functions", stats):
            key = subject.function(*function)
            if key:
                found[key] = calls, primitive, sorted({
                    subject.function(*caller) or "" for caller in callers})
        return found
    return look


def trace(*options, client=("-m", "trace")):
    """Return what looks at how often each line ran."""
    def look(subject, place):
        file = place / "counts"
        run(subject, place, *client, "--count", *options, "-C", place,
            "--file", file, subject.script)
        return lines(subject, read(subject, place, "counts", file))
    return look


def places(subject, place):
    """Look at the lines where events happen, as sys.monitoring has them."""
    file = place / "places.json"
    run(subject, place, PLACES, file, subject.script)
    found = collections.Counter()
    for path, name, event, line, count in json.loads(file.read_text()):
        if event == "PY_START":
            key = subject.function(path, line, name)
        elif name != "<module>":
            key = subject.place(path, line)
            # What is thrown into a generator is no RAISE of Cython's.
            if event == "RAISE" and key in subject.language.generators:
                continue
        else:
            key = None
        if key or Path(path).suffix == ".pyx" and isinstance(line, str):
            found[f"{event} {key or line}"] += count
    return found


def line_profiler(subject, place):
    """Look at the hits of each line: of functions that Python code sees."""
    file = place / "hits.lprof"
    names = [subject.script.stem, subject.language.module.stem]
    run(subject, place, "-m", "kernprof", "-l", "-o", file, "-p",
        ",".join(names), subject.script)
    return lines(subject, read(subject, place, "hits", file),
                 subject.language.hidden)


def viztracer(subject, place):
    """Look at how often each function is entered, and from which one."""
    file = place / "trace.json"
    run(subject, place, "-m", "viztracer", "--quiet", "-o", file,
        subject.script)
    events = [event for event in json.loads(file.read_text())["traceEvents"]
              if event["ph"] == "X"]
    found = collections.Counter()
    stack = []
    for event in sorted(events, key=lambda event: (event["ts"],
                                                   -event["dur"])):
        while stack and event["ts"] >= stack[-1][1]:
            stack.pop()
        name, _, file = event["name"].rstrip(")").partition(" (")
        path, _, line = file.rpartition(":")
        key = path and subject.function(path, int(line), name)
        if key:
            caller = stack[-1][0] if stack else ""
            found[f"{caller} > {key}"] += 1
            stack.append((key, event["ts"] + event["dur"]))
    return found


def pyinstrument(subject, place):
    """Look at the stacks that it sees where it looks at each call."""
    file = place / "session.json"
    run(subject, place, "-m", "pyinstrument", "-i", "1e-9", "-r",
        "pyisession", "-o", file, subject.script)
    found = {}
    for stack, _ in json.loads(file.read_text())["frame_records"]:
        keys = []
        for entry in stack:
            name, path, line = entry.partition("\x01")[0].split("\x00")[:3]
            keys.append(subject.function(path, int(line), name))
        keys = list(filter(None, keys))
        if keys:
            found[" > ".join(keys)] = True
    return found


def lines(subject, counted, left_out=()):
    """Return how often each line ran."""
    found = collections.Counter()
    for path, line, count in counted:
        key = subject.place(path, line)
        if key and key not in left_out:
            found[key] += count
    module = subject.language.module
    repeated = {(module.stem, number) for number, line
                in enumerate(module.read_text().splitlines(), 1)
                if line.strip().startswith(REPEATED)}
    return {"%s:%d" % key: key in repeated or count
            for key, count in found.items()}
