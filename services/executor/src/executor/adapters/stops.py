"""Hears that something of a task may be wanted no more, so that a running call need not wait for its heartbeat.

A hint decides nothing: who is told looks into the log.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from eventlog import subjects

from executor.adapters.received import Stopping

log = structlog.get_logger()


class Hint(Protocol):
    """A message of core NATS, as far as it is read."""

    subject: str


@dataclass(slots=True)
class Stops:
    """Who of this process wants to be told, by task."""

    listening: dict[str, set[asyncio.Event]] = field(default_factory=dict)

    async def hear(self, subscribe: Callable[..., Awaitable[object]], org: str) -> None:
        """Listens from now on; `subscribe` is the connection's own."""
        await subscribe(subjects.every_stop(org), cb=self._told)

    @contextlib.contextmanager
    def hints(self, task_id: str) -> Iterator[asyncio.Event]:
        """An event that is set by each hint about the task."""
        hinted = asyncio.Event()
        self.listening.setdefault(task_id, set()).add(hinted)
        try:
            yield hinted
        finally:
            self.listening[task_id].discard(hinted)
            if not self.listening[task_id]:
                del self.listening[task_id]

    async def _told(self, message: Hint) -> None:
        for hinted in self.listening.get(message.subject.rpartition(".")[2], ()):
            hinted.set()


@contextlib.asynccontextmanager
async def stoppable(
    is_wanted: Callable[[], Awaitable[bool]], hinted: asyncio.Event, *, heartbeat_s: float
) -> AsyncIterator[Stopping]:
    """Stops the call in the block once `is_wanted` says no: asked after each hint, and at each heartbeat."""
    stopping = Stopping()

    async def watch() -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(heartbeat_s):
                    await hinted.wait()
            hinted.clear()
            try:
                if not await is_wanted():
                    break
            except Exception as error:  # whatever it was, the next heartbeat looks again
                log.warning("stop.not_looked", error=repr(error))
        log.info("call.stopping")
        stopping.stop("its request is wanted no more")

    watching = asyncio.create_task(watch())
    try:
        yield stopping
    finally:
        watching.cancel()
