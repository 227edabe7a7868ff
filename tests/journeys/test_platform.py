"""How a platform hands tasks in and hears of their end: by the client, by gRPC, and by any NATS client at all."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator

import nats
import pytest
import pytest_asyncio
from factory.event.v1 import Event
from factory.task.v1 import (
    TASK_STATE_COMPLETED,
    TASK_TYPE_DOCUMENTATION,
    SubmitRequest,
    TaskServiceStub,
    WatchRequest,
)
from factory_client import Factory
from factory_client.wire import open_channel
from nats.aio.client import Client
from nats.aio.msg import Msg
from stage import Up, approve, providers, sample_remote

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

SUBMIT = "factory.submit.main"
REPLIES = "factory.reply.main.platform-test"
ENDED = "factory.task.v1.TaskCompleted"
PROJECT = "jotter"
TITLE = "Document the configuration options in the README"
WAIT_S = 60


class Platform:
    """What a platform has: an address, a token, a NATS user, and nothing of ours but the contracts."""

    def __init__(self, address: dict[str, str], factory: Factory, nc: Client, refused: list[str]) -> None:
        self.address, self.factory, self.nc, self.refused = address, factory, nc, refused
        self._numbers = itertools.count()

    async def publish(self, data: bytes) -> dict:
        """Publishes a submission and waits for the factory's answer."""
        reply = f"{REPLIES}.{next(self._numbers)}"
        answers = await self.nc.subscribe(reply)
        try:
            await self.nc.jetstream().publish(SUBMIT, data, headers={"Factory-Reply": reply})
            return json.loads((await answers.next_msg(timeout=WAIT_S)).data)
        finally:
            await answers.unsubscribe()

    def request(self, key: str) -> SubmitRequest:
        return SubmitRequest(title=TITLE, project=PROJECT, type=TASK_TYPE_DOCUMENTATION, idempotency_key=key)

    def cloudevent(self, key: str, **attributes: object) -> bytes:
        data = {"title": TITLE, "project": PROJECT, "type": "documentation", "idempotencyKey": key}
        event = {"specversion": "1.0", "type": "factory.task.v1.SubmitRequest", "source": "/shop", "id": "1"}
        return json.dumps({**event, "data": data, **attributes}).encode()

    async def by_client(self, key: str) -> str:
        return (await self.factory.submit(TITLE, project=PROJECT, type="documentation", key=key)).task_id

    async def by_grpc(self, key: str) -> str:
        async with open_channel(self.address["url"]) as channel:
            answer = await TaskServiceStub(channel).Submit(self.request(key), metadata=self.metadata)
            return answer.task_id

    async def by_protobuf(self, key: str) -> str:
        return (await self.publish(self.request(key).SerializeToString()))["task_id"]

    async def by_cloudevent(self, key: str) -> str:
        return (await self.publish(self.cloudevent(key)))["task_id"]

    async def done_with(self, *task_ids: str) -> None:
        """Ends tasks whose work nobody waits for."""
        for task_id in task_ids:
            await self.factory.cancel(task_id)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.address['token']}"),)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    directory = tmp_path_factory.mktemp("platform")
    with providers(directory / "providers") as made:
        up = Up(directory / "data", made.url)
        refused: list[str] = []

        async def on_error(error: Exception) -> None:
            refused.append(str(error))

        try:
            up.start()
            known = up.address()
            # As a stranger would: no inbox of a certain name, no library of ours.
            nc = await nats.connect(
                known["nats_url"], user=known["nats_user"], password=known["nats_password"], error_cb=on_error
            )
            async with up.factory() as factory:
                await factory.create_project(PROJECT, str(sample_remote(directory / "remote")))
                yield Platform(known, factory, nc, refused)
            await nc.close()
        finally:
            up.stop()
            up.end()


async def test_the_same_key_is_the_same_task_whichever_way_it_comes(platform: Platform):
    ways = [platform.by_client, platform.by_protobuf, platform.by_cloudevent, platform.by_grpc]

    ids = [await way("one-key") for way in ways]

    assert len(set(ids)) == 1
    again = [await way("another-key") for way in reversed(ways)]
    assert len(set(again)) == 1
    assert ids[0] != again[0]
    await platform.done_with(ids[0], again[0])


async def test_a_cloudevent_without_a_key_is_named_by_its_source_and_id(platform: Platform):
    one = await platform.publish(platform.cloudevent("", id="4711"))
    same = await platform.publish(platform.cloudevent("", id="4711"))
    other = await platform.publish(platform.cloudevent("", id="4712"))

    assert (one["existed"], same["existed"], other["existed"]) == (False, True, False)
    assert one["task_id"] == same["task_id"] != other["task_id"]
    await platform.done_with(one["task_id"], other["task_id"])


