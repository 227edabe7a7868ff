"""What follows for a task in a given state. Pure: the same task in the same world gives the same decision again.

An empty list means "nothing to do": it is the right answer to a redelivery, and while others have the turn.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import reduce

from factory.context.v1 import ContextRequested
from factory.delivery.v1 import DeliveryRequested
from factory.event.v1 import AnyFact
from factory.gate.v1 import GATE_VERDICT_BLOCK, GATE_VERDICT_UNKNOWN, GateRequested
from factory.phase.v1 import (
    REWORK_CAUSE_GATE,
    REWORK_CAUSE_MODEL_REVIEW,
    VERDICT_REQUEST_CHANGES,
    PhaseRequested,
    PhaseRerouted,
    PhaseSkipped,
    ReworkCause,
    ReworkRequested,
)
from factory.review.v1 import HumanReviewRequested
from factory.task.v1 import (
    HOLD_CAUSE_BUDGET,
    HOLD_CAUSE_CAPACITY,
    HOLD_CAUSE_NO_MODEL,
    HOLD_CAUSE_TROUBLE,
    HOLD_CAUSE_UNSPECIFIED,
    PHASE_KIND_REVIEW,
    TASK_TYPE_UNSPECIFIED,
    ClassificationRequested,
    Receipt,
    RequestExpired,
    TaskCompleted,
    TaskFailed,
    TaskHeld,
    TaskPlanned,
    TaskReleased,
)
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from policy.calls import Call, reckon
from policy.planning import plan
from policy.prices import PriceBook
from policy.ranking import pack_budget
from policy.receipts import receipt
from policy.routes import ATTACHED_PHASES, POLICY_VERSION, phase_word

from conductor.choice import Choice, choose, request_id_of
from conductor.state import Blob, Kind, Task, changed
from conductor.task import happened
from conductor.world import World, weighed

REWORK_ROUNDS_MAX = 2
PHASE_TIMEOUT = timedelta(minutes=15)
FACTS_PER_DECISION_MAX = 12
CONDUCTOR = "conductor"
DEADLINE_TIMER = "deadline"


def spent(calls: Iterable[Call], prices: PriceBook) -> int:
    """The most that a task's calls so far can have cost, in pico-dollars: exact where known, else the bound."""
    tallies = (reckon(call, prices).tally for call in calls)
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


def waits(task: Task, now: datetime) -> bool:
    """Whether nothing follows for a task now, whatever else is so: it is over, or others have the turn and the time."""
    if not task.title or task.ended is not None or task.parked:
        return True
    if task.open is None or _is_past_deadline(task, now):
        return False
    return task.open.deadline is None or now < task.open.deadline


def next_step(task: Task, world: World) -> list[AnyFact]:
    """What a task in this state is waiting for us to start; nothing if it waits for others."""
    if waits(task, world.now):
        return []
    if _is_past_deadline(task, world.now):
        return [TaskFailed(reason=f"its deadline has passed ({task.deadline:%Y-%m-%d %H:%M:%S} UTC)")]
    if task.open is not None:
        return [RequestExpired(request_id=task.open.request_id, deadline=_stamp(task.open.deadline))]
    if task.held:
        return _freed(task, world)
    if task.trouble is not None:
        detail, can_be_mended = task.trouble
        return [TaskHeld(reason=detail, cause=HOLD_CAUSE_TROUBLE)] if can_be_mended else [TaskFailed(reason=detail)]
    if task.type == TASK_TYPE_UNSPECIFIED:
        return [_classification(task, world)]
    if not task.base_commit:
        return [_context(task, world)]
    if not task.steps:
        return [_plan(task, world)]
    if task.verdict == VERDICT_REQUEST_CHANGES and task.reworks < REWORK_ROUNDS_MAX:
        return [_rework(task, world, REWORK_CAUSE_MODEL_REVIEW, task.review_findings)]
    if task.queue:
        return _phase(task, world)
    return _after_phases(task, world)


def due_at(task: Task) -> datetime | None:
    """When something follows for a task by itself; None for one that waits for others only."""
    due = next_due(task)
    return due[0] if due else None


def next_due(task: Task) -> tuple[datetime, str] | None:
    """The same with the name of the timer for it. Requests of one kind are due in the order in which they were made, so
    whoever has set a timer of this name for an earlier time need not ask whether somebody has moved it."""
    if not task.title or task.ended is not None or task.parked:
        return None
    due = [(at, DEADLINE_TIMER) for at in (_deadline_of(task),) if at is not None]
    if task.open is not None and task.open.deadline is not None:
        due.append((task.open.deadline, f"{DEADLINE_TIMER}-{task.open.kind.value}"))
    return min(due, default=None)


