"""The pinned base: where it comes from and what is checked."""

from fnmatch import fnmatchcase
import os
from pathlib import Path
import re
import shutil
import subprocess
import tarfile

from series.common import SeriesError, clean_environment, file_sha256, say
from series.manifest import walk

APT_HELPER = "/usr/lib/apt/apt-helper"

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


class Base:
    """A directory that holds the pinned CPython."""

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

    def check(self, series):
        """Check the version and each file that the series touches."""
        version = self.version()
        if version != series.base["version"]:
            raise SeriesError(f"{self.root}: is CPython {version}, the series "
                              f"needs {series.base['version']}")
        for path in series.touched():
            self.check_file(path, series)

    def version(self):
        """Return the version that Include/patchlevel.h gives."""
        header = self.root / "Include/patchlevel.h"
        if not header.is_file():
            raise SeriesError(f"{self.root}: is not a CPython source tree, "
                              f"it has no Include/patchlevel.h")
        found = re.search(r'#define\s+PY_VERSION\s+"([^"]*)"',
                          header.read_text(encoding="utf-8"))
        return found.group(1) if found else "without a version"

    def check_file(self, path, series):
        """Check that one stock file is as pinned, or absent if it is new."""
        file = self.root / path
        ours = series.root / path
        wanted = series.stock.get(path)
        actual = file_sha256(file) if file.is_file() else None
        if actual == wanted:
            return
        if actual and ours.is_file() and actual == file_sha256(ours):
            raise SeriesError(f"{file}: is the series' own, so the tree "
                              f"already carries the series")
        if wanted is None:
            raise SeriesError(f"{file}: exists, but the series adds it")
        if actual is None:
            raise SeriesError(f"{file}: does not exist, but the series "
                              f"needs it")
        raise SeriesError(f"{file}: is not that of CPython "
                          f"{series.base['version']}, its SHA-256 is "
                          f"{actual} instead of {wanted}")


def find_base(series, build, given):
    """Return the checked base; given is the value of CPYTHON=, or empty."""
    if given and Path(given).is_dir():
        base = Base(given, series.root)
    else:
        base = Base(build / "base", series.root)
        if given:
            check_archive(Path(given), series)
        if not base.root.exists():
            archive = Path(given) if given else find_archive(series, build)
            extract(archive, base.root, series)
    base.check(series)
    say("base", f"{base.root}, CPython {series.base['version']}")
    return base


def check_archive(path, series):
    """Check the digest of an archive."""
    if not path.is_file():
        raise SeriesError(f"CPYTHON={path}: no such file or directory")
    digest = file_sha256(path)
    if digest != series.base["sha256"]:
        raise SeriesError(f"{path}: is truncated or not "
                          f"{series.base['archive']}, its SHA-256 is "
                          f"{digest} instead of {series.base['sha256']}")


def find_archive(series, build):
    """Return the archive in build/, downloaded if it is not there."""
    archive = build / series.base["archive"]
    if archive.is_file() and file_sha256(archive) == series.base["sha256"]:
        return archive
    build.mkdir(parents=True, exist_ok=True)
    addresses = [f"{repository.rstrip('/')}/{series.base['pool']}"
                 for repository in repositories()]
    partial = archive.with_name(archive.name + ".partial")
    fetched = fetch(addresses, partial, series.base["sha256"])
    if not fetched and partial.exists():
        # What is there from an earlier run cannot be continued.
        partial.unlink()
        fetched = fetch(addresses, partial, series.base["sha256"])
    if not fetched:
        raise SeriesError(
            f"{series.base['archive']} is in no Debian repository that this "
            f"machine reaches: give its path, or that of a CPython "
            f"{series.base['version']} source directory, with CPYTHON=PATH")
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


def extract(archive, target, series):
    """Unpack the archive to a directory that appears only when whole."""
    say("extract", series.base["archive"])
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with tarfile.open(archive) as members:
            for member in members:
                extract_member(members, member, partial)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise SeriesError(f"{archive}: cannot be unpacked: {error}") from None
    partial.rename(target)


def extract_member(members, member, target):
    """Write one file of the archive, without its first folder.

    Owners are left alone, and the time is kept for the sake of make.
    """
    path = target.joinpath(*member.name.split("/")[1:])
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
    elif member.isfile():
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            shutil.copyfileobj(members.extractfile(member), file)
        path.chmod(0o755 if member.mode & 0o100 else 0o644)
        os.utime(path, (member.mtime, member.mtime))
