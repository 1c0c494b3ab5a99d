"""What is measured: loops.c's loops under all kinds of listeners.

Imported by the tool and, in the interpreters that are measured, by worker.py.
"""

from dataclasses import dataclass, replace

SMALL = range(256)
LARGE = range(1000, 1256)
# Codelikes and lines of each: 1 to 1,000,000 locations.
DISABLED = ((1, 1), (10, 1), (10, 10), (100, 10), (1000, 10), (10000, 10),
            (100000, 10))
DISABLED_IN_ONE = (1, 10, 100, 1000, 10000, 100000, 1000000)
LOCAL = (1, 10, 100, 1000, 10000)
TOOLS = (1, 2, 6)
LENGTHS = (1, 8, 16)    # of a scope
WORKLOAD_EVENTS = ("PY_START", "LINE", "PY_RETURN")
PROGRAMS = ("nbody", "fannkuch", "scheduler", "words", "generators")


@dataclass(frozen=True)
class Event:
    """An event as loops.c fires it and as callbacks are told of it."""

    loop: str
    name: str
    identity: int
    arity: int = 2
    stock_arity: int = 0
    needs_error: bool = False
    # C_RETURN and C_RAISE are on where CALL is.
    listen_to: str = ""


EVENTS = (
    Event("PyStart", "PY_START", 0),
    Event("PyResume", "PY_RESUME", 1),
    Event("PyReturn", "PY_RETURN", 2, 3),
    Event("PyYield", "PY_YIELD", 3, 3),
    Event("Call", "CALL", 4, 4),
    Event("Line", "LINE", 5),
    Event("Jump", "JUMP", 7, 3),
    Event("Branch", "BRANCH", 8, 3),
    Event("StopIteration", "STOP_ITERATION", 9, 3),
    Event("Raise", "RAISE", 10, 3, needs_error=True),
    Event("ExceptionHandled", "EXCEPTION_HANDLED", 11, 3, needs_error=True),
    Event("PyUnwind", "PY_UNWIND", 12, 3, needs_error=True),
    Event("PyThrow", "PY_THROW", 13, 3, needs_error=True),
    Event("Reraise", "RERAISE", 14, 3, needs_error=True),
    Event("CReturn", "C_RETURN", 4, 4, 3, listen_to="CALL"),
    Event("CRaise", "C_RAISE", 4, 4, 3, needs_error=True, listen_to="CALL"),
)
BY_NAME = {event.name: event for event in EVENTS}


@dataclass(frozen=True)
class Operation:
    """One thing that is measured, and the twin that its cost is told over.

    The cost is that of one round of the loop less one of the twin, divided by
    the events of a round.
    """

    name: str
    loop: str
    twin: str
    types: bytes = b""
    listen_to: tuple = ()           # events that the tools switch on
    tell: tuple = ()                # events that have a callback
    callback: str = ""              # "c", "python" or none
    tools: int = 0
    numbers: range = SMALL
    events: int = 1                 # per round
    stock_twin: str = ""            # where stock tells callbacks less
    needs_error: bool = False
    stale: bool = False
    disabled: tuple = (0, 0)        # code-likes, locations in each
    others: bool = False            # fire what is not disabled or not local
    local: int = 0                  # code-likes with local events
    target: str = ""                # what the loop "call" calls
    lengths: tuple = (1024, 2048)   # of the two runs that are compared
    stock: bool = True              # stock can do it


def all_operations():
    """Return every operation; the first ones need an unused interpreter."""
    return (unused_operations() + scope_operations() + workload_operations()
            + event_operations() + disabled_operations() + local_operations()
            + change_operations() + program_operations())


def unused_operations():
    """Return what must be measured before any tool was used."""
    return [replace(operation, name=f"{operation.name}, no tool yet")
            for operation in idle_workloads()]


def idle_workloads():
    """Return the workload while nobody listens."""
    return [
        Operation("workload, nobody listens", "workload", "nothing_workload",
                  types=scope_types(16)),
        Operation("workload on the stack, nobody listens", "stack_workload",
                  "nothing_workload", types=scope_types(7)),
    ]


def scope_types(length):
    """Return the event types of a scope.

    Stock 3.13 reads past an array for C_RETURN and C_RAISE, the last two of
    the seventeen: the sixteenth here is the first once more.
    """
    return bytes(i % 15 for i in range(length))


