"""The series as patches for git am."""

from contextlib import contextmanager
import os
from pathlib import Path
import shutil
import tempfile

from series import tree
from series.common import SeriesError, output_of, say

# CPython's .gitattributes, which its archive lacks, stores these with LF.
ATTRIBUTES = "*.vcxproj text eol=crlf\n*.filters text eol=crlf\n"


@contextmanager
def scratch_directory(build):
    """Give a temporary directory in build/."""
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=build) as name:
        yield Path(name).resolve()


class Repository:
    """A scratch repository that no configuration of the user reaches."""

    def __init__(self, root, identity):
        self.root = root
        self.environment = {name: value for name, value in os.environ.items()
                            if not name.startswith("GIT_")}
        # Git before 2.32 does not know GIT_CONFIG_GLOBAL, but reads these.
        self.environment.update(GIT_CONFIG_NOSYSTEM="1", LC_ALL="C",
                                HOME=str(root), XDG_CONFIG_HOME=str(root))
        for role in ("AUTHOR", "COMMITTER"):
            for key in ("name", "email", "date"):
                self.environment[f"GIT_{role}_{key.upper()}"] = identity[key]
        self.git("init", "--quiet", "--template=", "--object-format=sha1")
        # A clean-up in the background would outlive the scratch directory.
        self.git("config", "gc.auto", "0")
        info = root / ".git/info"
        info.mkdir(exist_ok=True)
        (info / "attributes").write_text(ATTRIBUTES)

    def git(self, *arguments, text=None):
        """Run git and return what it prints."""
        return output_of(["git", *arguments], cwd=self.root,
                         env=self.environment, input=text)

    def commit(self, message):
        """Commit everything in the work tree."""
        self.git("add", "--all", "--force")
        self.git("commit", "--quiet", "--file=-", text=message.encode())


def patches(series, base, scratch):
    """Return {file name: bytes} of the exported series.

    Only the stock files that the series touches are imported; the patches
    name no commit, so the rest of the base does not show in them.
    """
    root = scratch / "export"
    root.mkdir()
    repository = Repository(root, series.export)
    for path in series.stock:
        tree.write(root / path, tree.Content.read(base.root / path))
    repository.commit("base")
    result = {}
    for count, patch in enumerate(series.patches, 1):
        for path, content in tree.patched_files(series, base, count).items():
            tree.write(root / path, content)
        repository.commit(patch.message)
        result[f"{count:04}-{patch.slug}.patch"] = repository.git(
            "format-patch", "-1", "--stdout", "--no-numbered",
            "--zero-commit", "--no-signature", "--full-index", "--no-stat",
            "--no-renames")
    shutil.rmtree(root)
    return result


def export(series, base, build):
    """Write the patches to build/series."""
    target = build / "series"
    with scratch_directory(build) as scratch:
        files = patches(series, base, scratch)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for name, data in files.items():
        (target / name).write_bytes(data)
        say("patch", str(target / name))


def check_export(series, base, build):
    """Check that two exports agree and that git am gives the patched tree."""
    with scratch_directory(build) as scratch:
        files = patches(series, base, scratch)
        if patches(series, base, scratch) != files:
            raise SeriesError("two exports of the series differ")
        say("checked", "two exports are the same bytes")
        applied = apply_to_base(series, base, scratch, files)
        different = tree.differences(applied, build / "src")
    if different:
        raise SeriesError(f"git am gives another tree than make: "
                          f"{', '.join(different[:5])} of "
                          f"{len(different)} files differ")
    say("checked", "git am on the pristine base gives the patched tree")


def apply_to_base(series, base, scratch, files):
    """Apply the patches to a copy of the pristine base; return its path."""
    root = scratch / "base"
    root.mkdir()
    repository = Repository(root, series.export)
    for path in base.files():
        tree.write(root / path, tree.Content.read(base.root / path))
    repository.commit("base")
    for data in files.values():
        repository.git("am", "--quiet", text=data)
    return root
