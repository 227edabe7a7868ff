"""What follows for a task in a given state. Pure: the same task in the same world gives the same decision again.

An empty list means "nothing to do": it is the right answer to a redelivery, and while others have the turn.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce

from eventlog.past import Past
from factory.context.v1 import ContextRequested
from factory.delivery.v1 import DeliveryRequested
from factory.event.v1 import AnyFact
from factory.gate.v1 import GATE_VERDICT_BLOCK, GATE_VERDICT_UNKNOWN, GateRequested
from factory.phase.v1 import (
    PHASE_FAILURE_ARTIFACT_MISSING,
    PHASE_FAILURE_BROKEN_STREAM,
    PHASE_FAILURE_OVERLOADED,
    PHASE_FAILURE_RATE_LIMITED,
    PHASE_FAILURE_SERVER_ERROR,
    PHASE_FAILURE_TIMEOUT,
    PHASE_FAILURE_UNREACHABLE,
    REWORK_CAUSE_GATE,
    REWORK_CAUSE_MODEL_REVIEW,
    VERDICT_REQUEST_CHANGES,
    PhaseFailure,
    PhaseRequested,
    PhaseRerouted,
    PhaseSkipped,
    ReworkCause,
    ReworkRequested,
)
from factory.review.v1 import HumanReviewRequested
from factory.task.v1 import (
    PHASE_KIND_REVIEW,
    PHASE_KIND_WRITE_TESTS,
    TASK_TYPE_UNSPECIFIED,
    ClassificationRequested,
    PhaseKind,
    TaskCompleted,
    TaskFailed,
    TaskHeld,
    TaskPlanned,
)
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from policy.calls import calls_in, reckon
from policy.models import Model
from policy.prices import PriceBook, rounded_dollars, upper_bound
from policy.planning import plan
from policy.ranking import Needs, pack_budget, same_family
from policy.routes import POLICY_VERSION, PROMPT_OVERHEAD_TOKENS, phase_word

from conductor.task import Blob, Failure, Step, Task, happened

REWORK_ROUNDS_MAX = 2
TRIES_PER_MODEL_MAX = 2
RETRY_AFTER_MAX = timedelta(seconds=60)
RETRY_PAUSE = timedelta(seconds=1)
PHASE_TIMEOUT = timedelta(minutes=15)
FACTS_PER_DECISION_MAX = 12

# Failures that the same model may get over by itself.
PASSING = frozenset(
    {
        PHASE_FAILURE_RATE_LIMITED,
        PHASE_FAILURE_OVERLOADED,
        PHASE_FAILURE_SERVER_ERROR,
        PHASE_FAILURE_TIMEOUT,
        PHASE_FAILURE_UNREACHABLE,
        PHASE_FAILURE_BROKEN_STREAM,
    }
)


@dataclass(frozen=True, slots=True)
class World:
    """What deciding needs besides the task itself."""

    models: Mapping[str, Model]
    # why a model cannot serve at all; "" where it can
    ruled_out: Mapping[str, str]
    prices: PriceBook
    now: datetime
    # the most that the task's calls so far can have cost
    spent_pico_usd: int = 0


def spent(past: Past, prices: PriceBook) -> int:
    """The most that a task's calls so far can have cost, in pico-dollars: exact where known, else the bound."""
    tallies = (reckon(call, prices).tally for call in calls_in(r.event for r in past.events).values())
    return sum(tally.cost_pico_usd + tally.uncertain_cost_pico_usd for tally in tallies)


class Undecided(Exception):
    """What follows for a task would change nothing about it: a fault of ours."""


def decide(task: Task, world: World) -> list[AnyFact]:
    """Everything that follows now, as one decision."""
    facts: list[AnyFact] = []
    while len(facts) < FACTS_PER_DECISION_MAX and (step := next_step(task, world)):
        after = reduce(lambda folded, fact: happened(folded, fact, world.now), step, task)
        if after == task:
            # Said again and again, it would fill the log: an error, and the task stands still.
            raise Undecided(f"a decision that changes nothing: {step!r}"[:500])
        facts, task = [*facts, *step], after
    return facts


def next_step(task: Task, world: World) -> list[AnyFact]:
    """What a task in this state is waiting for us to start; nothing if it waits for others."""
    if not task.title or task.ended is not None or task.parked or task.open is not None or task.held:
        return []
    if task.trouble is not None:
        detail, can_be_mended = task.trouble
        return [TaskHeld(reason=detail)] if can_be_mended else [TaskFailed(reason=detail)]
    if task.type == TASK_TYPE_UNSPECIFIED:
        return [ClassificationRequested(request_id="classification-1-1")]
    if not task.base_commit:
        return [_context(task, world)]
    if not task.steps:
        return [_plan(task, world)]
    if task.verdict == VERDICT_REQUEST_CHANGES and task.reworks < REWORK_ROUNDS_MAX:
        return [_rework(task, REWORK_CAUSE_MODEL_REVIEW, task.review_findings)]
    if task.queue:
        return _phase(task, world)
    return _after_phases(task)


