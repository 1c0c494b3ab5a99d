"""What is measured: loops.c's loops under all kinds of tools.

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
LAYOUTS = 20            # of memory, where addresses decide what is measured
TOOLS = (1, 2, 6)
LENGTHS = (1, 8, 16)    # of a scope
WORKLOAD_EVENTS = ("PY_START", "LINE", "PY_RETURN")
IDLE, FRESH = ("workload, nobody listens",
               "workload on the stack, nobody listens")
LOOKS = ("f_back", "sys._getframe")
# Where get_location() is asked.  A location has two offsets.
OFFSETS = (100, 100000)
TRACED = ("run_foreign", "run_python")
PROGRAMS = ("nbody", "fannkuch", "scheduler", "words", "generators")


@dataclass(frozen=True)
class Event:
    """An event as loops.c fires it and as callbacks get it."""

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
    Event("CallReturn", "C_RETURN", 4, 4, 3, listen_to="CALL"),
    Event("CallRaise", "C_RAISE", 4, 4, 3, needs_error=True,
          listen_to="CALL"),
)
BY_NAME = {event.name: event for event in EVENTS}


@dataclass(frozen=True)
class Operation:
    """One thing that is measured, and the twin over which its cost is given.

    The cost is that of one round of the loop less one of the twin, divided by
    the events of a round.
    """

    name: str
    loop: str
    twin: str
    types: bytes = b""
    listen_to: tuple = ()           # events that the tools switch on
    call_for: tuple = ()            # events that have a callback
    callback: str = ""              # "c", "python", a look, or none
    returns: str = "None"           # or "object": what callbacks return
    tools: int = 0
    numbers: range = SMALL
    events: int = 1                 # per round
    stock_twin: str = ""            # where stock gives callbacks less
    needs_error: bool = False
    stale: bool = False
    disabled: tuple = (0, 0)        # code-likes, locations in each
    local: int = 0                  # code-likes with local events
    local_function: bool = False    # a Python function has local events
    others: str = ""                # fire for "objects" or "code" beside those
    code: tuple = ()                # what loops.new_code() gets
    traced: bool = False            # by a Python function
    layouts: int = 1
    target: str = ""                # what is called
    lengths: tuple = (1024, 2048)   # of the two runs that are compared
    stock: bool = True              # stock can do it


def all_operations():
    """Return every operation."""
    return (scope_operations() + workload_operations() + event_operations()
            + call_operations() + disabled_operations() + local_operations()
            + change_operations() + program_operations()
            + frame_operations())


def known():
    """Return every operation by its name."""
    return {operation.name: operation for operation in all_operations()}


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
    """Return the workload under each kind of tool."""
    idle = Operation(IDLE, "workload", "nothing_workload",
                     types=scope_types(16))
    stack = replace(idle, name=FRESH, loop="stack_workload",
                    types=scope_types(7))
    active = replace(idle, name="workload, no callback", tools=1,
                     listen_to=WORKLOAD_EVENTS, events=10)
    found = [idle, stack, active]
    for callback in ("c", "python"):
        for returns in ("None", "object"):
            for numbers, size in ((SMALL, "small"), (LARGE, "large")):
                found.append(replace(
                    active, name=f"workload, {callback} callback, {returns}, "
                                 f"{size} numbers",
                    twin="bare_workload", call_for=WORKLOAD_EVENTS,
                    callback=callback, returns=returns, numbers=numbers))
        # The cost is that for each tool.
        found.append(replace(
            active, name=f"workload, {callback} callback of 2 tools",
            twin="bare_workload_2", call_for=WORKLOAD_EVENTS,
            callback=callback, tools=2, events=20))
    return found


def event_operations():
    """Return each event by itself."""
    found = []
    for event in EVENTS:
        inactive = Operation(
            f"{event.name}, inactive", f"fire_{event.loop}", "nothing",
            types=bytes([event.identity]), needs_error=event.needs_error)
        active = replace(inactive, name=f"{event.name}, no callback",
                         tools=1, listen_to=(event.listen_to or event.name,))
        found += [inactive, active]
        called = replace(active, call_for=(event.name,),
                         twin=f"bare_{event.arity}")
        if event.stock_arity:
            called = replace(called, stock_twin=f"bare_{event.stock_arity}")
        for callback in ("c", "python"):
            found += with_callbacks(called, event.name, callback)
    return found


def call_operations():
    """Return a call with its events, beside the bare call."""
    inactive = Operation("Vectorcall, inactive", "fire_Vectorcall",
                         "bare_Vectorcall", types=bytes([4]), target="ignore")
    active = replace(inactive, name="Vectorcall, no callback", tools=1,
                     listen_to=("CALL",), events=2)
    called = replace(active, twin="bare_Vectorcall_4",
                     call_for=("CALL", "C_RETURN"))
    return [inactive, active, *with_callbacks(called, "Vectorcall", "c"),
            *with_callbacks(called, "Vectorcall", "python")]


def with_callbacks(called, name, callback):
    """Return an operation with callbacks of one kind, for 1 and more tools."""
    found = []
    for tools in TOOLS:
        many = f" of {tools} tools" if tools > 1 else ""
        found.append(replace(called, callback=callback, tools=tools,
                             name=f"{name}, {callback} callback{many}"))
    found.append(replace(found[0], numbers=LARGE,
                         name=f"{name}, {callback} callback, large numbers"))
    return found


def disabled_operations():
    """Return what disabled locations cost where they are, and elsewhere.

    A tool that disabled a location still has a callback: one without is not
    called anywhere, and its locations would not be looked up.

    All run in one interpreter: what is left behind by code-likes that died,
    100,000 at once, counts for what follows.
    """
    line = Operation("", "fire_Line", "nothing", types=bytes([5]),
                     listen_to=("LINE",), call_for=("LINE",), callback="c",
                     tools=1, layouts=LAYOUTS, stock=False)
    found = []
    for codelikes, lines in DISABLED:
        found.append(replace(
            line, disabled=(codelikes, lines),
            name=f"disabled, {codelikes * lines} in {codelikes}"))
    for lines in DISABLED_IN_ONE[1:]:
        found.append(replace(line, disabled=(1, lines),
                             name=f"disabled, {lines} in 1"))
    found.append(replace(
        line, disabled=(10, 10), tools=6,
        name="disabled for 6 tools, 100 in 10"))
    found.append(replace(
        line, disabled=(100000, 10), others="objects", twin="bare_2",
        layouts=1, name="enabled, c callback, while 1000000 are disabled"))
    return found


def local_operations():
    """Return what local events cost on their code-likes, and on others."""
    local = Operation("", "fire_Line", "bare_2", types=bytes([5]),
                      call_for=("LINE",), callback="c", tools=1, stock=False)
    found = [replace(local, local=count,
                     name=f"local events on {count}, c callback")
             for count in LOCAL]
    elsewhere = replace(local, twin="nothing", layouts=LAYOUTS)
    for others in ("objects", "code"):
        for count in (1, 10000):
            found.append(replace(
                elsewhere, local=count, others=others,
                name=f"local events elsewhere, on {count}, {others}"))
    found.append(replace(
        elsewhere, local_function=True, others="objects",
        name="local events elsewhere, on a Python function, objects"))
    return found


def change_operations():
    """Return what switches events on and off.

    set_events has nothing and has much to remember.  set_local_events gets a
    function in each round that was never called or monitored, and switches
    PY_START on: stock takes about 2,500 instructions and 64 bytes for it.
    """
    change = Operation("set_events", "call", "nothing", target="set_events",
                       tools=1, lengths=(16, 48))
    return [
        change,
        replace(change, name="set_events, 1000000 disabled in 100000",
                disabled=(100000, 10), stock=False),
        replace(change, name="set_events, local events on 10000",
                local=10000, stock=False),
        replace(change, name="set_local_events on a Python function",
                target="set_local_events", lengths=(256, 512)),
    ]


def program_operations():
    """Return the programs that produce nothing."""
    return [Operation(f"program {name}", "call", "nothing", target=name,
                      lengths=(2, 3)) for name in PROGRAMS]


def frame_operations():
    """Return looks at the stack, locations, tracebacks and trace functions.

    They come last: nothing else is to run where they left something behind.
    """
    look = Operation("", "call", "nothing", lengths=(16, 48))
    found = []
    for name in LOOKS:
        found.append(replace(look, name=f"{name} in Python code", target=name))
        found.append(replace(
            look, name=f"{name} in a callback", target="start", tools=1,
            listen_to=("PY_START",), call_for=("PY_START",), callback=name))
    for offset in OFFSETS:
        found.append(replace(
            look, name=f"get_location at the offset {offset}",
            target="get_location", code=(offset, 4), stock=False,
            numbers=range(offset, offset + 1), lengths=(2, 4)))
    found.append(Operation("traceback entry", "add_traceback",
                           "bare_exception", code=(100, 4),
                           numbers=range(20, 21)))
    for name in TRACED:
        found.append(replace(
            look, name=f"{name}, trace function", target=name, code=(10, 1),
            traced=True, stock=name == "run_python"))
    return found
