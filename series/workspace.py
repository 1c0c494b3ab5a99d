"""The folder build/, and the patched tree in it that commands start from."""

import fcntl
import os
from pathlib import Path

from series import tree
from series.base import find_base
from series.common import say
from series.manifest import Series

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path(os.path.relpath(ROOT / "build"))      # of all bases


def prepare():
    """Bring the patched tree up to date; return the series, its base and the
    build folder of this base.

    Everything is checked before anything but the lock is written.
    """
    lock()
    series, base, build = find_base(ROOT, BUILD, os.environ.get("CPYTHON"),
                                    os.environ.get("BASE"))
    changed = tree.patched_files(series, base)
    tree.write_tree(base, changed, build / "src")
    return series, base, build


def build_folder():
    """Return the build folder of the base that BASE= names."""
    return Series(ROOT, os.environ.get("BASE")).build_folder(BUILD)


def lock():
    """Keep build/ to this process until it ends: the file is not closed."""
    BUILD.mkdir(exist_ok=True)
    file = os.open(BUILD / ".lock", os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("waiting", f"another command is using {BUILD}")
        fcntl.flock(file, fcntl.LOCK_EX)
