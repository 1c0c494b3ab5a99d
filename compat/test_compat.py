"""Tests of what runs the tests of the header for unpatched interpreters."""

import contextlib
import io
import json
from pathlib import Path
import stat
import tempfile
import unittest
from unittest import mock

from compat import compat, compat_cython
from series.common import SeriesError


class JudgeTest(unittest.TestCase):

    def test_all_pass(self):
        self.assertEqual(compat.judge({"A.a": [], "A.b": []}, []), (2, 0, []))

    def test_unexpected(self):
        self.assertEqual(compat.judge({"A.a": [None], "A.b": ["[x]"]}, []),
                         (0, 0, ["A.a", "A.b [x]"]))

    def test_announced(self):
        results = {"A.a": [None], "A.b": ["[x]", "[y]"], "A.c": ["[x]"],
                   "A.d": []}
        self.assertEqual(compat.judge(results, ["A.a", "A.b", "* [x]"]),
                         (1, 3, []))

    def test_announced_subtest_alone(self):
        self.assertEqual(
            compat.judge({"A.a": ["[x]", "[y]"]}, ["A.a [x]"]),
            (0, 0, ["A.a [y]"]))

    def test_name_that_begins_like_an_announced_one(self):
        self.assertEqual(compat.judge({"A.ab": [None]}, ["A.a"])[2],
                         ["A.ab", "A.a passes, which expectations.json says "
                                  "fails"])

    def test_announced_that_passes(self):
        for pattern in ("A.a", "* [x]"):
            self.assertEqual(
                compat.judge({"A.a": []}, [pattern])[2],
                [f"{pattern} passes, which expectations.json says fails"])


class TableTest(unittest.TestCase):

    def test_columns(self):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            # Two interpreters may be of one version.
            compat.print_table([("3.13.1", {"A.a": [], "A.b": [None]}),
                                ("3.13.1", {"A.a": [], "B.a": []})])
        rows = [line.split() for line in output.getvalue().splitlines()[2:]]
        self.assertEqual(rows, [["3.13.1", "3.13.1"], ["A", "1", "-1", "1"],
                                ["B", "0", "1"], []])


class ExpectationsTest(unittest.TestCase):

    def test_names_are_those_of_tests(self):
        text = "".join(path.read_text() for path in
                       compat.TESTS.glob("test_capi/test_[mc]o*.py"))
        for promise in compat.read_expectations():
            for pattern in promise["tests"]:
                name = pattern.split(" ")[0]
                if name == "*":
                    continue
                group, _, test = name.partition(".")
                self.assertIn(f"class {group}(", text)
                self.assertIn(f"def {test}(", text)

    def test_table_of_the_header(self):
        failing = {}
        limited = set()
        for promise in compat.read_expectations():
            if promise["row"] is None:
                continue
            if promise.get("abi3"):
                limited.add(promise["row"])
            failing.setdefault(promise["row"], set()).update(
                () if promise.get("abi3") else promise["fails on"])
        for name, (note, old, new, last, _) in compat.header_table().items():
            with self.subTest(name):
                versions = failing.pop(name, set())
                self.assertEqual(name in limited,
                                 "(" in last and not note)
                on_old = "3.12" in versions
                on_new = bool(versions - {"3.12"})
                # A footnote says what does not hold of a "yes".
                if old == "no" or not (note or "(" in old):
                    self.assertEqual(on_old, old == "no")
                if not new.startswith("yes") or not (note or new != "yes"):
                    self.assertEqual(on_new, new != "yes")
        self.assertEqual(failing, {})

    def test_table_of_the_readme(self):
        readme = compat.ROOT / compat.TABLE.page
        self.assertEqual(compat.TABLE.split(readme)[1].strip(),
                         compat.readme_table().strip(),
                         "make compat-readme puts it in")

    def test_versions(self):
        for promise in compat.read_expectations():
            known = {*compat.WANTED}
            if promise.get("abi3"):
                known.add("the series")
            self.assertLessEqual(set(promise["fails on"]), known)


