"""Counting, timing and weighing what the API costs, beside stock.

Instructions are callgrind's, as the difference of two run lengths, so that
what comes before the loop cancels; operations.py says what is run.
"""

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
README = Table("bench")
STOCK, BINARY, OURS = "stock", "same binary", "ours"
# Assertions would be timed in build/freethreaded, a debug build.
FREETHREADED = "freethreaded-release"
RUNS_PER_LOOP = 3       # of worker.py's count, the first one not used
PAIRS = 11
PAIR_NANOSECONDS = 2_000_000
PROGRAM_PROCESSES = 9
PROGRAM_RUNS = 30
# Where data lies had code that is the same to the byte, at the same addresses,
# up to 4% apart.  Where two stock interpreters are further apart than this,
# times say nothing.
NOISE = 1.05
THREAD_NANOSECONDS = 5_000_000
THREAD_ROUNDS = 40, 160         # at least and at most
FREE_CORES = 1.9        # what two threads reach that share nothing
THREADED = ("LINE, c callback", "LINE, python callback",
            "disabled, 1 in 1", "disabled, 1000000 in 100000")
MEMORY = ((100000, 10), (1000, 1000), (1, 1000000), (100000, 1), (10000, 0))
PROFILED = (
    "scope of 16, unchanged, nobody listens",
    "scope of 16, after a change, a tool listens", "LINE, no callback",
    "LINE, c callback", "LINE, c callback, large numbers",
    "disabled, 1000000 in 100000", "local events on 10000, c callback",
    "another code-like, local events on 10000")
DISABLED_LIMIT = 60
EMPTY = "nothing"       # the loop of loops.c
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


def measure(series, base, build):
    """Measure beside stock, print, write and draw; fail if a goal is missed.
    """
    builder.build_stock(base, build)
    compile_loops(build, "stock", "stock-src")
    ours = our_column(build)
    columns = {
        STOCK: Column(STOCK, build, "stock", "stock", "stock"),
        BINARY: Column(BINARY, build, "release", "stock", "ours"),
        OURS: ours,
    }
    threaded = threaded_column(build)
    result = count_and_weigh(build, columns)
    result["timed"] = time_all(columns)
    result["threads"] = time_threads(threaded)
    result["goals"] = list(judge(result))
    folder = build / "bench"
    (folder / "bench.json").write_text(json.dumps(result, indent=1) + "\n")
    README.keep(build, markdown(result, series.base["version"]))
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
    return Column(OURS, build, "release", "release", "ours")


def threaded_column(build):
    """Build the free-threaded interpreter and the extension for it."""
    builder.build_python(build, FREETHREADED, "--disable-gil")
    compile_loops(build, FREETHREADED, "src")
    return Column(FREETHREADED, build, FREETHREADED, FREETHREADED, "ours")


def compile_loops(build, interpreter, source):
    """Compile loops.c against the headers of one interpreter."""
    folder = build / "bench" / interpreter
    folder.mkdir(parents=True, exist_ok=True)
    output_of(["gcc", "-std=c11", "-shared", "-fPIC", "-O3", "-DNDEBUG",
               "-fwrapv", f"-I{build / source / 'Include'}",
               f"-I{build / interpreter}", "-o", folder / "loops.so",
               FOLDER / "loops.c"])


# ------ Instructions ------

def count_and_weigh(build, columns):
    """Return what does not depend on what else the machine does."""
    with ThreadPoolExecutor() as pool:
        counting = {name: pool.submit(count_column, column,
                                      build / "bench" / name.replace(" ", "-"))
                    for name, column in columns.items()}
        weighing = pool.submit(weigh_all, columns[OURS])
    parts = {name: future.result() for name, future in counting.items()}
    result = {
        "machine": platform.machine(),
        "compiler": output_of(["gcc", "--version"]).decode().splitlines()[0],
        "counted": {name: costs(part) for name, part in parts.items()},
        "evaluation_loop": evaluation_loops(parts),
        "profile": profiles(parts[OURS]),
        "memory": weighing.result(),
        "timed": {},
        "threads": {},
    }
    check_look_ups(result["counted"][OURS])
    return result


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
    programs = operations.program_operations()
    found = {}
    with Server(columns[STOCK]) as stock, Server(columns[OURS]) as ours:
        for operation in operations.all_operations():
            if operation.stock and operation not in programs:
                found[operation.name] = time_pairs(stock, ours, operation)
    say("timed", f"{len(found)} operations, {PAIRS} pairs of each")
    found.update(time_programs(columns))
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


