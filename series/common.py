"""What every module of the tool uses: its error, digests, processes."""

import hashlib
import os
import subprocess
import sys


class SeriesError(Exception):
    """A failure that a user sees as one sentence, and an exit status."""

    status = 1


def sha256(data):
    """Return the SHA-256 of bytes as hexadecimal text."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path):
    """Return the SHA-256 of a file as hexadecimal text."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def say(stage, text):
    """Print the line of one finished or starting stage."""
    print(f"{stage:<10} {text}", flush=True)


def clean_environment(**extra):
    """Return the environment for CPython's own make and interpreters.

    The variables of an outer make would reach the inner one as command-line
    settings, and PYTHON* variables would reach the interpreter under test.
    """
    dropped = ("MAKEFLAGS", "MFLAGS", "GNUMAKEFLAGS", "MAKELEVEL",
               "MAKEOVERRIDES", "CPYTHON", "BASE")
    environment = {
        name: value for name, value in os.environ.items()
        if name not in dropped and not name.startswith("PYTHON")
    }
    environment.update(extra)
    return environment


def output_of(command, **options):
    """Return what a command prints, or raise SeriesError if it fails."""
    result = subprocess.run(command, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, **options)
    if result.returncode:
        message = (result.stderr or result.stdout).decode(errors="replace")
        raise SeriesError(f"{' '.join(map(str, command[:3]))} failed: "
                          f"{message.strip()}")
    return result.stdout


def status_of(command, log, **environment):
    """Run a command with its output in a log; return its exit status."""
    with open(log, "wb") as file:
        return subprocess.run(command, stdout=file, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL,
                              env=clean_environment(**environment)).returncode


def print_tail(log, count=45):
    """Print the last lines of a log on standard error."""
    lines = log.read_text(errors="replace").splitlines()[-count:]
    print("\n".join(lines), file=sys.stderr)
