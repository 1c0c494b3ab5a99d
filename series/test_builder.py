"""Tests of how interpreters are built."""

import contextlib
import io
import os
from unittest import mock

from series import base, builder
from series.common import SeriesError
from series.fixture import FixtureCase, STOCK, write

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
