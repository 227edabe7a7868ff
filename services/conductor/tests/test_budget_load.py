"""Sixty-four tasks of one project with a hard budget, through two real conductors: not a cent too much, nobody left."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import grpc.aio
import pytest
from conductor.app import service
from conductor.budget_month import Month
from conductor.budget_room import month_of
from conductor.replay import made_again
from embedded.nats import Nats
from eventlog import Client, EventLog, Recorded
from factory.artifact.v1 import ArtifactRef
from factory.call.v1 import (
    CALL_OUTCOME_ERROR,
    CALL_OUTCOME_LOST,
    CALL_OUTCOME_OK,
    CallOutcome,
    ModelCalled,
    ModelCallStarted,
    Usage,
)
from factory.classification.v1 import TaskClassified
from factory.context.v1 import ContextGathered, ContextRequested
from factory.event.v1 import AnyFact
from factory.gate.v1 import GATE_VERDICT_PASS, GateJudged, GateRequested
from factory.phase.v1 import (
    PHASE_FAILURE_BROKEN_STREAM,
    PHASE_FAILURE_OVERLOADED,
    PhaseCompleted,
    PhaseFailed,
    PhaseRequested,
)
from factory.price.v1 import PricePublished
from factory.project.v1 import CreateRequest, ProjectServiceStub, SetBudgetRequest
from factory.review.v1 import HumanReviewRequested
from factory.task.v1 import (
    HOLD_CAUSE_BUDGET,
    SCOPE_FOCUSED,
    TASK_TYPE_DOCUMENTATION,
    ClassificationRequested,
    SubmitRequest,
    TaskFailed,
    TaskHeld,
    TaskReleased,
    TaskServiceStub,
)
from policy.calls import Call, Place, learn, reckon
from policy.models import DEFAULT_MODELS
from policy.prices import PriceBook
from runtime import Runtime, Service, Work, serve
from runtime.rpc import ROLES, token_entry

pytestmark = pytest.mark.slow  # real servers: left to `just test`

TASKS = 64
AUTH = (("authorization", "Bearer all"),)
DOLLAR = 10**12
# Enough for some of the tasks, and for all of them.
TIGHT, AMPLE = 3 * DOLLAR, 60 * DOLLAR
MODELS = ("claude", "gpt")
REF = ArtifactRef(digest="5" * 64, size=1)
SETTLE_TIMEOUT_S = 60
QUIET_S = 3


@dataclass
class Seen:
    """The log as far as it was read, and what it says of money and of tasks."""

    log: list[Recorded] = field(default_factory=list)
    month: Month = field(default_factory=lambda: Month("shop", month_of(datetime.now(UTC))))
    # the last thing that the conductor said about where a task stands
    stands: dict[str, AnyFact] = field(default_factory=dict)
    at: float = 0.0

    def take(self, recorded: Recorded) -> None:
        """Takes the next event in; the budget holds after each of its lane."""
        self.log.append(recorded)
        event = recorded.event
        if event.id == self.month.lane:
            self.month.evolve(recorded.facts, event.read_to)
            for account in self.month.accounts.values():
                assert account.hard is None or account.drawn <= account.hard, f"overdrawn at {recorded.sequence}"
        for fact in recorded.facts:
            if isinstance(fact, TaskHeld | TaskReleased | HumanReviewRequested | TaskFailed):
                self.stands[event.id] = fact

    def held(self) -> list[TaskHeld]:
        return [fact for fact in self.stands.values() if isinstance(fact, TaskHeld)]

    def done(self) -> int:
        return sum(isinstance(fact, HumanReviewRequested) for fact in self.stands.values())

    def asked(self) -> list[PhaseRequested]:
        return [fact for one in self.log for fact in one.facts if isinstance(fact, PhaseRequested)]

    @property
    def is_settled(self) -> bool:
        """Every task is held or done, and nothing has happened for a while."""
        settled = len(self.held()) + self.done() == TASKS
        return settled and not self.month.open and asyncio.get_running_loop().time() - self.at > QUIET_S

    def cost(self) -> int:
        """What the calls come to by the ledger's own reckoning, what is uncertain at its bound."""
        calls: dict[str, Call] = {}
        prices: list[tuple[PricePublished, datetime]] = []
        for recorded in self.log:
            event, at = recorded.event, recorded.event.occurred_at.ToDatetime(tzinfo=UTC)
            for position, fact in enumerate(recorded.facts):
                if isinstance(fact, ModelCallStarted | ModelCalled):
                    call = calls.get(fact.call_id) or Call(fact.call_id, event.id)
                    calls[fact.call_id] = learn(call, fact, at, Place(event.version, position, event.producer))
                elif isinstance(fact, PricePublished):
                    prices.append((fact, at))
        tallies = [reckon(call, PriceBook(prices)).tally for call in calls.values()]
        assert not any(tally.unknown_calls or tally.unpriced_tokens for tally in tallies)
        return sum(tally.cost_pico_usd + tally.uncertain_cost_pico_usd for tally in tallies)

    async def until(self, what: Callable[[], bool]) -> None:
        for _ in range(SETTLE_TIMEOUT_S * 10):
            if what():
                return
            await asyncio.sleep(0.1)
        raise AssertionError(
            f"not seen within {SETTLE_TIMEOUT_S} s: {self.done()} done, {len(self.held())} held, "
            f"{self.month.open} reservations open; {self.month.standings()}"
        )


