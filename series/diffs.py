"""Unified diffs, applied as bytes and without fuzz."""

import re

from series.common import SeriesError

HUNK_HEADER = re.compile(rb"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
NO_NEWLINE = b"\\"


class Hunk:
    """The old and the new text of one hunk."""

    def __init__(self, number, old, new):
        self.number = number
        self.old = old
        self.new = new


def parse(patch, name, path):
    """Return the hunks of a diff of one file; name is that of the diff."""
    if not patch.endswith(b"\n"):
        raise SeriesError(f"{name}: the last line has no newline")
    lines = [line + b"\n" for line in patch.split(b"\n")[:-1]]
    expected = [f"--- a/{path}".encode(), f"+++ b/{path}".encode()]
    if [line.split(b"\t")[0].rstrip() for line in lines[:2]] != expected:
        raise SeriesError(f"{name}: does not start with the lines "
                          f"'--- a/{path}' and '+++ b/{path}'")
    hunks = []
    position = 2
    while position < len(lines):
        hunk, position = parse_hunk(lines, position, name, len(hunks) + 1)
        hunks.append(hunk)
    if not hunks:
        raise SeriesError(f"{name}: has no hunk")
    return hunks


def parse_hunk(lines, position, name, number):
    """Return the hunk at a position and the position after it."""
    header = HUNK_HEADER.match(lines[position])
    if not header:
        raise SeriesError(f"{name}: line {position + 1} is not the header "
                          f"of hunk {number}")
    wanted = [1 if count is None else int(count) for count in header.groups()]
    sides = [[], []]
    position += 1
    while position < len(lines) and not lines[position].startswith(b"@@"):
        kind, text = lines[position][:1], lines[position][1:]
        if kind == NO_NEWLINE:
            strip_last_newline(sides, lines[position - 1][:1])
        elif kind in b" -+":
            for side in (0, 1):
                if kind != b"+-"[side:side + 1]:
                    sides[side].append(text)
        else:
            raise SeriesError(f"{name}: line {position + 1} in hunk {number} "
                              f"starts with none of ' ', '-', '+', '\\'")
        position += 1
    if [len(side) for side in sides] != wanted:
        raise SeriesError(f"{name}: hunk {number} has {len(sides[0])} old "
                          f"and {len(sides[1])} new lines, its header says "
                          f"{wanted[0]} and {wanted[1]}")
    if not sides[0]:
        raise SeriesError(f"{name}: hunk {number} has no old text")
    return Hunk(number, b"".join(sides[0]), b"".join(sides[1])), position


def strip_last_newline(sides, kind):
    """Apply a 'No newline at end of file' line to the line before it."""
    for side in (0, 1):
        if kind != b"+-"[side:side + 1] and sides[side]:
            sides[side][-1] = sides[side][-1][:-1]


def occurrences(data, text):
    """Return every position at which a text occurs, overlapping ones too."""
    found = []
    position = data.find(text)
    while position >= 0:
        found.append(position)
        position = data.find(text, position + 1)
    return found


def apply(data, hunks, name, path):
    """Return data with the hunks applied."""
    result = []
    done = 0
    for hunk in hunks:
        found = occurrences(data, hunk.old)
        if len(found) != 1:
            raise SeriesError(f"{name}: the old text of hunk {hunk.number} "
                              f"occurs {times(len(found))} in {path}, "
                              f"it must occur once")
        start = found[0]
        if start < done or data[start - 1:start] not in (b"", b"\n"):
            raise SeriesError(f"{name}: the old text of hunk {hunk.number} "
                              f"overlaps the hunk before it, is out of order "
                              f"or starts within a line of {path}")
        result += [data[done:start], hunk.new]
        done = start + len(hunk.old)
    return b"".join(result) + data[done:]


def times(count):
    """Say how often something happens."""
    return {0: "nowhere", 1: "once", 2: "twice"}.get(count, f"{count} times")
