"""Tests of the series tool and of the files it cares for."""

import contextlib
import io
import json
import os
from pathlib import Path
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest
from unittest import mock

import asan
import base
import builder
import clients
from common import SeriesError, file_sha256, sha256
import compare
import docs
import export
import full
import manifest
import testing
import tree

ROOT = Path(__file__).resolve().parent.parent

STOCK = {
    "Include/patchlevel.h": b'#define PY_VERSION      "9.9.9"\n',
    "Python/engine.c": b"int head;\n\nstatic int\nturn(void)\n{\n}\n",
    "Python/other.c": b"one\ntwo\nthree\nfour\nfive\nsix\n",
    "Doc/page.rst": b"Stock page\n",
    "PCbuild/core.vcxproj": b"<a>\r\n<b>\r\n<c>\r\n",
    "configure": b"#!/bin/sh\n",
}
EDIT = (b"--- a/Python/other.c\n+++ b/Python/other.c\n"
        b"@@ -1,4 +1,4 @@\n one\n-two\n+2\n three\n four\n")
WINDOWS_EDIT = (b"--- a/PCbuild/core.vcxproj\n+++ b/PCbuild/core.vcxproj\n"
                b"@@ -1,3 +1,4 @@\n <a>\r\n <b>\r\n+<new>\r\n <c>\r\n")
PATCHED = {
    "Python/engine.c": b"int head;\n\nstatic int\nturn(int way)\n{\n}\n",
    "Python/other.c": b"one\n2\nthree\nfour\nfive\nsix\n",
    "Doc/page.rst": b"Our page\n",
    "Doc/new.rst": b"New page\n",
    "Tools/run.sh": b"#!/bin/sh\n",
    "PCbuild/core.vcxproj": b"<a>\r\n<b>\r\n<new>\r\n<c>\r\n",
}
PART = b"static int\nturn(int way)\n{\n}\n"
CUT = b"static int\nturn(void)\n{\n}\n"
NO_BASE = ("Python-9.9.9.tar.xz is in no Debian repository that this machine "
           "reaches: give its path, or that of a CPython 9.9.9 source "
           "directory, with CPYTHON=PATH")


def write(path, data):
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def snapshot(root):
    """Return what every file below root holds, with its mode and time."""
    return {path: (path.read_bytes(), path.stat().st_mode,
                   path.stat().st_mtime_ns)
            for path in root.rglob("*") if path.is_file()}


