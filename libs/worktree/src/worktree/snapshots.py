"""Pins the tip of a branch and packs it into one bundle, from which everybody works afterwards.

Never writes to the repository it reads, and never runs its hooks.
"""

import fcntl
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from worktree.errors import BranchNotFound, GitFailed, NoCommits, RepositoryNotFound, TooLarge
from worktree.git import SERVE_LOCAL, git
from worktree.objects import init
from worktree.urls import Remote, remote_for

BUNDLE_BYTES_MAX = 256 * 1024 * 1024
# Each snapshot of a moved branch adds a pack; after these it is cheaper to start the cache anew.
MIRROR_PACKS_MAX = 30
_DEFAULT_BRANCHES = ("main", "master")
_PINNED = "refs/heads/pinned"


@dataclass(frozen=True, slots=True)
class Snapshot:
    base_commit: str
    base_branch: str
    bundle: bytes


@dataclass(frozen=True, slots=True)
class Tips:
    """The branches of a remote, and the one it calls its default."""

    commits: dict[str, str]
    head_branch: str
    head_commit: str


def snapshot(
    repository: str,
    branch: str,
    *,
    allowed_roots: tuple[Path, ...],
    mirror: Path,
    token: str | None = None,
    bytes_max: int = BUNDLE_BYTES_MAX,
) -> Snapshot:
    """The tip of a branch (of the default one when none is named) with all its files, in one bundle."""
    remote = remote_for(repository, allowed_roots)
    mirror.mkdir(parents=True, exist_ok=True)
    tips = tips_of(remote, mirror, token)
    name = _branch_wanted(branch, tips)
    with _mirror_of(remote, mirror) as git_dir:
        try:
            return _pinned(remote, name, git_dir, token, bytes_max)
        except GitFailed as problem:
            if type(problem) is not GitFailed:
                raise
            # Whatever a kill or a full disk has left in the cache, a fresh one does not have.
            shutil.rmtree(git_dir)
            return _pinned(remote, name, git_dir, token, bytes_max)


def tips_of(remote: Remote, directory: Path, token: str | None) -> Tips:
    if remote.is_local and not Path(remote.location).is_dir():
        raise RepositoryNotFound(f"there is no repository at {remote.location!r}")
    listing = git(
        *("ls-remote", "--quiet", "--symref", *serving(remote, "upload-pack"), "--"),
        *(remote.location, "HEAD", "refs/heads/*"),
        directory=directory,
        remote=remote,
        token=token,
    ).decode(errors="replace")
    commits: dict[str, str] = {}
    head_branch = head_commit = ""
    for line in listing.splitlines():
        value, _, name = line.partition("\t")
        if name == "HEAD" and value.startswith("ref: refs/heads/"):
            head_branch = value.removeprefix("ref: refs/heads/")
        elif name == "HEAD":
            head_commit = value
        elif name.startswith("refs/heads/"):
            commits[name.removeprefix("refs/heads/")] = value
    return Tips(commits, head_branch, head_commit)


def serving(remote: Remote, service: str) -> list[str]:
    """For a local repository, how git serves it: as it is, whoever owns it, without its hooks."""
    return [f"--{service}=git {SERVE_LOCAL} {service}"] if remote.is_local else []


def _branch_wanted(branch: str, tips: Tips) -> str:
    if not tips.commits:
        raise NoCommits("the repository has no commits yet; push a first one")
    if branch:
        if branch not in tips.commits:
            raise BranchNotFound(f"the repository has no branch {branch!r}; it has {_some(tips)}")
        return branch
    if tips.head_branch in tips.commits:
        return tips.head_branch
    # HEAD points at a branch without commits (a bare repository made before the first push), or at none.
    candidates = [name for name, commit in tips.commits.items() if commit == tips.head_commit] or list(tips.commits)
    for name in _DEFAULT_BRANCHES:
        if name in candidates:
            return name
    if len(candidates) == 1:
        return candidates[0]
    raise BranchNotFound(f"the repository has no default branch; name one of {_some(tips)}")


def _some(tips: Tips) -> str:
    names = sorted(tips.commits)
    shown = ", ".join(repr(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _pinned(remote: Remote, branch: str, git_dir: Path, token: str | None, bytes_max: int) -> Snapshot:
    if not (git_dir / "HEAD").exists():
        git_dir.mkdir(parents=True, exist_ok=True)
        init(git_dir, bare=True)
    before = _bytes_in(git_dir)

    def stop_when_too_large() -> None:
        if (fetched := _bytes_in(git_dir) - before) > bytes_max:
            raise TooLarge(f"the repository has more than {fetched} bytes; at most {bytes_max} are allowed")

    git(
        *("fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--force"),
        *(*serving(remote, "upload-pack"), "--", remote.location, f"+refs/heads/{branch}:{_PINNED}"),
        directory=git_dir,
        git_dir=git_dir,
        remote=remote,
        token=token,
        while_running=stop_when_too_large,
    )
    commit = git("rev-parse", "--verify", "--quiet", f"{_PINNED}^{{commit}}", directory=git_dir, git_dir=git_dir)
    return Snapshot(commit.decode().strip(), branch, _bundle(git_dir, bytes_max))


def _bundle(git_dir: Path, bytes_max: int) -> bytes:
    with tempfile.TemporaryDirectory(dir=git_dir) as scratch:
        path = Path(scratch) / "snapshot.bundle"
        git("bundle", "create", "--quiet", str(path), _PINNED, directory=git_dir, git_dir=git_dir)
        size = path.stat().st_size
        if size > bytes_max:
            raise TooLarge(f"the snapshot has {size} bytes; at most {bytes_max} are allowed")
        return path.read_bytes()


@contextmanager
def _mirror_of(remote: Remote, mirror: Path) -> Iterator[Path]:
    """The cache of one repository, for us alone while we hold it."""
    name = hashlib.sha256(remote.location.encode()).hexdigest()[:32]
    with (mirror / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        git_dir = mirror / f"{name}.git"
        if len(list((git_dir / "objects" / "pack").glob("*.pack"))) > MIRROR_PACKS_MAX:
            shutil.rmtree(git_dir)
        # We are alone here: a lock of git's own is what a killed one left behind.
        for leftover in git_dir.rglob("*.lock"):
            leftover.unlink(missing_ok=True)
        yield git_dir


def _bytes_in(directory: Path) -> int:
    total = 0
    for path in (directory / "objects").rglob("*"):
        try:
            total += path.lstat().st_size
        except FileNotFoundError:  # git renames its temporary files while we look
            continue
    return total
