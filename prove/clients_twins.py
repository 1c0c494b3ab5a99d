"""A module of Cython and one of Python, made of the same source."""

from pathlib import Path
import shutil
import subprocess

from series.common import SeriesError, clean_environment, print_tail

CYTHON = "cython==3.3.1"
# It compiles what Cython writes.
SETUPTOOLS = "setuptools==84.2.1"
SOURCE = Path(__file__).with_name("clients_shapes.pyx")
PROGRAM = Path(__file__).with_name("clients_around.py")
# As Cython's documentation has them.
CFLAGS = "-DCYTHON_TRACE=1 -DCYTHON_USE_SYS_MONITORING=1"


class Twin:
    """A folder with the module and the program around it.

    All that is run runs there: Cython names its files relative to where it
    ran.
    """

    def __init__(self, folder, suffix, tool):
        self.folder = folder
        self.module = folder / SOURCE.with_suffix(suffix).name
        self.program = folder / PROGRAM.name
        self.tool = tool
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        shutil.copy(SOURCE, self.module)
        shutil.copy(PROGRAM, folder)


def run_in(folder, command, log, commands="", **environment):
    """Run a command in a folder, with its output in a log; return its exit
    status."""
    with open(log, "wb") as file:
        return subprocess.run(
            command, cwd=folder, input=commands.encode(), stdout=file,
            stderr=subprocess.STDOUT,
            env=clean_environment(**environment)).returncode


def build_twins(build, tool):
    """Return the twins of Cython and of Python."""
    build = build.resolve()
    cython = Twin(build / "clients-cython", ".pyx", tool)
    log = build / "clients-cython.log"
    if run_in(cython.folder, [tool.with_name("cythonize"), "-i",
                              cython.module.name], log, CFLAGS=CFLAGS):
        print_tail(log)
        raise SeriesError(f"{CYTHON} failed, the log is {log}")
    return cython, Twin(build / "clients-python", ".py", tool)


def line_of(text):
    """Return the number of the only line of the module that is the text."""
    lines = [line.strip() for line in SOURCE.read_text().splitlines()]
    if lines.count(text) != 1:
        raise SeriesError(f"{SOURCE} is to have one line {text!r}")
    return lines.index(text) + 1
