"""Artifacts that are stored however long it takes: what they hold may have been paid for.

A full disk takes them when there is room again; meanwhile the work is in hand, and its heartbeats go on.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog
from artifacts import Artifacts
from factory.artifact.v1 import ArtifactRef

log = structlog.get_logger()

# Between two tries: doubled from the first to the last, and that for ever.
PUT_PAUSE_S_MIN = 0.2
PUT_PAUSE_S_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Patient:
    """A store that does not give up on a put; who cancels the wait is told in the log what was not stored."""

    store: Artifacts

    async def put(self, data: bytes) -> ArtifactRef:
        pause_s = PUT_PAUSE_S_MIN
        try:
            while True:
                try:
                    return await self.store.put(data)
                except OSError as error:
                    log.error("artifact.refused", bytes=len(data), error=str(error), again_in_s=pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, PUT_PAUSE_S_MAX)
        except asyncio.CancelledError:
            log.error("artifact.not_stored", bytes=len(data))
            raise

    async def get(self, digest: str) -> bytes:
        return await self.store.get(digest)

    async def erase(self, digest: str) -> bool:
        return await self.store.erase(digest)

    async def exists(self, digest: str) -> bool:
        return await self.store.exists(digest)

    def digests(self) -> AsyncIterator[str]:
        return self.store.digests()