@contextlib.asynccontextmanager
async def watching(nc: Client) -> AsyncIterator[Seen]:
    """Follows the log from its beginning."""
    seen = Seen()

    async def follow() -> None:
        async with contextlib.aclosing(EventLog(nc, org="main", service="test").follow(after=0)) as batches:
            async for batch in batches:
                for recorded in batch:
                    seen.take(recorded)
                    seen.at = asyncio.get_running_loop().time()

    following = asyncio.create_task(follow())
    try:
        yield seen
        assert not following.done(), following.result()
    finally:
        while not following.done():  # Python 3.11's `wait_for` may swallow a cancellation
            following.cancel()
            await asyncio.wait([following], timeout=0.1)


def chance(*of: str) -> int:
    """The same number for the same words, in every run."""
    return int.from_bytes(hashlib.sha256(".".join(of).encode()).digest()[:4])


class Executor:
    """Answers with calls that cost up to what was reserved for them; some break, some are lost, some are refused."""

    def __init__(self, rt: Runtime, model: str) -> None:
        self._rt = rt
        self._model = DEFAULT_MODELS[model]

    async def handle(self, work: Work, _past: object) -> Sequence[AnyFact]:
        request = work.request
        assert isinstance(request, PhaseRequested)
        outcomes = self._outcomes(work.id, request)
        for number, outcome in enumerate(outcomes, 1):
            ended = await self._call(work, request, number, outcome)
            if outcome == CALL_OUTCOME_OK:
                change = f"change-of-{work.id}-by-{request.request_id}"
                return [ended, PhaseCompleted(request_id=request.request_id, change_digest=change)]
            if number == len(outcomes):
                reason = PHASE_FAILURE_OVERLOADED if ended.http_status else PHASE_FAILURE_BROKEN_STREAM
                return [ended, PhaseFailed(request_id=request.request_id, reason=reason)]
            await self._rt.log.report(work.id, [ended], cause=work.event)
        raise AssertionError("a request makes a call")

    def _outcomes(self, task_id: str, request: PhaseRequested) -> list[CallOutcome]:
        """What becomes of the calls of a request."""
        match chance(task_id, request.request_id) % 8:
            case 0:
                return [CALL_OUTCOME_ERROR]
            case 1:
                return [CALL_OUTCOME_LOST, CALL_OUTCOME_OK][: request.calls_max]
            case 2:
                return [CALL_OUTCOME_LOST, CALL_OUTCOME_LOST, CALL_OUTCOME_OK][: request.calls_max]
            case _:
                return [CALL_OUTCOME_OK]

    async def _call(self, work: Work, request: PhaseRequested, number: int, outcome: CallOutcome) -> ModelCalled:
        call_id = f"{work.id}.{request.request_id}-{number}"
        whose = {
            "call_id": call_id,
            "request_id": request.request_id,
            "phase": request.phase,
            "model": self._model.name,
            "provider": self._model.provider,
            "provider_model": self._model.provider_model,
        }
        started = ModelCallStarted(
            **whose, max_output_tokens=request.max_output_tokens, input_tokens_estimate=request.max_input_tokens
        )
        await self._rt.log.report(work.id, [started], cause=work.event)
        await asyncio.sleep(chance(call_id) % 50 / 1000)
        ended = ModelCalled(**whose, outcome=outcome)
        if outcome == CALL_OUTCOME_OK:
            share = 60 + chance(call_id, "tokens") % 41
            ended.usage.CopyFrom(
                Usage(
                    input_tokens=request.max_input_tokens * share // 100,
                    output_tokens=request.max_output_tokens * share // 100,
                )
            )
        elif outcome == CALL_OUTCOME_ERROR:
            ended.http_status = 529
        return ended


