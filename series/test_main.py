"""Tests of the command line."""

import os
import shutil
import subprocess
import sys

from series.fixture import FixtureCase, write
from series.workspace import ROOT


class CommandTest(FixtureCase):
    """The command line: one sentence on standard error and exit status 1."""

    def setUp(self):
        super().setUp()
        for path in (ROOT / "series").glob("*.py"):
            shutil.copy(path, self.root / "series")

    def start_tool(self, *arguments, stdin=subprocess.DEVNULL, **environment):
        return subprocess.Popen(
            [sys.executable, "-m", "series", *arguments], cwd=self.root,
            env={**os.environ, "CPYTHON": str(self.archive), "BASE": "",
                 "PYTHONDONTWRITEBYTECODE": "1", **environment},
            stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            universal_newlines=True)

    def run_tool(self, *arguments, **environment):
        with self.start_tool(*arguments, **environment) as process:
            output, errors = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode,
                                           output, errors)

    def test_success(self):
        result = self.run_tool("series")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertTrue((self.build / "series/0002-second.patch").is_file())

    def test_unknown_target(self):
        result = self.run_tool("nothing")
        self.assertEqual(result.returncode, 2)
        self.assertEqual(result.stderr, "there is no target nothing: make "
                         "help names all\n")

    def test_a_room_more(self):
        without = self.run_tool("help").stdout
        self.put("more/__init__.py", b'"""More."""\n')
        self.put("more/commands.py", b'def work():\n    """Work."""\n'
                 b'    print("worked")\n\n\nCOMMANDS = {"work": work}\n')
        self.assertEqual(self.run_tool("work").stdout, "worked\n")
        self.assertEqual(self.run_tool("help").stdout,
                         without + "more/: More.\n\n"
                         "  make work                Work.\n\n")
        self.assertEqual(self.run_tool("series").returncode, 0)

    def test_failure(self):
        self.put("Lib/extra.py", b"")
        result = self.run_tool("series")
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr,
                         "Lib/extra.py: belongs to no patch, "
                         "series/series.json does not name it\n")
        self.assertEqual(os.listdir(self.build), [".lock"])

    def test_base_that_cannot_be_had(self):
        result = self.run_tool("tree", CPYTHON="", PATH=str(self.top))
        self.assertEqual(result.returncode, 3)
        self.assertRegex(result.stderr, r"\APython-9\.9\.9\.tar\.xz is in no "
                         r"Debian repository .*\n\Z")
        self.assertEqual(self.run_tool("tree", BASE="9.9.8").returncode, 1)

    def test_base(self):
        self.add_base("9.9.8", {})
        self.set_version("9.9.8")
        self.put("more/__init__.py", b'"""More."""\n')
        self.put("more/commands.py", b"""\
from series.workspace import build_folder
COMMANDS = {"where": lambda: print(build_folder())}
""")
        for version, folder in (("9.9.9", "build"), ("", "build"),
                                ("9.9.8", "build/9.9.8")):
            self.assertEqual(self.run_tool("where", BASE=version).stdout,
                             f"{folder}\n")
        self.assertIn("\ntree       build/9.9.8/src, ", self.run_tool(
            "tree", BASE="9.9.8", CPYTHON=str(self.stock)).stdout)

    def test_one_command_at_a_time(self):
        # The first command goes on when its standard input ends.
        git = self.top / "bin/git"
        write(git, b'#!/bin/sh\n[ "$1" = init ] && cat\nexec %s "$@"\n'
              % shutil.which("git").encode())
        git.chmod(0o755)
        path = f"{git.parent}{os.pathsep}{os.environ['PATH']}"
        with self.start_tool("series", stdin=subprocess.PIPE,
                             PATH=path) as first:
            while not first.stdout.readline().startswith("tree "):
                self.assertIsNone(first.poll())
            with self.start_tool("series") as second:
                line = second.stdout.readline()
                first.communicate()
                second.communicate()
        self.assertEqual(line, "waiting    another command is using build\n")
        self.assertEqual((first.returncode, second.returncode), (0, 0))

    def test_missing_python(self):
        shutil.copy(ROOT / "Makefile", self.root)
        make = shutil.which("make")
        for targets in ([], ["all"], ["series"], ["docs"], ["install"]):
            result = subprocess.run(
                [make, *targets], cwd=self.root, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, universal_newlines=True,
                env={"PATH": str(self.top), "LC_ALL": "C"})
            self.assertEqual(result.stdout, "")
            first, last = result.stderr.splitlines()
            self.assertEqual(first, "this machine lacks python3: "
                             "apt-get install python3")
            self.assertTrue(last.endswith(" Error 1"), last)
        self.assertFalse(self.build.exists())

    def test_missing_programs(self):
        result = self.run_tool("check-series", PATH=str(self.top))
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr,
                         "this machine lacks gcc, make, git, g++: "
                         "apt-get install gcc make git g++\n")
        self.assertFalse(self.build.exists())

    def test_install_without_prefix(self):
        result = self.run_tool("install", prefix="")
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr, "make install needs "
                         "prefix=DIRECTORY, an absolute path\n")
