"""People steer: preferences, overrides, budgets, caps, deadlines and attachments, through a whole running factory.

After each journey every decision in its log is made again from the log alone, and is the same.
"""

import asyncio
import json
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from audit.reconcile import Kind
from conductor.replay import made_again
from eventlog import EventLog, Recorded, connect
from factory.call.v1 import CALL_OUTCOME_ABANDONED, CALL_OUTCOME_OK, ModelCalled
from factory.event.v1 import AnyFact
from factory.model.v1 import (
    BREAKER_STATE_CLOSED,
    BREAKER_STATE_OPEN,
    ListRequest,
    ModelProbed,
    ModelRecovered,
    ModelServiceStub,
    ModelTripped,
    RecoverRequest,
    TripRequest,
)
from factory.phase.v1 import PHASE_FAILURE_STOPPED, PhaseFailed, PhaseRequested
from factory.project.v1 import (
    PREFERENCE_MODE_COST,
    PREFERENCE_MODE_QUALITY,
    CreateRequest,
    GetBudgetRequest,
    GetPreferencesRequest,
    Preferences,
    ProjectServiceStub,
    SavePreferencesRequest,
    SetBudgetRequest,
)
from factory.task.v1 import (
    HOLD_CAUSE_BUDGET,
    HOLD_CAUSE_CAPACITY,
    PHASE_KIND_IMPLEMENT,
    TASK_STATE_AWAITING_REVIEW,
    TASK_STATE_CANCELLED,
    TASK_STATE_COMPLETED,
    TASK_STATE_HELD,
    TASK_TYPE_DOCUMENTATION,
    TASK_TYPE_LOGIC,
    CancelRequest,
    ExplainRequest,
    OverrideRequest,
    RequestExpired,
    SubmitRequest,
    TaskServiceStub,
    Upload,
)
from factory_client import Factory
from stage import Providers, Up, approve, compared, providers, pull_requests, reaches, sample_remote

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SEEN_TIMEOUT_S = 90
A_DOLLAR = 10**12


@dataclass
class House:
    """A running factory, and all that a journey needs of it."""

    up: Up
    made: Providers
    factory: Factory
    channel: grpc.aio.Channel
    directory: Path
    token: str

    def stub(self, make: Callable[[grpc.aio.Channel], Any]) -> Any:
        return make(self.channel)

    @property
    def auth(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),)

    async def project(self, name: str) -> Path:
        remote = sample_remote(self.directory / name)
        request = CreateRequest(project=name, repository=str(remote))
        await self.stub(ProjectServiceStub).Create(request, metadata=self.auth)
        return remote

    async def submit(self, title: str, project: str, **more: Any) -> str:
        request = SubmitRequest(title=title, project=project, **more)
        return (await self.stub(TaskServiceStub).Submit(request, metadata=self.auth)).task_id

    async def log(self) -> list[Recorded]:
        """Every event there is."""
        known = self.up.address()
        passwords = json.loads((self.up.data / "nats-passwords.json").read_text())
        nc = await connect(known["nats_url"], name="operator", user="operator", password=passwords["operator"])
        events = EventLog(nc, org="main", service="operator")
        end, found = await events.last_sequence(), []
        async with aclosing(events.follow(after=0)) as following:
            async for batch in following:
                found += batch
                if found and found[-1].sequence >= end:
                    break
        await nc.close()
        return found

    async def seen(self, wanted: Callable[[AnyFact], bool]) -> AnyFact:
        """The first fact in the log that is wanted, once it is there."""
        for _ in range(SEEN_TIMEOUT_S):
            for recorded in await self.log():
                for fact in recorded.facts:
                    if fact is not None and wanted(fact):
                        return fact
            await asyncio.sleep(1)
        raise AssertionError(f"not seen within {SEEN_TIMEOUT_S} s")


@asynccontextmanager
async def house(directory: Path, *options: str, **env: str) -> AsyncIterator[House]:
    """A factory of its own; at the end every decision of it is made again."""
    with providers(directory / "providers", *options) as made:
        up = Up(directory / "data", made.url, **env)
        try:
            up.start()
            known = up.address()
            async with up.factory() as factory, grpc.aio.insecure_channel(known["url"]) as channel:
                running = House(up, made, factory, channel, directory, known["token"])
                yield running
                log = await running.log()
        finally:
            up.end()
    again = list(made_again(log))
    assert again, "a journey makes decisions"
    for one in again:
        assert list(one.again) == one.recorded.facts, f"decided otherwise at {one.recorded.sequence}"


