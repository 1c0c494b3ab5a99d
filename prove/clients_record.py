"""What coverage has to find, from sys.monitoring alone.

python clients_record.py SCRIPT [ARGUMENT ...]: runs a script and prints, for
each file that an argument names, the script's included, which lines ran, and
which came after which in one activation: from minus the first line of the
code, and to it.
"""

import collections
import json
import os
import runpy
import sys

monitoring = sys.monitoring
E = monitoring.events
TOOL = 3


def main(script, *arguments):
    files = {os.path.abspath(path): path for path in (script, *arguments)}
    arcs = collections.defaultdict(set)
    activations = []

    def begin(code, offset):
        activations.append(-code.co_firstlineno)

    def add(code, line):
        if os.path.abspath(code.co_filename) in files:
            arcs[code.co_filename].add((activations[-1], line))
        activations[-1] = line

    def end(code, offset, value):
        if activations:
            add(code, -code.co_firstlineno)
            activations.pop()

    for event, callback in ((E.PY_START, begin), (E.LINE, add),
                            (E.PY_RETURN, end), (E.PY_UNWIND, end)):
        monitoring.register_callback(TOOL, event, callback)
    monitoring.use_tool_id(TOOL, "record")
    sys.argv = [script, *arguments]
    activations.append(0)
    monitoring.set_events(TOOL, E.PY_START | E.LINE | E.PY_RETURN
                          | E.PY_UNWIND)
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        monitoring.set_events(TOOL, 0)
    print(json.dumps({
        os.path.basename(path): {
            "lines": sorted({line for _, line in found if line > 0}),
            "arcs": sorted(found)} for path, found in arcs.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
