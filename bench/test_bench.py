"""Tests of what make bench makes of its measurements, and of its charts."""

import contextlib
import importlib.util
import io
import itertools
import json
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock
from xml.etree import ElementTree

from bench import bench, charts, operations
from series.common import SeriesError
from series.workspace import ROOT

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
        parts = list(bench.read_parts(io.StringIO(CALLGRIND)))
        self.assertEqual(parts, [
            {"fire_Line": 7, "PyLong_FromLong": 900},
            {"fire_Line": 5, "eval": 21}])

    def test_start_up_cancels(self):
        cost = bench.costs({LINE: [runs(12, 8)]})
        self.assertEqual(cost, {LINE: {"loop": 12, "twin": 8, "over": 4,
                                       "worst": 4}})

    def test_costs_are_per_event_and_tool(self):
        for name, over in (("workload, no callback", 10),
                           ("workload, c callback of 2 tools", 5)):
            self.assertEqual(bench.costs({name: [runs(120, 20)]})[name]
                             ["over"], over)

    def test_mean_and_worst_of_the_layouts(self):
        name = "disabled, 1 in 1"
        layouts = [runs(60, 8), runs(72, 8), runs(60, 8)]
        self.assertEqual(bench.costs({name: layouts}), {name: {
            "loop": 64, "twin": 8, "over": 56, "worst": 64}})

    def test_a_part_too_few(self):
        with self.assertRaisesRegex(SeriesError, "counts: has 6 parts, not 7"):
            bench.split_parts([LINE], runs(1, 1), Path("counts"))

    def test_runs_stay_with_their_operation(self):
        first, second, third = runs(1, 2), runs(3, 4), runs(5, 6)
        found = bench.split_parts(["a", "b", "b"],
                                  [*first, *second, *third, {}], "counts")
        self.assertEqual(found, {"a": [first], "b": [second, third]})

    def test_what_was_not_looked_up(self):
        elsewhere = "local events elsewhere, on 1, code"
        least = {LINE: 28.0, "LINE, inactive": 1.0}
        for name, over in (("disabled, 1 in 1", 28.0), (elsewhere, 1.0)):
            found = {idle: {"over": cost} for idle, cost in least.items()}
            found[name] = {"over": over + 0.1}
            bench.check_look_ups(found)
            found[name] = {"over": over}
            with self.assertRaisesRegex(
                    SeriesError, f"{name}: .* nothing was looked up"):
                bench.check_look_ups(found)


class OperationTest(unittest.TestCase):
    """What is measured."""

    def test_names_are_unique(self):
        names = [operation.name for operation in operations.all_operations()]
        self.assertEqual(len(names), len(set(names)))

    def test_what_is_asked_for_by_name_exists(self):
        self.assertLessEqual({*bench.THREADED, *bench.PROFILED, bench.IDLE},
                             operations.known().keys())

    def test_every_operation_is_counted_once(self):
        with mock.patch.object(bench.builder, "build_python"), \
                mock.patch.object(bench, "compile_loops"):
            column = bench.our_column(Path("build"))
        counted = [name for share in column.shares for name in share]
        self.assertCountEqual(counted, operations.known())

    def test_every_event_is_measured_in_every_state(self):
        for event in operations.EVENTS:
            found = [operation for operation in operations.all_operations()
                     if operation.name.startswith(f"{event.name}, ")]
            self.assertEqual(len(found), 10, event)

    def test_what_depends_on_addresses_has_many_layouts(self):
        for operation in operations.all_operations():
            looked_up = operation.disabled[0] or operation.others
            if operation.twin == "nothing" and looked_up:
                self.assertGreaterEqual(
                    operation.layouts, 1 if operation.target else 20,
                    operation.name)

    def test_no_scope_reads_past_stocks_array(self):
        self.assertLess(max(operations.scope_types(16)), 15)


