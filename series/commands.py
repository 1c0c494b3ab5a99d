"""The commands of the patch queue."""

import os

from series import builder, checks, docs, export, variants
from series.base import locate_base
from series.common import SeriesError
from series.rooms import help_text
from series.workspace import BUILD, ROOT, lock, prepare


def run():
    """Find CPython, apply the series, build it, run the example's report."""
    builder.check_prerequisites()
    build = prepare()[-1]
    builder.run_report(build, builder.build_python(build, "release"))


def show_help():
    """Say what there is to do."""
    print(help_text(ROOT), end="")


def write_tree():
    """Find CPython and apply the series, but build nothing."""
    prepare()


def export_patches():
    """Write the patches for git am to build/series."""
    builder.check_prerequisites("git")
    export.export(*prepare())


def write_variants():
    """Adapt the edits to BASE=VERSION, which series.json names."""
    builder.check_prerequisites("git")
    lock()
    first_base = locate_base(ROOT, BUILD, None, None)[1]
    variants.write_variants(first_base, *locate_base(
        ROOT, BUILD, os.environ.get("CPYTHON"), os.environ.get("BASE")))


def check():
    """Prove what the patches promise, each prefix of the series tested."""
    builder.check_prerequisites("git", "g++")
    prepared = prepare()
    checks.check_quick(*prepared)
    checks.check_prefixes(*prepared)


def check_quick():
    """Prove what they promise but for the prefixes."""
    builder.check_prerequisites("git")
    checks.check_quick(*prepare())


def build_docs():
    """Build the pages of the series as HTML."""
    docs.build_docs(*prepare())


def install():
    """Install the patched interpreter, with prefix=P and perhaps DESTDIR=D."""
    prefix = os.environ.get("prefix", "")
    destination = os.environ.get("DESTDIR", "")
    if not os.path.isabs(prefix):
        raise SeriesError("make install needs prefix=DIRECTORY, an absolute "
                          "path")
    if destination:
        destination = os.path.abspath(destination)
    builder.check_prerequisites()
    series, _, build = prepare()
    builder.install(build, os.path.normpath(prefix), destination,
                    series.version)


COMMANDS = {
    "all": run,
    "help": show_help,
    "tree": write_tree,
    "series": export_patches,
    "variants": write_variants,
    "check-series": check,
    "check-series-quick": check_quick,
    "docs": build_docs,
    "install": install,
}
