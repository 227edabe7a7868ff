"""Changes: recorded from a working tree as one patch from the base commit, and put back exactly.

The same content always gives the same tree and the same bytes. Never runs anything that the repository brought along.
"""

import tempfile
from pathlib import Path

from factory.artifact.v1 import Change

from worktree.errors import GitFailed, TooLarge, TreeDiffers
from worktree.git import git
from worktree.objects import unpack_into_checkout

PATCH_BYTES_MAX = 16 * 1024 * 1024
_BINARY_PATCH = b"GIT binary patch"


def checkout(bundle: bytes, base_commit: str, directory: Path) -> None:
    """A fresh, clean checkout of a snapshot. The directory may exist, but must be empty."""
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise GitFailed(f"{str(directory)!r} is not empty; a checkout needs a fresh directory")
    unpack_into_checkout(bundle, base_commit, directory)
    _git(directory, "checkout", "--quiet", "--detach", base_commit)


def apply_change(directory: Path, change: Change) -> None:
    """Make a clean checkout of the base commit look like the change; TreeDiffers unless it is exactly its tree."""
    tree = tree_of(directory / ".git", change)
    # Two-way merge: refuses to overwrite what is not in the base commit.
    _git(directory, "read-tree", "-m", "-u", change.base_commit, tree)


def tree_of(git_dir: Path, change: Change) -> str:
    """The tree that the change gives on its base commit, stored and verified; no working tree is needed."""
    with tempfile.TemporaryDirectory(dir=git_dir) as scratch:
        index = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
        try:
            git("read-tree", change.base_commit, directory=git_dir, git_dir=git_dir, extra=index)
            if change.patch:
                git(
                    *("apply", "--cached", "--binary", "--whitespace=nowarn", "-"),
                    directory=git_dir,
                    git_dir=git_dir,
                    given=change.patch,
                    extra=index,
                )
            found = git("write-tree", directory=git_dir, git_dir=git_dir, extra=index).decode().strip()
        except GitFailed as problem:
            raise TreeDiffers(f"the change does not apply to {change.base_commit!r}: {problem}") from problem
    if found != change.tree:
        raise TreeDiffers(f"the change gives tree {found!r}; it was recorded as {change.tree!r}")
    return found


def record_change(directory: Path, base_commit: str, parent: str) -> Change:
    """What a checkout holds now, as a change from its base commit. Files that `.gitignore` names are left out."""
    _git(directory, "add", "--all", "--", ":/")
    tree = _git(directory, "write-tree").decode().strip()
    patch = _git(
        directory,
        *("diff-tree", "-r", "-p", "--binary", "--full-index", "--no-renames", "--no-color", "--no-ext-diff"),
        *("--no-textconv", "--diff-algorithm=myers", "--indent-heuristic", "--unified=3", "--ignore-submodules=none"),
        *("--src-prefix=a/", "--dst-prefix=b/", base_commit, tree, "--"),
    )
    if len(patch) > PATCH_BYTES_MAX:
        raise TooLarge(f"the change has {len(patch)} bytes; at most {PATCH_BYTES_MAX} are allowed")
    return Change(base_commit=base_commit, parent=parent, patch=patch, tree=tree)


def diff_text(change: Change) -> str:
    """The change as a unified diff for reading; binary content is only mentioned."""
    shown: list[bytes] = []
    in_binary = False
    for line in change.patch.splitlines(keepends=True):
        if line.startswith(b"diff --git "):
            in_binary = False
        elif line.startswith(_BINARY_PATCH) and not in_binary:
            in_binary = True
            shown.append(b"Binary content differs\n")
        if not in_binary:
            shown.append(line)
    return b"".join(shown).decode(errors="replace")


def _git(directory: Path, *arguments: str) -> bytes:
    return git(*arguments, directory=directory, git_dir=directory / ".git")