def time_programs(columns):
    """Return the times of the programs, and what is noise for their ratio.

    That is how far a second stock interpreter is from the first.  All are new
    processes each time: where their memory lies is chance too.
    """
    programs = operations.program_operations()
    best = {operation.name: [] for operation in programs}
    for _ in range(PROGRAM_PROCESSES):
        with Server(columns[STOCK]) as first, \
                Server(columns[STOCK]) as second, \
                Server(columns[OURS]) as ours:
            for operation in programs:
                best[operation.name].append(
                    time_program((first, second, ours), operation))
    found = {}
    for name, times in best.items():
        noise = [max(one / two, two / one) for one, two, _ in times]
        found[name] = {"stock_ns": min(min(each[:2]) for each in times),
                       "ours_ns": min(each[2] for each in times),
                       **quartiles([mine / one for one, _, mine in times]),
                       "noise": quartiles(noise)["high"]}
    say("timed", f"{len(found)} programs, in {PROGRAM_PROCESSES} processes "
                 f"each")
    return found


def time_program(servers, operation):
    """Return the least nanoseconds that a program takes on each server."""
    for server in servers:
        server.ask("prepare", operation.name)
    # Runs are short, so that some are not interrupted by other work.
    rounds = [[server.ask("run", "call", 1) for server in servers]
              for _ in range(PROGRAM_RUNS)]
    for server in servers:
        server.ask("end")
    return [min(times) for times in zip(*rounds)]


def rounds_for(server, loop, n, nanoseconds):
    """Return how many rounds take about so long, warming up meanwhile."""
    server.ask("run", loop, n)
    return max(1, int(n * nanoseconds / max(1, server.ask("run", loop, n))))


def time_threads(column):
    """Return what two threads get done in the time of one's work.

    Beside each operation are timed its bare calls, if it has any, and an empty
    loop, which tells what the machine can give meanwhile.
    """
    known = {operation.name: operation
             for operation in operations.all_operations()}
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
    yield from judge_counted(counted[OURS], counted.get(STOCK, {}))
    yield from judge_memory(result["memory"])
    loops = result["evaluation_loop"]
    for program, count in loops.get(STOCK, {}).items():
        yield goal(f"instructions of the evaluation loop in {program}, more "
                   f"or less than stock's", abs(loops[OURS][program] - count),
                   0)
    for name, times in result["timed"].items():
        if "noise" in times:
            judged = goal(f"time of {name}, over stock's; the limit is noise",
                          times["ratio"], NOISE)
            if not judged["met"] and times["noise"] > NOISE:
                judged["met"] = None
            yield judged
    yield from judge_threads(result["threads"])


def judge_counted(ours, stock):
    """Yield the goals for instructions."""
    def counted(text, name, limit):
        return goal(text, ours[name]["over"], limit,
                    stock.get(name, {}).get("over"))

    idle = "workload, nobody listens"
    yield counted("nobody listens: enter, 10 events, exit", idle, 30)
    stack = "workload on the stack, nobody listens"
    for when in (", no tool yet", ""):
        yield counted(f"the same, 7 states on the C stack, version 0{when}",
                      stack + when, 50)
    yield counted("a tool listens, no callback, per event",
                  "workload, no callback", 30)
    for callback, title, limit in (("c", "C", 45), ("python", "Python", 60)):
        for size, numbers in (("small", "numbers up to 256"),
                              ("large", "numbers around 1,000")):
            yield counted(f"{title} callback, {numbers}, over a bare "
                          f"vectorcall of it",
                          f"workload, {callback} callback, {size} numbers",
                          limit)
    yield goal("a disabled location, the dearest of 1 to 1,000,000",
               max(cost["over"] for name, cost in ours.items()
                   if name.startswith("disabled")), DISABLED_LIMIT)
    changes = [cost["over"] for name, cost in ours.items()
               if name.startswith("set_events")]
    yield goal("set_events, most to remember over nothing to remember",
               max(changes) / changes[0], 1.01)


