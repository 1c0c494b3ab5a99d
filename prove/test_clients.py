"""Tests of what is said of the tools from the package index."""

import contextlib
import io
from pathlib import Path
import tempfile
import unittest

from prove import clients
from series.common import SeriesError


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
