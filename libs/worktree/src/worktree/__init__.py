"""Repositories as the factory sees them: a snapshot of one commit, checkouts of it, changes on it, a branch at the end.

Synchronous: call it by `asyncio.to_thread`. Never runs code, hooks or filters that a repository brings along.
"""

from worktree.changes import PATCH_BYTES_MAX, apply_change, checkout, diff_text, record_change
from worktree.errors import (
    BranchNotFound,
    BranchTaken,
    GitFailed,
    NeedsCredentials,
    NoCommits,
    PushRejected,
    RefusedUrl,
    RepositoryNotFound,
    TooLarge,
    TreeDiffers,
    Unreachable,
    UnsafePath,
)
from worktree.objects import SUBMODULE, SYMLINK, TreeEntry, list_tree, read_blobs, unpack
from worktree.paths import safe_path
from worktree.pushes import Pushed, push_branch
from worktree.snapshots import BUNDLE_BYTES_MAX, Snapshot, snapshot
from worktree.urls import check_url, host_of

__all__ = [
    "BUNDLE_BYTES_MAX",
    "PATCH_BYTES_MAX",
    "SUBMODULE",
    "SYMLINK",
    "BranchNotFound",
    "BranchTaken",
    "GitFailed",
    "NeedsCredentials",
    "NoCommits",
    "PushRejected",
    "Pushed",
    "RefusedUrl",
    "RepositoryNotFound",
    "Snapshot",
    "TooLarge",
    "TreeDiffers",
    "TreeEntry",
    "Unreachable",
    "UnsafePath",
    "apply_change",
    "check_url",
    "checkout",
    "diff_text",
    "host_of",
    "list_tree",
    "push_branch",
    "read_blobs",
    "record_change",
    "safe_path",
    "snapshot",
    "unpack",
]