def _after_phases(task: Task) -> list[AnyFact]:
    """Gate, human, delivery, in this order."""
    if not task.change:
        return [TaskFailed(reason="no phase left a change behind")]
    if task.judged != task.change:
        return [_gate(task)]
    if task.gate == GATE_VERDICT_BLOCK and task.reworks < REWORK_ROUNDS_MAX and not task.approved_by:
        return [_rework(task, REWORK_CAUSE_GATE, task.gate_findings)]
    if task.pull_request[0]:
        return [TaskCompleted(pull_request_url=task.pull_request[0])]
    if task.approved_by:
        return [_delivery(task)]
    if task.awaiting_review:
        return []
    return [
        HumanReviewRequested(change_digest=task.change, evidence_digest=task.evidence, notes=notes_for_reviewer(task))
    ]


def notes_for_reviewer(task: Task) -> list[str]:
    """What a human should know before the diff, the gravest first."""
    notes: list[str] = []
    if task.gate == GATE_VERDICT_UNKNOWN:
        notes.append(f"the gate could not judge this change: {task.gate_unknown_because}")
    if task.gate == GATE_VERDICT_BLOCK:
        notes.append(
            f"the gate blocks this change ({task.gate_blocking} findings) after {task.reworks} rounds of rework"
        )
    if task.verdict == VERDICT_REQUEST_CHANGES:
        notes.append(f"{task.reviewed_by} still asks for changes after {task.reworks} rounds of rework")
    return [*notes, *task.notes]


def _context(task: Task, world: World) -> ContextRequested:
    return ContextRequested(
        request_id=f"context-1-{task.attempts + 1}",
        repository=task.repository,
        base_branch=task.base_branch,
        type=task.type,
        budget_tokens=pack_budget(world.models, world.ruled_out),
    )


def _plan(task: Task, world: World) -> AnyFact:
    planned = plan(task.type, task.scope, world.models, world.ruled_out, needs=Needs(pack_tokens=task.pack_tokens))
    for phase in planned.phases:
        if not phase.model:
            why = "; ".join(f"{c.model}: {c.ruled_out}" for c in phase.candidates)
            return TaskFailed(reason=f"no model can do {phase_word(phase.phase)}: {why}")
    return TaskPlanned(
        base_commit=task.base_commit,
        policy_version=POLICY_VERSION,
        phases=planned.phases,
        notes=planned.notes,
    )


def _rework(task: Task, cause: ReworkCause, findings: Blob | None) -> ReworkRequested:
    phase = task.author_phase if cause == REWORK_CAUSE_MODEL_REVIEW else main_author_phase(task)
    return ReworkRequested(
        phase=phase,
        round=task.round_of(phase),
        cause=cause,
        findings=findings.ref if findings else None,
        change_digest=task.change,
    )


def main_author_phase(task: Task) -> PhaseKind:
    """The phase that answers for the change as a whole: the last that wrote something other than tests."""
    authors = [p for p in task.done if p not in (PHASE_KIND_REVIEW, PHASE_KIND_WRITE_TESTS)]
    return authors[-1] if authors else task.author_phase


def _phase(task: Task, world: World) -> list[AnyFact]:
    """Requests the next phase of the queue, from the model that is to do it now."""
    phase = task.queue[0]
    model, not_before, why_none = _choose(task, world)
    if not model:
        if phase == PHASE_KIND_REVIEW:
            return [PhaseSkipped(phase=phase, round=task.round_of(phase), reason=why_none)]
        return [TaskHeld(reason=f"{phase_word(phase)} has no model left to ask: {why_none}")]
    if task.failures and model != task.failures[-1].model and model != task.rerouted_to:
        last = task.failures[-1]
        return [PhaseRerouted(request_id=last.request_id, from_model=last.model, to_model=model, reason=last.reason)]
    request, worst_case = _request(task, world, model, not_before)
    if too_much := _over_limit(task, world, model, worst_case):
        return [TaskHeld(reason=too_much)]
    return [request]


