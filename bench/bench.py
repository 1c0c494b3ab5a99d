"""Counting, timing and weighing what the API costs, beside stock.

Instructions are callgrind's, as the difference of two run lengths, so that
what comes before the loop cancels; operations.py says what is run.
"""

from collections import ChainMap
from concurrent.futures import ThreadPoolExecutor
import json
import platform
import re
import statistics
import subprocess
from pathlib import Path

from bench import charts, operations
from series import builder
from series.common import SeriesError, clean_environment, output_of, say
from series.readme import Table

FOLDER = Path(__file__).resolve().parent
TABLE = Table("bench", "bench/README.md")
SUMMARY = Table("bench", "README.md", "summary")
STOCK, BINARY, OURS, NO_GIL = "stock", "same binary", "ours", "no GIL"
# Assertions would be timed in build/freethreaded, a debug build.
FREETHREADED = "freethreaded-release"
RUNS_PER_LOOP = 3       # of worker.py's count, the first one not used
PAIRS = 11
PAIR_NANOSECONDS = 2_000_000
THREAD_NANOSECONDS = 5_000_000
THREAD_ROUNDS = 40, 160         # at least and at most
FREE_CORES = 1.9        # what two threads reach that share nothing
IDLE, FRESH = ("workload, nobody listens",
               "workload on the stack, nobody listens")
THREADED = (FRESH, "LINE, c callback", "LINE, python callback",
            "disabled, 1 in 1", "disabled, 1000000 in 100000")
# worker.py's arguments: what remembers something, and for how many lines.
MEMORY = (("disabled", 100000, 10), ("disabled", 1000, 1000),
          ("disabled", 1, 1000000), ("disabled", 100000, 1),
          ("local", 10000, 1), ("functions", 10000, 1))
PROFILED = (
    FRESH, "scope of 16, unchanged, nobody listens",
    "scope of 16, after a change, a tool listens", "LINE, no callback",
    "LINE, c callback", "LINE, c callback, large numbers",
    "CALL, c callback", "C_RETURN, c callback", "Vectorcall, c callback",
    "workload, c callback, object, small numbers",
    "workload, c callback of 2 tools", "disabled, 1000000 in 100000",
    "local events on 10000, c callback",
    "local events elsewhere, on 10000, objects",
    "set_local_events on a Python function")
DISABLED_LIMIT = 60
WORST_LIMIT = 70        # where the layout of memory is the worst
PROGRAM_LIMIT = 1.02    # addresses alone have made it 1.005
EMPTY = "nothing"       # the loop of loops.c
EVAL_LOOP = "_PyEval_EvalFrameDefault"
# The goals of the summary.
HEADLINES = (
    "nobody listens: enter, 10 events, exit",
    "a tool listens, no callback, per event",
    "C callback, returns None, numbers up to 256, over a bare vectorcall",
    "CALL with a callback, the dearest one, over a bare vectorcall",
    f"a disabled location, the dearest of 1 to 1,000,000, mean of "
    f"{operations.LAYOUTS} layouts",
    "bytes of each of 1,000,000 disabled locations in 1,000",
)


class Column:
    """An interpreter with the extension that runs on it.

    Each share is the names of operations that are counted in one process.
    """

    def __init__(self, name, build, interpreter, header, kind, *shares):
        self.name = name
        self.shares = shares
        self.python = (build / interpreter / "python").resolve()
        self.folder = (build / "bench" / header).resolve()
        self.kind = kind

    def command(self, *arguments):
        """Return the command line that runs worker.py."""
        return [self.python, "-E", "-s", "-S", FOLDER / "worker.py",
                self.folder, self.kind, *arguments]


def measure(series, base, build):
    """Measure beside stock, print, write and draw; fail if a goal is missed.
    """
    builder.build_stock(base, build)
    compile_loops(build, "stock", "stock-src")
    common = names_of(lambda operation: operation.stock)
    columns = {
        STOCK: Column(STOCK, build, "stock", "stock", "stock", common),
        BINARY: Column(BINARY, build, "release", "stock", "ours", common),
        OURS: our_column(build),
        NO_GIL: column_without_gil(build),
    }
    result = count_and_weigh(build, columns)
    result["timed"] = time_all(columns[STOCK], columns[OURS])
    result["threads"] = time_threads(columns[NO_GIL])
    result["goals"] = list(judge(result))
    folder = build / "bench"
    (folder / "bench.json").write_text(json.dumps(result, indent=1) + "\n")
    TABLE.keep(build, markdown(result, series.version))
    SUMMARY.keep(build, summary(result["goals"], series.version))
    draw(folder, result)
    finish(result)


