"""The life of one task: what has happened to it, as far as deciding needs to know.

Pure: no I/O, no clock, no ids of its own. A fact that answers no open question changes nothing here: it was paid for,
it is kept, and that is all.
"""

from datetime import UTC, datetime, timedelta
from functools import reduce

from eventlog import Recorded
from factory.artifact.v1 import ArtifactRef
from factory.call.v1 import ModelCalled, ModelCallStarted
from factory.classification.v1 import TaskClassified
from factory.context.v1 import (
    CONTEXT_FAILURE_NEEDS_CREDENTIALS,
    CONTEXT_FAILURE_POISON,
    CONTEXT_FAILURE_UNREACHABLE,
    ContextFailed,
    ContextGathered,
    ContextRequested,
)
from factory.delivery.v1 import (
    DELIVERY_FAILURE_ARTIFACT_MISSING,
    DELIVERY_FAILURE_REFUSED_URL,
    DELIVERY_FAILURE_TREE_DIFFERS,
    DeliveryFailed,
    DeliveryRequested,
    PullRequestOpened,
)
from factory.event.v1 import AnyFact
from factory.gate.v1 import GateJudged, GateRequested
from factory.phase.v1 import (
    PHASE_FAILURE_DEADLINE,
    REWORK_CAUSE_HUMAN,
    VERDICT_UNSPECIFIED,
    PhaseCompleted,
    PhaseFailed,
    PhaseRequested,
    PhaseRerouted,
    PhaseSkipped,
    ReworkRequested,
)
from factory.review.v1 import ChangesRequested, HumanReviewRequested, TaskApproved, TaskRejected
from factory.task.v1 import (
    HOLD_CAUSE_BUDGET,
    HOLD_CAUSE_CAPACITY,
    HOLD_CAUSE_UNSPECIFIED,
    PHASE_KIND_REVIEW,
    ROUTE_SOURCE_DEFAULT,
    RULED_OUT_BY_PREFERENCE,
    TASK_STATE_CANCELLED,
    TASK_STATE_COMPLETED,
    TASK_STATE_FAILED,
    TASK_STATE_REJECTED,
    ClassificationRequested,
    PlannedPhase,
    RequestExpired,
    RoutingOverridden,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskHeld,
    TaskPlanned,
    TaskReleased,
    TaskSubmitted,
)
from google.protobuf.timestamp_pb2 import Timestamp
from policy.routes import phase_word

from conductor.state import Attached as Attached
from conductor.state import Blob as Blob
from conductor.state import Failure as Failure
from conductor.state import Kind as Kind
from conductor.state import Open as Open
from conductor.state import Override as Override
from conductor.state import Step as Step
from conductor.state import Task as Task
from conductor.state import changed

# Troubles that somebody can mend: the task waits for a release. All others end it.
HOLDING_CONTEXT = frozenset({CONTEXT_FAILURE_UNREACHABLE, CONTEXT_FAILURE_NEEDS_CREDENTIALS, CONTEXT_FAILURE_POISON})
ENDING_DELIVERY = frozenset(
    {DELIVERY_FAILURE_TREE_DIFFERS, DELIVERY_FAILURE_ARTIFACT_MISSING, DELIVERY_FAILURE_REFUSED_URL}
)
# These holds end by themselves, so what has failed before still counts.
PASSING_HOLDS = frozenset({HOLD_CAUSE_BUDGET, HOLD_CAUSE_CAPACITY})

NEW = Task()


def evolve(task: Task, recorded: Recorded) -> Task:
    """The task after one more event."""
    at = recorded.event.occurred_at.ToDatetime(tzinfo=UTC)
    return reduce(lambda folded, fact: happened(folded, fact, at), recorded.facts, task)


def happened(task: Task, fact: AnyFact | None, at: datetime) -> Task:
    """The task after one more fact."""
    if fact is None:
        return changed(task, parked=True)
    after = _apply(task, fact, at)
    if after is task:
        return task
    return changed(after, since=at, last_fact=fact.DESCRIPTOR.full_name)


