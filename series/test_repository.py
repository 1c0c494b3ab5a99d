"""Tests of the files of the series, in the tree that make writes."""

from pathlib import Path
import re
import subprocess
import tempfile
import unittest
from xml.etree import ElementTree

from series import manifest
from series.fixture import write
from series.workspace import ROOT, build_folder

WINDOWS_PROJECTS = {
    "Include/": ("pythoncore",),
    "Modules/_testcapi/": ("_testcapi",),
    "Objects/": ("pythoncore", "_freeze_module"),
    "Parser/": ("pythoncore", "_freeze_module"),
    "Python/": ("pythoncore", "_freeze_module"),
}


def built_files(source, touched):
    """Return the C files of the series that the Makefile uses.

    That is what the Makefile installs of Include/ or compiles; a header in
    Include/cpython/ brings the one that includes it.
    """
    makefile = (source / "Makefile.pre.in").read_text(encoding="utf-8")
    modules = (source / "Modules/Setup.stdlib.in").read_text(encoding="utf-8")
    files = {path.replace("cpython/", "") for path in touched
             if path.startswith("Include/cpython/")} | set(touched)
    found = set()
    for path in files:
        if path.startswith("Include/") and path.endswith(".h"):
            named = f"$(srcdir)/{path}" in makefile
        elif path.startswith("Modules/") and path.endswith(".c"):
            named = path[len("Modules/"):] in modules.split()
        else:
            named = (path.endswith(".c")
                     and path[:-len(".c")] + ".o" in makefile.split())
        if named:
            found.add(path)
    return found


def missing_on_windows(source, files):
    """Return 'FILE in PROJECT' for what the Windows projects do not name."""
    missing = []
    for path in sorted(files):
        folder = max((prefix for prefix in WINDOWS_PROJECTS
                      if path.startswith(prefix)), key=len)
        names = [name + suffix for name in WINDOWS_PROJECTS[folder]
                 if not path.endswith(".h") or name != "_freeze_module"
                 for suffix in (".vcxproj", ".vcxproj.filters")]
        tag = "ClInclude" if path.endswith(".h") else "ClCompile"
        for name in names:
            # Not every project file of the base is well-formed XML.
            project = (source / "PCbuild" / name).read_text("utf-8-sig")
            item = "..\\" + path.replace("/", "\\")
            if f'<{tag} Include="{item}"' not in project:
                missing.append(f"{path} in {name}")
    return missing


# What the README's producer lacks, and a program that runs it.
README_MODULE = """
#include <Python.h>
PRODUCER
static PyMethodDef methods[] = {
    {"repeat", repeat, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}
};

static PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "readme", .m_methods = methods,
};

PyMODINIT_FUNC
PyInit_readme(void)
{
    return PyModuleDef_Init(&module);
}
"""
README_PROGRAM = """
import _testcapi
import readme

code = _testcapi.code_newwithlocations("readme.src", "repeat", None, 42,
                                       [(42, 42, 0, 8)])
for i in range(20):
    readme.repeat(code, 59)
"""

NEWS_NAME = re.compile(r"Misc/NEWS\.d/next/([^/]+)/\d{4}-\d\d-\d\d-\d\d-\d\d-"
                       r"\d\d\.gh-issue-\d+\.[A-Za-z0-9_-]{6}\.rst")


def news_problem(path, text, sections):
    """Say what blurb would have against a NEWS entry, or None."""
    name = NEWS_NAME.fullmatch(path)
    if not name:
        return "is not named as blurb names entries"
    if name.group(1) not in sections:
        return f"{name.group(1)} is not a section of Misc/NEWS"
    if not text.strip() or not text.endswith("\n"):
        return "is empty or does not end with a newline"
    if text.startswith(("- ", "\n")):
        return "starts with a list item or a blank line"
    if any(len(line) > 79 for line in text.splitlines()):
        return "has a line of more than 79 characters"
    return None


def news_sections(text):
    """Return blurb's folder names for the sections of Misc/NEWS."""
    titles = re.findall(r"^([A-Za-z/ ]+)\n-+$", text, re.MULTILINE)
    return {title.replace(" ", "_").replace("/", "-") for title in titles}


