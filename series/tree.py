"""The patched tree: what it holds, and how it is brought up to date."""

import os
import shutil

from series import diffs
from series.common import SeriesError, say, sha256
from series.manifest import walk


class Content:
    """The bytes of a file and whether it may be executed."""

    def __init__(self, data, executable):
        self.data = data
        self.mode = 0o755 if executable else 0o644

    @classmethod
    def read(cls, path):
        """Return the content of an existing file."""
        return cls(path.read_bytes(), is_executable(path))


def is_executable(path):
    """Say whether the owner of a file may execute it."""
    return bool(path.stat().st_mode & 0o100)


def edited(edit, text):
    """Return a text with an edit applied."""
    return diffs.apply(text, edit.hunks, edit.name, edit.path)


def patched_files(series, base, count=None, edit_text=edited):
    """Return {path: Content} of what the first count patches change."""
    changed = {}
    for patch in series.patches[:count]:
        for path in patch.files:
            content = Content.read(series.root / path)
            if path in series.parts:
                stock = changed.get(path) or Content.read(base.root / path)
                content.data = splice(stock.data, content.data, path,
                                      series.parts[path])
            changed[path] = content
        for edit in patch.edits:
            stock = (changed.get(edit.path)
                     or Content.read(base.root / edit.path))
            changed[edit.path] = Content(edit_text(edit, stock.data),
                                         stock.mode == 0o755)
    return changed


def splice(stock, part, path, pin):
    """Return the stock text up to the anchor, followed by the part."""
    found = diffs.occurrences(stock, pin["anchor"].encode())
    shown = pin["anchor"].splitlines()[-1]
    if len(found) != 1:
        raise SeriesError(f"{path}: the anchor '{shown}' of the part occurs "
                          f"{diffs.times(len(found))} in the base, it must "
                          f"occur once")
    cut = stock[found[0]:]
    lines = cut.count(b"\n")
    if lines != pin["lines"] or sha256(cut) != pin["sha256"]:
        raise SeriesError(f"{path}: the text from the anchor '{shown}' on is "
                          f"not the one the part replaces: {lines} lines with "
                          f"SHA-256 {sha256(cut)} instead of {pin['lines']} "
                          f"with {pin['sha256']}")
    return stock[:found[0]] + part


def write_tree(base, changed, target):
    """Make target the base with the changed files, writing what differs.

    A target that does not exist appears only when it is whole.
    """
    if target.exists():
        written = update(base, changed, target, keep_times=False)
    else:
        partial = target.with_name(target.name + ".partial")
        partial.mkdir(parents=True, exist_ok=True)
        written = update(base, changed, partial, keep_times=True)
        partial.rename(target)
    say("tree", f"{target}, {len(changed)} files of the series, "
                f"{written} files written")


def update(base, changed, target, keep_times):
    """Write the files of a tree that differ, remove those too many.

    A file that goes back to the stock text needs a new time, or make would
    not see the change; a new tree keeps the base's times.
    """
    written = 0
    wanted = set(base.files()) | set(changed)
    for path in sorted(wanted):
        content = changed.get(path) or Content.read(base.root / path)
        if holds(target / path, content):
            continue
        write(target / path, content)
        written += 1
        if keep_times and path not in changed:
            shutil.copystat(base.root / path, target / path)
            (target / path).chmod(content.mode)
    for path in set(walk(target)) - wanted:
        (target / path).unlink()
    return written


def holds(path, content):
    """Say whether a file exists with the given content."""
    return (path.is_file()
            and path.stat().st_size == len(content.data)
            and is_executable(path) == (content.mode == 0o755)
            and path.read_bytes() == content.data)


def write(path, content):
    """Write a file so that it is the old one or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content.data)
    partial.chmod(content.mode)
    os.replace(partial, path)


def differences(left, right):
    """Return the paths at which two trees differ, byte code aside."""
    paths = set(walk(left)) | set(walk(right))
    return sorted(
        path for path in paths
        if not (left / path).is_file()
        or not holds(right / path, Content.read(left / path)))
