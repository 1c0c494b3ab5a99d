"""Counting, timing and weighing what the API costs, beside stock.

Instructions are callgrind's, as the difference of two run lengths, so that
what comes before the loop cancels; benchmark/operations.py says what is run.
"""

from concurrent.futures import ThreadPoolExecutor
import json
import platform
import re
import statistics
import subprocess
from pathlib import Path

from benchmark import operations
import builder
import charts
from common import SeriesError, clean_environment, output_of, say

FOLDER = Path(__file__).resolve().parent / "benchmark"
STOCK, BINARY, OURS = "stock", "same binary", "ours"
# Assertions would be timed in build/freethreaded, a debug build.
FREETHREADED = "freethreaded-release"
RUNS_PER_LOOP = 3       # of worker.py's count, the first one not used
PAIRS = 11
PAIR_NANOSECONDS = 2_000_000
THREAD_NANOSECONDS = 40_000_000
THREAD_ROUNDS = 9
FREE_CORES = 1.9
THREADED = ("LINE, c callback", "LINE, python callback",
            "disabled, 1 in 1", "disabled, 1000000 in 100000")
MEMORY = ((100000, 10), (1000, 1000), (1, 1000000), (100000, 1), (10000, 0))
PROFILED = (
    "scope of 16, unchanged, nobody listens",
    "scope of 16, after a change, a tool listens", "LINE, no callback",
    "LINE, c callback", "LINE, c callback, large numbers",
    "disabled, 1000000 in 100000", "local events on 10000, c callback",
    "another code-like, local events on 10000")
EMPTY = "an empty loop"
EVAL_LOOP = "_PyEval_EvalFrameDefault"


class Column:
    """An interpreter with the extension that runs on it."""

    def __init__(self, name, build, interpreter, header, kind):
        self.name = name
        self.python = (build / interpreter / "python").resolve()
        self.folder = (build / "bench" / header).resolve()
        self.kind = kind

    def command(self, *arguments):
        """Return the command line that runs worker.py."""
        return [self.python, "-E", "-s", "-S", FOLDER / "worker.py",
                self.folder, self.kind, *arguments]


def measure(build, quick):
    """Measure, print, write and draw; fail if a counted goal is missed.

    The quick variant counts on the patched interpreter alone.
    """
    columns = prepare_columns(build, quick)
    parts = count_all(build, columns)
    result = {
        "machine": platform.machine(),
        "compiler": output_of(["gcc", "--version"]).decode().splitlines()[0],
        "counted": {name: costs(part) for name, part in parts.items()},
        "evaluation_loop": evaluation_loops(parts),
        "profile": profiles(parts[OURS]),
        "memory": weigh_all(columns[OURS]),
        "timed": {},
        "threads": {},
    }
    check_look_ups(result["counted"][OURS])
    if not quick:
        result["timed"] = time_all(columns)
        result["threads"] = time_threads(threaded_column(build))
    goals = list(judge(result))
    result["goals"] = goals
    folder = build / "bench"
    (folder / "bench.json").write_text(json.dumps(result, indent=1) + "\n")
    draw(folder, result)
    print_table(result)
    print_goals(goals)
    missed = [goal for goal in goals if goal["counted"] and not goal["met"]]
    if missed:
        raise SeriesError(f"{len(missed)} of {len(goals)} goals missed, the "
                          f"first one: {missed[0]['goal']}")


def prepare_columns(build, quick):
    """Build the interpreters and the extensions."""
    (build / "bench").mkdir(exist_ok=True)
    builder.build_python(build, "release")
    compile_loops(build, "release", "src")
    columns = {OURS: Column(OURS, build, "release", "release", "ours")}
    if not quick:
        builder.build_python(build, "stock", source="base")
        compile_loops(build, "stock", "base")
        columns = {
            STOCK: Column(STOCK, build, "stock", "stock", "stock"),
            BINARY: Column(BINARY, build, "release", "stock", "ours"),
            **columns,
        }
    return columns


def compile_loops(build, interpreter, source):
    """Compile loops.c against the headers of one interpreter."""
    folder = build / "bench" / interpreter
    folder.mkdir(exist_ok=True)
    output_of(["gcc", "-std=c11", "-shared", "-fPIC", "-O3", "-DNDEBUG",
               "-fwrapv", f"-I{build / source / 'Include'}",
               f"-I{build / interpreter}", "-o", folder / "loops.so",
               FOLDER / "loops.c"])


def threaded_column(build):
    """Build the free-threaded interpreter."""
    builder.build_python(build, FREETHREADED, "--disable-gil")
    compile_loops(build, FREETHREADED, "src")
    return Column(FREETHREADED, build, FREETHREADED, FREETHREADED, "ours")


# ------ Instructions ------

