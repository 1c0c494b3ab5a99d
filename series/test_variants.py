"""Tests of the variants that are made for another base."""

import json

from series import base, tree, variants
from series.common import SeriesError, file_sha256
from series.fixture import (EDIT, FixtureCase, PATCHED, STOCK, snapshot,
                            write)

NAME = "Python/other.c.first.9.9.15.patch"
TEXT = STOCK["Python/other.c"].replace(b"four", b"4")


class VariantsTest(FixtureCase):
    """A second base in which the context of an edit is another."""

    def setUp(self):
        super().setUp()
        self.first_base = self.load()[1]
        self.set_version("9.9.15")
        write(self.stock / "Python/other.c", TEXT)
        self.add_base("9.9.15", {})
        # As the tool itself writes it.
        self.put("series/series.json",
                 (json.dumps(self.manifest, indent=4) + "\n").encode())

    def write(self, version="9.9.15"):
        """Write what the base needs; return its edited text."""
        self.set_version(version)
        located = base.locate_base(self.root, self.build, str(self.stock),
                                   None)
        variants.write_variants(self.first_base, *located)
        series, found, _ = self.load(self.stock)
        return tree.patched_files(series, found)["Python/other.c"].data

    def test_other_context_is_merged(self):
        self.assertEqual(self.write(), b"one\n2\nthree\n4\nfive\nsix\n")
        self.assertEqual((self.root / NAME).read_bytes(),
                         EDIT.replace(b"four", b"4")
                         .replace(b"1,4 +1,4", b"1,5 +1,5") + b" five\n")
        manifest = json.loads((self.root / "series/series.json").read_text())
        self.assertEqual(manifest["bases"][1]["stock"], {
            "Python/other.c": file_sha256(self.stock / "Python/other.c")})

    def test_second_time_nothing_changes(self):
        self.write()
        before = snapshot(self.root)
        self.output.truncate(0)
        self.write()
        self.assertEqual(snapshot(self.root), before)
        self.assertNotIn("variant ", self.output.getvalue())

    def test_change_of_the_first_edit_is_carried_over(self):
        self.write()
        self.put("Python/other.c.first.patch", EDIT.replace(b"+2", b"+II"))
        self.assertEqual(self.write(), b"one\nII\nthree\n4\nfive\nsix\n")

    def test_variant_that_is_not_needed_goes(self):
        self.write()
        write(self.stock / "Python/other.c", STOCK["Python/other.c"])
        self.assertEqual(self.write(), PATCHED["Python/other.c"])
        self.assertFalse((self.root / NAME).exists())

    def test_later_edit_is_merged_after_the_earlier_one(self):
        self.put("Python/other.c.second.patch",
                 EDIT.replace(b"-two\n+2", b"-2\n+II"))
        self.assertEqual(self.write(), b"one\nII\nthree\n4\nfive\nsix\n")
        self.assertTrue((self.root / NAME.replace("first", "second"))
                        .is_file())

    def conflict(self):
        """Have the base change what the edit does; return where it is to be
        resolved."""
        write(self.stock / "Python/other.c", TEXT.replace(b"two", b"zwei"))
        return self.build / "9.9.15/merge" / NAME

    def test_conflict_is_resolved_by_hand(self):
        file = self.conflict()
        for _ in range(2):
            with self.assertRaises(SeriesError) as caught:
                self.write()
            self.assertEqual(
                str(caught.exception), f"Python/other.c.first.patch: does not "
                f"merge with CPython 9.9.15, resolve {file} and repeat this")
            self.assertIn(b"zwei", file.read_bytes())
        file.write_bytes(b"one\nii\nthree\n4\nfive\nsix\n")
        for _ in range(2):      # once with the file, once without
            self.assertEqual(self.write(), b"one\nii\nthree\n4\nfive\nsix\n")
            self.assertFalse(file.exists()
                             and variants.MARK not in file.read_bytes())
        self.assertIn(f"kept       {NAME}: ", self.output.getvalue())

    def test_base_without_entry(self):
        for version in ("9.9.9", "9.9.10"):
            with self.assertRaises(SeriesError) as caught:
                self.write(version)
            self.assertEqual(str(caught.exception), "variants are for a base "
                             "that series/series.json names after the first "
                             "one: BASE=VERSION")
