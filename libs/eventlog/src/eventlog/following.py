"""Follows the log: what is old by direct gets, what is new as the stream says it again once it is stored.

The log has no gaps, so a message that does not carry the next sequence says that some were missed: they are read. What
cannot be kept up with is read too. Whatever is lost on the way, nothing is left out and the order stays.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from eventlog import subjects
from eventlog.direct import ReadFailed, direct_batch
from eventlog.past import Recorded, stored

log = structlog.get_logger()

IDLE_POLL_S = 1.0
# A replica that is behind is asked again after this time.
BEHIND_PAUSE_S = 0.02
# What is heard and not yet taken; more than this is read from the log instead.
HEARD_MAX = 4096


class Follower:
    """One reader of all events, or of those on some subjects, from a position on."""

    def __init__(self, nc: Client, subject: str, *, after: int, batch: int, heard_max: int = HEARD_MAX) -> None:
        self._nc = nc
        self._subject = subject
        self._after = after
        self._batch = batch
        self._heard_max = heard_max
        # Only all events together have no gaps: of a part, what is heard says no more than that there is something.
        self._is_whole = subject == subjects.ALL_EVENTS
        self._heard: deque[tuple[int, Msg]] = deque()
        self._newest = 0
        self._nudged = asyncio.Event()

    async def batches(self) -> AsyncGenerator[tuple[Recorded, ...], None]:
        """Batches in order, for ever; an empty one when there is nothing new."""
        subscription = await self._nc.subscribe(subjects.stored(self._subject), cb=self._hear)
        try:
            while True:
                async for found in self._read():
                    yield found
                while found := await self._next():
                    yield found
        finally:
            await subscription.unsubscribe()

    async def _hear(self, message: Msg) -> None:
        sequence = int((message.headers or {})["Nats-Sequence"])
        self._newest = max(self._newest, sequence)
        if self._is_whole and len(self._heard) < self._heard_max:
            self._heard.append((sequence, message))
        self._nudged.set()

    async def _read(self) -> AsyncIterator[tuple[Recorded, ...]]:
        """Reads on until the log has nothing newer; says so with an empty batch, unless more has been heard of."""
        while True:
            try:
                found = await direct_batch(
                    self._nc, subjects.EVENTS, self._subject, start=self._after + 1, batch=self._batch
                )
            except ReadFailed as error:
                log.warning("follow.unanswered", after=self._after, error=str(error))
                await asyncio.sleep(IDLE_POLL_S)  # a refusal comes at once, and would again
                continue
            if found.messages:
                self._after = found.messages[-1].sequence
                yield found.messages
            elif self._newest > self._after:
                await asyncio.sleep(BEHIND_PAUSE_S)
            else:
                yield ()
            if not found.pending and self._newest <= self._after:
                if found.messages:
                    yield ()
                return
            if self._next_is_heard():
                return

    async def _next(self) -> tuple[Recorded, ...]:
        """What comes next as it was heard; empty where the log must be read."""
        self._nudged.clear()
        if self._newest <= self._after:
            try:
                async with asyncio.timeout(IDLE_POLL_S):
                    await self._nudged.wait()
            except TimeoutError:
                return ()
        found: list[Recorded] = []
        while len(found) < self._batch and self._next_is_heard():
            sequence, message = self._heard.popleft()
            found.append(stored(message.data, sequence, (message.headers or {})["Nats-Subject"]))
            self._after = sequence
        return tuple(found)

    def _next_is_heard(self) -> bool:
        """Whether the next event of the log lies at hand."""
        while self._heard and self._heard[0][0] <= self._after:
            self._heard.popleft()
        return bool(self._heard) and self._heard[0][0] == self._after + 1
