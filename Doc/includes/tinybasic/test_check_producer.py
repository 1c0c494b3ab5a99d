"""Tests of Tools/monitoring/check_producer.py on right and wrong producers."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from test_pages import DOC, REFERENCE, block, build
from test_tinybasic import HERE, PROGRAMS

PAGE = os.path.join(DOC, "howto", "monitoring-producers-test.rst")
CHECKER = os.path.join(os.path.dirname(DOC), "Tools", "monitoring",
                       "check_producer.py")

# Runs each BASIC program that is named, as often as the first argument says.
DRIVER = """\
import contextlib
import io
import sys

import tinybasic

FUNCTIONS = {"LEN": len, "INT": int, "TWICE": lambda number: 2 * number}
answers = iter("PAY IN,EVE,5,DRAW,BOB,900,MOVE,ADA,BOB,7,YEAR,LIST,QUIT"
               .split(","))
for path in sys.argv[2:]:
    with open(path) as file:
        program = tinybasic.Program(file.read(), path)
    for _ in range(int(sys.argv[1])):
        with contextlib.suppress(ValueError):
            program.run({**FUNCTIONS, "ASC": ord, "CHR": chr,
                         "MID": lambda text, start, length:
                             text[start - 1:start - 1 + length]},
                        lambda prompt: next(answers), io.StringIO())
"""
SOURCES = {
    "check.bas": """\
10 FOR I = 1 TO 20
20 IF I MOD 2 = 0 THEN GOSUB 100
30 CALL LEN("ABC") INTO L
40 CALL TWICE(I) INTO T
50 NEXT I
60 END
100 REM EVEN
110 LET E = I
120 RETURN
""",
    "fail.bas": """\
10 GOSUB 100
20 END
100 REM NUMBER
110 CALL INT("X") INTO A
""",
    "long.bas": """\
