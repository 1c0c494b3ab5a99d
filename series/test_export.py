"""Tests of the patches for git am."""

import os
from unittest import mock

from series import export
from series.common import SeriesError
from series.fixture import FixtureCase, write


class ExportTest(FixtureCase):
    def export(self):
        export.export(*self.load())
        return {path.name: path.read_bytes()
                for path in (self.build / "series").iterdir()}

    def test_same_bytes_whatever_the_user_s_configuration(self):
        first = self.export()
        self.assertEqual(set(first), {"0001-first.patch",
                                      "0002-second.patch"})
        write(self.top / "home/.gitconfig",
              b"[user]\nname = Other\nemail = o@example.invalid\n"
              b"[diff]\nnoprefix = true\ncontext = 9\n"
              b"[format]\nsignature = x\n[core]\nautocrlf = true\n")
        settings = {"HOME": str(self.top / "home"), "TZ": "Asia/Tokyo",
                    "GIT_AUTHOR_NAME": "Other", "GIT_DIFF_OPTS": "-u9",
                    "GIT_CONFIG_GLOBAL": str(self.top / "home/.gitconfig"),
                    "GIT_COMMITTER_DATE": "2001-01-01T00:00:00+0900"}
        mask = os.umask(0o077)
        try:
            with mock.patch.dict(os.environ, settings):
                self.assertEqual(self.export(), first)
        finally:
            os.umask(mask)

    def test_content(self):
        first, second = [data for _, data in sorted(self.export().items())]
        self.assertTrue(first.startswith(b"From " + b"0" * 40 + b" "))
        self.assertIn(b"\nSubject: [PATCH] Subject of first\n\nBody.\n",
                      first)
        self.assertIn(b"\nFrom: A <a@example.invalid>\n"
                      b"Date: Wed, 1 Jan 2025 00:00:00 +0000\n", first)
        self.assertIn(b"\nnew file mode 100755\n", second)

    def test_git_am_gives_the_tree(self):
        self.apply()
        export.check_export(*self.load())

    def test_difference_is_found(self):
        self.apply()
        write(self.build / "src/Doc/new.rst", b"other\n")
        (self.build / "src/Tools/run.sh").chmod(0o644)
        with self.assertRaises(SeriesError) as caught:
            export.check_export(*self.load())
        self.assertEqual(str(caught.exception),
                         "git am gives another tree than make: Doc/new.rst, "
                         "Tools/run.sh of 2 files differ")

    def test_scratch_is_removed(self):
        self.export()
        self.assertEqual({path.name for path in self.build.iterdir()},
                         {"base", "series"})
