"""What is shown of the measurements: what is printed, pages and charts."""

from bench import charts, operations
from bench.columns import BINARY, NO_GIL, OURS, STOCK
from bench.goals import DISABLED_LIMIT
from bench.times import throughputs
from series.common import say

# The goals of the summary.
HEADLINES = (
    "nobody listens: enter, 10 events, exit",
    "a tool listens, no callback, per event",
    "C callback, returns None, numbers up to 256, over a bare vectorcall",
    "CALL with a callback, the dearest one, over a bare vectorcall",
    "a traceback entry, its release included",
    f"a disabled location, the dearest of 1 to 1,000,000, mean of "
    f"{operations.LAYOUTS} layouts",
    "bytes of each of 1,000,000 disabled locations in 1,000",
)


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
    print(f"\n{'goal':<76}{'limit':>12}{'stock':>9}{'ours':>9}")
    for one in goals:
        limit, stock, ours, verdict = goal_cells(one)
        print(f"{one['goal']:<76}{limit:>12}{stock:>9}{ours:>9}  {verdict}")
    print(met(goals), flush=True)


def met(goals):
    """Say how many goals are met."""
    left_out = sum(one["met"] is None for one in goals)
    return (f"{sum(one['met'] is True for one in goals)} of {len(goals)} "
            f"goals met" + (f", {left_out} not judged: the machine was busy"
                            if left_out else ""))


def goal_cells(one):
    """Return limit, stock, ours and verdict of a goal as text.

    What frames may add to a limit is shown by itself.
    """
    digits = 1 if one["limit"] >= 10 else 3 if one["limit"] else 0
    stock = "-" if one["stock"] is None else f"{one['stock']:.{digits}f}"
    verdict = {True: "met", False: "MISSED", None: "not judged"}[one["met"]]
    limit = f"{one['limit'] - one['frames']:.{digits}f}"
    if one["frames"]:
        limit += f" + {one['frames']:.0f}"
    return (f"{'>=' if one['least'] else '<='} {limit}", stock,
            f"{one['ours']:.{digits}f}", verdict)


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
    lines += ["", "| a tool's question | |", "|---|---:|"]
    for offset in operations.OFFSETS:
        cost = counted[OURS][f"get_location at the offset {offset}"]["over"]
        lines.append(f"| `get_location(code, {offset})` | {cost:.0f} |")
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
