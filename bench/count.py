"""Counting instructions and weighing bytes.

Instructions are callgrind's, as the difference of two run lengths, so that
what comes before the loop cancels; operations.py says what is run.
"""

from collections import ChainMap
from concurrent.futures import ThreadPoolExecutor
import json
from pathlib import Path
import platform
import re
import statistics
import subprocess

from bench import operations
from bench.columns import OURS, STOCK
from bench.operations import FRESH
from series.common import SeriesError, clean_environment, output_of, say

RUNS_PER_LOOP = 3       # of worker.py's count, the first one not used
# worker.py's arguments: what remembers something, and for how many lines.
MEMORY = (("disabled", 100000, 10), ("disabled", 1000, 1000),
          ("disabled", 1, 1000000), ("disabled", 100000, 1),
          ("local", 10000, 1), ("functions", 10000, 1),
          ("locations", 1, 1000000))
PROFILED = (
    FRESH, "scope of 16, unchanged, nobody listens",
    "scope of 16, after a change, a tool listens", "LINE, no callback",
    "LINE, c callback", "LINE, c callback, large numbers",
    "CALL, c callback", "C_RETURN, c callback", "Vectorcall, c callback",
    "workload, c callback, object, small numbers",
    "workload, c callback of 2 tools", "disabled, 1000000 in 100000",
    "local events on 10000, c callback",
    "local events elsewhere, on 10000, objects",
    "set_local_events on a Python function", "traceback entry",
    *(f"{name}, trace function" for name in operations.TRACED))
EVAL_LOOP = "_PyEval_EvalFrameDefault"


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
