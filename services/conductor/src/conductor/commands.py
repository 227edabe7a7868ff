"""What people ask of a task, judged. Pure: each command gives the facts that follow, or is refused with the reason.

Asked twice, a command gives no new facts.
"""

from dataclasses import dataclass

from factory.artifact.v1 import ArtifactRef
from factory.event.v1 import AnyFact
from factory.phase.v1 import REWORK_CAUSE_HUMAN, ReworkRequested
from factory.review.v1 import ChangesRequested, TaskApproved, TaskRejected
from factory.task.v1 import (
    HOLD_CAUSE_BUDGET,
    HOLD_CAUSE_NO_MODEL,
    HOLD_CAUSE_TASK_BUDGET,
    PHASE_KIND_REVIEW,
    ROUTE_SOURCE_OVERRIDE,
    Limits,
    PhaseKind,
    RoutingOverridden,
    TaskCancelled,
    TaskReleased,
)
from policy.ranking import rank, same_family
from policy.routes import phase_word, steps_for

from conductor.rules import Rules
from conductor.state import Kind, Task
from conductor.wording import standing


class Refused(Exception):
    """A command that the task's state does not allow; the message says what state that is."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What an architect had before their eyes when they decided."""

    change_digest: str
    evidence_digest: str


def approve(task_id: str, task: Task, who: str, seen: Seen, remark: ArtifactRef | None) -> list[AnyFact]:
    """Lets the change pass."""
    if task.approved_by:
        if task.approved_by == who and seen.change_digest == task.change:
            return []
        raise Refused(f"{task_id!r} was approved by {task.approved_by} already")
    _check_waiting(task_id, task, seen)
    return [
        TaskApproved(
            approved_by=who, remark=remark, change_digest=seen.change_digest, evidence_digest=seen.evidence_digest
        )
    ]


def request_changes(task_id: str, task: Task, who: str, seen: Seen, findings: ArtifactRef) -> list[AnyFact]:
    """Sends the change back to the author, who begins another round."""
    _check_waiting(task_id, task, seen)
    phase = task.answering_phase
    return [
        ChangesRequested(
            requested_by=who,
            findings=findings,
            change_digest=seen.change_digest,
            evidence_digest=seen.evidence_digest,
        ),
        ReworkRequested(
            phase=phase,
            round=task.round_of(phase),
            cause=REWORK_CAUSE_HUMAN,
            findings=findings,
            change_digest=task.change,
        ),
    ]


def reject(task_id: str, task: Task, who: str, seen: Seen, remark: ArtifactRef | None) -> list[AnyFact]:
    """Ends the task without a pull request."""
    _check_waiting(task_id, task, seen)
    return [
        TaskRejected(
            rejected_by=who, remark=remark, change_digest=seen.change_digest, evidence_digest=seen.evidence_digest
        )
    ]


def cancel(task_id: str, task: Task, who: str) -> list[AnyFact]:
    if task.ended is not None:
        raise Refused(f"{task_id!r} has ended already: {standing(task)}")
    return [TaskCancelled(cancelled_by=who)]


def release(task_id: str, task: Task, who: str, reason: str, limits: Limits | None) -> list[AnyFact]:
    if not task.held:
        raise Refused(f"{task_id!r} is not held; {standing(task)}")
    return [TaskReleased(reason=reason, released_by=who, limits=limits)]


def override(
    task_id: str, task: Task, rules: Rules, phase: PhaseKind, model: str, who: str, reason: str
) -> list[AnyFact]:
    """Gives a phase to a model, or takes that back; a request that is open for the phase is void, its call stops."""
    if task.ended is not None:
        raise Refused(f"{task_id!r} has ended already: {standing(task)}")
    _check_to_come(task_id, task, phase)
    if model:
        _check_able(task, rules, phase, model)
    elif not task.override(phase):
        raise Refused(f"nobody has put a model in charge of {phase_word(phase)}")
    if model and task.override(phase) == model:
        return []
    asked = task.open if task.open and task.open.kind is Kind.PHASE and task.open.phase == phase else None
    # The model that works on it already goes on: its answer is paid for.
    wanted = model or _first_of_route(task, phase)
    voided = asked.request_id if asked is not None and asked.asked_of != wanted else ""
    facts: list[AnyFact] = [
        RoutingOverridden(phase=phase, model=model, overridden_by=who, reason=reason, request_id=voided)
    ]
    waits_for_this = task.hold_cause in (HOLD_CAUSE_NO_MODEL, HOLD_CAUSE_BUDGET, HOLD_CAUSE_TASK_BUDGET)
    if task.held and waits_for_this and task.queue[:1] == (phase,):
        facts.append(TaskReleased(reason=f"{phase_word(phase)} was given to {model or 'its route'}", released_by=who))
    return facts


def _first_of_route(task: Task, phase: PhaseKind) -> str:
    """The model that the plan would have do a phase of it, had nobody been put in charge."""
    step = next((step for step in task.steps if step.phase == phase), None)
    if step is None or step.source == ROUTE_SOURCE_OVERRIDE:
        return ""
    return next((name for name, why_not in step.candidates if not why_not), "")


def _check_to_come(task_id: str, task: Task, phase: PhaseKind) -> None:
    """Raises Refused for a phase that this task has not, or not any more."""
    if task.steps:
        planned = [step.phase for step in task.steps]
    else:
        planned = [kind for kind, _ in steps_for(task.type, task.scope)] if task.type else [phase]
    if phase not in planned:
        names = ", ".join(phase_word(kind) for kind in planned)
        raise Refused(f"{task_id!r} has no phase {phase_word(phase)}; it has {names}")
    if task.approved_by:
        raise Refused(f"{task_id!r} has no phase to come; {standing(task)}")


def _check_able(task: Task, rules: Rules, phase: PhaseKind, model: str) -> None:
    """Raises Refused for a model that could not do the phase whatever happens."""
    author = task.author_model if phase == PHASE_KIND_REVIEW else ""
    [candidate] = rank(phase, [model], rules.models, rules.ruled_out, needs=task.needs, author=author)
    if candidate.ruled_out:
        raise Refused(f"{model} cannot do {phase_word(phase)}: {candidate.ruled_out}")
    reviewer = task.override(PHASE_KIND_REVIEW)
    if phase != PHASE_KIND_REVIEW and reviewer and same_family(rules.models, model, reviewer):
        raise Refused(f"{model} is of the family of {reviewer}, who was put in charge of the review")


def _check_waiting(task_id: str, task: Task, seen: Seen) -> None:
    if not task.awaiting_review:
        raise Refused(f"{task_id!r} is not waiting for review; {standing(task)}")
    if seen.change_digest != task.change:
        raise Refused(
            f"the change of {task_id!r} has moved on since you looked: you saw {seen.change_digest[:12] or 'none'}, "
            f"now it is {task.change[:12]}; look again"
        )
