"""Testing compat/pymonitoring_compat.h on every CPython of this machine."""

import itertools
import json
import os
from pathlib import Path
import re
import shutil
import subprocess

from compat import compat_coverage, compat_cython
from series.common import SeriesError, clean_environment, output_of, say
from series.readme import Table
from series.testing import Outcome, Tally, read_unittest

ROOT = Path(__file__).resolve().parent.parent
COMPAT = ROOT / "compat"
HEADER = COMPAT / "pymonitoring_compat.h"
LAYER = COMPAT / "tests"
EXAMPLE = ROOT / "Doc/includes/tinybasic"
# Of the example: what runs everywhere, what asks for C_RETURN, and what for
# BRANCH, too.  The others ask what only the series knows.
EXAMPLE_TESTS = "LanguageTests", "ErrorTests", "TracebackTests"
RETURN_TESTS = ("ProfileTests",)
BRANCH_TESTS = "EventTests", "ToolTests"
TESTS = ROOT / "Lib/test"
OLDEST = (3, 12)
WANTED = ("3.12", "3.13", "3.14", "3.15")
TABLE = Table("compat", "compat/README.md")

PROBE = """
import json, os, sys, sysconfig
try:
    import _testcapi, test.support
    tests = True
except ImportError:
    tests = False
include = sysconfig.get_path("include")
config = os.path.dirname(sysconfig.get_config_h_filename())
print(json.dumps({
    "implementation": sys.implementation.name,
    "version": sys.version_info[:3],
    "path": os.path.realpath(sys.executable),
    "abi": getattr(sys, "abiflags", ""),
    "suffix": sysconfig.get_config_var("EXT_SUFFIX"),
    "include": sorted({include, config}),
    "headers": os.path.exists(os.path.join(include, "Python.h")),
    "tests": tests,
}))
"""

# A use of everything that has a macro or a function.
HEADER_USE = """
#include "pymonitoring_compat.h"

int use_monitoring(PyObject *code, PyObject *obj);

int
use_monitoring(PyObject *code, PyObject *obj)
{
    static const uint8_t types[] = {
        PY_MONITORING_EVENT_LINE, PY_MONITORING_EVENT_BRANCH,
        PY_MONITORING_EVENT_BRANCH_LEFT, PY_MONITORING_EVENT_BRANCH_RIGHT,
        PY_MONITORING_EVENT_C_RETURN, PY_MONITORING_EVENT_C_RAISE,
    };
    PyMonitoringState states[sizeof(types)];
    uint64_t version = 0;
    int err = PyMonitoring_EnterScope(states, &version, types,
                                      (Py_ssize_t)sizeof(types));
    err |= PY_MONITORING_IS_INSTRUMENTED_EVENT(types[0]);
    err |= PyMonitoring_FirePyStartEvent(&states[0], code, 0);
    err |= PyMonitoring_FirePyResumeEvent(&states[0], code, 0);
    err |= PyMonitoring_FirePyReturnEvent(&states[0], code, 0, obj);
    err |= PyMonitoring_FirePyYieldEvent(&states[0], code, 0, obj);
    err |= PyMonitoring_FireCallEvent(&states[0], code, 0, obj, obj);
    err |= PyMonitoring_FireLineEvent(&states[0], code, 0, 1);
    err |= PyMonitoring_FireJumpEvent(&states[0], code, 0, obj);
    err |= PyMonitoring_FireBranchEvent(&states[1], code, 0, obj);
    err |= PyMonitoring_FireBranchLeftEvent(&states[2], code, 0, obj);
    err |= PyMonitoring_FireBranchRightEvent(&states[3], code, 0, obj);
    err |= PyMonitoring_FireCReturnEvent(&states[4], code, 0, obj);
    err |= PyMonitoring_FireCRaiseEvent(&states[5], code, 0);
    err |= PyMonitoring_FireCallReturnEvent(&states[4], code, 0, obj, obj);
    err |= PyMonitoring_FireCallRaiseEvent(&states[5], code, 0, obj, obj);
    Py_XDECREF(PyMonitoring_Vectorcall(&states[0], &states[4], &states[5],
                                       code, 0, obj, &obj, 1, NULL));
    err |= PyMonitoring_FirePyThrowEvent(&states[0], code, 0);
    err |= PyMonitoring_FireRaiseEvent(&states[0], code, 0);
    err |= PyMonitoring_FireReraiseEvent(&states[0], code, 0);
    err |= PyMonitoring_FireExceptionHandledEvent(&states[0], code, 0);
    err |= PyMonitoring_FirePyUnwindEvent(&states[0], code, 0);
    err |= PyMonitoring_FireStopIterationEvent(&states[0], code, 0, obj);
    err |= PyMonitoring_SetFrameNamespaces(&states[0], code, obj, obj);
    PyCodeLocation location = {1, 1, 0, 1};
    PyObject *made = PyCode_NewWithLocations(obj, obj, NULL, 1, &location, 1);
    err |= made == NULL || PyMonitoringCompat_SendsEvents();
    err |= PyMonitoring_AddTraceback(made, PyCode_LOCATION_OFFSET(1), 0);
    Py_XDECREF(made);
    return err | PyMonitoring_ExitScope();
}
"""
# How a later 3.12 might lay its tables out: (text of pycore_interp.h, edit).
MOVES = [(field, f"{addition} {field}")
         for field in ("uint64_t monitoring_version;",
                       "_Py_GlobalMonitors monitors;",
                       "PyObject *monitoring_callables",
                       "PyObject *monitoring_tool_names")
         for addition in ("char moved;", "void *moved;", "void *moved[4000];")]
