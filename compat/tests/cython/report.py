"""Print what one tool sees of sample.pyx, as JSON: report.py NAME.

"lines" is how often each line was reported, "once" what is reported to a tool
that disables each line; both are made of LINE events.  "profile" is what
cProfile counts.
"""

import collections
import cProfile
import json
import os
import pstats
import sys

import sample

M = sys.monitoring


def is_sample(filename):
    return os.path.basename(filename) == "sample.pyx"


def lines(result):
    """Run the sample; return how often each of its lines was reported."""
    counts = collections.Counter()

    def callback(code, line):
        if is_sample(code.co_filename):
            counts[line] += 1
            return result

    M.use_tool_id(M.COVERAGE_ID, "report")
    M.register_callback(M.COVERAGE_ID, M.events.LINE, callback)
    M.set_events(M.COVERAGE_ID, M.events.LINE)
    try:
        assert sample.main() == EXPECTED
    finally:
        M.set_events(M.COVERAGE_ID, 0)
        M.register_callback(M.COVERAGE_ID, M.events.LINE, None)
        M.free_tool_id(M.COVERAGE_ID)
        M.restart_events()
    return {str(line): counts[line] for line in sorted(counts)}


def profile():
    """Run the sample under cProfile; return the calls of its functions."""
    profiler = cProfile.Profile()
    assert profiler.runcall(sample.main) == EXPECTED
    return {f"{line} {name}": stats[:2] for (filename, line, name), stats
            in sorted(pstats.Stats(profiler).stats.items())
            if is_sample(filename)}


def attempt(function, *args):
    """Return what the function returns, or the name of what it raises."""
    try:
        return function(*args)
    except Exception as error:
        return type(error).__name__


EXPECTED = sample.main()
REPORTS = {"lines": (lines, None), "once": (lines, M.DISABLE),
           "profile": (profile,)}
print(json.dumps(attempt(*REPORTS[sys.argv[1]])))