def _deadline_of(task: Task) -> datetime | None:
    """By when a task has to have its pull request. While that is being opened it is too late to fail: it would be there
    all the same, and only the request's own deadline counts."""
    delivering = task.open is not None and task.open.kind is Kind.DELIVERY
    return None if delivering or task.pull_request[0] else task.deadline


def _is_past_deadline(task: Task, now: datetime) -> bool:
    deadline = _deadline_of(task)
    return deadline is not None and now >= deadline


def _freed(task: Task, world: World) -> list[AnyFact]:
    """Lets a held task go on where what held it ends by itself, and has ended."""
    why = ""
    if task.hold_cause == HOLD_CAUSE_CAPACITY and world.has_room:
        why = f"the project has room for another of its {world.open_tasks_max} open tasks"
    elif task.hold_cause == HOLD_CAUSE_BUDGET and task.queue:
        why = _freed_of_budget(task, world)
    return [TaskReleased(reason=why, released_by=CONDUCTOR)] if why else []


def _freed_of_budget(task: Task, world: World) -> str:
    """Why a task need not wait for its project's money any more; "" where it still has to."""
    choice = choose(changed(task, held="", hold_cause=HOLD_CAUSE_UNSPECIFIED, hold_budget=""), world)
    if choice.model:
        return f"budget {task.hold_budget} has room again"
    # Held anew, it says what does stand in its way: its own limit, say, which no room in the project's budget mends.
    return f"budget {task.hold_budget} no longer holds it up" if choice.cause != HOLD_CAUSE_BUDGET else ""


def _after_phases(task: Task, world: World) -> list[AnyFact]:
    """Gate, human, delivery, in this order."""
    if not task.change:
        return [TaskFailed(reason="no phase left a change behind")]
    if task.judged != task.change:
        return [_gate(task, world)]
    if task.gate == GATE_VERDICT_BLOCK and task.reworks < REWORK_ROUNDS_MAX and not task.approved_by:
        return [_rework(task, world, REWORK_CAUSE_GATE, task.gate_findings)]
    if task.pull_request[0]:
        return [TaskCompleted(pull_request_url=task.pull_request[0])]
    if task.approved_by:
        return [_delivery(task, world)]
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


def _classification(task: Task, world: World) -> AnyFact:
    if not task.admitted and not world.has_room:
        why = f"the project has {world.open_tasks_max} open tasks already; this one begins when another has ended"
        return TaskHeld(reason=why, cause=HOLD_CAUSE_CAPACITY)
    id = f"classification-1-{task.attempts + 1}"
    return ClassificationRequested(request_id=id, deadline=_deadline(world, Kind.CLASSIFICATION))


def _context(task: Task, world: World) -> ContextRequested:
    return ContextRequested(
        request_id=f"context-1-{task.attempts + 1}",
        repository=task.repository,
        base_branch=task.base_branch,
        type=task.type,
        budget_tokens=pack_budget(world.models, world.ruled_out),
        deadline=_deadline(world, Kind.CONTEXT),
    )


def _plan(task: Task, world: World) -> AnyFact:
    overrides = {one.phase: one.model for one in task.overrides}
    planned = plan(
        task.type,
        task.scope,
        world.models,
        world.ruled_out,
        needs=task.needs,
        preferences=world.preferences,
        overrides=overrides,
    )
    for phase in planned.phases:
        if not phase.model:
            why = "; ".join(f"{c.model}: {c.ruled_out}" for c in phase.candidates)
            return TaskFailed(reason=f"no model can do {phase_word(phase.phase)}: {why}")
    inputs = {
        "type": int(task.type),
        "scope": int(task.scope),
        "needs": [task.needs.pack_tokens, task.needs.text_tokens, list(task.needs.images)],
        "overrides": {phase_word(phase): model for phase, model in sorted(overrides.items())},
        **weighed(world),
    }
    return TaskPlanned(
        base_commit=task.base_commit,
        policy_version=POLICY_VERSION,
        phases=planned.phases,
        notes=planned.notes,
        receipt=_receipt(world, inputs, "every phase by the first model of its order that can do it"),
        preferences_version=world.preferences.version,
    )


def _receipt(world: World, inputs: dict[str, object], because: str) -> Receipt:
    return receipt(POLICY_VERSION, inputs, because, world_read_to=world.read_to, models_digest=world.models_digest)


