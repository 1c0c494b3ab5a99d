"""Tests of how the base is found and checked."""

import os
import shutil
import tarfile
from unittest import mock

from series import base
from series.common import SeriesError, file_sha256, sha256
from series.fixture import (EDIT, FixtureCase, PATCHED, STOCK, snapshot,
                            write)

NO_BASE = ("Python-9.9.9.tar.xz is in no Debian repository that this machine "
           "reaches: give its path, or that of a CPython 9.9.9 source "
           "directory, with CPYTHON=PATH")


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

    def test_archive_of_something_else(self):
        path = self.top / "other.tar.xz"
        with tarfile.open(path, "w:xz") as archive:
            archive.add(self.stock / "configure", "other/configure")
        self.assert_refused(f"{path}: is no archive of CPython, it has no "
                            f"Include/patchlevel.h", path)

    def test_damaged_archive(self):
        path = self.top / "damaged.tar.xz"
        data = bytearray(self.archive.read_bytes())
        data[100:110] = bytes(10)
        path.write_bytes(data)
        with self.assertRaisesRegex(SeriesError,
                                    f"^{path}: cannot be unpacked: "):
            self.load(path)

    def test_not_a_source_tree(self):
        path = self.top / "empty"
        path.mkdir()
        self.assert_refused(f"{path}: is not a CPython source tree, it has "
                            f"no Include/patchlevel.h", path)

    def test_other_version(self):
        self.set_version("9.10.0")
        self.assert_refused("CPython 9.10.0: is not 9.9.9 or another 9.9",
                            self.stock)
        self.set_version("9.9.8rc1")
        self.assert_refused("CPython 9.9.8rc1: is not 9.9.9 or another 9.9",
                            self.stock)

    def test_directory_of_another_base(self):
        self.set_version("9.9.8")
        with self.assertRaises(SeriesError) as caught:
            self.load(self.stock, "9.9.9")
        self.assertEqual(str(caught.exception),
                         f"CPYTHON={self.stock}: is CPython 9.9.8, not "
                         f"BASE=9.9.9")

    def test_base_without_pins(self):
        with self.assertRaises(SeriesError) as caught:
            base.find_base(self.root, self.build, None, "9.9.8")
        self.assertEqual(str(caught.exception),
                         "BASE=9.9.8: is not 9.9.9, any other needs "
                         "CPYTHON=PATH")

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


class UntestedBaseTest(FixtureCase):
    """A version that series.json does not name."""

    def setUp(self):
        super().setUp()
        self.set_version("9.9.12+")

    def set_stock(self, path, data):
        write(self.stock / path, data)

    def source(self):
        return self.build / "9.9.12+/src"

    def test_what_every_edit_fits_is_tried(self):
        self.set_stock("Python/other.c", STOCK["Python/other.c"] + b"seven\n")
        before = snapshot(self.stock)
        self.apply(self.stock)
        self.assertEqual((self.source() / "Python/other.c").read_bytes(),
                         PATCHED["Python/other.c"] + b"seven\n")
        self.assertEqual(snapshot(self.stock), before)
        lines = self.output.getvalue().splitlines()
        self.assertEqual([line for line in lines if "tested" in line], [
            f"base       {self.stock}, CPython 9.9.12+, which is not tested, "
            f"as 9.9.9 is"])

    def test_archive(self):
        archive = self.top / "other.tar.gz"
        for text in (b"2", b"II"):
            self.set_stock("configure", text)
            with tarfile.open(archive, "w:gz") as members:
                members.add(self.stock, "cpython")
            self.apply(archive)
            self.assertEqual((self.source() / "configure").read_bytes(), text)

    def test_text_of_an_edit_that_changed(self):
        self.set_stock("Python/other.c", b"one\n2\n")
        self.assert_refused("Python/other.c.first.patch: the old text of hunk "
                            "1 occurs nowhere in Python/other.c, it must "
                            "occur once", self.stock)

    def test_edited_file_that_is_gone(self):
        (self.stock / "Python/other.c").unlink()
        self.assert_refused(f"{self.stock}/Python/other.c: does not exist, "
                            f"but the series needs it", self.stock)

    def test_text_that_the_part_replaces(self):
        self.set_stock("Python/engine.c", b"/* more */\n"
                       + STOCK["Python/engine.c"])
        self.apply(self.stock)
        self.assertEqual((self.source() / "Python/engine.c").read_bytes(),
                         b"/* more */\n" + PATCHED["Python/engine.c"])
        self.set_stock("Python/engine.c", STOCK["Python/engine.c"] + b"x\n")
        with self.assertRaisesRegex(SeriesError, "^Python/engine.c: the text "
                                    "from the anchor 'turn\\(' on is not the "
                                    "one the part replaces"):
            self.apply(self.stock)

    def test_replaced_file_that_no_base_has(self):
        newer = b"Newer page\n"
        self.add_base("9.9.15", {"Doc/page.rst": sha256(newer)})
        self.set_stock("Doc/page.rst", newer)
        self.apply(self.stock)
        self.set_stock("Doc/page.rst", b"Other page\n")
        self.assert_refused(
            f"{self.stock}/Doc/page.rst: is not that of CPython 9.9.9 or "
            f"9.9.15, its SHA-256 is {sha256(b'Other page' + bytes([10]))} "
            f"instead of {sha256(STOCK['Doc/page.rst'])} or {sha256(newer)}",
            self.stock)

    def test_tree_that_carries_the_series(self):
        self.apply(self.stock)
        self.assert_refused(
            f"{self.source()}/Doc/new.rst: is the series' own, so the tree "
            f"already carries the series", self.source())


