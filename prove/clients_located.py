"""What make clients measures: a producer whose code has locations.

python clients_located.py FILE: two of the three lines of FILE run.
"""

import sys

import _testcapi

PY_START, PY_RETURN, LINE = 0, 2, 5     # event ids, as the C-API has them
LOCATIONS = [(1, 1, 0, 3), (2, 2, 0, 3), (2, 2, 5, 8), (3, 3, 0, 5)]


def main(filename):
    offset = _testcapi.code_location_offset
    code = _testcapi.code_newwithlocations(filename, "located", None, 1,
                                           LOCATIONS)
    events = [(PY_START, offset(0))]
    events += [(LINE, offset(i), LOCATIONS[i][0]) for i in range(3)]
    events.append((PY_RETURN, offset(2), None))
    producer = _testcapi.Producer(code, (PY_START, LINE, PY_RETURN),
                                  tuple(events))
    producer()
    producer()


if __name__ == "__main__":
    main(sys.argv[1])