10 FOR I = 1 TO 1000
20 LET A = I
30 NEXT I
""",
}

# What a person gets wrong: the texts that are replaced, and what is found,
# {rule: place of the first}.
MUTANTS = {
    "no PY_RETURN at END": (
        [("    if (result == 0) {\n        result = PyMonitoring_FirePyReturn",
          "    if (result == 0 && !run->is_ending) {\n"
          "        result = PyMonitoring_FirePyReturn")],
        {"end": "check.bas:6"}),
    "PY_RETURN at RETURN and at the end of the scope": (
        [("        run->is_returning = 1;\n        return 0;",
          "        run->is_returning = 1;\n"
          "        return PyMonitoring_FirePyReturnEvent("
          "&run->program->states[ON_PY_RETURN], run->code, "
          "PyCode_LOCATION_OFFSET(run->at), Py_None);")],
        {"end": "check.bas:9:5"}),
    "no PY_UNWIND": (
        [("if (PyMonitoring_FirePyUnwindEvent(&states[ON_PY_UNWIND], code,\n"
          "                                           offset) < 0)",
          "if (0)")],
        {"end": "fail.bas:4"}),
    "no PY_START of a subroutine": (
        [("    int result = PyMonitoring_FirePyStart",
          "    int result = run->depth ? 0 : PyMonitoring_FirePyStart")],
        {"start": "check.bas:7"}),
    "no RAISE": (
        [("if (PyMonitoring_FireRaiseEvent(&states[ON_RAISE], code, offset) "
          "< 0)", "if (0)")],
        {"exception": "fail.bas:4:5"}),
    "RAISE with a line as its offset": (
        [("PyMonitoring_FireRaiseEvent(&states[ON_RAISE], code, offset)",
          "PyMonitoring_FireRaiseEvent(&states[ON_RAISE], code, "
          "run->program->locations[run->at].lineno)")],
        {"place": "fail.bas:3:5", "offset": "fail.bas:1"}),
    "LINE when the line has run": (
        [(" || fire_line(run) < 0))", "))"),
         ("    next_token(run);\n    return run_statement(run);\n",
          "    next_token(run);\n"
          "    return run_statement(run) < 0 ? -1 : fire_line(run);\n")],
        {"place": "check.bas:2:4"}),
    "LINE with the number of the text": (
        [("        program->locations[run->at].lineno);\n}\n/* [line end]",
          "        program->statements[run->at].number);\n}\n/* [line end]")],
        {"line": "check.bas:10"}),
    "an offset that is an index": (
        [("#define MAX_LINENO", "#undef PyCode_LOCATION_OFFSET\n"
          "#define PyCode_LOCATION_OFFSET(i) (i)\n#define MAX_LINENO")],
        {"offset": "check.bas:2", "branch": "check.bas:1:4",
         "place": "check.bas:2:24"}),
    "BRANCH when the condition is true": (
        [("    return branch_to(run, condition ? target : next);",
          "    run->next_at = next;\n"
          "    return condition ? branch_to(run, target) : 0;")],
        {"branch": "check.bas:2:4"}),
    "a target that is an index": (
        [("        &run->program->states[ON_BRANCH], run->code,\n"
          "        PyCode_LOCATION_OFFSET(run->at),\n"
          "        PyTuple_GET_ITEM(run->program->offsets, target));",
          "        &run->program->states[ON_BRANCH], run->code,\n"
          "        PyCode_LOCATION_OFFSET(run->at),\n"
          "        PyTuple_GET_ITEM(run->program->offsets, 0) == NULL\n"
          "        ? NULL : PyLong_FromLong(target));")],
        {"branch": "check.bas:1:4"}),
    "JUMP with the state of BRANCH": (
        [("&run->program->states[ON_JUMP]",
          "&run->program->states[ON_BRANCH]")],
        {"state": "check.bas:5:4"}),
    "no C_RETURN": (
        [("&states[ON_CALL], &states[ON_C_RETURN], &states[ON_C_RAISE]",
          "&states[ON_CALL], &none, &none"),
         ("    return PyMonitoring_Vectorcall(",
          "    PyMonitoringState none = {0};\n"
          "    return PyMonitoring_Vectorcall(")],
        {"call": "check.bas:3:4"}),
    "a new code-like for each GOSUB": (
        [("*code = run->program->statements[first].code;\n",
          "*code = new_subroutine(run->program, ((PyCodeObject *)"
          "run->program->statements[first].code)->co_name, first);\n")],
        {"identity": "check.bas:7"}),
    "a leak of the code-like": (
        [("    run->code = code;", "    run->code = Py_NewRef(code);")],
        {"leak": "check.bas:1"}),
    "a scope that is entered once": (
        [("    if (PyMonitoring_EnterScope(program->states, "
          "&program->version,\n"
          "                                event_types, N_EVENTS) < 0)\n"
          "    {\n        return -1;\n    }\n", "")],
        {"enter": "long.bas:1"}),
}


class CheckTestCase(unittest.TestCase):

    def setUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory())
        for name, text in {"driver.py": DRIVER, **SOURCES}.items():
            with open(os.path.join(self.folder, name), "w") as file:
                file.write(text)

    def run_checker(self, *arguments):
        """Run the tool in the folder; return its exit status and output."""
        done = subprocess.run(
            [sys.executable, CHECKER, *arguments], cwd=self.folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(
                [self.folder, *filter(None, sys.path)])})
        return done.returncode, done.stdout

    def check(self, *arguments):
        """Return the findings in a run of a program in the folder."""
        path = os.path.join(self.folder, "report.json")
        status, output = self.run_checker("--json", "-o", path, *arguments)
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
        self.assertEqual(status, 1 if report["findings"] else 0, output)
        self.assertEqual(report["notes"], [])
        self.assertGreater(report["events"], 0)
        return report["findings"]

    def build_mutant(self, name):
        """Build Tiny BASIC with a mistake; return what is to be found."""
        with open(os.path.join(HERE, "tinybasic.c"), encoding="utf-8") as file:
            source = file.read()
        edits, expected = MUTANTS[name]
        for old, new in edits:
            self.assertEqual(source.count(old), 1, old)
            source = source.replace(old, new)
        build(self.folder, "tinybasic", source)
        return expected


class RightTests(CheckTestCase):

    def test_tinybasic(self):
        self.assertEqual(
            self.check("driver.py", "30", *SOURCES), [])
        self.assertEqual(
            self.check("driver.py", "1", *[
                os.path.join(PROGRAMS, name)
                for name in sorted(os.listdir(PROGRAMS))]), [])

    def test_reference(self):
        build(self.folder, "twice", block(REFERENCE, "PyInit_twice"))
        with open(os.path.join(self.folder, "use.py"), "w") as file:
            file.write("import contextlib\n"
                       "from twice import twice\n"
                       "for i in range(300):\n"
                       "    with contextlib.suppress(TypeError):\n"
                       "        twice(i if i % 3 else None)\n")
        self.assertEqual(self.check("use.py"), [])


class MutantTests(CheckTestCase):

    def test_mutants(self):
        for name in MUTANTS:
            with self.subTest(name):
                expected = self.build_mutant(name)
                first = {}
                for finding in self.check("driver.py", "30", *SOURCES):
                    place = finding["place"]
                    numbers = [place["line"]]
                    if place["column"] is not None:
                        numbers.append(place["column"] + 1)
                    first.setdefault(finding["rule"], ":".join(
                        map(str, [place["file"], *numbers])))
                self.assertEqual(first, expected)


class PageTests(CheckTestCase):

    def test_report(self):
        self.build_mutant("no PY_RETURN at END")
        shutil.copy(os.path.join(PROGRAMS, "sieve.bas"), self.folder)
        status, report = self.run_checker("driver.py", "1", "sieve.bas")
        self.assertEqual((status, report),
                         (1, block(PAGE, "check_producer: ")))

    def test_rules(self):
        with open(PAGE, encoding="utf-8") as file:
            documented = re.findall(r"^   \* - ``(.*)``$", file.read(),
                                    re.MULTILINE)
        status, usage = self.run_checker("--help")
        rules = re.sub(r"\s+", " ", usage).partition("rules: ")[2]
        self.assertEqual(documented, rules.strip().split(", "))


if __name__ == "__main__":
    unittest.main()
