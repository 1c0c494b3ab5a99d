"""What make clients profiles: builtins that two greenlets call by turns.

python greenlets.py WAY: for each order in which the two can take
turns, prints what cProfile counts and what the callbacks of another tool get.
The calls are those of a Python function, or a producer signals them.
"""

import cProfile
import itertools
import json
import sys

import _monitoring_layer
from greenlet import getcurrent, greenlet

monitoring = sys.monitoring
E = monitoring.events
TOOL = 4
# Event ids, as the C-API has them.
CALL, C_RETURN, C_RAISE = TYPES = 4, 15, 16
SEGMENTS = 5        # of calls(): it pauses in each of its calls


class Pausing:
    """A builtin that looks at it is left for the other greenlet."""

    def __init__(self, value):
        self.value = value

    def pause(self):
        getcurrent().parent.switch()
        return self.value

    __len__ = __index__ = pause


GOOD = Pausing(3)
BAD = Pausing(-1)


def calls():
    len(GOOD)
    hex(GOOD)
    len(GOOD)
    chr(BAD)


def fire(offset, function, arg, error=None):
    """Return the actions of a producer that fires each event itself."""
    end = ((C_RAISE, offset, function, arg, error) if error
           else (C_RETURN, offset, function, arg))
    return (CALL, offset, function, arg), arg.pause, end


FIRED = (*fire(1, len, GOOD), *fire(2, hex, GOOD), *fire(3, len, GOOD),
         *fire(4, chr, BAD, ValueError()))
VECTORCALLED = ((None, 1, len, GOOD), (None, 2, hex, GOOD),
                (None, 3, len, GOOD), (None, 4, chr, BAD))


def produce(actions, fresh):
    """Return a producer; its scopes share their states unless fresh."""
    return _monitoring_layer.Producer(calls.__code__, TYPES, actions,
                                      fresh=fresh)


WAYS = {
    "python": calls,
    "fired": produce(FIRED, True),
    "fired, shared states": produce(FIRED, False),
    "vectorcalled": produce(VECTORCALLED, True),
    "vectorcalled, shared states": produce(VECTORCALLED, False),
}


def run(function):
    try:
        function()
    except ValueError:
        pass


def take_turns(function, workers, order):
    for index in order:
        workers[index].switch(function)
    assert workers[0].dead and workers[1].dead, order


def profile(function, order):
    """Return [[name, primitive calls, calls], ...] as cProfile counts."""
    workers = greenlet(run), greenlet(run)
    profiler = cProfile.Profile()
    with profiler:
        take_turns(function, workers, order)
    profiler.create_stats()
    return sorted([name, *counts[:2]]
                  for (*_, name), counts in profiler.stats.items()
                  if name != calls.__name__)


def record(function, order):
    """Return what callbacks get, each with the greenlet that it ran in."""
    workers = greenlet(run), greenlet(run)
    recorded = []

    def callback_of(event):
        def callback(code, offset, callable_, arg0):
            if code is calls.__code__:
                arg = {GOOD: "GOOD", BAD: "BAD"}.get(arg0, repr(arg0))
                recorded.append([workers.index(getcurrent()), event,
                                 repr(callable_), arg])
        return callback

    monitoring.use_tool_id(TOOL, "clients")
    for event in ("CALL", "C_RETURN", "C_RAISE"):
        monitoring.register_callback(TOOL, getattr(E, event),
                                     callback_of(event))
    monitoring.set_events(TOOL, E.CALL)
    take_turns(function, workers, order)
    monitoring.set_events(TOOL, 0)
    monitoring.free_tool_id(TOOL)
    return recorded


def main(way):
    function = WAYS[way]
    results = {}
    for second in itertools.combinations(range(2 * SEGMENTS), SEGMENTS):
        order = [int(i in second) for i in range(2 * SEGMENTS)]
        results["".join(map(str, order))] = {
            "counts": profile(function, order),
            "calls": record(function, order),
        }
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1])
