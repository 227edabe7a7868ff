"""Work in hand on a real server: what a stop leaves undone is offered again at once."""

import asyncio
from pathlib import Path

from embedded.nats import Nats
from eventlog import EventLog, Past, Tip
from eventlog.work import Work, publish_work
from factory.classification.v1 import TaskClassified
from factory.event.v1 import AnyFact
from factory.task.v1 import TASK_TYPE_API, ClassificationRequested, TaskSubmitted
from nats.aio.client import Client
from runtime import Runtime, Service, serve

ASKED = ClassificationRequested(request_id="classification-1-1")
ANSWER = TaskClassified(request_id="classification-1-1", type=TASK_TYPE_API)


async def test_what_a_stop_interrupts_is_offered_again_and_what_is_settled_is_not_done_twice(
    nc: Client, nats_server: Nats, tmp_path: Path
):
    env = {"FACTORY_NATS_URL": nats_server.url, "FACTORY_ARTIFACTS": str(tmp_path), "FACTORY_DRAIN_S": "1"}
    log = EventLog(nc, org="main", service="conductor")
    asked = await log.append("t" * 26, [TaskSubmitted(title="One"), ASKED], after=Tip())
    taken: list[int] = []

    async def stuck(work: Work, past: Past) -> list[AnyFact]:
        taken.append(work.deliveries)
        await asyncio.sleep(60)
        return []

    async def done(work: Work, past: Past) -> list[AnyFact]:
        taken.append(work.deliveries)
        return [ANSWER]

    def working(handle) -> Service:
        async def setup(rt: Runtime) -> None:
            rt.worker(handle, lambda work, past: [])

        return Service("classifier", "classifier", setup)

    await publish_work(nc, asked, ASKED)
    async with serve([(working(stuck), env)]):
        await until(lambda: taken == [1])
    async with serve([(working(done), env)]):
        await until(lambda: taken == [1, 2])
        await asyncio.sleep(0.2)
        await publish_work(nc, asked, ASKED)
        await asyncio.sleep(0.5)

    assert taken == [1, 2]
    assert list((await log.read("t" * 26)).facts()) == [TaskSubmitted(title="One"), ASKED, ANSWER]


async def until(seen) -> None:
    async with asyncio.timeout(10):
        while not seen():
            await asyncio.sleep(0.02)