class Monitoring:
    """As much of sys.monitoring as worker.py uses to prepare operations."""

    events = mock.Mock(LINE=1)

    def __init__(self):
        self.callbacks = {}
        self.listeners = set()

    def use_tool_id(self, _tool, _name):
        """Let everybody use every tool."""

    def set_events(self, tool, events):
        """Remember who listens."""
        if events:
            self.listeners.add(tool)

    def set_local_events(self, tool, _codelike, events):
        """Remember who listens to some code-like."""
        self.set_events(tool, events)

    def free_tool_id(self, _tool):
        """Let everybody use every tool again."""

    def restart_events(self):
        """Forget nothing: nothing is disabled."""

    def register_callback(self, tool, event, callback):
        """Remember who is called for what."""
        self.callbacks[tool, event] = callback


class WorkerTest(unittest.TestCase):
    """The worker, without an interpreter that could run it."""

    def setUp(self):
        self.monitoring = Monitoring()
        self.loops = mock.Mock()
        for patch in (
                mock.patch.object(sys, "monitoring", self.monitoring,
                                  create=True),
                mock.patch.dict(sys.modules, loops=self.loops),
                mock.patch.object(sys, "argv", ["worker.py", "folder"]),
                mock.patch.object(sys, "path", [str(bench.FOLDER),
                                                *sys.path])):
            patch.start()
            self.addCleanup(patch.stop)
        spec = importlib.util.spec_from_file_location(
            "worker", bench.FOLDER / "worker.py")
        self.worker = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.worker)

    def test_who_listens_has_a_callback_where_look_ups_are_measured(self):
        found = [operation for operation in operations.all_operations()
                 if operation.disabled[0] or operation.local
                 or operation.local_function
                 if operation.loop == "fire_Line"]
        self.assertGreater(len(found), 20)
        for operation in found:
            self.monitoring.__init__()
            self.worker.Prepared(operation, False)
            self.assertEqual(
                self.monitoring.callbacks,
                {(tool, 1): self.loops.ignore
                 for tool in range(operation.tools)}, operation.name)
            self.assertEqual(self.monitoring.listeners,
                             set(range(operation.tools)), operation.name)

    def fired_for(self, name, layout):
        """Return the code-likes that an operation fires for."""
        operation = operations.known()[name]
        prepared = self.worker.Prepared(operation, False, layout)
        return prepared, [codelike for codelike, _ in prepared.locations]

    def test_others_are_not_those_with_local_events(self):
        for name in operations.known():
            if "elsewhere" in name:
                prepared, fired_for = self.fired_for(name, 0)
                self.assertFalse({*map(id, fired_for)}
                                 & {*map(id, prepared.with_local_events)},
                                 name)
                self.assertEqual(len(prepared.with_local_events),
                                 prepared.operation.local or 1)

    def places(self, name):
        """Return for each layout the size of code-likes, and where they are.
        """
        for layout in range(operations.LAYOUTS):
            prepared, _ = self.fired_for(name, layout)
            made, = prepared.layout.made
            yield type(made[0]).__basicsize__, [
                made.index(codelike) for codelike in prepared.codelikes]

    def test_layouts_have_addresses_of_their_own(self):
        name = "disabled, 1000 in 100"
        sizes, places = zip(*self.places(name))
        self.assertEqual(list(zip(sizes, places)), list(self.places(name)))
        self.assertGreater(len({*sizes}), 10)
        gaps = {tuple(b - a for a, b in zip(each, each[1:]))
                for each in places}
        self.assertEqual(len(gaps), operations.LAYOUTS)

    def test_a_single_codelike_is_elsewhere_in_each_layout(self):
        _, places = zip(*self.places("disabled, 1 in 1"))
        self.assertGreater(len({place for place, in places}), 10)

    def test_each_layout_is_counted(self):
        name = "disabled for 6 tools, 100 in 10"
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        done = Path(folder.name) / "done"
        self.loops.version.side_effect = itertools.count()
        self.worker.count(False, done, LINE, name)
        self.assertEqual(json.loads(done.read_text()), [LINE] + 20 * [name])

    def test_local_events_are_set_on_a_new_function_each_time(self):
        operation = operations.known()["set_local_events on a Python "
                                       "function"]
        prepared = self.worker.Prepared(operation, False)
        for n in (2, 2, 4):
            prepared.run("call", n)
        given = [arguments for call in self.loops.run.call_args_list
                 for arguments in call.args[7]]
        self.assertEqual(len({id(code) for _, code, _ in given}), 8)


