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
    PHASE_FAILURE_CALLS_SPENT,
    PHASE_FAILURE_MALFORMED,
    PHASE_FAILURE_POISON,
    PHASE_FAILURE_STOPPED,
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

    id: str = ""
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
    request = Request(request_id)
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


def with_call(request: Request, ask: Ask, start: ModelCallStarted, end: ModelCalled) -> Request:
    """The request with a call that we have made, whether or not its start has been read back from the lane."""
    is_read = any(call.number == ask.number for call in request.calls)
    for fact in (end,) if is_read else (*ask.lost, start, end):
        request = evolve(request, fact, request.id)
    return request


def next_step(
    request: Request,
    judged: Mapping[int, Judgement],
    foreign: AbstractSet[str] = frozenset(),
    *,
    is_wanted: bool = True,
    calls_max: int = 0,
) -> Step:
    """What to do next.

    `judged` holds what recorded answers were found to be, `foreign` the ids of calls that somebody may still be making.
    Of a request that is wanted no more, what has been paid for is recorded, and nothing is asked. `calls_max` is how
    many calls were reserved for it, lost ones included; 0 stands for no limit but our own.
    """
    if request.is_settled:
        return Settled()
    for call in request.calls:
        if call.is_answered and call.number not in judged:
            return Judge(call)
    lost = tuple(lost_end(call.started) for call in request.open if call.started.call_id not in foreign)
    if (result := _completed(judged)) is not None:
        return Report((*lost, result))
    waited_for = tuple(call.started.call_id for call in request.open if call.started.call_id in foreign)
    if waited_for and is_wanted:
        return StandBack(waited_for)
    if (failure := _failed(request, judged)) is not None:
        return Report((*lost, failure))
    if not is_wanted:
        return Report((*lost, stopped(request.id)))
    if (failure := _spent(request, judged, len(lost), calls_max)) is not None:
        return Report((*lost, failure))
    number = max((call.number for call in request.calls), default=0) + 1
    return Ask(number, lost, _unusable(judged))


def given_up(request: Request, failure: PhaseFailed, foreign: AbstractSet[str] = frozenset()) -> tuple[AnyFact, ...]:
    """The facts of a request that cannot even be asked: its failure, and the end of what was begun before."""
    lost = (lost_end(call.started) for call in request.open if call.started.call_id not in foreign)
    return (*lost, failure)


def stopped(request_id: str) -> PhaseFailed:
    """The failure of a request that nobody wants any more."""
    detail = "the task has ended, or this request was closed: an override, or its deadline"
    return failure_of(request_id, PHASE_FAILURE_STOPPED, detail)


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
        return failure_of(request.id, PHASE_FAILURE_BROKEN_STREAM, detail)
    unusable = _unusable(judged)
    if len(unusable) > COMPLAINTS_MAX:
        return failure_of(request.id, PHASE_FAILURE_MALFORMED, _not_used(unusable))
    return None


def _spent(request: Request, judged: Mapping[int, Judgement], lost_now: int, calls_max: int) -> PhaseFailed | None:
    """Why no further call may be made, if none may."""
    lost = lost_now + sum(call.is_lost for call in request.calls)
    if lost > LOST_MAX:
        return failure_of(request.id, PHASE_FAILURE_POISON, f"{lost} calls ended without anybody knowing how")
    if not calls_max or len(request.calls) < calls_max:
        return None
    unusable = _unusable(judged)
    if unusable and isinstance(judged.get(request.calls[-1].number), Unusable):
        detail = f"no more calls are reserved, and {_not_used(unusable)}"
        return failure_of(request.id, PHASE_FAILURE_MALFORMED, detail)
    detail = f"{len(request.calls)} calls were made, {lost} of them lost; {calls_max} were reserved"
    return failure_of(request.id, PHASE_FAILURE_CALLS_SPENT, detail)


def _ended(call: Call, end: ModelCalled) -> Call:
    if call.started.call_id != end.call_id or (call.ended is not None and not call.is_lost):
        return call
    return replace(call, ended=end)


def _unusable(judged: Mapping[int, Judgement]) -> tuple[Unusable, ...]:
    return tuple(found for _, found in sorted(judged.items()) if isinstance(found, Unusable))


def _not_used(unusable: Sequence[Unusable]) -> str:
    answers = "1 answer" if len(unusable) == 1 else f"{len(unusable)} answers"
    return f"{answers} could not be used; the last: {unusable[-1].complaint.partition(chr(10))[0]}"
