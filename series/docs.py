"""The pages of the series as HTML, free of warnings."""

import difflib
import re
import shutil
import subprocess
import sys

from series.common import SeriesError, clean_environment, print_tail, say
from series.environments import make_environment
from series.tree import patched_files

OLDEST_SPHINX_PYTHON = (3, 11)
OLDER_SPHINX = "8.1"
WARNING = re.compile(r"^(?P<file>.+?\.rst)(?::(?P<line>\d+))?: ")


def build_docs(series, base, build):
    """Build the pages of the series; a warning in one of them is an error."""
    command = find_sphinx(base, build)
    source = (build / "src/Doc").resolve()
    output = build / "docs"
    ours = own_lines(series, base)
    log = build / "docs-warnings.log"
    # The environment is read afresh, as Sphinx repeats no warning of a page
    # that it knows already. Nitpicky is how CPython checks its pages.
    status = subprocess.run(
        [*command, "-b", "html", "-E", "-n", "-q", "-j", "auto",
         "-w", log, "-d", build / "doctrees", source, output,
         *(source.parent / path for path in ours)],
        env=clean_environment(), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL).returncode
    if status:
        print_tail(log)
        raise SeriesError(f"Sphinx failed with exit status {status}, its "
                          f"warnings are in {log}")
    warnings = own_warnings(log.read_text(errors="replace"), source.parent,
                            ours)
    if warnings:
        raise SeriesError("\n".join(["the pages of the series have warnings:",
                                     *warnings]))
    for path in ours:
        page = path[len("Doc/"):-len(".rst")] + ".html"
        say("page", str(output / page))


def find_sphinx(base, build):
    """Return the command of a Sphinx that builds the base's pages."""
    tool = make_environment(
        build / "docs-venv", filter(None, [find_python()]),
        build / "docs-install.log",
        "-r", base.root / "Doc/requirements.txt")
    if tool:
        return [tool, "-m", "sphinx"]
    program = shutil.which("sphinx-build")
    if program and f" {OLDER_SPHINX}." in version_of(program):
        return [program, "-D", f"needs_sphinx={OLDER_SPHINX}"]
    raise SeriesError(
        f"make docs needs Python {'.'.join(map(str, OLDEST_SPHINX_PYTHON))} "
        f"or later with venv and a package index that pip reaches, or a "
        f"Sphinx {OLDER_SPHINX} on PATH")


def find_python():
    """Return a Python that can make a virtual environment, or None."""
    names = [sys.executable] + [f"python3.{minor}"
                                for minor in range(14, 10, -1)]
    check = (f"import ensurepip, ssl, sys, venv, zlib; "
             f"sys.exit(sys.version_info < {OLDEST_SPHINX_PYTHON})")
    for name in filter(shutil.which, names):
        if subprocess.run([name, "-c", check], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL,
                          env=clean_environment()).returncode == 0:
            return name
    return None


def version_of(program):
    """Return what a program prints for --version."""
    return subprocess.run([program, "--version"], stdout=subprocess.PIPE,
                          universal_newlines=True,
                          env=clean_environment()).stdout


def own_lines(series, base):
    """Return {page: the numbers of its lines that are ours, or None for all}.

    The pages that the series only edits have lines of other people too.
    """
    whole = {path for patch in series.patches for path in patch.files}
    return {
        path: None if path in whole else added_lines(
            (base.root / path).read_bytes(), content.data)
        for path, content in sorted(patched_files(series, base).items())
        if path.startswith("Doc/") and path.endswith(".rst")}


def added_lines(old, new):
    """Return the numbers of the lines that new has and old has not."""
    matcher = difflib.SequenceMatcher(None, old.splitlines(),
                                      new.splitlines(), autojunk=False)
    return {number for tag, _, _, first, last in matcher.get_opcodes()
            if tag != "equal" for number in range(first + 1, last + 1)}


def own_warnings(text, root, ours):
    """Return the warnings about the lines of the series."""
    pages = {str(root / path): lines for path, lines in ours.items()}
    found = []
    for line in text.splitlines():
        match = WARNING.match(line)
        if match and match["file"] in pages:
            lines = pages[match["file"]]
            if lines is None or int(match["line"] or 0) in lines:
                found.append(line)
    return found
