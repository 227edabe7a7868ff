"""Sentences about tasks and facts, for people. Pure, and read by no machine."""

from collections.abc import Mapping

from factory.call.v1 import CallOutcome, ModelCalled, ModelCallStarted
from factory.classification.v1 import TaskClassified
from factory.context.v1 import ContextFailed, ContextGathered, ContextRequested
from factory.delivery.v1 import DeliveryFailed, DeliveryRequested, PullRequestOpened
from factory.event.v1 import AnyFact
from factory.gate.v1 import GateJudged, GateRequested, GateVerdict
from factory.phase.v1 import (
    PhaseCompleted,
    PhaseFailed,
    PhaseFailure,
    PhaseRequested,
    PhaseRerouted,
    PhaseSkipped,
    ReworkCause,
    ReworkRequested,
    Verdict,
)
from factory.review.v1 import ChangesRequested, HumanReviewRequested, TaskApproved, TaskRejected
from factory.task.v1 import (
    TASK_STATE_AWAITING_REVIEW,
    TASK_STATE_CLASSIFYING,
    TASK_STATE_DELIVERING,
    TASK_STATE_GATHERING_CONTEXT,
    TASK_STATE_GATING,
    TASK_STATE_HELD,
    TASK_STATE_PARKED,
    TASK_STATE_RUNNING,
    ClassificationRequested,
    RequestExpired,
    RoutingOverridden,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskHeld,
    TaskPlanned,
    TaskRefused,
    TaskReleased,
    TaskState,
    TaskSubmitted,
    TextErased,
)
from policy.prices import total_tokens
from policy.routes import phase_word, scope_word, type_word

from conductor.task import Kind, Open, Task

_STATE_OF_KIND: Mapping[Kind, TaskState] = {
    Kind.CLASSIFICATION: TASK_STATE_CLASSIFYING,
    Kind.CONTEXT: TASK_STATE_GATHERING_CONTEXT,
    Kind.PHASE: TASK_STATE_RUNNING,
    Kind.GATE: TASK_STATE_GATING,
    Kind.DELIVERY: TASK_STATE_DELIVERING,
}


def state_of(task: Task) -> TaskState:
    if task.ended is not None:
        return task.ended
    if task.parked:
        return TASK_STATE_PARKED
    if task.held:
        return TASK_STATE_HELD
    if task.open is not None:
        return _STATE_OF_KIND[task.open.kind]
    return TASK_STATE_AWAITING_REVIEW if task.awaiting_review else TASK_STATE_RUNNING


def waiting_for(task: Task) -> str:
    """Who has the turn."""
    if task.ended is not None:
        return "nobody"
    if task.parked or task.held:
        return "operator"
    if task.open is not None:
        return f"executor-{task.open.asked_of}" if task.open.kind is Kind.PHASE else task.open.asked_of
    return "architect" if task.awaiting_review else "conductor"


def doing(task: Task) -> str:
    """What is going on, in a few words."""
    if task.ended is not None:
        return task.reason or "done"
    if task.parked:
        return "a fact of a kind that this release does not know stands in its log; a newer release takes it up again"
    if task.held:
        return f"held: {task.held}"
    match task.open:
        case None:
            return "waiting for a human review" if task.awaiting_review else "being decided"
        case Open(kind=Kind.PHASE) as asked:
            again = f", round {asked.round}" if asked.round > 1 else ""
            later = f", to be tried again at {asked.not_before:%H:%M:%S} UTC" if asked.not_before else ""
            return f"{phase_word(asked.phase)} by {asked.asked_of}{again}{later}"
        case Open(kind=kind):
            words = {
                Kind.CLASSIFICATION: "being classified",
                Kind.CONTEXT: "gathering context",
                Kind.GATE: "in the quality gate",
                Kind.DELIVERY: "opening the pull request",
            }
            return words.get(kind, kind.value)


def standing(task: Task) -> str:
    """For an error message: "it is in the quality gate since 14:02 UTC"."""
    since = f" since {task.since:%Y-%m-%d %H:%M:%S} UTC" if task.since else ""
    if task.ended is not None:
        return f"it is {TaskState.Name(task.ended).removeprefix('TASK_STATE_').lower()}{since}"
    return f"{doing(task)}{since}"


def summary(fact: AnyFact | None) -> str:
    """One sentence on a fact; the sentences of a task's own life, then those of its work, then all others."""
    if fact is None:
        return "a fact of a kind that this release does not know"
    return _of_the_task(fact) or _of_its_work(fact) or _of_its_review(fact) or fact.DESCRIPTOR.name