def _apply(task: Task, fact: AnyFact, at: datetime) -> Task:
    if task.ended is not None:
        return task
    match fact:
        case ModelCallStarted() | ModelCalled():
            return task  # the most frequent ones; no decision about this task hangs on them
        case TaskSubmitted():
            return _submitted(task, fact, at) if not task.title else task
        case ClassificationRequested() | ContextRequested() | GateRequested() | DeliveryRequested() | PhaseRequested():
            return _asked(task, fact)
        case (
            TaskClassified()
            | ContextGathered()
            | ContextFailed()
            | PhaseCompleted()
            | PhaseFailed()
            | GateJudged()
            | PullRequestOpened()
            | DeliveryFailed()
        ):
            if task.open is None or task.open.request_id != fact.request_id:
                return task
            return _answered(changed(task, open=None), task.open, fact)
        case TaskPlanned() | PhaseRerouted() | PhaseSkipped() | ReworkRequested() | TaskHeld() | TaskReleased():
            return _steered(task, fact)
        case HumanReviewRequested() | TaskApproved() | ChangesRequested():
            return _reviewed(task, fact)
        case TaskRejected() | TaskCompleted() | TaskFailed() | TaskCancelled():
            return _ended(task, fact)
        case RoutingOverridden():
            return _overridden(task, fact)
        case RequestExpired(request_id=id):
            if task.open is None or task.open.request_id != id:
                return task
            return _expired(changed(task, open=None), task.open, withdrawn=not fact.HasField("deadline"))
        case _:
            # Prices and erasures are told to others; no decision about this task hangs on them.
            return task


def _submitted(task: Task, fact: TaskSubmitted, at: datetime) -> Task:
    limited = fact.limits.HasField("max_cost_pico_usd")
    return changed(
        task,
        title=fact.title,
        project=fact.project,
        repository=fact.repository,
        base_branch=fact.base_branch,
        submitted_by=fact.submitted_by,
        submitted_at=at,
        max_cost_pico_usd=fact.limits.max_cost_pico_usd if limited else None,
        deadline=at + fact.limits.timeout.ToTimedelta() if fact.limits.HasField("timeout") else None,
        body_bytes=fact.body.size,
        attached=tuple(Attached(one.name, one.media_type, _blob(one.artifact)) for one in fact.attached),
    )


def _asked(
    task: Task,
    fact: ClassificationRequested | ContextRequested | GateRequested | DeliveryRequested | PhaseRequested,
) -> Task:
    """A request is void if another is open: it was decided without having seen what came before it in the log."""
    if task.open is not None or task.held:
        return task
    until = _moment(fact.deadline) if fact.HasField("deadline") else None
    match fact:
        case ClassificationRequested(request_id=id):
            return changed(task, open=Open(id, Kind.CLASSIFICATION, "classifier", deadline=until), admitted=True)
        case ContextRequested(request_id=id):
            return changed(task, open=Open(id, Kind.CONTEXT, "context", deadline=until))
        case GateRequested(request_id=id, change_digest=change):
            if change != task.change or task.queue:
                return task
            return changed(task, open=Open(id, Kind.GATE, "quality_gate", deadline=until), gates=task.gates + 1)
        case DeliveryRequested(request_id=id):
            return changed(task, open=Open(id, Kind.DELIVERY, "delivery", deadline=until))
        case PhaseRequested():
            expected = task.queue[:1] == (fact.phase,) and fact.round == task.round_of(fact.phase)
            if not expected or fact.attempt != task.attempts + 1:
                return task
            waiting = Open(
                fact.request_id,
                Kind.PHASE,
                fact.model,
                fact.phase,
                fact.round,
                not_before=_moment(fact.not_before) if fact.HasField("not_before") else None,
                deadline=until,
                max_input_tokens=fact.max_input_tokens,
            )
            return changed(task, open=waiting, rerouted_to="")