MOVES.append((
    "monitoring_callables[PY_MONITORING_TOOL_IDS][_PY_MONITORING_EVENTS]",
    "monitoring_callables[_PY_MONITORING_EVENTS][PY_MONITORING_TOOL_IDS]"))
# How the header might come to write locations otherwise than a version to come
# reads them, or that might lack an instruction.
REWRITES = [("128 | kind << 3", "128 | (kind == 15 ? 13 : kind) << 3"),
            ("? 10 + delta : 14;", "? 10 : 14;"),
            ("? 10 + delta : 14;", "? 10 + delta : 12;"),
            ("end, column + 1)", "end, column)"),
            ('"NOP"', '"NO_INSTRUCTION"')]
LIMITED = "-DPy_LIMITED_API=0x030C0000"
ABI3 = "_monitoring_abi3.abi3.so"
STANDARDS = (("gcc", ".c", ("c99", "c11", "c17", "c2x")),
             ("g++", ".cpp", ("c++11", "c++14", "c++17", "c++20", "c++2b")))
WARNINGS = ("-Wall", "-Wextra", "-pedantic")


class Interpreter:
    """One CPython, and what the header is on it."""

    def __init__(self, python, facts):
        self.python = python
        self.version = ".".join(map(str, facts["version"]))
        self.minor = "%d.%d" % tuple(facts["version"][:2])
        self.path = facts["path"]
        self.abi = facts["abi"]
        self.suffix = facts["suffix"]
        self.includes = [f"-I{path}" for path in facts["include"]]
        self.headers = facts["headers"]
        self.tests = facts["tests"]
        self.series = False

    @property
    def name(self):
        """Name the interpreter as a column does."""
        return self.version + self.abi + (" series" if self.series else "")


def probe(python):
    """Return the Interpreter, or None if it is not a CPython since 3.12."""
    try:
        done = subprocess.run([python, "-c", PROBE], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL,
                              env=clean_environment())
        facts = json.loads(done.stdout)
    except (OSError, ValueError):
        return None
    if (facts["implementation"] != "cpython"
            or tuple(facts["version"][:2]) < OLDEST):
        return None
    return Interpreter(python, facts)


