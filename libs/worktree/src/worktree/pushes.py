"""Puts an approved change on a branch of its repository: that tree, on that base commit, under a name of its own.

Never forces, never rebases, never touches another branch; asked twice it finds what it did before.
"""

import re
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from factory.artifact.v1 import Change

from worktree.changes import tree_of
from worktree.errors import BranchTaken, GitFailed, PushRejected
from worktree.git import git
from worktree.objects import unpack
from worktree.snapshots import serving, tips_of
from worktree.urls import Remote, remote_for

_AUTHOR = re.compile(r"(?P<name>[^<>\n]+?)\s*<(?P<email>[^<>\s]+)>")


@dataclass(frozen=True, slots=True)
class Pushed:
    commit: str
    # The base branch was no longer at the change's base commit.
    base_moved: bool
    # False: the branch was there already, at this very commit.
    created: bool


def push_branch(
    *,
    bundle: bytes,
    change: Change,
    repository: str,
    branch: str,
    base_branch: str,
    message: str,
    author: str,
    when: datetime,
    allowed_roots: tuple[Path, ...],
    workdir: Path,
    token: str | None = None,
) -> Pushed:
    """Find or create the branch; BranchTaken when it has other content. Equal arguments give an equal commit."""
    remote = remote_for(repository, allowed_roots)
    workdir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=workdir) as scratch:
        git_dir = Path(scratch) / "push.git"
        unpack(bundle, change.base_commit, git_dir)
        _check_branch_name(branch, git_dir)
        commit = _commit(git_dir, change, message, _identity(author, when))
        tips = tips_of(remote, git_dir, token)
        base_moved = tips.commits.get(base_branch) != change.base_commit
        if branch in tips.commits:
            _check_ours(branch, tips.commits[branch], commit)
            return Pushed(commit, base_moved, created=False)
        return Pushed(commit, base_moved, created=_push(git_dir, remote, commit, branch, token))


def _commit(git_dir: Path, change: Change, message: str, identity: dict[str, str]) -> str:
    tree = tree_of(git_dir, change)
    text = message.replace("\0", "").rstrip() + "\n"
    answer = git(
        *("commit-tree", tree, "-p", change.base_commit, "-F", "-"),
        directory=git_dir,
        git_dir=git_dir,
        given=text.encode(errors="replace"),
        extra=identity,
    )
    return answer.decode().strip()


def _push(git_dir: Path, remote: Remote, commit: str, branch: str, token: str | None) -> bool:
    """True when we created the branch; False when somebody (we, before a crash) was faster with the same commit."""
    try:
        git(
            # The lease with nothing after its colon: only if the branch does not exist at this moment.
            *("push", "--quiet", "--no-verify", "--no-follow-tags", f"--force-with-lease=refs/heads/{branch}:"),
            *(*serving(remote, "receive-pack"), "--", remote.location, f"{commit}:refs/heads/{branch}"),
            directory=git_dir,
            git_dir=git_dir,
            remote=remote,
            token=token,
        )
    except GitFailed as problem:
        found = tips_of(remote, git_dir, token).commits.get(branch)
        if found is not None:
            _check_ours(branch, found, commit)
            return False
        if "shallow update not allowed" in str(problem):
            raise PushRejected(
                "the base commit is no longer in the repository's history; the change cannot stand on it"
            ) from problem
        if type(problem) is GitFailed:
            raise PushRejected(f"the remote did not take branch {branch!r}: {problem}") from problem
        raise
    return True


def _check_branch_name(branch: str, directory: Path) -> None:
    try:
        if branch.startswith("-"):
            raise GitFailed("it starts with '-'")
        git("check-ref-format", f"refs/heads/{branch}", directory=directory)
    except GitFailed as problem:
        raise GitFailed(f"{branch!r} is no branch name: {problem}") from problem


def _check_ours(branch: str, found: str, commit: str) -> None:
    if found != commit:
        raise BranchTaken(f"branch {branch!r} is at {found!r} on the remote; ours would be {commit!r}")


def _identity(author: str, when: datetime) -> dict[str, str]:
    """Author and committer alike, at a given time: nothing of the machine or the moment gets into the commit."""
    match = _AUTHOR.fullmatch(author.strip())
    if match is None:
        raise ValueError(f"author {author!r} is not of the form 'Name <mail>'")
    if when.tzinfo is None:
        raise ValueError(f"the commit's time {when!r} has no time zone")
    date = f"{int(when.timestamp())} +0000"
    return {
        "GIT_AUTHOR_NAME": match["name"],
        "GIT_AUTHOR_EMAIL": match["email"],
        "GIT_AUTHOR_DATE": date,
        "GIT_COMMITTER_NAME": match["name"],
        "GIT_COMMITTER_EMAIL": match["email"],
        "GIT_COMMITTER_DATE": date,
    }