class SecondBaseTest(FixtureCase):
    """A base that has pins and a build folder of its own."""

    NEWER = b"one\ntwo\n3\nfour\nfive\nsix\n"

    def setUp(self):
        super().setUp()
        write(self.stock / "Python/other.c", self.NEWER)
        self.set_version("9.9.15")
        self.add_base("9.9.15", {"Python/other.c": sha256(self.NEWER)})
        self.put("Python/other.c.first.9.9.12.patch",
                 EDIT.replace(b" three", b" 3"))

    def test_directory(self):
        self.apply(self.stock)
        self.assertEqual(
            (self.build / "9.9.15/src/Python/other.c").read_bytes(),
            self.NEWER.replace(b"two", b"2"))
        self.assertFalse((self.build / "src").exists())
        self.assertNotIn("tested", self.output.getvalue())

    def test_its_own_digests_count(self):
        write(self.stock / "Python/other.c", STOCK["Python/other.c"])
        self.assert_refused(
            f"{self.stock}/Python/other.c: is not that of CPython 9.9.15, its "
            f"SHA-256 is {sha256(STOCK['Python/other.c'])} instead of "
            f"{sha256(self.NEWER)}", self.stock)

    def test_its_own_archive(self):
        newer = self.top / "Python-9.9.15.tar.xz"
        with tarfile.open(newer, "w:xz") as members:
            members.add(self.stock, "Python-9.9.15")
        self.manifest["bases"][1].update(archive=newer.name,
                                         sha256=file_sha256(newer))
        self.put_manifest()
        self.apply(newer)
        self.assertTrue((self.build / "9.9.15/base").is_dir())
        self.assertIn("CPython 9.9.15\n", self.output.getvalue())
        # The first one has all in build/ itself.
        self.apply()
        self.assertTrue((self.build / "base").is_dir())
        newer.write_bytes(newer.read_bytes()[:-1])
        self.assert_refused(
            f"{newer}: is truncated or not Python-9.9.15.tar.xz, its SHA-256 "
            f"is {file_sha256(newer)} instead of "
            f"{self.manifest['bases'][1]['sha256']}", newer)

    def test_what_is_downloaded_is_its_own(self):
        with mock.patch.object(base, "repositories", return_value=["p://x"]), \
                mock.patch.object(base, "fetch", return_value=False) as fetch:
            with self.assertRaises(base.NoBase):
                base.find_base(self.root, self.build, None, "9.9.15")
        fetch.assert_called_once_with(
            ["p://x/pool/9.9.15.tar.xz"],
            self.build / "9.9.15/Python-9.9.15.tar.xz.partial", "0" * 64)


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
        return base.find_base(self.root, self.build, None, None)

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