class WeighTest(unittest.TestCase):
    """Bytes, from what malloc and pymalloc say."""

    def weigh(self, output, status=0):
        """Return what is made of a worker's standard error."""
        column = mock.Mock(python="build/python")
        result = mock.Mock(stderr=output.encode(), returncode=status)
        with mock.patch.object(bench.subprocess, "run", return_value=result):
            return bench.weigh(column, "disabled", 1, 1)

    def test_both_accounts_are_added(self):
        self.assertEqual(self.weigh(
            "malloced = 1000\n"
            "# bytes in allocated blocks        =            2,000\n"
            "malloced = 1500\n"
            "# bytes in allocated blocks        =            2,064\n"), 564)

    def test_stock_has_local_events_on_functions_alone(self):
        with mock.patch.object(bench, "weigh", return_value=7), \
                contextlib.redirect_stdout(io.StringIO()):
            found = [bench.weigh_all(mock.Mock(kind=kind))
                     for kind in ("stock", "ours")]
        self.assertEqual(found, [[["functions", 10000, 1, 7]],
                                 [[*what, 7] for what in bench.MEMORY]])

    def test_a_worker_that_fails(self):
        with self.assertRaisesRegex(SeriesError, "build/python: weighing "
                                                 "failed: no such thing"):
            self.weigh("no such thing\n", 1)


