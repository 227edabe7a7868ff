"""A repository's objects without a working tree: unpacked from a snapshot, listed and read.

Never writes a file under a name that the repository chose.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from worktree.errors import GitFailed
from worktree.git import git

SYMLINK = "120000"
SUBMODULE = "160000"


@dataclass(frozen=True, slots=True)
class TreeEntry:
    path: str
    blob: str
    # "100644", "100755", SYMLINK or SUBMODULE.
    mode: str
    # Bytes; 0 for a submodule.
    size: int


def unpack(bundle: bytes, base_commit: str, git_dir: Path) -> None:
    """Make `git_dir` a bare repository with the objects of a snapshot."""
    git_dir.mkdir(parents=True, exist_ok=True)
    init(git_dir, bare=True)
    _unbundle(bundle, base_commit, git_dir)


def init(directory: Path, *, bare: bool) -> None:
    # An empty template: not even a sample hook.
    git("init", "--quiet", "--template=", *(["--bare"] if bare else []), "--", str(directory), directory=directory)


def _unbundle(bundle: bytes, base_commit: str, git_dir: Path) -> None:
    # The snapshot holds one commit and not those before it; git must be told, or it misses them.
    (git_dir / "shallow").write_text(f"{base_commit}\n")
    with tempfile.NamedTemporaryFile(dir=git_dir, suffix=".bundle") as file:
        file.write(bundle)
        file.flush()
        git("bundle", "unbundle", file.name, directory=git_dir, git_dir=git_dir)
    git("cat-file", "-e", f"{base_commit}^{{commit}}", directory=git_dir, git_dir=git_dir)


def unpack_into_checkout(bundle: bytes, base_commit: str, directory: Path) -> None:
    init(directory, bare=False)
    _unbundle(bundle, base_commit, directory / ".git")


def list_tree(git_dir: Path, commit: str) -> list[TreeEntry]:
    """Every file, link and submodule of a commit or tree, in git's order. Paths that are no UTF-8 are left out."""
    listing = git(
        "ls-tree", "-r", "-z", "--long", "--full-tree", "--end-of-options", commit, directory=git_dir, git_dir=git_dir
    )
    entries: list[TreeEntry] = []
    for record in listing.split(b"\0"):
        if not record:
            continue
        facts, _, name = record.partition(b"\t")
        mode, _, blob, size = facts.decode().split()
        try:
            path = name.decode()
        except UnicodeDecodeError:
            continue
        entries.append(TreeEntry(path, blob, mode, 0 if size == "-" else int(size)))
    return entries


def read_blobs(git_dir: Path, blobs: Sequence[str]) -> Iterator[bytes]:
    """The contents of blobs, in the order asked; one git process for all of them."""
    if not blobs:
        return
    wanted = "".join(f"{blob}\n" for blob in blobs).encode()
    answer = git("cat-file", "--batch", directory=git_dir, git_dir=git_dir, given=wanted)
    position = 0
    for blob in blobs:
        end = answer.index(b"\n", position)
        header = answer[position:end].split()
        if len(header) != 3:
            raise GitFailed(f"object {blob!r} is not in the snapshot")
        size = int(header[2])
        yield answer[end + 1 : end + 1 + size]
        position = end + 1 + size + 1
