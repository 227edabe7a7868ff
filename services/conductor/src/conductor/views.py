"""A task as it is shown to others. Pure."""

from datetime import datetime

from factory.task.v1 import Candidate, OverriddenPhase, PlannedPhase
from factory.task.v1 import Task as TaskMessage
from google.protobuf.timestamp_pb2 import Timestamp

from conductor.next_step import due_at, notes_for_reviewer
from conductor.task import Task
from conductor.wording import doing, state_of, waiting_for


def task_view(task_id: str, task: Task) -> TaskMessage:
    url, branch, commit = task.pull_request
    return TaskMessage(
        task_id=task_id,
        title=task.title,
        project=task.project,
        repository=task.repository,
        state=state_of(task),
        waiting_for=waiting_for(task),
        doing=doing(task),
        since=_moment(task.since),
        last_fact=task.last_fact,
        next_timer=_moment(_next_timer(task)),
        type=task.type,
        scope=task.scope,
        plan=[
            PlannedPhase(
                phase=step.phase,
                model=task.override(step.phase)
                or next((model for model, why_not in step.candidates if not why_not), ""),
                candidates=[Candidate(model=model, ruled_out=why_not) for model, why_not in step.candidates],
                max_output_tokens=step.max_output_tokens,
                source=step.source,
            )
            for step in task.steps
        ],
        change_digest=task.change,
        pull_request_url=url,
        branch=branch,
        commit=commit,
        reason=task.reason or task.held,
        submitted_at=_moment(task.submitted_at),
        submitted_by=task.submitted_by,
        notes=notes_for_reviewer(task),
        hold_cause=task.hold_cause,
        overrides=[
            OverriddenPhase(phase=one.phase, model=one.model, overridden_by=one.by, reason=one.reason)
            for one in task.overrides
        ],
        deadline=_moment(task.deadline),
    )


def _next_timer(task: Task) -> datetime | None:
    """When something happens by itself: a retry, or a deadline."""
    if task.ended is None and task.open is not None and task.open.not_before is not None:
        return task.open.not_before
    return due_at(task)


def _moment(at: datetime | None) -> Timestamp | None:
    if at is None:
        return None
    moment = Timestamp()
    moment.FromDatetime(at)
    return moment
