"""Timing operations on stock and ours in turn, and on two threads."""

import json
import statistics
import subprocess

from bench import operations
from bench.columns import FOLDER
from bench.operations import FRESH
from series.common import SeriesError, clean_environment, say

PAIRS = 11
PAIR_NANOSECONDS = 2_000_000
THREAD_NANOSECONDS = 5_000_000
THREAD_ROUNDS = 40, 160         # at least and at most
FREE_CORES = 1.9        # what two threads reach that share nothing
THREADED = (FRESH, "LINE, c callback", "LINE, python callback",
            "disabled, 1 in 1", "disabled, 1000000 in 100000")
EMPTY = "nothing"       # the loop of loops.c


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


def throughputs(name, loops):
    """Return the throughput of an operation, its bare calls, an empty loop.

    That of bare calls is None where there are none.
    """
    found = {loop: times["throughput"] for loop, times in loops.items()}
    bare = [loop for loop in found if loop.startswith("bare")]
    return (found[operations.known()[name].loop],
            found[bare[0]] if bare else None, found[EMPTY])
