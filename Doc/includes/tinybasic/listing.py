"""List a BASIC program with how often each line ran and each branch was taken.

usage: python listing.py PROGRAM [ANSWER ...]

What it shows is from sys.monitoring alone.  The answers are for the program's
INPUT statements; without any, they are asked from the user.
"""

import io
import linecache
import re
import sys
from collections import Counter

import tinybasic

# What Tiny BASIC leaves to Python: a program calls these with CALL.
FUNCTIONS = {
    "ASC": ord,
    "CHR": chr,
    "LEN": len,
    "MID": lambda text, start, length: text[start - 1:start - 1 + length],
}


def load(path):
    """Return the text of a program and the program.

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
    # For line 40, a traceback is to show BASIC's line 40, not the file's.
    texts = [""] * int(numbered_lines(source)[-1][0])
    for number, text in numbered_lines(source):
        texts[int(number) - 1] = f"{number} {text}\n"
    linecache.cache[path] = len(source), None, texts, path
    return source, program


def numbered_lines(source):
    """Return the lines of a program as pairs of strings, number and text."""
    return re.findall(r"^[ \t]*(\d+)[ \t]*(.*)", source, re.MULTILINE)


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

    Lines are counted by their number, branches by their two offsets.
    """
    lines, branches = Counter(), Counter()
    codes = set(program.subroutines)

    def on_line(code, lineno):
        if code in codes:
            lines[lineno] += 1

    def on_branch(code, offset, destination):
        if code in codes:
            branches[offset, destination] += 1

    monitoring = sys.monitoring
    tool, events = monitoring.COVERAGE_ID, monitoring.events
    monitoring.use_tool_id(tool, "listing")
    try:
        monitoring.register_callback(tool, events.LINE, on_line)
        monitoring.register_callback(tool, events.BRANCH, on_branch)
        monitoring.set_events(tool, events.LINE | events.BRANCH)
        run(program, answers)
    finally:
        monitoring.set_events(tool, 0)
        monitoring.register_callback(tool, events.LINE, None)
        monitoring.register_callback(tool, events.BRANCH, None)
        monitoring.free_tool_id(tool)
    return lines, branches


def listing(source, lines, branches):
    """Yield each line of a program with its counts.

    The offset of a line is its index, so a branch goes to the next line if it
    goes to the next offset.
    """
    for offset, (number, text) in enumerate(numbered_lines(source)):
        onward = branches[offset, offset + 1]
        away = sum(times for (start, end), times in branches.items()
                   if start == offset and end != offset + 1)
        if text.startswith("FOR"):
            note = f"looped {onward}, left {away}"
        else:
            note = f"taken {away}, not taken {onward}"
        hits = lines[int(number)]
        yield (f"{number:>5} {f'x{hits}' if hits else '-':>6}  {text:<38.38}"
               f"  {note if onward or away else ''}").rstrip()


def main(args):
    if not args:
        raise SystemExit(__doc__)
    path, *answers = args
    try:
        source, program = load(path)
        lines, branches = count(program, answers)
    except (tinybasic.Error, EOFError) as error:
        raise SystemExit(f"error: {error}")
    for text in listing(source, lines, branches):
        print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
