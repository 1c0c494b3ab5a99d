"""Tests of what is said of the tools from the package index."""

import contextlib
import io
from pathlib import Path
import tempfile
import unittest

from prove import clients
from series.common import SeriesError


class ClientsTest(unittest.TestCase):
    WITHOUT = {"events": 0, "lines": [1, 2], "missing": [3], "branches": None}
    WITH = {**WITHOUT, "events": 5}

    def test_same(self):
        self.assertIsNone(clients.compare(self.WITHOUT, self.WITH))

    def test_differences(self):
        for part, value in (("events", 0), ("lines", [1]), ("missing", [4]),
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
                    clients.check_clients(Path(build), "false")


class TurnsTest(unittest.TestCase):
    COUNTS = [[f"<built-in method builtins.{name}>", 1, calls]
              for name, calls in clients.CALLS.items()]
    FOUND = {"01": {"counts": COUNTS, "calls": [[0, "CALL"], [1, "CALL"]]}}

    def found(self, **parts):
        return {"01": {**self.FOUND["01"], **parts}}

    def test_same(self):
        self.assertIsNone(clients.compare_turns(self.FOUND, self.found()))

    def test_differences(self):
        for part, value in (("counts", self.COUNTS[:-1]),
                            ("calls", [[0, "CALL"], [0, "CALL"]]),
                            ("calls", [])):
            self.assertIn(f"01 the first of the {part} that differs is",
                          clients.compare_turns(self.FOUND,
                                                self.found(**{part: value})))

    def test_python_code_that_shows_nothing(self):
        for counts in ([[name, 1, 1] for name, *_ in self.COUNTS],
                       self.COUNTS[1:], []):
            found = self.found(counts=counts)
            self.assertIn("is counted", clients.compare_turns(found, found))