class FixtureCase(unittest.TestCase):
    """A small repository and a small base, both right until a test spoils
    one of them."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.top = Path(folder.name).resolve()
        self.root = self.top / "repository"
        self.build = self.root / "build"
        self.stock = self.top / "Python-9.9.9"
        self.output = io.StringIO()
        redirect = contextlib.redirect_stdout(self.output)
        redirect.__enter__()
        self.addCleanup(redirect.__exit__, None, None, None)
        self.write_stock()
        self.archive = self.top / "Python-9.9.9.tar.xz"
        with tarfile.open(self.archive, "w:xz") as archive:
            archive.add(self.stock, self.stock.name)
        self.write_repository()

    def write_stock(self):
        for path, data in STOCK.items():
            write(self.stock / path, data)
        (self.stock / "configure").chmod(0o755)

    def write_repository(self):
        self.put("Python/engine.c", PART)
        self.put("Python/other.c.first.patch", EDIT)
        self.put("PCbuild/core.vcxproj.first.patch", WINDOWS_EDIT)
        for path in ("Doc/page.rst", "Doc/new.rst", "Tools/run.sh"):
            self.put(path, PATCHED[path])
        (self.root / "Tools/run.sh").chmod(0o755)
        for slug in ("first", "second"):
            self.put(f"series/messages/{slug}.txt",
                     f"Subject of {slug}\n\nBody.\n".encode())
        self.manifest = {
            "base": {"version": "9.9.9", "archive": "Python-9.9.9.tar.xz",
                     "pool": "pool/p.tar.xz",
                     "sha256": file_sha256(self.archive)},
            "stock": {path: sha256(STOCK[path])
                      for path in PATCHED if path in STOCK},
            "parts": {"Python/engine.c": {
                "anchor": "static int\nturn(", "lines": 4,
                "sha256": sha256(CUT)}},
            "export": {"name": "A", "email": "a@example.invalid",
                       "date": "2025-01-01T00:00:00+0000"},
            "patches": [
                {"slug": "first", "files": ["Python/engine.c",
                                            "Doc/page.rst"]},
                {"slug": "second", "files": ["Doc/new.rst", "Tools/run.sh"]},
            ],
        }
        self.put_manifest()

    def put(self, path, data):
        """Write a file of the repository."""
        write(self.root / path, data)

    def put_manifest(self):
        self.put("series/series.json", json.dumps(self.manifest).encode())

    def load(self, given=None):
        """Return the checked series and base."""
        series = manifest.Series(self.root)
        found = base.find_base(series, self.build,
                               str(given or self.archive))
        return series, found

    def apply(self, given=None):
        """Bring build/src up to date."""
        series, found = self.load(given)
        changed = tree.patched_files(series, found)
        tree.write_tree(found, changed, self.build / "src")

    def assert_refused(self, sentence, given=None):
        """Check for one sentence and that not a file changes for it."""
        before = snapshot(self.top)
        with self.assertRaises(SeriesError) as caught:
            self.apply(given)
        self.assertEqual(str(caught.exception), sentence)
        self.assertEqual(snapshot(self.top), before)


class TreeTest(FixtureCase):
    def assert_patched(self):
        expected = dict(STOCK, **PATCHED)
        source = self.build / "src"
        actual = {path.relative_to(source).as_posix(): path.read_bytes()
                  for path in source.rglob("*") if path.is_file()}
        self.assertEqual(actual, expected)
        for path in expected:
            mode = stat.S_IMODE((source / path).stat().st_mode)
            executable = path in ("configure", "Tools/run.sh")
            self.assertEqual(mode, 0o755 if executable else 0o644, path)

    def test_from_archive(self):
        self.apply()
        self.assert_patched()

    def test_from_directory(self):
        before = snapshot(self.stock)
        self.apply(self.stock)
        self.assert_patched()
        self.assertEqual(snapshot(self.stock), before)
        self.assertFalse((self.build / "base").exists())

    def test_build_products_stay_behind(self):
        for path in ("Makefile", "pyconfig.h", "python", "Python/engine.o",
                     "Modules/config.c", "build/lib/x.so", "libpython9.9.a",
                     "Lib/__pycache__/a.pyc", ".git/config"):
            write(self.stock / path, b"made")
        self.apply(self.stock)
        self.assert_patched()

    def test_git_file_of_a_worktree_stays_behind(self):
        for folder in (self.stock, self.stock / "Lib", self.root):
            write(folder / ".git", b"gitdir: elsewhere\n")
        self.apply(self.stock)
        self.assertFalse(list((self.build / "src").rglob(".git")))

    def test_series_within_the_base_stays_behind(self):
        self.root = self.root.rename(self.stock / "series")
        self.build = self.root / "build"
        write(self.stock / "series.txt", b"stock's own")
        link = self.top / "link"
        link.symlink_to(self.stock)
        for given in (self.stock, link, self.stock):
            self.apply(given)
            write(self.build / "made", b"")
            self.assertFalse((self.build / "src/series").exists())
        self.assertTrue((self.build / "src/series.txt").is_file())
        self.assertFalse((self.build / "src.partial").exists())

    def test_only_regular_files_are_taken(self):
        (self.stock / "Python/.#other.c").symlink_to("user@host.1")
        os.mkfifo(self.stock / "pipe")
        (self.stock / "link.c").symlink_to("Python/other.c")
        self.apply(self.stock)
        source = self.build / "src"
        self.assertFalse(os.path.lexists(source / "Python/.#other.c"))
        self.assertFalse(os.path.lexists(source / "pipe"))
        self.assertFalse((source / "link.c").is_symlink())
        self.assertEqual((source / "link.c").read_bytes(),
                         STOCK["Python/other.c"])

    def test_second_run_writes_nothing(self):
        self.apply()
        before = snapshot(self.build)
        self.apply()
        self.assertEqual(snapshot(self.build), before)

    def test_only_what_changed_is_written(self):
        self.apply()
        before = snapshot(self.build)
        self.put("Doc/new.rst", b"Newer page\n")
        self.apply()
        after = snapshot(self.build)
        self.assertEqual({path for path in after
                          if after[path] != before[path]},
                         {self.build / "src/Doc/new.rst"})

    def test_files_that_leave_the_series(self):
        self.apply()
        os.remove(self.root / "Doc/new.rst")
        os.remove(self.root / "Python/other.c.first.patch")
        self.manifest["patches"][1]["files"].remove("Doc/new.rst")
        del self.manifest["stock"]["Python/other.c"]
        self.put_manifest()
        old_time = (self.build / "base/Python/other.c").stat().st_mtime
        self.apply()
        self.assertFalse((self.build / "src/Doc/new.rst").exists())
        restored = self.build / "src/Python/other.c"
        self.assertEqual(restored.read_bytes(), STOCK["Python/other.c"])
        self.assertGreater(restored.stat().st_mtime, old_time)

    def test_mode_change_is_carried_over(self):
        self.apply()
        (self.root / "Doc/new.rst").chmod(0o755)
        self.apply()
        self.assertTrue(os.access(self.build / "src/Doc/new.rst", os.X_OK))

    def test_foreign_files_are_removed_and_byte_code_stays(self):
        self.apply()
        write(self.build / "src/Lib/stray.py", b"")
        write(self.build / "src/Lib/__pycache__/a.pyc", b"")
        self.apply()
        self.assertFalse((self.build / "src/Lib/stray.py").exists())
        self.assertTrue((self.build / "src/Lib/__pycache__/a.pyc").exists())

    def test_times_of_the_base_are_kept(self):
        os.utime(self.stock / "configure", (1000, 1000))
        self.apply(self.stock)
        self.assertEqual((self.build / "src/configure").stat().st_mtime, 1000)

    def test_interrupted_writing_is_redone(self):
        write(self.build / "base.partial/rest", b"half")
        write(self.build / "src.partial/configure", b"half")
        write(self.build / "src.partial/rest", b"half")
        self.apply()
        self.assert_patched()

    def test_failed_extraction_leaves_no_base(self):
        series = manifest.Series(self.root)
        damaged = self.top / "damaged.tar.xz"
        damaged.write_bytes(self.archive.read_bytes()[:200])
        with self.assertRaisesRegex(SeriesError, "cannot be unpacked"):
            base.extract(damaged, self.build / "base", series)
        self.assertFalse((self.build / "base").exists())

    def test_several_edits_of_one_file_in_order(self):
        self.put("Python/other.c.second.patch",
                 EDIT.replace(b"-two\n+2", b"-2\n+II"))
        self.apply()
        self.assertEqual((self.build / "src/Python/other.c").read_bytes(),
                         PATCHED["Python/other.c"].replace(b"2", b"II"))

    def test_edit_before_the_part(self):
        self.put("Python/engine.c.second.patch",
                 b"--- a/Python/engine.c\n+++ b/Python/engine.c\n"
                 b"@@ -1,2 +1,2 @@\n-int head;\n+int body;\n \n")
        self.apply()
        self.assertEqual(
            (self.build / "src/Python/engine.c").read_bytes(),
            PATCHED["Python/engine.c"].replace(b"head", b"body"))

    def test_prefix(self):
        series, found = self.load()
        self.assertEqual(set(tree.patched_files(series, found, 1)),
                         set(PATCHED) - {"Doc/new.rst", "Tools/run.sh"})


class BadBaseTest(FixtureCase):
    def digest_sentence(self, path):
        return (f"{path}: is truncated or not Python-9.9.9.tar.xz, its "
                f"SHA-256 is {file_sha256(path)} instead of "
                f"{file_sha256(self.archive)}")

    def test_truncated_archive(self):
        path = self.top / "truncated.tar.xz"
        path.write_bytes(self.archive.read_bytes()[:-1])
        self.assert_refused(self.digest_sentence(path), path)

    def test_absent_path(self):
        path = self.top / "absent"
        self.assert_refused(f"CPYTHON={path}: no such file or directory",
                            path)

    def test_not_a_source_tree(self):
        path = self.top / "empty"
        path.mkdir()
        self.assert_refused(f"{path}: is not a CPython source tree, it has "
                            f"no Include/patchlevel.h", path)

    def test_other_version(self):
        write(self.stock / "Include/patchlevel.h",
              b'#define PY_VERSION "9.9.8+"\n')
        self.assert_refused(f"{self.stock}: is CPython 9.9.8+, the series "
                            f"needs 9.9.9", self.stock)

    def test_other_stock_file(self):
        path = self.stock / "Python/other.c"
        write(path, b"changed\n")
        self.assert_refused(
            f"{path}: is not that of CPython 9.9.9, its SHA-256 is "
            f"{sha256(b'changed' + bytes([10]))} instead of "
            f"{sha256(STOCK['Python/other.c'])}", self.stock)

    def test_missing_stock_file(self):
        path = self.stock / "Python/other.c"
        path.unlink()
        self.assert_refused(f"{path}: does not exist, but the series needs "
                            f"it", self.stock)

    def test_file_that_the_series_adds(self):
        write(self.stock / "Doc/new.rst", b"someone else's\n")
        self.assert_refused(f"{self.stock}/Doc/new.rst: exists, but the "
                            f"series adds it", self.stock)

    def test_tree_that_carries_the_series(self):
        self.apply()
        self.assert_refused(
            f"{self.build}/src/Doc/new.rst: is the series' own, so the tree "
            f"already carries the series", self.build / "src")


class BadSeriesTest(FixtureCase):
    """Each test spoils a repository whose build/src was made before."""

    def setUp(self):
        super().setUp()
        self.apply()

    def test_entry_without_file(self):
        (self.root / "Doc/new.rst").unlink()
        self.assert_refused("series/series.json: patch second names "
                            "Doc/new.rst, which does not exist")

    def test_file_without_entry(self):
        self.put("Lib/extra.py", b"")
        self.assert_refused("Lib/extra.py: belongs to no patch, "
                            "series/series.json does not name it")

    def test_edit_of_an_unknown_patch(self):
        self.put("Python/other.c.third.patch", EDIT)
        self.assert_refused("Python/other.c.third.patch: belongs to no "
                            "patch, series/series.json does not name it")

    def test_the_repository_s_own_files(self):
        for path in ("README.md", "LICENSE", "Makefile", ".ci/run",
                     ".gitignore", "series/extra.py", "build/made",
                     "Lib/__pycache__/a.pyc"):
            self.put(path, b"")
        self.apply()

    def test_file_of_two_patches(self):
        self.manifest["patches"][1]["files"].append("Doc/page.rst")
        self.put_manifest()
        self.assert_refused("series/series.json: patch second names "
                            "Doc/page.rst, which is taken or not a file of "
                            "the series")

    def test_no_message(self):
        (self.root / "series/messages/second.txt").unlink()
        self.assert_refused("series/messages/second.txt: the message of "
                            "patch second does not exist")

    def test_message_without_body(self):
        for text in (b"", b"Subject\n", b"Subject\nBody\n",
                     b"\n\nBody\n", b"Subject\n\n\n"):
            self.put("series/messages/second.txt", text)
            self.assert_refused("series/messages/second.txt: must be a "
                                "subject, a blank line and a body")

    def test_message_of_no_patch(self):
        self.put("series/messages/third.txt", b"Subject\n\nBody\n")
        self.assert_refused("series/messages/third.txt: belongs to no patch "
                            "of series/series.json")

    def test_manifest_that_is_not_json(self):
        self.put("series/series.json", b"{")
        self.assert_refused(
            "series/series.json: is not JSON: Expecting property name "
            "enclosed in double quotes: line 1 column 2 (char 1)")

    def test_edited_file_without_digest(self):
        del self.manifest["stock"]["Python/other.c"]
        self.put_manifest()
        self.assert_refused("series/series.json: the series edits or cuts "
                            "Python/other.c, which \"stock\" does not name")

    def test_digest_of_an_untouched_file(self):
        self.manifest["stock"]["configure"] = sha256(STOCK["configure"])
        self.put_manifest()
        self.assert_refused("series/series.json: \"stock\" names configure, "
                            "which no patch replaces, edits or cuts")

    def test_part_of_no_patch(self):
        self.manifest["parts"]["Python/other.c"] = {}
        self.put_manifest()
        self.assert_refused("series/series.json: no patch names the part "
                            "Python/other.c")

    def set_stock(self, path, data):
        """Change a stock file together with its digest."""
        write(self.stock / path, data)
        self.manifest["stock"][path] = sha256(data)
        self.put_manifest()

    def test_anchor_that_moved(self):
        self.set_stock("Python/engine.c", b"int head;\n")
        self.assert_refused("Python/engine.c: the anchor 'turn(' of the part "
                            "occurs nowhere in the base, it must occur once",
                            self.stock)

    def test_anchor_that_occurs_twice(self):
        self.set_stock("Python/engine.c", CUT + CUT)
        self.assert_refused("Python/engine.c: the anchor 'turn(' of the part "
                            "occurs twice in the base, it must occur once",
                            self.stock)

    def test_cut_text_that_changed(self):
        cut = CUT.replace(b"{", b"{ ")
        self.set_stock("Python/engine.c", cut)
        self.assert_refused(
            f"Python/engine.c: the text from the anchor 'turn(' on is not "
            f"the one the part replaces: 4 lines with SHA-256 {sha256(cut)} "
            f"instead of 4 with {sha256(CUT)}", self.stock)

    def test_cut_text_of_another_length(self):
        self.manifest["parts"]["Python/engine.c"]["lines"] = 5
        self.put_manifest()
        self.assert_refused(
            f"Python/engine.c: the text from the anchor 'turn(' on is not "
            f"the one the part replaces: 4 lines with SHA-256 {sha256(CUT)} "
            f"instead of 5 with {sha256(CUT)}")


class BadEditTest(FixtureCase):
    NAME = "Python/other.c.first.patch"
    HEADER = b"--- a/Python/other.c\n+++ b/Python/other.c\n"

    def setUp(self):
        super().setUp()
        self.apply()

    def assert_edit_refused(self, patch, sentence):
        self.put(self.NAME, patch)
        self.assert_refused(f"{self.NAME}: {sentence}")

    def test_old_text_that_is_gone(self):
        self.assert_edit_refused(
            EDIT.replace(b"-two", b"-zwei"),
            "the old text of hunk 1 occurs nowhere in Python/other.c, it "
            "must occur once")

    def test_old_text_that_occurs_twice(self):
        text = STOCK["Python/other.c"] * 2
        write(self.stock / "Python/other.c", text)
        self.manifest["stock"]["Python/other.c"] = sha256(text)
        self.put_manifest()
        self.assert_refused(
            f"{self.NAME}: the old text of hunk 1 occurs twice in "
            f"Python/other.c, it must occur once", self.stock)

    def test_old_text_that_overlaps_itself(self):
        text = b"a\n" * 3
        write(self.stock / "Python/other.c", text)
        self.manifest["stock"]["Python/other.c"] = sha256(text)
        self.put_manifest()
        self.put(self.NAME, self.HEADER + b"@@ -1,2 +1,3 @@\n a\n+b\n a\n")
        self.assert_refused(
            f"{self.NAME}: the old text of hunk 1 occurs twice in "
            f"Python/other.c, it must occur once", self.stock)

    def test_line_ends_count(self):
        self.assert_edit_refused(
            EDIT.replace(b"-two\n", b"-two\r\n"),
            "the old text of hunk 1 occurs nowhere in Python/other.c, it "
            "must occur once")

    def test_hunk_within_a_line(self):
        self.assert_edit_refused(
            self.HEADER + b"@@ -1,1 +1,1 @@\n-wo\n+2\n",
            "the old text of hunk 1 overlaps the hunk before it, is out of "
            "order or starts within a line of Python/other.c")

    def test_hunks_out_of_order(self):
        self.assert_edit_refused(
            self.HEADER + b"@@ -5 +5 @@\n-five\n+5\n@@ -2 +2 @@\n-two\n+2\n",
            "the old text of hunk 2 overlaps the hunk before it, is out of "
            "order or starts within a line of Python/other.c")

    def test_no_header(self):
        self.assert_edit_refused(
            EDIT.replace(b"+++ b/Python/other.c", b"+++ b/Python/another.c"),
            "does not start with the lines '--- a/Python/other.c' and "
            "'+++ b/Python/other.c'")

    def test_empty(self):
        self.assert_edit_refused(b"", "the last line has no newline")

    def test_truncated_line(self):
        self.assert_edit_refused(EDIT[:-1], "the last line has no newline")

    def test_no_hunk(self):
        self.assert_edit_refused(self.HEADER, "has no hunk")

    def test_bad_hunk_header(self):
        self.assert_edit_refused(
            EDIT.replace(b"@@ -1,4", b"@@ -1;4"),
            "line 3 is not the header of hunk 1")

    def test_wrong_counts(self):
        self.assert_edit_refused(
            EDIT + b" five\n",
            "hunk 1 has 5 old and 5 new lines, its header says 4 and 4")

    def test_unknown_line(self):
        self.assert_edit_refused(
            EDIT.replace(b" three", b"three"),
            "line 7 in hunk 1 starts with none of ' ', '-', '+', '\\'")

    def test_hunk_without_old_text(self):
        self.assert_edit_refused(
            self.HEADER + b"@@ -0,0 +1 @@\n+new\n",
            "hunk 1 has no old text")

    def test_last_line_without_newline(self):
        text = STOCK["Python/other.c"][:-1]
        write(self.stock / "Python/other.c", text)
        self.manifest["stock"]["Python/other.c"] = sha256(text)
        self.put_manifest()
        self.put(self.NAME, self.HEADER
                 + b"@@ -5,2 +5,2 @@\n five\n-six\n"
                 b"\\ No newline at end of file\n+6\n")
        self.apply(self.stock)
        self.assertEqual((self.build / "src/Python/other.c").read_bytes(),
                         b"one\ntwo\nthree\nfour\nfive\n6\n")


APT_GET = """#!/bin/sh
[ "$*" = 'indextargets --no-release-info --format $(REPO_URI) """ \
    """Created-By: Packages' ] && cat {addresses}