def count_all(build, columns):
    """Return for each column the counted runs of each operation."""
    def count(column):
        stem = build / "bench" / column.name.replace(" ", "-")
        return count_column(column, stem)

    with ThreadPoolExecutor() as pool:
        return dict(zip(columns, pool.map(count, columns.values())))


def count_column(column, stem):
    """Run all operations under callgrind; return {name: their runs}."""
    counts, names = stem.with_suffix(".callgrind"), stem.with_suffix(".names")
    for path in (counts, names):
        path.unlink(missing_ok=True)
    measured = "benchmark_measured"
    output_of(["valgrind", "--tool=callgrind", "--combine-dumps=yes",
               "--compress-strings=no", "--compress-pos=no",
               f"--callgrind-out-file={counts}",
               f"--toggle-collect={measured}", f"--dump-after={measured}",
               *column.command("count", names)],
              env=clean_environment(PYTHONHASHSEED="0"))
    say("counted", f"{column.name}: {counts}")
    with open(counts, encoding="utf-8") as file:
        parts = list(read_parts(file))
    return split_parts(json.loads(names.read_text()), parts, counts)


def split_parts(names, parts, path):
    """Return {name: the runs of its loop and of its twin}."""
    each = 2 * RUNS_PER_LOOP
    # The last one is what callgrind writes when the program ends.
    if len(parts) != each * len(names) + 1:
        raise SeriesError(f"{path}: has {len(parts)} parts, not "
                          f"{each * len(names) + 1}")
    return {name: parts[each * i:each * (i + 1)]
            for i, name in enumerate(names)}


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
    """Return {name: cost of the loop, the twin, and what is over, each}."""
    found = {}
    for operation in operations.all_operations():
        if operation.name in runs:
            parts = runs[operation.name]
            loop, twin = (
                sum(per_round(operation, *pair).values()) / operation.events
                for pair in (parts[1:3], parts[4:6]))
            found[operation.name] = {"loop": round(loop, 2),
                                     "twin": round(twin, 2),
                                     "over": round(loop - twin, 2)}
    return found


def check_look_ups(ours):
    """Fail unless disabled locations were looked up.

    Where no tool is to be told of anything, nothing is.
    """
    least = ours["LINE, no callback"]["over"]
    for name, cost in ours.items():
        if name.startswith("disabled") and cost["over"] <= least:
            raise SeriesError(f"{name}: costs {cost['over']} instructions, no "
                              f"more than where no tool has a callback: "
                              f"nothing was looked up")


def profiles(runs):
    """Return for the chosen operations what each function costs a round."""
    found = {}
    for operation in operations.all_operations():
        if operation.name in PROFILED:
            functions = per_round(operation, *runs[operation.name][1:3])
            found[operation.name] = {
                function: round(cost, 1) for function, cost in sorted(
                    functions.items(), key=lambda item: -item[1])
                if cost >= 0.5}
    return found


def evaluation_loops(parts):
    """Return the instructions of each program in the evaluation loop."""
    return {
        column: {operation.target: per_round(
            operation, *runs[operation.name][1:3])[EVAL_LOOP]
            for operation in operations.program_operations()}
        for column, runs in parts.items()}


# ------ Bytes ------

def weigh_all(column):
    """Return [code-likes, lines of each or 0, bytes that they take]."""
    found = [[*what, weigh(column, *what)] for what in MEMORY]
    say("weighed", f"{len(found)} ways to fill the tables")
    return found


