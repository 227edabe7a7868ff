"""The life of one task: what has happened to it, as far as deciding needs to know.

Pure: no I/O, no clock, no ids of its own. A fact that answers no open question changes nothing here: it was paid for,
it is kept, and that is all.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import reduce

from eventlog import Recorded
from factory.artifact.v1 import ArtifactRef
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
from factory.gate.v1 import GATE_VERDICT_UNSPECIFIED, GateJudged, GateRequested, GateVerdict
from factory.phase.v1 import (
    REWORK_CAUSE_HUMAN,
    VERDICT_UNSPECIFIED,
    PhaseCompleted,
    PhaseFailed,
    PhaseFailure,
    PhaseRequested,
    PhaseRerouted,
    PhaseSkipped,
    ReworkRequested,
    Verdict,
)
from factory.review.v1 import ChangesRequested, HumanReviewRequested, TaskApproved, TaskRejected
from factory.task.v1 import (
    PHASE_KIND_REVIEW,
    PHASE_KIND_UNSPECIFIED,
    SCOPE_UNSPECIFIED,
    TASK_STATE_CANCELLED,
    TASK_STATE_COMPLETED,
    TASK_STATE_FAILED,
    TASK_STATE_REJECTED,
    TASK_TYPE_UNSPECIFIED,
    ClassificationRequested,
    PhaseKind,
    Scope,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskHeld,
    TaskPlanned,
    TaskReleased,
    TaskState,
    TaskSubmitted,
    TaskType,
)
from policy.routes import phase_word

# Troubles that somebody can mend: the task waits for a release. All others end it.
HOLDING_CONTEXT = frozenset({CONTEXT_FAILURE_UNREACHABLE, CONTEXT_FAILURE_NEEDS_CREDENTIALS, CONTEXT_FAILURE_POISON})
ENDING_DELIVERY = frozenset(
    {DELIVERY_FAILURE_TREE_DIFFERS, DELIVERY_FAILURE_ARTIFACT_MISSING, DELIVERY_FAILURE_REFUSED_URL}
)


class Kind(Enum):
    """What sort of answer is awaited."""

    CLASSIFICATION = "classification"
    CONTEXT = "context"
    PHASE = "phase"
    GATE = "gate"
    DELIVERY = "delivery"


@dataclass(frozen=True, slots=True)
class Blob:
    """An artifact, as a plain value."""

    digest: str
    size: int

    @property
    def ref(self) -> ArtifactRef:
        return ArtifactRef(digest=self.digest, size=self.size)


@dataclass(frozen=True, slots=True)
class Open:
    """The one request that the task waits for."""

    request_id: str
    kind: Kind
    asked_of: str
    phase: PhaseKind = PHASE_KIND_UNSPECIFIED
    round: int = 1
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """A phase of the plan: who may do it, best first, and what rules the others out."""

    phase: PhaseKind
    candidates: tuple[tuple[str, str], ...]
    max_output_tokens: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A phase request that gave no result."""

    request_id: str
    model: str
    reason: PhaseFailure
    detail: str
    retry_after: timedelta


@dataclass(frozen=True, slots=True)
class Task:
    """All that deciding needs, and no more. Anything for display belongs to audit."""

    title: str = ""
    project: str = ""
    repository: str = ""
    base_branch: str = ""
    submitted_by: str = ""
    submitted_at: datetime | None = None
    max_cost_pico_usd: int | None = None
    type: TaskType = TASK_TYPE_UNSPECIFIED
    scope: Scope = SCOPE_UNSPECIFIED
    base_commit: str = ""
    snapshot: Blob | None = None
    pack: Blob | None = None
    pack_tokens: int = 0
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    # phases still to do, the next one first
    queue: tuple[PhaseKind, ...] = ()
    done: tuple[PhaseKind, ...] = ()
    open: Open | None = None
    # attempts that have failed at what is to be done now
    attempts: int = 0
    # of those, the ones that count against a model; a release forgives them
    failures: tuple[Failure, ...] = ()
    rerouted_to: str = ""
    # an answer of context or delivery that ends or holds the task
    trouble: tuple[str, bool] | None = None
    change: str = ""
    author_phase: PhaseKind = PHASE_KIND_UNSPECIFIED
    author_model: str = ""
    findings: Blob | None = None
    verdict: Verdict = VERDICT_UNSPECIFIED
    reviewed_by: str = ""
    review_findings: Blob | None = None
    reworks: int = 0
    judged: str = ""
    gate: GateVerdict = GATE_VERDICT_UNSPECIFIED
    gate_findings: Blob | None = None
    gate_blocking: int = 0
    gate_unknown_because: str = ""
    gates: int = 0
    evidence: str = ""
    awaiting_review: bool = False
    approved_by: str = ""
    held: str = ""
    pull_request: tuple[str, str, str] = ("", "", "")
    ended: TaskState | None = None
    reason: str = ""
    # a fact of a kind that this release does not know stands in its log
    parked: bool = False
    since: datetime | None = None
    last_fact: str = ""

    def round_of(self, phase: PhaseKind) -> int:
        """1 until the phase has been done once."""
        return 1 + self.done.count(phase)

    def step(self, phase: PhaseKind) -> Step:
        return next(step for step in self.steps if step.phase == phase)


