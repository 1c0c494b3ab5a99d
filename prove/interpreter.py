"""The tests of the tool, of the interpreter and of the example."""

import sys

from series import builder
from series.testing import Tally, our_tests, test_interpreter


def test(series, build):
    """Run every test on the debug interpreter; return the exit status."""
    python = builder.build_python(build, "debug", "--with-pydebug")
    tally = Tally(build)
    tally.unittest("series", sys.executable, "discover", "-s", series.root,
                   BASE=series.version)
    test_example(tally, python, "example", build)
    test_interpreter(tally, python, "debug", build / "src")
    tally.leak_tests(python, ("test_monitoring", *our_tests(build / "src")))
    return tally.finish()


def test_freethreaded(build):
    """Run the interpreter's tests without a GIL; return the exit status."""
    python = builder.build_python(build, "freethreaded", "--disable-gil",
                                  "--with-pydebug")
    tally = Tally(build)
    test_example(tally, python, "example-freethreaded", build)
    test_interpreter(tally, python, "freethreaded", build / "src")
    return tally.finish()


def test_example(tally, python, name, build):
    """Run the tests of the example."""
    example = builder.build_example(build, python).resolve()
    tally.unittest(name, python, "discover",
                   "-s", build / "src" / builder.EXAMPLE,
                   PYTHONPATH=str(example))
