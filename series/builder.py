"""Configuring, building and running the patched interpreter."""

import json
import os
import re
import shutil
import subprocess
import sys
import time

from series import tree
from series.common import (SeriesError, clean_environment, output_of,
                           print_tail, say)

# Debian packages by the header that shows them, with what their absence costs.
OPTIONAL_PACKAGES = {
    "libffi-dev": ("ffi.h", "ctypes"),
    "zlib1g-dev": ("zlib.h", "zlib and pip"),
    "libssl-dev": ("openssl/ssl.h", "ssl"),
}
REQUIRED_PROGRAMS = {"gcc": "gcc", "make": "make"}
EXAMPLE = "Doc/includes/tinybasic"
# Written to a build directory after configure, and while make runs there.
CONFIGURED = ".configured"
MAKING = ".making"


def check_prerequisites(*programs):
    """Name the packages that the machine lacks before anything starts."""
    needed = dict(REQUIRED_PROGRAMS, **{name: name for name in programs})
    missing = [package for program, package in needed.items()
               if not shutil.which(program)]
    if "gcc" not in missing and not has_header("stdlib.h"):
        missing.append("libc6-dev")
    if missing:
        raise SeriesError(f"this machine lacks {', '.join(missing)}: "
                          f"apt-get install {' '.join(missing)}")
    absent = absent_options()
    if absent:
        parts = ", ".join(OPTIONAL_PACKAGES[name][1] for name in absent)
        say("optional", f"built without {parts}: "
                        f"apt-get install {' '.join(absent)}")


def has_header(name):
    """Say whether the compiler finds a header."""
    result = subprocess.run(["gcc", "-E", "-xc", "-"],
                            input=f"#include <{name}>\n".encode(),
                            stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)
    return result.returncode == 0


def absent_options():
    """Return the optional packages that are not installed."""
    return [package for package, (header, _) in OPTIONAL_PACKAGES.items()
            if not has_header(header)]


def build_python(build, name, *options, source="src", **environment):
    """Configure and make build/NAME from build/SOURCE; return its python."""
    directory = build / name
    configure(directory, build / source, options)
    make(directory, "all", **environment)
    return directory / "python"


def build_stock(base, build):
    """Build the release interpreter without the series; return its python.

    It has a tree of its own, since a base that CPYTHON= names may hold build
    products, from which CPython does not build elsewhere.
    """
    tree.write_tree(base, {}, build / "stock-src")
    return build_python(build, "stock", source="stock-src")


def configure(directory, source, options):
    """Configure a build directory unless it is as it would become.

    The source is named relative to the build directory, so that the two can
    be copied or moved together.
    """
    stamp = json.dumps([list(options), absent_options()])
    stamp_file = directory / CONFIGURED
    if (stamp_file.is_file() and stamp_file.read_text() == stamp
            and not (directory / MAKING).exists()):
        return
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    script = os.path.join(os.path.relpath(source, directory), "configure")
    run_logged([script, *options], directory, "configure")
    stamp_file.write_text(stamp)


def make(directory, *arguments, **environment):
    """Run CPython's make in a build directory.

    A make that is killed may leave half an object file behind. The mark
    survives it and has the directory built anew.
    """
    mark = directory / MAKING
    mark.touch()
    try:
        run_logged(["make", f"-j{os.cpu_count() or 1}", *arguments],
                   directory, arguments[0], **environment)
    finally:
        mark.unlink()


def run_logged(command, directory, stage, **environment):
    """Run a command with its output in a log, showing that it goes on."""
    log = log_file(directory, stage)
    started = time.monotonic()
    with open(log, "wb") as file:
        process = subprocess.Popen(command, cwd=directory, stdout=file,
                                   stderr=subprocess.STDOUT,
                                   stdin=subprocess.DEVNULL,
                                   env=clean_environment(**environment))
    try:
        show_progress(process, log, stage, directory.name)
    finally:
        # On an interrupt make still has its half-written targets to remove.
        process.wait()
    if process.returncode:
        print_tail(log)
        raise SeriesError(f"{' '.join(command)} failed in {directory}, "
                          f"the whole log is {log}")
    seconds = round(time.monotonic() - started)
    say(stage, f"{directory}{compiled(log)}, {seconds} s")


def log_file(directory, stage):
    """Return the log for a stage in a build directory."""
    log = directory.with_name(f"{directory.name}-{stage}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    return log


def show_progress(process, log, stage, name):
    """Show that a process goes on until it ends.

    A terminal gets one line that changes, anything else a line now and then.
    """
    terminal = sys.stdout.isatty()
    interval = 1 if terminal else 30
    started = time.monotonic()
    while True:
        try:
            process.wait(interval)
        except subprocess.TimeoutExpired:
            seconds = round(time.monotonic() - started)
            line = f"{stage:<10} {name}{compiled(log)}, {seconds} s"
            print(f"\r{line}" if terminal else line,
                  end="" if terminal else "\n", flush=True)
        else:
            break
    if terminal:
        print("\r\033[K", end="")


def compiled(log):
    """Say how many compiler calls a log of make shows, if any."""
    count = len(re.findall(rb" -o \S+\.o\b", log.read_bytes()))
    return f", {count} objects compiled" if count else ""


def build_example(build, python):
    """Compile the example extension and return its directory."""
    source = build / "src"
    suffix = output_of(
        [python, "-c", "import sysconfig; "
         "print(sysconfig.get_config_var('EXT_SUFFIX'))"],
        env=clean_environment()).decode().strip()
    target = build / "example" / f"tinybasic{suffix}"
    target.parent.mkdir(exist_ok=True)
    compile_module(target, python, source, source / EXAMPLE / "tinybasic.c")
    say("example", str(target))
    return target.parent


def compile_module(target, python, source, *arguments):
    """Compile an extension module against the headers of a tree."""
    output_of(["gcc", "-shared", "-fPIC", "-O2",
               f"-I{source / 'Include'}", f"-I{python.parent}",
               "-o", target, *arguments])


def run_report(build, python):
    """Build the example and run its report."""
    example = build_example(build, python).resolve()
    environment = clean_environment(PYTHONPATH=str(example))
    report = build / "src" / EXAMPLE / "report.py"
    if subprocess.run([python, report], env=environment).returncode:
        raise SeriesError(f"{report}: failed")


def install(build, prefix, destination, version):
    """Install the patched interpreter to run from prefix."""
    name = prefix.strip("/").replace("/", "-") or "root"
    python = build_python(build, f"install/{name}", f"--prefix={prefix}")
    arguments = [f"DESTDIR={destination}"]
    if subprocess.run([python, "-c", "import zlib"],
                      stderr=subprocess.DEVNULL,
                      env=clean_environment()).returncode:
        # ensurepip cannot open pip's wheel without zlib.
        arguments.append("ENSUREPIP=no")
    make(python.parent, "altinstall", *arguments)
    minor = version.rpartition(".")[0]
    say("installed", f"{destination}{prefix}/bin/python{minor}")