class GoalTest(unittest.TestCase):
    """Which goals are met."""

    def test_a_limit_is_met_up_to_itself(self):
        self.assertTrue(bench.goal("g", 30, 30)["met"])
        self.assertFalse(bench.goal("g", 30.1, 30)["met"])

    def judge_threads(self, throughput, bare, empty=2.0):
        """Return whether a throughput is enough beside the bare one."""
        judged, = bench.judge_threads({"LINE, c callback": {
            "fire_Line": {"throughput": throughput},
            "bare_2": {"throughput": bare},
            "nothing": {"throughput": empty}}})
        return judged["met"]

    def test_two_threads(self):
        self.assertIs(self.judge_threads(1.9, 2.0), True)
        self.assertIs(self.judge_threads(1.8, 1.95), False)
        # What bare calls do not reach is not asked for.
        self.assertIs(self.judge_threads(1.0, 1.05), True)
        self.assertIs(self.judge_threads(0.9, 1.05), False)

    def test_threads_are_not_judged_without_two_cores(self):
        self.assertIsNone(self.judge_threads(1.7, 1.9, empty=1.8))
        self.assertIs(self.judge_threads(1.9, 1.9, empty=1.8), True)

    def test_fresh_states_are_not_judged_beside_bare_calls(self):
        for throughput, met in ((1.9, True), (1.89, False)):
            judged, = bench.judge_threads({bench.FRESH: {
                "stack_workload": {"throughput": throughput},
                "nothing_workload": {"throughput": 1.91},
                "nothing": {"throughput": 1.9}}})
            self.assertIs(judged["met"], met)

    # What is counted per operation, and its limit.
    LIMITS = {
        bench.IDLE: 32, bench.FRESH: 40, "workload, no callback": 25,
        "scope of 16, after a change, a tool listens": 150,
        "set_local_events on a Python function": 2600,
        **{f"workload, {callback} callback, {returns}, {size} numbers":
           limit + more for callback in ("c", "python")
           for size, more in (("small", 0), ("large", 5))
           for returns, limit in (("None", 40), ("object", 44))},
        **{f"workload, {callback} callback of 2 tools": 85
           for callback in ("c", "python")},
        **{f"{event}, {callback} callback{size}": 48
           for event in ("CALL", "C_RETURN", "C_RAISE")
           for callback in ("c", "python") for size in ("", ", large numbers")
           },
    }
    # The same where it is a mean, with the limit of the worst layout.
    LAYOUT_LIMITS = {operation.name: (60, 70)
                     for operation in operations.all_operations()
                     if operation.layouts > 1}

    def judge(self, **changes):
        """Return what is judged of a run in which every goal is just met."""
        ours = {name: {"over": 0, "loop": 1020} for name in operations.known()}
        ours["set_events"]["over"] = 1000
        ours["set_events, local events on 10000"]["over"] = 1010
        for name, limit in self.LIMITS.items():
            ours[name]["over"] = limit
        for name, (mean, worst) in self.LAYOUT_LIMITS.items():
            ours[name].update(over=mean, worst=worst)
        for name, cost in changes.pop("ours", {}).items():
            ours[name].update(cost)
        no_gil = {bench.IDLE: {"over": 38}, bench.FRESH: {"over": 50},
                  **changes.pop("no_gil", {})}
        stock = {name: {"over": 0, "loop": 1000} for name in ours}
        result = {
            "counted": {bench.STOCK: stock, bench.OURS: ours,
                        bench.NO_GIL: no_gil},
            "memory": {bench.STOCK: [("functions", 100, 1, 6800)],
                       bench.OURS: [("disabled", 1000, 1000, 64000000),
                                    ("disabled", 100000, 1, 20000000),
                                    ("local", 10000, 1, 9**9),
                                    ("functions", 100, 1, 7000)]},
            "evaluation_loop": {bench.STOCK: {"nbody": 10**6},
                                bench.OURS: {"nbody": 10**6}},
            "threads": {"LINE, c callback": {
                "fire_Line": {"throughput": 1.9},
                "bare_2": {"throughput": 2},
                "nothing": {"throughput": 1.9}}}}
        result.update(changes)
        return list(bench.judge(result))

    def test_every_goal_is_judged(self):
        judged = self.judge()
        self.assertEqual([one["goal"] for one in judged if not one["met"]],
                         [])
        self.assertEqual(len(judged), 31)

    def test_each_goal_can_be_missed(self):
        over = [{"ours": {name: {"over": limit + 0.1}}}
                for name, limit in self.LIMITS.items()]
        for name, (mean, worst) in self.LAYOUT_LIMITS.items():
            over += [{"ours": {name: {"over": mean + 0.1}}},
                     {"ours": {name: {"worst": worst + 0.1}}}]
        over += [
            {"ours": {"set_events, 1000000 disabled in 100000":
                      {"over": 1011}}},
            {"ours": {"program nbody": {"loop": 1021}}},
            {"no_gil": {bench.IDLE: {"over": 38.1}}},
            {"no_gil": {bench.FRESH: {"over": 50.1}}},
            {"memory": {bench.OURS: [("disabled", 1, 1000000, 64000001)]}},
            {"memory": {bench.OURS: [("disabled", 100000, 1, 20000001)]}},
            {"memory": {bench.OURS: [("functions", 100, 1, 7001)]}},
            {"evaluation_loop": {bench.STOCK: {"nbody": 10**6},
                                 bench.OURS: {"nbody": 10**6 + 1}}},
            {"evaluation_loop": {bench.STOCK: {"nbody": 10**6},
                                 bench.OURS: {"nbody": 10**6 - 1}}},
            {"threads": {"LINE, c callback": {
                "fire_Line": {"throughput": 1.8},
                "bare_2": {"throughput": 2}, "nothing": {"throughput": 2}}}}]
        for change in over:
            missed = [one for one in self.judge(**change) if not one["met"]]
            self.assertEqual(len(missed), 1, change)

    def test_summary(self):
        judged = self.judge(no_gil={bench.IDLE: {"over": 39}})
        rows, last = bench.summary(judged, "9.9.9").rsplit("\n\n", 1)
        self.assertEqual(len(rows.splitlines()), 2 + len(bench.HEADLINES))
        self.assertIn("\n| a tool listens, no callback, per event | 0.0 "
                      "| 25.0 | <= 25.0 | met |\n", rows)
        self.assertEqual(last, f"{len(judged) - 1} of {len(judged)} goals "
                               f"met.\n")

    def test_ours_alone(self):
        ours = {name: {"over": 1, "worst": 1} for name in operations.known()}
        judged = list(bench.judge({
            "counted": {bench.OURS: ours}, "memory": {bench.OURS: []},
            "evaluation_loop": {bench.OURS: {"nbody": 1}}, "threads": {}}))
        self.assertEqual([one["stock"] for one in judged], [None] * 23)

    def finish(self, *goals):
        """Return the last line that is printed of goals, and the error."""
        output = io.StringIO()
        error = None
        with mock.patch.object(bench, "print_table"), \
                contextlib.redirect_stdout(output):
            try:
                bench.finish({"goals": goals})
            except SeriesError as caught:
                error = str(caught)
        return output.getvalue().splitlines()[-1], error

    def test_last_line_and_what_fails(self):
        met, missed = bench.goal("a", 1, 1), bench.goal("b", 2, 1)
        left_out = dict(missed, met=None)
        self.assertEqual(self.finish(met, met), ("2 of 2 goals met", None))
        self.assertEqual(self.finish(met, missed),
                         ("1 of 2 goals met",
                          "1 of 2 goals missed, the first one: b"))
        self.assertEqual(self.finish(met, left_out),
                         ("1 of 2 goals met, 1 not judged: the machine "
                          "was busy", None))


