"""VS Code's debugger, debugpy: sessions, and the stops in each."""

from prove.clients import dap
from series.common import SeriesError

# By what the environment says: which of its two implementations runs.
IMPLEMENTATIONS = {"compiled": "YES", "pure Python": "NO"}
FIRST = "total = number + 1"        # of leaf(), which others call
# What each session is for: the lines with breakpoints; commands, of which the
# last is repeated; whether an exception ends the program.
SESSIONS = {
    "Cython": {
        "breakpoint in the first activation": ([FIRST], ["continue"], False),
        "step in": (["first = leaf(number)"], ["stepIn"], False),
        "step over": ([FIRST], ["next"], False),
        "step out": ([FIRST, "return 0"], ["stepOut"], False),
        "step in, over and out": (
            ["first = leaf(number)"],
            ["stepIn", "next", "stepOut", "next", "stepIn", "next", "stepOut",
             "next", "next", "next", "stepIn", "next", "stepIn", "stepOut",
             "continue"], False),
        "recursion and a closure": (
            ["if number == 0:", "return below + 1", "return number + other"],
            ["continue"], False),
        "coroutine": (["coroutine.send(None)"], ["stepIn", "stepIn", "next"],
                      False),
        "breakpoint in a coroutine": (["found = number + 1"], ["continue"],
                                      False),
        "uncaught exception": (["raise LookupError(number)"], ["continue"],
                               True),
    },
    # Its dispatcher signals no lines.
    "Numba": {
        "breakpoints": (["found = total(4)", "doubled = 2 * number"],
                        ["continue"], False),
        "step over": (["found += calling(callback, 3)"], ["next"], False),
        "step out": (["doubled = 2 * number"], ["stepOut"], False),
    },
    "Basic": {
        "breakpoints": (["210 LET N = N + 1", "220 IF N = 3 THEN 240"],
                        ["continue"], False),
        "step over": (["30 GOSUB 200"], ["next"], False),
        "step in": (["30 GOSUB 200"], ["stepIn"], False),
        "step out": (["240 RETURN"], ["stepOut"], False),
        "uncaught exception": (["60 CALL DOUBLE(I) INTO M"], ["continue"],
                               True),
    },
}


def look(implementation):
    """Return what looks at the stops of each session."""
    return lambda subject, place: {
        name: stops(subject, place / f"{name}.log", implementation, *session)
        for name, session in SESSIONS[subject.language.name].items()}


def stops(subject, log, implementation, lines, commands, fails):
    """Return the stops of a session, or how it ended."""
    try:
        found, status = dap.debug(
            [subject.python, "-m", "debugpy", "--listen", "{}",
             "--wait-for-client", subject.script, *["fail"] * fails],
            subject.folder, log,
            {subject.module: list(map(subject.line_of, lines))}, commands,
            **subject.environment,
            PYDEVD_USE_CYTHON=IMPLEMENTATIONS[implementation])
    except SeriesError as error:
        return str(error)
    if status != fails:
        return f"status {status}"
    # One that stops where it is says nothing: Cython signals the line of a
    # `for` once more before its first turn.
    stacks = [[reason, list(filter(None, (show(subject, *frame)
                                          for frame in stack)))]
              for reason, stack in found]
    return [stop for stop, before in zip(stacks, [None, *stacks])
            if stop[1] != (before and before[1])]


def show(subject, path, line, function):
    """Return a frame as both languages have it, or None."""
    place = subject.place(path, line)
    if place is None:
        return None
    # Cython's own traceback entries have the module in the name.
    name = function.rpartition(".")[2]
    return "%s:%d %s" % (*place, name) if subject.has_lines else name
