"""Tests of what two pages show: the how-to, and the reference's producer."""

import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import traceback
import unittest

import listing
import profile_subs
import tinybasic
from test_tinybasic import HERE, record

DOC = os.path.dirname(os.path.dirname(HERE))
HOWTO = os.path.join(DOC, "howto", "monitoring-producers.rst")
REFERENCE = os.path.join(DOC, "c-api", "monitoring.rst")


def blocks(path):
    """Return the literal blocks of a page, in order."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    found = re.findall(r"(?:^\.\. code-block:: .*|::)\n\n((?:   .*\n|\n)+)",
                       text, re.MULTILINE)
    return [textwrap.dedent(block).strip("\n") + "\n" for block in found]


def block(path, word):
    """Return the one literal block that has a word in it."""
    found, = (text for text in blocks(path) if word in text)
    return found


def build(folder, name, source):
    """Compile a module into a folder."""
    path = os.path.join(folder, f"{name}.c")
    with open(path, "w", encoding="utf-8") as file:
        file.write(source)
    include = os.path.dirname(sysconfig.get_config_h_filename())
    subprocess.run(
        [*shlex.split(sysconfig.get_config_var("CC")), "-shared", "-fPIC",
         "-Wall", "-Werror", "-I" + sysconfig.get_path("include"),
         "-I" + include, "-o", os.path.join(folder, f"{name}.so"), path],
        check=True)


class HowtoTests(unittest.TestCase):

    def setUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory())

    def load(self, name, source):
        """Return a program in a file, and the file's path."""
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(source)
        return listing.load(path), path

    def load_hello(self):
        return self.load("hello.bas", block(HOWTO, "10 FOR N = 1 TO 2\n20"))

    def test_events(self):
        source = block(HOWTO, "10 FOR N = 1 TO 2\n20")
        shown = block(HOWTO, "PY_START   MAIN   0\n").splitlines()
        self.assertEqual([re.sub(" +", " ", line) for line in shown],
                         record(*source.splitlines()))

    def test_locations(self):
        subject, _ = self.load_hello()
        shown = re.findall(r"(\d+) +line (\d+)  (.+)\n",
                           block(HOWTO, "0   line 1 "))
        code = subject.subroutines[0]
        self.assertEqual(
            [(int(offset), int(line), text) for offset, line, text in shown],
            [(2 * i, place[0], listing.text_at(code, 2 * i))
             for i, place in zip(range(8), code.co_positions())])

    def test_error(self):
        subject, path = self.load("halve.bas", (
            "10 LET A = 0\n20 GOSUB 100\n30 END\n100 REM HALVE\n"
            "110 IF A = 0 THEN PRINT 8 / A\n"))
        try:
            subject.run()
        except tinybasic.Error as error:
            shown = "".join(traceback.format_exception(error))
        shown = shown.replace(path, "halve.bas")
        start = '  File "halve.bas", line 2'
        self.assertEqual(
            shown[shown.index(start):],
            (text := block(HOWTO, start))[text.index(start):])
        with open(path) as file:
            seen = record(*file.read().splitlines(), error=tinybasic.Error,
                          names=["RAISE", "PY_UNWIND"])
        self.assertEqual(
            [re.sub(r"Error\('test(.*)'\)", r"halve\1", line)
             for line in seen],
            [re.sub(" +", " ", line) for line in
             block(HOWTO, "RAISE      HALVE").splitlines()])

    def test_listing(self):
        subject, path = self.load_hello()
        found = listing.listing(subject, path, *listing.count(subject, ()))
        self.assertEqual(textwrap.dedent("\n".join(found) + "\n"),
                         block(HOWTO, "2 to 20, 1 to 40"))

    def test_profile(self):
        subject, path = self.load_hello()
        found = profile_subs.table(profile_subs.profile(subject, ()), path)
        number = re.compile(r"\d\.\d{3}")
        self.assertEqual(
            number.sub("0.000", textwrap.dedent(found)).strip(),
            block(HOWTO, "hello.bas:1(MAIN)").strip())

    def test_code_like_of_its_own(self):
        names = {}
        exec(block(HOWTO, "class Template"), names)
        page = names["page"]
        get_location = sys.monitoring.get_location
        self.assertEqual([get_location(page, offset) for offset in (0, 2, 4)],
                         page.locations)
        self.assertEqual(listing.lines_of([page]), {1, 2})

    def test_producer(self):
        """The reference's producer and tool, and how the how-to tests it."""
        build(self.folder, "twice", block(REFERENCE, "PyInit_twice"))
        tool = block(REFERENCE, "use_tool_id(tool, \"example\")")
        self.assertEqual(self.python(tool),
                         block(REFERENCE, "twice.src:2\n"))
        test = block(HOWTO, "def recorded") + block(HOWTO, "twice(21)")
        self.assertEqual(self.python(test), "")
        places = tool.replace("LINE", "PY_START").replace(
            'print(f"{code.co_filename}:{lineno}")',
            "print([*code.co_positions()][:3])")
        shown = [line[3:] for line in
                 block(REFERENCE, "1  twice(x):").splitlines()]
        found = eval(self.python(places).splitlines()[0])
        self.assertEqual([first for first, *_ in found], [1, 2, 3])
        self.assertEqual([shown[first - 1][start:end]
                          for first, _, start, end in found],
                         [line.strip() for line in shown])

    def python(self, source):
        """Run Python code that can import from the folder."""
        done = subprocess.run(
            [sys.executable, "-c", source], cwd=self.folder, text=True,
            capture_output=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout


if __name__ == "__main__":
    unittest.main()
