"""The commands of the header."""

from compat import compat
from series import builder
from series.common import say
from series.workspace import ROOT, build_folder, lock


def test():
    """Test the header on every CPython from 3.12 on that is here."""
    builder.check_prerequisites("g++")
    lock()
    return compat.test_compat(build_folder())


def write_readme():
    """Put the table of the header's promises into its README."""
    compat.TABLE.put(ROOT, compat.readme_table())
    say("table", compat.TABLE.page)


COMMANDS = {
    "compat": test,
    "compat-readme": write_readme,
}
