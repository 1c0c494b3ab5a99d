"""Tests of the charts."""

import unittest
from xml.etree import ElementTree

from bench import charts


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
