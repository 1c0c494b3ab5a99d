"""Lay the test layer that was built over CPython's own, at start-up.

A .pth file imports this in every interpreter of the virtual environment, the
isolated processes that tests start included.
"""

import sys


def lay_over():
    """Give _testcapi what the layer has."""
    try:
        import _testcapi
        import _monitoring_layer
        from test import support
    except ImportError:
        # An interpreter with a GIL of its own does not load _testcapi.
        return
    # Not in 3.12.
    if not hasattr(support, "Py_GIL_DISABLED"):
        support.Py_GIL_DISABLED = False
    for name, value in vars(_monitoring_layer).items():
        if not name.startswith("__"):
            setattr(_testcapi, name, value)
    if hasattr(sys.monitoring.events, "BRANCH_LEFT"):
        split_branch()
    if hasattr(_testcapi, "EVENT_LINE"):
        # One that is built for all versions has ids of its own.
        from test_capi import monitoring_support as tests
        tests.IDS.update({name: getattr(_testcapi, "EVENT_" + name)
                          for name in tests.IDS})


def split_branch():
    """Have the tests use BRANCH_LEFT and BRANCH_RIGHT, as from 3.14 on."""
    from test_capi import monitoring_support as tests
    events = vars(sys.monitoring.events)
    names = sorted((name for name, value in events.items()
                    if name.isupper() and value > 0 and name != "BRANCH"),
                   key=events.get)
    tests.EVENT_NAMES = tuple(names)
    tests.IDS.update((name, index) for index, name in enumerate(names))
    halves = {"branch_left": "BRANCH_LEFT", "branch_right": "BRANCH_RIGHT",
              "branch": "BRANCH_RIGHT"}
    for name in halves.values():
        tests.EVENT_SETS[name] = events[name]
        tests.CAN_DISABLE.add(name)
    tests.CAN_DISABLE.discard("BRANCH")
    # Who registers for BRANCH itself gets whatever the memory holds behind a
    # code-like that is no code object.
    tests.EVENT_SETS["BRANCH"] = events["BRANCH_LEFT"]
    make_cases = tests.make_cases
    tests.make_cases = lambda *args: [
        case._replace(name=halves.get(case.fire, case.name))
        for case in make_cases(*args)]


lay_over()
