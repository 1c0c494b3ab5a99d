"""Counting, timing and weighing what the API costs, beside stock."""

import json

from bench import columns, count, goals, report, times
from bench.columns import NO_GIL, OURS, STOCK
from series.common import SeriesError
from series.readme import Table

TABLE = Table("bench", "bench/README.md")
SUMMARY = Table("bench", "README.md", "summary")


def measure(series, base, build):
    """Measure beside stock, print, write and draw; fail if a goal is missed.
    """
    measured = columns.stock_columns(base, build)
    measured[OURS] = columns.our_column(build)
    measured[NO_GIL] = columns.column_without_gil(build)
    result = count.count_and_weigh(build, measured)
    result["timed"] = times.time_all(measured[STOCK], measured[OURS])
    result["threads"] = times.time_threads(measured[NO_GIL])
    result["goals"] = list(goals.judge(result))
    folder = build / "bench"
    (folder / "bench.json").write_text(json.dumps(result, indent=1) + "\n")
    TABLE.keep(build, report.markdown(result, series.version))
    SUMMARY.keep(build, report.summary(result["goals"], series.version))
    report.draw(folder, result)
    finish(result)


def measure_quick(build):
    """Judge the goals that counting on the patched interpreter decides."""
    result = count.count_and_weigh(build, {OURS: columns.our_column(build)})
    result["goals"] = list(goals.judge(result))
    finish(result)


def finish(result):
    """Print what was measured; fail if a goal is missed."""
    judged = result["goals"]
    report.print_table(result)
    report.print_goals(judged)
    missed = [goal["goal"] for goal in judged if goal["met"] is False]
    if missed:
        raise SeriesError(f"{len(missed)} of {len(judged)} goals missed, the "
                          f"first one: {missed[0]}")
