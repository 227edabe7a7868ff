"""Checkouts of snapshots, made once per process and kept for the requests that follow.

They are read, never written to: a request that changes files has a checkout of its own, which shares with the base
what it leaves alone.
"""

import asyncio
import contextlib
import itertools
import os
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from worktree import checkout

from executor.redaction import Redactions

BASES_MAX = 8
"""How many checkouts are kept when nobody uses them; the one used longest ago goes first."""
REDACTIONS_MAX = 64
"""For how many packs it is remembered what they hide of their base."""


@dataclass(slots=True)
class _Base:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    # empty until it is checked out
    path: Path | None = None


@dataclass(slots=True)
class Bases:
    """The checkouts of this process, in a directory that goes with it."""

    root: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="factory-executor-")))
    _known: OrderedDict[str, _Base] = field(default_factory=OrderedDict)
    _redactions: OrderedDict[str, Redactions] = field(default_factory=OrderedDict)
    _requests: Iterator[int] = field(default_factory=itertools.count)

    @contextlib.asynccontextmanager
    async def checked_out(
        self, digest: str, base_commit: str, load: Callable[[], Awaitable[bytes]]
    ) -> AsyncIterator[Path]:
        """A checkout to read from for as long as the block runs; `load` fetches the bundle if it has to be made."""
        key = f"{digest} {base_commit}"
        base = self._known.setdefault(key, _Base())
        self._known.move_to_end(key)
        base.users += 1
        try:
            async with base.lock:
                if base.path is None:
                    bundle = await load()
                    base.path = await asyncio.to_thread(self._made, bundle, base_commit)
            yield base.path
        finally:
            base.users -= 1
            await asyncio.shield(self._evict())

    def redactions(self, key: str) -> Redactions | None:
        """What was learned before for the same base and pack."""
        if (known := self._redactions.get(key)) is not None:
            self._redactions.move_to_end(key)
        return known

    def has_learned(self, key: str, redactions: Redactions) -> None:
        """Remembers it; the one used longest ago is forgotten first."""
        self._redactions[key] = redactions
        if len(self._redactions) > REDACTIONS_MAX:
            self._redactions.popitem(last=False)

    def scratch(self) -> Path:
        """Where the copy that one request changes may be made; on the same disk, so that objects can be shared."""
        return self.root / f"request-{next(self._requests)}"

    async def close(self) -> None:
        await asyncio.to_thread(shutil.rmtree, self.root, ignore_errors=True)

    def _made(self, bundle: bytes, base_commit: str) -> Path:
        path = Path(tempfile.mkdtemp(prefix="base-", dir=self.root))
        try:
            checkout(bundle, base_commit, path)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        return path

    async def _evict(self) -> None:
        idle = [key for key, base in self._known.items() if not base.users]
        empty = [key for key in idle if self._known[key].path is None]
        for key in [*empty, *idle[: max(len(self._known) - BASES_MAX, 0)]]:
            if (base := self._known.pop(key, None)) is not None and base.path is not None:
                await asyncio.to_thread(shutil.rmtree, base.path, ignore_errors=True)


def own_checkout(base: Path, root: Path) -> None:
    """A checkout of one's own that costs no copy: its files are those of the base until they are replaced.

    Whoever changes one puts another in its place and never writes into it; git itself does the same.
    """
    os.mkdir(root)  # noqa: PTH102  for a large repository a Path costs more than the call, here and below
    with os.scandir(base) as entries:
        for entry in entries:
            target = f"{root}{os.sep}{entry.name}"
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), target)  # noqa: PTH115, PTH211
            elif entry.is_dir():
                own_checkout(Path(entry.path), Path(target))
            else:
                _share(entry.path, target)


def _share(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system that has no links, or no more of them for this file
        shutil.copy2(source, target)