def candidates(build, environment):
    """Yield what may be an interpreter: on PATH, of pyenv and of the series."""
    for directory in environment.get("PATH", os.defpath).split(os.pathsep):
        for path in sorted(Path(directory or ".").glob("python3*")):
            if re.fullmatch(r"python3(\.\d+)?[dt]*", path.name):
                yield path
    root = environment.get("PYENV_ROOT") or Path.home() / ".pyenv"
    yield from sorted(Path(root).glob("versions/*/bin/python"))
    yield build / "release/python"


def find_interpreters(build, environment):
    """Return the interpreters to test, each once, oldest first."""
    found = {}
    for name in environment.get("PYTHONS", "").split():
        interpreter = probe(name)
        if interpreter is None:
            raise SeriesError(f"PYTHONS names {name}, which is no CPython 3.12 "
                              "or later that runs")
        if not (interpreter.headers and interpreter.tests):
            raise SeriesError(f"PYTHONS names {name}, which has no "
                              + ("test suite (_testcapi and test)"
                                 if interpreter.headers else "Python.h"))
        found.setdefault(interpreter.path, interpreter)
    for python in candidates(build, environment):
        interpreter = probe(python)
        if interpreter is None or interpreter.path in found:
            continue
        if interpreter.headers and interpreter.tests:
            found[interpreter.path] = interpreter
        else:
            say("left out", f"{python}: it has no "
                + ("test suite" if interpreter.headers else "Python.h"))
    return sorted(found.values(), key=lambda one: [
        int(part) for part in one.version.split(".")])


def read_expectations():
    """Return what expectations.json holds: what each promise fails on.

    Where "free-threaded" says so, on builds with a GIL, or without one, alone;
    where "abi3" does, with the limited C-API, or without it, alone.
    Without a row it is no promise, but a test that expects something else.
    """
    return json.loads((COMPAT / "expectations.json").read_text())


def header_table():
    """Return the header's table: {promise: (mark of its footnote, what holds
    on 3.12, what later, what with the limited C-API, the text of all footnotes
    of these)}."""
    _, _, rest = HEADER.read_text().partition("3.13 on   limited\n")
    table, _, rest = rest.partition("\n\n")
    notes, _, _ = rest.partition("\n\n")
    notes = {mark: " ".join(text.split()).rstrip(".") for mark, text in
             re.findall(r"^   (\(\w\)) (.*(?:\n {7}.*)*)", notes, re.M)}
    rows = {}
    # A promise may take two lines.
    for line in re.sub(r"\n     (?=\S)", " ", table).splitlines():
        promise, *cells = re.fullmatch(
            r"   (\S.*?)(?: (\(\w\)))? {2,}(\S+) +(\S+(?: \S+)*) +(\S.*)",
            line).groups()
        marks = re.findall(r"\(\w\)", " ".join(filter(None, cells)))
        rows[promise] = *cells, "; ".join(map(notes.get, marks))
    return rows


def readme_table():
    """Return the README's table: the header's with a column for each version,
    and what expectations.json knows of its promises."""
    lines = [["", *WANTED, "abi3", "the series", "where not, why"],
             ["---"] * 8]
    for row, (_, old, _, limited, note) in header_table().items():
        known = [one for one in read_expectations() if one["row"] == row]

        def failing(promise, abi3):
            return {minor for one in known if one["promise"] == promise
                    and one.get("abi3") in (None, abi3)
                    and not (abi3 and one.get("free-threaded"))
                    for minor in one["fails on"]}

        for promise in {row: None, **{one["promise"]: None for one in known}}:
            mine = [one for one in known if one["promise"] == promise]
            fails = failing(row, False) | failing(promise, False)
            cells = ["no" if minor in fails else "yes" for minor in WANTED]
            holds = [minor for minor in WANTED[1:]
                     if minor not in failing(promise, True)]
            cells.append(limited.split(" (")[0] if promise == row
                         else "yes" if holds == [*WANTED[1:]]
                         else ", ".join(holds) or "no")
            if old == "-" or any(one.get("free-threaded") for one in mine):
                cells[0] = cells[-1] = "-"
            lines.append([promise if promise == row else f"... {promise}",
                          *cells, "yes",
                          "; ".join(dict.fromkeys(one["why"] for one in mine))
                          if known else note])
    table = "".join("| " + " | ".join(line).strip() + " |\n"
                    for line in lines)
    return re.sub(r"\b__\w+__|\bsys\.[\w.]*\w(?:\(\))?", r"`\g<0>`", table)


