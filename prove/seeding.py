"""Seeding faults: can the tests find a check that is missing?

Each fault is tried in a copy of the patched tree and its release build: one
edit, what it changes compiled anew, and the tests of how events are fired and
the model test for a minute, or the tests of locations or frames.  There are as
many copies as the machine has processors.
"""

from concurrent.futures import ThreadPoolExecutor
import os
import queue
import re
import shutil
import signal
import subprocess

from prove.faults import (FAULTS, FILES, FRAME_FAULTS, FRAMES, HEADER,
                          LOCATIONS, SOURCES)
from series import diffs
from series.common import SeriesError, clean_environment, say

TIME_LIMIT = 60         # seconds
MODEL_TEST = "test.test_capi.test_monitoring_model"
# Before that: what the model does not do, such as to set f_lineno.
FIRING_TESTS = ("test.test_capi.test_monitoring_firing",)
OTHER_TESTS = {
    LOCATIONS: ("test.test_capi.test_code_locations",
                "test.test_capi.test_code_locations_lookup"),
    FRAMES: tuple("test.test_capi.test_monitoring_" + part for part in (
        "frames", "stacks", "tracers", "tracebacks", "activations",
        "frames_threads", "frames_model")),
}


def seed_faults(build):
    """Try every fault; return how many were not found.

    The unchanged copy must pass first: then what fails is the fault.
    """
    sources = {name: (build / "src" / name).read_text() for name in FILES}
    places = find_places(sources)
    copies = queue.SimpleQueue()
    for copy in make_copies(build / "faults", build):
        copies.put(copy)

    def try_fault(fault, place):
        name, start, end = place
        text = sources[name]
        copy = copies.get()
        write_source(copy, name, text[:start] + fault.new + text[end:])
        outcome, found = try_tests(
            copy, FRAMES if fault in FRAME_FAULTS else name)
        write_source(copy, name, text)
        copies.put(copy)
        return outcome, found

    write_source(copy, HEADER, sources[HEADER])
    for name in (HEADER, *OTHER_TESTS):
        outcome, found = try_tests(copy, name)
        if found:
            raise SeriesError(f"the tests fail without a fault in {name}: "
                              f"{outcome}")
    missed = 0
    with ThreadPoolExecutor(copies.qsize()) as executor:
        for fault, (outcome, found) in zip(
                FAULTS, executor.map(try_fault, FAULTS, places)):
            missed += not found
            say("fault", f"{fault.title}: {outcome}")
    print(f"{len(FAULTS) - missed} faults found, {missed} not found",
          flush=True)
    return missed


def make_copies(directory, build):
    """Copy the tree and its release build for each processor."""
    shutil.rmtree(directory, ignore_errors=True)
    copies = [directory / str(i) for i in range(os.cpu_count() or 1)]
    for copy in copies:
        copy.mkdir(parents=True)
        for name in ("src", "release"):
            subprocess.run(["cp", "-a", build / name, copy], check=True)
    return copies


def write_source(copy, name, text):
    """Write a file of a copy; have what it changes compiled anew."""
    source = copy / "src"
    (source / name).write_text(text)
    if name == HEADER:
        for user in SOURCES:
            (source / user).touch()


def find_places(sources):
    """Return (file, start, end) of the text of each fault in {file: text};
    fail naming all that are not found."""
    places = []
    gone = []
    for fault in FAULTS:
        bodies = [(name, body) for name, text in sources.items()
                  for body in function_bodies(fault.function, text)]
        found = [(name, *match.span()) for name, body in bodies
                 for match in pattern(fault.old).finditer(sources[name],
                                                          *body.span())]
        if len(found) == 1:
            places += found
        elif not bodies:
            gone.append(f"'{fault.title}': there is no function "
                        f"{fault.function}()")
        else:
            gone.append(f"'{fault.title}': {fault.function}() has "
                        f"{diffs.times(len(found))} {fault.old!r}")
    if gone:
        raise SeriesError("\n  ".join([
            f"{len(gone)} of {len(FAULTS)} faults have no place any more, "
            f"prove/faults.py needs another for them:", *gone]))
    return places


def function_bodies(name, text):
    """Return the matches of the definitions of a C function."""
    return list(re.finditer(rf"^{name}\([^;{{]*\)\n\{{.*?^\}}$", text,
                            re.MULTILINE | re.DOTALL))


def pattern(code):
    """Return what matches C code with any white space between its tokens."""
    tokens = re.findall(r"\w+|[^\w\s]", code)
    parts = []
    for before, token in zip(["", *tokens], tokens):
        between_words = before[-1:].isalnum() and token[0].isalnum()
        parts.append((r"\s+" if between_words else r"\s*")
                     + re.escape(token))
    # No white space before the first token.
    return re.compile("".join(parts).removeprefix(r"\s*"))


def try_tests(copy, name):
    """Build a copy and run the tests of a file; return what happened and
    whether they failed.

    Memory that is used after it was freed does not hold what it did.
    """
    build_copy(copy)
    if name in OTHER_TESTS:
        return try_others(copy, OTHER_TESTS[name])
    outcome, found = try_others(copy, FIRING_TESTS)
    return (outcome, found) if found else try_model(copy)


def build_copy(copy):
    """Build what a fault changes."""
    log = copy / "make.log"
    with open(log, "wb") as file:
        # What is frozen into the interpreter does not change with a fault,
        # nor does most of what includes the header.  To optimize would take
        # most of the time.
        status = subprocess.run(
            ["make", "-o", "Programs/_freeze_module",
             "-o", "_bootstrap_python", "-o", f"../src/{HEADER}",
             "OPT=-DNDEBUG -fwrapv -O1", "python"], cwd=copy / "release",
            stdout=file, stderr=subprocess.STDOUT,
            env=clean_environment()).returncode
    if status:
        raise SeriesError(f"a fault does not compile, see {log}")


def try_others(copy, tests):
    """Run tests; a crash or no end is a failure, too."""
    log = copy / "tests.log"
    with open(log, "wb") as file:
        try:
            status = subprocess.run(
                [copy / "release" / "python", "-m", "unittest", "-f",
                 *tests], stdout=file, stderr=subprocess.STDOUT,
                env=clean_environment(PYTHONMALLOC="debug"),
                timeout=10 * TIME_LIMIT).returncode
        except subprocess.TimeoutExpired:
            return "found, the tests did not end", True
    if status == 0:
        return "NOT FOUND", False
    failed = re.search(r"^(?:FAIL|ERROR): (\w+)",
                       log.read_text(errors="replace"), re.MULTILINE)
    if failed:
        return f"found by {failed[1]}", True
    if status > 0:
        raise SeriesError(f"the tests did not run, see {log}")
    return f"found, {signal.Signals(-status).name}", True


def try_model(copy):
    """Run the model test until it fails or the time is up."""
    log = copy / "model.log"
    with open(log, "wb") as file:
        process = subprocess.Popen(
            [copy / "release" / "python", "-m", MODEL_TEST,
             "--steps", "100000000"], stdout=file, stderr=subprocess.STDOUT,
            env=clean_environment(PYTHONMALLOC="debug"),
            start_new_session=True)
        try:
            process.wait(TIME_LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            status = "timeout"
    # It may still be making the failure short.
    done = re.search(rb"(\d+) steps without a difference, (\S+) s",
                     log.read_bytes())
    if done:
        return f"found after {int(done[1])} steps, {float(done[2])} s", True
    if status != "timeout":
        raise SeriesError(f"the model test did not run, see {log}")
    return "NOT FOUND", False
