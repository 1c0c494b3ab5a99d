"""The series itself: series.json, the messages, and the repository's files.

A file of the repository is a whole file of one patch, named in series.json,
or an edit of a stock file, found by its name: PATH.SLUG.patch, or
PATH.SLUG.VERSION.patch, its variant for the bases from that version on.
"""

import json
import os
from pathlib import Path
import re

from series import diffs
from series.common import SeriesError
from series.rooms import rooms

MANIFEST = "series/series.json"
MESSAGES = "series/messages"
# What pip leaves behind in the folder of the example that it installs.
INSTALLING = re.compile(r"Doc/includes/[^/]+/(?:build|[^/]+\.egg-info)/")
EDIT_NAME = r"(?P<path>.+)\.{slug}(?:\.(?P<since>\d+(?:\.\d+)+))?\.patch"


class Edit:
    """An edit of one stock file by one patch of the series.

    Its first name is that of the edit itself, whatever variant it is.
    """

    def __init__(self, root, name, path, first_name):
        self.name = name
        self.path = path
        self.first_name = first_name
        self.hunks = diffs.parse((root / name).read_bytes(), name, path)


class Patch:
    """One patch of the series: its message, whole files and edits."""

    def __init__(self, slug, message, files, edits):
        self.slug = slug
        self.message = message
        self.files = files
        self.edits = edits


class Series:
    """The series as the repository at root describes it, for one base.

    That is the first of its bases unless a version is given. Where it is of
    none of them, base is None.
    """

    def __init__(self, root, version=None):
        self.root = Path(root)
        data = read_json(self.root)
        self.bases = data["bases"]
        self.version = version or self.bases[0]["version"]
        self.base = next((base for base in self.bases
                          if base["version"] == self.version), None)
        self.stock = data["stock"]
        self.parts = data["parts"]
        self.export = data["export"]
        self.patches = self.read_patches(data["patches"])
        self.check_stock()

    @property
    def tested(self):
        """Name the versions on which the series is tested."""
        return " or ".join(base["version"] for base in self.bases)

    @property
    def is_first(self):
        """Say whether the base is the first one."""
        return self.base is self.bases[0]

    def build_folder(self, build):
        """Return where all is made for the base: the first one has build/."""
        return build if self.is_first else build / self.version

    def version_numbers(self):
        """Return the version as numbers, if it is one of the series' own.

        A "+" says that there are changes since.
        """
        first = self.bases[0]["version"]
        minor = first.rpartition(".")[0]
        if not re.fullmatch(rf"{re.escape(minor)}\.\d+\+?", self.version):
            raise SeriesError(f"CPython {self.version}: is not {self.tested} "
                              f"or another {minor}")
        return numbers(self.version.rstrip("+"))

    def digests(self, path):
        """Return the digests of a stock file that are right.

        There are none for a new file, and several where the base is none of
        those that are tested.
        """
        if path not in self.stock:
            return []
        bases = self.bases if self.base is None else [self.base]
        return list(dict.fromkeys(
            base.get("stock", {}).get(path, self.stock[path])
            for base in bases))

    def read_patches(self, entries):
        """Return the patches after checking entries and files both ways."""
        version = self.version_numbers()
        slugs = [entry["slug"] for entry in entries]
        unclaimed = set(repository_files(self.root))
        edits = find_edits(unclaimed, slugs)
        patches = []
        for entry in entries:
            for path in entry["files"]:
                self.claim(path, entry["slug"], unclaimed)
            own = []
            for path, variants in edits[entry["slug"]].items():
                unclaimed -= set(variants.values())
                own.append(self.choose(path, variants, version))
            patches.append(Patch(entry["slug"], self.message(entry["slug"]),
                                 sorted(entry["files"]), own))
        if unclaimed:
            raise SeriesError(f"{min(unclaimed)}: belongs to no patch, "
                              f"{MANIFEST} does not name it")
        self.check_messages(slugs)
        return patches

    def choose(self, path, variants, version):
        """Return the edit for a version, having read all {since: name}."""
        if () not in variants:
            raise SeriesError(f"{min(variants.values())}: is a variant of an "
                              f"edit that does not exist")
        read = {since: Edit(self.root, name, path, variants[()])
                for since, name in variants.items()}
        return read[max(since for since in read if since <= version)]

    def claim(self, path, slug, unclaimed):
        """Check that an entry has a file and that no other entry has it."""
        if path in unclaimed:
            unclaimed.remove(path)
        elif (self.root / path).is_file():
            raise SeriesError(f"{MANIFEST}: patch {slug} names {path}, "
                              f"which is taken or not a file of the series")
        else:
            raise SeriesError(f"{MANIFEST}: patch {slug} names {path}, "
                              f"which does not exist")

    def message(self, slug):
        """Return the message of a patch: a subject, a blank line, a body."""
        path = self.root / MESSAGES / f"{slug}.txt"
        if not path.is_file():
            raise SeriesError(f"{MESSAGES}/{slug}.txt: the message of patch "
                              f"{slug} does not exist")
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        if len(lines) < 3 or not lines[0] or lines[1] or not lines[2]:
            raise SeriesError(f"{MESSAGES}/{slug}.txt: must be a subject, "
                              f"a blank line and a body")
        return text

    def check_messages(self, slugs):
        """Check that each message belongs to a patch."""
        for path in sorted((self.root / MESSAGES).iterdir()):
            if path.suffix != ".txt" or path.stem not in slugs:
                raise SeriesError(f"{MESSAGES}/{path.name}: belongs to no "
                                  f"patch of {MANIFEST}")

    def check_stock(self):
        """Check that the pinned stock files are those the series needs."""
        edited = self.edited()
        whole = {path for patch in self.patches for path in patch.files}
        for path in sorted((edited | set(self.parts)) - set(self.stock)):
            raise SeriesError(f"{MANIFEST}: the series edits or cuts {path}, "
                              f"which \"stock\" does not name")
        for path in sorted(set(self.parts) - whole):
            raise SeriesError(f"{MANIFEST}: no patch names the part {path}")
        for path in sorted(set(self.stock) - edited - whole):
            raise SeriesError(f"{MANIFEST}: \"stock\" names {path}, which "
                              f"no patch replaces, edits or cuts")
        for base in self.bases:
            for path, digest in base.get("stock", {}).items():
                if self.stock.get(path, digest) == digest:
                    raise SeriesError(f"{MANIFEST}: the digest of {path} for "
                                      f"{base['version']} differs from none "
                                      f"in \"stock\"")

    def edited(self):
        """Return the paths of the stock files that edits change."""
        return {edit.path for patch in self.patches for edit in patch.edits}

    def touched(self):
        """Return the paths that the series adds or changes."""
        return sorted(set(self.stock).union(
            *(patch.files for patch in self.patches)))


