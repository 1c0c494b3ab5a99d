"""Profile the subroutines of a BASIC program with cProfile.

usage: python profile_subs.py PROGRAM [ANSWER ...]
"""

import cProfile
import io
import os
import pstats
import re
import sys

import tinybasic
from listing import load, run


def profile(program, answers):
    with cProfile.Profile() as profiler:
        run(program, answers)
    return profiler


def table(profiler, path):
    """Return what pstats has to say about the code of one file."""
    stream = io.StringIO()
    stats = pstats.Stats(profiler, stream=stream)
    stats.strip_dirs().sort_stats("cumulative", "name")
    stats.print_stats(f"^{re.escape(os.path.basename(path))}:")
    text = stream.getvalue()
    return text[text.index("   ncalls"):].rstrip()


def main(args):
    if not args:
        raise SystemExit(__doc__)
    path, *answers = args
    try:
        profiler = profile(load(path), answers)
    except (tinybasic.Error, EOFError) as error:
        raise SystemExit(f"error: {error}")
    print(table(profiler, path))


if __name__ == "__main__":
    main(sys.argv[1:])
