"""Tests of which goals are met."""

import unittest

from bench import goals, operations, report
from bench.columns import NO_GIL, OURS, STOCK


class GoalsTest(unittest.TestCase):
    """Which goals are met."""

    def test_a_limit_is_met_up_to_itself(self):
        self.assertTrue(goals.goal("g", 30, 30)["met"])
        self.assertFalse(goals.goal("g", 30.1, 30)["met"])

    def test_what_frames_may_add(self):
        for value, met in ((50, True), (50.1, False)):
            judged = goals.goal("g", value, 40, frames=goals.FRAMES)
            self.assertIs(judged["met"], met)

    def judge_threads(self, throughput, bare, empty=2.0):
        """Return whether a throughput is enough beside the bare one."""
        judged, = goals.judge_threads({"LINE, c callback": {
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
            judged, = goals.judge_threads({operations.FRESH: {
                "stack_workload": {"throughput": throughput},
                "nothing_workload": {"throughput": 1.91},
                "nothing": {"throughput": 1.9}}})
            self.assertIs(judged["met"], met)

    # What is counted per operation, and its limit; where a callback is called,
    # with what frames may add.
    LIMITS = {
        operations.IDLE: 32, operations.FRESH: 40, "workload, no callback": 25,
        "scope of 16, after a change, a tool listens": 150,
        "set_local_events on a Python function": 2600,
        "traceback entry": 900, "run_foreign, trace function": 1100,
        **{f"workload, {callback} callback, {returns}, {size} numbers":
           limit + more + 10 for callback in ("c", "python")
           for size, more in (("small", 0), ("large", 5))
           for returns, limit in (("None", 40), ("object", 44))},
        **{f"workload, {callback} callback of 2 tools": 90
           for callback in ("c", "python")},
        **{f"{event}, {callback} callback{size}": 58
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
        ours["run_python, trace function"]["over"] = 1000
        ours["set_events, local events on 10000"]["over"] = 1010
        for name, limit in self.LIMITS.items():
            ours[name]["over"] = limit
        for name, (mean, worst) in self.LAYOUT_LIMITS.items():
            ours[name].update(over=mean, worst=worst)
        for name, cost in changes.pop("ours", {}).items():
            ours[name].update(cost)
        no_gil = {operations.IDLE: {"over": 38},
                  operations.FRESH: {"over": 50},
                  **changes.pop("no_gil", {})}
        stock = {name: {"over": 0, "loop": 1000} for name in ours}
        result = {
            "counted": {STOCK: stock, OURS: ours, NO_GIL: no_gil},
            "memory": {STOCK: [("functions", 100, 1, 6800)],
                       OURS: [("disabled", 1000, 1000, 64000000),
                                    ("disabled", 100000, 1, 20000000),
                                    ("local", 10000, 1, 9**9),
                                    ("locations", 1, 100, 500),
                                    ("functions", 100, 1, 7000)]},
            "evaluation_loop": {STOCK: {"nbody": 10**6},
                                OURS: {"nbody": 10**6}},
            "threads": {"LINE, c callback": {
                "fire_Line": {"throughput": 1.9},
                "bare_2": {"throughput": 2},
                "nothing": {"throughput": 1.9}}}}
        result.update(changes)
        return list(goals.judge(result))

    def test_every_goal_is_judged(self):
        judged = self.judge()
        self.assertEqual([one["goal"] for one in judged if not one["met"]],
                         [])
        self.assertEqual(len(judged), 38)
        self.assertLessEqual({*report.HEADLINES},
                             {one["goal"] for one in judged})

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
            *({"ours": {f"{look} {where}": {"loop": 1021}}}
              for look in operations.LOOKS
              for where in ("in Python code", "in a callback")),
            {"no_gil": {operations.IDLE: {"over": 38.1}}},
            {"no_gil": {operations.FRESH: {"over": 50.1}}},
            {"memory": {OURS: [("disabled", 1, 1000000, 64000001)]}},
            {"memory": {OURS: [("disabled", 100000, 1, 20000001)]}},
            {"memory": {OURS: [("functions", 100, 1, 7001)]}},
            {"memory": {OURS: [("locations", 1, 100, 501)]}},
            {"evaluation_loop": {STOCK: {"nbody": 10**6},
                                 OURS: {"nbody": 10**6 + 1}}},
            {"evaluation_loop": {STOCK: {"nbody": 10**6},
                                 OURS: {"nbody": 10**6 - 1}}},
            {"threads": {"LINE, c callback": {
                "fire_Line": {"throughput": 1.8},
                "bare_2": {"throughput": 2}, "nothing": {"throughput": 2}}}}]
        for change in over:
            missed = [one for one in self.judge(**change) if not one["met"]]
            self.assertEqual(len(missed), 1, change)

    def test_ours_alone(self):
        ours = {name: {"over": 1, "worst": 1} for name in operations.known()}
        judged = list(goals.judge({
            "counted": {OURS: ours}, "memory": {OURS: []},
            "evaluation_loop": {OURS: {"nbody": 1}}, "threads": {}}))
        self.assertEqual([one["stock"] for one in judged], [None] * 23)