def announced_failures(interpreter, abi3=False):
    """Return the patterns of the tests and subtests that must fail, which are
    those of the promises that the header's table says no to."""
    version = "the series" if interpreter.series else interpreter.minor
    return [pattern for promise in read_expectations()
            if version in promise["fails on"]
            and promise.get("free-threaded") in (None, "t" in interpreter.abi)
            and promise.get("abi3") in (None, abi3)
            for pattern in promise["tests"]]


def judge(results, announced):
    """Compare results, {test: [failed subtests]}, with what is announced.

    A pattern is "Test", "Test [subtest]" or "* [subtest]".  Return how many
    tests passed, how many failed as announced, and what is unexpected.
    """
    passed = known = 0
    unexpected = []
    met = set()
    for test, failed in results.items():
        names = [test if item is None else f"{test} {item}" for item in failed]
        wrong = []
        for name in dict.fromkeys(names):
            matching = [pattern for pattern in announced
                        if name == pattern or name.startswith(pattern + " ")
                        or (pattern.startswith("* ")
                            and name.endswith(pattern[1:]))]
            met.update(matching)
            if not matching:
                wrong.append(name)
        if wrong:
            unexpected += wrong
        elif names:
            known += 1
        else:
            passed += 1
    for pattern in announced:
        if pattern not in met:
            unexpected.append(f"{pattern} passes, which expectations.json "
                              "says fails")
    return passed, known, unexpected


def build_layer(interpreter, environment, *flags, runs_on=None, abi3=None):
    """Compile the test layer, the header forced in, for a new virtual
    environment of its interpreter or another; return its python."""
    output_of([(runs_on or interpreter).python, "-m", "venv", "--clear",
               "--without-pip", environment], env=clean_environment())
    python = environment / "bin/python"
    packages = Path(output_of(
        [python, "-c", "import sysconfig; "
         "print(sysconfig.get_path('platlib'))"],
        env=clean_environment()).decode().strip())
    header = (HEADER,)
    if abi3 is not None:
        (packages / ABI3).write_bytes((abi3 / ABI3).read_bytes())
        header = LAYER / "abi3.h", "-Wl,--no-as-needed", packages / ABI3
    output_of([*layer_command(interpreter, packages, interpreter.includes,
                              header), *flags])
    overlay = LAYER / "monitoring_overlay.py"
    (packages / overlay.name).write_bytes(overlay.read_bytes())
    (packages / "monitoring_overlay.pth").write_text(
        f"{TESTS}\nimport {overlay.stem}\n")
    return python


def run_api_tests(python, log, **environment):
    """Run the API's tests; return {test: [what failed of it]}.

    After a crash those that are left go on in a new process.
    """
    results_file = log.with_suffix(".jsonl")
    results_file.unlink(missing_ok=True)
    results = {}
    with open(log, "wb") as file:
        while True:
            before = len(results)
            status = subprocess.run(
                [python, LAYER / "run_tests.py", results_file, *results],
                stdout=file,
                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                cwd=log.parent,
                env=clean_environment(**environment)).returncode
            if results_file.exists():
                results.update(map(json.loads,
                                   results_file.read_text().splitlines()))
                results_file.unlink()
            if status == 0:
                return results
            if len(results) == before:
                raise SeriesError(f"the tests of the header do not start, "
                                  f"see {log}")


