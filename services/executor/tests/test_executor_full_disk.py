"""A disk that is full after a call was paid for: the answer is kept in hand and recorded when there is room again."""

import asyncio
import errno
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from artifacts import Artifacts
from eventlog import subjects
from executor.usage import total
from factory.artifact.v1 import ArtifactRef
from factory.call.v1 import CALL_OUTCOME_OK, ModelCalled, ModelCallStarted
from factory.phase.v1 import PhaseCompleted
from simulator import Mode

pytestmark = pytest.mark.slow  # real servers: left to `just test`


@dataclass
class Full:
    """An artifact store whose disk is full for its next puts."""

    store: Artifacts
    refusals: int = 0
    refused: list[bytes] = field(default_factory=list)

    async def put(self, data: bytes) -> ArtifactRef:
        if self.refusals:
            self.refusals -= 1
            self.refused.append(data)
            raise OSError(errno.ENOSPC, "No space left on device")
        return await self.store.put(data)

    async def get(self, digest: str) -> bytes:
        return await self.store.get(digest)

    async def erase(self, digest: str) -> bool:
        return await self.store.erase(digest)

    async def exists(self, digest: str) -> bool:
        return await self.store.exists(digest)

    def digests(self) -> AsyncIterator[str]:
        return self.store.digests()


async def on_the_bill(desk) -> None:
    async with asyncio.timeout(10):
        while not desk.provider.bill.lines:
            await asyncio.sleep(0.01)


async def resized(desk, bytes_max: int | None) -> None:
    """Gives the log so much room; None for exactly what it holds."""
    js = desk.nc.jetstream()
    info = await js.stream_info(subjects.EVENTS)
    await js.update_stream(info.config, max_bytes=info.state.bytes if bytes_max is None else bytes_max)


async def test_a_log_that_is_full_when_a_call_has_ended_gets_its_facts_once_there_is_room_and_nothing_is_paid_twice(
    desk,
):
    await desk.misbehave(mode=Mode.SLOW, tokens_per_second=300)
    async with desk.executor():
        await desk.request()
        await on_the_bill(desk)
        await resized(desk, None)
        await asyncio.sleep(8)  # longer than the item's ack wait: heartbeats keep it in hand
        silent = await desk.said()
        await resized(desk, 64 * 1024**2)
        result = await desk.result()
    events = await desk.said()

    assert [[type(fact) for fact in facts] for facts in silent] == [[ModelCallStarted]]
    assert [[type(fact) for fact in facts] for facts in events] == [[ModelCallStarted], [ModelCalled, PhaseCompleted]]
    assert isinstance(result, PhaseCompleted)
    [line] = desk.provider.bill.lines
    end = events[1][0]
    assert isinstance(end, ModelCalled)
    assert (end.outcome, total(end.usage)) == (CALL_OUTCOME_OK, line.total)


async def test_an_answer_is_kept_until_the_artifact_store_takes_it(desk):
    await desk.misbehave(mode=Mode.SLOW, tokens_per_second=300)
    async with desk.executor() as house:
        [runtime] = house.runtimes
        full = runtime.artifacts = Full(runtime.artifacts)
        await desk.request()
        await on_the_bill(desk)
        full.refusals = 3
        result = await desk.result()
    [_, [end, _]] = await desk.said()

    assert isinstance(result, PhaseCompleted)
    assert isinstance(end, ModelCalled)
    assert len(full.refused) == 3
    assert await desk.store.get(end.response.digest) == full.refused[0]
    assert [line.total for line in desk.provider.bill.lines] == [total(end.usage)]
