"""The programs that tools look at, as each column of the table has them.

Each is in two languages, its own and Python: what a tool says of the latter is
what it has to say of the former.
"""

from pathlib import Path
import re
import shutil
import signal
import subprocess

from series import builder
from series.common import (SeriesError, clean_environment, output_of,
                           status_of)
from series.workspace import ROOT

FUNCTION = re.compile(r" *(async def|c?p?def(?! class\b)).*\(.*:")
FOLDER = Path(__file__).with_name("programs")
EXAMPLE = ROOT / builder.EXAMPLE
CYTHON = "cython==3.3.1"
# As Cython's documentation has them; the second is for the lines of nogil.
CFLAGS = ("-DCYTHON_TRACE=1", "-DCYTHON_TRACE_NOGIL=1",
          "-DCYTHON_USE_SYS_MONITORING=1")
# How long a tool may take over a program that takes it a second or two.
TIMEOUT = 60


class Ended(Exception):
    """A tool or the program ended in another way than it should."""


class Column:
    """An interpreter, and how extensions are compiled for it."""

    def __init__(self, name, title, python, source, build, *flags):
        self.name = name
        self.title = title
        self.python = python            # of an environment with the tools
        self.includes = [f"-I{source / 'Include'}", f"-I{build}"]
        self.flags = flags
        self.suffix = output_of(
            [python, "-c", "import sysconfig; "
             "print(sysconfig.get_config_var('EXT_SUFFIX'))"],
            env=clean_environment()).decode().strip()

    def compile(self, folder, name, source, *flags):
        """Compile an extension module."""
        log = folder / "gcc.log"
        if status_of(["gcc", "-shared", "-fPIC", "-O1", *self.includes,
                      "-Werror=implicit-function-declaration", *self.flags,
                      *flags, "-o", folder / (name + self.suffix), source],
                     log):
            raise Ended("does not build")


class Subject:
    """A folder with a program, and the Python that runs it there."""

    has_lines = True        # there are events of them

    def __init__(self, language, folder, python, lines, starts, is_python,
                 **environment):
        self.language = language
        self.folder = folder
        self.python = python
        # {line of the module: that of the foreign one}, and the same of lines
        # that functions start with.
        self.lines = lines
        self.starts = starts
        self.environment = environment
        self.script = folder / language.script.name
        self.is_python = is_python      # and not in the foreign language

    def run(self, log, *command, text="", statuses=(0,), **environment):
        """Run the environment's Python; return what it prints.

        An exit status that is none of these raises Ended, which says why in
        short.
        """
        with open(log, "wb") as file:
            process = subprocess.Popen(
                [self.python, *command], cwd=self.folder, stdout=file,
                stderr=subprocess.STDOUT, stdin=subprocess.PIPE,
                env=clean_environment(**self.environment, **environment))
            try:
                process.communicate(text.encode(), TIMEOUT)
                status = process.returncode
            except subprocess.TimeoutExpired:
                status = None
            finally:
                process.kill()
                process.wait()
        printed = log.read_text(errors="replace")
        if status not in statuses:
            raise Ended(describe(status, printed))
        return printed

    @property
    def module(self):
        """The file of the module as this subject has it."""
        language = self.language
        return self.folder / (language.twin if self.is_python
                              else language.module.name)

    def line_of(self, text):
        """Return the number that a line of the foreign module has here."""
        number = self.language.line_of(text)
        return next(line for line, foreign in self.lines.items()
                    if foreign == number)

    def place(self, path, line):
        """Return (file, line) as both languages have it, or None if it is
        none that is looked at."""
        return self.find(path, line, self.lines)

    def start(self, path, line):
        """Return (file, line) for the first line of a function, or None."""
        return self.find(path, line, self.starts)

    def find(self, path, line, known):
        stem = Path(path).stem
        if stem == self.language.module.stem and line in known:
            return stem, known[line]
        return (stem, line) if stem == self.script.stem else None

    def function(self, path, line, name):
        """Return a function as both languages have it, or None."""
        place = self.start(path, line)
        if place is None or name == "<module>":
            return None
        # What a class or a function around it is called Cython does not say.
        return "%s %d %s" % (*place, name.rpartition(".")[2])


def describe(status, printed):
    """Say in short how a tool ended."""
    error = re.findall(r"^(?:\w+\.)*(\w+(?:Error|Warning))\b", printed,
                       re.MULTILINE)
    if status is not None and status < 0:
        return f"crash ({signal.Signals(-status).name})"
    if error:
        return f"wrong: {error[-1]}"
    if " as Python source: " in printed:
        return "wrong: parsed as Python"
    return "wrong: hangs" if status is None else f"wrong: status {status}"