def check_headers(interpreter, directory):
    """Compile the header in every standard in which Python.h compiles."""
    outcome = Outcome(0, 0, [])
    for compiler, suffix, standards in STANDARDS:
        alone = directory / ("alone" + suffix)
        alone.write_text("#include <Python.h>\n")
        use = directory / ("use" + suffix)
        use.write_text(HEADER_USE)
        limited = () if "t" in interpreter.abi else [(LIMITED,)]
        for standard, flags in itertools.product(standards, [(), *limited]):
            command = [compiler, "-std=" + standard, "-fsyntax-only", *flags,
                       *interpreter.includes, f"-I{COMPAT}"]
            if compile_output([*command, alone])[0]:
                outcome.skipped += 1
                continue
            status, text = compile_output([*command, *WARNINGS, use])
            ours = [line for line in text.splitlines()
                    if re.search(r"(pymonitoring_compat\.h|use\.\w+):\d+:\d+: "
                                 r"(warning|error)", line)]
            if status or ours:
                outcome.failed.append(f"{interpreter.name}, {standard}"
                                      f"{' limited' * len(flags)}: "
                                      + (ours or text.splitlines())[0])
            else:
                outcome.passed += 1
    return outcome


def test_sanitized(interpreter, directory, announced):
    """Run the tests with the header under the address sanitizer.

    It counts as one test for each that ran as announced.
    """
    library = output_of(["gcc", "-print-file-name=libasan.so"]).decode().strip()
    log = directory / "sanitized.log"
    python = build_layer(interpreter, directory / "venv-sanitized",
                         "-fsanitize=address", "-fno-omit-frame-pointer")
    results = run_api_tests(
        python, log, LD_PRELOAD=library, PYTHONMALLOC="malloc",
        # The interpreter itself does not free everything.
        ASAN_OPTIONS="detect_leaks=0")
    # The sanitizer gives no address out again, and malloc counts no blocks.
    left_out = ("test_address_used_again",
                "test_memory_goes_with_the_locations")
    passed, known, unexpected = judge(
        {test: failed for test, failed in results.items()
         if not test.endswith(left_out)},
        [pattern for pattern in announced if not pattern.endswith(left_out)])
    if b"ERROR: AddressSanitizer" in log.read_bytes():
        unexpected.append("the address sanitizer reports an error")
    return Outcome(passed + known, 0, unexpected), log


def measure(interpreter, directory, *flags):
    """Return the instructions of a scope, over the work in it: with states
    that are kept, and with fresh ones."""
    directory.mkdir(exist_ok=True)
    output_of(["gcc", "-std=c11", "-shared", "-fPIC", "-O2",
               *interpreter.includes, *flags, "-o",
               directory / ("_monitoring_cost" + interpreter.suffix),
               LAYER / "cost.c"])

    def count(function, number):
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
             interpreter.python, "-S", "-c",
             # A tool was there once: what each EnterScope() compares has moved.
             "import sys; m = sys.monitoring; m.use_tool_id(3, 'x'); "
             "m.set_events(3, m.events.LINE); m.set_events(3, 0); "
             f"import _monitoring_cost; _monitoring_cost.{function}({number})"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=clean_environment(PYTHONPATH=str(directory),
                                  PYTHONHASHSEED="0"))
        return int(re.search(rb"Collected : (\d+)", done.stdout)[1])

    cost = {function: round((count(function, 11_000) - count(function, 1_000))
                            / 10_000)
            for function in ("bare", "kept", "fresh")}
    return cost["kept"] - cost["bare"], cost["fresh"] - cost["bare"]


def print_costs(interpreters, build):
    """Print what a producer pays on 3.12 and 3.13 while nobody listens."""
    if not shutil.which("valgrind"):
        say("skipped", "the costs: no valgrind")
        return
    directory = build.resolve() / "compat/cost"
    for interpreter in interpreters:
        if interpreter.minor not in ("3.12", "3.13") or interpreter.series:
            continue
        ways = [("with the header", ["-include", HEADER])]
        if interpreter.minor != "3.12":
            ways.append(("without it", []))
        for name, flags in ways:
            kept, fresh = measure(interpreter, directory, *flags)
            say("cost", f"{interpreter.name} {name}: +{kept} instructions a "
                        f"scope, +{fresh} with fresh states")


