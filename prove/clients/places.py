"""Print where events happen, as JSON: python places.py FILE SCRIPT.

A tool that does what tools are to do: it listens to what it needs, and asks
sys.monitoring.get_location(), where there is one, what an offset means.
"""

import collections
import json
import os
import runpy
import sys

monitoring = sys.monitoring
TOOL = 3
EVENTS = "PY_START", "PY_YIELD", "RAISE"


def line_of(code, offset):
    """Return the line of an offset, or what is said instead."""
    if hasattr(monitoring, "get_location"):
        try:
            return monitoring.get_location(code, offset).lineno
        except ValueError as error:
            return str(error)
    lines = [line for line, *_ in code.co_positions()]
    return lines[offset // 2] if offset // 2 < len(lines) else "beyond the end"


def main(path, script):
    found = collections.Counter()

    def callback_for(event):
        def callback(code, offset, *_):
            found[code.co_filename, code.co_name, event,
                  line_of(code, offset)] += 1
        return callback

    monitoring.use_tool_id(TOOL, "places")
    for name in EVENTS:
        event = getattr(monitoring.events, name)
        monitoring.register_callback(TOOL, event, callback_for(name))
    monitoring.set_events(TOOL, sum(getattr(monitoring.events, name)
                                    for name in EVENTS))
    sys.argv = [script]
    sys.path.insert(0, os.path.dirname(script))
    runpy.run_path(script, run_name="__main__")
    monitoring.set_events(TOOL, 0)
    with open(path, "w") as file:
        json.dump([[*key, count] for key, count in found.items()], file)


if __name__ == "__main__":
    main(*sys.argv[1:])
