"""Running the API's tests on the stock interpreter and on ours.

Both load one binary of the test layer, compiled against stock's headers as the
extensions are that exist: what differs is the interpreter alone.  Each test
has a process of its own, so that a crash is a result.
"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
import os
import re
import resource
import shutil
import signal
import subprocess

from series import builder, testing
from series.common import SeriesError, clean_environment, output_of, print_tail
from series.readme import Table

LAYER = "Modules/_testcapi"
# One tests a header, the others find a difference of stock in their first steps.
LEFT_OUT = ("test_capi.test_monitoring_header",
            "test_capi.test_monitoring_model",
            "test_capi.test_monitoring_frames_model")
# A binary of our headers on stock: what is new there is missing, or the bare
# call.
USE_LAYER = """
import sys, _monitoring_layer as layer
M = sys.monitoring
CALL, calls = 4, []
M.use_tool_id(3, "test")
for event in (M.events.CALL, M.events.C_RETURN, M.events.C_RAISE):
    M.register_callback(3, event, lambda code, *args:
                        calls.append(args) if code is codelike else None)
codelike = layer.CodeLike(3)
M.set_events(3, M.events.CALL)
layer.monitoring_enter_scope(codelike, CALL, CALL, CALL)
layer.fire_event_call(codelike, 0, len, "x")
layer.fire_event_call_return(codelike, 0, len, "x")
layer.fire_event_call_raise(codelike, 0, len, "x", KeyError())
assert layer.monitoring_vectorcall(codelike, 0, len, "abc") == 3
layer.monitoring_exit_scope()
M.set_events(3, 0)
assert calls == [(0, len, "x")], calls
"""
# In a .pth file it reaches subprocesses and subinterpreters too.
OVERLAY = ("import _testcapi, _monitoring_layer; vars(_testcapi).update("
           "(name, value) for name, value in vars(_monitoring_layer).items() "
           "if name[0] != '_')")
LIST_TESTS = """
import sys, unittest, _testcapi, _monitoring_layer
assert _testcapi.CodeLike is _monitoring_layer.CodeLike
def names(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from names(test)
        else:
            yield test.id()
print(*names(unittest.defaultTestLoader.loadTestsFromNames(sys.argv[1:])))
"""
TIMEOUT = 120
COLUMNS = ("stock", "ours")
OUR_BINARY = "our-binary-on-stock"
TABLE = Table("compare", "prove/README.md")
SUMMARY = Table("compare", "README.md", "summary")


def compare(series, base, build):
    """Print and write the comparison; fail if ours fails or the table in its
    page is old."""
    stock = builder.build_stock(base, build)
    ours = builder.build_python(build, "release")
    place = build / "compare"
    shutil.rmtree(place, ignore_errors=True)
    layer = build_layer(build, build / "stock-src", stock, place / "layer")
    pythons = {name: environment(place / name, python, layer, build)
               for name, python in zip(COLUMNS, (stock, ours))}
    modules = [module for module in testing.our_tests(build / "src")
               if module not in LEFT_OUT]
    # Some modules cannot be imported on stock: each of their tests fails there.
    find_tests(pythons["stock"], [])
    tests = find_tests(pythons["ours"], modules)
    results = measure(tests, pythons, place)
    titles = f"stock {series.version}", "with the series"
    fragment = markdown(results, titles)
    TABLE.keep(build, fragment)
    SUMMARY.keep(build, summary(results, titles))
    check_ours(results, place)
    check_our_binary(build, stock, ours, {
        name: tests[name] for name, cells in results if cells[0] == "ok"},
        place)
    check_page(series, series.root / TABLE.page, fragment)
    print(f"{len(results)} tests: " + "; ".join(
        f"{column} {counted(results, i)}"
        for i, column in enumerate(COLUMNS)), flush=True)


def build_layer(build, source, python, place):
    """Compile the test layer against the headers of an interpreter and its
    source, as extensions are, in the compiler's own mode of C; return its
    folder."""
    place.mkdir(parents=True)
    builder.compile_module(
        place / "_monitoring_layer.so", python, source,
        f"-I{build / 'src' / LAYER}",
        os.path.join(os.path.dirname(__file__), "layer.c"))
    return place


def check_our_binary(build, stock, ours, tests, place):
    """Fail unless a binary of our headers runs on stock, where all these tests
    pass with one of stock's."""
    layer = build_layer(build, build / "src", ours, place / "our-layer")
    python = environment(place / OUR_BINARY, stock, layer, build)
    output_of([python, "-c", USE_LAYER], env=clean_environment())
    bad = [name for name, (result,)
           in measure(tests, {OUR_BINARY: python}, place) if result != "ok"]
    if bad:
        raise SeriesError(f"a binary of our headers fails {len(bad)} tests on "
                          f"stock that pass with one of stock's, the first is "
                          f"{bad[0]} ({log_file(place, OUR_BINARY, bad[0])})")


def environment(place, python, layer, build):
    """Make a virtual environment that has the layer; return its python."""
    output_of([python, "-m", "venv", "--without-pip", place],
              env=clean_environment())
    packages, = place.glob("lib/python*/site-packages")
    # Where test_capi is: that of the series, whatever the interpreter has.
    tests = build / "src/Lib/test"
    (packages / "layer.pth").write_text(
        f"{layer.resolve()}\n{tests.resolve()}\n{OVERLAY}\n")
    return place / "bin/python"


def find_tests(python, modules):
    """Return {Class.test: its whole name}, having checked that the layer is
    in place."""
    names = output_of([python, "-c", LIST_TESTS, *modules],
                      env=clean_environment()).decode().split()
    return {".".join(name.split(".")[-2:]): name for name in names}


def measure(tests, pythons, place):
    """Run each of {name: test} on each of {column: python}; return
    [(name, [result, ...])]."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for column in pythons:
        (place / f"{column}-logs").mkdir()
    measured = []
    test_class = None
    with ThreadPoolExecutor(os.cpu_count() or 1) as executor:
        running = [(name, [executor.submit(run_test, python, test,
                                           log_file(place, column, name))
                           for column, python in pythons.items()])
                   for name, test in tests.items()]
        for name, futures in running:
            results = [future.result() for future in futures]
            measured.append((name, results))
            if name.split(".")[0] != test_class:
                test_class = name.split(".")[0]
                print(row(test_class, pythons))
            print(row("  " + name.split(".")[1], results), flush=True)
    return measured


def log_file(place, column, name):
    """Return the log of one test on one interpreter."""
    return place / f"{column}-logs" / f"{name}.log"


def row(name, cells):
    """Return one printed line of the table."""
    return f"{name:<60}" + "".join(f"{cell:<16}" for cell in cells).rstrip()


def run_test(python, name, log, timeout=TIMEOUT):
    """Run one test in a process of its own and say what became of it."""
    with open(log, "wb") as file:
        process = subprocess.Popen(
            [python, "-m", "unittest", name], stdout=file,
            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env=clean_environment(), start_new_session=True)
    try:
        status = process.wait(timeout)
    except subprocess.TimeoutExpired:
        return "timeout"
    finally:
        # What the test started must not go on in the time of the others.
        kill_group(process.pid)
        process.wait()
    return outcome(status, log.read_text(errors="replace"))


def kill_group(group):
    """Kill what is left of a process group."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


def outcome(status, text):
    """Return one word for an exit status and what unittest printed."""
    if status < 0:
        return f"crash ({signal.Signals(-status).name})"
    if status > 0:
        return "FAILED"
    return "skipped" if re.search(r"^OK \(skipped=", text, re.M) else "ok"


def counted(results, column):
    """Say how many tests ended how in one column, 'ok' first."""
    counts = Counter(cells[column].split()[0] for _, cells in results)
    words = sorted(counts, key=lambda word: (word != "ok", word))
    return ", ".join(f"{counts[word]} {word}" for word in words)


def markdown(results, titles):
    """Return the table as its page shows it."""
    lines = [f"| | {' | '.join(titles)} |", "|---|---|---|"]
    test_class = None
    for name, cells in results:
        if name.split(".")[0] != test_class:
            test_class = name.split(".")[0]
            lines.append(f"| **{test_class}** | | |")
        lines.append(f"| {name.split('.')[1]} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def summary(results, titles):
    """Return how many tests ended how, as the README shows it."""
    lines = [f"| {len(results)} tests | |", "|---|---|"]
    lines += [f"| {title} | {counted(results, i)} |"
              for i, title in enumerate(titles)]
    return "\n".join([*lines, ""])


def check_ours(results, place):
    """Fail if a test fails on ours."""
    bad = [name for name, cells in results
           if cells[-1] not in ("ok", "skipped")]
    if bad:
        log = log_file(place, COLUMNS[-1], bad[0])
        print_tail(log)
        raise SeriesError(f"ours fails {len(bad)} of {len(results)} tests, "
                          f"the first is {bad[0]} ({log})")


def check_page(series, page, fragment):
    """Fail if the page, which is on the first base, shows another table."""
    if series.is_first and (table_rows(TABLE.split(page)[1])
                            != table_rows(fragment)):
        raise SeriesError(f"{TABLE.page}: its table is not what was "
                          f"measured, make compare-readme puts it in")


def table_rows(fragment):
    """Return the rows of a table with every way to fail alike.

    What lies behind the end of an array decides how stock fails.
    """
    return [re.sub(r"crash \(\w+\)|timeout", "FAILED", line)
            for line in fragment.splitlines() if line.startswith("|")]