def scope_operations():
    """Return entering and exiting alone."""
    found = []
    for tools in (0, 1):
        who = "a tool listens" if tools else "nobody listens"
        for length in LENGTHS:
            scope = Operation(f"scope of {length}, unchanged, {who}", "scope",
                              "bare_scope", types=scope_types(length),
                              tools=tools, listen_to=("LINE",))
            found.append(scope)
            found.append(replace(
                scope, name=f"scope of {length}, after a change, {who}",
                loop="stale_scope", twin="bare_stale_scope", stale=True))
    return found


def workload_operations():
    """Return the workload under each kind of listener."""
    found = idle_workloads()
    active = replace(found[0], name="workload, no callback", tools=1,
                     listen_to=WORKLOAD_EVENTS, events=10)
    found.append(active)
    for callback in ("c", "python"):
        for numbers, size in ((SMALL, "small"), (LARGE, "large")):
            found.append(replace(
                active, name=f"workload, {callback} callback, {size} numbers",
                twin="bare_workload", tell=WORKLOAD_EVENTS, callback=callback,
                numbers=numbers))
    return found


def event_operations():
    """Return each event by itself, and a CALL with its answer."""
    found = []
    for event in EVENTS:
        bare = f"bare_{event.arity}"
        inactive = Operation(
            f"{event.name}, inactive", f"fire_{event.loop}", "nothing",
            types=bytes([event.identity]), needs_error=event.needs_error)
        active = replace(inactive, name=f"{event.name}, no callback",
                         tools=1, listen_to=(event.listen_to or event.name,))
        found += [inactive, active]
        told = replace(active, tell=(event.name,), twin=bare)
        if event.stock_arity:
            told = replace(told, stock_twin=f"bare_{event.stock_arity}")
        for callback in ("c", "python"):
            found += with_callbacks(told, event.name, callback)
    # The twin calls twice, as four arguments each time.
    pair = Operation("CALL and C_RETURN, c callback", "fire_pair",
                     "bare_pair", types=bytes([4]), listen_to=("CALL",),
                     tell=("CALL", "C_RETURN"), callback="c", tools=1,
                     events=2)
    return found + [pair]


def with_callbacks(told, name, callback):
    """Return an operation with callbacks of one kind, for 1 and more tools."""
    found = []
    for tools in TOOLS:
        many = f" of {tools} tools" if tools > 1 else ""
        found.append(replace(told, name=f"{name}, {callback} callback{many}",
                             callback=callback, tools=tools))
    found.append(replace(found[0], numbers=LARGE,
                         name=f"{name}, {callback} callback, large numbers"))
    return found


def disabled_operations():
    """Return what disabled locations cost where they are, and elsewhere.

    A tool that disabled a location still has a callback: one without is told
    nothing anywhere, and its locations would not be looked up.

    All run in one interpreter: what is left behind by code-likes that died,
    100,000 at once, counts for what follows.
    """
    line = Operation("", "fire_Line", "nothing", types=bytes([5]),
                     listen_to=("LINE",), tell=("LINE",), callback="c",
                     tools=1, stock=False)
    found = []
    for codelikes, lines in DISABLED:
        found.append(replace(
            line, disabled=(codelikes, lines),
            name=f"disabled, {codelikes * lines} in {codelikes}"))
    for lines in DISABLED_IN_ONE[1:]:
        found.append(replace(line, disabled=(1, lines),
                             name=f"disabled, {lines} in 1"))
    found.append(replace(
        line, disabled=(100000, 10), others=True, twin="bare_2",
        name="enabled, c callback, while 1000000 are disabled"))
    found.append(replace(
        line, disabled=(10, 10), tools=6,
        name="disabled for 6 tools, 100 in 10"))
    return found


def local_operations():
    """Return what local events cost on their code-likes, and on others."""
    local = Operation("", "fire_Line", "bare_2", types=bytes([5]),
                      tell=("LINE",), callback="c", tools=1, stock=False)
    found = [replace(local, local=count,
                     name=f"local events on {count}, c callback")
             for count in LOCAL]
    found.append(replace(local, local=10000, others=True, twin="nothing",
                         name="another code-like, local events on 10000"))
    return found


def change_operations():
    """Return set_events with nothing and with much to remember."""
    change = Operation("set_events", "call", "nothing", target="set_events",
                       tools=1, lengths=(16, 48))
    return [
        change,
        replace(change, name="set_events, 1000000 disabled in 100000",
                disabled=(100000, 10), stock=False),
        replace(change, name="set_events, local events on 10000",
                local=10000, stock=False),
    ]


def program_operations():
    """Return the programs that produce nothing."""
    return [Operation(f"program {name}", "call", "nothing", target=name,
                      lengths=(2, 3)) for name in PROGRAMS]
