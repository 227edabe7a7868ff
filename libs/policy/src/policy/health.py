"""How well each model is, as the log tells it: breakers for all tasks and for tasks of one type, and figures.

Pure: a fold over every event of the log, in its order and in its time; two readers of the same log say the same. It
appends nothing: `due` is what a conductor should say on the lane "model-<name>", behind the last event of that lane
which this reader has observed. What nobody said did not happen: only facts change the state of a breaker.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from factory.call.v1 import CALL_OUTCOME_LOST, CALL_OUTCOME_OK, ModelCalled, ModelCallStarted
from factory.event.v1 import AnyFact, Event
from factory.gate.v1 import GATE_VERDICT_BLOCK, GATE_VERDICT_PASS, GateJudged, GateRequested
from factory.model.v1 import Breaker as BreakerMessage
from factory.model.v1 import Health as HealthMessage
from factory.model.v1 import ModelProbed, ModelRecovered, ModelTripped
from factory.phase.v1 import (
    PHASE_FAILURE_DEADLINE,
    PHASE_FAILURE_STOPPED,
    VERDICT_APPROVE,
    VERDICT_REQUEST_CHANGES,
    PhaseCompleted,
    PhaseFailed,
    PhaseRequested,
)
from factory.review.v1 import TaskRejected
from factory.task.v1 import (
    TASK_TYPE_UNSPECIFIED,
    RequestExpired,
    RoutingOverridden,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskType,
)

from policy.breaker import POLICY_VERSION, RETRY_AFTER_US_MAX, Breaker, State, probe, recovered_by_hand, tripped_by_hand
from policy.health_figures import Figures, Start, Tallies, message_of
from policy.health_memory import CALLS_MAX, COMPLETED, OPEN, Memory, Request, remember
from policy.health_model import ModelHealth, When
from policy.health_window import GATE_BLOCK, GOOD, REVIEW_REJECTION, SECOND_US, us_of
from policy.health_words import why
from policy.prices import PriceBook

__all__ = ["POLICY_VERSION", "Figures", "Health", "State", "Status", "probe", "recovered_by_hand", "tripped_by_hand"]

MODELS_MAX = 100
TYPES = frozenset(TaskType.values())
NO_PRICES = PriceBook()


@dataclass(frozen=True, slots=True)
class Status:
    """Whether a model may be given a task of some type now."""

    state: State = State.CLOSED
    # half open, and the one request that is let through is under way: this one
    probe_pending: bool = False
    probe_task: str = ""
    probe_request: str = ""
    # one sentence for people; "" for a model that serves
    why: str = ""
    # 0 to 1: where all are open, the one with the least is the last resort
    badness: float = 0.0
    # which breaker this is about: of the task type, or unspecified for all
    type: TaskType = TASK_TYPE_UNSPECIFIED


WELL = Status()


class Health:
    """What a reader of the whole log knows about the health of models."""

    def __init__(self) -> None:
        self._models: dict[str, ModelHealth] = {}
        self._memory = Memory()
        self._started: dict[str, Start] = {}
        self._called: dict[str, None] = {}
        self._read_to = 0
        self._now = 0
        self._handlers: dict[type, Callable[[Any, Event, When], None]] = {
            PhaseRequested: self._phase_requested,
            GateRequested: self._gate_requested,
            ModelCallStarted: self._call_started,
            ModelCalled: self._call_ended,
            PhaseCompleted: self._phase_completed,
            PhaseFailed: self._phase_failed,
            RequestExpired: self._request_expired,
            RoutingOverridden: self._routing_overridden,
            GateJudged: self._gate_judged,
            TaskCompleted: self._task_ended,
            TaskFailed: self._task_ended,
            TaskCancelled: self._task_ended,
            TaskRejected: self._task_ended,
            ModelTripped: self._of_model,
            ModelProbed: self._of_model,
            ModelRecovered: self._of_model,
        }

    def observe(self, event: Event, facts: Sequence[AnyFact | None], sequence: int) -> None:
        """Takes the next event of the stream in, of whatever lane; one that was observed before changes nothing."""
        if sequence <= self._read_to:
            return
        self._read_to = sequence
        occurred = event.occurred_at
        at = occurred.seconds * SECOND_US + occurred.nanos // 1_000
        if at > self._now:
            self._now = at
        for fact in facts:
            handler = self._handlers.get(type(fact))
            if handler is not None:
                handler(fact, event, When(self._now, sequence))

    def due(self, model: str | None = None) -> list[ModelTripped | ModelRecovered]:
        """What should be said now; nothing once it was said."""
        one = self._models.get(model) if model is not None else None
        models = self._models.values() if model is None else [one] if one else []
        said = (breaker.said(self._now) for known in models for breaker in known.breakers())
        return [fact for fact in said if fact is not None]

    def status(self, model: str, type: TaskType, now: datetime) -> Status:
        """Whether this model may be given a task of this type; by the worse of its two breakers."""
        known = self._models.get(model)
        if known is None:
            return WELL
        of_type = known.types.get(type)
        if not known.whole.is_open and (of_type is None or not of_type.breaker.is_open):
            return WELL
        at = us_of(now)
        whole = _status(known.whole, at)
        return max(whole, _status(of_type.breaker, at), key=_gravity) if of_type else whole

    def breakers(self, model: str, now: datetime) -> list[BreakerMessage]:
        """The one for all tasks, then those of single types that are not closed."""
        known = self._models.get(model) or ModelHealth(model)
        at = us_of(now)
        of_types = (of_type.breaker for of_type in known.types.values() if of_type.breaker.is_open)
        return [breaker.message(at) for breaker in (known.whole, *sorted(of_types, key=lambda one: one.type))]

    def figures(self, model: str, now: datetime, prices: PriceBook = NO_PRICES) -> Figures:
        """The last 24 hours."""
        known = self._models.get(model)
        in_flight, tallies = (known.in_flight, known.tallies) if known else (0, Tallies())
        return tallies.figures(in_flight, us_of(now), prices)

    def message(self, model: str, now: datetime, prices: PriceBook = NO_PRICES) -> HealthMessage:
        """Breakers and figures, as `ModelService.List` tells them."""
        return message_of(self.figures(model, now, prices), self.breakers(model, now))

    def _model(self, name: str) -> ModelHealth | None:
        known = self._models.get(name)
        if known is None and name and len(self._models) < MODELS_MAX:
            known = self._models[name] = ModelHealth(name)
        return known

    def _phase_requested(self, fact: PhaseRequested, event: Event, when: When) -> None:
        type = fact.task_type if fact.task_type in TYPES else TASK_TYPE_UNSPECIFIED
        asked = Request(event.id, fact.request_id, fact.model, when.sequence, type, fact.phase, fact.author_model)
        if not self._ask(asked):
            return
        if model := self._model(fact.model):
            model.in_flight += 1
        for other in self._models.values():
            if other is not model:
                other.asked_elsewhere(event.id, fact.request_id)

    def _gate_requested(self, fact: GateRequested, event: Event, when: When) -> None:
        type = fact.task_type if fact.task_type in TYPES else TASK_TYPE_UNSPECIFIED
        self._ask(Request(event.id, fact.request_id, "", when.sequence, type, author=fact.author_model))

    def _ask(self, request: Request) -> bool:
        is_new, forgotten = self._memory.ask(request)
        for lost in forgotten:
            self._no_longer_in_flight(lost)
        return is_new

    def _no_longer_in_flight(self, request: Request) -> ModelHealth | None:
        model = self._models.get(request.model)
        if model is not None:
            model.in_flight -= 1
        return model

    def _call_started(self, fact: ModelCallStarted, event: Event, when: When) -> None:
        if fact.call_id in self._called or fact.call_id in self._started:
            return
        remember(self._started, fact.call_id, Start(when.at, fact.provider, fact.provider_model), CALLS_MAX)
        if request := self._memory.known(event.id, fact.request_id):
            request.call_id = fact.call_id

    def _call_ended(self, fact: ModelCalled, event: Event, when: When) -> None:
        """Lost calls count as nothing: it was we who crashed, and their real end may still come."""
        model = self._model(fact.model)
        if model is None or fact.outcome == CALL_OUTCOME_LOST or fact.call_id in self._called:
            return
        remember(self._called, fact.call_id, None, CALLS_MAX)
        start = self._started.pop(fact.call_id, None)
        latency_us = fact.latency.seconds * SECOND_US + fact.latency.nanos // 1_000
        model.tallies.called(fact, start, latency_us, when.at)
        request = self._memory.known(event.id, fact.request_id)
        if request is None or request.model != fact.model:
            return
        request.call_id = fact.call_id
        if fact.outcome == CALL_OUTCOME_OK:
            model.answered(request, fact, latency_us, when)

    def _phase_completed(self, fact: PhaseCompleted, event: Event, when: When) -> None:
        request = self._ended(event.id, fact.request_id, COMPLETED, when)
        if request is None:
            return
        if fact.verdict == VERDICT_REQUEST_CHANGES:
            self._judge(request, REVIEW_REJECTION, when)
        elif fact.verdict == VERDICT_APPROVE:
            self._judge(request, GOOD, when)

    def _phase_failed(self, fact: PhaseFailed, event: Event, when: When) -> None:
        request = self._memory.known(event.id, fact.request_id)
        model = self._models.get(request.model) if request else None
        if request and request.end == OPEN and model and fact.HasField("retry_after"):
            # Before the end is judged: a trip that follows from it honours this.
            wait = fact.retry_after.seconds * SECOND_US + fact.retry_after.nanos // 1_000
            model.whole.retry_at = max(model.whole.retry_at, when.at + min(max(wait, 0), RETRY_AFTER_US_MAX))
        self._ended(event.id, fact.request_id, fact.reason, when)

    def _request_expired(self, fact: RequestExpired, event: Event, when: When) -> None:
        self._ended(event.id, fact.request_id, PHASE_FAILURE_DEADLINE, when)

    def _routing_overridden(self, fact: RoutingOverridden, event: Event, when: When) -> None:
        self._ended(event.id, fact.request_id, PHASE_FAILURE_STOPPED, when)

    def _ended(self, task_id: str, request_id: str, end: int, when: When) -> Request | None:
        """The request that this ends, once: what comes late is no longer open."""
        request = self._memory.end(task_id, request_id, end)
        if request is not None and (model := self._no_longer_in_flight(request)):
            model.ended(request, when)
        return request

    def _gate_judged(self, fact: GateJudged, event: Event, when: When) -> None:
        """What the gate could not tell counts as nothing."""
        request = self._memory.end(event.id, fact.request_id, COMPLETED)
        if request is None or request.model:
            return
        if fact.verdict == GATE_VERDICT_BLOCK:
            self._judge(request, GATE_BLOCK, when)
        elif fact.verdict == GATE_VERDICT_PASS:
            self._judge(request, GOOD, when)
            for author in self._memory.passed(request):
                self._count_change(author, when, passed=True)

    def _judge(self, judge: Request, reason: str, when: When) -> None:
        author = self._model(judge.author)
        if author is None:
            return
        change = self._memory.change(judge)
        if judge.type != TASK_TYPE_UNSPECIFIED:
            author.judged(judge.type, reason, judge, change.asked or judge.sequence, when)
        if not reason:
            change.approved = True
        elif not change.settled:
            change.settled = True
            self._count_change(judge.author, when, passed=False)

    def _count_change(self, author: str, when: When, *, passed: bool) -> None:
        if model := self._models.get(author):
            spell = model.tallies.spell(when.at)
            spell.judged += 1
            spell.passed += passed

    def _task_ended(self, fact: AnyFact, event: Event, when: When) -> None:
        for request in self._memory.end_task(event.id):
            self._no_longer_in_flight(request)
        for model in self._models.values():
            model.task_ended(event.id)

    def _of_model(self, fact: ModelTripped | ModelProbed | ModelRecovered, event: Event, when: When) -> None:
        model = self._model(fact.model)
        if model is None or fact.type not in TYPES or model.has_heard(event.version, when.sequence):
            return
        match fact:
            case ModelTripped():
                model.tripped(fact, when.at)
            case ModelProbed():
                model.probed(fact, self._memory.known(fact.task_id, fact.request_id), when)
                if self._memory.has_ended(fact.task_id):
                    model.task_ended(fact.task_id)
            case ModelRecovered():
                model.recovered(fact, when)


def _status(breaker: Breaker, now: int) -> Status:
    state = breaker.state(now)
    if state is State.CLOSED:
        return Status(type=breaker.type)
    pending = breaker.probe if breaker.is_probed(now) else None
    return Status(
        state=state,
        probe_pending=pending is not None,
        probe_task=pending.task_id if pending else "",
        probe_request=pending.request_id if pending else "",
        why=why(breaker, now),
        badness=breaker.badness(now),
        type=breaker.type,
    )


def _gravity(status: Status) -> int:
    """Of two breakers the one that lets less through decides."""
    if status.state is State.HALF_OPEN:
        return 2 if status.probe_pending else 1
    return 3 if status.state is State.OPEN else 0