async def test_a_subscriber_hears_what_the_conductor_says_until_the_task_has_ended(platform: Platform):
    heard: list[tuple[str, Event]] = []
    ended = asyncio.Event()
    task_id = await platform.by_protobuf("subscribed")

    async def hear(message: Msg) -> None:
        event, kind = Event.FromString(message.data), (message.headers or {})["ce-type"]
        if event.id == task_id:
            heard.append((kind, event))
            if kind == ENDED:
                ended.set()

    subscription = await platform.nc.subscribe("factory.evt.conductor.main.*", cb=hear)
    await approve(platform.factory, task_id)
    await asyncio.wait_for(ended.wait(), WAIT_S)
    await subscription.unsubscribe()

    task = await platform.factory.get(task_id)
    completed = heard[-1][1].facts[-1].task_completed
    assert task.state == TASK_STATE_COMPLETED
    assert completed.pull_request_url == task.pull_request_url != ""


async def test_who_watches_by_the_client_or_by_grpc_hears_the_same_end(platform: Platform):
    task_id = await platform.by_cloudevent("watched")

    async def by_client() -> list[int]:
        return [event.sequence async for event in platform.factory.watch(task_id)]

    async def by_grpc() -> list[int]:
        async with open_channel(platform.address["url"]) as channel:
            request = WatchRequest(task_id=task_id)
            stream = TaskServiceStub(channel).Watch(request, metadata=platform.metadata)
            return [event.sequence async for event in stream]

    watching = [asyncio.create_task(by_client()), asyncio.create_task(by_grpc())]
    await approve(platform.factory, task_id)
    by_the_client, by_the_stub = await asyncio.wait_for(asyncio.gather(*watching), WAIT_S)

    assert by_the_client == by_the_stub
    assert (await platform.factory.get(task_id)).state == TASK_STATE_COMPLETED


@pytest.mark.parametrize("how", ["published without a word", "sent as a request", "published to the stream"])
async def test_what_the_nats_command_line_does_is_permitted(platform: Platform, how: str):
    data = platform.request(f"nats cli: {how}").SerializeToString()
    match how:
        case "published without a word":  # nats pub
            await platform.nc.publish(SUBMIT, data)
        case "sent as a request":  # nats req: the stream answers that it has the message
            answer = await platform.nc.request(SUBMIT, data, timeout=WAIT_S)
            assert json.loads(answer.data)["stream"] == "INTAKE"
        case _:
            assert (await platform.nc.jetstream().publish(SUBMIT, data)).stream == "INTAKE"
    await platform.nc.flush()

    # The way back is the same for a message that nobody waits for: its key finds the task.
    async with asyncio.timeout(WAIT_S):
        while not await _known(platform, how):
            await asyncio.sleep(0.05)
    assert platform.refused == []


async def _known(platform: Platform, how: str) -> bool:
    rows = await platform.factory.tasks(project=PROJECT)
    key = f"nats cli: {how}"
    answer = await platform.factory.submit(TITLE, project=PROJECT, type="documentation", key=key)
    return answer.existed and any(row.task_id == answer.task_id for row in rows)


async def test_a_platform_may_not_speak_for_a_service_nor_listen_to_the_models(platform: Platform):
    before = len(platform.refused)

    await platform.nc.publish("factory.evt.conductor.main.01h00000000000000000000000", b"forged")
    await platform.nc.subscribe("factory.evt.executor-claude.main.*")
    await platform.nc.subscribe("factory.live.main.*")
    await platform.nc.flush()
    async with asyncio.timeout(WAIT_S):
        while len(platform.refused) < before + 3:
            await asyncio.sleep(0.05)

    assert all("permissions violation" in error for error in platform.refused[before:])
    del platform.refused[before:]


async def test_a_refused_submission_is_answered_with_the_field_at_fault(platform: Platform):
    no_title = await platform.publish(SubmitRequest(project=PROJECT).SerializeToString())
    no_project = await platform.publish(SubmitRequest(title=TITLE, project="nobody").SerializeToString())
    repository = await platform.publish(SubmitRequest(title=TITLE, repository="/etc").SerializeToString())
    taken = await platform.publish(
        SubmitRequest(title="Else", project=PROJECT, idempotency_key="one-key").SerializeToString()
    )

    assert (no_title["error"]["code"], no_title["error"]["field"]) == ("INVALID_ARGUMENT", "title")
    assert (no_project["error"]["code"], no_project["error"]["field"]) == ("NOT_FOUND", "project")
    assert (repository["error"]["code"], repository["error"]["field"]) == ("INVALID_ARGUMENT", "repository")
    assert taken["error"]["code"] == "ALREADY_EXISTS"
    assert "title" in taken["error"]["message"]
