"""The base: where it comes from and what is checked."""

from fnmatch import fnmatchcase
import os
from pathlib import Path
import re
import shutil
import subprocess
import tarfile

from series.common import SeriesError, clean_environment, file_sha256, say
from series.manifest import Series, walk

APT_HELPER = "/usr/lib/apt/apt-helper"
VERSION_HEADER = "Include/patchlevel.h"

# What a build within a source directory leaves there.
BUILD_PRODUCTS = (
    "*.o", "*.a", "*.so", "*.so.*", "*.gcda", "*.gcno", "*.pyc",
    "Makefile", "Makefile.pre", "config.cache", "config.log", "config.status",
    "pyconfig.h", "pybuilddir.txt", "platform", "python", "python.exe",
    "python-config*", "python*-gdb.py", "libpython*", "_bootstrap_python",
    "build/*", "tags", "TAGS", "profile-*-stamp", "jit_stencils*.h",
    "Include/pydtrace_probes.h",
    "Misc/python.pc", "Misc/python-embed.pc", "Misc/python-config.sh",
    "Modules/Setup.bootstrap", "Modules/Setup.local", "Modules/Setup.stdlib",
    "Modules/config.c", "Modules/ld_so_aix",
    "Programs/_freeze_module", "Programs/_testembed",
    "Python/deepfreeze/*", "Python/frozen_modules/*.h",
    "Python/frozen_modules/MANIFEST",
    "Doc/build/*", "Doc/venv/*",
)


class NoBase(SeriesError):
    """A pinned base that this machine cannot get."""

    status = 3


class Base:
    """A directory that holds a CPython."""

    def __init__(self, root, series_root):
        self.root = Path(root)
        # Begins the paths of the series if it lies within the base, none else.
        self.series = os.path.relpath(series_root.resolve(),
                                      self.root.resolve()) + "/"

    def files(self):
        """Return the paths of the source files.

        An editor's lock, for one, is a symlink to nothing.
        """
        return [path for path in walk(self.root)
                if not path.startswith(self.series)
                and not any(fnmatchcase(path, pattern)
                            for pattern in BUILD_PRODUCTS)
                and (self.root / path).is_file()]

    def version(self):
        """Return the version that Include/patchlevel.h gives."""
        header = self.root / VERSION_HEADER
        if not header.is_file():
            raise SeriesError(f"{self.root}: is not a CPython source tree, "
                              f"it has no {VERSION_HEADER}")
        return version_in(header.read_bytes())

    def check(self, series):
        """Check each file that the series touches."""
        for path in series.touched():
            self.check_file(path, series)

    def check_file(self, path, series):
        """Check that one stock file is as pinned, or absent if it is new.

        Where no digest is, what edits change is theirs to check.
        """
        file = self.root / path
        ours = series.root / path
        wanted = series.digests(path)
        actual = file_sha256(file) if file.is_file() else None
        if actual in wanted or actual is None and not wanted:
            return
        if actual and ours.is_file() and actual == file_sha256(ours):
            raise SeriesError(f"{file}: is the series' own, so the tree "
                              f"already carries the series")
        if not wanted:
            raise SeriesError(f"{file}: exists, but the series adds it")
        if actual is None:
            raise SeriesError(f"{file}: does not exist, but the series "
                              f"needs it")
        if series.base is None and path in series.edited() | set(series.parts):
            return
        versions = series.version if series.base else series.tested
        raise SeriesError(f"{file}: is not that of CPython {versions}, its "
                          f"SHA-256 is {actual} instead of "
                          f"{' or '.join(wanted)}")


def find_base(root, build, given, wanted):
    """Return the series for a base, the base, checked, and its build folder.

    given is the value of CPYTHON=, wanted that of BASE=, or empty.
    """
    series, base, folder = locate_base(root, build, given, wanted)
    base.check(series)
    untested = f", which is not tested, as {series.tested} is"
    say("base", f"{base.root}, CPython {series.version}"
                f"{untested if series.base is None else ''}")
    return series, base, folder


def locate_base(root, build, given, wanted):
    """Return what find_base() does, with nothing checked but the version and
    the digest of an archive."""
    if not given:
        series = Series(root, wanted)
        if series.base is None:
            raise SeriesError(f"BASE={wanted}: is not {series.tested}, any "
                              f"other needs CPYTHON=PATH")
    elif Path(given).is_dir():
        series = Series(root, Base(given, root).version())
    else:
        series = Series(root, archived_version(Path(given), root))
    if wanted and wanted != series.version:
        raise SeriesError(f"CPYTHON={given}: is CPython {series.version}, not "
                          f"BASE={wanted}")
    folder = series.build_folder(build)
    if given and Path(given).is_dir():
        return series, Base(given, root), folder
    target = folder / "base"
    if series.base is None:
        # No pin says whether what was extracted before is the same.
        target = folder / f"base-{file_sha256(given)[:12]}"
    elif given:
        check_archive(Path(given), series.base)
    if not target.exists():
        extract(Path(given) if given else find_archive(series.base, folder),
                target)
    return series, Base(target, root), folder


