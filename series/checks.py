"""Proofs about the series that need a built interpreter."""

import re
import shutil

from series import builder, export, testing, tree
from series.common import SeriesError, say

# Left out, because they change or need more than the pristine base has:
# regen-unicodedata and regen-sbom fetch files, regen-configure runs a
# container, regen-abidump and regen-jit need tools of their own.
REGENERATION = ("regen-all", "regen-limited-abi", "regen-stdlib-module-names")


def check_quick(series, base, build):
    """Check all that one debug build allows."""
    export.check_export(series, base, build)
    python = builder.build_python(build, "debug", "--with-pydebug").resolve()
    builder.make(build / "debug", "smelly")
    say("checked", "no exported symbol without CPython's prefix")
    copy = copy_build(build)
    check_regeneration(build, copy, python)
    check_globals(series, build, copy, python)
    shutil.rmtree(copy)


def copy_build(build):
    """Copy the patched tree and its debug build, so that both stay clean."""
    copy = build / "regen"
    shutil.rmtree(copy, ignore_errors=True)
    for name in ("src", "debug"):
        shutil.copytree(build / name, copy / name, symlinks=True,
                        ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def check_regeneration(build, copy, python):
    """Check that CPython's generators leave every file as it is.

    Some of them write the path of their source into what they generate, and
    write the right one only if srcdir is absolute.
    """
    builder.make(copy / "debug", *REGENERATION,
                 f"srcdir={(copy / 'src').resolve()}",
                 f"PYTHON_FOR_REGEN={python}")
    different = tree.differences(build / "src", copy / "src")
    if different:
        raise SeriesError(f"regeneration changes {', '.join(different)}: "
                          f"put its result into the series")
    say("checked", f"{', '.join(REGENERATION)} change nothing")


def check_globals(series, build, copy, python):
    """Check that the C files of the series have no new global variable.

    The whole of CPython can be analysed only where the headers of every
    library that a module may use are installed; its own headers say what types
    are.
    """
    source = copy / "src"
    shutil.copy(build / "debug/pyconfig.h", source)
    headers = sorted(path.relative_to(source).as_posix()
                     for folder in ("Include", "Include/internal")
                     for path in (source / folder).glob("*.h"))
    files = sorted(path for path in series.touched()
                   if re.match(r"(Modules|Objects|Parser|Python)/.*\.c$", path))
    builder.run_logged([str(python), "Tools/c-analyzer/check-c-globals.py",
                        "--format", "summary", *headers, *files],
                       source, "check-c-globals")
    say("checked", f"no new global variable in {', '.join(files)}")


def check_prefixes(series, base, build):
    """Build and test the first patch, the first two, and so on."""
    tally = testing.Tally(build)
    place = build / "prefix"
    for count, patch in enumerate(series.patches, 1):
        changed = tree.patched_files(series, base, count)
        tree.write_tree(base, changed, place / "src")
        python = builder.build_python(build, "prefix/debug",
                                      "--with-pydebug", source="prefix/src")
        testing.test_interpreter(tally, python, f"{count}-{patch.slug}",
                                 place / "src")
    if tally.finish():
        raise SeriesError("a prefix of the series fails its tests")
