"""The health of one model: what comes of its requests, its probes and the changes it wrote, sorted into its breakers.

Pure; `health.py` feeds it with what the log says.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from factory.call.v1 import ModelCalled
from factory.model.v1 import ModelProbed, ModelRecovered, ModelTripped
from factory.phase.v1 import (
    PHASE_FAILURE_BROKEN_STREAM,
    PHASE_FAILURE_DEADLINE,
    PHASE_FAILURE_MALFORMED,
    PHASE_FAILURE_OVERLOADED,
    PHASE_FAILURE_PAYMENT_REQUIRED,
    PHASE_FAILURE_RATE_LIMITED,
    PHASE_FAILURE_REFUSED,
    PHASE_FAILURE_SERVER_ERROR,
    PHASE_FAILURE_TIMEOUT,
    PHASE_FAILURE_TRUNCATED,
    PHASE_FAILURE_UNAUTHENTICATED,
    PHASE_FAILURE_UNREACHABLE,
)
from factory.task.v1 import TASK_TYPE_UNSPECIFIED, TaskType

from policy.breaker import Breaker
from policy.health_figures import Tallies
from policy.health_memory import COMPLETED, OPEN, Request
from policy.health_window import (
    CALL_RULES,
    CALLS_WINDOW_MAX,
    CALLS_WINDOW_US,
    FAILURE_WORDS,
    GOOD,
    QUALITY_RULES,
    QUALITY_WINDOW_MAX,
    QUALITY_WINDOW_US,
    Observation,
    Window,
    evidence_of,
)
from policy.latency import Answer, Latency, pace
from policy.prices import output_side

# The provider, or the way to it, did not deliver.
AGAINST_MODEL = frozenset(
    {
        PHASE_FAILURE_RATE_LIMITED,
        PHASE_FAILURE_PAYMENT_REQUIRED,
        PHASE_FAILURE_SERVER_ERROR,
        PHASE_FAILURE_OVERLOADED,
        PHASE_FAILURE_TIMEOUT,
        PHASE_FAILURE_UNREACHABLE,
        PHASE_FAILURE_BROKEN_STREAM,
        PHASE_FAILURE_UNAUTHENTICATED,
        PHASE_FAILURE_DEADLINE,
    }
)
# The model answered, and the answer is of no use: it is up, and perhaps not good enough for this type of task.
UNUSABLE = frozenset({PHASE_FAILURE_MALFORMED, PHASE_FAILURE_TRUNCATED, PHASE_FAILURE_REFUSED})
# All other failures say nothing about the model. STOPPED: we did not want it any more. CALLS_SPENT and POISON: our own
# crashes used up its tries. ARTIFACT_MISSING: our store. CONTEXT_TOO_LARGE and INVALID_REQUEST: what we asked was
# wrong, and would be again. A call that is LOST is a crash of ours as well.


class When(NamedTuple):
    """Where the log stands at an event: in its time, and in its order."""

    at: int
    sequence: int


class Said(Enum):
    """What the end of a probe says of the model."""

    WELL = 1
    UNWELL = 2
    NOTHING = 3
    # The change that it wrote is still to be judged.
    LATER = 4


@dataclass(slots=True)
class TypeHealth:
    """A model and one type of task. Answers and judgements apart, so that many usable answers hide no bad change."""

    breaker: Breaker
    answers: Window = field(default_factory=lambda: Window(QUALITY_WINDOW_US, QUALITY_WINDOW_MAX, QUALITY_RULES))
    judgements: Window = field(default_factory=lambda: Window(QUALITY_WINDOW_US, QUALITY_WINDOW_MAX, QUALITY_RULES))

    def clear(self) -> None:
        self.answers.clear()
        self.judgements.clear()


class ModelHealth:
    """One model."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.whole = Breaker(name)
        self.types: dict[TaskType, TypeHealth] = {}
        self.tallies = Tallies()
        self.in_flight = 0
        # the newest event of its own lane: version and sequence
        self._lane = (0, 0)
        self._calls = Window(CALLS_WINDOW_US, CALLS_WINDOW_MAX, CALL_RULES)
        self._latency = Latency()

    def has_heard(self, version: int, sequence: int) -> bool:
        """Whether this version of the model's lane came before, in another message; else it has now."""
        if version <= self._lane[0]:
            return sequence != self._lane[1]
        self._lane = (version, sequence)
        return False

    def breakers(self) -> Iterator[Breaker]:
        """The one for all tasks first."""
        yield self.whole
        for of_type in self.types.values():
            yield of_type.breaker

    def of_type(self, type: TaskType) -> TypeHealth:
        known = self.types.get(type)
        if known is None:
            known = self.types[type] = TypeHealth(Breaker(self.name, type))
        return known

    def answered(self, request: Request, call: ModelCalled, latency_us: int, when: When) -> None:
        """A call has brought a whole answer."""
        if not self.whole.counts(request.sequence):
            return
        self._observe_call(request, GOOD, when)
        if tokens := output_side(call.usage):
            answer = Answer(when.at, when.sequence, pace(latency_us, tokens), call.call_id)
            self.whole.find(self._latency.add(answer), when.at)

    def ended(self, request: Request, when: When) -> None:
        """A request has ended, as it says itself."""
        if request.end in AGAINST_MODEL:
            spell = self.tallies.spell(when.at)
            spell.observed += 1
            spell.bad += 1
            if self.whole.counts(request.sequence):
                self._observe_call(request, FAILURE_WORDS[request.end], when)
        elif request.type != TASK_TYPE_UNSPECIFIED and (request.end == COMPLETED or request.end in UNUSABLE):
            of_type = self.of_type(request.type)
            if of_type.breaker.counts(request.sequence):
                seen = _observation(request, request.end, when)
                of_type.breaker.find(of_type.answers.add(seen), when.at)
        self.judge_probes(request, when)

    def judged(self, type: TaskType, reason: str, judge: Request, asked: int, when: When) -> None:
        """A change of this model, asked for at that sequence, was judged by a reviewer or the gate."""
        of_type = self.of_type(type)
        breaker = of_type.breaker
        seen = Observation(when.at, when.sequence, reason, judge.task_id, judge.name)
        if breaker.counts(asked):
            breaker.find(of_type.judgements.add(seen), when.at)
        elif breaker.probe is not None and breaker.probe.task_id == judge.task_id and asked >= breaker.probe_asked > 0:
            evidence = evidence_of([seen], [seen] if reason else [])
            verdict = breaker.probe_failed if reason else breaker.probe_succeeded
            verdict(evidence, when.at)

    def judge_probes(self, request: Request, when: When) -> None:
        """What the end of a request says, if it is a probe's."""
        for breaker in self.breakers():
            if not breaker.is_probed_by(request.task_id, request.request_id):
                continue
            match _said_by_probe(breaker, request):
                case Said.WELL:
                    breaker.probe_succeeded(evidence_of([_observation(request, COMPLETED, when)], []), when.at)
                case Said.UNWELL:
                    seen = [_observation(request, request.end, when)]
                    breaker.probe_failed(evidence_of(seen, seen), when.at)
                case Said.NOTHING:
                    breaker.probe_ended()
                case Said.LATER:
                    breaker.probe_asked = request.sequence

    def asked_elsewhere(self, task_id: str, request_id: str) -> None:
        """What was to be this model's probe is asked of another model after all."""
        for breaker in self.breakers():
            if breaker.is_probed_by(task_id, request_id):
                breaker.probe_ended()

    def task_ended(self, task_id: str) -> None:
        """A probe of a task that has ended is over, whatever it was waiting for."""
        for breaker in self.breakers():
            if breaker.probe is not None and breaker.probe.task_id == task_id:
                breaker.probe_ended()

    def tripped(self, fact: ModelTripped, at: int) -> None:
        self._breaker(fact.type).tripped(fact, at)

    def probed(self, fact: ModelProbed, request: Request | None, when: When) -> None:
        """A request becomes the probe; one that has ended meanwhile is judged at once."""
        self._breaker(fact.type).probed(fact)
        if request is not None and request.model != self.name:
            self.asked_elsewhere(fact.task_id, fact.request_id)
        elif request is not None and request.end != OPEN:
            self.judge_probes(request, when)

    def recovered(self, fact: ModelRecovered, when: When) -> None:
        """What was seen before counts no more. A person's word closes all breakers of the model."""
        everything = fact.recovered_by and fact.type == TASK_TYPE_UNSPECIFIED
        if fact.type == TASK_TYPE_UNSPECIFIED:
            self.whole.recovered(fact, when.at, when.sequence)
            self._calls.clear()
            self._latency.clear()
        for of_type in self.types.values():
            if everything or of_type.breaker.type == fact.type:
                of_type.breaker.recovered(fact, when.at, when.sequence)
                of_type.clear()

    def _breaker(self, type: TaskType) -> Breaker:
        return self.whole if type == TASK_TYPE_UNSPECIFIED else self.of_type(type).breaker

    def _observe_call(self, request: Request, reason: str, when: When) -> None:
        example = request.call_id or request.name
        seen = Observation(when.at, when.sequence, reason, request.task_id, example)
        self.whole.find(self._calls.add(seen), when.at)


def _said_by_probe(breaker: Breaker, request: Request) -> Said:
    """What a probe says: for all tasks it is enough that the model answers; for one type, its answer has to be good."""
    if request.end == COMPLETED:
        if not breaker.tripped_for_judgements:
            return Said.WELL
        return Said.LATER if request.is_authoring else Said.NOTHING
    if breaker.type == TASK_TYPE_UNSPECIFIED:
        if request.end in AGAINST_MODEL:
            return Said.UNWELL
        return Said.WELL if request.end in UNUSABLE else Said.NOTHING
    return Said.UNWELL if request.end in UNUSABLE else Said.NOTHING


def _observation(request: Request, end: int, when: When) -> Observation:
    reason = GOOD if end == COMPLETED else FAILURE_WORDS[end]
    return Observation(when.at, when.sequence, reason, request.task_id, request.name)