def _of_the_task(fact: AnyFact) -> str:
    match fact:
        case TaskSubmitted():
            return f"submitted by {fact.submitted_by}: {fact.title}"
        case TaskRefused():
            return f"refused: {fact.reason}"
        case TaskPlanned():
            return "planned: " + " → ".join(f"{phase_word(p.phase)} by {p.model}" for p in fact.phases)
        case TaskHeld():
            return f"held: {fact.reason}"
        case TaskReleased():
            return f"released by {fact.released_by}" + (f": {fact.reason}" if fact.reason else "")
        case TaskCompleted():
            return "completed"
        case TaskFailed():
            return f"failed: {fact.reason}"
        case TaskCancelled():
            return f"cancelled by {fact.cancelled_by}"
        case RoutingOverridden():
            who, phase = fact.overridden_by, phase_word(fact.phase)
            words = f"{who} gives {phase} to {fact.model}" if fact.model else f"{who} gives {phase} back to its route"
            return words + (f"; {fact.request_id} is stopped" if fact.request_id else "")
        case RequestExpired():
            if not fact.HasField("deadline"):
                return f"{fact.request_id} is withdrawn: the money for it was given back before it was offered"
            return (
                f"{fact.request_id} is void: nobody answered it by {fact.deadline.ToDatetime():%Y-%m-%d %H:%M:%S} UTC"
            )
        case TextErased():
            return f"{len(fact.digests)} artifacts erased by {fact.erased_by}"
        case _:
            return ""


def _of_its_work(fact: AnyFact) -> str:
    match fact:
        case ClassificationRequested():
            return "classification asked for"
        case TaskClassified():
            what = f"{type_word(fact.type)}, {scope_word(fact.scope)}"
            return f"classified as {what} ({fact.confidence:.0%}, by {fact.method})"
        case ContextRequested():
            return "context asked for"
        case ContextGathered():
            return f"context gathered: {len(fact.manifest)} files, {fact.tokens:,} tokens, at {fact.base_commit[:10]}"
        case ContextFailed():
            return f"no context: {fact.detail}"
        case PhaseRequested():
            return f"{fact.request_id} asked of {fact.model}"
        case PhaseCompleted():
            return _completed(fact)
        case PhaseFailed():
            why = _word(PhaseFailure.Name(fact.reason), "PHASE_FAILURE_")
            return f"{fact.request_id} failed: {why}" + (f": {fact.detail}" if fact.detail else "")
        case PhaseRerouted():
            why = _word(PhaseFailure.Name(fact.reason), "PHASE_FAILURE_")
            return f"{fact.request_id} goes from {fact.from_model} to {fact.to_model}: {why}"
        case PhaseSkipped():
            return f"{phase_word(fact.phase)} is left out: {fact.reason}"
        case ReworkRequested():
            return (
                f"{phase_word(fact.phase)} is asked again, after {_word(ReworkCause.Name(fact.cause), 'REWORK_CAUSE_')}"
            )
        case ModelCallStarted():
            return f"{fact.model} is called ({fact.call_id.rsplit('.', 1)[-1]})"
        case ModelCalled():
            outcome = _word(CallOutcome.Name(fact.outcome), "CALL_OUTCOME_")
            tokens = f"{total_tokens(fact.usage):,} tokens" if fact.HasField("usage") else "usage unknown"
            return f"{fact.model} answered: {outcome}, {tokens}"
        case _:
            return ""


def _of_its_review(fact: AnyFact) -> str:
    match fact:
        case GateRequested():
            return "quality gate asked for"
        case GateJudged():
            tests = f", {fact.tests.passed} tests passed, {fact.tests.failed + fact.tests.errors} failed"
            verdict = _word(GateVerdict.Name(fact.verdict), "GATE_VERDICT_")
            return f"quality gate: {verdict}, {_blocking(fact.blocking_findings)}" + (
                tests if fact.HasField("tests") else ""
            )
        case HumanReviewRequested():
            return "an architect is asked"
        case TaskApproved():
            return f"approved by {fact.approved_by}"
        case ChangesRequested():
            return f"changes requested by {fact.requested_by}"
        case TaskRejected():
            return f"rejected by {fact.rejected_by}"
        case DeliveryRequested():
            return "delivery asked for"
        case PullRequestOpened():
            return f"pull request opened: {fact.url}"
        case DeliveryFailed():
            return f"delivery failed: {fact.detail}"
        case _:
            return ""


def _completed(fact: PhaseCompleted) -> str:
    match fact.verdict:
        case Verdict.VERDICT_APPROVE:
            return f"{fact.request_id}: approved"
        case Verdict.VERDICT_REQUEST_CHANGES:
            return f"{fact.request_id}: changes requested, {_blocking(fact.blocking_findings)}"
        case _:
            return f"{fact.request_id} is done"


def _blocking(findings: int) -> str:
    return f"{findings} blocking finding{'' if findings == 1 else 's'}"


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower().replace("_", " ")