def measure_quick(build):
    """Judge the goals that counting on the patched interpreter decides."""
    result = count_and_weigh(build, {OURS: our_column(build)})
    result["goals"] = list(judge(result))
    finish(result)


def finish(result):
    """Print what was measured; fail if a goal is missed."""
    goals = result["goals"]
    print_table(result)
    print_goals(goals)
    missed = [goal["goal"] for goal in goals if goal["met"] is False]
    if missed:
        raise SeriesError(f"{len(missed)} of {len(goals)} goals missed, the "
                          f"first one: {missed[0]}")


def our_column(build):
    """Build the patched interpreter and the extension for it."""
    builder.build_python(build, "release")
    compile_loops(build, "release", "src")
    return Column(OURS, build, "release", "release", "ours",
                  names_of(lambda operation: operation.layouts > 1),
                  names_of(lambda operation: operation.layouts == 1))


def names_of(condition):
    """Return the names of the operations for which a condition holds."""
    return [operation.name for operation in operations.all_operations()
            if condition(operation)]


def column_without_gil(build):
    """Build the free-threaded interpreter and the extension for it."""
    builder.build_python(build, FREETHREADED, "--disable-gil")
    compile_loops(build, FREETHREADED, "src")
    return Column(NO_GIL, build, FREETHREADED, FREETHREADED, "ours",
                  (IDLE, FRESH))


def compile_loops(build, interpreter, source):
    """Compile loops.c against the headers of one interpreter."""
    folder = build / "bench" / interpreter
    folder.mkdir(parents=True, exist_ok=True)
    output_of(["gcc", "-std=c11", "-shared", "-fPIC", "-O2", "-DNDEBUG",
               "-fwrapv", f"-I{build / source / 'Include'}",
               f"-I{build / interpreter}", "-o", folder / "loops.so",
               FOLDER / "loops.c"])


# ------ Instructions ------

def count_and_weigh(build, columns):
    """Return what does not depend on what else the machine does."""
    with ThreadPoolExecutor() as pool:
        counting = {name: [pool.submit(count_share, column, share,
                                       build / "bench" / f"{name}-{i}")
                           for i, share in enumerate(column.shares)]
                    for name, column in columns.items()}
        weighing = {name: pool.submit(weigh_all, columns[name])
                    for name in (STOCK, OURS) if name in columns}
    runs = {name: dict(ChainMap(*(future.result() for future in futures)))
            for name, futures in counting.items()}
    result = {
        "machine": platform.machine(),
        "compiler": output_of(["gcc", "--version"]).decode().splitlines()[0],
        "counted": {name: costs(found) for name, found in runs.items()},
        "evaluation_loop": {name: evaluation_loops(runs[name])
                            for name in weighing},
        "profile": profiles(runs[OURS]),
        "memory": {name: future.result()
                   for name, future in weighing.items()},
        "timed": {},
        "threads": {},
    }
    check_look_ups(result["counted"][OURS])
    return result


def count_share(column, share, stem):
    """Run operations under callgrind; return {name: runs of each layout}."""
    stem = str(stem).replace(" ", "-")
    counts, names = Path(f"{stem}.callgrind"), Path(f"{stem}.names")
    for path in (counts, names):
        path.unlink(missing_ok=True)
    measured = "benchmark_measured"
    output_of(["valgrind", "--tool=callgrind", "--combine-dumps=yes",
               "--compress-strings=no", "--compress-pos=no",
               f"--callgrind-out-file={counts}",
               f"--toggle-collect={measured}", f"--dump-after={measured}",
               *column.command("count", names, *share)],
              env=clean_environment(PYTHONHASHSEED="0"))
    say("counted", f"{column.name}: {counts}")
    with open(counts, encoding="utf-8") as file:
        parts = list(read_parts(file))
    return split_parts(json.loads(names.read_text()), parts, counts)