def test_moved_tables(interpreter, directory):
    """Run a layer whose headers have the tables where they are not.

    Later releases of a version may move them, as these edits of its headers do.
    """
    outcome = Outcome(0, 0, [])
    headers = directory / "moved"
    log = directory / "moved.log"
    log.write_bytes(b"")
    for old, new in MOVES:
        # Idle tables tell nothing where no size is another.
        orders = ("before", "after", "local")[
            :1 if new == "char moved; _Py_GlobalMonitors monitors;" else 3]
        shutil.rmtree(headers, ignore_errors=True)
        shutil.copytree(interpreter.includes[0][len("-I"):], headers)
        path = headers / "internal/pycore_interp.h"
        text = path.read_text()
        if text.count(old) != 1:
            raise SeriesError(f"{path}: {old!r} is there {text.count(old)} "
                              "times, not once")
        path.write_text(text.replace(old, new))
        # What is too long for a table that moved is the compiler's to warn of.
        output_of([*layer_command(interpreter, headers, [f"-I{headers}"]),
                   "-w"])
        for order in orders:
            with open(log, "ab") as file:
                status = subprocess.run(
                    [interpreter.python, LAYER / "moved_tables.py", order],
                    stdout=file, stderr=subprocess.STDOUT,
                    env=clean_environment(PYTHONPATH=str(headers))).returncode
            if status:
                outcome.failed.append(f"{new}, a tool that listens {order}")
            else:
                outcome.passed += 1
    return outcome, log


def write_code_layer(directory):
    """Write the functions that the series adds to _testcapi/code.c."""
    path = ROOT / "Modules/_testcapi/code.c.code-locations.patch"
    functions, _, _ = path.read_text().partition("\n static PyMethodDef")
    (directory / "code_locations.h").write_text("".join(
        line[1:] for line in functions.splitlines(keepends=True)
        if line.startswith("+") and not line.startswith("+++")))


def build_abi3(interpreter, directory):
    """Build the module of the limited C-API, once for all versions."""
    directory.mkdir(exist_ok=True)
    output_of(["gcc", "-std=c11", "-shared", "-fPIC", "-O2", "-g", *WARNINGS,
               LIMITED, *interpreter.includes,
               f"-I{COMPAT}", "-o", directory / ABI3, LAYER / "abi3.c"])


def test_other_locations(interpreter, directory):
    """Run a layer whose header writes locations that are read otherwise."""
    outcome = Outcome(0, 0, [])
    log = directory / "locations.log"
    place = directory / "locations"
    place.mkdir(exist_ok=True)
    header = place / HEADER.name
    with open(log, "wb") as file:
        for old, new in REWRITES:
            text = HEADER.read_text()
            if text.count(old) != 1:
                raise SeriesError(f"{HEADER}: {old!r} is there "
                                  f"{text.count(old)} times, not once")
            header.write_text(text.replace(old, new))
            output_of(layer_command(interpreter, place, interpreter.includes,
                                    [header]))
            status = subprocess.run(
                [interpreter.python, LAYER / "other_locations.py"],
                stdout=file, stderr=subprocess.STDOUT,
                env=clean_environment(PYTHONPATH=str(place))).returncode
            if status:
                outcome.failed.append(f"{interpreter.name}, {new}")
            else:
                outcome.passed += 1
    return outcome, log


def layer_command(interpreter, directory, includes, header=(HEADER,)):
    """Return the command that compiles the layer to a directory."""
    write_code_layer(directory)
    return ["gcc", "-std=c11", "-shared", "-fPIC", "-O2", "-g", "-Wall",
            *includes, f"-I{directory}", f"-I{LAYER}", f"-I{ROOT / 'Modules/_testcapi'}",
            "-include", *header, "-o",
            directory / ("_monitoring_layer" + interpreter.suffix),
            LAYER / "layer.c", LAYER / "other_file.c"]