"""
# Serves a file by the last part of its repository's address, and appends to
# what is there as a download that is continued does.
APT_HELPER = """#!/bin/sh
[ "$1" = download-file ] || exit 1
echo "$2 $4" >> {calls}
name=$(echo "$2" | sed 's,.*//\\([^/]*\\)/pool/p.tar.xz$,\\1,')
[ -f {served}/"$name" ] || exit 100
cat {served}/"$name" >> "$3"
[ "SHA256:$(sha256sum "$3" | cut -d' ' -f1)" = "$4" ]
"""


class DownloadTest(FixtureCase):
    """A stand-in for apt serves files from a folder."""

    def setUp(self):
        super().setUp()
        self.programs = self.top / "bin"
        self.addresses = self.top / "addresses"
        self.served = self.top / "served"
        self.calls = self.top / "calls"
        self.served.mkdir()
        self.addresses.write_text("")
        self.put_program("apt-get", APT_GET)
        self.put_program("apt-helper", APT_HELPER)
        path = mock.patch.dict(os.environ, PATH=f"{self.programs}"
                               f"{os.pathsep}{os.environ['PATH']}")
        path.start()
        self.addCleanup(path.stop)
        self.copy = self.build / "Python-9.9.9.tar.xz"
        self.partial = self.build / "Python-9.9.9.tar.xz.partial"

    def put_program(self, name, text):
        path = self.programs / name
        write(path, text.format(addresses=self.addresses, calls=self.calls,
                                served=self.served).encode())
        path.chmod(0o755)

    def find(self):
        series = manifest.Series(self.root)
        return base.find_base(series, self.build, None)

    def called(self):
        return [line.split()[0]
                for line in self.calls.read_text().splitlines()]

    def test_first_that_has_it(self):
        self.addresses.write_text("proto://empty/\nproto://empty/\n"
                                  "proto://full\nproto://later/\n")
        shutil.copy(self.archive, self.served / "full")
        self.find()
        self.assertEqual(self.called(), ["proto://empty/pool/p.tar.xz",
                                         "proto://full/pool/p.tar.xz"])
        self.assertEqual(self.copy.read_bytes(), self.archive.read_bytes())
        self.assertFalse(self.partial.exists())

    def test_mirror_list(self):
        mirrors = self.top / "mirrors.list"
        mirrors.write_text("# comment\n\nproto://empty/ priority:1\n"
                           "proto://full/\tpriority:2\n")
        self.addresses.write_text(f"mirror+file:{mirrors}/\n")
        shutil.copy(self.archive, self.served / "full")
        self.find()
        self.assertEqual(self.called(), ["proto://empty/pool/p.tar.xz",
                                         "proto://full/pool/p.tar.xz"])

    def test_absent_mirror_list(self):
        self.addresses.write_text("mirror+file:/nowhere/mirrors.list\n")
        with self.assertRaises(SeriesError) as caught:
            self.find()
        self.assertEqual(str(caught.exception), NO_BASE)

    def test_interrupted_download_is_continued(self):
        data = self.archive.read_bytes()
        write(self.partial, data[:100])
        self.addresses.write_text("proto://empty/\nproto://full/\n")
        (self.served / "full").write_bytes(data[100:])
        self.find()
        self.assertEqual(len(self.called()), 2)

    def test_damaged_download_is_redone(self):
        write(self.partial, b"damaged")
        self.addresses.write_text("proto://full/\n")
        shutil.copy(self.archive, self.served / "full")
        self.find()
        self.assertEqual(len(self.called()), 2)

    def test_copy_is_used(self):
        self.build.mkdir()
        shutil.copy(self.archive, self.copy)
        self.find()
        self.assertFalse(self.calls.exists())

    def test_damaged_copy_is_redone(self):
        write(self.copy, b"damaged")
        self.addresses.write_text("proto://full/\n")
        shutil.copy(self.archive, self.served / "full")
        self.find()
        self.assertEqual(self.copy.read_bytes(), self.archive.read_bytes())

    def test_wrong_content(self):
        self.addresses.write_text("proto://full/\n")
        (self.served / "full").write_bytes(b"other")
        with self.assertRaises(SeriesError) as caught:
            self.find()
        self.assertEqual(str(caught.exception), NO_BASE)
        self.assertFalse(self.copy.exists())
        self.assertFalse((self.build / "base").exists())

    def test_wrong_content_that_the_helper_accepts(self):
        self.put_program("apt-helper", '#!/bin/sh\necho other > "$3"\n')
        self.addresses.write_text("proto://full/\n")
        with self.assertRaises(SeriesError) as caught:
            self.find()
        self.assertEqual(str(caught.exception), NO_BASE)

    def test_nobody_has_it(self):
        self.addresses.write_text("proto://one/\nproto://two/\n")
        with self.assertRaises(SeriesError) as caught:
            self.find()
        self.assertEqual(str(caught.exception), NO_BASE)

    def test_no_apt(self):
        with mock.patch.dict(os.environ, PATH=str(self.top)), \
                mock.patch.object(base, "APT_HELPER", "/nowhere/apt-helper"):
            with self.assertRaises(SeriesError) as caught:
                self.find()
        self.assertEqual(str(caught.exception), NO_BASE)


class CommandTest(FixtureCase):
    """The command line: one sentence on standard error and exit status 1."""

    def setUp(self):
        super().setUp()
        for path in (ROOT / "series").glob("*.py"):
            shutil.copy(path, self.root / "series")
        shutil.copytree(ROOT / "series/benchmark",
                        self.root / "series/benchmark")

    def start_tool(self, *arguments, stdin=subprocess.DEVNULL, **environment):
        return subprocess.Popen(
            [sys.executable, "series/series.py", *arguments], cwd=self.root,
            env=dict(os.environ, CPYTHON=str(self.archive),
                     PYTHONDONTWRITEBYTECODE="1", **environment),
            stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            universal_newlines=True)

    def run_tool(self, *arguments, **environment):
        with self.start_tool(*arguments, **environment) as process:
            output, errors = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode,
                                           output, errors)

    def test_success(self):
        result = self.run_tool("export")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertTrue((self.build / "series/0002-second.patch").is_file())

    def test_failure(self):
        self.put("Lib/extra.py", b"")
        result = self.run_tool("export")
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr,
                         "Lib/extra.py: belongs to no patch, "
                         "series/series.json does not name it\n")
        self.assertEqual(os.listdir(self.build), [".lock"])

    def test_one_command_at_a_time(self):
        # The first command goes on when its standard input ends.
        git = self.top / "bin/git"
        write(git, b'#!/bin/sh\n[ "$1" = init ] && cat\nexec %s "$@"\n'
              % shutil.which("git").encode())
        git.chmod(0o755)
        path = f"{git.parent}{os.pathsep}{os.environ['PATH']}"
        with self.start_tool("export", stdin=subprocess.PIPE,
                             PATH=path) as first:
            while not first.stdout.readline().startswith("tree "):
                self.assertIsNone(first.poll())
            with self.start_tool("export") as second:
                line = second.stdout.readline()
                first.communicate()
                second.communicate()
        self.assertEqual(line, "waiting    another command is using build\n")
        self.assertEqual((first.returncode, second.returncode), (0, 0))

    def test_missing_python(self):
        shutil.copy(ROOT / "Makefile", self.root)
        make = shutil.which("make")
        for target in ("all", "test", "series", "check-series",
                       "check-series-quick", "docs", "clients", "install"):
            result = subprocess.run(
                [make, target], cwd=self.root, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, universal_newlines=True,
                env={"PATH": str(self.top), "LC_ALL": "C"})
            self.assertEqual(result.stdout, "")
            first, last = result.stderr.splitlines()
            self.assertEqual(first, "this machine lacks python3: "
                             "apt-get install python3")
            self.assertTrue(last.endswith(" Error 1"), last)
        self.assertFalse(self.build.exists())

    def test_missing_programs(self):
        result = self.run_tool("test", PATH=str(self.top))
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr,
                         "this machine lacks gcc, make, g++: "
                         "apt-get install gcc make g++\n")
        self.assertFalse(self.build.exists())

    def test_install_without_prefix(self):
        result = self.run_tool("install", "", "")
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr, "make install needs "
                         "prefix=DIRECTORY, an absolute path\n")


class ExportTest(FixtureCase):
    def export(self):
        export.export(*self.load(), self.build)
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
        export.check_export(*self.load(), self.build)

    def test_difference_is_found(self):
        self.apply()
        write(self.build / "src/Doc/new.rst", b"other\n")
        (self.build / "src/Tools/run.sh").chmod(0o644)
        with self.assertRaises(SeriesError) as caught:
            export.check_export(*self.load(), self.build)
        self.assertEqual(str(caught.exception),
                         "git am gives another tree than make: Doc/new.rst, "
                         "Tools/run.sh of 2 files differ")

    def test_scratch_is_removed(self):
        self.export()
        self.assertEqual({path.name for path in self.build.iterdir()},
                         {"base", "series"})


FAKE_CONFIGURE = """#!/bin/sh
echo configured >> ../runs
printf 'all:\\n\\t@echo gcc -o x.o; echo made$(prefix) >> ../runs\\n' \\
    > Makefile