def split_parts(names, parts, path):
    """Return {name: [the runs of its loop and of its twin, in a layout]}."""
    each = 2 * RUNS_PER_LOOP
    # The last one is what callgrind writes when the program ends.
    if len(parts) != each * len(names) + 1:
        raise SeriesError(f"{path}: has {len(parts)} parts, not "
                          f"{each * len(names) + 1}")
    runs = {}
    for i, name in enumerate(names):
        runs.setdefault(name, []).append(parts[each * i:each * (i + 1)])
    return runs


def read_parts(lines):
    """Yield for each part of callgrind's output {function: instructions}."""
    part = None
    inclusive = False
    for line in lines:
        if line.startswith("part:"):
            if part is not None:
                yield part
            part = {}
        elif line.startswith("fn="):
            function = line[3:].split("'")[0].strip()
        elif line.startswith("calls="):
            inclusive = True
        elif line[0].isdigit():
            if not inclusive:
                count = int(line.split()[1])
                part[function] = part.get(function, 0) + count
            inclusive = False
    if part is not None:
        yield part


def per_round(operation, shorter, longer):
    """Return {function: instructions} of one round, from two run lengths."""
    rounds = operation.lengths[1] - operation.lengths[0]
    return {function: (longer.get(function, 0) - shorter.get(function, 0))
            / rounds for function in shorter.keys() | longer.keys()}


def costs(runs):
    """Return {name: cost of the loop, the twin, and what is over, each}.

    They are means over the layouts; the worst of these is beside them.
    """
    found = {}
    for operation in operations.all_operations():
        if operation.name in runs:
            layouts = [
                [sum(per_round(operation, *pair).values()) / operation.events
                 for pair in (parts[1:3], parts[4:6])]
                for parts in runs[operation.name]]
            loop, twin = map(statistics.fmean, zip(*layouts))
            worst = max(loop - twin for loop, twin in layouts)
            found[operation.name] = {"loop": round(loop, 2),
                                     "twin": round(twin, 2),
                                     "over": round(loop - twin, 2),
                                     "worst": round(worst, 2)}
    return found


def check_look_ups(ours):
    """Fail unless disabled locations and local events were looked up.

    The first are not where no tool has a callback, the second not where the
    state is inactive.
    """
    for operation in operations.all_operations():
        if operation.layouts > 1 and operation.name in ours:
            idle = ("LINE, no callback" if operation.disabled[0]
                    else "LINE, inactive")
            over = ours[operation.name]["over"]
            if over <= ours[idle]["over"]:
                raise SeriesError(f"{operation.name}: costs {over} "
                                  f"instructions, no more than '{idle}': "
                                  f"nothing was looked up")


def profiles(runs):
    """Return for the chosen operations what each function costs a round.

    Where the layout matters, it is the first one.
    """
    found = {}
    for operation in operations.all_operations():
        if operation.name in PROFILED:
            functions = per_round(operation, *runs[operation.name][0][1:3])
            found[operation.name] = {
                function: round(cost, 1) for function, cost in sorted(
                    functions.items(), key=lambda item: -item[1])
                if cost >= 0.5}
    return found


def evaluation_loops(runs):
    """Return the instructions of each program in the evaluation loop."""
    return {operation.target: per_round(
        operation, *runs[operation.name][0][1:3])[EVAL_LOOP]
            for operation in operations.program_operations()}


# ------ Bytes ------

def weigh_all(column):
    """Return [what, objects, lines of each, bytes that they take]."""
    found = [[*what, weigh(column, *what)] for what in MEMORY
             if column.kind == "ours" or what[0] == "functions"]
    say("weighed", f"{column.name}: {len(found)} ways to fill the tables")
    return found


def weigh(column, *what):
    """Return the bytes that disabled locations or local events take.

    They are malloc's, its own overhead included, and the blocks that pymalloc
    has handed out; arenas are not malloc's, so nothing is counted twice.
    """
    result = subprocess.run(
        column.command("memory", *map(str, what)),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env=clean_environment(PYTHONHASHSEED="0"))
    output = result.stderr.decode(errors="replace")
    malloced = re.findall(r"^malloced = (\d+)", output, re.MULTILINE)
    blocks = re.findall(r"^# bytes in allocated blocks +=\s+([\d,]+)", output,
                        re.MULTILINE)
    if result.returncode or len(malloced) != 2 or len(blocks) != 2:
        raise SeriesError(f"{column.python}: weighing failed: "
                          f"{output.strip()[-300:]}")
    before, after = (int(malloced[i]) + int(blocks[i].replace(",", ""))
                     for i in (0, 1))
    return after - before