def _rework(task: Task, world: World, cause: ReworkCause, findings: Blob | None) -> ReworkRequested:
    phase = task.author_phase if cause == REWORK_CAUSE_MODEL_REVIEW else task.answering_phase
    who = task.reviewed_by if cause == REWORK_CAUSE_MODEL_REVIEW else "the quality gate"
    inputs = {
        "cause": int(cause),
        "reworks": task.reworks,
        "change": task.change,
        "verdict": int(task.verdict),
        "gate": int(task.gate),
        "findings": findings.digest if findings else "",
    }
    because = f"{who} found what must be mended; rework {task.reworks + 1} of at most {REWORK_ROUNDS_MAX}"
    return ReworkRequested(
        phase=phase,
        round=task.round_of(phase),
        cause=cause,
        findings=findings.ref if findings else None,
        change_digest=task.change,
        receipt=_receipt(world, inputs, because),
    )


def _phase(task: Task, world: World) -> list[AnyFact]:
    """Requests the next phase of the queue, from the model that is to do it now."""
    phase = task.queue[0]
    choice = choose(task, world)
    if not choice.model:
        if phase == PHASE_KIND_REVIEW and choice.cause == HOLD_CAUSE_NO_MODEL:
            round_ = task.round_of(phase)
            return [PhaseSkipped(phase=phase, round=round_, reason=choice.why_none, receipt=choice.receipt)]
        return [_held(task, choice)]
    last = task.failures[-1] if task.failures else None
    if last and choice.model not in (last.model, task.rerouted_to):
        return [
            PhaseRerouted(
                request_id=last.request_id,
                from_model=last.model,
                to_model=choice.model,
                reason=last.reason,
                receipt=choice.receipt,
            )
        ]
    return [_request(task, world, choice)]


def _held(task: Task, choice: Choice) -> TaskHeld:
    what = phase_word(task.queue[0])
    none = "has no model left to ask" if choice.cause == HOLD_CAUSE_NO_MODEL else "waits for money"
    return TaskHeld(
        reason=f"{what} {none}: {choice.why_none}", cause=choice.cause, budget=choice.budget, receipt=choice.receipt
    )


def _request(task: Task, world: World, choice: Choice) -> PhaseRequested:
    phase, money = task.queue[0], choice.funds
    assert money is not None, f"{choice.model!r} was chosen with its funds"
    timeout = Duration()
    timeout.FromTimedelta(PHASE_TIMEOUT)
    draws = bool(world.budgets) and money.calls_max > 0
    return PhaseRequested(
        request_id=request_id_of(task),
        phase=phase,
        round=task.round_of(phase),
        attempt=task.attempts + 1,
        model=choice.model,
        change_digest=task.change,
        findings=task.findings.ref if task.findings and task.round_of(phase) > 1 else None,
        snapshot=task.snapshot.ref if task.snapshot else None,
        pack=task.pack.ref if task.pack else None,
        max_output_tokens=money.max_output_tokens,
        timeout=timeout,
        not_before=_stamp(choice.not_before),
        price_version=money.price_version,
        worst_case_pico_usd=money.worst_case_pico_usd,
        receipt=choice.receipt,
        calls_max=money.calls_max,
        max_input_tokens=money.max_input_tokens,
        budget=world.budget_lane if draws else "",
        reserved_pico_usd=money.reserved_pico_usd if draws else None,
        task_type=task.type,
        author_model=task.author_model if phase == PHASE_KIND_REVIEW else "",
        attachments=[one.message for one in task.attached] if phase in ATTACHED_PHASES else [],
        probe=choice.probe,
        deadline=_deadline(world, Kind.PHASE, choice.not_before),
    )


def _gate(task: Task, world: World) -> GateRequested:
    return GateRequested(
        request_id=f"gate-{task.gates + 1}-1",
        change_digest=task.change,
        snapshot=task.snapshot.ref if task.snapshot else None,
        author_model=task.answering_model,
        task_type=task.type,
        deadline=_deadline(world, Kind.GATE),
    )


def _delivery(task: Task, world: World) -> DeliveryRequested:
    return DeliveryRequested(
        request_id=f"delivery-1-{task.attempts + 1}",
        repository=task.repository,
        base_branch=task.base_branch,
        base_commit=task.base_commit,
        change_digest=task.change,
        snapshot=task.snapshot.ref if task.snapshot else None,
        approved_by=task.approved_by,
        notes=notes_for_reviewer(task),
        deadline=_deadline(world, Kind.DELIVERY),
    )


def _deadline(world: World, kind: Kind, after: datetime | None = None) -> Timestamp | None:
    return _stamp((after or world.now) + world.patience[kind]) if kind in world.patience else None


def _stamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
