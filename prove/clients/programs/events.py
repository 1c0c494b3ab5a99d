"""What make clients measures: Python code around a producer.

python events.py with|without: the same lines run with a producer's
events and without; what it prints is how many of the events a tool got.
"""

import sys

import _monitoring_layer
import _testcapi

monitoring = sys.monitoring
E = monitoring.events
TOOL = 4
# Event ids, as the C-API has them.
PY_START, PY_RETURN, CALL, LINE, JUMP, BRANCH, C_RETURN = 0, 2, 4, 5, 7, 8, 15
TYPES = PY_START, PY_RETURN, CALL, LINE, JUMP, BRANCH, C_RETURN


class Foreign:
    """A code-like that is no code object."""

    co_name = "foreign"
    co_filename = "foreign.src"
    co_firstlineno = 1


def helper(number):
    if number > 1:
        return number * 2
    return number


def called_back():
    for number in range(3):
        helper(number)


def failing():
    called_back()
    raise LookupError("from a callback")


def numbers(call):
    yield 1
    call()
    yield 2


def program(call, depth=1):
    total = 0
    for i in range(2):
        try:
            call()
            total += i
        except LookupError:
            total -= i
    if depth:
        program(call, depth - 1)
    try:
        total += sum(numbers(call))
    except LookupError:
        total -= 1
    if total > 1000:
        called_back()
    return total


def main(choice):
    codes = []
    monitoring.use_tool_id(TOOL, "clients")
    monitoring.register_callback(TOOL, E.LINE,
                                 lambda code, line: codes.append(code))
    monitoring.set_events(TOOL, E.LINE)
    first = program.__code__.co_firstlineno
    for codelike in (_testcapi.code_newempty("foreign.src", "foreign", 1),
                     Foreign(), program.__code__):
        # Of the caller's file the first line runs and the last one does not.
        line = first + (1 if codelike is program.__code__ else 15)
        events = ((PY_START, 0), (LINE, 1, line), (BRANCH, 4, 9),
                  (CALL, 5, len, ""), (C_RETURN, 5, 0), (JUMP, 6, 1),
                  (PY_RETURN, 7, None))
        for callbacks in ((), (called_back,), (called_back, failing)):
            chosen = {"with": (TYPES, (*events, *callbacks, *events)),
                      "without": ((), callbacks)}[choice]
            for fresh in (True, False):
                program(_monitoring_layer.Producer(codelike, *chosen,
                                                   fresh=fresh))
    monitoring.set_events(TOOL, 0)
    print(sum(code.co_filename == "foreign.src" for code in codes))


if __name__ == "__main__":
    main(sys.argv[1])
