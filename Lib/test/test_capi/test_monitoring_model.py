"""A model-based random test of the C-API that signals monitoring events.

Random steps are done twice: by Driver, with the interpreter, and by Model,
which holds the contract of Include/cpython/monitoring.h.  Both keep a log of
what callbacks get, what is raised, what the states hold and what dies; the
logs must be the same.  A step names what it works on by its place, so that
any selection of steps can be done again: that is how a failure is made short.

    python -m test.test_capi.test_monitoring_model --steps 1000000 --seed 7

does that many steps by hand.  They come in sequences of a fixed length, the
first with the given seed, the next with the seed after it, and so on.
"""

import _thread
import argparse
import collections
import functools
import gc
import itertools
import mmap
import opcode
import os
import pickle
import random
import sys
import time
import traceback
import unittest
import weakref
from types import CodeType, MethodType
from test import support
from test.support import import_helper

_testcapi = import_helper.import_module("_testcapi")

monitoring = sys.monitoring
DISABLE = monitoring.DISABLE
MISSING = monitoring.MISSING

(PY_START, PY_RESUME, PY_RETURN, PY_YIELD, CALL, LINE, INSTRUCTION, JUMP,
 BRANCH, STOP_ITERATION, RAISE, EXCEPTION_HANDLED, PY_UNWIND, PY_THROW,
 RERAISE, C_RETURN, C_RAISE) = range(17)
NUM_EVENTS = 17
CAN_DISABLE = range(RAISE)  # and can be local
CALL_ENDS = {C_RETURN, C_RAISE}
# The events that begin and end activations: their states are active for the
# frames whenever a tool is in use; those of the others once frames are kept.
FRAME_EVENTS = {PY_START, PY_RESUME, PY_RETURN, PY_YIELD, PY_UNWIND, PY_THROW}
KEPT_EVENTS = {CALL, LINE}
FRAMES_BIT = 1 << 6
# The bit in states of a function of the sys module, and the events it gets.
LEGACY_TOOLS = {
    "setprofile": (1 << 6, FRAME_EVENTS | {CALL} | CALL_ENDS),
    "settrace": (1 << 7, FRAME_EVENTS | {LINE, RAISE, STOP_ITERATION}),
}
CALL_END_SET = 1 << C_RETURN | 1 << C_RAISE
EXCEPTION_EVENTS = {RAISE, EXCEPTION_HANDLED, PY_UNWIND, PY_THROW, RERAISE,
                    C_RAISE}
VALUE_EVENTS = {PY_RETURN, PY_YIELD, JUMP, BRANCH}

FUNCTIONS = {
    event: [getattr(_testcapi, "fire_event_" + name) for name in names.split()]
    for event, names in {
        PY_START: "py_start", PY_RESUME: "py_resume", PY_RETURN: "py_return",
        PY_YIELD: "py_yield", CALL: "call", LINE: "line", JUMP: "jump",
        BRANCH: "branch branch_left branch_right",
        STOP_ITERATION: "stop_iteration", RAISE: "raise",
        EXCEPTION_HANDLED: "exception_handled", PY_UNWIND: "py_unwind",
        PY_THROW: "py_throw", RERAISE: "reraise",
        C_RETURN: "c_return call_return", C_RAISE: "c_raise call_raise",
    }.items()
}
enter_scope = _testcapi.monitoring_enter_scope
exit_scope = _testcapi.monitoring_exit_scope
vectorcall = _testcapi.monitoring_vectorcall

TOOLS = range(6)
TOOL_BITS = 0b111111    # in states; the others are for the interpreter itself
SEQUENCE = 300          # steps
FILENAME = "<model>"    # of code-likes that are code objects
NO_MEMORY = {"code", "empty", "located", "no start", "plain", "bare", "text"}
# The interpreter itself keeps the local events of these, for their bytecode.
WITH_BYTECODE = {"code", "empty", "located"}
NO_WEAKREF = {"strong", "text"}
NO_LOCAL_EVENTS = NO_WEAKREF | {"bare"}
# The reactions of a callback that does some steps first.
DO = {"do", "do, disable", "do, raise"}
NUM_SLOTS = 6
MEMORY_SLOTS = (0, 2, 3, 3)


class Error(Exception):
    """An exception of the test, known by its label."""


class Stop(StopIteration):
    """The same for an event that takes a StopIteration."""


class Plain:
    """A code-like that is no code object."""

    co_filename = FILENAME
    co_firstlineno = 1


class Thing:
    """An object that events are fired with."""

    def method(self):
        """Another callable that gets no C_RETURN."""


def function():
    """A callable that gets no C_RETURN; of one line."""
    return None


# What CALL events are fired with beside things.
CALLABLES = {"function": function, "method": Thing().method, "len": len}
PYTHON_FUNCTIONS = {"function", "method"}
template = function.__code__.replace(co_filename=FILENAME)
LOCATIONS = [(line, line, 0, 1) for line in range(1, 40)]
no_start = template.replace(co_code=bytes([opcode.opmap["NOP"], 0]))


def ignore(*args):
    """A function for sys.settrace() and sys.setprofile()."""


def chain_of(exc):
    """Return the labels in the chain of contexts; take the tracebacks, which
    keep what the frames hold alive."""
    labels = []
    while exc is not None:
        labels.append(getattr(exc, "label", type(exc).__name__))
        exc.__traceback__ = None
        exc = exc.__context__
        if len(labels) > 100:
            return "ring of contexts", *labels[:10]
    return tuple(labels)


def logged(value):
    """Return what stands in the log for an argument of a callback."""
    kind = type(value)
    if kind is Thing:
        return value.label
    if kind is int:
        # Another object: the log does not keep what callbacks get.
        return value + 0
    if kind is str:
        return value
    if value is MISSING:
        return "MISSING"
    if kind is StopIteration:
        return "StopIteration", logged(value.value)
    if isinstance(value, BaseException):
        return chain_of(value)
    if kind is tuple:
        return value
    if kind is functools.partial:
        return "partial"
    if kind is MethodType:
        return "method"
    return value.__name__


class Callable:
    """A callback that is no function, and so is called another way."""

    def __init__(self, function):
        self.function = function

    def __call__(self, *args):
        return self.function(*args)


class Reference(weakref.ref):
    """A weak reference that knows the label of its object."""

    __slots__ = ("label",)


class Box:
    """The place of a code-like, with the event types of its states.

    The memory of the states is one array in the object; the other is the
    spare one that "swap" puts there.
    """

    def __init__(self, codelike, events, spare_events):
        self.codelike = codelike
        self.events = events
        self.spare_events = spare_events
        if hasattr(codelike, "states"):
            self.spare = codelike.states, 0

    def swap(self):
        """Change the two arrays."""
        codelike = self.codelike
        self.events, self.spare_events = self.spare_events, self.events
        now = codelike.states, codelike.version
        codelike.states, codelike.version = self.spare
        self.spare = now