NEW = Task()


def evolve(task: Task, recorded: Recorded) -> Task:
    """The task after one more event."""
    at = recorded.event.occurred_at.ToDatetime(tzinfo=UTC)
    return reduce(lambda folded, fact: happened(folded, fact, at), recorded.facts, task)


def happened(task: Task, fact: AnyFact | None, at: datetime) -> Task:
    """The task after one more fact."""
    if fact is None:
        return replace(task, parked=True)
    after = _apply(task, fact, at)
    if after is task:
        return task
    return replace(after, since=at, last_fact=fact.DESCRIPTOR.full_name)


def _apply(task: Task, fact: AnyFact, at: datetime) -> Task:
    if task.ended is not None:
        return task
    match fact:
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
            return _answered(replace(task, open=None), task.open, fact)
        case TaskPlanned() | PhaseRerouted() | PhaseSkipped() | ReworkRequested() | TaskHeld() | TaskReleased():
            return _steered(task, fact)
        case HumanReviewRequested() | TaskApproved() | ChangesRequested():
            return _reviewed(task, fact)
        case TaskRejected() | TaskCompleted() | TaskFailed() | TaskCancelled():
            return _ended(task, fact)
        case _:
            # Calls, prices and erasures are told to others; no decision about this task hangs on them.
            return task


def _submitted(task: Task, fact: TaskSubmitted, at: datetime) -> Task:
    limited = fact.limits.HasField("max_cost_pico_usd")
    return replace(
        task,
        title=fact.title,
        project=fact.project,
        repository=fact.repository,
        base_branch=fact.base_branch,
        submitted_by=fact.submitted_by,
        submitted_at=at,
        max_cost_pico_usd=fact.limits.max_cost_pico_usd if limited else None,
    )


def _asked(
    task: Task,
    fact: ClassificationRequested | ContextRequested | GateRequested | DeliveryRequested | PhaseRequested,
) -> Task:
    """A request is void if another is open: it was decided without having seen what came before it in the log."""
    if task.open is not None or task.held:
        return task
    match fact:
        case ClassificationRequested(request_id=id):
            return replace(task, open=Open(id, Kind.CLASSIFICATION, "classifier"))
        case ContextRequested(request_id=id):
            return replace(task, open=Open(id, Kind.CONTEXT, "context"))
        case GateRequested(request_id=id, change_digest=change):
            if change != task.change or task.queue:
                return task
            return replace(task, open=Open(id, Kind.GATE, "quality_gate"), gates=task.gates + 1)
        case DeliveryRequested(request_id=id):
            return replace(task, open=Open(id, Kind.DELIVERY, "delivery"))
        case PhaseRequested():
            expected = task.queue[:1] == (fact.phase,) and fact.round == task.round_of(fact.phase)
            if not expected or fact.attempt != task.attempts + 1:
                return task
            not_before = fact.not_before.ToDatetime(tzinfo=UTC) if fact.HasField("not_before") else None
            waiting = Open(fact.request_id, Kind.PHASE, fact.model, fact.phase, fact.round, not_before)
            return replace(task, open=waiting, rerouted_to="")


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
            return replace(task, type=fact.type, scope=fact.scope)
        case ContextGathered():
            return replace(
                task,
                base_commit=fact.base_commit,
                base_branch=fact.base_branch,
                snapshot=_blob(fact.snapshot),
                pack=_blob(fact.pack),
                pack_tokens=fact.tokens,
                attempts=0,
            )
        case ContextFailed():
            return replace(task, attempts=task.attempts + 1, trouble=(fact.detail, fact.reason in HOLDING_CONTEXT))
        case PhaseCompleted():
            return _completed(task, was, fact)
        case PhaseFailed():
            failed = Failure(fact.request_id, was.asked_of, fact.reason, fact.detail, fact.retry_after.ToTimedelta())
            return replace(task, attempts=task.attempts + 1, failures=(*task.failures, failed))
        case GateJudged():
            return replace(
                task,
                judged=task.change,
                gate=fact.verdict,
                gate_findings=_blob(fact.findings) if fact.HasField("findings") else None,
                gate_blocking=fact.blocking_findings,
                gate_unknown_because=fact.unknown_because,
                evidence=fact.evidence.digest,
            )
        case PullRequestOpened():
            return replace(task, pull_request=(fact.url, fact.branch, fact.commit))
        case DeliveryFailed():
            return replace(task, attempts=task.attempts + 1, trouble=(fact.detail, fact.reason not in ENDING_DELIVERY))


