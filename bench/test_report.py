"""Tests of what goes into the pages."""

import unittest

from bench import operations, report
from bench.columns import OURS, STOCK
from bench.goals import goal


class PagesTest(unittest.TestCase):
    """What goes into the pages."""

    def test_goals_events_and_scopes(self):
        counted = {operation.name: {"over": 7.4}
                   for operation in operations.all_operations()}
        text = report.markdown({
            "machine": "m", "compiler": "c",
            "counted": {STOCK: counted, OURS: counted},
            "goals": [goal("g", 30, 31.5, 45), goal("f", 49, 40, frames=10),
                      goal("t", 1.5, 1.9, least=True)]}, "9.9.9")
        self.assertIn("| | stock 9.9.9 | with the series | goal | |\n", text)
        self.assertIn("| g | 45.0 | 30.0 | <= 31.5 | met |\n", text)
        self.assertIn("| f | - | 49.0 | <= 40.0 + 10 | met |\n", text)
        self.assertIn("| `get_location(code, 100000)` | 7 |\n", text)
        self.assertIn("| t | - | 1.500 | >= 1.900 | MISSED |\n", text)
        self.assertIn(f"| LINE |{' 7 / 7 |' * 5}\n", text)
        self.assertIn(f"CALL, C_RETURN, each |{' 7 / 7 |' * 5}\n", text)
        self.assertIn(f"| unchanged, a tool listens |{' 7 / 7 |' * 3}\n",
                      text)

    def test_summary(self):
        judged = [goal(text, 1, 2) for text in report.HEADLINES]
        rows, last = report.summary([*judged, goal("other", 2, 1)],
                                    "9.9.9").rsplit("\n\n", 1)
        self.assertEqual(rows.splitlines(), [
            "| | stock 9.9.9 | with the series | goal | |",
            "|---|---:|---:|---:|---|",
            *(f"| {text} | - | 1.000 | <= 2.000 | met |"
              for text in report.HEADLINES)])
        self.assertEqual(last, f"{len(judged)} of {len(judged) + 1} goals "
                               f"met.\n")