def _answered(
    task: Task,
    was: Open,
    fact: TaskClassified
    | ContextGathered
    | ContextFailed
    | PhaseCompleted
    | PhaseFailed
    | GateJudged
    | PullRequestOpened
    | DeliveryFailed,
) -> Task:
    match fact:
        case TaskClassified():
            return changed(task, type=fact.type, scope=fact.scope, attempts=0)
        case ContextGathered():
            return changed(
                task,
                base_commit=fact.base_commit,
                base_branch=fact.base_branch,
                snapshot=_blob(fact.snapshot),
                pack=_blob(fact.pack),
                pack_tokens=fact.tokens,
                attempts=0,
            )
        case ContextFailed():
            return changed(task, attempts=task.attempts + 1, trouble=(fact.detail, fact.reason in HOLDING_CONTEXT))
        case PhaseCompleted():
            return _completed(task, was, fact)
        case PhaseFailed():
            failed = Failure(
                fact.request_id,
                was.asked_of,
                fact.reason,
                fact.detail,
                fact.retry_after.ToTimedelta(),
                was.max_input_tokens,
            )
            return changed(task, attempts=task.attempts + 1, failures=(*task.failures, failed))
        case GateJudged():
            return changed(
                task,
                judged=task.change,
                gate=fact.verdict,
                gate_findings=_blob(fact.findings) if fact.HasField("findings") else None,
                gate_blocking=fact.blocking_findings,
                gate_unknown_because=fact.unknown_because,
                evidence=fact.evidence.digest,
            )
        case PullRequestOpened():
            return changed(task, pull_request=(fact.url, fact.branch, fact.commit))
        case DeliveryFailed():
            return changed(task, attempts=task.attempts + 1, trouble=(fact.detail, fact.reason not in ENDING_DELIVERY))


def _completed(task: Task, was: Open, fact: PhaseCompleted) -> Task:
    task = changed(task, queue=task.queue[1:], done=(*task.done, was.phase), attempts=0, failures=())
    if was.phase == PHASE_KIND_REVIEW:
        found = _blob(fact.findings) if fact.HasField("findings") else None
        return changed(task, verdict=fact.verdict, reviewed_by=was.asked_of, review_findings=found)
    # A verdict that asks for changes outlives what is written after it: only rework, or another review, answers it.
    wrote = (*(one for one in task.wrote if one[0] != was.phase), (was.phase, was.asked_of))
    return changed(task, change=fact.change_digest, author_phase=was.phase, author_model=was.asked_of, wrote=wrote)


def _expired(task: Task, was: Open, *, withdrawn: bool) -> Task:
    """Nobody has answered in time: as a failure for a phase, as a trouble that holds for anything else. One that was
    withdrawn before anybody could is no failure of its model."""
    if withdrawn:
        return changed(task, attempts=task.attempts + 1)
    if was.kind is Kind.PHASE:
        failed = Failure(was.request_id, was.asked_of, PHASE_FAILURE_DEADLINE, "", timedelta())
        return changed(task, attempts=task.attempts + 1, failures=(*task.failures, failed))
    detail = f"{was.asked_of} did not answer {was.request_id} by {was.deadline:%Y-%m-%d %H:%M:%S} UTC"
    return changed(task, attempts=task.attempts + 1, trouble=(detail, True))


def _overridden(task: Task, fact: RoutingOverridden) -> Task:
    """An architect's word: it voids what is open for this phase, and the phase is asked for anew."""
    others = tuple(one for one in task.overrides if one.phase != fact.phase)
    mine = (Override(fact.phase, fact.model, fact.overridden_by, fact.reason),) if fact.model else ()
    task = changed(task, overrides=(*others, *mine))
    if task.open is not None and task.open.kind is Kind.PHASE and task.open.request_id == fact.request_id:
        return changed(task, open=None, attempts=task.attempts + 1, failures=(), rerouted_to="")
    if task.open is None and task.queue[:1] == (fact.phase,):
        return changed(task, failures=(), rerouted_to="")
    return task


