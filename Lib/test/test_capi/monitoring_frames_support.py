"""What the tests of foreign frames share."""

import sys
import types
from .monitoring_support import (E, TOOL, MonitoringTestCase, make_producer,
                                 monitoring)

FILENAME = "foreign.src"


class Template(types.CodeLike):
    """A code-like with locations: (line, end line, column, end column)."""

    def __init__(self, name, firstlineno, *positions, filename=FILENAME):
        self.co_name = name
        self.co_qualname = f"template.{name}"
        self.co_filename = filename
        self.co_firstlineno = firstlineno
        self.positions = positions

    co_name = co_qualname = co_filename = co_firstlineno = None

    def co_positions(self):
        return iter(self.positions)


def lines_of(*linenos):
    """Locations of whole lines."""
    return tuple((lineno, lineno, 0, 4) for lineno in linenos)


def walk(frame):
    """The frames from one on, by f_back."""
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


def walk_by_depth(depth):
    """The frames from sys._getframe(depth) of the caller on."""
    frames = []
    while True:
        try:
            frames.append(sys._getframe(depth + 1))
        except ValueError:
            return frames
        depth += 1


def names_of(frames, until):
    """The names of the code of frames, up to a Python function."""
    names = []
    for frame in frames:
        names.append(frame.f_code.co_name)
        if frame.f_code is until.__code__:
            return names
    raise AssertionError(f"{until} is not in {names}")


def iterate_traceback(tb):
    while tb is not None:
        yield tb
        tb = tb.tb_next


class BadAttribute:
    """A code-like that does something when it is asked for its name."""

    co_filename = FILENAME
    co_firstlineno = 1

    def __init__(self, function):
        self.function = function

    @property
    def co_name(self):
        self.function()
        return "bad"


class FrameTestCase(MonitoringTestCase):

    def look_at(self, codelikes, look, *names):
        """Have a tool call look(frame) with the frame of the callback's
        caller, in events with the given names of the code-likes."""
        ids = set(map(id, codelikes))

        def register(name):
            def callback(code, *args):
                if id(code) in ids:
                    look(sys._getframe(1))
            monitoring.register_callback(TOOL, getattr(E, name), callback)

        for name in names:
            register(name)
        monitoring.set_events(TOOL, sum(getattr(E, name) for name in names))


def foreign(codelike, *actions, line=None, value=None, **kwargs):
    """A producer that signals its start and end around the actions."""
    first = (("LINE", 0, line),) if line is not None else ()
    return make_producer(codelike, ("PY_START", 0), *first, *actions,
                         ("PY_RETURN", 0, value),
                         failed=(("RAISE", 0), ("PY_UNWIND", 0)), **kwargs)
