"""What the tests of the C-API that signals sys.monitoring events share.

A code-like of _testcapi has as many states as it was made with; its
fire_event_*() functions take the state as a keyword and check that a set
exception stays the same.
"""

import collections
import contextlib
import gc
import opcode
import sys
import unittest
from test.support import import_helper

_testcapi = import_helper.import_module("_testcapi")

monitoring = sys.monitoring
E = monitoring.events
DISABLE = monitoring.DISABLE
MISSING = monitoring.MISSING

TOOL = 2
OTHER_TOOL = 4
# In states; the other bits are for the interpreter itself.
TOOL_BITS = 0b111111

# In the order of the ids.
EVENT_NAMES = (
    "PY_START", "PY_RESUME", "PY_RETURN", "PY_YIELD", "CALL", "LINE",
    "INSTRUCTION", "JUMP", "BRANCH", "STOP_ITERATION", "RAISE",
    "EXCEPTION_HANDLED", "PY_UNWIND", "PY_THROW", "RERAISE", "C_RETURN",
    "C_RAISE",
)
IDS = {name: event for event, name in enumerate(EVENT_NAMES)}

# What a tool has to listen to for an event.
EVENT_SETS = {name: getattr(E, name) for name in EVENT_NAMES}
EVENT_SETS["C_RETURN"] = EVENT_SETS["C_RAISE"] = E.CALL

# Of a call; in the order in which monitoring_vectorcall() takes the states.
CALL_NAMES = ("CALL", "C_RETURN", "C_RAISE")

EXCEPTION_EVENTS = {"RAISE", "EXCEPTION_HANDLED", "PY_UNWIND", "PY_THROW",
                    "RERAISE", "C_RAISE"}

CAN_DISABLE = {"PY_START", "PY_RESUME", "PY_RETURN", "PY_YIELD", "CALL",
               "LINE", "JUMP", "BRANCH", "STOP_ITERATION"}

# One way to fire: its arguments after the offset, and what callbacks get after
# the code-like.
Case = collections.namedtuple("Case", "name fire args reported")


def make_cases(offset=0):
    """Every Fire function, with the event that it is for."""
    def value(name, function=None):
        obj = object()
        return Case(name, function or name.lower(), (obj,), (offset, obj))

    def exception(name):
        exc = LookupError(name)
        return Case(name, name.lower(), (exc,), (offset, exc))

    exc = LookupError("C_RAISE")
    stop = StopIteration(7)
    return [
        Case("PY_START", "py_start", (), (offset,)),
        Case("PY_RESUME", "py_resume", (), (offset,)),
        value("PY_RETURN"),
        value("PY_YIELD"),
        Case("CALL", "call", (len, "x"), (offset, len, "x")),
        Case("LINE", "line", (1000,), (1000,)),
        value("JUMP"),
        value("BRANCH"),
        value("BRANCH", "branch_left"),
        value("BRANCH", "branch_right"),
        Case("STOP_ITERATION", "stop_iteration", (stop,), (offset, stop)),
        exception("RAISE"),
        exception("EXCEPTION_HANDLED"),
        exception("PY_UNWIND"),
        exception("PY_THROW"),
        exception("RERAISE"),
        Case("C_RETURN", "c_return", (42,), (offset, MISSING, MISSING)),
        Case("C_RAISE", "c_raise", (exc,), (offset, MISSING, MISSING)),
        Case("C_RETURN", "call_return", (len, "x"), (offset, len, "x")),
        Case("C_RAISE", "call_raise", (len, "x", exc), (offset, len, "x")),
    ]


def fire(case, codelike, offset=0, **kwargs):
    function = getattr(_testcapi, "fire_event_" + case.fire)
    return function(codelike, offset, *case.args, **kwargs)


def enter(codelike, *names, **kwargs):
    _testcapi.monitoring_enter_scope(
        codelike, *(IDS[name] for name in names), **kwargs)


exit_scope = _testcapi.monitoring_exit_scope


@contextlib.contextmanager
def scope(codelike, *names):
    enter(codelike, *names)
    try:
        yield
    finally:
        exit_scope()


def count_blocks():
    """How many blocks of memory are in use, without free lists and caches."""
    gc.collect()
    # It keeps each string that an attribute was looked up with.
    sys._clear_type_cache()
    return sys.getallocatedblocks()


