"""Artifacts in a directory: `<root>/<first two hex digits>/<digest>`, written so that a power cut loses none.

Never blocks the event loop: every touch of the disk happens in a thread.
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from factory.artifact.v1 import ArtifactRef

from artifacts.store import ArtifactDamaged, ArtifactMissing, digest_of, is_digest, ref_for

# Starts with a dot, so that no digest and no listing ever meets it.
_UNFINISHED = ".unfinished"


class DirectoryArtifacts:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._durable_directories: set[Path] = set()

    async def put(self, data: bytes) -> ArtifactRef:
        return await asyncio.to_thread(self._put, data)

    async def get(self, digest: str) -> bytes:
        return await asyncio.to_thread(self._get, digest)

    async def erase(self, digest: str) -> bool:
        return await asyncio.to_thread(self._erase, digest)

    async def exists(self, digest: str) -> bool:
        return is_digest(digest) and await asyncio.to_thread(self._path(digest).is_file)

    async def digests(self) -> AsyncIterator[str]:
        for digest in await asyncio.to_thread(self._sorted_digests):
            yield digest

    def _path(self, digest: str) -> Path:
        return self._root / digest[:2] / digest

    def _put(self, data: bytes) -> ArtifactRef:
        ref = ref_for(data)
        path = self._path(ref.digest)
        self._make_durable(path.parent)
        if not self._holds(ref.digest):
            self._write(path, data)
        # Also when it was there already: another put may have renamed it just now, its directory not yet fsynced.
        _sync_directory(path.parent)
        return ref

    def _make_durable(self, directory: Path) -> None:
        """The directory and those above it up to the root are entered on disk before anything is put in them."""
        if directory in self._durable_directories:
            return
        directory.mkdir(parents=True, exist_ok=True)
        for inner in (directory, *directory.parents):
            _sync_directory(inner.parent)
            if inner == self._root:
                break
        self._durable_directories.add(directory)

    def _holds(self, digest: str) -> bool:
        """Whether the intact bytes are there; damaged ones are replaced by the next put."""
        try:
            return digest_of(self._path(digest).read_bytes()) == digest
        except FileNotFoundError:
            return False

    def _write(self, path: Path, data: bytes) -> None:
        unfinished = self._root / _UNFINISHED
        unfinished.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=unfinished)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                _sync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _get(self, digest: str) -> bytes:
        if not is_digest(digest):
            raise ArtifactMissing(digest)
        try:
            data = self._path(digest).read_bytes()
        except FileNotFoundError:
            raise ArtifactMissing(digest) from None
        if (found := digest_of(data)) != digest:
            raise ArtifactDamaged(digest, found)
        return data

    def _erase(self, digest: str) -> bool:
        if not is_digest(digest):
            return False
        path = self._path(digest)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        _sync_directory(path.parent)
        return True

    def _sorted_digests(self) -> list[str]:
        return sorted(path.name for path in self._root.glob("[0-9a-f][0-9a-f]/*") if is_digest(path.name))


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    """fsync that means it: macOS's own only reaches the drive's cache."""
    try:
        from fcntl import F_FULLFSYNC, fcntl  # pyright: ignore[reportAttributeAccessIssue]  # macOS only
    except ImportError:
        os.fsync(descriptor)
        return
    try:
        fcntl(descriptor, F_FULLFSYNC)
    except OSError:  # a file system that cannot (a network share): the ordinary one is what there is
        os.fsync(descriptor)