def version_in(header):
    """Return the version that the text of a patchlevel.h gives."""
    found = re.search(rb'#define\s+PY_VERSION\s+"([^"]*)"', header)
    return found.group(1).decode() if found else "without a version"


def archived_version(path, root):
    """Return the version of an archive."""
    if not path.is_file():
        raise SeriesError(f"CPYTHON={path}: no such file or directory")
    digest = file_sha256(path)
    for base in Series(root).bases:
        if base["sha256"] == digest:
            return base["version"]
    try:
        with tarfile.open(path) as members:
            for member in members:
                if in_source(member) == VERSION_HEADER:
                    return version_in(members.extractfile(member).read())
    except Exception as error:      # each decompressor has errors of its own
        raise SeriesError(f"{path}: cannot be unpacked: {error}") from None
    raise SeriesError(f"{path}: is no archive of CPython, it has no "
                      f"{VERSION_HEADER}")


def check_archive(path, pin):
    """Check the digest of an archive."""
    digest = file_sha256(path)
    if digest != pin["sha256"]:
        raise SeriesError(f"{path}: is truncated or not {pin['archive']}, its "
                          f"SHA-256 is {digest} instead of {pin['sha256']}")


def find_archive(pin, folder):
    """Return the archive in a build folder, downloaded if it is not there."""
    archive = folder / pin["archive"]
    if archive.is_file() and file_sha256(archive) == pin["sha256"]:
        return archive
    folder.mkdir(parents=True, exist_ok=True)
    addresses = [f"{repository.rstrip('/')}/{pin['pool']}"
                 for repository in repositories()]
    partial = archive.with_name(archive.name + ".partial")
    fetched = fetch(addresses, partial, pin["sha256"])
    if not fetched and partial.exists():
        # What is there from an earlier run cannot be continued.
        partial.unlink()
        fetched = fetch(addresses, partial, pin["sha256"])
    if not fetched:
        raise NoBase(
            f"{pin['archive']} is in no Debian repository that this machine "
            f"reaches: give its path, or that of a CPython {pin['version']} "
            f"source directory, with CPYTHON=PATH")
    partial.rename(archive)
    return archive


def fetch(addresses, partial, digest):
    """Get a file from the first address that has it; say whether one has.

    Apt's helper continues a partial file.
    """
    helper = shutil.which("apt-helper") or shutil.which(APT_HELPER)
    for address in addresses if helper else ():
        say("download", partial.stem)
        status = subprocess.run(
            [helper, "download-file", address, str(partial),
             f"SHA256:{digest}"], stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env=clean_environment()).returncode
        if (status == 0 and partial.is_file()
                and file_sha256(partial) == digest):
            return True
    return False


def repositories():
    """Return the addresses of the package repositories that apt uses."""
    try:
        result = subprocess.run(
            ["apt-get", "indextargets", "--no-release-info",
             "--format", "$(REPO_URI)", "Created-By: Packages"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            universal_newlines=True, env=clean_environment())
    except FileNotFoundError:
        return []
    addresses = []
    for address in result.stdout.split():
        if address.startswith("mirror+file:"):
            addresses += mirrors(address[len("mirror+file:"):])
        else:
            addresses.append(address)
    return list(dict.fromkeys(addresses))


def mirrors(path):
    """Return the addresses in a mirror list, whose lines may carry more."""
    path = Path("/" + path.lstrip("/"))
    if not path.is_file():
        return []
    lines = [line.split() for line in path.read_text().splitlines()]
    return [words[0] for words in lines
            if words and not words[0].startswith("#")]


def extract(archive, target):
    """Unpack the archive to a directory that appears only when whole."""
    say("extract", archive.name)
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with tarfile.open(archive) as members:
            for member in members:
                extract_member(members, member, partial)
    except Exception as error:      # each decompressor has errors of its own
        raise SeriesError(f"{archive}: cannot be unpacked: {error}") from None
    partial.rename(target)


def in_source(member):
    """Return the path of a member of an archive, without its first folder."""
    return "/".join(member.name.split("/")[1:])


def extract_member(members, member, target):
    """Write one file of the archive, without its first folder.

    Owners are left alone, and the time is kept for the sake of make.
    """
    path = target / in_source(member)
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
    elif member.isfile():
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            shutil.copyfileobj(members.extractfile(member), file)
        path.chmod(0o755 if member.mode & 0o100 else 0o644)
        os.utime(path, (member.mtime, member.mtime))
