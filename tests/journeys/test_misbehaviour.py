"""Providers at their worst: each failure has its name on record, the task goes on, and the ledger stays true."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from audit.reconcile import Comparison, Kind
from conductor.submission import task_id_for
from eventlog.facts import facts_of
from factory.call.v1 import CallOutcome, ModelCalled
from factory.event.v1 import Event
from factory.phase.v1 import PhaseFailed, PhaseFailure, PhaseRequested, PhaseRerouted
from factory.task.v1 import (
    TASK_STATE_AWAITING_REVIEW,
    TASK_STATE_CANCELLED,
    TASK_STATE_COMPLETED,
    TASK_STATE_GATING,
    TASK_STATE_HELD,
)
from factory_client import Factory
from stage import Providers, Up, approve, compared, providers, reaches, sample_remote

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

# The longest call; whoever hangs is given up after it.
CALL_TIMEOUT_S = 8
# The models are done with such a task.
THROUGH = (TASK_STATE_GATING, TASK_STATE_AWAITING_REVIEW, TASK_STATE_HELD)
# A task whose first phase each model does: title, type, phase.
FIRST = {
    "claude": ("Document the configuration options in the README", "documentation", "document"),
    "gpt": ("Write unit tests for the router", "tests", "write_tests"),
    "deepseek": ("Refactor the note store: remove duplication", "refactoring", "refactor"),
}
NEXT = {"claude": "gpt", "gpt": "claude", "deepseek": "claude"}
EQUAL, OK, ERROR, ABANDONED = Kind.EQUAL, "OK", "ERROR", "ABANDONED"


@dataclass(frozen=True)
class Case:
    """What a provider does to one task's first phase, and what is to stand in the log afterwards."""

    mode: str
    wish: dict = field(default_factory=dict)
    # how the calls of the misbehaving model end, and how each stands in ledger and bill
    calls: tuple[tuple[str, Kind], ...] = ((OK, EQUAL),)
    failure: str = ""
    # the misbehaving model is asked again, else the next one takes over
    again: bool = True


CASES = {
    "429": Case("429", {"retry_after_s": 1}, ((ERROR, EQUAL),), "RATE_LIMITED"),
    "429 for longer than anybody waits": Case(
        "429", {"retry_after_s": 120}, ((ERROR, EQUAL),), "RATE_LIMITED", again=False
    ),
    "402": Case("402", {}, ((ERROR, EQUAL),), "PAYMENT_REQUIRED", again=False),
    "500": Case("500", {}, ((ERROR, EQUAL),), "SERVER_ERROR"),
    "500 twice": Case("500", {"times": 2}, ((ERROR, EQUAL),) * 2, "SERVER_ERROR", again=False),
    "529": Case("529", {}, ((ERROR, EQUAL),), "OVERLOADED"),
    "hang": Case("hang", {}, ((ABANDONED, Kind.ABANDONED),), "TIMEOUT"),
    "cut": Case("cut", {}, ((ABANDONED, Kind.ABANDONED),), "BROKEN_STREAM"),
    "stream_error": Case("stream_error", {}, ((ABANDONED, Kind.ABANDONED),), "SERVER_ERROR"),
    "malformed_wire": Case("malformed_wire", {}, ((ABANDONED, Kind.ABANDONED),), "BROKEN_STREAM"),
    "malformed": Case("malformed", {}, ((OK, EQUAL),)),
    "malformed, whatever is said": Case("malformed", {"times": 3}, ((OK, EQUAL),) * 3, "MALFORMED", again=False),
    "bad_edit": Case("bad_edit", {}, ((OK, EQUAL),)),
    "refusal": Case("refusal", {}, ((OK, EQUAL),), "REFUSED", again=False),
    "truncated": Case("truncated", {}, ((OK, EQUAL),), "TRUNCATED", again=False),
    "slow": Case("slow", {"tokens_per_second": 2_000}, ()),
    "wrong_usage": Case("wrong_usage", {}, ((OK, Kind.DIFFERS),)),
}
# Errors have the same shape on both of OpenAI's wires; streams and their ends do not.
ON_EVERY_WIRE = ("429", "402", "hang", "cut", "stream_error", "malformed_wire", "refusal", "truncated", "wrong_usage")
PLAYED = [("claude", name) for name in CASES] + [
    (model, name) for model in ("gpt", "deepseek") for name in ON_EVERY_WIRE
]


@dataclass
class Played:
    """What the log and the bill say of one task."""

    task_id: str
    facts: list = field(default_factory=list)
    comparison: Comparison = field(default_factory=Comparison)

    def of(self, kind: type) -> list:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    def calls_of_the_first_phase(self) -> list[tuple[str, str, Kind]]:
        phase = self.of(PhaseRequested)[0].phase
        kinds = {call.call_id: call.kind for call in self.comparison.calls}
        return [
            (call.model, CallOutcome.Name(call.outcome).removeprefix("CALL_OUTCOME_"), kinds[call.call_id])
            for call in self.of(ModelCalled)
            if call.phase == phase
        ]


