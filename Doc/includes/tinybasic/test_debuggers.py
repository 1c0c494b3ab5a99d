"""Tests of pdb on BASIC: python -m unittest test_debuggers"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from test_pages import HOWTO, block
from test_tinybasic import HERE

PROGRAMS = os.path.join(HERE, "programs")

# Runs the BASIC program of its argument.
DRIVER = '''\
import io
import sys

import tinybasic


def double(number):
    twice = 2 * number
    return twice


def stop(number):
    breakpoint()
    return number


def fail(number):
    raise LookupError("nothing there")


def main():
    with open(sys.argv[1]) as file:
        program = tinybasic.Program(file.read(), sys.argv[1])
    program.run({"DOUBLE": double, "STOP": stop, "FAIL": fail}, None,
                io.StringIO())


main()
'''
CALLS = """\
10 LET N = 21
20 GOSUB 100
30 CALL %s(N) INTO M
40 END
100 REM TWICE
110 CALL DOUBLE(N) INTO N
120 RETURN
"""


class PdbTest(unittest.TestCase):

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        self.write("driver.py", DRIVER)
        for function in ("DOUBLE", "STOP", "FAIL"):
            self.write(f"{function.lower()}.bas", CALLS % function)

    def write(self, name, text):
        with open(os.path.join(self.directory, name), "w",
                  encoding="utf-8") as file:
            file.write(text)

    def run_driver(self, program, commands, *options, driver="driver.py"):
        """Return what pdb says first and to each of the commands, of paths the
        last part."""
        result = subprocess.run(
            [sys.executable, *options, driver, program],
            cwd=self.directory, input="\n".join([*commands, "quit"]),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ,
                 "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
        text = re.sub(r"[^\s'\"]*[/\\]", "", result.stdout)
        return [reply.rstrip() for reply in text.split("(Pdb) ")]

    def debug(self, program, *commands):
        return self.run_driver(program, commands, "-m", "pdb")

    def test_breakpoint(self):
        sieve = os.path.join(PROGRAMS, "sieve.bas")
        replies = self.debug(sieve, f"break {sieve}:16", "continue", "where",
                             "list 16, 18", "next", "next", "up", "list 5, 5",
                             "tbreak sieve.bas:26", "continue")
        self.assertIn("Breakpoint 1 at sieve.bas:16", replies[1])
        self.assertEqual(replies[2],
                         "> sieve.bas(16)SHOW()\n-> 300 REM SHOW")
        self.assertEqual(
            replies[3].splitlines()[-6::2],
            ["  driver.py(24)main()", "  sieve.bas(5)MAIN()",
             "> sieve.bas(16)SHOW()"])
        self.assertEqual(
            [line.strip() for line in replies[4].splitlines()],
            ["16 B->\t300 REM SHOW", "17  \t310 LET K = 0",
             "18  \t320 FOR I = 2 TO N"])
        self.assertEqual(replies[6],
                         "> sieve.bas(18)SHOW()\n-> 320 FOR I = 2 TO N")
        self.assertEqual(replies[7], "> sieve.bas(5)MAIN()\n-> 50 GOSUB 300")
        self.assertIn("5  ->\t50 GOSUB 300", replies[8])

    def test_steps(self):
        """Into a subroutine, into Python that it calls, and out of both."""
        # Not by a step from the call of TWICE: whether that stops at the same
        # line once more depends on the version of bdb (gh-136057).
        replies = self.debug("double.bas", "break double.bas:2", "continue",
                             "step", "until 6", *["step"] * 6, "next",
                             "until 4", "jump 1")
        places = [re.match(r"(?:--\w+--\n)?> (.*)\n", reply).group(1)
                  for reply in replies[2:13]]
        self.assertEqual(places, [
            "double.bas(2)MAIN()", "double.bas(5)TWICE()",
            "double.bas(6)TWICE()",
            "driver.py(7)double()", "driver.py(8)double()",
            "driver.py(9)double()", "driver.py(9)double()->42",
            "double.bas(7)TWICE()", "double.bas(7)TWICE()->None",
            "double.bas(3)MAIN()", "double.bas(4)MAIN()"])
        self.assertEqual(replies[13], "*** Jump failed: f_lineno can only be "
                                      "set of a frame that runs bytecode")

    def test_variables(self):
        """Those of the program: subroutines have no others."""
        replies = self.debug("double.bas", "break double.bas:7", "continue",
                             "p N", "up", "p N", "!N = 5", "p N", "down",
                             "p N")
        self.assertEqual(replies[2], "> double.bas(7)TWICE()\n-> 120 RETURN")
        self.assertEqual([replies[i] for i in (3, 5, 7, 9)],
                         ["42", "42", "5", "42"])

    def test_breakpoint_function(self):
        """The program was not debugged until Python code asked for it."""
        replies = self.run_driver("stop.bas", ["next", "next", "next", "where",
                                               "next"])
        self.assertIn("driver.py(13)stop()", replies[0])
        self.assertEqual(replies[3], "> stop.bas(4)MAIN()\n-> 40 END")
        self.assertEqual(replies[4].splitlines()[-4::2],
                         ["  driver.py(24)main()", "> stop.bas(4)MAIN()"])
        self.assertEqual(replies[5],
                         "--Return--\n> stop.bas(4)MAIN()->None\n-> 40 END")

    def test_uncaught_exception(self):
        replies = self.debug("fail.bas", "continue", "where", "up",
                             "list 3, 3", "up")
        self.assertIn("LookupError: nothing there", replies[1])
        self.assertIn("Entering post mortem debugging", replies[1])
        self.assertEqual(
            replies[2].splitlines()[-4:],
            ["  fail.bas(3)MAIN()", "-> 30 CALL FAIL(N) INTO M",
             "> driver.py(18)fail()",
             '-> raise LookupError("nothing there")'])
        self.assertEqual(replies[3],
                         "> fail.bas(3)MAIN()\n-> 30 CALL FAIL(N) INTO M")
        self.assertIn("->\t30 CALL FAIL(N) INTO M", replies[4])
        self.assertIn("driver.py(24)main()", replies[5])

    def test_variables_of_the_traceback(self):
        """They are kept while pdb traces, as it does for a breakpoint."""
        replies = self.debug("fail.bas", "break fail.bas:4", "continue",
                             "up", "p N")
        self.assertIn("Entering post mortem debugging", replies[2])
        self.assertEqual(replies[4], "42")

    def test_howto(self):
        """The session that the how-to shows, command by command."""
        self.write("hello.bas", block(HOWTO, "10 FOR N = 1 TO 2\n20"))
        shutil.copy(os.path.join(HERE, "run.py"), self.directory)
        session = block(HOWTO, "(Pdb) break hello.bas")
        commands = re.findall(r"\(Pdb\) (.*)", session)
        _, *replies = self.run_driver("hello.bas", commands, "-m", "pdb",
                                      driver="run.py")
        shown = "".join(f"(Pdb) {command}\n{reply}\n"
                        for command, reply in zip(commands, replies))
        self.assertEqual(shown, session)


if __name__ == "__main__":
    unittest.main()