class FindTest(unittest.TestCase):

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = Path(directory.name)

    def fake(self, name, **facts):
        """Write a program that answers as an interpreter does."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        known = {"implementation": "cpython", "version": [3, 13, 1],
                 "path": str(path), "abi": "", "suffix": ".so",
                 "include": ["/include"], "headers": True, "tests": True}
        answer = json.dumps({**known, **facts})
        path.write_text(f"#!/bin/sh\necho '{answer}'\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    def find(self, **environment):
        environment.setdefault("PATH", "/nonexistent")
        environment.setdefault("PYENV_ROOT", "/nonexistent")
        found = compat.find_interpreters(self.root / "build", environment)
        return [interpreter.name for interpreter in found]

    def test_path_pyenv_and_names(self):
        self.fake("bin/python3", path="/one")
        self.fake("bin/python3.13", path="/one")
        self.fake("bin/python3-config", version=[3, 15, 0])
        self.fake("pyenv/versions/3.12.4/bin/python", version=[3, 12, 4])
        named = self.fake("mine", version=[3, 14, 10])
        self.assertEqual(
            self.find(PATH=str(self.root / "bin"), PYTHONS=named,
                      PYENV_ROOT=str(self.root / "pyenv")),
            ["3.12.4", "3.13.1", "3.14.10"])

    def test_others_are_not_taken(self):
        self.fake("bin/python3", version=[3, 11, 9])
        self.fake("bin/python3.12", implementation="pypy")
        (self.root / "bin/python3.14").write_text("#!/bin/sh\nexit 1\n")
        with mock.patch("compat.compat.say") as say:
            self.fake("bin/python3.13", tests=False)
            self.assertEqual(self.find(PATH=str(self.root / "bin")), [])
        self.assertIn("python3.13: it has no test suite",
                      say.call_args.args[1])

    def test_bad_names(self):
        for name, message in (
                (self.fake("old", version=[3, 11, 0]),
                 "is no CPython 3.12 or later that runs"),
                (str(self.root / "nothing"),
                 "is no CPython 3.12 or later that runs"),
                (self.fake("bare", tests=False), "has no test suite"),
                (self.fake("headless", headers=False), "has no Python.h")):
            with self.subTest(name):
                with self.assertRaisesRegex(
                        SeriesError, f"^PYTHONS names {name}, which {message}"):
                    self.find(PYTHONS=name)

    def test_nothing_found(self):
        with mock.patch("compat.compat.find_interpreters", return_value=[]):
            with self.assertRaisesRegex(SeriesError,
                                        "^there is no CPython 3.12 or later"):
                compat.test_compat(self.root)


class TranslateTest(unittest.TestCase):

    def translate(self, *scripts):
        """Try with interpreters that do this; return what was said."""
        with tempfile.TemporaryDirectory() as directory:
            root = Path(directory)
            pythons = []
            for number, script in enumerate(scripts):
                pythons.append(root / f"python{number}")
                pythons[-1].write_text(f"#!/bin/sh\n{script}\n")
                pythons[-1].chmod(0o755)
            with mock.patch("compat.compat_cython.say") as say, \
                    contextlib.redirect_stdout(io.StringIO()):
                source = compat_cython.translate(root, root / "sample.pyx",
                                                 pythons)
            self.assertEqual(source is None, say.called)
            return [call.args for call in say.call_args_list]

    # python -m venv --clear DIRECTORY; what it makes then does nothing.
    VENV = 'mkdir -p "$4/bin"; ln -s /bin/%s "$4/bin/python"; ' \
        'ln -s /bin/true "$4/bin/cython"'

    def test_first_that_has_pip(self):
        self.assertEqual(self.translate("exit 1", self.VENV % "true"), [])

    def test_no_pip(self):
        (stage, text), = self.translate("exit 1")
        self.assertEqual(stage, "skipped")
        self.assertRegex(text, "^Cython: no package index gives Cython>=3.1")

    def test_no_index(self):
        said = self.translate(self.VENV % "false")
        self.assertEqual([stage for stage, _ in said], ["skipped"])


if __name__ == "__main__":
    unittest.main()
