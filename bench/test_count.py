"""Tests of what is made of callgrind's output, and of malloc's."""

import contextlib
import io
from pathlib import Path
import unittest
from unittest import mock

from bench import count
from series.common import SeriesError

CALLGRIND = """\
# callgrind format
version: 1
part: 1
events: Ir
fl=loops.c
fn=fire_Line
10 3
11 4
cfn=PyLong_FromLong
calls=1 5
11 900
fn=PyLong_FromLong
5 900
totals: 907
part: 2
events: Ir
fn=fire_Line
10 5
fn=eval'2
7 20
fn=eval
8 1
totals: 26
"""
LINE = "LINE, no callback"


def runs(loop, twin, rounds=1024):
    """Return counted runs of a loop and a twin with a start-up of 50."""
    lengths = (rounds, rounds, 2 * rounds)
    return [{"loop": 50 + cost * n} for cost in (loop, twin)
            for n in lengths]


class CountTest(unittest.TestCase):
    """From callgrind's output to the cost of an operation."""

    def test_parts_hold_what_functions_cost_themselves(self):
        parts = list(count.read_parts(io.StringIO(CALLGRIND)))
        self.assertEqual(parts, [
            {"fire_Line": 7, "PyLong_FromLong": 900},
            {"fire_Line": 5, "eval": 21}])

    def test_start_up_cancels(self):
        cost = count.costs({LINE: [runs(12, 8)]})
        self.assertEqual(cost, {LINE: {"loop": 12, "twin": 8, "over": 4,
                                       "worst": 4}})

    def test_costs_are_per_event_and_tool(self):
        for name, over in (("workload, no callback", 10),
                           ("workload, c callback of 2 tools", 5)):
            self.assertEqual(count.costs({name: [runs(120, 20)]})[name]
                             ["over"], over)

    def test_mean_and_worst_of_the_layouts(self):
        name = "disabled, 1 in 1"
        layouts = [runs(60, 8), runs(72, 8), runs(60, 8)]
        self.assertEqual(count.costs({name: layouts}), {name: {
            "loop": 64, "twin": 8, "over": 56, "worst": 64}})

    def test_a_part_too_few(self):
        with self.assertRaisesRegex(SeriesError, "counts: has 6 parts, not 7"):
            count.split_parts([LINE], runs(1, 1), Path("counts"))

    def test_runs_stay_with_their_operation(self):
        first, second, third = runs(1, 2), runs(3, 4), runs(5, 6)
        found = count.split_parts(["a", "b", "b"],
                                  [*first, *second, *third, {}], "counts")
        self.assertEqual(found, {"a": [first], "b": [second, third]})

    def test_what_was_not_looked_up(self):
        elsewhere = "local events elsewhere, on 1, code"
        least = {LINE: 28.0, "LINE, inactive": 1.0}
        for name, over in (("disabled, 1 in 1", 28.0), (elsewhere, 1.0)):
            found = {idle: {"over": cost} for idle, cost in least.items()}
            found[name] = {"over": over + 0.1}
            count.check_look_ups(found)
            found[name] = {"over": over}
            with self.assertRaisesRegex(
                    SeriesError, f"{name}: .* nothing was looked up"):
                count.check_look_ups(found)


class WeighTest(unittest.TestCase):
    """Bytes, from what malloc and pymalloc say."""

    def weigh(self, output, status=0):
        """Return what is made of a worker's standard error."""
        column = mock.Mock(python="build/python")
        result = mock.Mock(stderr=output.encode(), returncode=status)
        with mock.patch.object(count.subprocess, "run", return_value=result):
            return count.weigh(column, "disabled", 1, 1)

    def test_both_accounts_are_added(self):
        self.assertEqual(self.weigh(
            "malloced = 1000\n"
            "# bytes in allocated blocks        =            2,000\n"
            "malloced = 1500\n"
            "# bytes in allocated blocks        =            2,064\n"), 564)

    def test_stock_has_local_events_on_functions_alone(self):
        with mock.patch.object(count, "weigh", return_value=7), \
                contextlib.redirect_stdout(io.StringIO()):
            found = [count.weigh_all(mock.Mock(kind=kind))
                     for kind in ("stock", "ours")]
        self.assertEqual(found, [[["functions", 10000, 1, 7]],
                                 [[*what, 7] for what in count.MEMORY]])

    def test_a_worker_that_fails(self):
        with self.assertRaisesRegex(SeriesError, "build/python: weighing "
                                                 "failed: no such thing"):
            self.weigh("no such thing\n", 1)