"""


class BuilderTest(FixtureCase):
    """Builds with a configure script that counts how often it runs."""

    def setUp(self):
        super().setUp()
        write(self.build / "src/configure", FAKE_CONFIGURE.encode())
        (self.build / "src/configure").chmod(0o755)

    def runs(self, *options):
        """Build and return what ran."""
        log = self.build / "runs"
        if log.exists():
            log.unlink()
        builder.build_python(self.build, "release", *options)
        return log.read_text().split()

    def test_configures_once(self):
        self.assertEqual(self.runs(), ["configured", "made"])
        self.assertEqual(self.runs(), ["made"])
        self.assertIn("1 objects compiled", self.output.getvalue())

    def test_other_options_configure_anew(self):
        self.runs()
        self.assertEqual(self.runs("--x"), ["configured", "made"])

    def test_interrupted_configure_is_redone(self):
        self.runs()
        (self.build / "release" / builder.CONFIGURED).unlink()
        self.assertEqual(self.runs(), ["configured", "made"])

    def test_killed_make_is_redone_from_the_start(self):
        self.runs()
        write(self.build / "release" / builder.MAKING, b"")
        write(self.build / "release/half.o", b"")
        self.assertEqual(self.runs(), ["configured", "made"])
        self.assertFalse((self.build / "release/half.o").exists())

    def test_failure_shows_the_log(self):
        write(self.build / "src/configure", b"#!/bin/sh\necho why; exit 3\n")
        errors = io.StringIO()
        with self.assertRaisesRegex(SeriesError, "configure failed in "), \
                contextlib.redirect_stderr(errors):
            self.runs()
        self.assertEqual(errors.getvalue(), "why\n")
        self.assertFalse((self.build / "release" / builder.CONFIGURED)
                         .exists())

    def test_stock_has_nothing_of_the_series(self):
        write(self.stock / "configure", FAKE_CONFIGURE.encode())
        write(self.stock / "python", b"a build product")
        found = base.Base(self.stock, self.root)
        self.assertEqual(builder.build_stock(found, self.build),
                         self.build / "stock/python")
        copied = self.build / "stock-src"
        self.assertEqual((copied / "Doc/page.rst").read_bytes(),
                         STOCK["Doc/page.rst"])
        self.assertFalse((copied / "python").exists())
        self.assertEqual((self.build / "runs").read_text().split(),
                         ["configured", "made"])

    def test_environment_reaches_make(self):
        script = FAKE_CONFIGURE.replace("$(prefix)", "$(ASAN_OPTIONS)")
        write(self.build / "src/configure", script.encode())
        builder.build_python(self.build, "asan", ASAN_OPTIONS="x")
        self.assertEqual((self.build / "runs").read_text().split(),
                         ["configured", "madex"])

    def test_outer_make_does_not_reach_the_inner_one(self):
        with mock.patch.dict(os.environ, MAKEFLAGS=" -- prefix=/x",
                             PYTHONHOME="/x"):
            self.assertEqual(self.runs(), ["configured", "made"])


XML_REPORT = """<testsuites>
<testsuite tests="4"><testcase name="a"/>
<testcase name="b"><failure type="X"/></testcase>
<testcase name="c"><skipped>why</skipped></testcase>
<testcase/></testsuite></testsuites>"""


class TallyTest(FixtureCase):
    def run_tests(self, script, read, report=None):
        """Let a Python script play the tests; return what is counted."""
        tally = testing.Tally(self.build)
        if report:
            target = self.build / "test-logs/fake.xml"
            script += f"\nopen({str(target)!r}, 'w').write({report!r})"
        with contextlib.redirect_stderr(io.StringIO()):
            tally.run("fake", [sys.executable, "-c", script], read)
            status = tally.finish()
        self.assertEqual(self.output.getvalue().splitlines()[-1],
                         f"{tally.passed} passed, {tally.failed} failed")
        return tally.passed, tally.failed, status

    def test_unittest_passed(self):
        self.assertEqual(self.run_tests(
            "print('Ran 5 tests in 1s\\n\\nOK (skipped=2)')",
            testing.read_unittest), (3, 0, 0))

    def test_unittest_failed(self):
        self.assertEqual(self.run_tests(
            "print('FAIL: a (m.C.a)\\nFAIL: b (m.C.b) (x=1)\\n"
            "FAIL: b (m.C.b) (x=2)\\nERROR: d (m.C.d)\\n"
            "Ran 5 tests in 1s\\n\\n"
            "FAILED (failures=3, errors=1, skipped=1)'); exit(1)",
            testing.read_unittest), (1, 3, 1))
        self.assertRegex(self.output.getvalue(), r"FAILED +b \(m\.C\.b\)")

    def test_no_test_is_a_failure(self):
        self.assertEqual(self.run_tests("print('Ran 0 tests in 0s\\n\\nOK')",
                                        testing.read_unittest), (0, 1, 1))

    def test_exit_status_is_a_failure(self):
        self.assertEqual(self.run_tests(
            "print('Ran 5 tests in 1s\\n\\nOK'); exit(3)",
            testing.read_unittest), (5, 1, 1))

    def test_junit(self):
        self.assertEqual(self.run_tests(
            "print('FAIL: b (m.C.b)\\nFAIL: d (m.C.d) [x]')",
            testing.read_junit, XML_REPORT), (1, 2, 1))

    def test_junit_failure_without_title(self):
        self.assertEqual(self.run_tests("", testing.read_junit, XML_REPORT),
                         (1, 2, 1))

    def test_crash_without_report(self):
        write(self.build / "test-logs/fake.xml", XML_REPORT.encode())
        self.assertEqual(self.run_tests("exit(2)", testing.read_junit),
                         (0, 1, 1))

    def test_leak(self):
        self.assertEqual(self.run_tests("", testing.read_status), (1, 0, 0))
        self.assertEqual(self.run_tests("exit(2)", testing.read_status),
                         (0, 1, 1))


class SanitizerTest(FixtureCase):
    """A python that plays the tests, and writes a report or none."""

    def run_tests(self, script):
        """Return the exit status of make asan and what it printed."""
        python = self.top / "python"
        write(python, f"#!/bin/sh\n{script}\n".encode())
        python.chmod(0o755)
        for name in ("test_monitoring_a.py", "test_monitoring_b.py",
                     "monitoring_support.py", "test_other.py"):
            write(self.build / "src/Lib/test/test_capi" / name, b"")
        with mock.patch.object(builder, "build_python",
                               return_value=python), \
                contextlib.redirect_stderr(io.StringIO()):
            status = asan.test(self.build)
        return status, self.output.getvalue()

    REPORT = 'log=${ASAN_OPTIONS##*log_path=}\n'
    PASSED = ('while [ "$1" != --junit-xml ]; do shift; done\n'
              'echo "<a><testcase name=\\"t\\"/></a>" > $2\n')

    def test_passed(self):
        status, text = self.run_tests(self.PASSED)
        self.assertEqual(status, 0, text)
        self.assertTrue(text.endswith("4 passed, 0 failed\n"), text)

    def test_report_of_a_subprocess_is_a_failure(self):
        status, text = self.run_tests(
            self.PASSED + self.REPORT
            + 'echo "=1=ERROR: AddressSanitizer: why" > $log.1')
        self.assertEqual(status, 1)
        self.assertRegex(text, r"FAILED +=1=ERROR: AddressSanitizer: why \(")
        self.assertTrue(text.endswith("3 passed, 1 failed\n"), text)

    def test_old_reports_do_not_count(self):
        write(self.build / "asan-reports/address.1", b"old")
        self.assertEqual(self.run_tests(self.PASSED)[0], 0)

    def test_aborted(self):
        status, text = self.run_tests("kill -ABRT $$")
        self.assertEqual(status, 1)
        self.assertRegex(text, "FAILED +asan-test_monitoring: exit status")


MODULES_LOG = """\
0:00:01 load avg: 1.72 [ 1/300] test_a passed
0:00:01 load avg: 1.72 [ 2/300] test_b.test_x passed (1 min 2 sec) -- running
0:00:01 load avg: 1.72 [ 3/300/1] test_c failed (2 failures)
0:00:01 load avg: 1.72 [ 4/300/2] test_d worker non-zero exit code (Exit code \
-11 (SIGSEGV))
0:00:01 load avg: 1.72 [ 5/300/2] test_e skipped (resource denied)
0:00:01 load avg: 1.72 [ 6/300/2] test_f run no tests
0:00:01 load avg: 1.72 [ 7/300/2] test_g failed (env changed)
FAIL: t (test.test_c.C.t) [sub]
"""


class FullTest(FixtureCase):
    def test_modules(self):
        self.assertEqual(full.read_modules(MODULES_LOG), {
            "test_a": "passed", "test_b.test_x": "passed",
            "test_c": "failed", "test_d": "failed", "test_e": "skipped",
            "test_f": "skipped", "test_g": "failed"})

    def test_tests(self):
        report = self.top / "report.xml"
        write(report, XML_REPORT.encode())
        self.assertEqual(full.read_tests(report, MODULES_LOG), {
            "a": "passed", "b": "failed", "c": "skipped",
            "test.test_c.C.t": "failed"})

    def test_lost(self):
        stock = {"a": "passed", "b": "passed", "c": "failed", "d": "skipped",
                 "e": "passed", "ours.f": "passed", "ours.g": "passed"}
        ours = {"a": "passed", "b": "failed", "c": "failed", "d": "failed",
                "ours.g": "failed"}
        self.assertEqual(full.lost_tests(stock, ours, ("ours.",)),
                         ["b", "e", "ours.g"])

    def test_a_module_that_crashed_stands_for_its_tests(self):
        self.assertEqual(
            full.lost_tests({"test_a": "passed", "test.test_a.C.t": "passed"},
                            {"test_a": "failed"}, ()), ["test_a"])

    def test_replaced(self):
        self.put("Lib/test/test_x/test_y.py", b"")
        self.manifest["patches"][0]["files"].append(
            "Lib/test/test_x/test_y.py")
        self.put_manifest()
        self.assertEqual(full.replaced(manifest.Series(self.root)),
                         ("test.test_x.test_y.",))

    def test_module_of(self):
        results = dict.fromkeys(("test_a", "test_a.test_b", "test_c"))
        for name, module in (("test.test_a.C.t", "test_a"),
                             ("test.test_a.test_b.C.t", "test_a.test_b"),
                             ("test.test_abc.C.t", None), ("test_c", "test_c"),
                             ("elsewhere", None)):
            self.assertEqual(full.module_of(name, results), module, name)

    def compare(self, *runs):
        """Run both suites with made-up results; return what is printed."""
        with mock.patch.object(builder, "build_stock"), \
                mock.patch.object(builder, "build_python"), \
                mock.patch.object(full, "run", side_effect=map(dict, runs)):
            full.test(*self.load(), self.build, ())
        return self.output.getvalue()

    GOOD = {"test_a": "passed", "test.test_a.C.t": "passed"}
    BAD = dict.fromkeys(GOOD, "failed")

    def test_nothing_lost(self):
        self.assertIn("passes on ours", self.compare(self.GOOD, self.GOOD))
        self.assertIn("passes on ours", self.compare(self.BAD, self.BAD))

    def test_fails_again(self):
        with self.assertRaises(SeriesError) as caught:
            self.compare(self.GOOD, self.BAD, self.BAD)
        self.assertEqual(str(caught.exception),
                         "tests that pass on stock and not on ours: 2, the "
                         "first is test.test_a.C.t")

    def test_test_of_no_module_fails_without_being_repeated(self):
        with self.assertRaisesRegex(SeriesError, "ours: 1, .* is elsewhere"):
            self.compare({"elsewhere": "passed"}, {"test_a": "passed"})

    def test_unsteady(self):
        text = self.compare(self.GOOD, self.BAD, self.GOOD)
        self.assertRegex(text, "unsteady +test_a passes on stock; on ours: "
                               "passes when it is repeated")


TABLE = [("A.test_x", ["crash (SIGSEGV)", "ok"]),
         ("A.test_y", ["ok", "skipped"]),
         ("B.test_z", ["FAILED", "ok"])]


class CompareTest(FixtureCase):
    def run_test(self, script, timeout=30):
        """Let a shell script play one test and return its result."""
        python = self.top / "python"
        write(python, f"#!/bin/sh\n{script}\n".encode())
        python.chmod(0o755)
        return compare.run_test(python, "A.test_x", self.top / "log", timeout)

    def test_results(self):
        for script, result in (
                ("echo 'Ran 1 test'; echo OK", "ok"),
                ("echo 'OK (skipped=1)'", "skipped"),
                ("echo OK; exit 1", "FAILED"),
                ("kill -SEGV $$", "crash (SIGSEGV)")):
            self.assertEqual(self.run_test(script), result, script)

    def test_timeout_ends_what_the_test_started(self):
        child = self.top / "child"
        self.assertEqual(
            self.run_test(f"sleep 60 & echo $! > {child}; wait", 0.5),
            "timeout")
        with self.assertRaises(ProcessLookupError):
            for _ in range(100):
                os.kill(int(child.read_text()), 0)
                time.sleep(0.05)

    def test_table(self):
        self.assertEqual(compare.markdown(TABLE, "9.9.9"), """\
