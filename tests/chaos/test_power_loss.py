"""The power is cut, and only what had reached the block device is left: no acknowledged event and no artifact is lost.

Each has a control that does without the sync, and must lose: else the test would prove nothing.
"""

import asyncio
import contextlib
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from artifacts import ArtifactDamaged, ArtifactMissing, DirectoryArtifacts, ref_for
from chaos.disk import disk, mounted
from eventlog import EventLog, Past, connect
from eventlog.bootstrap import bootstrap
from eventlog.jetstream import ApiError
from eventlog.past import Tip
from factory.task.v1 import TaskHeld
from stage import until
from stage_apart import Broker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

LANES, WRITERS = 20, 8
# nats-server's own default.
DEFAULT_SYNC = "2m"
ARTIFACTS = 25


async def acknowledged_before_the_cut(broker: Broker, events_at_least: int) -> dict[str, int]:
    """Appends from many sides until the server is killed in the middle of it; the last version acknowledged per id."""
    nc = await connect(broker.url, name="writer")
    await bootstrap(nc, lanes=["context"])
    log = EventLog(nc, org="main", service="conductor")
    acknowledged: dict[str, int] = {}

    async def write(ids: list[str]) -> None:
        tips = dict.fromkeys(ids, Tip())
        while True:
            for id in ids:
                recorded = await log.append(id, [TaskHeld(reason="x" * 500)], after=tips[id])
                tips[id], acknowledged[id] = recorded.tip, recorded.event.version

    ids = [f"task{number:022}" for number in range(LANES * WRITERS)]
    writers = [asyncio.create_task(write(ids[n::WRITERS])) for n in range(WRITERS)]
    while sum(acknowledged.values()) < events_at_least:
        await asyncio.sleep(0)
        for failed in (writer for writer in writers if writer.done()):
            failed.result()
    broker.kill()
    for writer in writers:
        writer.cancel()
    await asyncio.gather(*writers, return_exceptions=True)
    await nc.close()
    return dict(acknowledged)


async def left_after_the_cut(broker: Broker, ids: list[str]) -> dict[str, int]:
    """How many events of each id the server still has; none where it has lost the stream itself."""
    nc = await connect(broker.url, name="reader")
    log = EventLog(nc, org="main", service="conductor")
    found: dict[str, Past] = {}
    try:
        for id in ids:
            with contextlib.suppress(ApiError):
                sequence = await log.last_own(id)
                found[id] = await log.read(id, at_least=sequence)
    finally:
        await nc.close()
    return {id: len(past.events) for id, past in found.items()}


async def lost_by_a_power_cut(directory: Path, sync: str, events_at_least: int) -> tuple[int, int]:
    """How many events were acknowledged, and how many of them are gone."""
    with disk(directory) as (made, place):
        broker = Broker(place / "nats", sync=sync)
        broker.start()
        try:
            until(broker.ready, "nats-server to be ready")
            acknowledged = await acknowledged_before_the_cut(broker, events_at_least)
            copy = made.cut()
        finally:
            broker.end()
        with mounted(copy, directory / "after") as after:
            again = Broker(after / "nats", sync=sync)
            again.start()
            try:
                until(again.ready, "nats-server to be ready on what is left")
                left = await left_after_the_cut(again, list(acknowledged))
            finally:
                again.end()
    gone = sum(max(version - left.get(id, 0), 0) for id, version in acknowledged.items())
    return sum(acknowledged.values()), gone


@pytest.mark.parametrize("moment", [1, 2, 3])
async def test_every_acknowledged_event_survives_a_power_cut(moment: int, tmp_path: Path):
    events_at_least = random.Random(moment).randint(50, 800)

    acknowledged, gone = await lost_by_a_power_cut(tmp_path, "always", events_at_least)

    assert acknowledged >= events_at_least
    assert gone == 0


async def test_without_a_sync_on_every_write_acknowledged_events_are_lost(tmp_path: Path):
    acknowledged, gone = await lost_by_a_power_cut(tmp_path, DEFAULT_SYNC, 500)

    assert acknowledged >= 500
    assert gone > 0, "the control has lost nothing: this power cut proves nothing"


def data(number: int) -> bytes:
    return f"artifact {number} ".encode() * 500


async def put_as_the_product_does(root: Path, data: bytes) -> None:
    await DirectoryArtifacts(root).put(data)


async def put_without_any_sync(root: Path, data: bytes) -> None:
    path, unfinished = place_of(root, data)
    unfinished.write_bytes(data)
    unfinished.replace(path)


async def put_without_syncing_the_directory(root: Path, data: bytes) -> None:
    path, unfinished = place_of(root, data)
    with unfinished.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def place_of(root: Path, data: bytes) -> tuple[Path, Path]:
    digest = ref_for(data).digest
    (root / digest[:2]).mkdir(parents=True, exist_ok=True)
    return root / digest[:2] / digest, root / f".{digest}"


async def left_of_artifacts(directory: Path, put: Callable, count: int) -> int:
    """How many of the artifacts can be read, each with its digest verified, after the power was cut behind the last."""
    with disk(directory) as (made, place):
        for number in range(count):
            await put(place / "artifacts", data(number))
        copy = made.cut()
        with mounted(copy, directory / "after") as after:
            store = DirectoryArtifacts(after / "artifacts")
            found = 0
            for number in range(count):
                with contextlib.suppress(ArtifactMissing, ArtifactDamaged):
                    found += await store.get(ref_for(data(number)).digest) == data(number)
    return found


@pytest.mark.parametrize("count", [1, ARTIFACTS])
async def test_every_artifact_survives_a_power_cut(count: int, tmp_path: Path):
    assert await left_of_artifacts(tmp_path, put_as_the_product_does, count) == count


@pytest.mark.parametrize("put", [put_without_any_sync, put_without_syncing_the_directory])
async def test_an_artifact_that_is_not_synced_with_its_directory_is_lost(put: Callable, tmp_path: Path):
    left = await left_of_artifacts(tmp_path, put, ARTIFACTS)

    assert left < ARTIFACTS, "the control has lost nothing: this power cut proves nothing"


async def test_artifacts_that_are_put_at_once_and_twice_survive_a_power_cut(tmp_path: Path):
    with disk(tmp_path) as (made, place):
        store, other = DirectoryArtifacts(place / "artifacts"), DirectoryArtifacts(place / "artifacts")
        await asyncio.gather(*(to.put(data(number)) for number in range(ARTIFACTS) for to in (store, other, store)))
        copy = made.cut()
        with mounted(copy, tmp_path / "after") as after:
            left = DirectoryArtifacts(after / "artifacts")
            found = [await left.get(ref_for(data(number)).digest) for number in range(ARTIFACTS)]

    assert found == [data(number) for number in range(ARTIFACTS)]
