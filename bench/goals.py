"""The goals, and which of them are met."""

from bench import operations
from bench.columns import NO_GIL, OURS, STOCK
from bench.operations import FRESH, IDLE
from bench.times import FREE_CORES, throughputs

# What frames may add to an event with a callback while nobody looks: the event
# has to say where it is, and to see afterwards whether somebody looked.
FRAMES = 10
LOOK_LIMIT = 1.02       # f_back and sys._getframe() where no foreign code runs
DISABLED_LIMIT = 60
WORST_LIMIT = 70        # where the layout of memory is the worst
PROGRAM_LIMIT = 1.02    # addresses alone have made it 1.005


def judge(result):
    """Yield each goal as {goal, limit, stock, ours, met}.

    met is None where the machine does not allow to say.
    """
    counted = result["counted"]
    stock, ours = counted.get(STOCK, {}), counted[OURS]
    yield from judge_idle(ours, stock, "", 32, 40)
    if NO_GIL in counted:
        yield from judge_idle(counted[NO_GIL], {}, ", without a GIL", 38, 50)
    yield from judge_active(ours, stock)
    yield from judge_frames(ours, stock)
    yield from judge_layouts(ours)
    yield from judge_changes(ours, stock)
    yield from judge_memory(result["memory"])
    yield from judge_programs(result)
    yield from judge_threads(result["threads"])


def counted_goal(text, name, limit, ours, stock, frames=0):
    """Return the goal for the instructions of an operation."""
    return goal(text, ours[name]["over"], limit,
                stock.get(name, {}).get("over"), frames=frames)


def judge_idle(ours, stock, where, limit, fresh_limit):
    """Yield the goals where nobody listens."""
    yield counted_goal(f"nobody listens: enter, 10 events, exit{where}", IDLE,
                       limit, ours, stock)
    yield counted_goal(f"the same, 7 states on the C stack, version 0{where}",
                       FRESH, fresh_limit, ours, stock)


def judge_active(ours, stock):
    """Yield the goals where tools listen."""
    yield counted_goal("a tool listens, no callback, per event",
                       "workload, no callback", 25, ours, stock)
    titles = {"c": "C", "python": "Python"}
    for returns, limit in (("None", 40), ("object", 44)):
        for callback, title in titles.items():
            # The goals are for ints that are there; others cost a little more.
            for size, numbers, more in (("small", "numbers up to 256", 0),
                                        ("large", "numbers around 1,000", 5)):
                yield counted_goal(
                    f"{title} callback, returns {returns}, {numbers}, over a "
                    f"bare vectorcall", f"workload, {callback} callback, "
                    f"{returns}, {size} numbers", limit + more, ours, stock,
                    FRAMES)
    for event in ("CALL", "C_RETURN", "C_RAISE"):
        names = [f"{event}, {callback} callback{size}" for callback in titles
                 for size in ("", ", large numbers")]
        yield counted_goal(f"{event} with a callback, the dearest one, over a "
                           f"bare vectorcall", dearest(ours, names), 48, ours,
                           stock, FRAMES)
    for callback, title in titles.items():
        yield counted_goal(f"{title} callbacks of two tools, per tool and "
                           f"event", f"workload, {callback} callback of 2 "
                           f"tools", 85, ours, stock, FRAMES / 2)


def judge_frames(ours, stock):
    """Yield the goals where somebody looks at frames, beside stock's."""
    if not stock:
        return
    for look in operations.LOOKS:
        for where in ("in Python code", "in a callback"):
            name = f"{look} {where}"
            yield goal(f"{name}, over stock's",
                       ours[name]["loop"] / stock[name]["loop"], LOOK_LIMIT)
    yield counted_goal("a traceback entry, its release included",
                       "traceback entry", 900, ours, stock)
    foreign, python = (ours[f"{name}, trace function"]["over"]
                       for name in operations.TRACED)
    yield goal("a trace function over 10 foreign events, over those of a "
               "Python function", foreign / python, 1.1)


def dearest(ours, names):
    """Return the name of the operation that costs most."""
    return max(names, key=lambda name: ours[name]["over"])


def judge_layouts(ours):
    """Yield the goals that depend on addresses."""
    many = [operation for operation in operations.all_operations()
            if operation.layouts > 1]
    for text, chosen in (
            ("a disabled location, the dearest of 1 to 1,000,000",
             [operation for operation in many if operation.disabled[0]]),
            ("a tool has local events elsewhere, the dearest, per event",
             [operation for operation in many if operation.others])):
        found = [ours[operation.name] for operation in chosen]
        yield goal(f"{text}, mean of {operations.LAYOUTS} layouts",
                   max(cost["over"] for cost in found), DISABLED_LIMIT)
        yield goal(f"{text}, the worst layout",
                   max(cost["worst"] for cost in found), WORST_LIMIT)


def judge_changes(ours, stock):
    """Yield the goals where events are switched on or off."""
    yield counted_goal("enter 16 event types after a change, a tool listens",
                       "scope of 16, after a change, a tool listens", 150,
                       ours, stock)
    changes = [cost["over"] for name, cost in ours.items()
               if name.startswith("set_events")]
    yield goal("set_events, most to remember over nothing to remember",
               max(changes) / changes[0], 1.01)
    name = "set_local_events on a Python function"
    yield counted_goal(name, name, 2600, ours, stock)


def judge_memory(memory):
    """Yield the goals for bytes."""
    stock = {what: size / objects
             for what, objects, _, size in memory.get(STOCK, ())}
    for what, objects, lines, size in memory[OURS]:
        if what == "functions":
            yield goal("bytes of local events on a Python function",
                       size / objects, 70, stock.get(what))
        elif what == "locations":
            yield goal(f"bytes of each of {lines:,} locations", size / lines,
                       5)
        elif objects * lines == 1000000:
            yield goal(f"bytes of each of 1,000,000 disabled locations in "
                       f"{objects:,}", size / 1000000, 64)
        elif what == "disabled":
            yield goal("bytes of a code-like with one disabled location",
                       size / objects, 200)


def judge_programs(result):
    """Yield the goals for programs that produce nothing, beside stock."""
    counted, loops = result["counted"], result["evaluation_loop"]
    for program, count in loops.get(STOCK, {}).items():
        yield goal(f"instructions of the evaluation loop in {program}, more "
                   f"or less than stock's", abs(loops[OURS][program] - count),
                   0)
        ours, stock = (counted[column][f"program {program}"]["loop"]
                       for column in (OURS, STOCK))
        yield goal(f"all instructions of {program}, over stock's",
                   ours / stock, PROGRAM_LIMIT)


def judge_threads(threads):
    """Yield the goals of two threads, if they ran.

    None is missed while other work takes the second core away.
    """
    for name, loops in threads.items():
        events, bare, empty = throughputs(name, loops)
        limit = FREE_CORES if bare is None else min(FREE_CORES, 0.95 * bare)
        judged = goal(f"{name}: two threads' throughput over one's", events,
                      limit, least=True)
        if not judged["met"] and empty < FREE_CORES:
            judged["met"] = None
        yield judged


def goal(text, value, limit, stock=None, least=False, frames=0):
    """Return a goal whose value must be a limit at most, or at least.

    The limit is one that was set for events without frames, and what these may
    add.
    """
    limit += frames
    return {"goal": text, "limit": limit, "stock": stock, "ours": value,
            "least": least, "frames": frames,
            "met": value >= limit if least else value <= limit}