class MonitoringTestCase(unittest.TestCase):

    def setUp(self):
        # With one state, which is then that of every offset.
        self.codelike = _testcapi.CodeLike(1)
        for tool in range(6):
            monitoring.use_tool_id(tool, "test")
            self.addCleanup(self.free_tool, tool)

    def free_tool(self, tool):
        monitoring.set_events(tool, 0)
        for name in EVENT_NAMES:
            monitoring.register_callback(tool, getattr(E, name), None)
        monitoring.free_tool_id(tool)

    def listen(self, *names, tool=TOOL, callback=None):
        """Have a tool listen to events; return the list of the calls.

        The test's own code has events too: only those of code-likes count,
        and only for them is callback called.
        """
        calls = []

        def register(name):
            def record(code, *args):
                if isinstance(code, (_testcapi.CodeLike,
                                     _testcapi.WeakCodeLike)):
                    calls.append((name, code, *args))
                    if callback is not None:
                        return callback(code, *args)
            monitoring.register_callback(tool, getattr(E, name), record)

        event_set = monitoring.get_events(tool)
        for name in names:
            register(name)
            event_set |= EVENT_SETS[name]
        monitoring.set_events(tool, event_set)
        return calls

    def each_case(self, check, cases=None):
        """Call check(case, calls) in a scope where TOOL listens to the event.

        Not a generator: on 3.13's debug build, one that yields to a loop while
        a tool listens to BRANCH fails an assertion.
        """
        for case in make_cases() if cases is None else cases:
            with self.subTest(case.fire):
                calls = self.listen(case.name)
                with scope(self.codelike, case.name):
                    check(case, calls)
                for tool in range(6):
                    monitoring.set_events(tool, 0)


class Plain:
    """A code-like that is no code object."""

    co_name = "plain"
    co_filename = "plain.src"
    co_firstlineno = 1


def make_function():
    """A new Python function, with a code object of its own."""
    namespace = {}
    exec("def function():\n    a = 1\n    return a\n", namespace)
    return namespace["function"]


def make_codelikes():
    """One code-like of each kind that can be weakly referenced."""
    code = make_function().__code__
    nothing = bytes([opcode.opmap["NOP"], 0])
    return {
        "type of C": _testcapi.WeakCodeLike(0),
        "code object": code,
        "empty code object": _testcapi.code_newempty("empty.src", "empty", 1),
        "code object without a start": code.replace(co_code=nothing),
        "object": Plain(),
        **make_located(),
    }


def make_located():
    """One that is made of locations; stock CPython has none."""
    if not hasattr(_testcapi, "code_newwithlocations"):
        return {}
    locations = [(1 + i, 1 + i, 0, 1) for i in range(1010)]
    return {"code object made of locations": _testcapi.code_newwithlocations(
        "located.src", "located", None, 1, locations)}


# What sys.monitoring keeps local events of by itself: it has bytecode in which
# events are switched on.
WITH_BYTECODE = {"code object", "empty code object",
                 "code object made of locations"}


class CodelikeTestCase(MonitoringTestCase):
    """Events of any code-like, from a producer that fires each in turn."""

    def setUp(self):
        super().setUp()
        self.codelikes = make_codelikes()

    def each_codelike(self, check):
        """Call check(codelike, fresh) for each kind of both."""
        for kind, codelike in make_codelikes().items():
            for fresh in (True, False):
                with self.subTest(kind=kind, fresh=fresh):
                    check(codelike, fresh)
                for tool in range(6):
                    monitoring.set_events(tool, 0)
                monitoring.restart_events()

    def record(self, codelike, name, result=None, *, tool=TOOL, events=None):
        """Have a tool listen to an event; return the list of what callbacks
        for codelike get first: offsets, or lines.

        result is what the callback returns.  The event set is that of the
        event; with events=0 the tool does not listen.
        """
        seen = []

        def callback(code, *args):
            if code is codelike:
                seen.append(args[0])
                return result

        monitoring.register_callback(tool, getattr(E, name), callback)
        if events is None:
            events = EVENT_SETS[name]
        monitoring.set_events(tool, events)
        return seen


def make_producer(codelike, *actions, failed=(), **kwargs):
    """A producer that does actions with an event's name in front, or None for
    a call."""
    names = dict.fromkeys(
        name for action in (*actions, *failed) if isinstance(action, tuple)
        for name in ([action[0]] if action[0] else CALL_NAMES)
        if name in IDS)

    def with_ids(actions):
        return tuple((IDS.get(action[0], action[0]), *action[1:])
                     if isinstance(action, tuple) else action
                     for action in actions)

    return _testcapi.Producer(
        codelike, tuple(IDS[name] for name in names), with_ids(actions),
        with_ids(failed), **kwargs)


def line_producer(codelike, lines, **kwargs):
    return _testcapi.Producer(
        codelike, (IDS["PY_START"], IDS["LINE"]),
        tuple((IDS["LINE"], offset, line)
              for offset, line in enumerate(lines)), **kwargs)
