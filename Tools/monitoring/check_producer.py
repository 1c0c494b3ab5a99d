"""Check the sys.monitoring events of code that is not bytecode.

usage: check_producer.py [options] PROGRAM [ARGUMENT ...]
       check_producer.py [options] -m MODULE [ARGUMENT ...]

The program runs as it would without the tool, and what its producers signal is
compared with the rules that tools rely on.  In a test suite:

    with check_producer.checking() as report:
        ...                             # whatever runs the producer
    assert report.ok, report

"How to test your producer" in Python's HOWTOs says what each rule is for.
The exit status is 0 if no rule was found broken, 1 if one was, and 2 for a
wrong call.

How it works: a tool of sys.monitoring listens to everything.  Each event of a
foreign activation takes one of two ways.  What was found right before, at the
same place and after the same line, takes the short one, which only counts.
All else is looked at by the methods of Checker.  A second tool, the probe,
listens to one event at a time, to see what a tool gets that listens to it
alone or came late.
"""

import argparse
import array
import collections
import contextlib
import dis
import fnmatch
import gc
import importlib.util
import io
import itertools
import json
import os
import runpy
import sys
import threading
import traceback
import types
import weakref

monitoring = sys.monitoring
E = monitoring.events
DISABLE = monitoring.DISABLE
MISSING = monitoring.MISSING
FUNCTION = types.FunctionType
METHOD = types.MethodType

RULES = {
    "start": "an event belongs to an activation that has begun",
    "end": "an activation ends once, with PY_RETURN, PY_YIELD or PY_UNWIND",
    "resume": "PY_RESUME follows PY_YIELD",
    "exception": "an exception is raised, and then handled or unwound",
    "call": "C_RETURN or C_RAISE follows each CALL of no Python function",
    "line": "LINE has the number of a line of the code",
    "place": "an offset is one place, on the line that runs",
    "offset": "an offset is that of a location",
    "branch": "a branch leads to two places of the code, and says which",
    "attributes": "a code-like has the attributes that tools need",
    "identity": "the same code has the same code-like each time",
    "state": "an event is fired with the state of its own type",
    "enter": "a tool that comes late is noticed",
    "disable": "a location that was disabled stays so",
    "leak": "no reference to the code-like is gained",
}

KINDS = ("PY_START", "PY_RESUME", "PY_THROW", "PY_RETURN", "PY_YIELD",
         "PY_UNWIND", "LINE", "JUMP", "BRANCH", "CALL", "C_RETURN", "C_RAISE",
         "STOP_ITERATION", "RAISE", "RERAISE", "EXCEPTION_HANDLED")
(START, RESUME, THROW, RETURN, YIELD, UNWIND, LINE, JUMP, BRANCH, CALL,
 C_RETURN, C_RAISE, STOP, RAISE, RERAISE, HANDLED) = range(len(KINDS))
BEGINS = (START, RESUME, THROW)
ENDS = (RETURN, YIELD, UNWIND)
# A callback for one of these may return DISABLE.
LOCAL = (START, RESUME, RETURN, YIELD, LINE, JUMP, BRANCH, CALL, STOP)
# Turns of the probe, beside those of events.  LATE comes long after those in
# which it listens to LINE.
LATE, REST = len(KINDS), len(KINDS) + 1
TURNS = (REST, LINE, *(kind for kind in range(len(KINDS))
                       if kind not in (LINE, C_RETURN, C_RAISE)), LATE)

# In 3.14 BRANCH is two events.
if hasattr(E, "BRANCH_LEFT"):
    EVENTS = {kind: (getattr(E, KINDS[kind]),)
              for kind in range(len(KINDS)) if kind != BRANCH}
    EVENTS[BRANCH] = E.BRANCH_LEFT, E.BRANCH_RIGHT
else:
    EVENTS = {kind: (getattr(E, KINDS[kind]),) for kind in range(len(KINDS))}

# An interpreter whose own API signals C_RETURN and C_RAISE, and on which a
# tool disables one location.  Elsewhere producers do that by themselves.
IS_WHOLE = hasattr(monitoring, "get_location")
KEEPS_DISABLED = IS_WHOLE or sys.version_info < (3, 13)

SHOWN = 10              # findings of a rule
HISTORY = 8             # events that led to one
MAX_DEPTH = 20_000      # of activations: more are never open in one thread
MAX_WRONG = 1_000       # line numbers of a code-like that are kept
MAX_PLACES = 50_000     # of events of a code-like that are kept
COPIES = 10             # of a code-like; more are taken for one for each call
LEAKED = 10             # references that nothing is known to have
LATE_LINES = 20         # of an activation, before the probe comes late
MAX_LATE = 1_000        # lines until it must have been noticed
MAX_LATE_TURNS = 8      # of code-likes that do not run that long
PATIENCE = 50           # of the probe, in events that tell it nothing

NOTHING_TO_RUN = {"CACHE", "NOP", "RESUME", "LOAD_ASSERTION_ERROR",
                  "LOAD_COMMON_CONSTANT", "RAISE_VARARGS"}


def runs_nothing(code):
    """Say whether a code object stands for code that is not bytecode.

    What PyCode_NewEmpty() and PyCode_NewWithLocations() make raises
    AssertionError; a compiled "assert False" has constants besides.
    """
    names = set()
    for opcode in itertools.islice(code.co_code, 0, None, 2):
        name = dis.opname[opcode]
        if name not in NOTHING_TO_RUN:
            return False
        names.add(name)
    return not (code.co_consts and "RAISE_VARARGS" in names)


def is_python(function):
    """Say whether a callable fires the events of its call by itself."""
    if type(function) is METHOD:
        function = function.__func__
    return type(function) is FUNCTION


class Spot:
    """An event that was found right, at one offset, to one target if any."""

    __slots__ = "kind", "offset", "target", "count", "end"

    def __init__(self, kind, offset, target=None):
        self.kind = kind
        self.end = None             # of a CALL: the Spot of its C_RETURN
        self.offset = offset
        self.target = target
        self.count = 0

    def __str__(self):
        text = describe(self.kind, self.offset)
        return text if self.target is None else f"{text} to {self.target}"


class Line:
    """What was found right on one line of a code-like."""

    __slots__ = "number", "count", "raises", "good"
    NOTHING = {}

    def __init__(self, number):
        self.number = number        # None before the first LINE
        self.count = 0
        self.raises = 0
        # For each kind {offset: Spot}; for JUMP and BRANCH
        # {offset: {target: Spot}}, which is faster than a tuple.
        self.good = [self.NOTHING] * len(KINDS)

    def add(self, spot):
        """Add an event, and return what stands for it."""
        if self.good[spot.kind] is self.NOTHING:
            self.good[spot.kind] = {}
        good, key = self.good[spot.kind], spot.offset
        if spot.kind in (JUMP, BRANCH):
            good, key = good.setdefault(key, {}), spot.target
        return good.setdefault(key, spot)

    def spots(self, *kinds):
        for kind in kinds:
            for spot in list(self.good[kind].values()):
                if kind in (JUMP, BRANCH):
                    yield from list(spot.values())
                else:
                    yield spot

    def __str__(self):
        return describe(LINE, self.number)


