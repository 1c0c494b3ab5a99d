"""The commands that prove the series."""

from prove import compare, full, interpreter, sanitizers, seeding
from prove.clients import table
from series import builder
from series.workspace import ROOT, build_folder, prepare


def test():
    """Run every test on the debug interpreter."""
    builder.check_prerequisites("g++")
    series, _, build = prepare()
    return interpreter.test(series, build)


def test_freethreaded():
    """Run the interpreter's tests without a GIL."""
    builder.check_prerequisites("g++")
    return interpreter.test_freethreaded(prepare()[-1])


def test_full(*modules):
    """Run all of CPython's tests on stock and on ours."""
    builder.check_prerequisites()
    full.test(*prepare(), modules)


def compare_with_stock():
    """Run the API's tests on stock CPython and on ours."""
    builder.check_prerequisites()
    compare.compare(*prepare())


def write_readme():
    """Put the table of make compare into prove/README.md and README.md."""
    compare.TABLE.write(ROOT, build_folder())
    compare.SUMMARY.write(ROOT, build_folder())


def seed_faults():
    """Check that the tests find seeded faults."""
    builder.check_prerequisites()
    build = prepare()[-1]
    builder.build_python(build, "release")
    return 1 if seeding.seed_faults(build) else 0


def test_addresses():
    """Run the monitoring tests under the address sanitizer and UBSan."""
    builder.check_prerequisites()
    return sanitizers.test_addresses(prepare()[-1])


def test_threads():
    """Run the monitoring tests under ThreadSanitizer."""
    builder.check_prerequisites("g++")
    sanitizers.check("thread")
    return sanitizers.test_threads(prepare()[-1])


def check_clients():
    """Look at what tools see of code that is not bytecode."""
    builder.check_prerequisites()
    series, base, build = prepare()
    table.check_clients(series, build, builder.build_stock(base, build),
                        builder.build_python(build, "release"))


def write_clients():
    """Put the tables of make clients into their pages."""
    table.TABLE.write(ROOT, build_folder())
    table.SHORT.write(ROOT, build_folder())


COMMANDS = {
    "test": test,
    "test-freethreaded": test_freethreaded,
    "test-full": test_full,
    "compare": compare_with_stock,
    "compare-readme": write_readme,
    "faults": seed_faults,
    "asan": test_addresses,
    "tsan": test_threads,
    "clients": check_clients,
    "clients-readme": write_clients,
}
