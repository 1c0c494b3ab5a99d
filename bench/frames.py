"""What looks at frames, as worker.py runs it: stacks and trace functions."""

import sys

TIMES = 10      # that each function looks


def look_back(*_):
    """Walk from the innermost frame to the outermost one."""
    for _ in range(TIMES):
        frame = sys._getframe()
        while frame is not None:
            frame = frame.f_back


def get_frames(*_):
    """Get the four innermost frames."""
    for _ in range(TIMES):
        for depth in range(4):
            sys._getframe(depth)


LOOKS = {"f_back": look_back, "sys._getframe": get_frames}


def start(*_):
    """Be a function whose PY_START has a callback."""


def call_deep(function, depth=8):
    """Call a function below some frames."""
    if depth:
        call_deep(function, depth - 1)
    else:
        function()


# What is called, and its arguments.
TARGETS = {"start": (start, ()),
           **{name: (call_deep, (look,)) for name, look in LOOKS.items()}}


def run_python(_code):
    """Be the twin of loops.run_foreign: 8 lines, 10 events."""
    pass
    pass
    pass
    pass
    pass
    pass
    pass
    pass


def trace(_frame, _event, _arg):
    """Be a trace function that does nothing."""
    return trace


def check_events(function, code, expected_code):
    """Fail unless a trace function gets the 10 events, of the right frame."""
    events = []

    def record(frame, event, _arg):
        if frame.f_code is expected_code:
            events.append(event)
        return record

    sys.settrace(record)
    try:
        function(code)
    finally:
        sys.settrace(None)
    if events != ["call", *8 * ["line"], "return"]:
        raise RuntimeError(f"{function} has the events {events}")
