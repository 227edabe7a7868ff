"""Artifacts in a directory: `<root>/<first two hex digits>/<digest>`, written so that a power cut loses none.

Never blocks the event loop: every touch of the disk happens in a thread.
"""

import asyncio
import fcntl
import io
import os
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from factory.artifact.v1 import ArtifactRef

from artifacts.store import ArtifactDamaged, ArtifactMissing, digest_of, is_digest, ref_for

# Starts with a dot, so that no digest and no listing ever meets it.
_UNFINISHED = ".unfinished"
AT_ONCE_MAX = 16
"""Threads that write or read: those that wait for the disk together share the commit of its journal."""
KNOWN_MAX = 4_096
"""How many artifacts a store remembers to have made durable; the oldest is forgotten first."""

# macOS's own fsync only reaches the drive's cache; this one means it.
_FULL_FSYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)

# Which file it was, and when it was last changed.
Stamp = tuple[int, int, int]


class DirectoryArtifacts:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._is_prepared = False
        self._preparing = threading.Lock()
        self._threads = ThreadPoolExecutor(AT_ONCE_MAX, thread_name_prefix="artifacts")
        self._durable: dict[str, Stamp] = {}
        self._wanted: _Gets | None = None

    async def put(self, data: bytes) -> ArtifactRef:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._put, data)

    async def get(self, digest: str) -> bytes:
        """As the protocol says; those that are asked for at the same moment are read by one thread."""
        loop = asyncio.get_running_loop()
        if self._wanted is None or self._wanted.loop is not loop:
            self._wanted = _Gets(loop)
            loop.call_soon(self._read, self._wanted)
        return await self._wanted.add(digest)

    async def erase(self, digest: str) -> bool:
        return await asyncio.to_thread(self._erase, digest)

    async def exists(self, digest: str) -> bool:
        return is_digest(digest) and await asyncio.to_thread(Path(self._path(digest)).is_file)

    async def digests(self) -> AsyncIterator[str]:
        for digest in await asyncio.to_thread(self._sorted_digests):
            yield digest

    def _directory(self, digest: str) -> str:
        return f"{self._root}/{digest[:2]}"

    def _path(self, digest: str) -> str:
        return f"{self._directory(digest)}/{digest}"

    def _put(self, data: bytes) -> ArtifactRef:
        ref = ref_for(data)
        path = self._path(ref.digest)
        there = _stamp(path)
        if there is not None and self._durable.get(ref.digest) == there:
            return ref
        if there is None or _content(path, ref.digest) is None:
            there = self._write(path, data)
        # Also when it was there already: another put may have renamed it just now, its directory not yet fsynced.
        _sync_directory(self._directory(ref.digest))
        self._durable[ref.digest] = there
        if len(self._durable) > KNOWN_MAX:
            self._durable.pop(next(iter(self._durable)), None)
        return ref

    def _write(self, path: str, data: bytes) -> Stamp:
        self._prepare()
        unfinished = f"{self._root}/{_UNFINISHED}/{os.urandom(16).hex()}"
        try:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                left = memoryview(data)
                while left:
                    left = left[os.write(descriptor, left) :]
                _sync(descriptor)
                os.replace(unfinished, path)  # noqa: PTH105  a Path costs more than the call
                return _stamp_of(os.fstat(descriptor))
            finally:
                os.close(descriptor)
        except BaseException as error:
            # Somebody may have taken the directories away: the next put looks after them.
            self._is_prepared = self._is_prepared and not isinstance(error, FileNotFoundError)
            Path(unfinished).unlink(missing_ok=True)
            raise

    def _prepare(self) -> None:
        """All directories are there, and entered on disk, before anything is put in them; once per store."""
        if self._is_prepared:
            return
        with self._preparing:
            for name in (_UNFINISHED, *(f"{number:02x}" for number in range(256))):
                (self._root / name).mkdir(parents=True, exist_ok=True)
            _sync_directory(str(self._root))
            _sync_directory(str(self._root.parent))
            self._is_prepared = True

    def _read(self, gets: "_Gets") -> None:
        """Reads all that was asked for in one turn of the event loop."""
        if self._wanted is gets:
            self._wanted = None
        self._threads.submit(self._get_all, gets)

    def _get_all(self, gets: "_Gets") -> None:
        found: list[bytes | BaseException] = []
        for digest in gets.digests:
            try:
                found.append(self._get(digest))
            except BaseException as error:
                found.append(error)
        gets.answer(found)

    def _get(self, digest: str) -> bytes:
        if not is_digest(digest):
            raise ArtifactMissing(digest)
        try:
            data = _bytes(self._path(digest))
        except FileNotFoundError:
            raise ArtifactMissing(digest) from None
        if (found := digest_of(data)) != digest:
            raise ArtifactDamaged(digest, found)
        return data

    def _erase(self, digest: str) -> bool:
        if not is_digest(digest):
            return False
        path = Path(self._path(digest))
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        _sync_directory(str(path.parent))
        return True

    def _sorted_digests(self) -> list[str]:
        return sorted(path.name for path in self._root.glob("[0-9a-f][0-9a-f]/*") if is_digest(path.name))


class _Gets:
    """What was asked for in one turn of an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.digests: list[str] = []
        self._answers: list[asyncio.Future[bytes]] = []

    def add(self, digest: str) -> asyncio.Future[bytes]:
        answer: asyncio.Future[bytes] = self.loop.create_future()
        self.digests.append(digest)
        self._answers.append(answer)
        return answer

    def answer(self, found: Sequence[bytes | BaseException]) -> None:
        """Called in the thread that has read."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._settle, found)

    def _settle(self, found: Sequence[bytes | BaseException]) -> None:
        for answer, one in zip(self._answers, found, strict=True):
            if answer.done():
                continue
            if isinstance(one, BaseException):
                answer.set_exception(one)
            else:
                answer.set_result(one)


def _stamp(path: str) -> Stamp | None:
    try:
        return _stamp_of(os.lstat(path))
    except FileNotFoundError:
        return None


def _stamp_of(found: os.stat_result) -> Stamp:
    return found.st_ino, found.st_ctime_ns, found.st_size


def _bytes(path: str) -> bytes:
    with io.FileIO(path) as file:
        return file.readall()


def _content(path: str, digest: str) -> bytes | None:
    """The intact bytes; damaged ones are as good as none, and are replaced."""
    try:
        data = _bytes(path)
    except FileNotFoundError:
        return None
    return data if digest_of(data) == digest else None


def _sync_directory(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    if _FULL_FSYNC is not None:
        try:
            fcntl.fcntl(descriptor, _FULL_FSYNC)
        except OSError:  # a file system that cannot (a network share): the ordinary one is what there is
            pass
        else:
            return
    os.fsync(descriptor)
