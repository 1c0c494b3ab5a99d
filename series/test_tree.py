"""Tests of how the patched tree is made."""

import os
import stat

from series import base, tree
from series.common import SeriesError, sha256
from series.fixture import (CUT, EDIT, FixtureCase, PATCHED, STOCK, snapshot,
                            write)


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
        damaged = self.top / "damaged.tar.xz"
        damaged.write_bytes(self.archive.read_bytes()[:200])
        with self.assertRaisesRegex(SeriesError, "cannot be unpacked"):
            base.extract(damaged, self.build / "base")
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
        series, found, _ = self.load()
        self.assertEqual(set(tree.patched_files(series, found, 1)),
                         set(PATCHED) - {"Doc/new.rst", "Tools/run.sh"})


class PartTest(FixtureCase):
    """Each test spoils a base or a part after build/src was made."""

    def setUp(self):
        super().setUp()
        self.apply()

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
