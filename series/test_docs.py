"""Tests of which warnings of Sphinx count."""

from pathlib import Path
import unittest

from series import docs


class DocsTest(unittest.TestCase):
    def test_added_lines(self):
        self.assertEqual(docs.added_lines(b"a\nb\nc\n", b"a\nx\ny\nc\nz\n"),
                         {2, 3, 5})

    def test_only_our_lines_count(self):
        text = ("/r/Doc/ours.rst:3: WARNING: ours\n"
                "/r/Doc/ours.rst: WARNING: no line\n"
                "/r/Doc/edited.rst:7: WARNING: added\n"
                "/r/Doc/edited.rst:8: WARNING: stock's\n"
                "/r/Doc/edited.rst: WARNING: stock's\n"
                "/r/Doc/other.rst:3: WARNING: other\n"
                "a line that goes on\n")
        found = docs.own_warnings(text, Path("/r"),
                                  {"Doc/ours.rst": None,
                                   "Doc/edited.rst": {6, 7}})
        self.assertEqual([line.split("WARNING: ")[1] for line in found],
                         ["ours", "no line", "added"])