def weigh(column, codelikes, lines):
    """Return the bytes that disabled locations or local events take.

    They are malloc's, its own overhead included, and the blocks that pymalloc
    has handed out; arenas are not malloc's, so nothing is counted twice.
    """
    result = subprocess.run(
        column.command("memory", str(codelikes), str(lines)),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env=clean_environment(PYTHONHASHSEED="0"))
    told = result.stderr.decode(errors="replace")
    malloced = re.findall(r"^malloced = (\d+)", told, re.MULTILINE)
    blocks = re.findall(r"^# bytes in allocated blocks +=\s+([\d,]+)", told,
                        re.MULTILINE)
    if result.returncode or len(malloced) != 2 or len(blocks) != 2:
        raise SeriesError(f"{column.python}: weighing failed: "
                          f"{told.strip()[-300:]}")
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
        """Send a request and return the answer."""
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            words = " ".join(map(str, request))
            raise SeriesError(f"{FOLDER}/worker.py failed at {words}")
        return json.loads(answer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def time_all(columns):
    """Return the times of each operation on stock and ours, run in turn."""
    found = {}
    with Server(columns[STOCK]) as stock, Server(columns[OURS]) as ours:
        for operation in operations.all_operations():
            if operation.stock:
                stock.ask("prepare", operation.name)
                ours.ask("prepare", operation.name)
                found[operation.name] = time_pairs(stock, ours, operation)
                stock.ask("end")
                ours.ask("end")
    say("timed", f"{len(found)} operations, {PAIRS} pairs of each")
    return found


def time_pairs(stock, ours, operation):
    """Return the nanoseconds of both and the ratio with its quartiles."""
    loop = operation.loop
    n = rounds_for(stock, loop, operation.lengths[0], PAIR_NANOSECONDS)
    times = []
    for pair in range(PAIRS):
        # Who goes first alternates, as does what the first one suffers.
        both = [server.ask("run", loop, n)
                for server in ((stock, ours), (ours, stock))[pair % 2]]
        times.append(both if pair % 2 == 0 else both[::-1])
    low, middle, high = statistics.quantiles(
        [mine / theirs for theirs, mine in times], n=4)
    each = n * operation.events
    return {"stock_ns": min(theirs for theirs, _ in times) / each,
            "ours_ns": min(mine for _, mine in times) / each,
            "ratio": middle, "low": low, "high": high}


def rounds_for(server, loop, n, nanoseconds):
    """Return how many rounds take about so long, warming up meanwhile."""
    server.ask("run", loop, n)
    return max(1, int(n * nanoseconds / max(1, server.ask("run", loop, n))))


def time_threads(column):
    """Return what two threads get done in the time of one's work.

    The empty loop tells what the machine can give just now.
    """
    known = {operation.name: operation
             for operation in operations.all_operations()}
    found = {}
    with Server(column) as server:
        for name in THREADED:
            twin = server.ask("prepare", name)
            for loop in (known[name].loop, twin):
                if loop != "nothing":
                    found[f"{name}: {loop}"] = time_loop(server, loop)
                elif EMPTY not in found:
                    found[EMPTY] = time_loop(server, loop)
            server.ask("end")
    say("timed", f"{len(found)} loops in 1 and 2 threads")
    return found


def time_loop(server, loop):
    """Return nanoseconds per round and thread, and the gain of a second."""
    n = rounds_for(server, loop, 1024, THREAD_NANOSECONDS)
    best = {threads: min(server.ask("threads", loop, n, threads)
                         for _ in range(THREAD_ROUNDS))
            for threads in (1, 2)}
    return {"1": best[1] / n, "2": best[2] / n,
            "throughput": 2 * best[1] / best[2]}


# ------ Goals ------

def judge(result):
    """Yield each goal as {goal, limit, stock, ours, met, counted}."""
    ours = result["counted"][OURS]
    stock = result["counted"].get(STOCK, {})

    def counted(text, name, limit):
        theirs = stock.get(name, {}).get("over")
        return goal(text, ours[name]["over"], limit, theirs)

    workload = "workload"
    yield counted("nobody listens", f"{workload}, nobody listens", 30)
    stack = f"{workload} on the stack, nobody listens"
    yield counted("7 states on the stack, no tool yet",
                  f"{stack}, no tool yet", 50)
    yield counted("7 states on the stack", stack, 50)
    yield counted("a tool listens, no callback", f"{workload}, no callback",
                  30)
    for callback, limit in (("c", 45), ("python", 60)):
        for numbers in ("small numbers", "large numbers", "numbers at hand"):
            name = f"{workload}, {callback} callback, {numbers}"
            yield counted(name.partition(", ")[2], name, limit)
    yield goal("a disabled location, the dearest of 1 to 1,000,000",
               max(cost["over"] for name, cost in ours.items()
                   if name.startswith("disabled")), 60)
    for codelikes, lines, size in result["memory"]:
        if codelikes * lines == 1000000:
            yield goal(f"bytes of each of 1,000,000 disabled locations in "
                       f"{codelikes:,}", size / 1000000, 64)
        elif lines:
            yield goal("bytes of a code-like with one disabled location",
                       size / codelikes, 200)
    changes = [cost["over"] for name, cost in ours.items()
               if name.startswith("set_events")]
    yield goal("set_events with most to remember, over with nothing",
               max(changes) / changes[0], 1.01)
    loops = result["evaluation_loop"]
    for program, count in loops.get(STOCK, {}).items():
        yield goal(f"evaluation loop in {program}, over stock's",
                   loops[OURS][program] / count, 1.0001)
    yield from judge_threads(result["threads"])


def judge_threads(threads):
    """Yield the goals of two threads, which times decide.

    There are none while other work takes the second core away.
    """
    if threads and threads[EMPTY]["throughput"] < FREE_CORES:
        say("threads", f"not judged: two empty loops reach only "
                       f"{threads[EMPTY]['throughput']:.2f} times one")
        return
    bare = {}
    for name, times in threads.items():
        operation, _, loop = name.rpartition(": ")
        if loop.startswith("bare_"):
            bare[operation] = times["throughput"]
    for name, times in threads.items():
        operation, _, loop = name.rpartition(": ")
        if loop.startswith("fire_"):
            enough = min(1.9, 0.95 * bare.get(operation, 2))
            yield {"goal": f"two threads, {operation}", "limit": enough,
                   "stock": None, "ours": times["throughput"],
                   "met": times["throughput"] >= enough, "counted": False}


def goal(text, value, limit, stock=None):
    """Return a goal whose value must not exceed a limit."""
    return {"goal": text, "limit": limit, "stock": stock, "ours": value,
            "met": value <= limit, "counted": True}


# ------ What is shown ------

def print_table(result):
    """Print what each operation costs over its twin, per event."""
    counted = result["counted"]
    columns = [name for name in (STOCK, BINARY, OURS) if name in counted]
    print(f"\n{'instructions over the twin':<50}",
          *(f"{name:>11}" for name in columns),
          f"{'the twin':>11}  time, ours / stock")
    for name, cost in counted[OURS].items():
        cells = [counted[column].get(name, {}).get("over")
                 for column in columns] + [cost["twin"]]
        print(f"{name:<50}", *(cell(value) for value in cells),
              ratio(result["timed"].get(name)))
    print("\nbytes")
    for codelikes, lines, size in result["memory"]:
        what = f"disabled in {codelikes}" if lines else "local events"
        count = codelikes * (lines or 1)
        print(f"{count:>9,} {what:<40} {size:>11,}, {size / count:.1f} each")
    for name, times in result["threads"].items():
        print(f"{name:<50} {times['1']:8.1f} ns, in two threads "
              f"{times['2']:8.1f} ns, {times['throughput']:.2f} times")


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
    """Print the goals and whether each is met."""
    print(f"\n{'goal':<62}{'limit':>8}{'stock':>9}{'ours':>9}")
    for one in goals:
        stock = "-" if one["stock"] is None else f"{one['stock']:.1f}"
        digits = 1 if one["limit"] > 10 else 4
        print(f"{one['goal']:<62}{one['limit']:>8.{digits}f}{stock:>9}"
              f"{one['ours']:>9.{digits}f}  "
              f"{'met' if one['met'] else 'MISSED'}")
    met = sum(one["met"] for one in goals)
    print(f"{met} of {len(goals)} goals met", flush=True)


def draw(folder, result):
    """Write the charts."""
    counted = result["counted"]
    ours = counted[OURS]
    if STOCK in counted:
        rows = [(name, (counted[STOCK][name]["loop"], ours[name]["loop"],
                        ours[name]["twin"]))
                for name in ours if name.startswith("workload")
                and name in counted[STOCK]]
        names = ("stock", "ours", "without the API, or a bare call")
        for stem, chosen in (("idle", [row for row in rows
                                       if "nobody" in row[0]]),
                             ("workload", [row for row in rows
                                           if "nobody" not in row[0]]),
                             ("events", event_rows(counted))):
            (folder / f"{stem}.svg").write_text(charts.bars(
                f"Instructions: {stem}", names, chosen))
    (folder / "disabled.svg").write_text(charts.lines(
        "Instructions of an event at a disabled location",
        "disabled locations", disabled_lines(ours)))
    (folder / "local.svg").write_text(charts.lines(
        "Instructions of a LINE event over its bare call",
        "code-likes with local events",
        {"C callback": [(count, ours[f"local events on {count}, c callback"]
                         ["over"]) for count in operations.LOCAL]}))
    (folder / "tools.svg").write_text(charts.lines(
        "Instructions of a LINE event over its bare calls", "tools",
        {f"{column}, {callback} callback": tool_line(counted[column],
                                                     callback)
         for column in (STOCK, OURS) if column in counted
         for callback in ("c", "python")}))
    if result["threads"]:
        (folder / "threads.svg").write_text(charts.bars(
            "Throughput of two threads, where one's is 1", ("free-threaded",),
            [(name, (times["throughput"],))
             for name, times in result["threads"].items()]))
    say("drawn", f"{folder}/*.svg, the figures are in {folder}/bench.json")


def event_rows(counted):
    """Return the bars of each event with a C callback."""
    names = [f"{event.name}, c callback" for event in operations.EVENTS]
    return [(name, (counted[STOCK][name]["loop"], counted[OURS][name]["loop"],
                    counted[OURS][name]["twin"])) for name in names]


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
    }


def tool_line(counted, callback):
    """Return what LINE costs by the number of tools."""
    found = []
    for tools in operations.TOOLS:
        many = f" of {tools} tools" if tools > 1 else ""
        found.append((tools,
                      counted[f"LINE, {callback} callback{many}"]["over"]))
    return found
