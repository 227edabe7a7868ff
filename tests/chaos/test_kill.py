"""kill -9 of the whole factory at any moment of the demo, then `factory up` again: the task finishes, one pull request,
and every call on the providers' bill stands in the ledger exactly once."""

import asyncio
import contextlib
import os
import random
from pathlib import Path

import pytest
from audit.reconcile import Kind
from factory.task.v1 import TASK_STATE_AWAITING_REVIEW, TASK_STATE_COMPLETED
from factory_client import FactoryError
from stage import JWT, Providers, Up, compared, providers, pull_requests, reaches, sample_remote

KILLS = int(os.environ.get("FACTORY_KILLS", "5"))
# Events of the demo's task, from submission to completion, with some to spare on either side.
EVENTS = 34

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


async def drive(up: Up, repository: Path, *, until_event: int = 10_000, pause_s: float = 0) -> str:
    """Submits (once: the key sees to that), approves, and stops at the task's end or its nth event."""
    async with up.factory() as factory:
        task_id = (await factory.submit(JWT, repository=str(repository), key="the-demo")).task_id
        seen = 0
        async for answer in factory.watch(task_id):
            seen += 1
            if seen >= until_event:
                await asyncio.sleep(pause_s)
                break
            if answer.task.state == TASK_STATE_AWAITING_REVIEW:
                with contextlib.suppress(FactoryError):  # approved before the kill
                    shown = await factory.get_change(task_id)
                    await factory.approve(task_id, shown.change_digest, shown.evidence_digest)
        return task_id


@pytest.mark.parametrize("kill", range(KILLS))
async def test_a_killed_factory_finishes_what_it_began_and_pays_for_nothing_twice(kill: int, tmp_path: Path):
    chance = random.Random(kill * 7919 + 1)
    moment, pause_s = chance.randint(1, EVENTS), chance.random() * 0.3
    remote = sample_remote(tmp_path)
    with providers(tmp_path / "providers", "--tokens-per-second", "4000", "--first-token-delay", "0.05") as made:
        up = Up(tmp_path / "data", made.url)
        try:
            await drive(up.start(), remote, until_event=moment, pause_s=pause_s)
            up.kill(with_nats=chance.random() < 0.5)
            task_id = await drive(up.start(), remote)
            await check(up, task_id, remote, made)
        finally:
            up.end()


async def check(up: Up, task_id: str, remote: Path, made: Providers) -> None:
    async with up.factory() as factory:
        task = await reaches(factory, task_id, TASK_STATE_COMPLETED)
        comparison = await compared(factory, task_id, made.bill)
        report = await factory.report(task_id)

    assert pull_requests(remote) == [task.branch]
    assert comparison.wrong == []
    assert set(comparison.counts) <= {Kind.EQUAL, Kind.LOST, Kind.NEVER_SENT}
    lost = comparison.counts[Kind.LOST] + comparison.counts[Kind.NEVER_SENT]
    assert lost <= 1, "one kill can lose one call"
    # What was recorded is not paid for again: all that is billed, less what was lost, is what the phases needed.
    assert len([line for line in report.lines if line.amount.tokens]) == 7