def played(env: Mapping[str, str]) -> list[tuple[Service, Mapping[str, str]]]:
    """Everybody but the conductor."""

    async def answered(work: Work, _past: object) -> Sequence[AnyFact]:
        id = work.request_id
        match work.request:
            case ClassificationRequested():
                return [TaskClassified(request_id=id, type=TASK_TYPE_DOCUMENTATION, scope=SCOPE_FOCUSED)]
            case ContextRequested():
                return [ContextGathered(request_id=id, base_commit="b" * 40, snapshot=REF, pack=REF, tokens=3_000)]
            case GateRequested(change_digest=change):
                return [GateJudged(request_id=id, change_digest=change, verdict=GATE_VERDICT_PASS)]
            case _:
                raise AssertionError(f"nobody plays {work.request!r}")

    def desk(lane: str) -> Service:
        async def setup(rt: Runtime) -> None:
            rt.worker(answered, given_up, slots=4)

        return Service(lane, lane, setup)

    def executor(model: str) -> Service:
        async def setup(rt: Runtime) -> None:
            rt.worker(Executor(rt, model).handle, given_up, slots=16)

        return Service(f"executor-{model}", f"executor-{model}", setup)

    def given_up(work: Work, _past: object) -> Sequence[AnyFact]:
        raise AssertionError(f"{work.request_id!r} was delivered {work.deliveries} times")

    desks = [desk(lane) for lane in ("classifier", "context", "quality_gate")]
    return [(one, env) for one in (*desks, *(executor(model) for model in MODELS))]


@pytest.fixture
async def conductors(nc: Client, nats_server: Nats, tmp_path: Path) -> AsyncIterator[list[grpc.aio.Channel]]:
    """Two of them, and everybody else."""
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps([token_entry("all", "ada", ROLES)]))
    env = {
        "FACTORY_NATS_URL": nats_server.url,
        "FACTORY_ARTIFACTS": str(tmp_path / "artifacts"),
        "FACTORY_TOKENS_FILE": str(tokens),
        "FACTORY_MODELS": ",".join(MODELS),
        "FACTORY_ALLOWED_ROOTS": str(tmp_path),
        # as `nc` has prepared the streams
        "FACTORY_ACK_WAIT_S": "5",
        "FACTORY_HEARTBEAT_S": "1",
    }
    async with (
        serve([(service(env), env)]) as one,
        serve([(service(env), env)]) as other,
        serve(played(env)),
        grpc.aio.insecure_channel(one.grpc_address) as to_one,
        grpc.aio.insecure_channel(other.grpc_address) as to_other,
    ):
        yield [to_one, to_other]


async def test_sixty_four_tasks_spend_no_more_than_their_project_may_and_go_on_when_it_may_more(
    nc: Client, conductors: list[grpc.aio.Channel], tmp_path: Path
):
    projects = [ProjectServiceStub(channel) for channel in conductors]
    tasks = [TaskServiceStub(channel) for channel in conductors]
    await projects[0].Create(CreateRequest(project="shop", repository=str(tmp_path / "shop")), metadata=AUTH)
    await projects[0].SetBudget(SetBudgetRequest(project="shop", hard_pico_usd=TIGHT), metadata=AUTH)

    async with watching(nc) as seen:
        submitted = (
            tasks[n % 2].Submit(
                SubmitRequest(title=f"Page {n}", project="shop", type=TASK_TYPE_DOCUMENTATION), metadata=AUTH
            )
            for n in range(TASKS)
        )
        await asyncio.gather(*submitted)
        await seen.until(lambda: seen.is_settled)
        held, spent = seen.held(), seen.month.whole.spent
        cheapest_call = min(fact.worst_case_pico_usd for fact in seen.asked())
        assert {(fact.cause, fact.budget) for fact in held} == {(HOLD_CAUSE_BUDGET, seen.month.standing("").budget)}
        assert seen.done() > 0
        assert TIGHT - cheapest_call < spent <= TIGHT

        await projects[1].SetBudget(SetBudgetRequest(project="shop", hard_pico_usd=AMPLE), metadata=AUTH)
        await seen.until(lambda: seen.is_settled and seen.done() == TASKS)

    whole = seen.month.whole
    assert (whole.open, whole.reserved, whole.dearer) == (0, 0, 0)
    assert whole.spent == seen.cost()
    assert whole.spent > TIGHT
    assert {fact.budget for fact in seen.asked()} == {seen.month.lane}
    assert [one.recorded.sequence for one in made_again(seen.log) if not one.is_same] == []
