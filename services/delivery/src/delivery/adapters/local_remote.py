"""Pull requests of a repository on this machine: a JSON record and a page to read, kept inside the repository.

Written as a whole or not at all; the JSON comes last, and where it stands the pull request is open. Never leaves the
repository's own directory.
"""

import asyncio
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from factory.delivery.v1 import DeliveryFailure
from worktree import UnsafePath, safe_path

from delivery.pull_request import NotOpened, PullRequest

DIRECTORY = "factory/pull-requests"
RECORD_BYTES_MAX = 1024 * 1024


class LocalPullRequests:
    """The pull requests of one local repository."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository

    async def find_or_open(self, wanted: PullRequest) -> str:
        return await asyncio.to_thread(self._find_or_open, wanted)

    def _find_or_open(self, wanted: PullRequest) -> str:
        try:
            git_dir = _git_dir(self._repository)
            slug = wanted.branch.replace("/", "-")
            record = safe_path(git_dir, f"{DIRECTORY}/{slug}.json")
            page = safe_path(git_dir, f"{DIRECTORY}/{slug}.md")
            if record.exists():
                return _same(record, wanted)
            url = page.as_uri()
            record.parent.mkdir(parents=True, exist_ok=True)
            _write(page, f"# {wanted.title}\n\n`{wanted.branch}` → `{wanted.base_branch}`\n\n{wanted.body}")
            text = json.dumps({**asdict(wanted), "state": "open", "url": url}, indent=2, ensure_ascii=False)
            try:
                _write(record, text + "\n", first=True)
            except FileExistsError:
                return _same(record, wanted)
        except (OSError, UnsafePath) as error:
            reason = DeliveryFailure.DELIVERY_FAILURE_REJECTED
            raise NotOpened(reason, f"the pull request cannot be recorded in the repository: {error}") from error
        return url


def _git_dir(repository: Path) -> Path:
    """Where git keeps the repository: the directory itself when it is bare."""
    inner = repository / ".git"
    if inner.is_dir() and not inner.is_symlink():
        return inner.resolve()
    if (repository / "HEAD").is_file() and (repository / "objects").is_dir():
        return repository.resolve()
    reason = DeliveryFailure.DELIVERY_FAILURE_REPOSITORY_NOT_FOUND
    raise NotOpened(reason, f"{str(repository)!r} is neither a bare repository nor one with a .git directory")


def _same(record: Path, wanted: PullRequest) -> str:
    """The URL in a record that stands already; NotOpened when it is about another commit."""
    with record.open("rb") as file:
        text = file.read(RECORD_BYTES_MAX)
    try:
        found = json.loads(text)
        commit, url = found["commit"], found["url"]
    except (ValueError, KeyError, TypeError) as error:
        reason = DeliveryFailure.DELIVERY_FAILURE_REJECTED
        raise NotOpened(reason, f"the record {record.name!r} cannot be read: {error!r}") from error
    if commit != wanted.commit:
        reason = DeliveryFailure.DELIVERY_FAILURE_BRANCH_TAKEN
        said = f"a pull request for {wanted.branch!r} stands at {commit!r}; ours would be {wanted.commit!r}"
        raise NotOpened(reason, said)
    return str(url)


def _write(path: Path, text: str, *, first: bool = False) -> None:
    """The whole file or none of it, durable when this returns; with `first`, FileExistsError where there is one."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    scratch = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        if first:
            path.hardlink_to(scratch)
        else:
            scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