class Runner:
    """What doing steps is for both the driver and the model."""

    def __init__(self):
        self.log = []
        self.dead = []
        self.slots = [None] * NUM_SLOTS
        self.producers = [None] * 2
        self.generators = [None] * 2
        # These may start each other without end.
        self.calling = 0                # producers
        self.nested = 0                 # threads that wait for another
        self.tracing = 0                # times that events are let through
        # Innermost last: what is being handled, and was set when an event
        # was fired.
        self.handled = [None]
        self.pending = [None]

    def do(self, step):
        """Do one step."""
        getattr(self, step[0])(*step[1:])

    def do_all(self, steps):
        """Do steps in the middle of another."""
        for step in steps:
            self.do(step)

    def run(self, steps):
        """Do steps; return for each its part of the log and what died."""
        done = []
        for step in steps:
            self.do(step)
            done.append((self.log[:], sorted(self.dead)))
            self.log.clear()
            self.dead.clear()
        return done

    def generator(self, slot, parts):
        """Make a generator that does some steps between its yields."""
        def work():
            for steps in parts:
                self.do_all(steps)
                yield
        self.generators[slot] = work()

    def resume(self, slot):
        """Resume a generator."""
        # Not a loop: a generator that yields to one while a tool listens to
        # BRANCH fails an assertion of 3.13's debug build.
        if self.generators[slot] is not None:
            next(self.generators[slot], None)


def remove_callbacks():
    """Remove the callbacks of all tools for all events."""
    for event in range(NUM_EVENTS):
        for tool in TOOLS:
            monitoring.register_callback(tool, 1 << event, None)


def free_tools():
    """Have no tool in use."""
    for tool in TOOLS:
        if monitoring.get_tool(tool) is None:
            monitoring.use_tool_id(tool, "model")
        monitoring.set_events(tool, 0)
        monitoring.free_tool_id(tool)


