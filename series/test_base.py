"""Tests of how the base is found and checked."""

import os
import shutil
from unittest import mock

from series import base, manifest
from series.common import SeriesError, file_sha256, sha256
from series.fixture import FixtureCase, STOCK, write

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