def _completed(task: Task, was: Open, fact: PhaseCompleted) -> Task:
    task = replace(task, queue=task.queue[1:], done=(*task.done, was.phase), attempts=0, failures=())
    if was.phase == PHASE_KIND_REVIEW:
        found = _blob(fact.findings) if fact.HasField("findings") else None
        return replace(task, verdict=fact.verdict, reviewed_by=was.asked_of, review_findings=found)
    # A verdict that asks for changes outlives what is written after it: only rework, or another review, answers it.
    return replace(task, change=fact.change_digest, author_phase=was.phase, author_model=was.asked_of)


def _steered(
    task: Task, fact: TaskPlanned | PhaseRerouted | PhaseSkipped | ReworkRequested | TaskHeld | TaskReleased
) -> Task:
    if isinstance(fact, TaskReleased):
        limit = fact.limits.max_cost_pico_usd if fact.limits.HasField("max_cost_pico_usd") else task.max_cost_pico_usd
        return replace(task, held="", trouble=None, failures=(), max_cost_pico_usd=limit) if task.held else task
    if task.open is not None:
        return task
    match fact:
        case TaskPlanned():
            steps = tuple(
                Step(p.phase, tuple((c.model, c.ruled_out) for c in p.candidates), p.max_output_tokens)
                for p in fact.phases
            )
            queue = tuple(step.phase for step in steps)
            return task if task.steps else replace(task, steps=steps, queue=queue, notes=tuple(fact.notes))
        case PhaseRerouted():
            asked = bool(task.failures) and task.failures[-1].request_id == fact.request_id
            return replace(task, rerouted_to=fact.to_model) if asked else task
        case PhaseSkipped():
            if task.queue[:1] != (fact.phase,):
                return task
            note = f"{phase_word(fact.phase)} was left out: {fact.reason}"
            return replace(
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
            return replace(
                task,
                queue=(fact.phase, *review, *task.queue),
                findings=_blob(fact.findings) if fact.HasField("findings") else None,
                reworks=task.reworks + (fact.cause != REWORK_CAUSE_HUMAN),
                verdict=VERDICT_UNSPECIFIED,
                judged="",
                awaiting_review=False,
            )
        case TaskHeld():
            return replace(task, held=fact.reason or "no reason was given")


def _reviewed(task: Task, fact: HumanReviewRequested | TaskApproved | ChangesRequested) -> Task:
    match fact:
        case HumanReviewRequested():
            if task.open is not None or fact.change_digest != task.change:
                return task
            return replace(task, awaiting_review=True)
        case TaskApproved():
            if not task.awaiting_review or fact.change_digest != task.change:
                return task
            return replace(task, awaiting_review=False, approved_by=fact.approved_by)
        case ChangesRequested():
            if not task.awaiting_review or fact.change_digest != task.change:
                return task
            return replace(task, awaiting_review=False)


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
    return replace(task, ended=state, reason=reason, open=None, awaiting_review=False)


def _blob(ref: ArtifactRef) -> Blob:
    return Blob(ref.digest, ref.size)
