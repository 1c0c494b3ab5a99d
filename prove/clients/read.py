"""Print what a tool wrote, as JSON: python read.py KIND FILE.

It is run by the Python that the tool is installed for.
"""

import json
import pickle
import pstats
import sys


def functions(path):
    """Return what cProfile and profile count: [[file, first line, name, calls,
    primitive calls, [[file, first line, name], ...] of the callers], ...].

    A builtin's callers stand for the builtin.
    """
    stats = pstats.Stats(path).stats

    def expand(callers):
        for caller in callers:
            if caller[0] in ("~", "") and caller in stats:
                yield from expand(stats[caller][4])
            else:
                yield [*caller[:2], str(caller[2])]

    # To profile, the whole program is a function with a code object for name.
    return [[*function[:2], str(function[2]), calls, primitive,
             list(expand(callers))]
            for function, (primitive, calls, _, _, callers) in stats.items()]


def counts(path):
    """Return what trace counts: [[file, line, count], ...]."""
    with open(path, "rb") as file:
        lines, *_ = pickle.load(file)
    return [[*place, count] for place, count in lines.items()]


def hits(path):
    """Return what line_profiler counts: [[file, line, hits], ...]."""
    import line_profiler
    return [[path, line, count] for (path, *_), found
            in line_profiler.load_stats(path).timings.items()
            for line, count, _ in found]


def covered(path):
    """Return {file: [lines, arcs or None]} of a file of coverage's."""
    from coverage import CoverageData
    data = CoverageData(path)
    data.read()
    return {path: [data.lines(path), data.arcs(path)]
            for path in data.measured_files()}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](sys.argv[2])))