# ------ Times ------

class Server:
    """A worker that runs what it is asked to."""

    def __init__(self, column):
        self.process = subprocess.Popen(
            column.command("serve"), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
            env=clean_environment(PYTHONHASHSEED="0"))

    def ask(self, *request):
        """Send a request and return the reply."""
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        reply = self.process.stdout.readline()
        if not reply:
            words = " ".join(map(str, request))
            raise SeriesError(f"{FOLDER}/worker.py failed at {words}")
        return json.loads(reply)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def time_all(stock_column, our_column):
    """Return the times of each operation on stock and ours, run in turn."""
    programs = operations.program_operations()
    found = {}
    with Server(stock_column) as stock, Server(our_column) as ours:
        for operation in operations.all_operations():
            if operation.stock and operation not in programs:
                found[operation.name] = time_pairs(stock, ours, operation)
    say("timed", f"{len(found)} operations, {PAIRS} pairs of each")
    return found


def time_pairs(stock, ours, operation):
    """Return the nanoseconds of both and the ratio with its quartiles."""
    loop = operation.loop
    for server in (stock, ours):
        server.ask("prepare", operation.name)
    n = rounds_for(stock, loop, operation.lengths[0], PAIR_NANOSECONDS)
    times = []
    for pair in range(PAIRS):
        # Who goes first alternates, as does what the first one suffers.
        both = [server.ask("run", loop, n)
                for server in ((stock, ours), (ours, stock))[pair % 2]]
        times.append(both if pair % 2 == 0 else both[::-1])
    for server in (stock, ours):
        server.ask("end")
    each = n * operation.events
    return {"stock_ns": min(theirs for theirs, _ in times) / each,
            "ours_ns": min(mine for _, mine in times) / each,
            **quartiles([mine / theirs for theirs, mine in times])}


def quartiles(ratios):
    """Return the ratio in the middle, and the quartiles beside it."""
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {"ratio": middle, "low": low, "high": high}


def rounds_for(server, loop, n, nanoseconds):
    """Return how many rounds take about so long, warming up meanwhile."""
    server.ask("run", loop, n)
    return max(1, int(n * nanoseconds / max(1, server.ask("run", loop, n))))


def time_threads(column):
    """Return what two threads get done in the time of one's work.

    Beside each operation are timed its bare calls, if it has any, and an empty
    loop, which shows what the machine can give meanwhile.
    """
    known = operations.known()
    found = {}
    with Server(column) as server:
        for name in THREADED:
            twin = server.ask("prepare", name)
            found[name] = time_loops(
                server, dict.fromkeys((known[name].loop, twin, EMPTY)))
            server.ask("end")
    say("timed", f"{len(found)} operations in 1 and 2 threads")
    return found


def time_loops(server, loops):
    """Return {loop: nanoseconds in 1 and in 2 threads, throughput of 2}.

    Other work only adds to a time, hence the least of many, and of more while
    two threads do not get all that two cores can give.
    """
    rounds = {loop: rounds_for(server, loop, 1024, THREAD_NANOSECONDS)
              for loop in loops}
    best = {}
    for done in range(THREAD_ROUNDS[1]):
        for loop, n in rounds.items():
            for threads in (1, 2):
                each = server.ask("threads", loop, n, threads) / n
                key = loop, threads
                best[key] = min(each, best.get(key, each))
        found = {loop: {"1": best[loop, 1], "2": best[loop, 2],
                        "throughput": 2 * best[loop, 1] / best[loop, 2]}
                 for loop in loops}
        if done >= THREAD_ROUNDS[0] and all(
                times["throughput"] >= FREE_CORES for times in found.values()):
            break
    return found


# ------ Goals ------

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
    yield from judge_layouts(ours)
    yield from judge_changes(ours, stock)
    yield from judge_memory(result["memory"])
    yield from judge_programs(result)
    yield from judge_threads(result["threads"])


def counted_goal(text, name, limit, ours, stock):
    """Return the goal for the instructions of an operation."""
    return goal(text, ours[name]["over"], limit,
                stock.get(name, {}).get("over"))


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
                    f"{returns}, {size} numbers", limit + more, ours, stock)
    for event in ("CALL", "C_RETURN", "C_RAISE"):
        names = [f"{event}, {callback} callback{size}" for callback in titles
                 for size in ("", ", large numbers")]
        yield counted_goal(f"{event} with a callback, the dearest one, over a "
                           f"bare vectorcall", dearest(ours, names), 48, ours,
                           stock)
    for callback, title in titles.items():
        yield counted_goal(f"{title} callbacks of two tools, per tool and "
                           f"event", f"workload, {callback} callback of 2 "
                           f"tools", 85, ours, stock)


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