class Driver(Runner):
    """Does steps with the interpreter."""

    def __init__(self):
        super().__init__()
        self.references = []
        self.numbers = []               # that were kept, and what they were
        self.traced = None              # the frame of a trace function

    def run(self, steps):
        """Do steps, with a start and an end that leave nothing behind."""
        collected = gc.isenabled()
        gc.disable()
        try:
            for tool in TOOLS:
                monitoring.use_tool_id(tool, "model")
            return super().run(steps) + [self.finish()]
        finally:
            free_tools()
            monitoring.restart_events()
            if collected:
                gc.enable()

    def finish(self):
        """Drop everything; return what is left alive, and what numbers that
        callbacks kept have changed, as the last log."""
        remove_callbacks()
        free_tools()
        self.slots.clear()
        self.producers.clear()
        self.generators.clear()
        self.dead.clear()
        wrong = [ref.label for ref in self.references if ref() is not None]
        wrong += [(number, text) for number, text in self.numbers
                  if str(number) != text]
        numbers = {id(number): number for number, _ in self.numbers}
        self.numbers.clear()
        kept = [number for number in numbers.values()
                if sys.getrefcount(number) > 3]    # dict, variable, argument
        # The thread keeps the last one.
        return wrong + kept[1:], []

    def track(self, obj, label):
        """Have the death of an object noted; return the object."""
        reference = Reference(obj, self.died)
        reference.label = label
        self.references.append(reference)
        return obj

    def died(self, reference):
        self.dead.append(reference.label)

    def make(self, kind, label):
        """Return a new object of a kind that has a label."""
        obj = kind()
        obj.label = label
        return self.track(obj, label)

    def attempt(self, function, *args, **kwargs):
        """Call a function; log what it raises."""
        try:
            return function(*args, **kwargs)
        except Exception as exc:
            self.log.append(("raised", *chain_of(exc)))

    def make_pending(self, length, label):
        """Return an exception with a chain of contexts; None for length 0,
        and for -1 the one that is being handled."""
        if length < 0:
            return self.handled[-1]
        exc = None
        for i in range(length):
            last, exc = exc, self.make(Error, f"{label}.{i}")
            exc.__context__ = last
        return exc

    # ------ Steps: code-likes and scopes ------

    def new(self, slot, kind, label, events, spare_events):
        self.slots[slot] = None
        if kind == "strong":
            codelike = _testcapi.CodeLike(len(events), label)
        elif kind == "weak":
            codelike = _testcapi.WeakCodeLike(len(events), label)
        elif kind == "code":
            codelike = template.replace(co_name=label)
        elif kind == "empty":
            codelike = _testcapi.code_newempty(FILENAME, label, 1)
        elif kind == "located":
            codelike = _testcapi.code_newwithlocations(
                FILENAME, label, None, 1, LOCATIONS)
        elif kind == "no start":
            codelike = no_start.replace(co_name=label)
        elif kind == "plain":
            codelike = Plain()
            codelike.co_name = label
        elif kind == "bare":
            codelike = Thing()
            codelike.label = label
        else:
            codelike = label
        if kind not in NO_WEAKREF:
            self.track(codelike, label)
        self.slots[slot] = Box(codelike, events, spare_events)

    def kill(self, slot):
        self.slots[slot] = None

    def swap(self, slot):
        box = self.slots[slot]
        if box and hasattr(box, "spare"):
            box.swap()

    def enter(self, slot, how, pending, label):
        box = self.slots[slot]
        if box is None or not hasattr(box, "spare"):
            return
        codelike = box.codelike
        exc = self.make_pending(pending, label)
        events = box.events
        if how != "again":
            codelike.states = b"\xff" * len(codelike.states)
            codelike.version = 0
        if how == "unknown":
            events = *events[1:], NUM_EVENTS
        self.attempt(enter_scope, codelike, *events, pending=exc)
        self.log.append(("active", codelike.version != 0,
                         *(active & TOOL_BITS
                           for active in codelike.states[::2])))

    def exit(self, pending, label):
        exit_scope(pending=self.make_pending(pending, label))

    # ------ Steps: events ------

    def fire(self, slot, k, event, offset, line, choice, pending, label):
        box = self.slots[slot]
        if box is None or not hasattr(box, "spare"):
            return
        codelike = box.codelike
        k %= len(box.events)
        event = event_to_fire(box.events[k], event)
        functions = FUNCTIONS[event]
        fire_event = functions[choice % len(functions)]
        exc = self.make_pending(pending, label)
        self.pending.append(exc)
        args = self.arguments(event, line, choice, label)
        if event in EXCEPTION_EVENTS:
            self.attempt(fire_event, codelike, offset, *args, exc, state=k)
        else:
            self.attempt(fire_event, codelike, offset, *args, state=k,
                         pending=exc)
        self.pending.pop()
        if exc is not None:
            self.log.append(("pending", *chain_of(exc)))

    def arguments(self, event, line, choice, label):
        """Return what an event is fired with after the offset."""
        if event == LINE:
            return line,
        if passes_callable(event, choice):
            name, has_argument = call_choice(choice)
            return (CALLABLES[name] if name else self.make(Thing, label),
                    self.make(Thing, label + "a") if has_argument else MISSING)
        if event in VALUE_EVENTS or event == C_RETURN:
            return self.make(Thing, label),
        if event == STOP_ITERATION:
            kind = stop_choice(choice)
            return self.make(kind, label) if kind else (1, 2),
        return ()

    def produce(self, place, slot, events, actions, fresh, label):
        box = self.slots[slot]
        if box is None:
            return
        errors = []

        def make_action(action):
            if action is None:
                return None
            if action[0] == "do":
                return functools.partial(self.do_all, action[1])
            if action[0] == "vectorcall":
                offset, kind, *what = action[1:]
                return None, offset, self.make_callable(kind, *what), label
            event, offset, line, choice = action[1:]
            args = ()
            if event == LINE:
                args = line,
            elif passes_callable(event, choice):
                args = CALLABLES[call_choice(choice)[0] or "len"], label
            elif event in {C_RETURN, STOP_ITERATION, *VALUE_EVENTS}:
                args = label,
            if event in EXCEPTION_EVENTS:
                exc = None
                if choice:
                    exc = Error()
                    exc.label = label
                    errors.append(exc)
                args = *args, exc
            return event, offset, *args

        producer = _testcapi.Producer(
            box.codelike, events, tuple(map(make_action, actions)),
            fresh=fresh)
        self.producers[place] = producer, errors

    def call(self, place):
        if self.producers[place] is None or self.calling == 2:
            return
        self.calling += 1
        producer, errors = self.producers[place]
        self.pending.append(None)
        self.attempt(producer)
        self.pending.pop()
        for exc in errors:
            exc.__traceback__ = exc.__context__ = None
        self.calling -= 1

    def vectorcall(self, slot, offset, kind, raises, steps, label):
        box = self.slots[slot]
        if box is None or len(box.events) < 3 or self.calling == 2:
            return
        self.calling += 1
        callable = self.make_callable(kind, raises, steps, label)
        args = (label,) if len(steps) % 2 else ()
        kwargs = {"key": label} if offset % 2 else {}
        self.pending.append(None)
        result = self.attempt(vectorcall, box.codelike, offset, callable,
                              *args, **kwargs)
        self.pending.pop()
        if result is not None:
            self.log.append(("result", result.label))
        self.calling -= 1

    def make_callable(self, kind, raises, steps, label):
        """Return a callable that does some steps."""
        def function(*args, **kwargs):
            self.log.append(("arguments", *args, *kwargs))
            self.do_all(steps)
            if raises:
                raise self.make(Error, label)
            return self.make(Thing, label)

        if kind == "method":
            return MethodType(function, label)
        if kind == "partial":
            return functools.partial(function)
        return function

    def handling(self, label, steps):
        try:
            raise self.make(Error, label)
        except Error:
            self.handled.append(sys.exception())
            self.do_all(steps)
            self.handled.pop().__traceback__ = None

    def thread(self, steps):
        if self.nested == 2:
            return
        self.nested += 1
        kept = self.handled, self.pending
        self.handled, self.pending = [None], [None]
        _thread.start_joinable_thread(lambda: self.do_all(steps)).join()
        self.handled, self.pending = kept
        self.nested -= 1

    def trace(self, steps):
        if self.tracing == 2:
            return
        self.tracing += 1
        sys.call_tracing(self.do_all, (steps,))
        self.tracing -= 1

    # ------ Steps: tools ------

    def callback(self, tool, event, label, reactions):
        callback = None
        if label is not None:
            callback = self.make_callback(event, label, reactions)
        old = monitoring.register_callback(tool, 1 << event, callback)
        self.log.append(("old callback", old and old.label))

    def make_callback(self, event, label, reactions):
        """Return a callback that reacts to one call after the other."""
        # Tools see the driver's bytecode too, as little of it as can be.
        foreign = DISABLE if event in CAN_DISABLE else None
        calls = itertools.cycle(reactions)
        # Where nobody does, the next event may change the number.
        keeps_numbers = len(reactions) % 2

        def callback(code, *args):
            kind = type(code)
            if kind is CodeType and code.co_filename != FILENAME:
                return foreign
            name = logged(code) if kind in (str, Thing) else code.co_name
            if keeps_numbers and type(args[0]) is int and args[0] > 256:
                self.numbers.append((args[0], str(args[0])))
            self.log.append(("called", label, name, *map(logged, args)))
            reaction = next(calls)
            if reaction is None:
                return None
            try:
                return self.react(*reaction)
            finally:
                if reference() is None:
                    self.log.append(("died in its call", label))

        if len(reactions) == 2:
            # It does not hold what it calls.
            callback = functools.partial(callback)
        elif len(reactions) == 3:
            callback = Callable(callback)
        callback.label = label
        self.track(callback, label)
        reference = self.references[-1]
        return callback

    def react(self, how, what):
        if how == "disable":
            return DISABLE
        if how == "return":
            return self.make(Thing, what)
        if how == "jump":
            self.jump("in a callback")
            return None
        if how in DO:
            steps, what = what
            self.do_all(steps)
            if how == "do":
                return None
            if how == "do, disable":
                return DISABLE
        pending = self.pending[-1] is not None
        if how == "handle":
            try:
                raise self.make(Error, what)
            except Error:
                raise self.make(Error, what + "h")
        if how == "pending" and pending:
            raise self.pending[-1]
        if how == "context" and pending and self.pending[-1].__context__:
            raise self.pending[-1].__context__
        if how == "over" and pending:
            try:
                raise self.pending[-1]
            except Exception:
                raise self.make(Error, what)
        raise self.make(Error, what)

    def events(self, tool, events):
        self.attempt(monitoring.set_events, tool, events)

    def local_events(self, slot, tool, events):
        box = self.slots[slot]
        if box is not None:
            self.attempt(monitoring.set_local_events, tool, box.codelike,
                         events)
            self.log.append(("local", self.attempt(
                monitoring.get_local_events, tool, box.codelike)))

    def restart(self):
        monitoring.restart_events()

    def use(self, tool):
        self.attempt(monitoring.use_tool_id, tool, "model")

    def free(self, tool):
        monitoring.free_tool_id(tool)

    def legacy(self, name, steps):
        setter = getattr(sys, name)
        setter(ignore)
        self.do_all(steps)
        setter(None)

    def traced_steps(self, steps):
        def trace(frame, event, arg):
            if frame.f_code is not function.__code__:
                return None
            if event == "line":
                self.traced = frame
                sys.call_tracing(self.do_all, (steps,))
                self.jump("in a trace function")
                self.traced = None
            return trace

        sys.settrace(trace)
        function()
        sys.settrace(None)

    def jump(self, where):
        """Have the traced frame, if any, go to the line that it is at; log
        that this is possible."""
        if self.traced is not None:
            try:
                self.traced.f_lineno = self.traced.f_lineno
            except ValueError:
                return
            self.log.append(("jumped", where))


