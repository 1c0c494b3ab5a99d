"""The interpreters that are measured, each with the extension that runs on it.
"""

from pathlib import Path

from bench import operations
from bench.operations import FRESH, IDLE
from series import builder
from series.common import output_of

FOLDER = Path(__file__).resolve().parent
STOCK, BINARY, OURS, NO_GIL = "stock", "same binary", "ours", "no GIL"
# Assertions would be timed in build/freethreaded, a debug build.
FREETHREADED = "freethreaded-release"


class Column:
    """An interpreter with the extension that runs on it.

    Each share is the names of operations that are counted in one process.
    """

    def __init__(self, name, build, interpreter, header, kind, *shares):
        self.name = name
        self.shares = shares
        self.python = (build / interpreter / "python").resolve()
        self.folder = (build / "bench" / header).resolve()
        self.kind = kind

    def command(self, *arguments):
        """Return the command line that runs worker.py."""
        return [self.python, "-E", "-s", "-S", FOLDER / "worker.py",
                self.folder, self.kind, *arguments]


def stock_columns(base, build):
    """Build stock and the extension for it, which runs on ours too."""
    builder.build_stock(base, build)
    compile_loops(build, "stock", "stock-src")
    common = names_of(lambda operation: operation.stock)
    return {
        STOCK: Column(STOCK, build, "stock", "stock", "stock", common),
        BINARY: Column(BINARY, build, "release", "stock", "ours", common),
    }


def our_column(build):
    """Build the patched interpreter and the extension for it."""
    builder.build_python(build, "release")
    compile_loops(build, "release", "src")
    return Column(OURS, build, "release", "release", "ours",
                  names_of(lambda operation: operation.layouts > 1),
                  names_of(lambda operation: operation.layouts == 1))


def column_without_gil(build):
    """Build the free-threaded interpreter and the extension for it."""
    builder.build_python(build, FREETHREADED, "--disable-gil")
    compile_loops(build, FREETHREADED, "src")
    return Column(NO_GIL, build, FREETHREADED, FREETHREADED, "ours",
                  (IDLE, FRESH))


def names_of(condition):
    """Return the names of the operations for which a condition holds."""
    return [operation.name for operation in operations.all_operations()
            if condition(operation)]


def compile_loops(build, interpreter, source):
    """Compile loops.c against the headers of one interpreter."""
    folder = build / "bench" / interpreter
    folder.mkdir(parents=True, exist_ok=True)
    output_of(["gcc", "-std=c11", "-Werror=implicit-function-declaration",
               "-shared", "-fPIC", "-O2", "-DNDEBUG",
               "-fwrapv", f"-I{build / source / 'Include'}",
               f"-I{build / interpreter}", "-o", folder / "loops.so",
               FOLDER / "loops.c"])
