"""The disk of the log and of the artifacts is full when a paid answer arrives: the answer is kept until there is room."""

import asyncio
from pathlib import Path

import pytest
from audit.reconcile import Kind, bill_from
from chaos.disk import disk, fill
from chaos.tasks import tiny_remote
from eventlog import facts_of
from factory.call.v1 import ModelCallStarted
from factory.event.v1 import Event
from factory.task.v1 import TASK_STATE_COMPLETED
from factory_client import Factory
from stage import approve, compared, providers, reaches, until
from stage_apart import ACK_WAIT_S, apart

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

# Less, and JetStream finds no room for what its streams reserve.
DISK_BYTES = 1024**3
# An answer takes some seconds: long enough to fill the disk in the middle of it.
PACE = ("--tokens-per-second", "60", "--first-token-delay", "0.5")
# Longer than a work item stays with an executor that is silent.
FULL_S = 3 * ACK_WAIT_S


async def call_started(factory: Factory, task_id: str) -> str:
    """The id of the task's first call, once the log holds its start."""
    async for heard in factory.watch(task_id):
        for fact in facts_of(Event.FromString(heard.event)):
            if isinstance(fact, ModelCallStarted):
                return fact.call_id
    raise AssertionError("the task ended without a call")


@pytest.mark.parametrize("full_for", ["the log", "the log and the artifacts"])
async def test_an_answer_that_was_paid_for_is_kept_while_the_disk_is_full(full_for: str, tmp_path: Path):
    house_dir = tmp_path / "house"
    house_dir.mkdir()
    remote = tiny_remote(tmp_path / "house" / "remote")
    with disk(tmp_path / "small", DISK_BYTES) as (_, place):
        (house_dir / "nats").symlink_to(place)
        artifacts = place / "artifacts" if "artifacts" in full_for else house_dir / "artifacts"
        with (
            providers(tmp_path / "providers", *PACE) as made,
            apart(house_dir, made.url, FACTORY_ARTIFACTS=str(artifacts)) as house,
        ):
            async with house.factory() as factory:
                task_id = (await factory.submit("Document the configuration", repository=str(remote))).task_id
                call_id = await call_started(factory, task_id)
                filler = fill(place)
                until(lambda: bill_from(made.bill.read_text(), task_id) != [], "the call to be billed")
                await asyncio.sleep(FULL_S)
                filler.unlink()
                # Out of room, nats-server gives JetStream up, and takes it up again at a start only.
                if not house.nats.is_ready():
                    house.nats.kill()
                    house.nats.start()
                until(house.nats.is_ready, "nats-server to have room again")
                await approve(factory, task_id)
                await reaches(factory, task_id, TASK_STATE_COMPLETED)
                comparison = await compared(factory, task_id, made.bill)

    assert [(call.call_id, call.kind) for call in comparison.calls] == [(call_id, Kind.EQUAL)]
    assert comparison.ledger_tokens == comparison.billed_tokens > 0
