"""Variants of edits for another base, from a merge with what changed there.

Where the old text of an edit is not in that base, or not once, what the edit
changes in the first base is carried over.
"""

import json
import subprocess

from series import diffs, tree
from series.common import SeriesError, file_sha256, say
from series.export import scratch_directory
from series.manifest import MANIFEST, Series, read_json

MARK = b"<<<<<<< "


def write_variants(first_base, series, base, build):
    """Write the variants that a base needs, and which digests differ there."""
    first = Series(series.root)
    if series.base is None or series.is_first:
        raise SeriesError(f"variants are for a base that {MANIFEST} names "
                          f"after the first one: BASE=VERSION")
    write_digests(series, base)
    steps = {}

    def record(edit, before):
        after = tree.edited(edit, before)
        steps[edit.first_name] = edit, before, after
        return after

    tree.patched_files(first, first_base, edit_text=record)
    tree.patched_files(series, base, edit_text=lambda edit, text: adapt(
        series, edit, text, *steps[edit.first_name], build))
    series = Series(series.root, series.version)
    base.check(series)
    tree.patched_files(series, base)
    say("variants", f"the series applies to CPython {series.version}")


def write_digests(series, base):
    """Bring the digests of a base in series.json up to date."""
    data = read_json(series.root)
    entry = data["bases"][series.bases.index(series.base)]
    found = {path: file_sha256(base.root / path) for path in data["stock"]}
    entry["stock"] = {path: digest for path, digest in found.items()
                      if digest != data["stock"][path]}
    text = json.dumps(data, indent=4) + "\n"
    if text != (series.root / MANIFEST).read_text(encoding="utf-8"):
        (series.root / MANIFEST).write_text(text, encoding="utf-8")
        say("digests", MANIFEST)


def adapt(series, edit, text, first, before, after, build):
    """Return a text of the base with an edit, which may need a variant."""
    name = f"{first.name[:-len('.patch')]}.{series.version}.patch"
    file = series.root / name
    own = edit.name == name
    if applies(first if own else edit, text):
        if own:
            file.unlink()
            say("removed", name)
        return tree.edited(first if own else edit, text)
    merged = merge(before, after, text, build / "merge" / name)
    if merged is None and own and applies(edit, text):
        say("kept", f"{name}: what changed cannot be merged, compare it with "
                    f"{first.name}")
        return tree.edited(edit, text)
    if merged is None:
        raise SeriesError(f"{first.name}: does not merge with CPython "
                          f"{series.version}, resolve {build}/merge/{name} "
                          f"and repeat this")
    data = difference(text, merged, edit.path, build)
    if not own or data != file.read_bytes():
        file.write_bytes(data)
        say("variant", name)
    return diffs.apply(text, diffs.parse(data, name, edit.path), name,
                       edit.path)


def applies(edit, text):
    """Say whether an edit can be applied to a text."""
    try:
        tree.edited(edit, text)
    except SeriesError:
        return False
    return True


def merge(before, after, text, place):
    """Return the text with what turns before into after.

    Return None with the text and git's marks in a file if that conflicts; the
    file without marks is the result of the next call.
    """
    if place.is_file() and MARK not in place.read_bytes():
        merged = place.read_bytes()
        place.unlink()
        return merged
    place.parent.mkdir(parents=True, exist_ok=True)
    with scratch_directory(place.parent) as scratch:
        status, merged = run_on(scratch, ["git", "merge-file", "-p"],
                                text, before, after)
    if status == 0:
        return merged
    place.write_bytes(merged)
    return None


def difference(old, new, path, build):
    """Return the diff of two texts as the repository holds edits."""
    with scratch_directory(build) as scratch:
        return run_on(scratch, ["diff", "-U3", f"--label=a/{path}",
                                f"--label=b/{path}"], old, new)[1]


def run_on(scratch, command, *texts):
    """Run a command on files with these texts; return its exit status and
    what it prints."""
    names = [str(i) for i in range(len(texts))]
    for name, text in zip(names, texts):
        (scratch / name).write_bytes(text)
    result = subprocess.run([*command, *names], cwd=scratch,
                            stdout=subprocess.PIPE)
    return result.returncode, result.stdout