class Stage:
    def __init__(self, factory: Factory, made: Providers, remote: Path) -> None:
        self.factory, self.providers, self.remote = factory, made, remote
        self.playing: dict[tuple[str, str], asyncio.Task[Played]] = {}

    def misbehave(self, key: str, phase: str, **wish: object) -> str:
        """The id of the task with this key, whose calls for a phase will go wrong."""
        task_id = task_id_for("main", "adhoc", key)
        self.providers.misbehave(client_request_id=f"{task_id}.{phase}-*", **{"times": 1, **wish})
        return task_id

    async def submit(self, key: str, title: str, type: str) -> None:
        await self.factory.submit(title, type=type, repository=str(self.remote), key=key)

    async def play(self, model: str, name: str) -> Played:
        """Sees a task through its phases; the gate and the rest are other journeys'."""
        (title, type_, _), key = FIRST[model], f"{model}: {name}"
        played = Played(task_id_for("main", "adhoc", key))
        await self.submit(key, title, type_)
        await self.listen(played)
        await self.factory.cancel(played.task_id)
        await reaches(self.factory, played.task_id, TASK_STATE_CANCELLED)
        played.comparison = await compared(self.factory, played.task_id, self.providers.bill)
        return played

    async def listen(self, played: Played) -> None:
        async for heard in self.factory.watch(played.task_id):
            played.facts += facts_of(Event.FromString(heard.event))
            if heard.task.state in THROUGH:
                return


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One factory, and all the tasks at once."""
    directory = tmp_path_factory.mktemp("misbehaviour")
    with providers(directory / "providers") as made:
        # All these failures at once would open the breakers, and nobody would be asked again.
        settings = {"FACTORY_EXECUTOR_CALL_TIMEOUT_S": str(CALL_TIMEOUT_S), "FACTORY_BREAKERS": "off"}
        up = Up(directory / "data", made.url, **settings)
        try:
            up.start()
            async with up.factory() as factory:
                stage = Stage(factory, made, sample_remote(directory / "remote"))
                for model, name in PLAYED:
                    case = CASES[name]
                    stage.misbehave(f"{model}: {name}", FIRST[model][2], model=f"{model}*", mode=case.mode, **case.wish)
                for model, name in PLAYED:
                    stage.playing[model, name] = asyncio.create_task(stage.play(model, name))
                yield stage
        finally:
            up.stop()
            up.end()


@pytest.mark.parametrize(("model", "name"), PLAYED)
async def test_what_went_wrong_is_named_and_the_task_goes_on(stage: Stage, model: str, name: str):
    case, played = CASES[name], await stage.playing[model, name]

    ended_well = () if name == "wrong_usage" else ((model if case.again else NEXT[model], OK, EQUAL),)
    assert played.calls_of_the_first_phase() == [(model, *call) for call in case.calls] + list(ended_well)
    failures = [PhaseFailure.Name(failed.reason).removeprefix("PHASE_FAILURE_") for failed in played.of(PhaseFailed)]
    failed_calls = sum(outcome != OK for outcome, _ in case.calls) or 1
    overloaded = case.mode == "stream_error" and model == "claude"  # Anthropic's own word for it
    assert failures == (["OVERLOADED" if overloaded else case.failure] * failed_calls if case.failure else [])
    rerouted = [(fact.from_model, fact.to_model) for fact in played.of(PhaseRerouted)]
    assert rerouted == ([] if case.again else [(model, NEXT[model])])


@pytest.mark.parametrize("model", FIRST)
async def test_a_provider_is_given_the_time_it_asks_for(stage: Stage, model: str):
    played = await stage.playing[model, "429"]

    (failed,) = played.of(PhaseFailed)
    asked_again = played.of(PhaseRequested)[1]
    assert failed.retry_after.ToTimedelta().total_seconds() == 1
    assert asked_again.request_id.endswith("-1-2")
    assert asked_again.HasField("not_before")


async def test_the_ledger_equals_the_bill_but_where_a_provider_tells_another_usage_than_it_bills(stage: Stage):
    for (_, name), playing in stage.playing.items():
        comparison = (await playing).comparison

        if name == "wrong_usage":
            (wrong,) = comparison.wrong
            assert wrong.kind == Kind.DIFFERS
            assert "output" in wrong.detail
            assert (wrong.ledger_tokens or 0) > (wrong.billed_tokens or 0)
        else:
            assert comparison.wrong == []


async def test_what_an_abandoned_call_may_cost_is_a_bound_and_no_count(stage: Stage):
    for name in ("hang", "cut", "stream_error", "malformed_wire"):
        for model in FIRST:
            played = await stage.playing[model, name]
            first = played.comparison.calls[0]
            assert first.ledger_tokens is None
            assert (first.up_to_tokens or 0) >= (first.billed_tokens or 0) > 0


async def test_a_task_that_no_model_will_do_is_held_and_a_release_lets_it_go_on(stage: Stage):
    key = "nobody will"
    task_id = stage.misbehave(key, "document", mode="402", times=4)
    await stage.submit(key, *FIRST["claude"][:2])

    held = await reaches(stage.factory, task_id, TASK_STATE_HELD)
    assert "document has no model left to ask" in held.reason
    assert held.waiting_for == "operator"
    await stage.factory.release(task_id, "paid up")
    await approve(stage.factory, task_id)
    await reaches(stage.factory, task_id, TASK_STATE_COMPLETED)

    lines = [line async for line in stage.factory.ledger(task_id)]
    assert [line.model for line in lines] == ["claude", "gpt", "gemini", "deepseek", "claude"]
    assert (await compared(stage.factory, task_id, stage.providers.bill)).wrong == []


async def test_a_reviewer_that_will_not_judge_is_replaced_by_one_of_another_family_than_the_author(stage: Stage):
    key = "nobody judges"
    task_id = stage.misbehave(key, "review", model="gemini*", mode="malformed", times=3)
    played = Played(task_id)
    # Designed by claude: gemini's review is replaced by gpt's.
    await stage.submit(key, "Design the architecture of a plugin system", "architecture")
    await stage.listen(played)
    await stage.factory.cancel(task_id)

    (rerouted,) = played.of(PhaseRerouted)
    assert (rerouted.from_model, rerouted.to_model) == ("gemini", "gpt")
    reviews = [call.model for call in played.of(ModelCalled) if "review-" in call.request_id]
    assert reviews[:4] == ["gemini"] * 3 + ["gpt"]
