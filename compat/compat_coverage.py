"""The header under coverage: what COVERAGE_CORE=sysmon sees of foreign code."""

import json
import subprocess

from series.common import clean_environment, say
from series.environments import make_environment
from series.testing import Outcome

COVERAGE = "coverage>=7.7"
# The pure Python one is for every interpreter.
OPTIONS = ("--platform", "any", "--only-binary=:all:", "--no-deps")

PROGRAM = """\
import _monitoring_layer as layer
lines = [(1, 1, 0, 3), (2, 2, 0, 3), (3, 3, 0, 5)]
code = layer.code_newwithlocations("page.src", "page", None, 1, lines)
layer.one_state_each(code, lambda: None)
"""
READ = """
import coverage, json, os
data = coverage.CoverageData()
data.read()
print(json.dumps({os.path.basename(name): data.lines(name)
                  for name in data.measured_files()}))
"""
EXPECTED = {"program.py": [1, 2, 3, 4], "page.src": [1, 2]}


def install(build, pythons):
    """Return where coverage is, or None, having said so, without a package
    index."""
    directory = build.resolve() / "compat/coverage"
    log = directory.with_suffix(".log")
    packages = directory / "packages"
    if make_environment(directory, pythons, log, "--upgrade", "--target",
                        packages, *OPTIONS, COVERAGE) is None:
        say("skipped", f"coverage: no package index gives {COVERAGE}, "
            f"see {log}")
        return None
    return packages


def test_coverage(python, packages, directory, where):
    """Run a program that has two of the three lines of a page run."""
    (directory / "program.py").write_text(PROGRAM)
    (directory / "page.src").write_text("one\ntwo\nthree\n")
    (directory / ".coverage").unlink(missing_ok=True)
    environment = clean_environment(PYTHONPATH=str(packages),
                                    COVERAGE_CORE="sysmon")
    found = None
    for arguments in (("-m", "coverage", "run", "program.py"), ("-c", READ)):
        done = subprocess.run([python, *arguments], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, cwd=directory,
                              env=environment)
        found = done.stdout.decode(errors="replace").strip()
        if done.returncode:
            break
    else:
        # Of an interpreter in its build tree, the library counts too.
        found = {name: sorted(lines)
                 for name, lines in json.loads(found).items()
                 if name in EXPECTED}
    if found == EXPECTED:
        return Outcome(1, 0, [])
    return Outcome(0, 0, [f"coverage on {where}: {found}"])
