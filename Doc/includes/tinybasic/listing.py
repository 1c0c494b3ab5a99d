"""List a BASIC program: how often each line ran, and where branches went.

usage: python listing.py PROGRAM [ANSWER ...]

What it shows is from sys.monitoring alone.  The answers are for the program's
INPUT statements; without any, they are asked from the user.
"""

import io
import linecache
import sys
from collections import Counter

import tinybasic

monitoring = sys.monitoring
events = monitoring.events
TOOL = monitoring.COVERAGE_ID

# What Tiny BASIC leaves to Python: a program calls these with CALL.
FUNCTIONS = {
    "ASC": ord,
    "CHR": chr,
    "LEN": len,
    "MID": lambda text, start, length: text[start - 1:start - 1 + length],
}


def load(path):
    """Return the program in a file.

    Whatever is wrong with the file is a tinybasic.Error that says it.
    """
    try:
        with open(path, encoding="utf-8") as file:
            source = file.read()
        program = tinybasic.Program(source, path)
    except OSError as error:
        raise tinybasic.Error(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise tinybasic.Error(f"{path}: not a text in UTF-8") from None
    except ValueError as error:
        raise tinybasic.Error(f"{path}: {error}") from None
    return program


def run(program, answers):
    """Run a program without a word, with answers to what it asks."""
    rest = iter(answers)

    def answer(prompt):
        for text in rest:
            return text
        raise EOFError(f"no answer is left for {prompt!r}")

    program.run(FUNCTIONS, answer if answers else None, io.StringIO())


def count(program, answers):
    """Run a program and count its LINE and BRANCH events.

    Lines are counted by their number in the file, branches by their code and
    their two offsets.
    """
    lines, branches = Counter(), Counter()

    def on_line(code, lineno):
        lines[lineno] += 1

    def on_branch(code, offset, destination):
        branches[code, offset, destination] += 1

    monitoring.use_tool_id(TOOL, "listing")
    try:
        monitoring.register_callback(TOOL, events.LINE, on_line)
        monitoring.register_callback(TOOL, events.BRANCH, on_branch)
        # Of this program alone, whatever else runs meanwhile.
        for code in program.subroutines:
            monitoring.set_local_events(TOOL, code,
                                        events.LINE | events.BRANCH)
        run(program, answers)
    finally:
        for code in program.subroutines:
            monitoring.set_local_events(TOOL, code, 0)
        monitoring.register_callback(TOOL, events.LINE, None)
        monitoring.register_callback(TOOL, events.BRANCH, None)
        monitoring.free_tool_id(TOOL)
    return lines, branches


def text_at(code, offset):
    """Return the source of a location, as far as it is known.

    It serves code of every kind, Python's too.
    """
    filename, first, last, start, end = monitoring.get_location(code, offset)
    if first is None:
        return ""
    lines = [line.encode() for line in
             linecache.getlines(filename)[first - 1:last or first]]
    if lines and start is not None and end is not None:
        # The end first: both may be on one line.
        lines[-1] = lines[-1][:end]
        lines[0] = lines[0][start:]
    return b"".join(lines).decode(errors="replace").strip()


def lines_of(codes):
    """Return the numbers of the lines that can run."""
    return {lineno for code in codes for *_, lineno in code.co_lines()
            if lineno is not None}


def name_of(code, offset):
    """Return what a BASIC programmer calls a location.

    That is the number that its line begins with, or the statement itself where
    it follows THEN.
    """
    place = monitoring.get_location(code, offset)
    if place.col_offset is None:
        return "the end"
    line = linecache.getline(place.filename, place.lineno).encode()
    number = line[:place.col_offset].decode().strip()
    return number if number.isdigit() else text_at(code, offset)


def listing(program, path, lines, branches):
    """Yield each line of a program with its counts."""
    can_run = lines_of(program.subroutines)
    ways = {}
    for (code, offset, destination), times in sorted(
            branches.items(), key=lambda item: item[0][1:]):
        lineno = monitoring.get_location(code, offset).lineno
        names = ways.setdefault(lineno, Counter())
        names[name_of(code, destination)] += times
    for lineno, text in enumerate(linecache.getlines(path), 1):
        hits = (f"x{lines[lineno]}" if lines[lineno]
                else "-" if lineno in can_run else "")
        went = ", ".join(f"{times} to {name}" for name, times
                         in ways.get(lineno, {}).items())
        yield f"{lineno:>4} {hits:>6}  {text.rstrip():<38.38}  {went}".rstrip()


def main(args):
    if not args:
        raise SystemExit(__doc__)
    path, *answers = args
    try:
        program = load(path)
        lines, branches = count(program, answers)
    except (tinybasic.Error, EOFError) as error:
        raise SystemExit(f"error: {error}")
    for text in listing(program, path, lines, branches):
        print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
