"""What people ask of a task, judged. Pure: each command gives the facts that follow, or is refused with the reason.

Asked twice, a command gives no new facts.
"""

from dataclasses import dataclass

from factory.artifact.v1 import ArtifactRef
from factory.event.v1 import AnyFact
from factory.phase.v1 import REWORK_CAUSE_HUMAN, ReworkRequested
from factory.review.v1 import ChangesRequested, TaskApproved, TaskRejected
from factory.task.v1 import Limits, TaskCancelled, TaskReleased

from conductor.next_step import main_author_phase
from conductor.task import Task
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
    phase = main_author_phase(task)
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


def _check_waiting(task_id: str, task: Task, seen: Seen) -> None:
    if not task.awaiting_review:
        raise Refused(f"{task_id!r} is not waiting for review; {standing(task)}")
    if seen.change_digest != task.change:
        raise Refused(
            f"the change of {task_id!r} has moved on since you looked: you saw {seen.change_digest[:12] or 'none'}, "
            f"now it is {task.change[:12]}; look again"
        )
