"""The folder build/, and the patched tree in it that commands start from."""

import fcntl
import os
from pathlib import Path

from series import tree
from series.base import find_base
from series.common import say
from series.manifest import Series

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path(os.path.relpath(ROOT / "build"))


def prepare():
    """Bring build/src up to date and return the series, its base and build/.

    Everything is checked before anything but the lock is written.
    """
    lock()
    series = Series(ROOT)
    base = find_base(series, BUILD, os.environ.get("CPYTHON"))
    changed = tree.patched_files(series, base)
    tree.write_tree(base, changed, BUILD / "src")
    return series, base, BUILD


def lock():
    """Keep build/ to this process until it ends: the file is not closed."""
    BUILD.mkdir(exist_ok=True)
    file = os.open(BUILD / ".lock", os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("waiting", f"another command is using {BUILD}")
        fcntl.flock(file, fcntl.LOCK_EX)