def read_json(root):
    """Return the content of series.json."""
    try:
        return json.loads((root / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SeriesError(f"{MANIFEST}: does not exist") from None
    except ValueError as error:
        raise SeriesError(f"{MANIFEST}: is not JSON: {error}") from None


def numbers(version):
    """Return '3.13.5' as a tuple of numbers."""
    return tuple(map(int, version.split(".")))


def find_edits(files, slugs):
    """Return {slug: {path: {version from which on, or (): name}}}."""
    edits = {slug: {} for slug in slugs}
    for name in sorted(files):
        for slug in slugs:
            found = re.fullmatch(EDIT_NAME.format(slug=re.escape(slug)), name)
            if found:
                since = numbers(found["since"]) if found["since"] else ()
                edits[slug].setdefault(found["path"], {})[since] = name
    return edits


def repository_files(root):
    """Yield the paths of the files that are laid out as CPython's tree.

    That is all but the repository's own; what .gitignore names is skipped
    here rather than by asking git, which building does not need.
    """
    own = {"README.md", "LICENSE", "Makefile", ".ci", "build", *rooms(root)}
    for path in walk(root):
        top = path.split("/")[0]
        if (top not in own and not top.startswith(".git")
                and not INSTALLING.match(path)):
            yield path


def walk(root):
    """Yield the relative paths of the files below root, byte code aside.

    In a git worktree or a submodule, .git is a file.
    """
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(set(folders) - {".git", "__pycache__"})
        relative = Path(folder).relative_to(root)
        for name in sorted(set(files) - {".git"}):
            yield (relative / name).as_posix()
