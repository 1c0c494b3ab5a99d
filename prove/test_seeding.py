"""Tests of how the seeded faults find their places."""

import os
from pathlib import Path
import tempfile
import unittest
from unittest import mock

from prove import faults, seeding
from series.common import SeriesError
from series.workspace import build_folder

SOURCE = """\
static int
other(int a)
{
    return a + 1;
}

static int
wanted(int a,
       int b)
{
    if (a  ==
        b) {
        return a + 1;
    }
    return 0;
}
"""


class TestPlaces(unittest.TestCase):

    def find(self, *found):
        with mock.patch.object(seeding, "FAULTS", [
                faults.Fault(*fault, "") for fault in found]):
            return [SOURCE[start:end] for _, start, end
                    in seeding.find_places({"file.c": SOURCE})]

    def test_faults_have_places(self):
        """make faults needs too long for CI."""
        source = build_folder() / "src"
        places = seeding.find_places(
            {name: (source / name).read_text() for name in faults.FILES})
        self.assertEqual(len(places), len(faults.FAULTS))

    def test_white_space(self):
        self.assertEqual(self.find(("x", "wanted", "if(a == b)")),
                         ["if (a  ==\n        b)"])
        with self.assertRaises(SeriesError):
            self.find(("x", "wanted", "returna"))

    def test_function(self):
        self.assertEqual(self.find(("x", "wanted", "return a + 1;"),
                                   ("y", "other", "return a + 1;")),
                         ["return a + 1;"] * 2)

    def test_all_that_are_gone_are_named(self):
        with self.assertRaisesRegex(
                SeriesError, r"3 of 4 .*\n  'a': .* no function gone\(\)"
                             r"\n  'b': wanted\(\) has nowhere 'c'"
                             r"\n  'd': wanted\(\) has twice 'return'"):
            self.find(("a", "gone", "c"), ("b", "wanted", "c"),
                      ("d", "wanted", "return"), ("e", "other", "return"))


class TestSources(unittest.TestCase):

    def changed_by(self, name):
        """Return the files that are newer after one is written."""
        with tempfile.TemporaryDirectory() as directory:
            copy = Path(directory)
            paths = {name: copy / "src" / name for name in faults.FILES}
            for path in paths.values():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
                os.utime(path, (0, 0))
            seeding.write_source(copy, name, "text")
            self.assertEqual(paths[name].read_text(), "text")
            return [name for name, path in paths.items()
                    if path.stat().st_mtime]

    def test_source(self):
        for name in faults.SOURCES:
            self.assertEqual(self.changed_by(name), [name])

    def test_header(self):
        # Make is called so that the header alone changes nothing.
        self.assertEqual(self.changed_by(faults.HEADER),
                         [*faults.SOURCES, faults.HEADER])


if __name__ == "__main__":
    unittest.main()
