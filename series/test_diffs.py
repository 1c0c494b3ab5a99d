"""Tests of how edits are applied."""



from series.common import sha256
from series.fixture import EDIT, FixtureCase, STOCK, write


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