class Record:
    """What is known of one code-like."""

    __slots__ = ("code", "key", "name", "filename", "firstlineno",
                 "attributes", "locate", "table", "has_columns",
                 "valid_lines", "is_weak",
                 "start", "lines", "wrong_lines", "history", "places",
                 "targets", "kinds", "suspended", "has_ends", "references",
                 "disabled", "probed", "is_shared", "room")

    def __init__(self, code):
        self.code = code
        self.lines = {}             # number: Line, those that may run
        self.wrong_lines = {}
        self.start = Line(None)
        self.history = collections.deque(maxlen=HISTORY)
        self.places = {}            # offset: line, where there is no table
        self.targets = {}           # offset of a branch: targets
        self.kinds = set()          # of events that it fired
        self.suspended = 0
        self.has_ends = False       # of calls
        self.is_shared = False      # by one code-like for each activation
        self.disabled = set()       # (kind, place), by the probe
        self.probed = set()         # (kind, place), in this turn of the probe
        self.room = MAX_PLACES      # for further Lines and Spots
        self.references = sys.getrefcount(code)

    def all_lines(self):
        return [self.start, *list(self.lines.values()),
                *list(self.wrong_lines.values())]

    def events(self):
        """Return how many events were found right."""
        return (self.count(*range(len(KINDS)))
                + sum(line.count for line in self.all_lines()))

    def count(self, *kinds):
        """Return how many events other than LINE were found right."""
        return sum(spot.count for line in self.all_lines()
                   for spot in line.spots(*kinds))

    def location(self, offset):
        """Return (file, line, end line, column, end column), or None."""
        if self.locate is not None:
            try:
                filename, *numbers = self.locate(offset)
            except Exception:
                return None
            return (filename, *numbers)
        if (self.table is None or offset % 2
                or not 0 <= offset // 2 < len(self.table[0])):
            return None
        place = [None if column[offset // 2] < 0 else column[offset // 2]
                 for column in self.table]
        return None if place[0] is None else (self.filename, *place)

    def positions(self):
        """Iterate over co_positions(), or over what co_lines() says."""
        if hasattr(self.code, "co_positions"):
            return iter(self.code.co_positions())
        return ((line, line, None, None)
                for begin, end, line in self.code.co_lines()
                for _ in range(begin, end, 2))


class Activation:
    """One run of a code-like."""

    __slots__ = ("code", "record", "below", "lines", "line", "history",
                 "exc", "call", "function", "arg0", "raised", "ended", "turn",
                 "depth", "lines_seen")

    def __init__(self, code, record, below, turn):
        self.code = code
        self.record = record
        self.below = below
        self.lines = record.lines
        self.line = record.start
        self.history = record.history
        self.exc = None             # raised and not handled yet
        self.call = None            # the Spot of a CALL that goes on
        self.ended = None           # the last activation that was above
        self.turn = turn            # of the probe, in which it began
        self.depth = below.depth + 1

    def has_branched(self):
        """Return whether BRANCH came since LINE, as far back as is kept."""
        for event in reversed(self.history):
            if isinstance(event, Line):
                break
            if event.kind == BRANCH:
                return True
        return False


class Implied(Activation):
    """One whose beginning was not signaled."""

    __slots__ = ()


class Bottom:
    """What is below the first activation of a thread."""

    code = None
    depth = 0

    def __init__(self):
        self.ended = None


class Finding:
    """A broken rule at one place."""

    def __init__(self, rule, record, location, message, events):
        self.rule = rule
        self.message = message
        self.name = record.name
        self.filename = record.filename
        self.firstlineno = record.firstlineno
        self.location = location    # as of Record.location()
        self.events = events
        self.count = 1

    def place(self):
        """Return the place as text: file, line and column, if known."""
        filename, line, _, column, _ = self.location
        parts = [str(filename)]
        if line is not None:
            parts.append(str(line))
            if column is not None:
                parts.append(str(column + 1))
        return ":".join(parts)

    def as_dict(self):
        names = "file", "line", "end_line", "column", "end_column"
        return {"rule": self.rule, "message": self.message,
                "code": {"name": self.name, "file": self.filename,
                         "line": self.firstlineno},
                "place": dict(zip(names, self.location)),
                "events": self.events, "count": self.count}

    def __str__(self):
        lines = [f"{self.place()}: [{self.rule}] {self.name}: {self.message}"]
        if self.events:
            lines.append(f"    after {', '.join(self.events)}")
        if self.count > 1:
            lines.append(f"    {self.count:,} times")
        return "\n".join(lines)


def count_of(number, noun):
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class Report:
    """What was seen and found; complete when the checker has stopped."""

    def __init__(self):
        self.findings = []          # the first of each rule
        self.hidden = collections.Counter()     # rule: how many more times
        self.events = 0
        self.code_likes = 0
        self.one_way = []           # (place, name), branches
        self.notes = []

    @property
    def ok(self):
        return not self.findings

    def as_dict(self):
        return {"events": self.events, "code_likes": self.code_likes,
                "findings": [found.as_dict() for found in self.findings],
                "more": dict(self.hidden),
                "one_way_branches": [
                    {"place": place, "name": name}
                    for place, name in self.one_way],
                "notes": self.notes}

    def __str__(self):
        lines = [f"check_producer: {count_of(self.events, 'event')} of "
                 f"{count_of(self.code_likes, 'code-like')}"]
        for found in sorted(self.findings, key=lambda found: found.rule):
            lines.append(str(found))
        for rule, count in sorted(self.hidden.items()):
            lines.append(f"[{rule}] {count:,} more times at other places")
        if self.one_way:
            lines.append(f"branches that went one way only: "
                         f"{len(self.one_way):,}")
            lines += [f"    {place} {name}"
                      for place, name in self.one_way[:SHOWN]]
            if len(self.one_way) > SHOWN:
                lines.append(f"    and {len(self.one_way) - SHOWN:,} more")
        lines += [f"note: {note}" for note in self.notes]
        broken = collections.Counter(found.rule for found in self.findings)
        if broken:
            lines.append("broken: " + "; ".join(
                f"{rule} ({RULES[rule]})" for rule in sorted(broken)))
        elif self.events:
            lines.append("no rule was found broken")
        return "\n".join(lines)


class Local(threading.local):
    """The innermost activation of each thread, or greenlet, as .top."""

    def __init__(self, threads, find_all_open):
        self.top = Bottom()
        self.find_all_open = find_all_open
        alive = sys._current_frames()
        # Threads that have ended take no memory if nothing is left open.
        threads[:] = [(ident, names) for ident, names in threads
                      if ident in alive or names["top"].code is not None]
        threads.append((threading.get_ident(), self.__dict__))
        if "greenlet" in sys.modules:
            self.follow_greenlets(sys.modules["greenlet"])

    def follow_greenlets(self, greenlet):
        """Exchange the activations whenever the thread's greenlet changes."""
        suspended = weakref.WeakKeyDictionary()
        names = self.__dict__

        def on_switch(event, args):
            if event in ("switch", "throw"):
                origin, target = args
                if origin.dead:
                    names["find_all_open"](names["top"])
                else:
                    suspended[origin] = names["top"]
                names["top"] = suspended.pop(target, None) or Bottom()
            if previous is not None:
                previous(event, args)

        previous = greenlet.settrace(on_switch)
        names["stop_following"] = lambda: greenlet.settrace(previous)


class Checker:
    """Listens, and fills a report."""

    def __init__(self, rules=None, ignore=(), files=(), python_code=()):
        for rule in (*(rules or ()), *ignore):
            if rule not in RULES:
                raise ValueError(f"there is no rule {rule!r}")
        self.rules = set(RULES if rules is None else rules) - set(ignore)
        self.files = tuple(files)
        self.python_code = tuple(python_code)
        self.report = Report()
        self.found = {}             # of the findings that are shown
        self.by_rule = collections.Counter()
        self.by_id = {}             # id(code): Record
        self.by_key = {}            # what a code-like says of itself
        self.records = []
        self.copies = collections.deque()   # beyond the first COPIES
        self.copied = set()         # keys
        self.unwanted = []
        self.uncounted = 0          # events that no record counts
        self.threads = []
        with contextlib.suppress(ImportError):
            # If it comes later, it is too late for threads that run.
            import greenlet
        self.local = Local(self.threads, self.find_all_open)
        self.lock = threading.RLock()
        self.probe = None
        self.turn = 0
        self.file_lengths = {}

    # Listening

    def start(self):
        free = [tool for tool in (3, 4, 1, 0, 2, 5)
                if monitoring.get_tool(tool) is None]
        if not free:
            raise RuntimeError("all tools of sys.monitoring are in use")
        # The interpreter calls the tools from the highest on, and the probe
        # is to be the first.
        *_, self.tool = chosen = sorted(free[:2], reverse=True)
        monitoring.use_tool_id(self.tool, "check_producer")
        self.callbacks = make_callbacks(self)
        for kind in range(len(KINDS)):
            self.register(kind, self.callbacks[kind])
        if len(chosen) == 2:
            self.probe = Probe(self, chosen[0])
        else:
            self.report.notes.append(
                "one tool of sys.monitoring was free, and none for the rules "
                "state, enter and disable")
        monitoring.set_events(self.tool, sum(
            event for kind in range(len(KINDS)) for event in EVENTS[kind]
            if kind not in (C_RETURN, C_RAISE)))

    def register(self, kind, callback):
        for event in EVENTS[kind]:
            monitoring.register_callback(self.tool, event, callback)

    def stop(self):
        monitoring.set_events(self.tool, 0)
        for kind in range(len(KINDS)):
            self.register(kind, None)
        monitoring.free_tool_id(self.tool)
        if self.probe is not None:
            self.probe.stop()
        if hasattr(self.local, "stop_following"):
            self.local.stop_following()
        self.check_open()
        report = self.report
        report.events = self.count_events()
        report.code_likes = len(self.records)
        for record in self.records:
            self.check_whole(record)
        if not report.events:
            report.notes.append("no event of code that is not bytecode was "
                                "seen: has a producer run at all?")
        if not IS_WHOLE and not any(record.has_ends
                                    for record in self.records):
            report.notes.append("this interpreter signals neither C_RETURN "
                                "nor C_RAISE by itself: nothing was said of "
                                "calls that lack them")
        if not KEEPS_DISABLED:
            report.notes.append("this interpreter forgets what is disabled: "
                                "the rule disable was not looked at")
        for kept in (self.by_id, self.by_key, self.records, self.copies,
                     self.unwanted):
            kept.clear()

    def count_events(self):
        return self.uncounted + sum(record.events()
                                    for record in list(self.records))

    # Reporting

    def find(self, rule, record, message, *, line=None, offset=None,
             event=None, history=True):
        """Count a broken rule, at a line, an offset or the last line."""
        with self.lock:
            if rule not in self.rules:
                return
            self.by_rule[rule] += 1
            key = rule, record.key, message, line, offset
            found = self.found.get(key)
            if found is not None:
                found.count += 1
                return
            if sum(found.rule == rule
                   for found in self.report.findings) >= SHOWN:
                self.report.hidden[rule] += 1
                return
            location = None
            if line is None and offset is not None:
                location = record.location(offset)
            if location is None:
                location = record.filename, line, line, None, None
            events = [str(entry) for entry in record.history
                      ] if history else []
            if event is not None:
                events.append(event)
            found = Finding(rule, record, location, message, events)
            self.found[key] = found
            self.report.findings.append(found)

    # Code-likes

    def record(self, code):
        """Return the record of a code-like.

        That is None for Python's own code, and False for what was not asked
        for.
        """
        if type(code) is types.CodeType and not self.is_foreign(code):
            return None
        with self.lock:
            record = self.by_id.get(id(code))
            return self.add(code) if record is None else record

    def is_foreign(self, code):
        return runs_nothing(code) or any(
            fnmatch.fnmatch(text, pattern) for pattern in self.python_code
            for text in (code.co_filename,
                         f"{code.co_filename}:{code.co_qualname}"))

    def add(self, code):
        record = Record(code)
        problems = read_attributes(record)
        if self.files and not any(fnmatch.fnmatch(str(record.filename), file)
                                  for file in self.files):
            self.unwanted.append(code)
            self.by_id[id(code)] = False
            return False
        copies = self.by_key.setdefault(record.key, [])
        if len(copies) == COPIES and sum(
                copy.count(START) for copy in copies) <= 2 * COPIES:
            self.copied.add(record.key)
        if record.key in self.copied:
            # They share a record, and few are kept alive.
            record = copies[-1]
            record.is_shared = True
            self.find("identity", record, f"more than {COPIES} objects stand "
                      f"for the same code, about one for each activation",
                      line=record.firstlineno, history=False)
            self.copies.append(code)
            if len(self.copies) > 10 * COPIES:
                self.by_id.pop(id(self.copies.popleft()), None)
        else:
            copies.append(record)
            self.records.append(record)
            for problem in problems:
                self.find("attributes", record, problem,
                          line=record.firstlineno, history=False)
        self.by_id[id(code)] = record
        return record

    def may_have_failed(self, kind, exc):
        """Say whether an event may have ended in an exception.

        If so, the producer goes on as if the code had raised it.
        """
        return isinstance(exc, KeyboardInterrupt) or any(
            monitoring.get_tool(tool) is not None
            and monitoring.get_events(tool) & EVENTS[kind][0]
            for tool in range(6)
            if tool != self.tool
            and (self.probe is None or tool != self.probe.tool))

    # Activations

    def find_activation(self, code, kind, place, exc=None):
        """Return the activation of an event, as the innermost one.

        It is None for Python's own code, and where none is to be had.
        """
        top = self.local.top
        if top.code is code:
            return top
        record = self.by_id.get(id(code)) or self.record(code)
        if not record:
            return None
        event = describe(kind, place)
        found = top
        while found.code is not None and found.code is not code:
            found = found.below
        if found.code is not None:
            while top is not found:
                self.find_open(top, f"{event} of {record.name}")
                top = top.below
            self.local.top = found
            return found
        found = Implied(code, record, top, self.turn)
        ended = top.ended
        has_ended = (ended is not None and ended.code is code
                     and not isinstance(ended, Implied))
        if has_ended:
            found.line = ended.line
        if not (has_ended and kind in (RAISE, UNWIND)
                and any(self.may_have_failed(end, exc) for end in ENDS)):
            rule, problem = "start", "comes outside of an activation: there " \
                "was no PY_START, or it has ended"
            if has_ended and kind in ENDS:
                rule, problem = "end", "comes after the activation has ended"
            self.find(rule, record, f"{KINDS[kind]} {problem}", event=event,
                      **{"line" if kind == LINE else "offset": place})
            if kind in ENDS:
                self.uncounted += 1
                return None
        self.local.top = found
        return found

    def find_open(self, activation, event=None):
        """Count an activation that ended without an event."""
        line = activation.line.number
        if not isinstance(activation, Implied):
            self.find("end", activation.record, "the activation ended without "
                      "PY_RETURN, PY_YIELD or PY_UNWIND"
                      + (", after this line" if line is not None else ""),
                      line=activation.record.firstlineno if line is None
                      else line, event=event)
        self.check_call(activation)

    def shorten(self):
        """Drop the outer ones of more activations than can be open."""
        activation = self.local.top
        while activation.code is not None:
            activation.depth -= MAX_DEPTH // 2
            if activation.depth == 1:
                below, activation.below = activation.below, Bottom()
                while below.code is not None:
                    self.find_open(below)
                    below = below.below
            activation = activation.below

    def find_all_open(self, activation):
        """Count what is open in a thread or greenlet that has ended."""
        found = []
        while activation.code is not None:
            found.append(activation)
            activation = activation.below
        for activation in reversed(found):
            self.find_open(activation)

    def check_open(self):
        running = set(sys._current_frames()) - {threading.get_ident()}
        for ident, names in self.threads:
            if ident not in running:
                self.find_all_open(names["top"])

    # Places

    def check_offset(self, top, kind, offset):
        """Say whether the offset of an event is right, new on a line."""
        record, line = top.record, top.line
        self.add_kind(record, kind)
        location = record.location(offset)
        rule, problem, place = "offset", None, {"line": line.number}
        if line.number is None:
            place = {"line": record.firstlineno}
        if record.table is not None and offset % 2:
            problem = "is odd: location number i has the offset 2 * i"
        elif record.table is not None and offset // 2 >= len(record.table[0]):
            problem = (f"is beyond that of the last location, "
                       f"{2 * len(record.table[0]) - 2}")
        elif line.number is None or kind == HANDLED or (
                line is record.wrong_lines.get(line.number)):
            # Bytecode is in the handler before LINE is.
            pass
        elif location is not None and location[1] is not None:
            # Where others have columns, one without stands for no text.
            is_text = location[3] is not None or not record.has_columns
            if is_text and not (location[1] <= line.number
                                <= (location[2] or location[1])):
                rule, place = "place", {"offset": offset}
                problem = (f"is on line {location[1]}, but the last LINE was "
                           f"{line.number}: it is that of another place, or "
                           f"LINE comes too late")
        elif record.table is None and kind in (JUMP, BRANCH, CALL, STOP):
            first = record.places.get(offset)
            if first is None and record.room > 0:
                record.places[offset] = line.number
            elif first not in (None, line.number):
                rule = "place"
                problem = f"stands for another place as well, on line {first}"
        if problem is None:
            return True
        self.uncounted += 1
        self.find(rule, record, f"the offset of {KINDS[kind]} {problem}",
                  event=describe(kind, offset), **place)
        return False

    def add_kind(self, record, kind):
        if kind not in record.kinds:
            record.kinds.add(kind)
            if self.probe is not None and kind not in (C_RETURN, C_RAISE):
                self.probe.add(record, kind)

    def count_file(self, filename):
        """Return how many lines a file has, or None."""
        if filename not in self.file_lengths:
            length = None
            with contextlib.suppress(OSError, ValueError):
                with open(filename, "rb") as file:
                    length = sum(1 for _ in file)
            self.file_lengths[filename] = length
        return self.file_lengths[filename]

    # The events that do not take the short way

    def begin(self, top, kind):
        """Look at an activation that has just begun."""
        record = top.record
        if top.depth > MAX_DEPTH:
            self.shorten()
        if kind == START:
            return
        if record.suspended > 0:
            record.suspended -= 1
        elif kind == RESUME:
            self.find("resume", record, "PY_RESUME comes without PY_YIELD",
                      line=record.firstlineno, history=False)

    def line(self, code, lineno):
        top = self.find_activation(code, LINE, lineno)
        if top is None:
            return self.python(code)
        record = top.record
        self.add_kind(record, LINE)
        line = top.lines.get(lineno) or record.wrong_lines.get(lineno)
        if line is None:
            line = Line(lineno)
            is_right = self.is_line(record, lineno)
            if is_right and record.room > 0:
                record.room -= 1
                top.lines[lineno] = line
            elif is_right:
                self.uncounted += 1
            elif len(record.wrong_lines) < MAX_WRONG:
                record.wrong_lines[lineno] = line
            else:
                self.uncounted += 1
        else:
            is_right = lineno in top.lines
        if not is_right:
            self.find("line", record, f"LINE {lineno} is no line of the code",
                      line=lineno, event=describe(LINE, lineno))
        line.count += 1
        top.line = line
        top.history.append(line)
        return None

    def is_line(self, record, lineno):
        if record.valid_lines is not None:
            return lineno in record.valid_lines
        length = (None if record.locate is not None
                  else self.count_file(record.filename))
        return 1 <= lineno and (length is None or lineno <= length)

    def python(self, code):
        """Return what a callback returns for an event of no activation."""
        return DISABLE if self.by_id.get(id(code)) is None else None

    def end(self, kind, code, offset, exc=None):
        top = self.find_activation(code, kind, offset, exc)
        if top is None:
            return self.python(code) if kind != UNWIND else None
        problem = None
        self.check_call(top, exc)
        if kind != UNWIND and top.exc is not None:
            problem = "comes while an exception is neither handled nor unwound"
        elif kind == UNWIND and top.exc is None:
            problem = "comes without RAISE or RERAISE"
        elif (kind == UNWIND and top.exc is not exc
              and not self.may_have_failed(RAISE, exc)):
            problem = "has another exception than RAISE"
        if problem is not None:
            self.find("exception", top.record, f"{KINDS[kind]} {problem}",
                      offset=offset, event=describe(kind, offset))
        if kind == YIELD:
            top.record.suspended += 1
        self.count(top, kind, offset)
        self.local.top = below = top.below
        below.ended = top
        top.below = top.ended = top.exc = None
        return None

    def stop_iteration(self, code, offset):
        top = self.find_activation(code, STOP, offset)
        if top is None:
            return self.python(code)
        self.count(top, STOP, offset)
        return None

    def count(self, top, kind, offset):
        spot = top.line.good[kind].get(offset)
        if spot is None:
            spot = Spot(kind, offset)
            if self.check_offset(top, kind, offset):
                self.keep(top, spot)
        spot.count += 1
        top.history.append(spot)

    def keep(self, top, spot):
        """Keep an event that was found right, and return what counts it."""
        if top.record.room > 0:
            top.record.room -= 1
            return top.line.add(spot)
        self.uncounted += 1
        return spot

    def goto(self, kind, code, offset, target):
        """Look at the target of a JUMP or BRANCH, new on a line."""
        top = self.find_activation(code, kind, offset)
        if top is None:
            return self.python(code)
        record, spot = top.record, Spot(kind, offset, target)
        top.history.append(spot)
        if not self.check_offset(top, kind, offset):
            return None
        if type(target) is not int or target < 0 or (
                record.table is not None
                and (target % 2 or target // 2 >= len(record.table[0]))):
            self.uncounted += 1
            self.find("branch", record, f"the target of {KINDS[kind]} is no "
                      f"offset of the code: {target!r:.40}", offset=offset)
            return None
        self.keep(top, spot).count += 1
        if kind == JUMP or (record.room == 0
                            and offset not in record.targets):
            return None
        targets = record.targets.setdefault(offset, [])
        if target not in targets and len(targets) < 3:
            targets.append(target)
            if len(targets) == 3:
                self.find("branch", record, f"BRANCH leads from one offset to "
                          f"more than two places: "
                          f"{', '.join(map(str, targets))}", offset=offset)
        return None

    def call(self, code, offset, function, arg0):
        top = self.find_activation(code, CALL, offset)
        if top is None:
            return self.python(code)
        self.check_call(top)
        self.count(top, CALL, offset)
        if not is_python(function):
            top.call = top.history[-1]
            top.function, top.arg0 = function, arg0
        return None

    def call_end(self, kind, code, offset, function=MISSING, arg0=MISSING):
        top = self.find_activation(code, kind, offset)
        if top is None:
            return None
        record, call = top.record, top.call
        record.has_ends = True
        name, event = KINDS[kind], describe(kind, offset)
        if call is None:
            self.find("call", record, f"{name} comes while no call is open: "
                      f"its CALL is missing, was of a Python function, or has "
                      f"an end already", offset=offset, event=event)
        elif call.offset != offset:
            self.find("call", record, f"{name} has another offset than CALL, "
                      f"{call.offset}", offset=offset, event=event)
        elif function is MISSING and top.function is not MISSING:
            self.find("call", record, f"{name} has no callable: the functions "
                      f"of the first version do not pass it", offset=offset,
                      event=event)
        elif function is not top.function or arg0 is not top.arg0:
            self.find("call", record, f"{name} has another callable or "
                      f"argument than CALL", offset=offset, event=event)
        top.call = top.function = top.arg0 = None
        self.count(top, kind, offset)
        if call is not None and call.offset == offset and kind == C_RETURN:
            call.end = top.line.good[kind].get(offset)
        return None

    def check_call(self, top, exc=None):
        """See that no call is open where its end must have come."""
        call = top.call
        top.call = top.function = top.arg0 = None
        if (call is not None and (IS_WHOLE or top.record.has_ends)
                and not (exc is not None
                         and self.may_have_failed(CALL, exc))):
            self.find("call", top.record, "neither C_RETURN nor C_RAISE "
                      "follows this CALL", offset=call.offset)

    def exception(self, kind, code, offset, exc):
        top = self.find_activation(code, kind, offset, exc)
        if top is None:
            return
        record = top.record
        event = describe(kind, offset)
        self.check_call(top, exc)
        problem = None
        if kind == RAISE:
            if top.exc is exc:
                problem = ("RAISE comes again, for an exception that was "
                           "not handled")
            if not top.has_branched():
                top.line.raises += 1
        elif kind == HANDLED:
            if top.exc is None:
                problem = "EXCEPTION_HANDLED comes without RAISE or RERAISE"
            elif top.exc is not exc:
                problem = "EXCEPTION_HANDLED has another exception than RAISE"
        elif top.exc is not None:
            problem = "RERAISE comes before EXCEPTION_HANDLED"
        elif not hasattr(top, "raised") and YIELD not in record.kinds:
            problem = "RERAISE comes without RAISE"
        if problem:
            self.find("exception", record, problem, offset=offset,
                      event=event)
        self.count(top, kind, offset)
        top.raised = True
        top.exc = None if kind == HANDLED else exc

    # What is seen at the end

    def check_whole(self, record):
        """Look at all that a code-like did."""
        self.check_branches(record)
        again = Record(record.code)
        read_attributes(again)
        if again.attributes != record.attributes:
            self.find("attributes", record, "its attributes have changed",
                      line=record.firstlineno, history=False)
        yields, begun = record.count(YIELD), record.count(START)
        if (yields > 1 and RETURN in record.kinds
                and not record.kinds & {RESUME, THROW}
                and begun == yields + record.count(RETURN)
                + record.count(UNWIND)):
            self.find("resume", record, "after each PY_YIELD comes PY_START "
                      "and never PY_RESUME", line=record.firstlineno,
                      history=False)
        begun += record.count(RESUME) + record.count(THROW)
        left = sys.getrefcount(record.code) - record.references
        if left > max(LEAKED, begun // 100):
            # Those that Python objects have are no leak.
            known = sum(held is record.code
                        for holder in gc.get_referrers(record.code)
                        for held in gc.get_referents(holder))
            left = min(left, sys.getrefcount(record.code) - known)
        if left > max(LEAKED, begun // 100):
            self.find("leak", record, f"{left} references to the code-like "
                      f"are left after {begun} activations, "
                      f"{1000 * left // begun} in a thousand",
                      line=record.firstlineno, history=False)

    def check_branches(self, record):
        """See that both ways of each branch were reported."""
        for line in record.lines.values():
            times = collections.Counter()
            for spot in line.spots(BRANCH):
                times[spot.offset] += spot.count
            if not times:
                continue
            (offset, most), = times.most_common(1)
            missing = line.count - line.raises - most
            if (len(record.targets.get(offset, ())) == 1 and missing > 1
                    and missing > line.count // 10):
                self.find("branch", record, f"line {line.number} ran "
                          f"{missing} times without its BRANCH, which always "
                          f"leads to {record.targets[offset][0]}: the other "
                          f"way is not reported", offset=offset,
                          history=False)
        for offset, targets in record.targets.items():
            if len(targets) == 1:
                location = record.location(offset) or (
                    record.filename, None, None, None, None)
                place = Finding("branch", record, location, "", []).place()
                self.report.one_way.append(
                    (f"{place}, offset {offset}", record.name))


class Probe:
    """A second tool, which listens to one event at a time.

    The checker's callback for the event whose turn it is sees whether the
    probe was called as well.  It was not where a producer fires the event with
    the state of another one.

    The turn of LATE begins without listening.  When an activation has had some
    lines, the probe listens to LINE, and must be called as soon as the
    producer enters the scope again.

    In the turn of REST the probe disables what it gets, of events that need no
    turn any more.  If nothing has come up by its end, the probe is silent
    until something does.  After a turn that leads to nothing the next ones are
    longer: a change of what a tool listens to has its price.
    """

    def __init__(self, checker, tool):
        self.checker = checker
        self.tool = tool
        self.waiting = {turn: set() for turn in TURNS}  # records to look at
        self.seen = set()           # (record, kind)
        self.now = LATE             # whose turn it is; REST is next
        self.silent_since = 0       # the turn; without listening to LINE
        self.late = None            # the activation during which it came
        self.late_turns = 0         # that led to nothing
        self.patience = PATIENCE
        self.looks = 0              # in this turn, that led to nothing
        self.missed = 0
        self.kinds = ()             # what it listens to
        self.callbacks = [self.make_callback(kind)
                          for kind in range(len(KINDS))]
        self.original_restart = monitoring.restart_events
        self.restart = self.restart_events
        monitoring.use_tool_id(tool, "check_producer's probe")
        monitoring.restart_events = self.restart
        self.next_turn()

    def stop(self):
        self.listen()
        monitoring.free_tool_id(self.tool)
        if monitoring.restart_events is self.restart:
            monitoring.restart_events = self.original_restart

    def restart_events(self):
        """Stand in for the function, after which nothing is disabled."""
        for record in list(self.checker.records):
            record.disabled.clear()
        self.original_restart()

    def make_callback(self, kind):
        def on_event(code, place, *args):
            record = self.checker.by_id.get(id(code))
            if record is None:
                record = self.checker.record(code)
            if not record:
                return DISABLE if record is None and kind in LOCAL else None
            event = kind, place
            if len(record.probed) < MAX_PLACES:
                record.probed.add(event)
            if event in record.disabled:
                which = "line" if kind == LINE else "offset"
                self.checker.find(
                    "disable", record, f"{KINDS[kind]} comes again at a place "
                    f"that was disabled", **{which: place}, history=False)
            if (self.now != REST or record.is_shared or not record.is_weak
                    or len(record.disabled) == MAX_PLACES
                    or (record, kind) not in self.seen):
                return None
            record.disabled.add(event)
            return DISABLE
        return on_event

    def listen(self, *kinds):
        """Listen to events.

        There is no callback for any other: where there is one, an interpreter
        may keep states active.
        """
        monitoring.set_events(self.tool, 0)
        for chosen, is_on in ((self.kinds, False), (kinds, True)):
            for kind in chosen:
                for event in EVENTS[kind]:
                    monitoring.register_callback(
                        self.tool, event,
                        self.callbacks[kind] if is_on else None)
        if LINE in self.kinds or LINE in kinds:
            self.silent_since = self.checker.turn + (LINE in kinds)
        self.kinds = kinds
        monitoring.set_events(self.tool, sum(
            event for kind in kinds for event in EVENTS[kind]))

    def add(self, record, kind):
        """Have an event of a code-like looked at."""
        with self.checker.lock:
            for turn in (kind, LATE) if kind == LINE else (kind,):
                self.waiting[turn].add(record)
            if self.now == REST:
                self.next_turn()

    def next_turn(self):
        checker = self.checker
        with checker.lock:
            if self.now == LATE:
                self.late_turns += 1
                if self.late_turns > MAX_LATE_TURNS:
                    # What has not run long by now hardly will.
                    self.waiting[LATE].clear()
                    self.late_turns = 0
            was_rest = self.now == REST
            place = TURNS.index(self.now) + 1
            self.now = next((turn for turn in TURNS[place:]
                             if self.waiting[turn]), REST)
            self.looks = self.missed = 0
            self.late = None
            for record in checker.records:
                record.probed.clear()
            checker.turn += 1
            if self.now == LATE or (self.now == REST and (
                    was_rest or not KEEPS_DISABLED)):
                self.listen()
            elif self.now == REST:
                # No LINE while there are code-likes that have to be late.
                self.listen(*[kind for kind in LOCAL if kind != LINE
                              or not self.waiting[LATE]])
            else:
                self.listen(self.now)
            self.watch()

    def saw(self, record):
        """Have nothing more to see of a code-like in this turn."""
        with self.checker.lock:
            self.waiting[self.now].discard(record)
            self.seen.add((record, self.now))
            self.late_turns = 0
            if not self.waiting[self.now] or self.now == LATE:
                self.next_turn()

    def saw_nothing(self):
        self.looks += 1
        if self.looks > self.patience:
            self.patience = self.patience * 5 // 4
            self.next_turn()

    def watch(self):
        """Register the checker's callbacks, those that watch the turn too."""
        for kind, callback in enumerate(self.checker.callbacks):
            if kind in BEGINS and (self.kinds or self.now != REST):
                callback = self.watch_begin(callback)
            if kind == self.now:
                callback = self.watch_event(kind, callback)
            elif kind == LINE and self.now == LATE:
                callback = self.watch_late(callback)
            self.checker.register(kind, callback)

    def watch_begin(self, callback):
        def watching(code, offset, exc=None):
            result = callback(code, offset, exc)
            if result is not DISABLE:
                self.saw_nothing()
            return result
        return watching

    def watch_event(self, kind, callback):
        """See whether the probe gets what the checker gets."""
        def watching(code, place, *args):
            checker = self.checker
            top, turn = checker.local.top, checker.turn
            is_new = kind in BEGINS or (top.code is code and top.turn == turn)
            result = callback(code, place, *args)
            record = checker.by_id.get(id(code))
            if not record or turn != checker.turn:
                pass
            elif not is_new or record not in self.waiting[kind]:
                self.saw_nothing()
            elif ((kind, place) in record.probed
                  or (kind, place) in record.disabled):
                self.saw(record)
            else:
                self.miss(record, kind, place)
            return result
        return watching

    def miss(self, record, kind, place):
        # Another thread may have entered its scope before the turn began.
        self.missed += 1
        if self.missed > 1 or len(self.checker.threads) == 1:
            which = "line" if kind == LINE else "offset"
            self.checker.find(
                "state", record, f"{KINDS[kind]} does not reach a tool that "
                f"listens to nothing else: it is fired with the state of "
                f"another event", **{which: place})
            self.saw(record)

    def watch_late(self, callback):
        """Listen in the middle of an activation, and wait to be called."""
        def watching(code, lineno):
            result = callback(code, lineno)
            checker = self.checker
            top = checker.local.top
            late = self.late
            if self.now != LATE:
                pass
            elif late is None:
                if (top.code is code and top.turn >= self.silent_since
                        and top.record in self.waiting[LATE]):
                    top.lines_seen = getattr(top, "lines_seen", 0) + 1
                    if top.lines_seen == LATE_LINES:
                        self.late = top
                        self.looks = 0
                        self.listen(LINE)
                else:
                    self.saw_nothing()
            elif late.below is None:
                self.next_turn()
            elif late is top:
                self.looks += 1
                if late.record.probed:
                    self.saw(late.record)
                elif self.looks > MAX_LATE:
                    checker.find(
                        "enter", late.record, f"a tool that came {MAX_LATE} "
                        f"lines ago is still not called: the scope is not "
                        f"entered again", line=lineno)
                    self.saw(late.record)
            return result
        return watching


def read_attributes(record):
    """Read what a code-like says of itself; return what is wrong with it."""
    code = record.code
    problems = []

    def read(name, kind, default):
        try:
            value = getattr(code, name)
        except Exception:
            problems.append(f"it has no {name}")
            return default
        if not isinstance(value, kind):
            problems.append(f"its {name} is no {kind.__name__}, but "
                            f"{value!r:.40}")
            return default
        return value

    record.name = read("co_name", str, "?")
    record.filename = read("co_filename", str, "?")
    record.firstlineno = read("co_firstlineno", int, None)
    qualname = getattr(code, "co_qualname", record.name)
    if not isinstance(qualname, str):
        problems.append(f"its co_qualname is no str, but {qualname!r:.40}")
    record.locate = getattr(code, "co_location", None)
    record.table = record.valid_lines = None
    table = [array.array("i") for _ in range(4)]
    if hasattr(code, "co_positions") or hasattr(code, "co_lines"):
        try:
            read_table(record, table)
        except Exception as error:
            problems.append(f"its locations cannot be read: {error!r:.60}")
        # What says nothing but the first line, as PyCode_NewEmpty() makes it,
        # has no locations.
        record.has_columns = any(column >= 0 for column in table[2])
        if record.has_columns or {*table[0]} - {-1, record.firstlineno}:
            record.table = table
            record.valid_lines = {
                number for begin, end in zip(*table[:2]) if begin >= 0
                for number in range(begin, max(begin, end) + 1)}
    if record.locate is not None:
        record.valid_lines = None
    try:
        weakref.ref(code)
        record.is_weak = True
    except TypeError:
        record.is_weak = False
        problems.append("it cannot be weakly referenced: nothing can be "
                        "disabled in it, nor local events be set")
    record.attributes = (record.filename, record.name, str(qualname),
                         record.firstlineno,
                         hash(b"".join(column.tobytes() for column in table)))
    record.key = (type(code), *record.attributes)
    return problems


def read_table(record, table):
    """Fill four arrays as co_positions() has them, -1 for what is unknown."""
    for position in record.positions():
        for values, value in zip(table, position, strict=True):
            values.append(-1 if value is None else value)
    if isinstance(record.code, types.CodeType):
        # Two units of PyCode_NewWithLocations() follow the last location.
        for _ in range(2):
            if table[0] and table[0][-1] == -1:
                for values in table:
                    values.pop()


def describe(kind, place):
    return f"{KINDS[kind]} {place}"


def make_callbacks(checker):
    """Return the checker's callbacks, by kind.

    They are the short way, and hand over to the checker whatever is not as it
    was found right before.
    """
    local = checker.local
    by_id = checker.by_id

    def make_begin(kind):
        def on_begin(code, offset, exc=None):
            record = by_id.get(id(code))
            if not record:
                if record is None:
                    record = checker.record(code)
                if not record:
                    return (DISABLE if record is None and kind != THROW
                            else None)
            local.top = top = Activation(code, record, local.top,
                                         checker.turn)
            try:
                spot = record.start.good[kind][offset]
            except KeyError:
                checker.count(top, kind, offset)
            else:
                spot.count += 1
                top.history.append(spot)
            if kind != START or top.depth > MAX_DEPTH:
                checker.begin(top, kind)
            return None
        return on_begin

    def make_end(kind):
        def on_end(code, offset, value):
            top = local.top
            if top.code is code and top.exc is None and top.call is None:
                try:
                    spot = top.line.good[kind][offset]
                except KeyError:
                    return checker.end(kind, code, offset)
                spot.count += 1
                top.history.append(spot)
                local.top = below = top.below
                below.ended = top
                top.below = top.ended = None
                if kind == YIELD:
                    top.record.suspended += 1
                return None
            return checker.end(kind, code, offset)
        return on_end

    def on_unwind(code, offset, exc):
        if by_id.get(id(code)) or checker.record(code):
            checker.end(UNWIND, code, offset, exc)

    def on_line(code, lineno):
        top = local.top
        if top.code is code:
            try:
                top.line = line = top.lines[lineno]
            except KeyError:
                return checker.line(code, lineno)
            line.count += 1
            top.history.append(line)
            return None
        return checker.line(code, lineno)

    def make_goto(kind):
        def on_goto(code, offset, target):
            top = local.top
            if top.code is code:
                try:
                    spot = top.line.good[kind][offset][target]
                except (KeyError, TypeError):
                    return checker.goto(kind, code, offset, target)
                spot.count += 1
                top.history.append(spot)
                return None
            return checker.goto(kind, code, offset, target)
        return on_goto

    def on_call(code, offset, function, arg0):
        top = local.top
        if top.code is code and top.call is None:
            try:
                spot = top.line.good[CALL][offset]
            except KeyError:
                return checker.call(code, offset, function, arg0)
            spot.count += 1
            top.history.append(spot)
            # is_python(), without a call.
            of = type(function)
            if of is not FUNCTION and (of is not METHOD or type(
                    function.__func__) is not FUNCTION):
                top.call = spot
                top.function = function
                top.arg0 = arg0
            return None
        return checker.call(code, offset, function, arg0)

    def on_c_return(code, offset, function=MISSING, arg0=MISSING):
        top = local.top
        if top.code is code:
            call = top.call
            if (call is not None and top.function is function
                    and top.arg0 is arg0):
                # Not in the history: it is what follows the CALL there.
                spot = call.end
                if spot is not None and spot.offset == offset:
                    spot.count += 1
                    top.call = top.function = top.arg0 = None
                    return None
        if by_id.get(id(code)) or checker.record(code):
            checker.call_end(C_RETURN, code, offset, function, arg0)
        return None

    def on_c_raise(code, offset, function=MISSING, arg0=MISSING):
        if by_id.get(id(code)) or checker.record(code):
            checker.call_end(C_RAISE, code, offset, function, arg0)

    def on_stop_iteration(code, offset, exc):
        return checker.stop_iteration(code, offset)

    def make_exception(kind):
        def on_exception(code, offset, exc):
            if by_id.get(id(code)) or checker.record(code):
                checker.exception(kind, code, offset, exc)
        return on_exception

    callbacks = {
        UNWIND: on_unwind, LINE: on_line, CALL: on_call,
        C_RETURN: on_c_return, C_RAISE: on_c_raise, STOP: on_stop_iteration,
        **{kind: make_begin(kind) for kind in BEGINS},
        **{kind: make_end(kind) for kind in (RETURN, YIELD)},
        **{kind: make_goto(kind) for kind in (JUMP, BRANCH)},
        **{kind: make_exception(kind) for kind in (RAISE, RERAISE, HANDLED)},
    }
    return [callbacks[kind] for kind in range(len(KINDS))]


@contextlib.contextmanager
def checking(rules=None, *, ignore=(), files=(), python_code=()):
    """Check the producers that run in the block; give the report.

    rules are those to look at, by default all, but for those to ignore.  files
    are patterns of the co_filename of code-likes to look at; python_code are
    patterns of FILE or FILE:QUALNAME, of Python functions whose code objects a
    producer uses as its own.
    """
    checker = Checker(rules, ignore, files, python_code)
    checker.start()
    try:
        yield checker.report
    finally:
        checker.stop()


# The command


class Progress(threading.Thread):
    """Shows on a terminal that the program goes on."""

    def __init__(self, checker, stream, interval=1):
        super().__init__(name="check_producer", daemon=True)
        self.interval = interval
        self.checker = checker
        self.stream = stream
        self.is_over = threading.Event()

    def run(self):
        width = 0
        while not self.is_over.wait(self.interval):
            checker = self.checker
            text = (f"check_producer: "
                    f"{count_of(checker.count_events(), 'event')} of "
                    f"{count_of(len(checker.records), 'code-like')}, "
                    f"{count_of(sum(checker.by_rule.values()), 'mistake')}")
            width = max(width, len(text))
            print(f"\r{text:{width}}", end="", file=self.stream, flush=True)
        if width:
            print(f"\r{'':{width}}\r", end="", file=self.stream, flush=True)

    def end(self):
        self.is_over.set()
        self.join()


def split(text):
    return [name for name in text.split(",") if name]


def make_parser():
    parser = argparse.ArgumentParser(
        prog="check_producer.py",
        description="Run a program, and check what code that is not bytecode "
                    "signals to sys.monitoring.",
        epilog="rules: " + ", ".join(RULES))
    parser.add_argument("-r", "--rules", type=split, metavar="RULE,...",
                        help="look at these rules alone")
    parser.add_argument("-i", "--ignore", type=split, default=[],
                        metavar="RULE,...", help="leave these rules out")
    parser.add_argument("-f", "--file", action="append", default=[],
                        dest="files", metavar="PATTERN",
                        help="look at code-likes of matching files alone")
    parser.add_argument("--python-code", action="append", default=[],
                        metavar="PATTERN",
                        help="Python functions whose code object a producer "
                             "uses as its own: FILE or FILE:QUALNAME")
    parser.add_argument("--json", action="store_true",
                        help="write the report as JSON")
    parser.add_argument("-o", "--output", metavar="FILE",
                        help="where to write it, instead of stderr")
    parser.add_argument("--no-progress", action="store_true",
                        help="show no progress, even on a terminal")
    parser.add_argument("-m", action="store_true", dest="is_module",
                        help="PROGRAM is the name of a module")
    parser.add_argument("program", metavar="PROGRAM")
    parser.add_argument("arguments", nargs=argparse.REMAINDER,
                        metavar="ARGUMENT")
    return parser


def prepare(parser, options):
    """Set the interpreter up as for the program; return what runs it."""
    program = options.program
    sys.argv[:] = [program, *options.arguments]
    if options.is_module:
        sys.path[0] = os.getcwd()
        try:
            found = importlib.util.find_spec(program)
        except ImportError:
            found = None
        if found is None:
            parser.error(f"there is no module {program}")
        return lambda: runpy.run_module(program, run_name="__main__",
                                        alter_sys=True)
    if not os.path.isfile(program):
        if not os.path.exists(os.path.join(program, "__main__.py")):
            parser.error(f"there is no file {program}")
        del sys.path[0]
        return lambda: runpy.run_path(program, run_name="__main__")
    sys.path[0] = os.path.dirname(os.path.abspath(program))
    module = types.ModuleType("__main__")
    module.__file__ = program
    module.__builtins__ = __builtins__

    def run():
        with io.open_code(program) as file:
            code = compile(file.read(), program, "exec")
        sys.modules["__main__"] = module
        exec(code, module.__dict__)
    return run


def run_program(run):
    """Run the program up to its end, and say how it failed, or None."""
    try:
        run()
    except SystemExit as error:
        if error.code not in (None, 0):
            return f"the program has exited with {error.code!r}"
    except BaseException as error:
        traceback.print_exception(hide_own_frames(error))
        return f"the program has ended with {type(error).__name__}"
    finally:
        for thread in threading.enumerate():
            if not (thread is threading.current_thread() or thread.daemon):
                thread.join()
    return None


def hide_own_frames(error):
    entry = error.__traceback__
    while entry is not None and entry.tb_frame.f_code.co_filename in (
            __file__, runpy.__file__):
        entry = entry.tb_next
    return error.with_traceback(entry)


def main(arguments=None):
    parser = make_parser()
    options = parser.parse_args(arguments)
    try:
        checker = Checker(options.rules, options.ignore, options.files,
                          options.python_code)
        output = (open(options.output, "w", encoding="utf-8")
                  if options.output else sys.stderr)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    run = prepare(parser, options)
    progress = None
    if sys.stderr.isatty() and not options.no_progress:
        progress = Progress(checker, sys.stderr)
        progress.start()
    checker.start()
    try:
        failure = run_program(run)
    finally:
        checker.stop()
        if progress is not None:
            progress.end()
    report = checker.report
    if failure:
        report.notes.append(failure)
    with output if options.output else contextlib.nullcontext():
        print(json.dumps(report.as_dict(), indent=2) if options.json
              else report, file=output, flush=True)
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