<details>
<summary>3 tests. stock 9.9.9: 1 ok, 1 FAILED, 1 crash; with the series: \
2 ok, 1 skipped</summary>

| | stock 9.9.9 | with the series |
|---|---|---|
| **A** | | |
| test_x | crash (SIGSEGV) | ok |
| test_y | ok | skipped |
| **B** | | |
| test_z | FAILED | ok |

</details>
""")

    def test_ours_fails(self):
        compare.check_ours(TABLE, self.top)
        for result in ("FAILED", "crash (SIGABRT)", "timeout"):
            log = self.top / "ours-logs/B.test_w.log"
            write(log, b"why\n")
            errors = io.StringIO()
            with self.assertRaises(SeriesError) as caught, \
                    contextlib.redirect_stderr(errors):
                compare.check_ours([*TABLE, ("B.test_w", ["ok", result])],
                                   self.top)
            self.assertEqual(str(caught.exception),
                             f"ours fails 1 of 4 tests, the first is "
                             f"B.test_w ({log})")
            self.assertEqual(errors.getvalue(), "why\n")

    def readme(self, between):
        """Write a README with something between the marks."""
        self.put("README.md", f"a\n{compare.README.start}\n{between}\n"
                              f"{compare.README.end}\nb\n".encode())
        return self.root / "README.md"

    def test_readme(self):
        fragment = compare.markdown(TABLE, "9.9.9")
        write(compare.README.file(self.build), fragment.encode())
        for between in ("", "old", fragment):
            readme = self.readme(between)
            compare.README.write(self.root, self.build)
            self.assertEqual(readme.read_text(),
                             f"a\n{compare.README.start}\n\n{fragment}\n"
                             f"{compare.README.end}\nb\n")
            compare.check_readme(readme, fragment)

    def test_stock_may_fail_in_another_way(self):
        fragment = compare.markdown(TABLE, "9.9.9")
        for result in ("FAILED", "timeout", "crash (SIGABRT)"):
            readme = self.readme(fragment.replace("crash (SIGSEGV)", result))
            compare.check_readme(readme, fragment)

    def test_readme_with_an_old_table(self):
        fragment = compare.markdown(TABLE, "9.9.9")
        for old in ("", fragment.replace("| FAILED", "| ok"),
                    fragment.replace("test_z", "test_w")):
            with self.assertRaises(SeriesError) as caught:
                compare.check_readme(self.readme(old), fragment)
            self.assertEqual(str(caught.exception),
                             "README.md: its table is not what was measured, "
                             "make compare-readme puts it in")

    def test_readme_without_marks(self):
        for mark in (compare.README.start, compare.README.end):
            readme = self.readme("")
            readme.write_text(readme.read_text().replace(mark, ""))
            with self.assertRaisesRegex(SeriesError, "lacks the line"):
                compare.check_readme(readme, "")

    def test_nothing_measured(self):
        with self.assertRaisesRegex(SeriesError, "does not exist, make "
                                                 "compare writes it"):
            compare.README.write(self.root, self.build)
class ClientsTest(unittest.TestCase):
    WITHOUT = {"told": 0, "lines": [1, 2], "missing": [3], "branches": None}
    WITH = {**WITHOUT, "told": 5}

    def test_same(self):
        self.assertIsNone(clients.compare(self.WITHOUT, self.WITH))

    def test_differences(self):
        for part, value in (("told", 0), ("lines", [1]), ("missing", [4]),
                            ("branches", [[1, 2]])):
            self.assertIn(part, clients.compare(
                self.WITHOUT, {**self.WITH, part: value}))

    def test_program_that_shows_nothing(self):
        for part in ("lines", "missing"):
            self.assertIn("lines that run", clients.compare(
                {**self.WITHOUT, part: []}, {**self.WITH, part: []}))

    def test_no_package_index(self):
        with tempfile.TemporaryDirectory() as build:
            with self.assertRaisesRegex(SeriesError,
                                        "needs a package index"):
                with contextlib.redirect_stdout(io.StringIO()):
                    clients.install_coverage(Path(build), "false")
            self.assertFalse(
                (Path(build) / "clients-venv/.installed").exists())


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


WINDOWS_PROJECTS = {
    "Include/": ("pythoncore",),
    "Modules/_testcapi/": ("_testcapi",),
    "Objects/": ("pythoncore", "_freeze_module"),
    "Parser/": ("pythoncore", "_freeze_module"),
    "Python/": ("pythoncore", "_freeze_module"),
}


def built_files(source, touched):
    """Return the C files of the series that the Makefile uses.

    That is what the Makefile installs of Include/ or compiles; a header in
    Include/cpython/ brings the one that includes it.
    """
    makefile = (source / "Makefile.pre.in").read_text(encoding="utf-8")
    modules = (source / "Modules/Setup.stdlib.in").read_text(encoding="utf-8")
    files = {path.replace("cpython/", "") for path in touched
             if path.startswith("Include/cpython/")} | set(touched)
    found = set()
    for path in files:
        if path.startswith("Include/") and path.endswith(".h"):
            named = f"$(srcdir)/{path}" in makefile
        elif path.startswith("Modules/") and path.endswith(".c"):
            named = path[len("Modules/"):] in modules.split()
        else:
            named = (path.endswith(".c")
                     and path[:-len(".c")] + ".o" in makefile.split())
        if named:
            found.add(path)
    return found


def missing_on_windows(source, files):
    """Return 'FILE in PROJECT' for what the Windows projects do not name."""
    missing = []
    for path in sorted(files):
        folder = max((prefix for prefix in WINDOWS_PROJECTS
                      if path.startswith(prefix)), key=len)
        names = [name + suffix for name in WINDOWS_PROJECTS[folder]
                 if not path.endswith(".h") or name != "_freeze_module"
                 for suffix in (".vcxproj", ".vcxproj.filters")]
        tag = "ClInclude" if path.endswith(".h") else "ClCompile"
        for name in names:
            # Not every project file of the base is well-formed XML.
            project = (source / "PCbuild" / name).read_text("utf-8-sig")
            item = "..\\" + path.replace("/", "\\")
            if f'<{tag} Include="{item}"' not in project:
                missing.append(f"{path} in {name}")
    return missing


NEWS_NAME = re.compile(r"Misc/NEWS\.d/next/([^/]+)/\d{4}-\d\d-\d\d-\d\d-\d\d-"
                       r"\d\d\.gh-issue-\d+\.[A-Za-z0-9_-]{6}\.rst")


def news_problem(path, text, sections):
    """Say what blurb would have against a NEWS entry, or None."""
    name = NEWS_NAME.fullmatch(path)
    if not name:
        return "is not named as blurb names entries"
    if name.group(1) not in sections:
        return f"{name.group(1)} is not a section of Misc/NEWS"
    if not text.strip() or not text.endswith("\n"):
        return "is empty or does not end with a newline"
    if text.startswith(("- ", "\n")):
        return "starts with a list item or a blank line"
    if any(len(line) > 79 for line in text.splitlines()):
        return "has a line of more than 79 characters"
    return None


def news_sections(text):
    """Return blurb's folder names for the sections of Misc/NEWS."""
    titles = re.findall(r"^([A-Za-z/ ]+)\n-+$", text, re.MULTILINE)
    return {title.replace(" ", "_").replace("/", "-") for title in titles}