def event_to_fire(own, other):
    """Return the event that is fired with a state: no function fires
    INSTRUCTION."""
    event = own if other is None else other
    return LINE if event == INSTRUCTION else event


def passes_callable(event, choice):
    """Say whether an event is fired with a callable and its argument."""
    return event == CALL or event in CALL_ENDS and choice % 2


def call_choice(choice):
    """Return the name of the callable to use, None for a thing, and whether
    it has an argument."""
    name = None, "len", "function", "method"
    return name[choice // 2 % 4], choice // 8 % 2


def stop_choice(choice):
    """Return the class of a STOP_ITERATION's value, None for a tuple."""
    return (Thing, Stop, Error, None)[choice % 4]


# ------ The model ------

class Exc:
    """An exception."""

    def __init__(self, label, context=None):
        self.label = label
        self.context = context

    def chain(self):
        """Return the exception and its contexts."""
        chain = []
        exc = self
        while exc is not None:
            chain.append(exc)
            exc = exc.context
        return chain

    def labels(self):
        return tuple(exc.label for exc in self.chain())

    def raised(self, handled):
        """Do what raising it does while another is handled."""
        if handled is not None and handled is not self:
            for exc in handled.chain():
                if exc.context is self:
                    exc.context = None
            self.context = handled
        return self

    def carry(self, pending, handled):
        """Carry the pending exception: it comes before what was handled when
        the event fired, and the chain is no ring."""
        if pending is None or pending in self.chain():
            return
        for exc in pending.chain():
            if exc.context is self:
                exc.context = None
        known = {handled, *pending.chain()}
        last = self
        while last.context is not None and last.context not in known:
            last = last.context
        last.context = pending


class Array:
    """The states for a list of event types: the tools of each."""

    def __init__(self, events):
        self.events = events
        self.active = [0] * len(events)
        self.version = 0


class Counted:
    """What dies with its last reference."""

    def __init__(self, label, die):
        self.label = label
        self.die = die
        self.references = 1

    def keep(self):
        self.references += 1

    def drop(self):
        self.references -= 1
        if self.references == 0:
            self.die(self)


class Codelike(Counted):
    """A code-like, and what tools chose for it."""

    def __init__(self, label, kind, events, spare_events, die):
        super().__init__(label, die)
        self.kind = kind
        self.array = Array(events)
        self.spare = Array(spare_events)
        self.local = [0] * len(TOOLS)
        self.disabled = collections.Counter()   # (event, location): tools


class ProducerModel(Counted):
    """A producer and its states."""

    def __init__(self, codelike, events, actions, fresh, label, die):
        super().__init__(label, die)
        self.codelike = codelike
        self.array = Array(events)
        self.actions = actions
        self.fresh = fresh
        self.errors = [Exc(label) for action in actions]


class Callback(Counted):
    """A callback and what is left of its reactions."""

    def __init__(self, label, reactions, die):
        super().__init__(label, die)
        self.calls = itertools.cycle(reactions)


class Thread:
    """What a thread has of its own."""

    def __init__(self):
        self.handled = [None]
        self.running = False        # a callback
        self.calling = False        # one, though it lets events through
        self.record = False         # what its event is, is known
        self.looked = False         # its event has to be kept


def group_of(event):
    """Return the event that decides for an event: C_RETURN and C_RAISE are on,
    local and disabled where CALL is."""
    return CALL if event in CALL_ENDS else event


def tools_of(sets, event):
    """Return the tools, as a mask, whose set in a list has an event."""
    return sum((events >> event & 1) << tool
               for tool, events in enumerate(sets))


class Model(Runner):
    """Does steps by the contract."""

    def __init__(self):
        super().__init__()
        self.global_events = [0] * len(TOOLS)
        self.callbacks = {}             # (tool, event)
        self.taken = [True] * len(TOOLS)
        self.owners = [1] * len(TOOLS)  # how many each tool has had
        self.use_local = [False] * len(TOOLS)
        self.codelikes = []
        self.threads = [Thread()]
        # Sets of tools, as masks: by events those that have it on, those that
        # have a callback, those that states are active for; and those that may
        # be called for local events.  The version is that of the states.
        self.on = self.with_callback = self.active = [0] * NUM_EVENTS
        self.in_use = 0
        self.legacy_tools = set()
        self.keeps_frames = False
        self.version = 1

    def run(self, steps):
        """Do steps; at the end everything dies."""
        return super().run(steps) + [([], [])]

    @property
    def current(self):
        """The running thread: the others wait for it."""
        return self.threads[-1]

    def raised(self, exc):
        """Log an exception that a step ends with, if any."""
        if exc is not None:
            self.log.append(("raised", *exc.labels()))

    def error(self, name):
        """Return an exception that the interpreter raises."""
        return Exc(name).raised(self.current.handled[-1])

    def make_pending(self, length, label):
        if length < 0:
            return self.current.handled[-1]
        exc = None
        for i in range(length):
            exc = Exc(f"{label}.{i}", exc)
            self.dead.append(exc.label)
        return exc

    def note_death(self, counted):
        self.dead.append(counted.label)

    # ------ Steps: code-likes and scopes ------

    def new(self, slot, kind, label, events, spare_events):
        self.kill(slot)
        codelike = Codelike(label, kind, events, spare_events, self.died)
        self.codelikes.append(codelike)
        self.slots[slot] = codelike

    def kill(self, slot):
        codelike, self.slots[slot] = self.slots[slot], None
        if codelike is not None:
            codelike.drop()

    def died(self, codelike):
        """Forget a code-like that died."""
        if codelike.kind not in NO_WEAKREF:
            self.dead.append(codelike.label)
        self.codelikes.remove(codelike)

    def with_memory(self, slot):
        """Return the code-like of a slot if it has states of its own."""
        codelike = self.slots[slot]
        if codelike is not None and codelike.kind not in NO_MEMORY:
            return codelike

    def swap(self, slot):
        codelike = self.with_memory(slot)
        if codelike:
            codelike.array, codelike.spare = codelike.spare, codelike.array

    def enter(self, slot, how, pending, label):
        codelike = self.with_memory(slot)
        if codelike is None:
            return
        exc = self.make_pending(pending, label)
        array = codelike.array
        if how != "again":
            array.version = 0
        if how == "unknown" and any(self.active):
            array.active = [0] * len(array.events)
            error = self.error("ValueError")
            error.carry(exc, self.current.handled[-1])
            self.raised(error)
        else:
            self.enter_array(array)
        self.log.append(("active", array.version != 0,
                         *(active & TOOL_BITS for active in array.active)))

    def enter_array(self, array):
        """Enter a scope with the states of an array."""
        if array.version != self.version:
            array.active = [self.active[event] for event in array.events]
            array.version = self.version

    def exit(self, pending, label):
        self.make_pending(pending, label)

    def update(self):
        """Find what follows from events and callbacks, and for which tools
        states are active."""
        self.on = [tools_of(self.global_events, group_of(event))
                   for event in range(NUM_EVENTS)]
        self.with_callback = [0] * NUM_EVENTS
        for tool, event in self.callbacks:
            self.with_callback[event] |= 1 << tool
        self.in_use = sum((self.use_local[tool] or bool(events)) << tool
                          for tool, events in enumerate(self.global_events))
        old, self.active = self.active, self.on[:]
        for event in {*CAN_DISABLE, *CALL_ENDS}:
            callbacks = self.with_callback[event]
            if event == CALL:
                # It decides for the whole of a call.
                callbacks |= (self.with_callback[C_RETURN]
                              | self.with_callback[C_RAISE])
            self.active[event] |= self.in_use & callbacks
        if self.legacy_tools:
            self.keeps_frames = True
        elif not self.in_use:
            self.keeps_frames = False
        if self.in_use or self.legacy_tools:
            for event in FRAME_EVENTS | (KEPT_EVENTS if self.keeps_frames
                                         else set()):
                self.active[event] |= FRAMES_BIT
        for event in range(NUM_EVENTS):
            self.active[event] |= self.legacy_tools_of(event)
        self.active[INSTRUCTION] = 0
        self.version += self.active != old

    def legacy_tools_of(self, event):
        """Return the bits of the legacy tools that get an event."""
        return sum(bit for bit, events in
                   map(LEGACY_TOOLS.get, self.legacy_tools) if event in events)

    # ------ Steps: events ------

    def fire(self, slot, k, event, offset, line, choice, pending, label):
        codelike = self.with_memory(slot)
        if codelike is None:
            return
        array = codelike.array
        k %= len(array.events)
        event = event_to_fire(array.events[k], event)
        exc = self.make_pending(pending, label)
        codelike.keep()
        things = []

        def make_thing(label):
            things.append(Counted(label, self.note_death))
            return things[-1]

        args = ()
        if passes_callable(event, choice):
            name, has_argument = call_choice(choice)
            args = (name or make_thing(label),
                    make_thing(label + "a") if has_argument else "MISSING")
        elif event in CALL_ENDS:
            if event == C_RETURN:
                make_thing(label)
            args = "MISSING", "MISSING"
        elif event in VALUE_EVENTS:
            args = make_thing(label),
        elif event == STOP_ITERATION:
            kind = stop_choice(choice)
            value = (label,) if kind in (Stop, Error) else label
            if kind is None:
                value = 1, 2
            else:
                make_thing(label)
            args = value if kind is Stop else ("StopIteration", value),
        self.raised(self.fire_event(codelike, array, k, event, offset, line,
                                    args, exc, exc))
        for thing in things:
            thing.drop()
        codelike.drop()
        if exc is not None:
            self.log.append(("pending", *exc.labels()))

    def fire_event(self, codelike, array, k, event, offset, line, args,
                   pending, known):
        """Fire an event.  Return the exception that is raised, if any.

        known is the pending exception if the driver's callbacks have it.
        """
        thread = self.current
        if not array.active[k] or thread.running:
            return None
        location = line if event == LINE else offset
        legacy_tools = self.legacy_tools_of(event)
        tools = array.active[k] & (self.with_callback[event] | legacy_tools)
        group = group_of(event)
        listening = self.on[event]
        if group in CAN_DISABLE:
            listening |= self.in_use & tools_of(codelike.local, group)
            listening &= ~codelike.disabled[group, location]
        tools &= listening | legacy_tools
        if not tools:
            return None
        if offset < 0 or event in EXCEPTION_EVENTS and pending is None:
            exc = self.error("ValueError")
        else:
            thread.running = True
            exc = self.call_tools(codelike, array, k, tools, event, location,
                                  args, pending, known)
            thread.running = False
        if exc is not None:
            exc.carry(pending, thread.handled[-1])
        return exc

    def call_tools(self, codelike, array, k, tools, event, location, args,
                   pending, known):
        """Call the tools' callbacks; return what the first raises."""
        thread = self.current
        is_nested = thread.calling
        if is_nested and thread.record:
            thread.looked = True
        thread.record = True
        if event in EXCEPTION_EVENTS - CALL_ENDS:
            args = pending.labels(),
        reported = (codelike.label, location,
                    *(arg.label if isinstance(arg, Counted) else arg
                      for arg in args))
        for tool in reversed(TOOLS):
            callback = self.callbacks.get((tool, event))
            if not tools >> tool & 1 or callback is None:
                continue
            callback.keep()
            self.log.append(("called", callback.label, *reported))
            thread.calling = True
            exc = self.call_tool(tool, event, callback, codelike, array, k,
                                 location, known)
            callback.drop()
            if not is_nested:
                thread.calling = False
                if thread.looked:
                    thread.looked = False
                    self.keeps_frames = True
                    self.update()
            if exc is not None:
                break
        else:
            exc = None
        if is_nested:
            thread.record = False
        return exc

    def call_tool(self, tool, event, callback, codelike, array, k, location,
                  known):
        """Do what the callback of a tool does; return what it raises."""
        reaction = next(callback.calls)
        if reaction is None:
            return None
        how, what = reaction
        owner = self.owners[tool], self.taken[tool]
        if how in DO:
            steps, what = what
            self.do_all(steps)
        same = owner == (self.owners[tool], self.taken[tool])
        if how == "return":
            self.dead.append(what)
        if how in ("do", "return", "jump"):
            return None
        if how not in ("disable", "do, disable"):
            return self.react(how, what, known)
        if event not in CAN_DISABLE:
            # That of a freed tool is removed, the next owner's is not.
            if same:
                self.set_callback(tool, event, None)
            return self.error("ValueError")
        # Nothing is disabled for the next owner.
        if same and self.taken[tool]:
            if codelike.kind in NO_WEAKREF:
                array.active[k] &= ~(1 << tool)
            else:
                codelike.disabled[event, location] |= 1 << tool
        return None

    def react(self, how, label, pending):
        """Return what a callback raises."""
        handled = self.current.handled[-1]
        if pending is not None:
            if how == "pending":
                return pending.raised(handled)
            if how == "context" and pending.context is not None:
                return pending.context.raised(handled)
            if how == "over":
                handled = pending.raised(handled)
        self.dead.append(label)
        exc = Exc(label).raised(handled)
        if how == "handle":
            self.dead.append(label + "h")
            exc = Exc(label + "h").raised(exc)
        return exc

    def produce(self, place, slot, events, actions, fresh, label):
        codelike = self.slots[slot]
        if codelike is None:
            return
        codelike.keep()
        old, self.producers[place] = self.producers[place], ProducerModel(
            codelike, events, actions, fresh, label,
            lambda producer: producer.codelike.drop())
        if old is not None:
            old.drop()

    def call(self, place):
        producer = self.producers[place]
        if producer is None or self.calling == 2:
            return
        self.calling += 1
        producer.keep()
        array = producer.array
        if producer.fresh:
            array = Array(array.events)
        self.enter_array(array)
        exc = None
        for action, error in zip(producer.actions, producer.errors):
            if action is None:
                self.enter_array(array)
            elif action[0] == "do":
                self.do_all(action[1])
            else:
                if action[0] == "vectorcall":
                    exc = self.call_with(
                        producer.codelike, array,
                        [array.events.index(event)
                         for event in (CALL, C_RETURN, C_RAISE)],
                        producer.label, *action[1:])
                else:
                    exc = self.fire_action(producer, array, error, *action[1:])
                if exc is not None:
                    break
        self.raised(exc)
        for error in producer.errors:
            error.context = None
        self.calling -= 1
        producer.drop()

    def fire_action(self, producer, array, error, event, offset, line,
                    choice):
        """Fire an event of a producer."""
        label = producer.label
        args = ()
        if passes_callable(event, choice):
            args = call_choice(choice)[0] or "len", label
        elif event in CALL_ENDS:
            args = "MISSING", "MISSING"
        elif event == STOP_ITERATION:
            args = ("StopIteration", label),
        elif event in VALUE_EVENTS:
            args = label,
        pending = error if choice and event in EXCEPTION_EVENTS else None
        return self.fire_event(producer.codelike, array,
                               array.events.index(event), event, offset, line,
                               args, pending, None)

    def vectorcall(self, slot, offset, kind, raises, steps, label):
        codelike = self.with_memory(slot)
        if (codelike is None or self.calling == 2
                or len(codelike.array.events) < 3):
            return
        self.calling += 1
        codelike.keep()
        exc = self.call_with(codelike, codelike.array, range(3),
                             label if len(steps) % 2 else "MISSING",
                             offset, kind, raises, steps, label,
                             ("key",) if offset % 2 else ())
        self.raised(exc)
        if exc is None:
            self.log.append(("result", label))
        codelike.drop()
        self.calling -= 1

    def call_with(self, codelike, array, states, arg0, offset, kind, raises,
                  steps, label, keywords=()):
        """Call a callable that does steps, with the events around it; return
        what is raised."""
        call, c_return, c_raise = states
        known = array.active[call]
        args = kind, arg0
        exc = self.fire_event(codelike, array, call, CALL, offset, None, args,
                              None, None)
        if exc is not None:
            return exc
        self.log.append(("arguments",
                         *([label] if kind == "method" else []),
                         *([arg0] if arg0 != "MISSING" else []), *keywords))
        self.do_all(steps)
        self.dead.append(label)
        if raises:
            exc = Exc(label).raised(self.current.handled[-1])
        if not known or kind in PYTHON_FUNCTIONS:
            return exc
        failed = self.fire_event(
            codelike, array, c_raise if raises else c_return,
            C_RAISE if raises else C_RETURN, offset, None, args, exc, None)
        return failed or exc

    def handling(self, label, steps):
        handled = self.current.handled
        self.dead.append(label)
        handled.append(Exc(label).raised(handled[-1]))
        self.do_all(steps)
        handled.pop()

    def thread(self, steps):
        if self.nested == 2:
            return
        self.nested += 1
        self.threads.append(Thread())
        self.do_all(steps)
        self.threads.pop()
        self.nested -= 1

    def trace(self, steps):
        if self.tracing == 2:
            return
        self.tracing += 1
        thread = self.current
        running, thread.running = thread.running, False
        self.do_all(steps)
        thread.running = running
        self.tracing -= 1

    # ------ Steps: tools ------

    def callback(self, tool, event, label, reactions):
        old = self.set_callback(
            tool, event, label and Callback(label, reactions, self.note_death))
        self.log.append(("old callback", old))

    def set_callback(self, tool, event, callback):
        """Set a callback; return the label of the old one."""
        old = self.callbacks.pop((tool, event), None)
        if callback is not None:
            self.callbacks[tool, event] = callback
        self.update()
        if old is None:
            return None
        old.drop()
        return old.label

    def check_events(self, tool, events):
        """Return the error for a tool that is not taken or an event set that
        has a part of CALL and its ends, if not CALL alone."""
        part = events & (CALL_END_SET | 1 << CALL)
        if not self.taken[tool] or part not in (0, 1 << CALL,
                                                CALL_END_SET | 1 << CALL):
            return self.error("ValueError")
        return None

    def events(self, tool, events):
        exc = self.check_events(tool, events)
        if exc is not None:
            return self.raised(exc)
        self.global_events[tool] = events & ~CALL_END_SET
        self.update()

    def local_events(self, slot, tool, events):
        codelike = self.slots[slot]
        if codelike is None:
            return
        if codelike.kind in NO_LOCAL_EVENTS:
            self.raised(self.error("TypeError"))
            self.raised(self.error("TypeError"))
            return self.log.append(("local", None))
        exc = self.check_events(tool, events)
        if exc is None and (events & ~CALL_END_SET) >> RAISE:
            exc = self.error("ValueError")
        if exc is None:
            codelike.local[tool] = events & ~CALL_END_SET
            if codelike.local[tool]:
                self.use_local[tool] = True
            self.update()
        self.raised(exc)
        self.log.append(("local", codelike.local[tool]))

    def restart(self):
        self.version += 1
        for codelike in self.codelikes:
            codelike.disabled.clear()

    def use(self, tool):
        if self.taken[tool]:
            self.raised(self.error("ValueError"))
        self.taken[tool] = True

    def free(self, tool):
        self.owners[tool] += self.taken[tool]
        self.taken[tool] = False
        self.use_local[tool] = False
        for codelike in self.codelikes:
            if codelike.kind not in WITH_BYTECODE:
                codelike.local[tool] = 0
            for location in codelike.disabled:
                codelike.disabled[location] &= ~(1 << tool)
        self.update()

    def legacy(self, name, steps):
        self.legacy_tools.add(name)
        self.update()
        self.do_all(steps)
        self.legacy_tools.discard(name)
        self.update()

    def traced_steps(self, steps):
        self.legacy("settrace", steps)
        # Not in the callback of an event, but where it was.
        self.log.append(("jumped", "in a trace function"))


# ------ Random steps ------

# How often each step is made, first those that may be inside of others.
WEIGHTS = {
    "fire": 60, "enter": 14, "exit": 6, "events": 5, "callback": 5,
    "local_events": 3, "restart": 1, "use": 2, "free": 1, "kill": 2,
    "new": 3, "call": 4, "produce": 3, "thread": 0.5, "handling": 1.5,
    "vectorcall": 5, "trace": 0.5,
}
OUTER_WEIGHTS = {"swap": 2, "generator": 0.7, "resume": 2, "legacy": 0.3,
                 "traced_steps": 0.5}
# Those that have the frames of foreign code kept.
KEEP_FRAMES = {"legacy", "traced_steps", "trace"}
OFFSETS = (0, 0, 0, 1, 1, 2, 300, 300, 1000, 2**31 - 1)
LINES = (1, 1, 2, 3, 300, 5000, -5)

OTHER_KINDS = ("plain", "bare", "code", "empty", "no start")
if hasattr(_testcapi, "code_newwithlocations"):     # stock has none
    OTHER_KINDS += "located",
if support.Py_GIL_DISABLED:
    # There code objects die only when garbage is collected.
    OTHER_KINDS = ("plain", "bare")


class Steps:
    """Makes random steps: few code-likes, events, tools, offsets and lines,
    so that they meet again."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.labels = itertools.count()
        self.depth = 0
        events = set(range(NUM_EVENTS)) - CALL_ENDS - {INSTRUCTION}
        self.event_types = self.sample(sorted(events), 4)
        if self.maybe(0.4):
            self.event_types += {CALL, *CALL_ENDS} - set(self.event_types)
        self.tools = self.sample(TOOLS, 4)
        self.inner = self.cumulate(WEIGHTS)
        self.outer = self.cumulate({**WEIGHTS, **OUTER_WEIGHTS})

    def cumulate(self, weights):
        """Return names and cumulated weights, which differ by sequence."""
        return list(weights), list(itertools.accumulate(
            weight * self.random.choice((0.3, 1, 2))
            for weight in weights.values()))

    def sample(self, values, most):
        """Return one to most of the values."""
        return self.random.sample(values, self.random.randint(1, most))

    def maybe(self, probability):
        return self.random.random() < probability

    def label(self, kind):
        return f"{kind}{next(self.labels)}"

    def sequence(self):
        """Return the steps of a sequence."""
        steps = [self.new(slot) for slot in range(NUM_SLOTS)]
        for tool in self.tools:
            steps.append(self.events(tool))
            steps += [self.callback(tool, event) for event in self.event_types]
        while len(steps) < SEQUENCE:
            steps.append(self.step())
        return steps

    def step(self):
        """Return a step."""
        names, weights = self.inner if self.depth else self.outer
        name = self.random.choices(names, cum_weights=weights)[0]
        return getattr(self, name)()

    def steps(self):
        """Return a few steps to do inside of another."""
        self.depth += 1
        most = max(1, 4 // self.depth)
        steps = [self.step() for i in range(self.random.randint(1, most))]
        self.depth -= 1
        return steps

    def slot(self):
        return self.random.randrange(NUM_SLOTS)

    def memory_slot(self):
        """Return a slot whose code-like has states of its own."""
        return self.random.choice(MEMORY_SLOTS)

    def tool(self):
        return self.random.choice(self.tools)

    def pending(self):
        """Return the length of a pending exception's chain."""
        return self.random.choice((0, 0, 0, 0, 0, 1, 1, 2, 3, -1))

    def scope_events(self, length=None):
        """Return the event types of an array of states."""
        events = {*self.event_types, INSTRUCTION}
        if length is None or length > len(events):
            events.add(self.random.choice((LINE, RAISE, JUMP)))
        if length is None:
            return tuple(self.sample(sorted(events), min(5, len(events))))
        return tuple(self.random.sample(range(NUM_EVENTS), length))

    def event_set(self):
        """Return a set of events to listen to."""
        if self.maybe(0.02):
            return 1 << self.random.choice((C_RETURN, INSTRUCTION))
        events = 0
        for event in self.event_types:
            if event not in CALL_ENDS and self.maybe(0.8):
                events |= 1 << event
                if event == CALL and self.maybe(0.3):
                    events |= CALL_END_SET
        return events

    def new(self, slot=None):
        if slot is None:
            slot = self.slot()
        kind = ("strong", "text", "weak", "weak")[slot] if slot < 4 \
            else self.random.choice(OTHER_KINDS)
        events = self.scope_events()
        return ("new", slot, kind, self.label("C"), events,
                self.scope_events(len(events)))

    def kill(self):
        return "kill", self.slot()

    def swap(self):
        return "swap", self.memory_slot()

    def enter(self):
        how = self.random.choice(("again",) * 8 + ("fresh",) * 3
                                 + ("unknown",))
        return ("enter", self.memory_slot(), how, self.pending(),
                self.label("E"))

    def exit(self):
        return "exit", self.pending(), self.label("E")

    def location(self):
        """Return the offset and the line of an event."""
        offset = self.random.choice(OFFSETS)
        if self.maybe(0.02):
            offset = self.random.choice((-1, -2**31))
        return offset, self.random.choice(LINES)

    def fire(self):
        event = None
        if self.maybe(0.2):
            event = self.random.choice(self.event_types)
        return ("fire", self.memory_slot(), self.random.randrange(5), event,
                *self.location(), self.choice(), self.pending(),
                self.label("F"))

    def choice(self):
        """Return a number that decides how an event is fired."""
        return self.random.randrange(48)

    def vectorcall(self):
        return "vectorcall", self.memory_slot(), *self.callable(), \
            self.label("V")

    def callable(self):
        """Return the offset of a call, the kind of the callable, whether it
        raises, and the steps that it does."""
        kind = self.random.choice(("function", "method", "partial", "partial"))
        steps = self.steps() if self.depth < 2 and self.maybe(0.6) else []
        return self.location()[0], kind, self.maybe(0.3), steps

    def produce(self):
        slot = self.slot()
        events = self.scope_events()
        actions = [self.action(events)
                   for i in range(self.random.randint(1, 5))]
        label = self.label("P")
        # What is called returns or raises something of another label.
        actions = tuple((*action, f"{label}.{i}")
                        if action and action[0] == "vectorcall" else action
                        for i, action in enumerate(actions))
        return ("produce", self.random.randrange(2), slot, events, actions,
                self.maybe(0.5), label)

    def action(self, events):
        if self.maybe(0.1):
            return None
        if self.maybe(0.1):
            return "do", self.steps()
        if self.maybe(0.2) and {CALL, *CALL_ENDS} <= set(events):
            return "vectorcall", *self.callable()
        event = self.random.choice(events)
        if event == INSTRUCTION:
            return None
        return "fire", event, *self.location(), self.choice()

    def call(self):
        return "call", self.random.randrange(2)

    def generator(self):
        return ("generator", self.random.randrange(2),
                [self.steps() for i in range(self.random.randint(1, 3))])

    def resume(self):
        return "resume", self.random.randrange(2)

    def handling(self):
        return "handling", self.label("H"), self.steps()

    def thread(self):
        return "thread", self.steps()

    def trace(self):
        return "trace", self.steps()

    def legacy(self):
        return ("legacy", self.random.choice(("settrace", "setprofile")),
                self.steps())

    def traced_steps(self):
        return "traced_steps", self.steps()

    def callback(self, tool=None, event=None):
        if event is None:
            tool = self.tool()
            event = self.random.choice(self.event_types)
        if self.maybe(0.2):
            return "callback", tool, event, None, ()
        reactions = [self.reaction(event)
                     for i in range(self.random.randint(1, 4))]
        return "callback", tool, event, self.label("T"), reactions

    def reaction(self, event):
        how = self.random.choice(
            (None,) * 12 + ("disable",) * 6
            + ("do", "do", "do, disable", "do, raise", "return", "jump")
            + ("raise", "handle", "pending", "context", "over"))
        if how in DO:
            steps = self.steps() if self.depth < 2 else []
            if self.maybe(0.3):
                # For another of the callbacks that are being called.
                steps.append(self.callback(self.tool(), event))
            if self.maybe(0.3):
                steps = [("trace", steps)]
            return how, (steps, self.label("R"))
        return how and (how, self.label("R"))

    def events(self, tool=None):
        return "events", self.tool() if tool is None else tool, \
            self.event_set()

    def local_events(self):
        events = 0 if self.maybe(0.3) else self.event_set()
        if not self.maybe(0.05):
            events &= (1 << RAISE) - 1
        return "local_events", self.slot(), self.tool(), events

    def restart(self):
        return "restart",

    def use(self):
        return "use", self.tool()

    def free(self):
        return "free", self.tool()


# ------ Comparing ------

def difference(steps):
    """Do steps; return the number of the first one that differs from the
    model and both logs, or None."""
    found = Driver().run(steps)
    expected = Model().run(steps)
    alive = collections.Counter()
    keeps_frames = False
    for i, ((log, dead), (expected_log, expected_dead)) in enumerate(
            zip(found, expected)):
        keeps_frames |= has_step(steps[i:i + 1], KEEP_FRAMES)
        alive.update(expected_dead)
        alive.subtract(dead)
        # What a frame holds can die later; that it does is seen at the end.
        if (log != expected_log or min(alive.values(), default=0) < 0
                or (not keeps_frames and any(alive.values()))):
            return i, expected[i], found[i]
    return None


def has_step(steps, names):
    """Say whether there is a step of one of these names, in another one
    too."""
    return any(step in names if isinstance(step, str)
               else isinstance(step, (tuple, list)) and has_step(step, names)
               for step in steps)


def in_child(function, *args):
    """Return what a function returns in a child process; a string if the
    child dies."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with open(write, "wb") as file:
                pickle.dump(function(*args), file)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        data = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return pickle.loads(data) if status == 0 else f"exit status {status}"


def shorten(steps):
    """Return steps that still fail, of which none can be left out."""
    size = len(steps) // 2
    while size:
        start = 0
        while start < len(steps):
            fewer = steps[:start] + steps[start + size:]
            if in_child(difference, fewer) is not None:
                steps = fewer
            else:
                start += size
        size //= 2
    return steps


def report(seed):
    """Return the text that says how the sequence of a seed fails."""
    steps = Steps(seed).sequence()
    found = in_child(difference, steps)
    if found is None:
        return f"seed {seed}: fails only after the sequences before it"
    if not isinstance(found, str):
        steps = steps[:found[0] + 1]
    lines = [f"seed {seed} fails at step {len(steps)}; of these, needed are:"]
    steps = shorten(steps)
    lines += map(repr, steps)
    found = in_child(difference, steps)
    if isinstance(found, str):
        lines.append(f"The interpreter dies: {found}")
    else:
        lines += [f"expected: {found[1]}", f"found:    {found[2]}"]
    return "\n".join(lines)


def run(number, seed, progress):
    """Do sequences of steps; return how many were done before one fails.

    progress is called with that number before each.
    """
    for done in range(number):
        progress(done)
        if difference(Steps(seed + done).sequence()) is not None:
            return done
    return number


def main():
    """Do steps by hand, in a child so that a crash is seen."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    number = -(-options.steps // SEQUENCE)
    shared = mmap.mmap(-1, 8)
    parent = os.getpid()

    def progress(done):
        if os.getppid() != parent:
            raise SystemExit("killed")
        shared[:] = done.to_bytes(8, "little")

    started = time.monotonic()
    done = in_child(run, number, options.seed, progress)
    if isinstance(done, str):
        done = int.from_bytes(shared[:], "little")
    elapsed = time.monotonic() - started
    print(f"{done * SEQUENCE} steps without a difference, {elapsed:.1f} s",
          flush=True)
    if done < number:
        sys.exit(report(options.seed + done))


class TestModel(unittest.TestCase):

    def setUp(self):
        # Those of other tests: the model knows only its own.
        remove_callbacks()

    def test_random_steps(self):
        seed = 111997
        number = 300
        done = run(number, seed, lambda done: None)
        if done < number:
            self.fail(report(seed + done))

    def test_nothing_is_left(self):
        # Not even memory, once the free lists are full.
        def blocks():
            run(20, 0, lambda done: None)
            gc.collect()
            sys._clear_type_cache()
            return sys.getallocatedblocks()

        before = min(blocks(), blocks())
        self.assertLess(min(blocks(), blocks()) - before, 50)


if __name__ == "__main__":
    main()
