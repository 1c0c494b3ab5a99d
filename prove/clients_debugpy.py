"""VS Code's debugger, debugpy, on twins of Cython and of Python."""

from pathlib import Path

from prove import clients_covered, clients_dap, clients_twins
from series.common import SeriesError, print_tail, say

DEBUGPY = "debugpy==1.8.22"
NUMBA = "numba==0.68.1"
NUMBA_PROGRAM = Path(__file__).with_name("clients_numba.py")
# By what the environment says: which of its two implementations runs.
IMPLEMENTATIONS = {"YES": "compiled", "NO": "pure Python"}
FIRST = "total = number + 1"        # of leaf(), which others call
# What each session is for: the lines with breakpoints; commands, of which the
# last is repeated; whether an exception ends the program.
SESSIONS = {
    "breakpoint in the first activation": ([FIRST], ["continue"], False),
    "step in": (["first = leaf(number)"], ["stepIn"], False),
    "step over": ([FIRST], ["next"], False),
    "step out": ([FIRST, "return 0"], ["stepOut"], False),
    "step in, over and out": (
        ["first = leaf(number)"],
        ["stepIn", "next", "stepOut", "next", "stepIn", "next", "stepOut",
         "next", "next", "next", "stepIn", "next", "stepIn", "stepOut",
         "continue"], False),
    "recursion": (["if number == 0:", "return below + 1"], ["continue"],
                  False),
    "uncaught exception": (["raise LookupError(number)"], ["continue"], True),
}
# Through Numba's dispatcher: the lines with breakpoints, and the innermost
# frames of the stops at them and at each step over from there.  The dispatcher
# signals no line after the first one.
NUMBA_BREAKPOINTS = "found = total(4)", "doubled = 2 * number"
CALLING = ["@numba.jit(forceobj=True)", "found += calling(callback, 3)"]
NUMBA_STOPS = (["found = total(4)"], ["found += total(5)"], CALLING[1:],
               ["doubled = 2 * number", *CALLING],
               ["return doubled", *CALLING], CALLING, CALLING[1:],
               ["return found"], ["print(main())"])

# Of a program of BASIC: the lines with breakpoints, and of each stop the
# innermost frames and the variables.
BASIC_BREAKPOINTS = 14, 15
BASIC_STOPS = [
    (["SUB:14", "MAIN:3", "main:21"], {"N": "1"}),
    (["SUB:15", "MAIN:3", "main:21"], {"N": "1"}),
    (["SUB:14", "SUB:15", "MAIN:3", "main:21"], {"N": "2"}),
    (["SUB:15", "SUB:15", "MAIN:3", "main:21"], {"N": "2"}),
    (["SUB:14", "SUB:15", "SUB:15", "MAIN:3", "main:21"], {"N": "3"}),
]


def check_debugpy(build, cython, python):
    """Compare the stops of each session in Cython with those in Python."""
    for name, (lines, commands, fails) in SESSIONS.items():
        numbers = [clients_twins.line_of(line) for line in lines]
        log = build / "clients-debugpy.log"
        for implementation, title in IMPLEMENTATIONS.items():
            found = []
            for twin in python, cython:
                found.append(debug(
                    twin, log, {twin.module: numbers}, commands,
                    ["fail"] if fails else [], implementation))
            difference = compare(*found, fails)
            if difference:
                print_tail(log)
                raise SeriesError(f"{DEBUGPY}, {title}, {name}: {difference}")
            say("clients", f"{DEBUGPY}, {title}, {name}: "
                           f"{len(found[1][0])} stops as in Python")