class RepositoryTest(unittest.TestCase):
    """The patched tree of this repository, which make writes."""

    @classmethod
    def setUpClass(cls):
        cls.series = manifest.Series(ROOT)
        cls.source = ROOT / "build/src"
        if not cls.source.is_dir():
            raise AssertionError("build/src does not exist: run make test")

    def test_windows_projects_name_what_the_makefile_builds(self):
        touched = [path for path in self.series.touched()
                   if re.search(r"\.[ch]$", path)
                   and not path.startswith("Doc/")]
        files = built_files(self.source, touched)
        self.assertGreaterEqual(files, set(touched))
        self.assertEqual(missing_on_windows(self.source, files), [])

    def test_windows_projects_keep_their_line_ends(self):
        for path in self.series.touched():
            if path.startswith("PCbuild/"):
                data = (self.source / path).read_bytes()
                self.assertEqual(data.count(b"\n"), data.count(b"\r\n"),
                                 path)

    def test_news_entries(self):
        news = (self.source / "Misc/NEWS").read_text(encoding="utf-8")
        entries = [path for path in self.series.touched()
                   if path.startswith("Misc/NEWS.d/")]
        self.assertTrue(entries)
        for path in entries:
            text = (self.source / path).read_text(encoding="utf-8")
            self.assertIsNone(
                news_problem(path, text, news_sections(news)), path)

    def test_readme_shows_a_producer_that_compiles(self):
        config = next((ROOT / "build" / name for name in ("release", "debug")
                       if (ROOT / "build" / name / "pyconfig.h").is_file()),
                      None)
        if config is None:
            self.skipTest("there is no build with a pyconfig.h")
        shown, = re.findall(r"^```c\n(.*?)^```$", (ROOT / "README.md")
                            .read_text(encoding="utf-8"), re.M | re.S)
        result = subprocess.run(
            ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror",
             "-fsyntax-only", f"-I{self.source / 'Include'}", f"-I{config}",
             "-xc", "-"],
            input=f"#include <Python.h>\n{shown}PyCFunction used = repeat;\n",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual(result.returncode, 0, result.stdout)
    def test_no_suppression_names_our_code(self):
        ours = "".join((ROOT / path).read_text()
                       for patch in self.series.patches
                       for path in patch.files if re.search(r"\.[ch]$", path))
        for line in testing.TSAN_OURS.read_text().splitlines():
            if line and not line.startswith("#"):
                self.assertRegex(line, r"^race(_top)?:\w+$")
                function = line.partition(":")[2]
                self.assertIsNone(
                    re.search(rf"^{function}\(", ours, re.MULTILINE), line)

    def test_messages(self):
        for patch in self.series.patches:
            lines = patch.message.splitlines()
            self.assertTrue(lines[0].startswith("gh-111997: "), patch.slug)
            self.assertIn("can be dropped when", patch.message)
            self.assertLessEqual(max(map(len, lines)), 79, patch.slug)


