"""The monitoring tests under GCC's sanitizers."""

from functools import partial
import os
from pathlib import Path
import shutil
import tempfile

from series import builder
from series.common import output_of
from series.testing import Tally, our_tests

# CPython leaves memory behind at exit, and asks for more than there is.
ASAN_OPTIONS = "detect_leaks=0:allocator_may_return_null=1"
# In the tree of CPython, what it suppresses itself; beside this file, what the
# tests of the series need besides.
TSAN_BASE = "Tools/tsan/suppressions_free_threading.txt"
TSAN_OURS = Path(__file__).with_name("tsan_suppressions.txt")


def check(name):
    """Fail unless gcc builds programs that run with the sanitizer."""
    with tempfile.TemporaryDirectory() as place:
        program = os.path.join(place, "program")
        output_of(["gcc", f"-fsanitize={name}", "-xc", "-", "-o", program],
                  input=b"int main(void) { return 0; }")
        output_of([program])


def test_addresses(build):
    """Look for bad addresses and undefined behaviour; return the exit status.

    Reports of bad addresses go to files, where those of subprocesses are
    found too. Beside that sanitizer GCC's other one heeds no log_path, so it
    aborts the process. Without its debug hooks the allocator leaves the room
    around each block to the sanitizer.
    """
    python = builder.build_python(
        build, "asan", "--with-pydebug", "--with-address-sanitizer",
        "--with-undefined-behavior-sanitizer", ASAN_OPTIONS=ASAN_OPTIONS)
    reports = (build / "asan-reports").resolve()
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir(parents=True)
    tally = Tally(build)
    tally.at_once(
        partial(tally.regrtest, f"asan-{module}", python, module,
                PYTHONMALLOC="malloc",
                ASAN_OPTIONS=f"{ASAN_OPTIONS}:log_path={reports}/address",
                UBSAN_OPTIONS="halt_on_error=1:abort_on_error=1")
        for module in ("test_monitoring", *our_tests(build / "src")))
    tally.no_reports(reports)
    return tally.finish()


def test_threads(build):
    """Look for data races; return the exit status.

    What is reported goes to the log, and makes the process that it is in fail.
    """
    python = builder.build_python(build, "tsan", "--disable-gil",
                                  "--with-pydebug", "--with-thread-sanitizer")
    suppressions = (python.parent / "suppressions.txt").resolve()
    suppressions.write_text((build / "src" / TSAN_BASE).read_text()
                            + TSAN_OURS.read_text())
    tally = Tally(build)
    tally.at_once(
        partial(tally.unittest, f"tsan-{module}", python, f"test.{module}",
                TSAN_OPTIONS=f"history_size=7:suppressions={suppressions}")
        for module in ("test_monitoring", *our_tests(build / "src")))
    return tally.finish()
