"""The log on the server image that production runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from embedded.nats import Nats
from eventlog import Conflict, EventLog, Tip, connect
from eventlog.bootstrap import bootstrap
from eventlog.preflight import check
from factory.task.v1 import TaskFailed, TaskSubmitted

from conftest import in_container

pytestmark = [pytest.mark.docker, pytest.mark.slow]


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Nats]:
    with in_container(tmp_path / "nats") as server:
        yield server


async def test_the_log_works_on_the_image_that_production_uses(container: Nats):
    assert check(container.monitor_url).sync_always
    nc = await connect(container.url, name="operator")
    await bootstrap(nc, lanes=["context"])
    log = EventLog(nc, org="main", service="conductor")

    first = await log.append("t1", [TaskSubmitted(title="One")], after=Tip())
    with pytest.raises(Conflict):
        await log.append("t1", [TaskFailed(reason="no")], after=Tip())

    assert (await log.read("t1", at_least=first.sequence)).events[0].event == first.event
    await nc.close()
