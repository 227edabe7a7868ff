"""Reads a repository at one commit: its snapshot, and the files in it that a model may be shown.

Everything is read from git objects; no file of the repository ever gets a place on our disk under its own name.
"""

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import structlog
import worktree
from worktree import Snapshot, Unreachable

from context.ranking import SourceFile
from context.selection import text_of, worth_reading

log = structlog.get_logger()

ATTEMPTS_MAX = 3
PAUSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Repositories:
    """Which repositories we may read, where their copies are kept, and our right to read those of one host."""

    allowed_roots: tuple[Path, ...]
    cache: Path
    token: str = field(default="", repr=False)
    # The token is sent to this host and to no other, whatever a task names.
    token_host: str = ""

    def snapshot(self, repository: str, branch: str) -> Snapshot:
        """Asks again where a network did not answer; every other refusal is final."""
        token = self.token if self.token and worktree.host_of(repository) == self.token_host else None
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                return worktree.snapshot(
                    repository, branch, allowed_roots=self.allowed_roots, mirror=self.cache, token=token
                )
            except Unreachable as problem:
                log.warning("repository.unreachable", attempt=attempt, problem=str(problem))
                if attempt == ATTEMPTS_MAX:
                    raise
                time.sleep(PAUSE_S * attempt)
        raise AssertionError("the loop above returns or raises")

    def files(self, taken: Snapshot) -> list[SourceFile]:
        """The readable files of a snapshot, in no particular order."""
        self.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.cache, prefix="objects-") as scratch:
            git_dir = Path(scratch) / "snapshot.git"
            worktree.unpack(taken.bundle, taken.base_commit, git_dir)
            entries = worth_reading(worktree.list_tree(git_dir, taken.base_commit))
            contents = worktree.read_blobs(git_dir, [entry.blob for entry in entries])
            return [
                SourceFile(entry.path, entry.blob, text)
                for entry, content in zip(entries, contents, strict=True)
                if (text := text_of(content)) is not None
            ]