def check_basic(build, tool, example):
    """Debug a program of BASIC."""
    log = build.resolve() / "clients-debugpy.log"
    for implementation, title in IMPLEMENTATIONS.items():
        stops, status = clients_dap.debug(
            command(tool, clients_covered.BASIC_PROGRAM,
                    clients_covered.BASIC.name),
            clients_covered.BASIC.parent, log,
            {clients_covered.BASIC: BASIC_BREAKPOINTS}, ["continue"],
            PYTHONPATH=str(example), PYDEVD_USE_CYTHON=implementation)
        found = [([f"{function}:{line}" for _, line, function in stack],
                  variables) for _, stack, variables in stops]
        found = [(stack[:stack.index("main:21") + 1], variables)
                 for stack, variables in found]
        if status or found != BASIC_STOPS:
            print_tail(log)
            raise SeriesError(f"tinybasic under {DEBUGPY}, {title}: the exit "
                              f"status is {status}, the stops are {found}")
        say("clients", f"{DEBUGPY}, {title}, tinybasic: {len(stops)} stops")


def check_numba(build, tool):
    """Debug a program of Numba's."""
    log = build / "clients-debugpy.log"
    text = [line.strip() for line in NUMBA_PROGRAM.read_text().splitlines()]
    numbers = [text.index(line) + 1 for line in NUMBA_BREAKPOINTS]
    for implementation, title in IMPLEMENTATIONS.items():
        stops, status = clients_dap.debug(
            command(tool, NUMBA_PROGRAM), build, log,
            {NUMBA_PROGRAM: numbers}, ["next"],
            PYDEVD_USE_CYTHON=implementation, NUMBA_ENABLE_SYS_MONITORING="1")
        if status:
            print_tail(log)
            raise SeriesError(f"{NUMBA} under {DEBUGPY}, {title}: the exit "
                              f"status is {status}")
        lines = [[text[line - 1] for _, line, _ in stack]
                 for _, stack, _ in stops]
        for number, expected in enumerate(NUMBA_STOPS):
            found = lines[number][:len(expected)] if stops[number:] else None
            if found != expected:
                raise SeriesError(
                    f"{NUMBA} under {DEBUGPY}, {title}: stop {number + 1} is "
                    f"at {found}, not at {expected}")
        say("clients", f"{DEBUGPY}, {title}, {NUMBA}: {len(stops)} stops")


def command(tool, program, *arguments):
    return [tool, "-m", "debugpy", "--listen", "{}", "--wait-for-client",
            program, *arguments]


def debug(twin, log, breakpoints, commands, arguments, implementation):
    """Return the stops of a session and the exit status."""
    stops, status = clients_dap.debug(
        command(twin.tool, twin.program, *arguments), twin.folder, log,
        breakpoints, commands, PYDEVD_USE_CYTHON=implementation)
    return [(reason, show_stack(stack)) for reason, stack, _ in stops], status


def show_stack(stack):
    """Leave of a stack what is the same for both twins."""
    shown = []
    for path, line, function in stack:
        path = Path(path)
        if path.stem in (clients_twins.SOURCE.stem,
                         clients_twins.PROGRAM.stem):
            # Cython's own traceback entries have the module in the name.
            shown.append(f"{path.stem}:{line} {function.split('.')[-1]}")
    return shown


def drop_repeated(stops):
    """Cython signals the line of a `for` once more before its first turn."""
    return [stop for stop, before in zip(stops, [None, *stops])
            if stop[1] != (before and before[1])]


def compare(in_python, in_cython, fails):
    """Say what differs, or return None."""
    for name, (stops, status) in (("Python", in_python),
                                  ("Cython", in_cython)):
        if status != fails:
            return f"the program in {name} ends with the status {status}"
        if not stops:
            return f"the program in {name} does not stop"
    both = [drop_repeated(stops) for stops, _ in (in_python, in_cython)]
    for number, (expected, found) in enumerate(zip(*both), 1):
        if expected != found:
            return (f"stop {number} is {found} in Cython and {expected} in "
                    f"Python")
    if len(both[0]) != len(both[1]):
        return (f"{len(both[1])} stops in Cython and {len(both[0])} in "
                f"Python: {both[1][-1]}, {both[0][-1]}")
    return None
