"""A small repository and a small base for the tests of the tool."""

import contextlib
import io
import json
from pathlib import Path
import tarfile
import tempfile
import unittest

from series import base, tree
from series.common import SeriesError, file_sha256, sha256

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
            "bases": [{"version": "9.9.9", "archive": "Python-9.9.9.tar.xz",
                       "pool": "pool/p.tar.xz",
                       "sha256": file_sha256(self.archive)}],
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
        self.put("series/commands.py", b"")

    def put(self, path, data):
        """Write a file of the repository."""
        write(self.root / path, data)

    def set_version(self, version):
        """Have the source directory be of a version."""
        write(self.stock / "Include/patchlevel.h",
              f'#define PY_VERSION "{version}"\n'.encode())

    def add_base(self, version, stock):
        """Add a base whose stock files with these digests differ."""
        self.manifest["bases"].append({
            "version": version, "archive": f"Python-{version}.tar.xz",
            "pool": f"pool/{version}.tar.xz", "sha256": "0" * 64,
            "stock": stock})
        self.put_manifest()

    def put_manifest(self):
        self.put("series/series.json", json.dumps(self.manifest).encode())

    def load(self, given=None, wanted=None):
        """Return the checked series and base, and its build folder."""
        return base.find_base(self.root, self.build,
                              str(given or self.archive), wanted)

    def apply(self, given=None):
        """Bring the patched tree of a base up to date."""
        series, found, build = self.load(given)
        changed = tree.patched_files(series, found)
        tree.write_tree(found, changed, build / "src")

    def assert_refused(self, sentence, given=None):
        """Check for one sentence and that not a file changes for it."""
        before = snapshot(self.top)
        with self.assertRaises(SeriesError) as caught:
            self.apply(given)
        self.assertEqual(str(caught.exception), sentence)
        self.assertEqual(snapshot(self.top), before)