def judge_memory(memory):
    """Yield the goals for bytes."""
    for codelikes, lines, size in memory:
        if codelikes * lines == 1000000:
            yield goal(f"bytes of each of 1,000,000 disabled locations in "
                       f"{codelikes:,}", size / 1000000, 64)
        elif lines:
            yield goal("bytes of a code-like with one disabled location",
                       size / codelikes, 200)


def judge_threads(threads):
    """Yield the goals of two threads, if they ran.

    None is missed while other work takes the second core away.
    """
    for name, loops in threads.items():
        bare = throughput_of(loops, "bare") or 2
        judged = goal(f"{name}: two threads' throughput over one's",
                      throughput_of(loops, "fire"),
                      min(FREE_CORES, 0.95 * bare), least=True)
        if not judged["met"] and throughput_of(loops, EMPTY) < FREE_CORES:
            judged["met"] = None
        yield judged


def throughput_of(loops, kind):
    """Return the throughput of the loop of a kind, None if there is none."""
    return next((times["throughput"] for loop, times in loops.items()
                 if loop.startswith(kind)), None)


def goal(text, value, limit, stock=None, least=False):
    """Return a goal whose value must be a limit at most, or at least."""
    return {"goal": text, "limit": limit, "stock": stock, "ours": value,
            "least": least,
            "met": value >= limit if least else value <= limit}


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
    left_out = sum(one["met"] is None for one in goals)
    print(f"{sum(one['met'] is True for one in goals)} of {len(goals)} goals "
          f"met" + (f", {left_out} not judged: the machine was busy"
                    if left_out else ""), flush=True)


def goal_cells(one):
    """Return limit, stock, ours and verdict of a goal as text."""
    digits = 1 if one["limit"] >= 10 else 3 if one["limit"] else 0
    stock = "-" if one["stock"] is None else f"{one['stock']:.{digits}f}"
    verdict = {True: "met", False: "MISSED", None: "not judged"}[one["met"]]
    return (f"{'>=' if one['least'] else '<='} {one['limit']:.{digits}f}",
            stock, f"{one['ours']:.{digits}f}", verdict)


def markdown(result, version):
    """Return the goals, and what each event costs, as the README shows them.
    """
    lines = [f"Counted by callgrind on {result['machine']}, without PGO, by "
             f"`{result['compiler']}`.", "",
             f"| | stock {version} | with the series | goal | |",
             "|---|---:|---:|---:|---|"]
    for one in result["goals"]:
        limit, stock, ours, verdict = goal_cells(one)
        lines.append(f"| {one['goal']} | {stock} | {ours} | {limit} "
                     f"| {verdict} |")
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

    for event in operations.EVENTS:
        cells = [both(f"{event.name}, {kind}") for kind in kinds]
        lines.append(f"| {event.name} | {' | '.join(cells)} |")
    lines += ["", "| enter and exit | 1 event type | 8 | 16 |",
              "|---|---:|---:|---:|"]
    for kind in ("unchanged, nobody listens", "unchanged, a tool listens",
                 "after a change, nobody listens",
                 "after a change, a tool listens"):
        cells = [both(f"scope of {length}, {kind}")
                 for length in operations.LENGTHS]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", "</details>", ""])


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
        [(name, [throughput_of(loops, loop)
                 for loop in ("fire", "bare", EMPTY)])
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