def compile_output(command):
    """Return the exit status of a compiler and what it said."""
    done = subprocess.run(command, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT,
                          env=clean_environment(LC_ALL="C"))
    return done.returncode, done.stdout.decode(errors="replace")


def has_series(python):
    """Say whether the header leaves the interpreter's API alone."""
    return output_of([python, "-c", "import _testcapi; "
                      "print(_testcapi.HEADER_ADDS)"],
                     env=clean_environment()).strip() == b"0"


def test_interpreter(tally, interpreter, build, sample, packages):
    """Test the header on one interpreter; return a line of its column."""
    directory = (build.resolve() / "compat"
                 / interpreter.path.strip("/").replace("/", "-"))
    directory.mkdir(parents=True, exist_ok=True)
    python = build_layer(interpreter, directory / "venv")
    interpreter.series = has_series(python)
    log = directory / "tests.log"
    results = run_api_tests(python, log)
    announced = announced_failures(interpreter)
    passed, known, unexpected = judge(results, announced)
    tally.add(f"api {interpreter.name}",
              Outcome(passed + known, 0, unexpected), log)
    tally.run(f"clients-{interpreter.name.replace(' ', '-')}",
              [python, "-m", "unittest", "-v", LAYER / "test_clients.py"],
              read_unittest)
    tally.add(f"header {interpreter.name}",
              check_headers(interpreter, directory), log)
    if packages is not None:
        tally.add(f"coverage {interpreter.name}", compat_coverage.test_coverage(
            python, packages, directory, interpreter.name), log)
    test_tinybasic(tally, interpreter, directory)
    if not interpreter.series:
        outcome, log = test_other_locations(interpreter, directory)
        tally.add(f"other locations {interpreter.name}", outcome, log)
    if interpreter.minor == "3.12":
        outcome, log = test_moved_tables(interpreter, directory)
        tally.add(f"moved tables {interpreter.name}", outcome, log)
        outcome, log = test_sanitized(interpreter, directory, announced)
        tally.add(f"sanitized {interpreter.name}", outcome, log)
    if sample is not None:
        tally.add(f"cython {interpreter.name}", compat_cython.test_cython(
            interpreter, sample, directory, HEADER,
            json.loads((LAYER / "cython/expected.json").read_text())), log)
    return results


def test_tinybasic(tally, interpreter, directory):
    """Build the example with the header, and run what needs no frames."""
    place = directory / "tinybasic"
    shutil.copytree(EXAMPLE, place, dirs_exist_ok=True)
    output_of(["gcc", "-std=c11", "-shared", "-fPIC", "-O2", "-Wall",
               "-Werror", *interpreter.includes, "-include", HEADER, "-o",
               place / ("tinybasic" + interpreter.suffix),
               place / "tinybasic.c"])
    # unittest finds the module where it is started.
    names = EXAMPLE_TESTS
    if interpreter.series or "t" not in interpreter.abi:
        names += RETURN_TESTS
        if interpreter.minor in WANTED[:2]:
            names += BRANCH_TESTS
    script = f"import os; os.chdir({str(place)!r}); import unittest; " \
        "unittest.main('test_tinybasic')"
    tally.run(f"tinybasic-{interpreter.name.replace(' ', '-')}",
              [interpreter.python, "-c", script, "-v",
               *(argument for name in names for argument in ("-k", name))],
              read_unittest,
              PYTHONPATH=str(place))


