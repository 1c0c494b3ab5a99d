"""The command line: python3 -m series TARGET, which is what make TARGET runs.
"""

import sys

if sys.version_info < (3, 9):
    sys.exit("the series needs Python 3.9 or later: apt-get install python3")

from series.common import SeriesError
from series.rooms import all_commands
from series.workspace import ROOT


def main(target="help", *arguments):
    """Run the command of a target and return the exit status."""
    command = all_commands(ROOT).get(target)
    if command is None:
        print(f"there is no target {target}: make help names all",
              file=sys.stderr)
        return 2
    try:
        return command(*arguments) or 0
    except (SeriesError, OSError) as error:
        print(error, file=sys.stderr)
        return getattr(error, "status", 1)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
