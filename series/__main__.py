"""Build, test and export the series: python3 -m series COMMAND.

The Makefile lists what there is to do; each target is one command here.
"""

import sys

if sys.version_info < (3, 9):
    sys.exit("the series needs Python 3.9 or later: apt-get install python3")

import fcntl
from functools import partial
import os
from pathlib import Path

from bench import bench
from compat import compat
from prove import asan, clients, compare, faults, full
from series import builder, checks, docs, export, testing, tree
from series.base import find_base
from series.common import SeriesError, say
from series.manifest import Series

ROOT = Path(__file__).resolve().parent.parent


def prepare():
    """Bring build/src up to date and return the series, its base and build/.

    Everything is checked before anything but the lock is written.
    """
    build = Path(os.path.relpath(ROOT / "build"))
    lock(build)
    series = Series(ROOT)
    base = find_base(series, build, os.environ.get("CPYTHON"))
    changed = tree.patched_files(series, base)
    tree.write_tree(base, changed, build / "src")
    return series, base, build


def lock(build):
    """Keep build/ to this process until it ends: the file is not closed."""
    build.mkdir(exist_ok=True)
    file = os.open(build / ".lock", os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("waiting", f"another command is using {build}")
        fcntl.flock(file, fcntl.LOCK_EX)


def run():
    """Build the release interpreter and run the example's report."""
    builder.check_prerequisites()
    build = prepare()[-1]
    builder.run_report(build, builder.build_python(build, "release"))


def test():
    """Run every test on the debug interpreter."""
    builder.check_prerequisites("g++")
    sys.exit(testing.test_all(prepare()[-1]))


def compare_with_stock():
    """Run the API's tests on the stock interpreter and on ours."""
    builder.check_prerequisites()
    compare.compare(*prepare())


def write_readme(table):
    """Put a table that was measured before into the README."""
    table.write(ROOT, Path(os.path.relpath(ROOT / "build")))


def write_compat_readme():
    """Put the table of what the header keeps where into its README."""
    compat.README.put(ROOT, compat.readme_table())
    say("table", compat.README.page)


def test_asan():
    """Run the monitoring tests under the sanitizers."""
    builder.check_prerequisites()
    sys.exit(asan.test(prepare()[-1]))


def test_full(*modules):
    """Run CPython's test suite, or some modules of it, on stock and ours."""
    builder.check_prerequisites()
    full.test(*prepare(), modules)
def test_freethreaded():
    """Run the interpreter's tests on the build without a GIL."""
    builder.check_prerequisites("g++")
    sys.exit(testing.test_freethreaded(prepare()[-1]))


def test_tsan():
    """Look for data races."""
    builder.check_prerequisites("g++")
    builder.check_sanitizer("thread")
    sys.exit(testing.test_tsan(prepare()[-1]))


def export_patches():
    """Write the patches for git am."""
    builder.check_prerequisites("git")
    export.export(*prepare())


def check_quick():
    """Check all but the prefixes of the series."""
    builder.check_prerequisites("git")
    checks.check_quick(*prepare())


def check():
    """Check everything."""
    builder.check_prerequisites("git", "g++")
    prepared = prepare()
    checks.check_quick(*prepared)
    checks.check_prefixes(*prepared)


def seed_faults():
    """Have the model test find faults in copies of the release build."""
    builder.check_prerequisites()
    build = prepare()[-1]
    builder.build_python(build, "release")
    sys.exit(1 if faults.seed_faults(build) else 0)
def test_compat():
    """Test the header for unpatched interpreters on those that are here."""
    builder.check_prerequisites("g++")
    build = Path(os.path.relpath(ROOT / "build"))
    lock(build)
    sys.exit(compat.test_compat(build))


def build_docs():
    """Build the pages of the series."""
    docs.build_docs(*prepare())


def measure():
    """Measure what the API costs, beside stock."""
    builder.check_prerequisites("valgrind")
    bench.measure(*prepare())


def measure_quick():
    """Check the goals that counting on the patched interpreter decides."""
    builder.check_prerequisites("valgrind")
    bench.measure_quick(prepare()[-1])
def check_clients():
    """Run real tools over a producer, on the release interpreter."""
    builder.check_prerequisites()
    build = prepare()[-1]
    clients.check_clients(build, builder.build_python(build, "release"))


def install(prefix, destination):
    """Install the patched interpreter."""
    if not os.path.isabs(prefix):
        raise SeriesError("make install needs prefix=DIRECTORY, an absolute "
                          "path")
    if destination:
        destination = os.path.abspath(destination)
    builder.check_prerequisites()
    series, _, build = prepare()
    builder.install(build, os.path.normpath(prefix), destination,
                    series.base["version"])


COMMANDS = {
    "run": run,
    "test": test,
    "compare": compare_with_stock,
    "compare-readme": partial(write_readme, compare.README),
    "asan": test_asan,
    "test-full": test_full,
    "test-freethreaded": test_freethreaded,
    "tsan": test_tsan,
    "export": export_patches,
    "check-quick": check_quick,
    "check": check,
    "faults": seed_faults,
    "compat": test_compat,
    "compat-readme": write_compat_readme,
    "docs": build_docs,
    "bench": measure,
    "bench-quick": measure_quick,
    "bench-readme": partial(write_readme, bench.README),
    "clients": check_clients,
    "install": install,
}


def main(command=None, *arguments):
    """Run one command and return the exit status."""
    if command not in COMMANDS:
        print("the series needs one of the commands", ", ".join(COMMANDS),
              file=sys.stderr)
        return 2
    try:
        COMMANDS[command](*arguments)
    except (SeriesError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
