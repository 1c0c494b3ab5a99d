"""The monitoring tests under the address and undefined-behaviour sanitizers."""

import shutil

import builder
import testing

CONFIGURATION = ("--with-pydebug", "--with-address-sanitizer",
                 "--with-undefined-behavior-sanitizer")
# CPython leaves memory behind at exit, and asks for more than there is.
ASAN_OPTIONS = "detect_leaks=0:allocator_may_return_null=1"


def test(build):
    """Build, run the tests and return the exit status.

    Reports of bad addresses go to files, where those of subprocesses are
    found too. Beside that sanitizer GCC's other one heeds no log_path, so it
    aborts the process. Without its debug hooks the allocator leaves the room
    around each block to the sanitizer.
    """
    python = builder.build_python(build, "asan", *CONFIGURATION,
                                  ASAN_OPTIONS=ASAN_OPTIONS)
    reports = (build / "asan-reports").resolve()
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir(parents=True)
    tally = testing.Tally(build)
    for module in ("test_monitoring", *testing.our_tests(build / "src")):
        tally.regrtest(
            f"asan-{module}", python, module, PYTHONMALLOC="malloc",
            ASAN_OPTIONS=f"{ASAN_OPTIONS}:log_path={reports}/address",
            UBSAN_OPTIONS="halt_on_error=1:abort_on_error=1")
    tally.no_reports(reports)
    return tally.finish()
