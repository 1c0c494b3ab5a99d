"""What an extension does whose headers have the interpreter's tables elsewhere.

One that listens comes first or last, or has local events alone:
moved_tables.py before|after|local.
"""

import sys
import warnings

import _monitoring_layer as layer

M = sys.monitoring
LINE = 5


def enter():
    """Enter a scope; return the warnings."""
    with warnings.catch_warnings(record=True) as records:
        warnings.simplefilter("always")
        layer.monitoring_enter_scope(codelike, LINE)
    return [str(warning.message) for warning in records
            if warning.category is RuntimeWarning]


def listen():
    M.use_tool_id(2, "test")
    M.register_callback(2, M.events.LINE, lambda *args: called.append(args))
    if sys.argv[1] == "local":
        M.set_local_events(2, code, M.events.LINE)
    else:
        M.set_events(2, M.events.LINE)


called = []
codelike = layer.CodeLike(1)
code = layer.code_newwithlocations("f", "n", None, 1, [(1, 1, 0, 1)])
if sys.argv[1] == "before":
    listen()
caught = enter()
if sys.argv[1] != "before":
    listen()
for _ in range(3):
    with warnings.catch_warnings(record=True) as records:
        warnings.simplefilter("always")
        layer.fire_elsewhere(code)
    caught += [str(warning.message) for warning in records]
    caught += enter()
    layer.fire_event_line(codelike, 1, 10)
if sys.argv[1] == "local":
    # They need less: what they have come to see is right, or was warned of.
    assert not called or not caught
    assert set(called) <= {(code, 1)}, called
    called.clear()
    M.set_local_events(2, code, 0)
    M.set_events(2, M.events.LINE)
    caught += enter()
    layer.fire_event_line(codelike, 1, 10)
M.set_events(2, 0)
version = "%d.%d.%d" % sys.version_info[:3]
assert len(caught) == 1 and f"this Python {version} " in caught[0], caught
assert not any(args[0] in (codelike, code) for args in called), called
assert codelike.states == bytes(2), codelike.states
