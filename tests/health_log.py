"""A log as the services would write it, read by one `Health` from its beginning: what tests about health are told in."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from factory.call.v1 import (
    CALL_OUTCOME_ERROR,
    CALL_OUTCOME_OK,
    CallOutcome,
    ModelCalled,
    ModelCallStarted,
    Usage,
)
from factory.event.v1 import AnyFact, Event
from factory.gate.v1 import GATE_VERDICT_BLOCK, GATE_VERDICT_UNSPECIFIED, GateJudged, GateRequested, GateVerdict
from factory.model.v1 import ModelProbed, ModelRecovered, ModelTripped
from factory.phase.v1 import (
    PHASE_FAILURE_SERVER_ERROR,
    VERDICT_UNSPECIFIED,
    PhaseCompleted,
    PhaseFailed,
    PhaseFailure,
    PhaseRequested,
    Verdict,
)
from factory.task.v1 import (
    PHASE_KIND_IMPLEMENT,
    PHASE_KIND_REVIEW,
    TASK_TYPE_API,
    TASK_TYPE_UNSPECIFIED,
    PhaseKind,
    TaskType,
)
from google.protobuf.duration_pb2 import Duration
from policy.health import Health, Status, probe

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
WORDS = {PHASE_KIND_IMPLEMENT: "implement", PHASE_KIND_REVIEW: "review"}


def failed(request: str, reason: PhaseFailure, retry_after_s: float = 0) -> PhaseFailed:
    wait = seconds(retry_after_s) if retry_after_s else None
    return PhaseFailed(request_id=request, reason=reason, retry_after=wait)


def seconds(time: float) -> Duration:
    told = Duration()
    told.FromTimedelta(timedelta(seconds=time))
    return told


class HealthLog:
    """Each event comes one second after the one before; a failing or answered request takes two."""

    def __init__(self) -> None:
        self.health = Health()
        self.events: list[tuple[Event, list[AnyFact | None], int]] = []
        self.now = NOON
        self.sequence = 0
        self.tasks = 0
        self._versions: dict[tuple[str, str], int] = {}

    def wait(self, time_s: float) -> None:
        self.now += timedelta(seconds=time_s)

    def envelope(self, id: str, producer: str, version: int = 0) -> Event:
        if not version:
            version = self._versions[id, producer] = self._versions.get((id, producer), 0) + 1
        event = Event(id=id, producer=producer, version=version)
        event.occurred_at.FromDatetime(self.now)
        return event

    def observe(self, event: Event, facts: Iterable[AnyFact | None]) -> None:
        self.sequence += 1
        self.events.append((event, list(facts), self.sequence))
        self.health.observe(*self.events[-1])

    def say(self, id: str, producer: str, *facts: AnyFact) -> None:
        self.observe(self.envelope(id, producer), facts)

    def say_of_model(self, *facts: ModelTripped | ModelProbed | ModelRecovered, version: int = 0) -> None:
        for fact in facts:
            self.observe(self.envelope(f"model-{fact.model}", "conductor", version), [fact])

    def new_task(self) -> str:
        self.tasks += 1
        return f"task-{self.tasks}"

    def ask(
        self,
        model: str,
        phase: PhaseKind = PHASE_KIND_IMPLEMENT,
        type: TaskType = TASK_TYPE_UNSPECIFIED,
        author: str = "",
        task: str = "",
        round_: int = 1,
    ) -> tuple[str, str]:
        task, request = task or self.new_task(), f"{WORDS[phase]}-{round_}-1"
        asked = PhaseRequested(request_id=request, phase=phase, model=model, task_type=type, author_model=author)
        self.now += timedelta(seconds=1)
        self.say(task, "conductor", asked)
        return task, request

    def call(
        self,
        model: str,
        task: str,
        request: str,
        took_s: float = 2,
        tokens: int = 500,
        outcome: CallOutcome = CALL_OUTCOME_OK,
        ending: tuple[AnyFact, ...] = (),
    ) -> None:
        id, lane = f"{task}.{request}-1", f"executor-{model}"
        start = ModelCallStarted(call_id=id, request_id=request, model=model)
        start.provider, start.provider_model = "openai", "gpt-5"
        self.say(task, lane, start)
        self.now += timedelta(seconds=1)
        end = ModelCalled(call_id=id, request_id=request, model=model, outcome=outcome, latency=seconds(took_s))
        end.provider, end.provider_model = "openai", "gpt-5-2026-08-07"
        if outcome == CALL_OUTCOME_OK:
            end.usage.CopyFrom(Usage(input_tokens=1_000, output_tokens=tokens))
        self.say(task, lane, end, *ending)

    def answers(
        self,
        model: str,
        took_s: float = 2,
        tokens: int = 500,
        type: TaskType = TASK_TYPE_UNSPECIFIED,
        phase: PhaseKind = PHASE_KIND_IMPLEMENT,
    ) -> None:
        task, request = self.ask(model, phase, type)
        self.call(model, task, request, took_s, tokens, ending=(PhaseCompleted(request_id=request),))

    def fails(
        self,
        model: str,
        reason: PhaseFailure,
        retry_after_s: float = 0,
        type: TaskType = TASK_TYPE_UNSPECIFIED,
        outcome_ok: bool = False,
    ) -> None:
        task, request = self.ask(model, type=type)
        outcome = CALL_OUTCOME_OK if outcome_ok else CALL_OUTCOME_ERROR
        self.call(model, task, request, outcome=outcome, ending=(failed(request, reason, retry_after_s),))

    def models_fail(self, model: str, reason: PhaseFailure, times: int, good: int = 0) -> None:
        for _ in range(good):
            self.answers(model)
        for _ in range(times):
            self.fails(model, reason)

    def authored(self, model: str, type: TaskType, task: str = "", round_: int = 1) -> str:
        task, request = self.ask(model, type=type, task=task, round_=round_)
        self.say(task, f"executor-{model}", PhaseCompleted(request_id=request))
        return task

    def writes(
        self,
        model: str,
        type: TaskType,
        review: Verdict = VERDICT_UNSPECIFIED,
        gate: GateVerdict = GATE_VERDICT_UNSPECIFIED,
        task: str = "",
        round_: int = 1,
    ) -> str:
        task = self.authored(model, type, task, round_)
        self.judges(model, type, task, review, gate, round_)
        return task

    def judges(
        self,
        model: str,
        type: TaskType,
        task: str,
        review: Verdict = VERDICT_UNSPECIFIED,
        gate: GateVerdict = GATE_VERDICT_UNSPECIFIED,
        round_: int = 1,
    ) -> None:
        """What a reviewer of another family and the gate say of what this model wrote."""
        if review:
            _, request = self.ask("gemini", PHASE_KIND_REVIEW, type, model, task, round_)
            self.say(task, "executor-gemini", PhaseCompleted(request_id=request, verdict=review))
        if gate:
            request = f"gate-{round_}-1"
            self.say(task, "conductor", GateRequested(request_id=request, author_model=model, task_type=type))
            self.say(task, "quality_gate", GateJudged(request_id=request, verdict=gate))


def the_trip(log: HealthLog) -> ModelTripped:
    (fact,) = log.health.due()
    assert isinstance(fact, ModelTripped)
    return fact


def down(log: HealthLog, reason: PhaseFailure = PHASE_FAILURE_SERVER_ERROR, failures: int = 5) -> ModelTripped:
    """A model that was found to be down, and the log says so."""
    for _ in range(failures):
        log.fails("gpt", reason)
    trip = the_trip(log)
    log.say_of_model(trip)
    return trip


def let_through(
    log: HealthLog, after_s: float = 31, type: TaskType = TASK_TYPE_UNSPECIFIED, task: str = ""
) -> tuple[str, str]:
    """The pause passes, and one request goes to the model as its probe."""
    log.wait(after_s)
    task = task or log.new_task()
    log.say_of_model(probe("gpt", type, task, "implement-1-1", log.now))
    return log.ask("gpt", type=type or TASK_TYPE_API, task=task)


def status(log: HealthLog, type: TaskType = TASK_TYPE_UNSPECIFIED, now: datetime | None = None) -> Status:
    return log.health.status("gpt", type, now or log.now)


def sloppy(log: HealthLog, tasks: int = 6) -> ModelTripped:
    """The gate blocks what the model writes for API tasks, and the log says so."""
    for _ in range(tasks):
        log.writes("gpt", TASK_TYPE_API, gate=GATE_VERDICT_BLOCK)
    trip = next(fact for fact in log.health.due() if fact.type)
    assert isinstance(trip, ModelTripped)
    log.say_of_model(trip)
    return trip
