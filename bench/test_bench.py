"""Tests of what make bench prints last, and of when it fails."""

import contextlib
import io
import unittest
from unittest import mock

from bench import bench
from bench.goals import goal
from series.common import SeriesError
from series.workspace import ROOT


class FinishTest(unittest.TestCase):
    def finish(self, *goals):
        """Return the last line that is printed of goals, and the error."""
        output = io.StringIO()
        error = None
        with mock.patch.object(bench.report, "print_table"), \
                contextlib.redirect_stdout(output):
            try:
                bench.finish({"goals": goals})
            except SeriesError as caught:
                error = str(caught)
        return output.getvalue().splitlines()[-1], error

    def test_last_line_and_what_fails(self):
        met, missed = goal("a", 1, 1), goal("b", 2, 1)
        left_out = dict(missed, met=None)
        self.assertEqual(self.finish(met, met), ("2 of 2 goals met", None))
        self.assertEqual(self.finish(met, missed),
                         ("1 of 2 goals met",
                          "1 of 2 goals missed, the first one: b"))
        self.assertEqual(self.finish(met, left_out),
                         ("1 of 2 goals met, 1 not judged: the machine "
                          "was busy", None))

    def test_there_is_a_place_for_the_tables(self):
        for table in (bench.TABLE, bench.SUMMARY):
            table.split(ROOT / table.page)