def _steered(
    task: Task, fact: TaskPlanned | PhaseRerouted | PhaseSkipped | ReworkRequested | TaskHeld | TaskReleased
) -> Task:
    if isinstance(fact, TaskReleased):
        return _released(task, fact) if task.held else task
    if task.open is not None:
        return task
    match fact:
        case TaskPlanned():
            steps = tuple(_step(planned) for planned in fact.phases)
            queue = tuple(step.phase for step in steps)
            return task if task.steps else changed(task, steps=steps, queue=queue, notes=tuple(fact.notes))
        case PhaseRerouted():
            asked = bool(task.failures) and task.failures[-1].request_id == fact.request_id
            return changed(task, rerouted_to=fact.to_model) if asked else task
        case PhaseSkipped():
            if task.queue[:1] != (fact.phase,):
                return task
            note = f"{phase_word(fact.phase)} was left out: {fact.reason}"
            return changed(
                task,
                queue=task.queue[1:],
                done=(*task.done, fact.phase),
                attempts=0,
                failures=(),
                notes=(*task.notes, note),
            )
        case ReworkRequested():
            if fact.change_digest != task.change:
                return task
            review = tuple(step.phase for step in task.steps if step.phase == PHASE_KIND_REVIEW)
            return changed(
                task,
                queue=(fact.phase, *review, *task.queue),
                findings=_blob(fact.findings) if fact.HasField("findings") else None,
                reworks=task.reworks + (fact.cause != REWORK_CAUSE_HUMAN),
                verdict=VERDICT_UNSPECIFIED,
                judged="",
                awaiting_review=False,
            )
        case TaskHeld():
            held = fact.reason or "no reason was given"
            return changed(task, held=held, hold_cause=fact.cause, hold_budget=fact.budget)


def _released(task: Task, fact: TaskReleased) -> Task:
    limit = fact.limits.max_cost_pico_usd if fact.limits.HasField("max_cost_pico_usd") else task.max_cost_pico_usd
    deadline = task.deadline
    if fact.limits.HasField("timeout") and task.submitted_at is not None:
        deadline = task.submitted_at + fact.limits.timeout.ToTimedelta()
    return changed(
        task,
        held="",
        hold_cause=HOLD_CAUSE_UNSPECIFIED,
        hold_budget="",
        trouble=None,
        # Whoever lets one in that waits for room need not wait until there is some.
        admitted=task.admitted or task.hold_cause == HOLD_CAUSE_CAPACITY,
        failures=task.failures if task.hold_cause in PASSING_HOLDS else (),
        max_cost_pico_usd=limit,
        deadline=deadline,
    )


def _step(planned: PlannedPhase) -> Step:
    return Step(
        planned.phase,
        tuple((candidate.model, candidate.ruled_out) for candidate in planned.candidates),
        planned.max_output_tokens,
        tuple(c.model for c in planned.candidates if c.by == RULED_OUT_BY_PREFERENCE),
        planned.source or ROUTE_SOURCE_DEFAULT,
    )


def _reviewed(task: Task, fact: HumanReviewRequested | TaskApproved | ChangesRequested) -> Task:
    match fact:
        case HumanReviewRequested():
            if task.open is not None or fact.change_digest != task.change:
                return task
            return changed(task, awaiting_review=True)
        case TaskApproved():
            if not task.awaiting_review or fact.change_digest != task.change:
                return task
            return changed(task, awaiting_review=False, approved_by=fact.approved_by)
        case ChangesRequested():
            if not task.awaiting_review or fact.change_digest != task.change:
                return task
            return changed(task, awaiting_review=False)


def _ended(task: Task, fact: TaskRejected | TaskCompleted | TaskFailed | TaskCancelled) -> Task:
    match fact:
        case TaskCompleted():
            state, reason = TASK_STATE_COMPLETED, ""
        case TaskFailed():
            state, reason = TASK_STATE_FAILED, fact.reason
        case TaskCancelled():
            state, reason = TASK_STATE_CANCELLED, f"cancelled by {fact.cancelled_by}"
        case TaskRejected():
            state, reason = TASK_STATE_REJECTED, f"rejected by {fact.rejected_by}"
    return changed(task, ended=state, reason=reason, open=None, awaiting_review=False)


def _blob(ref: ArtifactRef) -> Blob:
    return Blob(ref.digest, ref.size)


def _moment(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)
