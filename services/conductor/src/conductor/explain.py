"""Why a task went the way it went: every decision with its receipt, and in sentences. Pure."""

from collections.abc import Iterable, Iterator

from eventlog import Recorded, fact_name
from factory.event.v1 import AnyFact
from factory.phase.v1 import PhaseRequested, PhaseRerouted, PhaseSkipped, ReworkRequested
from factory.task.v1 import (
    PHASE_KIND_UNSPECIFIED,
    Decision,
    PhaseKind,
    PlannedPhase,
    Receipt,
    RequestExpired,
    RoutingOverridden,
    TaskFailed,
    TaskHeld,
    TaskPlanned,
    TaskReleased,
)
from policy.prices import rounded_dollars
from policy.routes import MAX_OUTPUT_TOKENS, phase_word

from conductor.known import CONDUCTOR
from conductor.wording import summary

PHASES = {phase_word(phase): phase for phase in MAX_OUTPUT_TOKENS}


def decisions(events: Iterable[Recorded], phase: PhaseKind = PHASE_KIND_UNSPECIFIED) -> list[Decision]:
    """Every decision about a task in the order in which it was made; of one phase, where one is named."""
    found = []
    queue: PhaseKind = PHASE_KIND_UNSPECIFIED
    for recorded in events:
        if recorded.event.producer != CONDUCTOR:
            continue
        for fact in recorded.facts:
            for decision in _of(fact, queue):
                decision.sequence = recorded.sequence
                decision.decided_at.CopyFrom(recorded.event.occurred_at)
                queue = decision.phase or queue
                if phase in (PHASE_KIND_UNSPECIFIED, decision.phase):
                    found.append(decision)
    return found


def _of(fact: AnyFact | None, queue: PhaseKind) -> Iterator[Decision]:
    """The decisions that a fact says; `queue` is the phase that was spoken of last."""
    match fact:
        case TaskPlanned():
            yield from (_planned(fact, planned) for planned in fact.phases)
        case PhaseRequested():
            yield _told(fact, fact.phase, fact.receipt, _requested(fact), round_=fact.round, request=fact.request_id)
        case PhaseRerouted():
            phase = _phase_of(fact.request_id)
            yield _told(fact, phase, fact.receipt, [_sentence(fact)], request=fact.request_id)
        case PhaseSkipped():
            yield _told(fact, fact.phase, fact.receipt, [_sentence(fact)], round_=fact.round)
        case ReworkRequested():
            words = [_sentence(fact), f"Because {fact.receipt.because}."] if fact.HasField("receipt") else []
            yield _told(fact, fact.phase, fact.receipt, words or [_sentence(fact)], round_=fact.round)
        case RoutingOverridden():
            why = [f"The reason given: {fact.reason}"] if fact.reason else []
            yield _told(fact, fact.phase, None, [_sentence(fact), *why], request=fact.request_id)
        case RequestExpired():
            phase = _phase_of(fact.request_id)
            yield _told(fact, phase, None, [_sentence(fact)], request=fact.request_id)
        case TaskHeld():
            words = [_sentence(fact), *_ruled_out(fact.receipt)]
            yield _told(fact, queue, fact.receipt if fact.HasField("receipt") else None, words)
        case TaskReleased() | TaskFailed():
            yield _told(fact, queue, None, [_sentence(fact)])
        case _:
            return


def _told(
    fact: AnyFact,
    phase: PhaseKind,
    receipt: Receipt | None,
    sentences: Iterable[str],
    *,
    round_: int = 0,
    request: str = "",
) -> Decision:
    return Decision(
        type=fact_name(fact), phase=phase, round=round_, request_id=request, receipt=receipt, sentences=sentences
    )


def _planned(fact: TaskPlanned, planned: PlannedPhase) -> Decision:
    receipt = Receipt()
    receipt.CopyFrom(fact.receipt)
    del receipt.candidates[:]
    receipt.candidates.extend(planned.candidates)
    receipt.chosen, receipt.source = planned.model, planned.source
    words = [f"{phase_word(planned.phase)} is planned for {planned.model or 'nobody'}.", *_ruled_out(receipt)]
    return _told(fact, planned.phase, receipt, words, round_=1)


def _requested(fact: PhaseRequested) -> list[str]:
    words = [f"{fact.request_id} is asked of {fact.model}: {fact.receipt.because or 'no reason is on record'}."]
    words += _ruled_out(fact.receipt)
    if fact.HasField("not_before"):
        words.append(f"It waits until {fact.not_before.ToDatetime():%H:%M:%S} UTC.")
    if fact.calls_max and fact.HasField("worst_case_pico_usd"):
        calls = "one call" if fact.calls_max == 1 else f"{fact.calls_max} calls"
        most = rounded_dollars(fact.worst_case_pico_usd * fact.calls_max)
        where = f", reserved in budget {fact.budget.removeprefix('budget-')}" if fact.budget else ""
        words.append(f"It may make {calls} for {most} at most{where}.")
    return words


def _ruled_out(receipt: Receipt) -> list[str]:
    passed = [c for c in receipt.candidates if c.ruled_out and c.model != receipt.chosen]
    words = [f"{candidate.model} is ruled out: {candidate.ruled_out}." for candidate in passed]
    able = [c.model for c in receipt.candidates if not c.ruled_out and c.model != receipt.chosen]
    return [*words, f"{', '.join(able)} could stand in, in this order."] if able else words


def _sentence(fact: AnyFact) -> str:
    words = summary(fact)
    return f"{words[:1].upper()}{words[1:]}."


def _phase_of(request_id: str) -> PhaseKind:
    return PHASES.get(request_id.rsplit("-", 2)[0], PHASE_KIND_UNSPECIFIED)