class Language:
    """A program in one language and in Python."""

    def __init__(self, name, title, script, module, twin):
        self.name = name
        self.title = title
        self.script = FOLDER / script       # of Python around the module
        self.module = FOLDER / module
        self.twin = twin                    # the module in Python
        # The (file, line) of functions that are none for Python code, and of
        # generators and coroutines.
        self.hidden = self.generators = frozenset()

    def fill(self, folder):
        """Make a folder with the program but for the module itself."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file in (self.script, self.module, *FOLDER.glob("*_coverage.py")):
            shutil.copy(file, folder)

    def line_of(self, text):
        """Return the number of the only line of the module that is the text.
        """
        lines = [line.partition("#:")[0].strip()
                 for line in self.module.read_text().splitlines()]
        if lines.count(text) != 1:
            raise SeriesError(f"{self.module} is to have one line {text!r}")
        return lines.index(text) + 1


class Cython(Language):
    """Lines of the source that end in #: and text are that text in Python.

    Cython is run as it is, or through patched.py.
    """

    def __init__(self, *client, title=f"a module of {CYTHON}"):
        super().__init__("Cython", title, "around.py", "shapes.pyx",
                         "shapes.py")
        self.client = client or ("-m", "cython")
        self.plugin = "Cython.Coverage"
        self.source = Source(self.module)
        self.hidden = self.source.hidden
        self.generators = self.source.generators

    def subject(self, column, folder):
        self.fill(folder)
        output_of([column.python, *self.client, self.module.name],
                  cwd=folder, env=clean_environment())
        column.compile(folder, self.module.stem,
                       folder / self.module.with_suffix(".c").name, *CFLAGS)
        return Subject(self, folder, column.python,
                       self.source.lines, self.source.starts, False)

    def python_subject(self, column, folder):
        self.fill(folder)
        (folder / self.module.name).unlink()
        (folder / self.twin).write_text(re.sub(
            r"^( *)[^\n]*#: ?(.*)$", r"\1\2", self.module.read_text(),
            flags=re.MULTILINE))
        return Subject(self, folder, column.python,
                       self.source.lines, self.source.starts, True)


class Source:
    """The lines of the module of Cython, by what they are.

    Of lines that run once, when the module is imported, Cython signals some
    only; they are not looked at.  A cdef that is no function is none for
    Python.
    """

    def __init__(self, path):
        self.lines = {}
        self.starts = {}
        self.hidden = set()         # of functions that are none for Python
        self.generators = set()     # and coroutines
        in_class = ()
        function = []
        for number, line in enumerate(path.read_text().splitlines(), 1):
            depth = len(line) - len(line.lstrip())
            words = line.split()
            if FUNCTION.match(line):
                self.starts[number] = number
                function = []
                is_hidden = (words[0] == "cdef"
                             or "cdef" in in_class and "def __" in line)
            function.append((path.stem, number))
            if "yield" in words or words[:1] == ["async"]:
                self.generators.update(function)
            if words and not depth:
                in_class = words if "class" in words else ()
            elif words and not (in_class and depth == 4
                                or words[0] == "cdef"):
                self.lines[number] = number
                if is_hidden:
                    self.hidden.add(function[-1])
            if function[0] in self.generators:
                self.generators.add(function[-1])


class Basic(Language):
    """The lines of the program in Python end in the numbers of the lines."""

    def __init__(self):
        super().__init__("Basic", "a program of Tiny BASIC", "basic.py",
                         "counting.bas", "counting.py")
        self.plugin = "basic_coverage"

    def subject(self, column, folder):
        self.fill(folder)
        column.compile(folder, "tinybasic", EXAMPLE / "tinybasic.c")
        return Subject(self, folder, column.python, *self.own_lines(), False)

    def python_subject(self, column, folder):
        self.fill(folder)
        for name in (self.twin, "tinybasic.py"):
            shutil.copy(FOLDER / name, folder)
        return Subject(self, folder, column.python, *self.python_lines(), True)

    def own_lines(self):
        lines = {line: line for line in range(1, 1 + len(
            self.module.read_text().splitlines()))}
        return lines, lines

    def python_lines(self):
        numbers = [line.partition(" ")[0]
                   for line in self.module.read_text().splitlines()]
        lines = {}
        starts = {}
        start = None
        for number, line in enumerate(
                (FOLDER / self.twin).read_text().splitlines(), 1):
            label = line.rpartition("# ")[2]
            if line.startswith("def "):
                start = number
            elif label in numbers:
                lines[number] = numbers.index(label) + 1
                starts.setdefault(start, lines[number])
        return lines, starts
