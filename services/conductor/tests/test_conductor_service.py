"""The conductor on a real log, over real gRPC; the other services are played by their facts."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from conductor.app import service
from embedded.nats import Nats
from eventlog import EventLog, Past, Tip
from eventlog.bootstrap import bootstrap
from eventlog.direct import direct_batch
from factory.artifact.v1 import ArtifactRef, Change
from factory.classification.v1 import TaskClassified
from factory.context.v1 import ContextGathered
from factory.event.v1 import AnyFact
from factory.gate.v1 import GATE_VERDICT_PASS, GateJudged
from factory.model.v1 import ListRequest, ModelServiceStub
from factory.phase.v1 import PHASE_FAILURE_OVERLOADED, PhaseCompleted, PhaseFailed, PhaseRequested
from factory.price.v1 import PricePublished
from factory.project.v1 import CreateRequest, ProjectServiceStub
from factory.review.v1 import ApproveRequest, GetChangeRequest, RequestChangesRequest, ReviewServiceStub
from factory.task.v1 import (
    SCOPE_FOCUSED,
    TASK_STATE_AWAITING_REVIEW,
    TASK_STATE_PARKED,
    TASK_TYPE_API,
    CancelRequest,
    GetRequest,
    SubmitRequest,
    TaskRefused,
    TaskServiceStub,
    TaskSubmitted,
    WatchRequest,
)
from google.rpc import error_details_pb2, status_pb2
from nats.aio.client import Client
from runtime import serve
from runtime.rpc import ROLES, token_entry

pytestmark = pytest.mark.slow  # real servers: left to `just test`


@dataclass
class Desk:
    """A running conductor, and everything a test needs to play the others."""

    channel: grpc.aio.Channel
    nc: Client
    artifacts: Path
    roots: Path

    def stub(self, make: Callable[[grpc.aio.Channel], Any]) -> Any:
        return make(self.channel)

    def log(self, lane: str) -> EventLog:
        return EventLog(self.nc, org="main", service=lane)

    async def told(self, lane: str, task: str, *facts: AnyFact) -> None:
        await self.log(lane).report(task, facts)

    async def until(self, task: str, seen: Callable[[Past], bool]) -> Past:
        for _ in range(400):
            past = await self.log("test").read(task)
            if seen(past):
                return past
            await asyncio.sleep(0.02)
        found = [type(fact).__name__ for fact in (await self.log("test").read(task)).facts()]
        raise AssertionError(f"not seen; the log has {found}")

    async def request(self, task: str, request_id: str) -> AnyFact:
        def asked(past: Past) -> bool:
            return any(getattr(f, "request_id", "") == request_id for f in past.facts())

        past = await self.until(task, asked)
        return next(f for f in past.facts() if getattr(f, "request_id", "") == request_id)


@pytest.fixture
async def desk(nc: Client, nats_server: Nats, tmp_path: Path) -> AsyncIterator[Desk]:
    tokens = tmp_path / "tokens.json"
    entries = [
        token_entry("all", "ada", ROLES),
        token_entry("bob", "bob", ROLES),
        token_entry("weak", "eve", ["submitter"]),
    ]
    tokens.write_text(json.dumps(entries))
    env = {
        "FACTORY_NATS_URL": nats_server.url,
        "FACTORY_ARTIFACTS": str(tmp_path / "artifacts"),
        "FACTORY_TOKENS_FILE": str(tokens),
        "FACTORY_MODELS": "claude,gpt,gemini,deepseek",
        "FACTORY_ALLOWED_ROOTS": str(tmp_path),
    }
    async with serve([(service(env), env)]) as house, grpc.aio.insecure_channel(house.grpc_address) as channel:
        yield Desk(channel, nc, tmp_path / "artifacts", tmp_path)


AUTH = (("authorization", "Bearer all"),)
BOB = (("authorization", "Bearer bob"),)


async def awaiting_review(desk: Desk) -> str:
    """A task that has come as far as the architect."""
    tasks = desk.stub(TaskServiceStub)
    answer = await tasks.Submit(
        SubmitRequest(title="Add a health endpoint", repository=str(desk.roots / "repo")), metadata=AUTH
    )
    task = answer.task_id
    ref = ArtifactRef(digest="5" * 64, size=1)
    await desk.request(task, "classification-1-1")
    await desk.told(
        "classifier", task, TaskClassified(request_id="classification-1-1", type=TASK_TYPE_API, scope=SCOPE_FOCUSED)
    )
    await desk.request(task, "context-1-1")
    await desk.told(
        "context",
        task,
        ContextGathered(request_id="context-1-1", base_commit="b" * 40, snapshot=ref, pack=ref, tokens=9),
    )
    await desk.request(task, "implement-1-1")
    await desk.told("executor-gpt", task, PhaseCompleted(request_id="implement-1-1", change_digest="c1"))
    await desk.request(task, "write_tests-1-1")
    change = Change(base_commit="b" * 40, patch=b"diff --git a/x b/x\n").SerializeToString()
    digest = hashlib.sha256(change).hexdigest()
    (desk.artifacts / digest[:2]).mkdir(parents=True, exist_ok=True)
    (desk.artifacts / digest[:2] / digest).write_bytes(change)
    await desk.told("executor-gpt", task, PhaseCompleted(request_id="write_tests-1-1", change_digest=digest))
    await desk.request(task, "gate-1-1")
    await desk.told(
        "quality_gate", task, GateJudged(request_id="gate-1-1", change_digest=digest, verdict=GATE_VERDICT_PASS)
    )
    await desk.until(task, lambda past: any(type(f).__name__ == "HumanReviewRequested" for f in past.facts()))
    return task


async def refusal(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def violations(error: grpc.aio.AioRpcError) -> dict[str, str]:
    trailing = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])  # type: ignore[arg-type]
    bad = error_details_pb2.BadRequest()
    status.details[0].Unpack(bad)
    return {violation.field: violation.description for violation in bad.field_violations}


async def test_a_task_comes_as_far_as_the_architect_and_its_work_was_offered_to_each_service(desk: Desk):
    task = await awaiting_review(desk)

    answer = await desk.stub(TaskServiceStub).Get(GetRequest(task_id=task), metadata=AUTH)

    assert answer.task.state == TASK_STATE_AWAITING_REVIEW
    assert answer.task.waiting_for == "architect"
    offered = await direct_work(desk.nc)
    assert offered == ["classifier", "context", "executor-gpt", "executor-gpt", "quality_gate"]


async def direct_work(nc: Client) -> list[str]:
    answer = await nc.request("$JS.API.STREAM.INFO.WORK", b'{"subjects_filter": ">"}')
    return sorted(subject.split(".")[2] for subject in json.loads(answer.data)["state"].get("subjects", {}))


async def test_two_architects_at_once_give_one_approval_and_the_other_is_told(desk: Desk):
    task = await awaiting_review(desk)
    reviews = desk.stub(ReviewServiceStub)
    shown = await reviews.GetChange(GetChangeRequest(task_id=task), metadata=AUTH)
    approve = ApproveRequest(task_id=task, change_digest=shown.change_digest)

    results = await asyncio.gather(
        reviews.Approve(approve, metadata=AUTH), reviews.Approve(approve, metadata=BOB), return_exceptions=True
    )

    errors = [result for result in results if isinstance(result, grpc.aio.AioRpcError)]
    assert len(errors) == 1
    assert errors[0].code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "was approved by" in (errors[0].details() or "")


async def test_of_approve_and_request_changes_exactly_one_wins(desk: Desk):
    task = await awaiting_review(desk)
    reviews = desk.stub(ReviewServiceStub)
    digest = (await reviews.GetChange(GetChangeRequest(task_id=task), metadata=AUTH)).change_digest

    results = await asyncio.gather(
        reviews.Approve(ApproveRequest(task_id=task, change_digest=digest), metadata=AUTH),
        reviews.RequestChanges(RequestChangesRequest(task_id=task, change_digest=digest, remark="no"), metadata=BOB),
        return_exceptions=True,
    )

    assert sum(isinstance(result, grpc.aio.AioRpcError) for result in results) == 1


async def test_approving_a_change_that_has_moved_on_is_refused(desk: Desk):
    task = await awaiting_review(desk)

    error = await refusal(
        desk.stub(ReviewServiceStub).Approve(ApproveRequest(task_id=task, change_digest="older"), metadata=AUTH)
    )

    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "has moved on since you looked" in (error.details() or "")


async def test_a_key_names_one_task_for_ever_and_other_content_is_refused_by_field(desk: Desk):
    tasks = desk.stub(TaskServiceStub)
    request = SubmitRequest(title="One", repository=str(desk.roots / "repo"), idempotency_key="k")

    answers = await asyncio.gather(*(tasks.Submit(request, metadata=AUTH) for _ in range(50)))
    assert len({answer.task_id for answer in answers}) == 1
    assert sum(not answer.existed for answer in answers) == 1

    request.title = "Another"
    error = await refusal(tasks.Submit(request, metadata=AUTH))
    assert error.code() == grpc.StatusCode.ALREADY_EXISTS
    assert list(violations(error)) == ["title"]


@pytest.mark.parametrize(
    ("fields", "at_fault"),
    [
        ({"title": "  "}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"title": "read \u202eesrever"}, "title"),
        ({"title": "two\u2028lines"}, "title"),
        ({"title": "bell\x7f\x9b"}, "title"),
        ({"title": "\u200b\u2060"}, "title"),
        ({"idempotency_key": "sk-ant-api03-abcdefghijklmnopqrstuvwxyz"}, "idempotency_key"),
        ({"body": "x\n" * 9_000 + "ghp_" + "a1B2" * 9}, "body"),
        ({"title": "use sk-ant-api03-abcdefghijklmnopqrstuvwxyz to log in"}, "title"),
        ({"body": "b" * 1_000_000}, "body"),
        ({"repository": "ext::sh -c touch% /tmp/pwned"}, "repository"),
        ({"repository": "-uupload-pack"}, "repository"),
        ({"repository": "file:///etc"}, "repository"),
        ({"repository": "https://user:secret@example.org/x.git"}, "repository"),
        ({"repository": "", "project": "Not A Name"}, "project"),
        ({"project": "both"}, "repository"),
        ({"base_branch": "../../x"}, "base_branch"),
        ({"type": 99}, "type"),
        ({"scope": 99}, "scope"),
        ({"idempotency_key": "a\0b"}, "idempotency_key"),
        ({"labels": {"team": "\x1b[31m"}}, "labels.team"),
    ],
)
async def test_bad_input_is_refused_with_the_field_at_fault(desk: Desk, fields: dict[str, Any], at_fault: str):
    wanted: dict[str, Any] = {"title": "One", "repository": str(desk.roots / "repo"), **fields}
    request = SubmitRequest(**wanted)

    error = await refusal(desk.stub(TaskServiceStub).Submit(request, metadata=AUTH))

    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert at_fault in violations(error)
    assert "sk-ant" not in (error.details() or "")


async def test_an_unknown_project_is_not_found_and_a_known_one_gives_its_repository(desk: Desk):
    tasks, projects = desk.stub(TaskServiceStub), desk.stub(ProjectServiceStub)
    assert (
        await refusal(tasks.Submit(SubmitRequest(title="x", project="shop"), metadata=AUTH))
    ).code() == grpc.StatusCode.NOT_FOUND

    create = CreateRequest(project="shop", repository=str(desk.roots / "shop"))
    assert not (await projects.Create(create, metadata=AUTH)).existed
    assert (await projects.Create(create, metadata=AUTH)).existed
    task = (
        await tasks.Submit(SubmitRequest(title="x", project="shop"), metadata=(("authorization", "Bearer weak"),))
    ).task_id

    assert (await tasks.Get(GetRequest(task_id=task), metadata=AUTH)).task.repository == str(desk.roots / "shop")


async def test_a_project_created_by_many_at_once_is_created_once(desk: Desk):
    create = CreateRequest(project="shop", repository=str(desk.roots / "shop"))
    projects = desk.stub(ProjectServiceStub)

    answers = await asyncio.gather(*(projects.Create(create, metadata=AUTH) for _ in range(12)))

    assert sum(not answer.existed for answer in answers) == 1


async def test_a_dry_run_over_nats_makes_no_task(desk: Desk):
    message = SubmitRequest(title="x", project="shop", dry_run=True)

    answer: Any = await submitted(desk.nc, message.SerializeToString())

    assert answer["error"]["field"] == "dry_run"


async def test_a_caller_without_token_or_role_is_turned_away_with_the_reason(desk: Desk):
    tasks, reviews = desk.stub(TaskServiceStub), desk.stub(ReviewServiceStub)

    missing = await refusal(tasks.Get(GetRequest(task_id="a" * 26)))
    wrong = await refusal(tasks.Get(GetRequest(task_id="a" * 26), metadata=(("authorization", "Bearer nope"),)))
    weak = await refusal(reviews.Approve(ApproveRequest(), metadata=(("authorization", "Bearer weak"),)))

    assert (missing.code(), wrong.code()) == (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAUTHENTICATED)
    assert weak.code() == grpc.StatusCode.PERMISSION_DENIED
    assert "Approve is for architect; 'eve' has submitter" in (weak.details() or "")


async def test_an_overloaded_model_is_asked_again_when_its_timer_fires(desk: Desk):
    tasks = desk.stub(TaskServiceStub)
    task = (
        await tasks.Submit(
            SubmitRequest(title="x", repository=str(desk.roots / "r"), type=TASK_TYPE_API), metadata=AUTH
        )
    ).task_id
    ref = ArtifactRef(digest="5" * 64, size=1)
    await desk.request(task, "classification-1-1")
    await desk.told(
        "classifier", task, TaskClassified(request_id="classification-1-1", type=TASK_TYPE_API, scope=SCOPE_FOCUSED)
    )
    await desk.request(task, "context-1-1")
    await desk.told(
        "context", task, ContextGathered(request_id="context-1-1", base_commit="b" * 40, snapshot=ref, pack=ref)
    )
    await desk.request(task, "implement-1-1")
    await desk.told("executor-gpt", task, PhaseFailed(request_id="implement-1-1", reason=PHASE_FAILURE_OVERLOADED))

    again = await desk.request(task, "implement-1-2")
    assert isinstance(again, PhaseRequested) and again.HasField("not_before")
    for _ in range(200):
        if "executor-gpt" in await direct_work(desk.nc) and len(await subjects_of(desk.nc, "implement-1-2")) == 1:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the timer did not offer the work")


async def subjects_of(nc: Client, request_id: str) -> list[str]:
    answer = await nc.request("$JS.API.STREAM.INFO.WORK", b'{"subjects_filter": ">"}')
    return [subject for subject in json.loads(answer.data)["state"].get("subjects", {}) if subject.endswith(request_id)]


async def test_a_submission_without_a_key_has_that_of_its_place_in_the_intake_so_that_its_redelivery_is_no_second_task(
    desk: Desk,
):
    await desk.stub(ProjectServiceStub).Create(
        CreateRequest(project="shop", repository=str(desk.roots / "shop")), metadata=AUTH
    )
    request = SubmitRequest(title="Once", project="shop", type=TASK_TYPE_API)

    first = await submitted(desk.nc, request.SerializeToString())
    second = await submitted(desk.nc, request.SerializeToString())
    past = await desk.log("test").read(first["task_id"])
    request.idempotency_key = next(f.idempotency_key for f in past.facts() if isinstance(f, TaskSubmitted))
    again = await submitted(desk.nc, request.SerializeToString())

    assert first["task_id"] != second["task_id"]
    assert request.idempotency_key.startswith("intake-1-")
    assert (again["task_id"], again["existed"]) == (first["task_id"], True)


async def test_a_cloud_event_with_an_id_that_is_no_text_is_refused_and_not_asked_for_again(desk: Desk):
    event = {"specversion": "1.0", "type": "factory.task.v1.SubmitRequest", "id": "\ud800", "data": {"title": "x"}}

    answer = await submitted(desk.nc, json.dumps(event).encode())

    assert answer["error"]["field"] == "id"


async def test_a_parked_task_is_taken_up_at_the_start_of_a_release_that_knows_the_fact(
    nc: Client, nats_server: Nats, tmp_path: Path
):
    """Its events are acknowledged long since: nothing but the start comes to it."""
    env = {"FACTORY_NATS_URL": nats_server.url, "FACTORY_ARTIFACTS": str(tmp_path), "FACTORY_MODELS": "claude,gpt"}
    task = "p" * 26
    conductor = EventLog(nc, org="main", service="conductor")
    await conductor.append(task, [TaskSubmitted(title="One", repository="/r")], after=Tip())
    pulled = await nc.jetstream().pull_subscribe("factory.evt.>", durable="conductor", stream="EVENTS")
    for message in await pulled.fetch(1):
        await message.ack_sync()

    async with serve([(service(env), env)]):
        for _ in range(200):
            if len((await conductor.read(task)).events) == 2:
                break
            await asyncio.sleep(0.02)

    assert [type(f).__name__ for f in (await conductor.read(task)).facts()] == [
        "TaskSubmitted",
        "ClassificationRequested",
    ]


async def test_a_platform_submits_over_nats_in_protobuf_or_json_and_is_answered(desk: Desk):
    create = CreateRequest(project="shop", repository=str(desk.roots / "shop"))
    await desk.stub(ProjectServiceStub).Create(create, metadata=AUTH)
    event = {
        "specversion": "1.0",
        "type": "factory.task.v1.SubmitRequest",
        "source": "/ci",
        "id": "7",
        "data": {"title": "From a platform", "project": "shop", "type": "api", "idempotency_key": "k"},
    }
    message = SubmitRequest(title="From a platform", project="shop", type=TASK_TYPE_API, idempotency_key="k")

    by_json = await submitted(desk.nc, json.dumps(event).encode())
    by_protobuf = await submitted(desk.nc, message.SerializeToString())
    by_grpc = await desk.stub(TaskServiceStub).Submit(message, metadata=AUTH)

    assert by_json["task_id"] == by_protobuf["task_id"] == by_grpc.task_id
    assert (by_json["existed"], by_protobuf["existed"], by_grpc.existed) == (False, True, True)


async def test_a_message_that_cannot_be_read_is_refused_on_record_and_stops_nothing(desk: Desk):
    for garbage in (
        b"\xff\xfe\x00garbage",
        b'{"specversion": "1.0"',
        b"",
        b'{"specversion":"1.0","type":"x","data":{}}',
    ):
        assert "error" in await submitted(desk.nc, garbage)

    batch = await direct_batch(desk.nc, "EVENTS", "factory.evt.conductor.main.*", start=1)
    refused = [f for recorded in batch.messages for f in recorded.facts if isinstance(f, TaskRefused)]
    assert len(refused) == 4
    assert await awaiting_review(desk)


async def submitted(nc: Client, data: bytes) -> dict[str, Any]:
    reply = f"factory.reply.main.{nc.new_inbox().rsplit('.', 1)[-1]}"
    answers = await nc.subscribe(reply)
    await nc.jetstream().publish("factory.submit.main", data, headers={"Factory-Reply": reply})
    return json.loads((await answers.next_msg(timeout=5)).data)


async def test_rubbish_and_unknown_facts_on_the_log_stop_nobody(desk: Desk):
    await desk.nc.jetstream().publish("factory.evt.conductor.main.rubbish", b"\xff\xff\xff")
    task = await awaiting_review(desk)
    unknown_arm = b"\x82\x01\x04" + b"\xa2\x3f\x01\x00"
    past = await desk.log("delivery").read(task)
    future = past.events[0].event.__class__(id=task, producer="delivery", version=1).SerializeToString() + unknown_arm
    await desk.nc.jetstream().publish(f"factory.evt.delivery.main.{task}", future)

    answer = await desk.stub(TaskServiceStub).Get(GetRequest(task_id=task), metadata=AUTH)
    for _ in range(50):
        if answer.task.state == TASK_STATE_PARKED:
            break
        await asyncio.sleep(0.02)
        answer = await desk.stub(TaskServiceStub).Get(GetRequest(task_id=task), metadata=AUTH)

    assert answer.task.state == TASK_STATE_PARKED
    assert await awaiting_review(desk)


async def test_watching_tells_everything_in_order_and_ends_with_the_task(desk: Desk):
    task = await awaiting_review(desk)
    tasks = desk.stub(TaskServiceStub)
    seen: list[str] = []

    async def watch() -> None:
        async for answer in tasks.Watch(WatchRequest(task_id=task), metadata=AUTH):
            seen.extend(fact.type.rsplit(".", 1)[-1] for fact in answer.facts)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0.2)
    await tasks.Cancel(CancelRequest(task_id=task), metadata=AUTH)
    await asyncio.wait_for(watching, 5)

    assert seen[:3] == ["TaskSubmitted", "ClassificationRequested", "TaskClassified"]
    assert seen[-1] == "TaskCancelled"


async def test_prices_are_frozen_into_the_log_once(desk: Desk):
    past = await desk.log("test").read("prices")
    published = [f for f in past.facts() if isinstance(f, PricePublished)]
    models = await desk.stub(ModelServiceStub).List(ListRequest(), metadata=AUTH)

    assert {f.provider_model for f in published} >= {"claude-opus-4-5", "gpt-5", "deepseek-chat"}
    assert all(model.configured for model in models.models)
    assert past.tip("conductor") != Tip()


async def test_a_lost_queue_is_made_again_from_the_log(desk: Desk, nats_server: Nats):
    tasks = desk.stub(TaskServiceStub)
    answer = await tasks.Submit(SubmitRequest(title="x", repository=str(desk.roots / "r")), metadata=AUTH)
    await desk.request(answer.task_id, "classification-1-1")
    await desk.told("classifier", answer.task_id, TaskClassified(request_id="classification-1-1", type=TASK_TYPE_API))
    await desk.request(answer.task_id, "context-1-1")
    await desk.nc.request("$JS.API.STREAM.DELETE.WORK", b"")
    await bootstrap(desk.nc, lanes=["context"], ack_wait_s=5)
    assert await direct_work(desk.nc) == []

    offered: list[str] = []
    env = {"FACTORY_NATS_URL": nats_server.url, "FACTORY_ARTIFACTS": str(desk.artifacts), "FACTORY_MODELS": "gpt"}
    async with serve([(service(env), env)]):
        for _ in range(100):
            if offered := await direct_work(desk.nc):
                break
            await asyncio.sleep(0.05)

    assert offered == ["context"]
