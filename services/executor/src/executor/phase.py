"""What the executor does next for one request, decided from the facts on its own lane.

Pure. `app.py` carries it out. The rules: a call is made only by whoever appended its start; a start without an end is
booked lost before the next call; an answer that was recorded is read again, never paid for again.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from factory.call.v1 import CALL_OUTCOME_LOST, CALL_OUTCOME_OK, ModelCalled, ModelCallStarted
from factory.event.v1 import AnyFact
from factory.phase.v1 import (
    PHASE_FAILURE_BROKEN_STREAM,
    PHASE_FAILURE_MALFORMED,
    PHASE_FAILURE_POISON,
    PhaseCompleted,
    PhaseFailed,
)

from executor.outcome import failure_of

COMPLAINTS_MAX = 2
"""How often a model is told that its answer could not be used, before the phase has failed."""
LOST_MAX = 3
"""How many calls of one request may end in nobody knowing how, before the phase has failed."""


@dataclass(frozen=True, slots=True)
class Call:
    """What the lane says of one call."""

    number: int
    started: ModelCallStarted
    # the end that counts: one that knows more outweighs `lost`
    ended: ModelCalled | None = None

    @property
    def is_answered(self) -> bool:
        return self.ended is not None and self.ended.outcome == CALL_OUTCOME_OK and self.ended.HasField("response")

    @property
    def is_lost(self) -> bool:
        return self.ended is not None and self.ended.outcome == CALL_OUTCOME_LOST


@dataclass(frozen=True, slots=True)
class Request:
    """What the own lane says of one request."""

    calls: tuple[Call, ...] = ()
    is_settled: bool = False

    @property
    def open(self) -> tuple[Call, ...]:
        return tuple(call for call in self.calls if call.ended is None)


@dataclass(frozen=True, slots=True)
class Usable:
    """The answer is a result."""

    result: PhaseCompleted


@dataclass(frozen=True, slots=True)
class Unusable:
    """The answer can be read and not be used; the model is told why and asked again."""

    answer: str
    complaint: str


@dataclass(frozen=True, slots=True)
class Hopeless:
    """The answer says that this model will not do it."""

    failure: PhaseFailed


Judgement = Usable | Unusable | Hopeless


@dataclass(frozen=True, slots=True)
class Ask:
    """Make call `number`; its start is appended together with the ends of those that got lost."""

    number: int
    lost: tuple[ModelCalled, ...] = ()
    exchanges: tuple[Unusable, ...] = ()


@dataclass(frozen=True, slots=True)
class Judge:
    """Read a recorded answer before anything else."""

    call: Call


@dataclass(frozen=True, slots=True)
class StandBack:
    """Somebody else is making a call: see how it ends."""

    call_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """The request has its result; these facts say so."""

    facts: tuple[AnyFact, ...]


@dataclass(frozen=True, slots=True)
class Settled:
    """The result is on the lane already."""


Step = Ask | Judge | StandBack | Report | Settled


def call_id(task_id: str, request_id: str, number: int) -> str:
    return f"{task_id}.{request_id}-{number}"


def request_of(facts: Iterable[AnyFact | None], request_id: str) -> Request:
    """Folds the own lane's facts about one request."""
    request = Request()
    for fact in facts:
        request = evolve(request, fact, request_id)
    return request


def evolve(request: Request, fact: AnyFact | None, request_id: str) -> Request:
    match fact:
        case ModelCallStarted() if fact.request_id == request_id:
            number = int(fact.call_id.rpartition("-")[2])
            return replace(request, calls=(*request.calls, Call(number, fact)))
        case ModelCalled() if fact.request_id == request_id:
            return replace(request, calls=tuple(_ended(call, fact) for call in request.calls))
        case PhaseCompleted() | PhaseFailed() if fact.request_id == request_id:
            return replace(request, is_settled=True)
        case _:
            return request


def next_step(request: Request, judged: Mapping[int, Judgement], foreign: AbstractSet[str] = frozenset()) -> Step:
    """What to do next.

    `judged` holds what recorded answers were found to be, `foreign` the ids of calls that somebody may still be making.
    """
    if request.is_settled:
        return Settled()
    for call in request.calls:
        if call.is_answered and call.number not in judged:
            return Judge(call)
    lost = tuple(lost_end(call.started) for call in request.open if call.started.call_id not in foreign)
    if (result := _completed(judged)) is not None:
        return Report((*lost, result))
    if waited_for := tuple(call.started.call_id for call in request.open if call.started.call_id in foreign):
        return StandBack(waited_for)
    if (failure := _failed(request, judged)) is not None:
        return Report((*lost, failure))
    if len(lost) + sum(call.is_lost for call in request.calls) > LOST_MAX:
        detail = f"{LOST_MAX + 1} calls ended without anybody knowing how"
        return Report((*lost, failure_of(request.calls[0].started.request_id, PHASE_FAILURE_POISON, detail)))
    number = max((call.number for call in request.calls), default=0) + 1
    return Ask(number, lost, _unusable(judged))


def given_up(request: Request, failure: PhaseFailed, foreign: AbstractSet[str] = frozenset()) -> tuple[AnyFact, ...]:
    """The facts of a request that cannot even be asked: its failure, and the end of what was begun before."""
    lost = (lost_end(call.started) for call in request.open if call.started.call_id not in foreign)
    return (*lost, failure)


def lost_end(started: ModelCallStarted) -> ModelCalled:
    """The end of a call of which nobody knows how it ended."""
    return ModelCalled(
        call_id=started.call_id,
        request_id=started.request_id,
        phase=started.phase,
        model=started.model,
        provider=started.provider,
        provider_model=started.provider_model,
        outcome=CALL_OUTCOME_LOST,
    )


def _completed(judged: Mapping[int, Judgement]) -> PhaseCompleted | None:
    """The first answer that is a result, whoever asked for it."""
    return next((found.result for _, found in sorted(judged.items()) if isinstance(found, Usable)), None)


def _failed(request: Request, judged: Mapping[int, Judgement]) -> PhaseFailed | None:
    """The failure that the ended calls amount to. One that was followed by another call no longer counts."""
    last = next((call for call in reversed(request.calls) if call.ended is not None and not call.is_lost), None)
    if last is None:
        return None
    if isinstance(found := judged.get(last.number), Hopeless):
        return found.failure
    if not last.is_answered:
        # Its failure stands in the same event; without one, this much is still certain.
        detail = f"call {last.number} has ended, and left no answer to read"
        return failure_of(last.started.request_id, PHASE_FAILURE_BROKEN_STREAM, detail)
    unusable = _unusable(judged)
    if len(unusable) > COMPLAINTS_MAX:
        detail = f"{len(unusable)} answers could not be used; the last: {_first_line(unusable)}"
        return failure_of(last.started.request_id, PHASE_FAILURE_MALFORMED, detail)
    return None


def _ended(call: Call, end: ModelCalled) -> Call:
    if call.started.call_id != end.call_id or (call.ended is not None and not call.is_lost):
        return call
    return replace(call, ended=end)


def _unusable(judged: Mapping[int, Judgement]) -> tuple[Unusable, ...]:
    return tuple(found for _, found in sorted(judged.items()) if isinstance(found, Unusable))


def _first_line(unusable: Sequence[Unusable]) -> str:
    return unusable[-1].complaint.partition("\n")[0]