def test_abi3(tally, interpreter, abi3, build):
    """Run a layer over the module of the limited C-API."""
    directory = build.resolve() / "compat/abi3" / interpreter.name.replace(
        " ", "-")
    directory.mkdir(parents=True, exist_ok=True)
    python = build_layer(interpreter, directory / "venv", abi3=abi3)
    tally.run(f"abi3-clients-{interpreter.name.replace(' ', '-')}",
              [python, "-m", "unittest", "-v", LAYER / "test_abi3.py"],
              read_unittest)
    log = directory / "tests.log"
    results = run_api_tests(python, log)
    passed, known, unexpected = judge(results, [
        pattern for pattern in announced_failures(interpreter, True)
        # Some are left out.
        if pattern.startswith("*") or pattern.split(" ")[0] in results])
    tally.add(f"abi3 {interpreter.name}",
              Outcome(passed + known, 0, unexpected), log)


def stock_and_series(interpreters):
    """Return a stock interpreter and one of its version with the series, or
    None if not both are here."""
    return next(((stock, series)
                 for series in interpreters if series.series
                 for stock in interpreters if not stock.series
                 and (series.minor, series.abi) == (stock.minor, stock.abi)),
                None)


def test_exchanged(tally, stock, series, build):
    """Run a layer that was built for one on the other.

    With the series it must use the interpreter's own API; without, it must
    load, and find missing what is new.
    """
    directory = build.resolve() / "compat/exchanged"
    directory.mkdir(exist_ok=True)
    log = directory / "tests.log"
    python = build_layer(stock, directory / "venv-series", runs_on=series)
    passed, _, unexpected = judge(run_api_tests(python, log), [])
    tally.add("built for stock, on the series", Outcome(passed, 0, unexpected),
              log)
    python = build_layer(series, directory / "venv-stock", runs_on=stock)
    tally.run("built-for-the-series-on-stock",
              [python, "-m", "unittest", "-v", "-k", "TestAnywhere",
               LAYER / "test_clients.py"], read_unittest)


def column(results, group):
    """Return what a cell says of the tests of one class."""
    mine = [failed for test, failed in results.items()
            if test.split(".")[0] == group]
    failed = sum(map(bool, mine))
    return f"{len(mine) - failed}" + (f" -{failed}" if failed else "")


def print_table(columns):
    """Print the tests of each class, one column for each (name, results)."""
    groups = dict.fromkeys(test.split(".")[0] for _, results in columns
                           for test in results)
    width = max(map(len, groups))
    print()
    print("tests that pass, and after the minus those that fail as announced")
    print(" " * width, *(f"{name:>12}" for name, _ in columns))
    for group in groups:
        print(f"{group:<{width}}",
              *(f"{column(results, group):>{max(12, len(name))}}"
                for name, results in columns))
    print()


def test_compat(build):
    """Test the header on all interpreters; return the exit status."""
    interpreters = find_interpreters(build, os.environ)
    if not interpreters:
        raise SeriesError("there is no CPython 3.12 or later here with its "
                          "headers and test suite: PYTHONS='python3.N ...' "
                          "names some")
    missing = [minor for minor in WANTED
               if minor not in {one.minor for one in interpreters}]
    tally = Tally(build)
    columns = []
    pythons = [interpreter.python for interpreter in interpreters]
    sample = compat_cython.translate(build, LAYER / "cython/sample.pyx",
                                     pythons)
    packages = compat_coverage.install(build, pythons)
    for interpreter in interpreters:
        say("testing", f"{interpreter.version}{interpreter.abi}, "
                       f"{interpreter.path}")
        results = test_interpreter(tally, interpreter, build, sample,
                                   packages)
        columns.append((interpreter.name, results))
    gil = [one for one in interpreters if "t" not in one.abi]
    if gil:
        abi3 = build.resolve() / "compat/abi3"
        build_abi3(gil[0], abi3)
        for interpreter in gil:
            test_abi3(tally, interpreter, abi3, build)
    exchange = stock_and_series(interpreters)
    if exchange is not None:
        test_exchanged(tally, *exchange, build)
    print_costs(interpreters, build)
    print_table(columns)
    if missing:
        say("not found", "CPython " + ", ".join(missing)
            + " (PYTHONS='python3.N ...' names more)")
    return tally.finish()