class PagesTest(unittest.TestCase):
    """What goes into the pages."""

    def test_goals_events_and_scopes(self):
        counted = {operation.name: {"over": 7.4}
                   for operation in operations.all_operations()}
        text = bench.markdown({
            "machine": "m", "compiler": "c",
            "counted": {bench.STOCK: counted, bench.OURS: counted},
            "goals": [bench.goal("g", 30, 31.5, 45),
                      bench.goal("t", 1.5, 1.9, least=True)]}, "9.9.9")
        self.assertIn("| | stock 9.9.9 | with the series | goal | |\n", text)
        self.assertIn("| g | 45.0 | 30.0 | <= 31.5 | met |\n", text)
        self.assertIn("| t | - | 1.500 | >= 1.900 | MISSED |\n", text)
        self.assertIn(f"| LINE |{' 7 / 7 |' * 5}\n", text)
        self.assertIn(f"CALL, C_RETURN, each |{' 7 / 7 |' * 5}\n", text)
        self.assertIn(f"| unchanged, a tool listens |{' 7 / 7 |' * 3}\n",
                      text)

    def test_there_is_a_place_for_them(self):
        for table in (bench.TABLE, bench.SUMMARY):
            table.split(ROOT / table.page)


class ChartTest(unittest.TestCase):
    """The charts."""

    def test_bars_are_to_scale(self):
        svg = charts.bars("<T>", ("a", "b"), [("one", (50, 100)),
                                              ("two", (None, 25))])
        widths = [float(rect.get("width"))
                  for rect in ElementTree.fromstring(svg).iter(
                      "{http://www.w3.org/2000/svg}rect")
                  if rect.get("x") == str(charts.LEFT)]
        self.assertEqual(len(widths), 3)
        self.assertAlmostEqual(widths[0] / widths[1], 0.5, 2)
        self.assertAlmostEqual(widths[2] / widths[1], 0.25, 2)

    def test_lines_have_a_logarithmic_axis(self):
        svg = charts.lines("T", "x", {"a": [(1, 5), (10, 5), (100, 10)]})
        circles = list(ElementTree.fromstring(svg).iter(
            "{http://www.w3.org/2000/svg}circle"))
        x = [float(circle.get("cx")) for circle in circles]
        y = [float(circle.get("cy")) for circle in circles]
        self.assertAlmostEqual(x[1] - x[0], x[2] - x[1], 0)
        self.assertEqual(y[0], y[1])
        self.assertLess(y[2], y[1])


if __name__ == "__main__":
    unittest.main()