def _over_limit(task: Task, world: World, model: str, worst_case: int | None) -> str:
    """Why the task's own cost limit forbids this request; "" where it does not."""
    limit = task.max_cost_pico_usd
    if limit is None:
        return ""
    most = rounded_dollars(limit)
    if worst_case is None:
        return f"{model} has no price, so the task's limit of {most} cannot be kept"
    if world.spent_pico_usd + worst_case <= limit:
        return ""
    left = rounded_dollars(max(limit - world.spent_pico_usd, 0))
    may_cost = rounded_dollars(worst_case)
    return f"{phase_word(task.queue[0])} by {model} may cost up to {may_cost}, and {left} of the task's {most} are left"


def _choose(task: Task, world: World) -> tuple[str, datetime | None, str]:
    """The model to ask now, when to ask it, and where there is none, why."""
    phase = task.queue[0]
    candidates = _able(task.step(phase), task, world)
    tried = [failure.model for failure in task.failures]
    if task.failures:
        last = task.failures[-1]
        if (
            last.reason in PASSING
            and not dict(candidates).get(last.model, "")
            and tried.count(last.model) < TRIES_PER_MODEL_MAX
            and last.retry_after <= RETRY_AFTER_MAX
        ):
            return last.model, world.now + max(last.retry_after, RETRY_PAUSE), ""
        if last.reason == PHASE_FAILURE_ARTIFACT_MISSING:
            return "", None, last.detail
    for model, why_not in candidates:
        if not why_not and model not in tried:
            return model, None, ""
    reasons = [f"{model}: {why_not}" for model, why_not in candidates if why_not and model not in tried]
    failed = [f"{failure.model}: {failure_words(failure)}" for failure in task.failures]
    return "", None, "; ".join([*failed, *reasons])


def _able(step: Step, task: Task, world: World) -> list[tuple[str, str]]:
    """The candidates of the plan, with what rules each out now that the author is known."""
    found = []
    for model, planned_without in step.candidates:
        # Keys come and go while a task waits: who is configured is asked again, what a plan says of sizes stays.
        why_not = world.ruled_out.get(model, "" if model in world.models else "not configured any more")
        if not why_not and not planned_without.startswith("not configured"):
            why_not = planned_without
        if step.phase != PHASE_KIND_REVIEW:
            found.append((model, why_not))
            continue
        if why_not.startswith("same family"):
            why_not = ""  # judged at planning; the author may be another by now
        if not why_not and same_family(world.models, model, task.author_model):
            why_not = f"same family as the author ({world.models[model].family})"
        found.append((model, why_not))
    return found


def failure_words(failure: Failure) -> str:
    word = PhaseFailure.Name(failure.reason).removeprefix("PHASE_FAILURE_").lower().replace("_", " ")
    return f"{word} ({failure.detail})" if failure.detail else word


def _request(task: Task, world: World, model: str, not_before: datetime | None) -> tuple[PhaseRequested, int | None]:
    phase = task.queue[0]
    step = task.step(phase)
    known = world.models[model]
    max_output = min(step.max_output_tokens, known.max_output_tokens)
    price = world.prices.at(known.provider, known.provider_model, world.now)
    worst_case = upper_bound(price.tiers, task.pack_tokens + PROMPT_OVERHEAD_TOKENS, max_output) if price else None
    round_ = task.round_of(phase)
    attempt = task.attempts + 1
    timeout = Duration()
    timeout.FromTimedelta(PHASE_TIMEOUT)
    request = PhaseRequested(
        request_id=f"{phase_word(phase)}-{round_}-{attempt}",
        phase=phase,
        round=round_,
        attempt=attempt,
        model=model,
        change_digest=task.change,
        findings=task.findings.ref if task.findings and round_ > 1 else None,
        snapshot=task.snapshot.ref if task.snapshot else None,
        pack=task.pack.ref if task.pack else None,
        max_output_tokens=max_output,
        timeout=timeout,
        price_version=price.version if price else "",
        worst_case_pico_usd=worst_case,
    )
    if not_before is not None:
        moment = Timestamp()
        moment.FromDatetime(not_before)
        request.not_before.CopyFrom(moment)
    return request, worst_case


def _gate(task: Task) -> GateRequested:
    return GateRequested(
        request_id=f"gate-{task.gates + 1}-1",
        change_digest=task.change,
        snapshot=task.snapshot.ref if task.snapshot else None,
    )


def _delivery(task: Task) -> DeliveryRequested:
    return DeliveryRequested(
        request_id=f"delivery-1-{task.attempts + 1}",
        repository=task.repository,
        base_branch=task.base_branch,
        base_commit=task.base_commit,
        change_digest=task.change,
        snapshot=task.snapshot.ref if task.snapshot else None,
        approved_by=task.approved_by,
        notes=notes_for_reviewer(task),
    )