class RepositoryTest(unittest.TestCase):
    """The patched tree of this repository, which make writes."""

    @classmethod
    def setUpClass(cls):
        cls.series = manifest.Series(ROOT)
        cls.build = build_folder()
        cls.source = cls.build / "src"
        if not cls.source.is_dir():
            raise AssertionError(f"{cls.source} does not exist: run make test")

    def test_windows_projects_name_what_the_makefile_builds(self):
        # What Argument Clinic generates is named in neither.
        touched = [path for path in self.series.touched()
                   if re.search(r"\.[ch]$", path)
                   and not path.startswith("Doc/") and "/clinic/" not in path]
        files = built_files(self.source, touched)
        self.assertGreaterEqual(files, set(touched))
        self.assertEqual(missing_on_windows(self.source, files), [])

    def test_windows_projects_keep_their_line_ends(self):
        for path in self.series.touched():
            if path.startswith("PCbuild/"):
                data = (self.source / path).read_bytes()
                self.assertEqual(data.count(b"\n"), data.count(b"\r\n"),
                                 path)

    def test_windows_projects_stay_xml(self):
        for path in self.series.touched():
            if path.startswith("PCbuild/"):
                try:
                    ElementTree.parse(self.build / "base" / path)
                except ElementTree.ParseError:
                    continue        # CPython's own mistake
                ElementTree.parse(self.source / path)

    def test_news_entries(self):
        news = (self.source / "Misc/NEWS").read_text(encoding="utf-8")
        entries = [path for path in self.series.touched()
                   if path.startswith("Misc/NEWS.d/")]
        self.assertTrue(entries)
        for path in entries:
            text = (self.source / path).read_text(encoding="utf-8")
            self.assertIsNone(
                news_problem(path, text, news_sections(news)), path)

    def test_readme_fits(self):
        lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
        self.assertLessEqual(len(lines), 220)

    def test_readme_shows_a_producer_that_is_right(self):
        python = next((self.build / name / "python"
                       for name in ("debug", "release")
                       if (self.build / name / "python").is_file()), None)
        if python is None:
            self.skipTest("there is no build")
        shown, = re.findall(r"^```c\n(.*?)^```$", (ROOT / "README.md")
                            .read_text(encoding="utf-8"), re.M | re.S)
        with tempfile.TemporaryDirectory() as folder:
            self.run_checked(
                ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-shared",
                 "-fPIC", f"-I{self.source / 'Include'}",
                 f"-I{python.parent}", "-o", f"{folder}/readme.so", "-xc",
                 "-"], README_MODULE.replace("PRODUCER", shown))
            program = Path(folder, "program.py")
            program.write_text(README_PROGRAM)
            report = self.run_checked(
                [python.resolve(),
                 self.source / "Tools/monitoring/check_producer.py", program])
            self.assertIn("1,220 events of 1 code-like", report)

    def run_checked(self, command, text=""):
        result = subprocess.run(command, input=text, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)
        self.assertEqual(result.returncode, 0, result.stdout)
        return result.stdout

    def test_messages(self):
        for patch in self.series.patches:
            lines = patch.message.splitlines()
            self.assertTrue(lines[0].startswith("gh-111997: "), patch.slug)
            self.assertIn("can be dropped when", patch.message)
            self.assertLessEqual(max(map(len, lines)), 79, patch.slug)


class WindowsCheckTest(unittest.TestCase):
    """The check of the Windows projects sees what is missing."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.source = Path(folder.name)
        write(self.source / "Makefile.pre.in",
              b"\t\t$(srcdir)/Include/a.h \\\n\t\tPython/b.o \\\n")
        write(self.source / "Modules/Setup.stdlib.in",
              b"_testcapi _testcapimodule.c _testcapi/c.c\n")
        for name in ("pythoncore", "_freeze_module", "_testcapi"):
            for suffix in ("", ".filters"):
                write(self.source / f"PCbuild/{name}.vcxproj{suffix}",
                      b'<p xmlns="x"><ClInclude Include="..\\Include\\a.h"/>'
                      b'<ClCompile Include="..\\Python\\b.c"/></p>')

    def test_built_files(self):
        self.assertEqual(
            built_files(self.source, ["Include/cpython/a.h", "Python/b.c",
                                      "Python/unused.c", "Modules/x.c",
                                      "Modules/_testcapi/c.c"]),
            {"Include/a.h", "Python/b.c", "Modules/_testcapi/c.c"})

    def test_missing(self):
        self.assertEqual(
            missing_on_windows(self.source, ["Include/a.h", "Python/b.c",
                                             "Include/cpython/a.h",
                                             "Modules/_testcapi/c.c"]),
            ["Include/cpython/a.h in pythoncore.vcxproj",
             "Include/cpython/a.h in pythoncore.vcxproj.filters",
             "Modules/_testcapi/c.c in _testcapi.vcxproj",
             "Modules/_testcapi/c.c in _testcapi.vcxproj.filters"])


class NewsCheckTest(unittest.TestCase):
    """The check of the NEWS entries sees what is wrong."""

    PATH = ("Misc/NEWS.d/next/C_API/"
            "2025-06-01-10-20-30.gh-issue-111997.aB3-_x.rst")
    SECTIONS = news_sections("Title\n=====\n\nC API\n-----\n\nTools/Demos\n"
                             "-----------\n\n- gh-1: x\n")

    def problem(self, path=PATH, text="Text.\n"):
        return news_problem(path, text, self.SECTIONS)

    def test_sections(self):
        self.assertEqual(self.SECTIONS, {"C_API", "Tools-Demos"})

    def test_good(self):
        self.assertIsNone(self.problem())

    def test_bad(self):
        for path, text in (
                (self.PATH.replace("C_API", "C API"), "Text.\n"),
                (self.PATH.replace("gh-issue-", "bpo-"), "Text.\n"),
                (self.PATH.replace("-30.", "."), "Text.\n"),
                (self.PATH.replace("aB3-_x", "aB3"), "Text.\n"),
                (self.PATH, ""), (self.PATH, "Text."),
                (self.PATH, "- Text.\n"), (self.PATH, "\nText.\n"),
                (self.PATH, "x" * 80 + "\n")):
            self.assertIsNotNone(self.problem(path, text), (path, text))
