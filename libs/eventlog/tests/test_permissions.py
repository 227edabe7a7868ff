"""The server itself refuses what a service may never do."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import nats
import nats.errors
import pytest
from embedded.nats import Nats, running
from eventlog import EventLog, Tip, connect
from eventlog.bootstrap import bootstrap
from eventlog.permissions import authorization
from factory.classification.v1 import TaskClassified
from factory.task.v1 import TASK_TYPE_API, SubmitRequest, TaskCompleted

LANES = ["conductor", "classifier", "audit"]
PASSWORDS = {user: f"{user}-secret" for user in ["operator", "platform", *LANES]}


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Nats]:
    with running(tmp_path / "nats", authorization=authorization(PASSWORDS, LANES, "main")) as server:
        yield server


async def user(server: Nats, name: str):
    return await connect(server.url, name=name, user=name, password=PASSWORDS[name])


async def test_a_service_appends_to_its_own_lane_and_to_no_other(guarded: Nats):
    operator = await user(guarded, "operator")
    await bootstrap(operator, lanes=["classifier"])
    nc = await user(guarded, "classifier")
    own = EventLog(nc, org="main", service="classifier")

    stored = await own.append("t1", [TaskClassified(type=TASK_TYPE_API)], after=Tip())
    past = await own.read("t1", at_least=stored.sequence)
    assert len(past.events) == 1

    now = datetime.now(UTC)
    with pytest.raises(nats.errors.TimeoutError):
        forged = EventLog(nc, org="main", service="conductor")._event("t1", [TaskCompleted()], Tip(), None, 0, now)
        await nc.jetstream().publish("factory.evt.conductor.main.t1", forged.SerializeToString(), timeout=0.5)
    with pytest.raises(nats.errors.TimeoutError):
        await nc.request("$JS.API.STREAM.DELETE.EVENTS", b"", timeout=0.5)
    for client in (nc, operator):
        await client.close()


async def test_the_audit_says_nothing_and_a_platform_only_submits(guarded: Nats):
    operator = await user(guarded, "operator")
    await bootstrap(operator, lanes=["classifier"])
    audit, platform = await user(guarded, "audit"), await user(guarded, "platform")

    with pytest.raises(nats.errors.TimeoutError):
        await audit.jetstream().publish("factory.evt.audit.main.t1", b"x", timeout=0.5)
    heard = []
    subscription = await platform.subscribe("factory.evt.conductor.main.*")
    await platform.publish("factory.submit.main", SubmitRequest(title="x").SerializeToString())
    await platform.publish("factory.evt.conductor.main.t1", b"forged")
    await asyncio.sleep(0.3)
    info = await operator.jetstream().stream_info("INTAKE")

    assert info.state.messages == 1
    assert subscription.pending_msgs == 0 and heard == []
    for client in (operator, audit, platform):
        await client.close()
