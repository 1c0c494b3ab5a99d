"""Tests of how the repository is read."""

from series import manifest
from series.common import sha256
from series.fixture import EDIT, FixtureCase, STOCK


class VariantTest(FixtureCase):
    """Which variant of an edit is that of a version."""

    FIRST = "Python/other.c.first.patch"

    def chosen(self, version):
        edits = manifest.Series(self.root, version).patches[0].edits
        name, = [edit.name for edit in edits if edit.path == "Python/other.c"]
        return name

    def test_the_newest_that_is_not_newer(self):
        for version in ("9.9.9", "9.9.10", "9.9.12"):
            self.assertEqual(self.chosen(version), self.FIRST)
        names = {version: self.FIRST.replace("patch", f"{version}.patch")
                 for version in ("9.9.10", "9.9.12")}
        for name in names.values():
            self.put(name, EDIT)
        for version, name in (
                ("9.9.2", self.FIRST), ("9.9.9+", self.FIRST),
                ("9.9.10", names["9.9.10"]), ("9.9.11", names["9.9.10"]),
                ("9.9.12+", names["9.9.12"]), ("9.9.100", names["9.9.12"])):
            self.assertEqual(self.chosen(version), name)

    def test_variant_that_is_not_chosen_is_read(self):
        self.put("Python/other.c.first.9.9.10.patch", EDIT[:-1])
        self.assert_refused("Python/other.c.first.9.9.10.patch: the last line "
                            "has no newline")

    def test_variant_of_nothing(self):
        self.put("Doc/page.rst.first.9.9.10.patch", EDIT)
        self.assert_refused("Doc/page.rst.first.9.9.10.patch: is a variant of "
                            "an edit that does not exist")

    def test_digest_that_is_there_already(self):
        digest = self.manifest["stock"]["Python/other.c"]
        for stock, path in (({"Python/other.c": digest}, "Python/other.c"),
                            ({"configure": "0" * 64}, "configure")):
            self.add_base("9.9.10", stock)
            self.assert_refused(f"series/series.json: the digest of {path} "
                                f"for 9.9.10 differs from none in \"stock\"")
            self.manifest["bases"].pop()


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

    def test_what_installing_the_example_leaves(self):
        for path in ("build/lib/extension.so", "tinybasic.egg-info/PKG-INFO"):
            self.put(f"Doc/includes/tinybasic/{path}", b"")
        self.apply()

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