def throughputs(name, loops):
    """Return the throughput of an operation, its bare calls, an empty loop.

    That of bare calls is None where there are none.
    """
    found = {loop: times["throughput"] for loop, times in loops.items()}
    bare = [loop for loop in found if loop.startswith("bare")]
    return (found[operations.known()[name].loop],
            found[bare[0]] if bare else None, found[EMPTY])


def goal(text, value, limit, stock=None, least=False):
    """Return a goal whose value must be a limit at most, or at least."""
    return {"goal": text, "limit": limit, "stock": stock, "ours": value,
            "least": least,
            "met": value >= limit if least else value <= limit}


# ------ What is shown ------

def print_table(result):
    """Print what each operation costs over its twin, per event."""
    counted = result["counted"]
    columns = [name for name in (STOCK, BINARY, OURS, NO_GIL)
               if name in counted]
    print(f"\n{'instructions over the twin':<50}",
          *(f"{name:>11}" for name in columns),
          f"{'the twin':>11}  time, ours / stock")
    for name, cost in counted[OURS].items():
        cells = [counted[column].get(name, {}).get("over")
                 for column in columns] + [cost["twin"]]
        worst = (f", the worst {cost['worst']:.1f}"
                 if cost["worst"] > cost["over"] else "")
        print(f"{name:<50}", *(cell(value) for value in cells),
              ratio(result["timed"].get(name)) + worst)
    print("\nbytes")
    for column, weighed in result["memory"].items():
        for what, objects, lines, size in weighed:
            count = objects * lines
            print(f"{f'{column}: {what}, {count} in {objects}':<50} "
                  f"{size:>11,}, {size / count:.1f} each")
    if result["threads"]:
        print("\nthreads")
    for name, loops in result["threads"].items():
        for loop, times in loops.items():
            print(f"{f'{name}: {loop}':<50} {times['1']:8.1f} ns, in two "
                  f"threads {times['2']:8.1f} ns, "
                  f"{times['throughput']:.2f} times")


def cell(value):
    """Return a number or a dash as a cell of the table."""
    return f"{'-':>11}" if value is None else f"{value:>11,.1f}"


def ratio(times):
    """Return the ratio of times with its quartiles, if there is one."""
    if times is None:
        return ""
    return (f"  {times['ratio']:.2f} ({times['low']:.2f} to "
            f"{times['high']:.2f}), {times['ours_ns']:.1f} ns")


def print_goals(goals):
    """Print the goals, whether each is met, and how many are."""
    print(f"\n{'goal':<74}{'limit':>9}{'stock':>9}{'ours':>9}")
    for one in goals:
        limit, stock, ours, verdict = goal_cells(one)
        print(f"{one['goal']:<74}{limit:>9}{stock:>9}{ours:>9}  {verdict}")
    print(met(goals), flush=True)


def met(goals):
    """Say how many goals are met."""
    left_out = sum(one["met"] is None for one in goals)
    return (f"{sum(one['met'] is True for one in goals)} of {len(goals)} "
            f"goals met" + (f", {left_out} not judged: the machine was busy"
                            if left_out else ""))


def goal_cells(one):
    """Return limit, stock, ours and verdict of a goal as text."""
    digits = 1 if one["limit"] >= 10 else 3 if one["limit"] else 0
    stock = "-" if one["stock"] is None else f"{one['stock']:.{digits}f}"
    verdict = {True: "met", False: "MISSED", None: "not judged"}[one["met"]]
    return (f"{'>=' if one['least'] else '<='} {one['limit']:.{digits}f}",
            stock, f"{one['ours']:.{digits}f}", verdict)