async def test_preferences_decide_who_works_and_every_version_is_kept(tmp_path: Path):
    async with house(tmp_path) as there:
        projects = there.stub(ProjectServiceStub)
        await there.project("shop")
        for version, mode in enumerate((PREFERENCE_MODE_QUALITY, PREFERENCE_MODE_COST)):
            saved = SavePreferencesRequest(
                project="shop", preferences=Preferences(mode=mode), expected_version=version, reason=f"try {version}"
            )
            await projects.SavePreferences(saved, metadata=there.auth)
        stale = SavePreferencesRequest(
            project="shop", preferences=Preferences(mode=PREFERENCE_MODE_QUALITY), expected_version=1
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await projects.SavePreferences(stale, metadata=there.auth)
        found = await projects.GetPreferences(GetPreferencesRequest(project="shop"), metadata=there.auth)
        task = await there.submit("Implement a function that computes the median", "shop", type=TASK_TYPE_LOGIC)
        await approve(there.factory, task)
        await reaches(there.factory, task, TASK_STATE_COMPLETED)
        told = await there.stub(TaskServiceStub).Explain(
            ExplainRequest(task_id=task, phase=PHASE_KIND_IMPLEMENT), metadata=there.auth
        )

    assert refused.value.code() is grpc.StatusCode.ABORTED
    assert [(one.version, one.saved_by, one.reason) for one in found.history] == [
        (2, "owner", "try 1"),
        (1, "owner", "try 0"),
    ]
    words = [sentence for decision in told.decisions for sentence in decision.sentences]
    assert "implement-1-1 is asked of deepseek: the project puts cost first." in words


async def test_an_override_stops_the_running_call_and_the_other_model_does_it(tmp_path: Path):
    async with house(tmp_path) as there:
        remote = await there.project("shop")
        there.made.misbehave(model="gpt*", mode="slow", tokens_per_second=5, times=0, phase="implement")
        task = await there.submit("Implement a function that computes the median", "shop", type=TASK_TYPE_LOGIC)
        await there.seen(lambda fact: fact.DESCRIPTOR.name == "ModelCallStarted")
        await there.stub(TaskServiceStub).Override(
            OverrideRequest(task_id=task, phase=PHASE_KIND_IMPLEMENT, model="claude", reason="gpt is slow today"),
            metadata=there.auth,
        )
        await approve(there.factory, task)
        done = await reaches(there.factory, task, TASK_STATE_COMPLETED)
        calls = [fact for r in await there.log() for fact in r.facts if isinstance(fact, ModelCalled)]
        stopped = await there.seen(lambda fact: isinstance(fact, PhaseFailed))
        comparison = await compared(there.factory, task, there.made.bill)

    assert pull_requests(remote) == [done.branch]
    assert isinstance(stopped, PhaseFailed) and stopped.reason == PHASE_FAILURE_STOPPED
    assert [(call.model, call.outcome) for call in calls if call.request_id.startswith("implement")] == [
        ("gpt", CALL_OUTCOME_ABANDONED),
        ("claude", CALL_OUTCOME_OK),
    ]
    assert comparison.wrong == []
    assert comparison.counts[Kind.EQUAL] == 2
    assert [(one.model, one.overridden_by) for one in done.overrides] == [("claude", "owner")]


async def test_cancelling_a_task_stops_its_call_and_books_what_it_cost(tmp_path: Path):
    async with house(tmp_path) as there:
        await there.project("shop")
        there.made.misbehave(model="claude*", mode="slow", tokens_per_second=5, times=0)
        task = await there.submit("Document the login flow", "shop", type=TASK_TYPE_DOCUMENTATION)
        await there.seen(lambda fact: fact.DESCRIPTOR.name == "ModelCallStarted")
        await there.stub(TaskServiceStub).Cancel(CancelRequest(task_id=task), metadata=there.auth)
        ended = await there.seen(lambda fact: isinstance(fact, ModelCalled))
        await reaches(there.factory, task, TASK_STATE_CANCELLED)
        comparison = await compared(there.factory, task, there.made.bill)

    assert isinstance(ended, ModelCalled) and ended.outcome == CALL_OUTCOME_ABANDONED
    assert comparison.wrong == []


async def test_a_budget_holds_a_task_until_it_is_raised_and_then_books_what_it_cost(tmp_path: Path):
    async with house(tmp_path) as there:
        projects = there.stub(ProjectServiceStub)
        await there.project("shop")
        await projects.SetBudget(SetBudgetRequest(project="shop", hard_pico_usd=1_000), metadata=there.auth)
        task = await there.submit("Document the login flow", "shop", type=TASK_TYPE_DOCUMENTATION)
        held = await reaches(there.factory, task, TASK_STATE_HELD)
        while_held = await projects.GetBudget(GetBudgetRequest(project="shop"), metadata=there.auth)
        raised = SetBudgetRequest(project="shop", hard_pico_usd=10 * A_DOLLAR, reason="worth it")
        await projects.SetBudget(raised, metadata=there.auth)
        await approve(there.factory, task)
        await reaches(there.factory, task, TASK_STATE_COMPLETED)
        report = await there.factory.report(task)
        budget = await _settled(there)

    assert held.hold_cause == HOLD_CAUSE_BUDGET
    assert "waits for money" in held.reason and "shop-2" in held.reason
    assert while_held.held_tasks == 1 and while_held.budgets[0].reserved_pico_usd == 0
    assert budget.spent_pico_usd == int(report.total.cost_pico_usd) > 0
    assert (budget.reserved_pico_usd, budget.uncertain_pico_usd, budget.open_reservations) == (0, 0, 0)


async def _settled(there: House) -> Any:
    """The project's budget, once nothing is reserved any more."""
    budget = None
    for _ in range(100):
        answer = await there.stub(ProjectServiceStub).GetBudget(GetBudgetRequest(project="shop"), metadata=there.auth)
        budget = answer.budgets[0]
        if not budget.open_reservations:
            return budget
        await asyncio.sleep(0.1)
    raise AssertionError(f"still reserved: {budget}")


async def test_a_project_with_many_tasks_works_on_as_many_as_it_may_and_the_others_wait_visibly(tmp_path: Path):
    async with house(tmp_path, FACTORY_OPEN_TASKS_MAX="2") as there:
        await there.project("shop")
        await there.project("other")
        there.made.misbehave(model="claude*", mode="slow", tokens_per_second=200, times=0)
        titles = [f"Document part {number} of the login flow" for number in range(5)]
        tasks = [await there.submit(title, "shop", type=TASK_TYPE_DOCUMENTATION) for title in titles]
        states = [await there.factory.get(task) for task in tasks]
        elsewhere = await there.submit("Document the storage", "other", type=TASK_TYPE_DOCUMENTATION)
        admitted = await there.factory.get(elsewhere)
        for task in tasks:
            await reaches(there.factory, task, TASK_STATE_AWAITING_REVIEW)

    assert [one.hold_cause for one in states] == [0, 0, *[HOLD_CAUSE_CAPACITY] * 3]
    assert admitted.hold_cause == 0


async def test_a_model_that_fails_for_many_is_passed_over_probed_and_taken_back(tmp_path: Path):
    async with house(tmp_path) as there:
        await there.project("shop")
        there.made.misbehave(model="claude*", mode="500", times=0)
        titles = [f"Document part {number} of the login flow" for number in range(6)]
        for title in titles:
            await there.submit(title, "shop", type=TASK_TYPE_DOCUMENTATION)
        tripped = await there.seen(lambda fact: isinstance(fact, ModelTripped))
        there.made.misbehave(model="claude*", mode="none")
        # The pause is over in half a minute; whoever comes first then is the probe.
        recovered, said = None, []
        while recovered is None:
            await there.submit("Document the storage", "shop", type=TASK_TYPE_DOCUMENTATION)
            await asyncio.sleep(3)
            said = [fact for recorded in await there.log() for fact in recorded.facts]
            recovered = next((fact for fact in said if isinstance(fact, ModelRecovered)), None)
        probes = [fact for fact in said if isinstance(fact, ModelProbed)]
        asked = [fact.request_id for fact in said if isinstance(fact, PhaseRequested) and fact.probe]

    assert isinstance(tripped, ModelTripped) and tripped.model == "claude"
    assert tripped.evidence.bad >= 4 and tripped.evidence.reasons["server error"] == tripped.evidence.bad
    assert recovered.model == "claude"
    assert {probe.model for probe in probes} == {"claude"}
    assert len(asked) == len(probes) >= 1


async def test_an_operator_takes_a_model_out_of_service_and_back(tmp_path: Path):
    async with house(tmp_path) as there:
        models = there.stub(ModelServiceStub)
        await there.project("shop")
        await models.Trip(TripRequest(model="claude"), metadata=there.auth)
        while_open = await models.List(ListRequest(), metadata=there.auth)
        task = await there.submit("Document the storage", "shop", type=TASK_TYPE_DOCUMENTATION)
        await reaches(there.factory, task, TASK_STATE_AWAITING_REVIEW)
        asked = [f for r in await there.log() for f in r.facts if isinstance(f, PhaseRequested)]
        await models.Recover(RecoverRequest(model="claude"), metadata=there.auth)
        afterwards = await models.List(ListRequest(), metadata=there.auth)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await models.Recover(RecoverRequest(model="claude"), metadata=there.auth)

    assert _breaker(while_open, "claude") == BREAKER_STATE_OPEN
    assert [request.model for request in asked] == ["gpt"]
    assert "taken out of service by owner" in asked[0].receipt.because or "owner" in asked[0].receipt.because
    assert _breaker(afterwards, "claude") == BREAKER_STATE_CLOSED
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def _breaker(answer: Any, model: str) -> int:
    return next(one.health.breakers[0].state for one in answer.models if one.model == model)


async def test_a_request_that_hangs_past_its_deadline_is_void_and_another_model_answers(tmp_path: Path):
    async with house(tmp_path, FACTORY_PHASE_DEADLINE_S="4") as there:
        await there.project("shop")
        there.made.misbehave(model="claude*", mode="hang", times=0, after_chunks=1)
        task = await there.submit("Document the login flow", "shop", type=TASK_TYPE_DOCUMENTATION)
        expired = await there.seen(lambda fact: isinstance(fact, RequestExpired))
        await reaches(there.factory, task, TASK_STATE_AWAITING_REVIEW)
        comparison = await compared(there.factory, task, there.made.bill)

    assert isinstance(expired, RequestExpired) and expired.request_id == "document-1-1"
    assert comparison.wrong == []


async def test_a_screenshot_goes_to_models_that_can_read_it(tmp_path: Path):
    async with house(tmp_path) as there:
        await there.project("shop")
        cheap = SavePreferencesRequest(project="shop", preferences=Preferences(mode=PREFERENCE_MODE_COST))
        await there.stub(ProjectServiceStub).SavePreferences(cheap, metadata=there.auth)
        upload = Upload(name="screenshot.png", content=_png())
        task = await there.submit("Document the login page", "shop", type=TASK_TYPE_DOCUMENTATION, attachments=[upload])
        await reaches(there.factory, task, TASK_STATE_AWAITING_REVIEW)
        told = await there.stub(TaskServiceStub).Explain(ExplainRequest(task_id=task), metadata=there.auth)
        calls = [fact for r in await there.log() for fact in r.facts if isinstance(fact, ModelCalled)]
        wrong = Upload(name="archive.zip", content=b"PK\x03\x04\xff\xfe")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await there.submit("Document it", "shop", attachments=[wrong])

    words = [sentence for decision in told.decisions for sentence in decision.sentences]
    assert "deepseek is ruled out: cannot read images, and screenshot.png is attached." in words
    assert [call.model for call in calls] == ["gpt"]
    assert "attachments[0].content: a PNG, JPEG, GIF or WebP image, or UTF-8 text" in str(refused.value.details())


def _png() -> bytes:
    """An image of one red pixel."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0\xff\0\0")) + chunk(b"IEND", b"")
