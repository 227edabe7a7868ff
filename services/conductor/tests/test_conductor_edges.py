"""What people may ask of a running conductor at its edges, and times that come while nobody works."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from conductor.adapters.watcher import TRIED_FOR_MONEY_MAX
from conductor.app import service
from embedded.nats import Nats
from eventlog import EventLog, subjects
from factory.artifact.v1 import ArtifactRef
from factory.call.v1 import CALL_OUTCOME_OK, ModelCalled, ModelCallStarted, Usage
from factory.classification.v1 import TaskClassified
from factory.context.v1 import ContextGathered
from factory.event.v1 import AnyFact, Event
from factory.model.v1 import ModelServiceStub, TripRequest
from factory.phase.v1 import PhaseCompleted, PhaseRequested
from factory.project.v1 import (
    PREFERENCE_MODE_BALANCED,
    PREFERENCE_MODE_CUSTOM,
    CreateRequest,
    GetBudgetRequest,
    Preferences,
    ProjectServiceStub,
    RoutingRule,
    SavePreferencesRequest,
    SetBudgetRequest,
)
from factory.task.v1 import (
    HOLD_CAUSE_BUDGET,
    SCOPE_FOCUSED,
    TASK_TYPE_DOCUMENTATION,
    TASK_TYPE_LOGIC,
    Limits,
    OverrideRequest,
    ReleaseRequest,
    SubmitRequest,
    TaskHeld,
    TaskServiceStub,
    TaskType,
)
from google.protobuf.duration_pb2 import Duration
from nats.aio.client import Client
from runtime import serve
from runtime.rpc import ROLES, token_entry

pytestmark = pytest.mark.slow  # real servers: left to `just test`

AUTH = (("authorization", "Bearer all"),)
REF = ArtifactRef(digest="5" * 64, size=1)


@pytest.fixture
def env(nats_server: Nats, tmp_path: Path) -> dict[str, str]:
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps([token_entry("all", "ada", ROLES)]))
    return {
        "FACTORY_NATS_URL": nats_server.url,
        "FACTORY_ARTIFACTS": str(tmp_path / "artifacts"),
        "FACTORY_TOKENS_FILE": str(tokens),
        "FACTORY_MODELS": "claude,gpt,gemini,deepseek",
        "FACTORY_ALLOWED_ROOTS": str(tmp_path),
    }


@pytest.fixture
async def channel(env: dict[str, str], tmp_path: Path, nc: Client) -> AsyncIterator[grpc.aio.Channel]:
    async with serve([(service(env), env)]) as house, grpc.aio.insecure_channel(house.grpc_address) as channel:
        request = CreateRequest(project="shop", repository=str(tmp_path / "repo"))
        await ProjectServiceStub(channel).Create(request, metadata=AUTH)
        yield channel


async def submitted(channel: grpc.aio.Channel, **more: Any) -> str:
    request = SubmitRequest(title="Document the login flow", project="shop", type=TASK_TYPE_DOCUMENTATION, **more)
    return (await TaskServiceStub(channel).Submit(request, metadata=AUTH)).task_id


async def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


@pytest.mark.parametrize("seconds", [2**62, -(2**62), 10**14])
async def test_a_time_that_is_out_of_this_world_is_refused_by_its_field(channel: grpc.aio.Channel, seconds: int):
    timeout = Limits(timeout=Duration(seconds=seconds))
    submit = SubmitRequest(title="One", project="shop", limits=timeout)
    trip = TripRequest(model="claude", duration=Duration(seconds=seconds))

    limits = await refusal(TaskServiceStub(channel).Submit(submit, metadata=AUTH))
    duration = await refusal(ModelServiceStub(channel).Trip(trip, metadata=AUTH))

    assert limits[0] is duration[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert limits[1].startswith("limits.timeout: 1 minute to 366 days, found")
    assert duration[1].startswith("duration: 1 minute to 24 hours, found")


@pytest.mark.parametrize("phase", [0, 7, 99, -1])
@pytest.mark.parametrize("model", ["claude", ""])
async def test_a_phase_that_nobody_can_be_put_in_charge_of_is_refused_by_its_field(
    channel: grpc.aio.Channel, phase: int, model: str
):
    task = await submitted(channel)
    order: Any = OverrideRequest(task_id=task, phase=phase, model=model)  # type: ignore[arg-type]

    code, details = await refusal(TaskServiceStub(channel).Override(order, metadata=AUTH))

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith("phase: ")


async def held_for_capacity(channel: grpc.aio.Channel, **more: Any) -> str:
    """A second task in a project that has room for one."""
    one = Preferences(mode=PREFERENCE_MODE_BALANCED, max_open_tasks=1)
    await ProjectServiceStub(channel).SavePreferences(
        SavePreferencesRequest(project="shop", preferences=one), metadata=AUTH
    )
    await submitted(channel)
    return await submitted(channel, **more)


@pytest.mark.parametrize("amount", [0, -1])
async def test_a_release_with_a_limit_that_no_task_may_have_is_refused_by_its_field(
    channel: grpc.aio.Channel, amount: int
):
    task = await held_for_capacity(channel)
    order = ReleaseRequest(task_id=task, limits=Limits(max_cost_pico_usd=amount))

    code, details = await refusal(TaskServiceStub(channel).Release(order, metadata=AUTH))

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith("limits.max_cost_pico_usd: more than 0")


async def test_a_task_that_waits_for_room_from_the_start_has_its_deadline_watched(
    channel: grpc.aio.Channel, nc: Client
):
    task = await held_for_capacity(channel, limits=Limits(timeout=Duration(seconds=60)))

    await until_timer(nc, task, "deadline")


async def until_timer(nc: Client, task: str, name: str) -> None:
    """Until a timer of a task is set."""
    found: list[str] = []
    for _ in range(100):
        answer = await nc.request("$JS.API.STREAM.INFO.TIMERS", b'{"subjects_filter": ">"}')
        found = list(json.loads(answer.data)["state"].get("subjects", {}))
        if subjects.timer_schedule("main", task, name) in found:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"no timer {name!r} of {task}: {found}")


async def held_for_money(channel: grpc.aio.Channel, nc: Client, type: TaskType = TASK_TYPE_DOCUMENTATION) -> str:
    """A task whose project may spend nothing."""
    await ProjectServiceStub(channel).SetBudget(SetBudgetRequest(project="shop", hard_pico_usd=1), metadata=AUTH)
    task = await with_context(channel, nc, type)
    await until(nc, task, lambda seen: isinstance(seen, TaskHeld) and seen.cause == HOLD_CAUSE_BUDGET)
    return task


async def with_context(channel: grpc.aio.Channel, nc: Client, type: TaskType = TASK_TYPE_DOCUMENTATION) -> str:
    """A task whose first phase is to be done; the other services are played by their facts."""
    task = await submitted(channel)
    for lane, fact in (
        ("classifier", TaskClassified(request_id="classification-1-1", type=type, scope=SCOPE_FOCUSED)),
        ("context", ContextGathered(request_id="context-1-1", base_commit="b" * 40, snapshot=REF, pack=REF, tokens=9)),
    ):
        await until(nc, task, lambda seen, wanted=fact.request_id: getattr(seen, "request_id", "") == wanted)
        await EventLog(nc, org="main", service=lane).report(task, [fact])
    return task


async def until(nc: Client, task: str, seen: Callable[[AnyFact], bool]) -> None:
    found: list[AnyFact] = []
    for _ in range(200):
        past = await EventLog(nc, org="main", service="test").read(task)
        found = [fact for fact in past.facts() if fact is not None]
        if any(seen(fact) for fact in found):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"not seen; the log has {[type(fact).__name__ for fact in found]}")


async def test_a_task_that_still_waits_for_money_when_a_month_has_begun_is_looked_at_in_the_next(
    channel: grpc.aio.Channel, nc: Client
):
    task = await held_for_money(channel, nc)
    await until_timer(nc, task, "month")
    schedule = subjects.timer_schedule("main", task, "month")
    await nc.jetstream().purge_stream("TIMERS", subject=schedule)

    await nc.jetstream().publish(subjects.timer_fire("main", task, "month"), b"-")

    await until_timer(nc, task, "month")


async def test_a_lost_month_timer_is_set_again_when_a_conductor_starts(
    channel: grpc.aio.Channel, nc: Client, env: dict[str, str]
):
    task = await held_for_money(channel, nc)
    await until_timer(nc, task, "month")
    await nc.jetstream().purge_stream("TIMERS")

    async with serve([(service(env), env)]):
        await until_timer(nc, task, "month")


async def test_what_is_too_little_for_those_that_wait_longest_lets_a_task_behind_them_go_on(
    channel: grpc.aio.Channel, nc: Client
):
    projects = ProjectServiceStub(channel)
    without_the_cheapest = Preferences(mode=PREFERENCE_MODE_BALANCED, excluded_models=["deepseek"])
    await projects.SavePreferences(
        SavePreferencesRequest(project="shop", preferences=without_the_cheapest), metadata=AUTH
    )
    for _ in range(2 * TRIED_FOR_MONEY_MAX + 1):
        await held_for_money(channel, nc, TASK_TYPE_LOGIC)
    task = await held_for_money(channel, nc, TASK_TYPE_DOCUMENTATION)

    # Enough for 8,000 tokens of documentation by gpt, too little for 32,000 of code.
    await projects.SetBudget(SetBudgetRequest(project="shop", hard_pico_usd=2 * 10**11), metadata=AUTH)

    await until(nc, task, lambda seen: isinstance(seen, PhaseRequested))


async def test_a_parked_task_whose_deadline_has_passed_sets_no_timer_over_and_over(nc: Client, env: dict[str, str]):
    env = {**env, "FACTORY_CLASSIFICATION_DEADLINE_S": "1"}
    async with serve([(service(env), env)]) as house, grpc.aio.insecure_channel(house.grpc_address) as channel:
        request = CreateRequest(project="shop", repository=env["FACTORY_ALLOWED_ROOTS"] + "/repo")
        await ProjectServiceStub(channel).Create(request, metadata=AUTH)
        task = await submitted(channel)
        # a fact of a kind that this release does not know
        future = Event(id=task, producer="delivery", version=1).SerializeToString() + b"\x82\x01\x04\xa2\x3f\x01\x00"
        await nc.jetstream().publish(f"factory.evt.delivery.main.{task}", future)
        await asyncio.sleep(2)

        before = (await nc.jetstream().stream_info("TIMERS")).state.last_seq
        await asyncio.sleep(1)
        after = (await nc.jetstream().stream_info("TIMERS")).state.last_seq

    assert after - before == 0


@pytest.mark.parametrize("names", ["excluded_models", "models"])
async def test_preferences_with_very_many_names_are_refused_in_few_words(channel: grpc.aio.Channel, names: str):
    many = [f"model-{number}" for number in range(100_000)]
    rules = [RoutingRule(models=many)] if names == "models" else []
    wanted = Preferences(mode=PREFERENCE_MODE_CUSTOM, rules=rules, excluded_models=[] if rules else many)

    code, details = await refusal(
        ProjectServiceStub(channel).SavePreferences(
            SavePreferencesRequest(project="shop", preferences=wanted), metadata=AUTH
        )
    )

    assert (code, len(details) < 200) == (grpc.StatusCode.INVALID_ARGUMENT, True)


async def test_a_request_that_was_open_when_the_first_budget_was_set_counts_with_what_it_costs_once_that_is_known(
    channel: grpc.aio.Channel, nc: Client
):
    projects = ProjectServiceStub(channel)
    task = await with_context(channel, nc)
    await until(nc, task, lambda seen: isinstance(seen, PhaseRequested))

    first = SetBudgetRequest(project="shop", hard_pico_usd=10 * 10**12)
    at_first = (await projects.SetBudget(first, metadata=AUTH)).budget
    executor = EventLog(nc, org="main", service="executor-claude")
    call: dict[str, Any] = {
        "call_id": f"{task}.document-1-1-1",
        "request_id": "document-1-1",
        "model": "claude",
        "provider": "anthropic",
        "provider_model": "claude-opus-4-5",
    }
    await executor.report(task, [ModelCallStarted(**call)])
    usage = Usage(input_tokens=1_000, output_tokens=100)
    ended = ModelCalled(**call, outcome=CALL_OUTCOME_OK, usage=usage)
    await executor.report(task, [ended, PhaseCompleted(request_id="document-1-1", change_digest="c1")])
    asked = GetBudgetRequest(project="shop")
    budget = at_first
    for _ in range(100):
        budget = (await projects.GetBudget(asked, metadata=AUTH)).budgets[0]
        if not budget.open_reservations:
            break
        await asyncio.sleep(0.05)

    assert (at_first.spent_pico_usd, at_first.open_reservations) == (0, 1)
    assert at_first.reserved_pico_usd > 5 * 10**11
    # 1,000 tokens in at 5 dollars a million, 100 out at 25
    assert (budget.spent_pico_usd, budget.reserved_pico_usd) == (7_500_000_000, 0)