def markdown(result, version):
    """Return the goals, and what each event costs, as their page shows them.
    """
    lines = [f"Counted by callgrind on {result['machine']}, without PGO, by "
             f"`{result['compiler']}`.", "",
             *goal_rows(result["goals"], version)]
    counted = result["counted"]
    kinds = ("inactive", "no callback", "c callback", "python callback",
             "c callback of 6 tools")
    lines += ["", "<details>", "<summary>Each event by itself, and scopes: "
              "instructions over the bare loop or the bare calls, stock / "
              "with the series</summary>", "",
              f"| | {' | '.join(kinds)} |".replace(" c ", " C ").replace(
                  "python", "Python"),
              "|---|---:|---:|---:|---:|---:|"]

    def both(name):
        return " / ".join(f"{counted[column][name]['over']:.0f}"
                          for column in (STOCK, OURS))

    rows = {event.name: event.name for event in operations.EVENTS}
    rows["`PyMonitoring_Vectorcall`: CALL, C_RETURN, each"] = "Vectorcall"
    for title, name in rows.items():
        cells = [both(f"{name}, {kind}") for kind in kinds]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    lines += ["", "| enter and exit | 1 event type | 8 | 16 |",
              "|---|---:|---:|---:|"]
    for kind in ("unchanged, nobody listens", "unchanged, a tool listens",
                 "after a change, nobody listens",
                 "after a change, a tool listens"):
        cells = [both(f"scope of {length}, {kind}")
                 for length in operations.LENGTHS]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", "</details>", ""])


def goal_rows(goals, version):
    """Yield the lines of a table of goals."""
    yield f"| | stock {version} | with the series | goal | |"
    yield "|---|---:|---:|---:|---|"
    for one in goals:
        limit, stock, ours, verdict = goal_cells(one)
        yield f"| {one['goal']} | {stock} | {ours} | {limit} | {verdict} |"


def summary(goals, version):
    """Return the goals that come first to a reader, as the README shows them.
    """
    known = {one["goal"]: one for one in goals}
    rows = goal_rows((known[text] for text in HEADLINES), version)
    return "\n".join([*rows, "", f"{met(goals)}.", ""])


def draw(folder, result):
    """Write the charts."""
    counted = result["counted"]
    ours = counted[OURS]
    workloads = [name for name in ours if name.startswith("workload")]
    for stem, title, twin, names in (
            ("idle", "The workload while nobody listens", "without the API",
             [name for name in workloads if "nobody" in name]),
            ("workload", "The workload, per event", "the bare call",
             [name for name in workloads if "nobody" not in name]),
            ("events", "Each event with a callback in C", "the bare call",
             [f"{event.name}, c callback" for event in operations.EVENTS])):
        (folder / f"{stem}.svg").write_text(charts.bars(
            f"{title}: instructions", ("stock", "ours", twin),
            [(name, (counted[STOCK][name]["loop"], ours[name]["loop"],
                     ours[name]["twin"])) for name in names]))
    (folder / "disabled.svg").write_text(charts.lines(
        "A disabled location: instructions of an event over none",
        "disabled locations", disabled_lines(ours)))
    (folder / "local.svg").write_text(charts.lines(
        "Local events: instructions of LINE over the bare call",
        "code-likes with local events",
        {"C callback": [(count, ours[f"local events on {count}, c callback"]
                         ["over"]) for count in operations.LOCAL]}))
    (folder / "tools.svg").write_text(charts.lines(
        "Several tools, callbacks in C: instructions of LINE over the bare "
        "calls", "tools", {column: tool_line(counted[column])
                           for column in (STOCK, OURS)}))
    (folder / "threads.svg").write_text(charts.bars(
        "Throughput of two threads without a GIL, where one's is 1",
        ("events", "bare calls", "an empty loop"),
        [(name, throughputs(name, loops))
         for name, loops in result["threads"].items()]))
    say("drawn", f"{folder}/*.svg, the figures are in {folder}/bench.json")


def disabled_lines(ours):
    """Return the curves of disabled locations."""
    def cost(codelikes, lines):
        count = codelikes * lines
        return count, ours[f"disabled, {count} in {codelikes}"]["over"]

    return {
        "10 in each code-like": [cost(*what)
                                 for what in operations.DISABLED],
        "all in one": [cost(1, lines)
                       for lines in operations.DISABLED_IN_ONE],
        "the goal": [(count, DISABLED_LIMIT)
                     for count in operations.DISABLED_IN_ONE],
    }


def tool_line(counted):
    """Return what LINE costs by the number of tools."""
    found = []
    for tools in operations.TOOLS:
        many = f" of {tools} tools" if tools > 1 else ""
        found.append((tools, counted[f"LINE, c callback{many}"]["over"]))
    return found