class WindowsCheckTest(unittest.TestCase):
    """The check of the Windows projects sees what is missing."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.source = Path(folder.name)
        write(self.source / "Makefile.pre.in",
              b"\t\t$(srcdir)/Include/a.h \\\n\t\tPython/b.o \\\n")
        write(self.source / "Modules/Setup.stdlib.in",
              b"_testcapi _testcapimodule.c _testcapi/c.c\n")
        for name in ("pythoncore", "_freeze_module", "_testcapi"):
            for suffix in ("", ".filters"):
                write(self.source / f"PCbuild/{name}.vcxproj{suffix}",
                      b'<p xmlns="x"><ClInclude Include="..\\Include\\a.h"/>'
                      b'<ClCompile Include="..\\Python\\b.c"/></p>')

    def test_built_files(self):
        self.assertEqual(
            built_files(self.source, ["Include/cpython/a.h", "Python/b.c",
                                      "Python/unused.c", "Modules/x.c",
                                      "Modules/_testcapi/c.c"]),
            {"Include/a.h", "Python/b.c", "Modules/_testcapi/c.c"})

    def test_missing(self):
        self.assertEqual(
            missing_on_windows(self.source, ["Include/a.h", "Python/b.c",
                                             "Include/cpython/a.h",
                                             "Modules/_testcapi/c.c"]),
            ["Include/cpython/a.h in pythoncore.vcxproj",
             "Include/cpython/a.h in pythoncore.vcxproj.filters",
             "Modules/_testcapi/c.c in _testcapi.vcxproj",
             "Modules/_testcapi/c.c in _testcapi.vcxproj.filters"])


class NewsCheckTest(unittest.TestCase):
    """The check of the NEWS entries sees what is wrong."""

    PATH = ("Misc/NEWS.d/next/C_API/"
            "2025-06-01-10-20-30.gh-issue-111997.aB3-_x.rst")
    SECTIONS = news_sections("Title\n=====\n\nC API\n-----\n\nTools/Demos\n"
                             "-----------\n\n- gh-1: x\n")

    def problem(self, path=PATH, text="Text.\n"):
        return news_problem(path, text, self.SECTIONS)

    def test_sections(self):
        self.assertEqual(self.SECTIONS, {"C_API", "Tools-Demos"})

    def test_good(self):
        self.assertIsNone(self.problem())

    def test_bad(self):
        for path, text in (
                (self.PATH.replace("C_API", "C API"), "Text.\n"),
                (self.PATH.replace("gh-issue-", "bpo-"), "Text.\n"),
                (self.PATH.replace("-30.", "."), "Text.\n"),
                (self.PATH.replace("aB3-_x", "aB3"), "Text.\n"),
                (self.PATH, ""), (self.PATH, "Text."),
                (self.PATH, "- Text.\n"), (self.PATH, "\nText.\n"),
                (self.PATH, "x" * 80 + "\n")):
            self.assertIsNotNone(self.problem(path, text), (path, text))


if __name__ == "__main__":
    unittest.main()
