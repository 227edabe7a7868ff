"""The repository before and after a change, as directories that the checks may read.

Runs nothing of what lies in them, and follows no link.
"""

import contextlib
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from factory.artifact.v1 import Change
from worktree import SUBMODULE, SYMLINK, apply_change, checkout, list_tree

from quality_gate.introduced import LineText, Side
from quality_gate.verdict import DEPENDENCY_FILES

ANALYSED_FILE_BYTES_MAX = 2 * 1024 * 1024
DEPENDENCY_BYTES_MAX = 256 * 1024
SCRATCH_PREFIX = "factory-gate-"
# Longer than any judgement takes.
LEFT_BEHIND_S = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Trees:
    """Two checkouts, and the changed files of both beside each other."""

    before: Path
    after: Path
    # Holds the directories `before` and `after` with the changed regular files only.
    staged: Path
    changed: frozenset[str]
    has_python: bool
    # What the change adds: symbolic links with their targets, and submodules.
    links: dict[str, str] = field(default_factory=dict)
    submodules: tuple[str, ...] = ()
    # Text of the files in which the changed tree declares its dependencies.
    dependencies: str = ""


def lay_out(bundle: bytes, change: Change, directory: Path) -> Trees:
    """Checks the base out twice, applies the change to one of them; TreeDiffers unless it gives its tree exactly."""
    before, after, staged = directory / "base", directory / "changed", directory / "staged"
    checkout(bundle, change.base_commit, after)
    apply_change(after, change)
    checkout(bundle, change.base_commit, before)
    old = {entry.path: entry for entry in list_tree(after / ".git", change.base_commit)}
    new = {entry.path: entry for entry in list_tree(after / ".git", change.tree)}
    changed = frozenset(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))
    for side, tree in ((Side.BEFORE, before), (Side.AFTER, after)):
        (staged / side.value).mkdir(parents=True)
        for path in changed:
            _stage(tree / path, staged / side.value / path)
    _open_to_readers(directory)
    added = [entry for path, entry in new.items() if path in changed]
    return Trees(
        before=before,
        after=after,
        staged=staged,
        changed=changed,
        has_python=any(path.endswith(".py") for path in new),
        links={one.path: os.readlink(after / one.path) for one in added if one.mode == SYMLINK},  # noqa: PTH115 - text
        submodules=tuple(one.path for one in added if one.mode == SUBMODULE),
        dependencies="\n".join(_text(after / path) for path in new if DEPENDENCY_FILES.search(path)),
    )


def sweep(older_than_s: float = LEFT_BEHIND_S) -> None:
    """Removes the trees that a killed gate has left behind."""
    oldest = time.time() - older_than_s
    for left in Path(tempfile.gettempdir()).glob(f"{SCRATCH_PREFIX}*"):
        with contextlib.suppress(OSError):
            if left.lstat().st_mtime < oldest and left.lstat().st_uid == os.geteuid():
                shutil.rmtree(left, ignore_errors=True)


def lines_of(trees: Trees) -> LineText:
    """Reads single lines of the changed files; empty text where there is none."""

    @cache
    def lines(side: Side, path: str) -> list[str]:
        return _text(trees.staged / side.value / path, ANALYSED_FILE_BYTES_MAX).split("\n")

    def line_text(side: Side, path: str, line: int) -> str:
        found = lines(side, path)
        return found[line - 1] if 0 < line <= len(found) else ""

    return line_text


def _text(path: Path, most: int = DEPENDENCY_BYTES_MAX) -> str:
    if path.is_symlink() or not path.is_file():
        return ""
    with path.open("rb") as file:
        return file.read(most).decode(errors="replace")


def _stage(source: Path, target: Path) -> None:
    if source.is_symlink() or not source.is_file() or source.stat().st_size > ANALYSED_FILE_BYTES_MAX:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _open_to_readers(directory: Path) -> None:
    """Whatever our umask, the sandbox's user may read: it is nobody, and not the owner."""
    for at, directories, files in os.walk(directory):
        if ".git" in directories:
            directories.remove(".git")
        Path(at).chmod(0o755)
        for name in files:
            path = Path(at) / name
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | 0o444)
