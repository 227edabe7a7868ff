"""One row of the task list: what lists and filters need of a task, and no more.

Pure. The conductor decides by its own state; this one is only for showing.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from factory.classification.v1 import TaskClassified
from factory.delivery.v1 import PullRequestOpened
from factory.event.v1 import AnyFact, Event
from factory.review.v1 import HumanReviewRequested
from factory.task.v1 import (
    SCOPE_UNSPECIFIED,
    TASK_TYPE_UNSPECIFIED,
    Scope,
    TaskCompleted,
    TaskPlanned,
    TaskSubmitted,
    TaskType,
)
from policy.calls import Tally
from policy.standing import CONDUCTOR, Standing
from policy.standing import evolve as stand

NOWHERE = Standing()
NOTHING = Tally()


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task in the list. `conductor_version`: how far its conductor's lane was read, so that nothing counts twice."""

    task_id: str
    title: str = ""
    project: str = ""
    task_type: TaskType = TASK_TYPE_UNSPECIFIED
    scope: Scope = SCOPE_UNSPECIFIED
    standing: Standing = NOWHERE
    conductor_version: int = 0
    classifier_version: int = 0
    submitted_at: datetime | None = None
    changed_at: datetime | None = None
    pull_request_url: str = ""
    change_digest: str = ""
    waiting_since: datetime | None = None
    notes: tuple[str, ...] = ()
    tally: Tally = NOTHING
    planned: bool = False


def evolve(row: TaskRow, event: Event, facts: list[AnyFact | None]) -> TaskRow:
    """The row after one more event of its task, from any lane; an event that was read before changes nothing."""
    if event.producer != CONDUCTOR:
        return _heard(row, event, facts)
    if event.version <= row.conductor_version:
        return row
    at, standing = event.occurred_at.ToDatetime(tzinfo=UTC), row.standing
    for fact in facts:
        standing = stand(standing, fact)
        row = _decided(row, fact, at)
    return replace(row, standing=standing, conductor_version=event.version)


def _decided(row: TaskRow, fact: AnyFact | None, at: datetime) -> TaskRow:
    match fact:
        case TaskSubmitted():
            return replace(row, title=fact.title, project=fact.project, submitted_at=at)
        case TaskPlanned():
            return replace(row, planned=True)
        case HumanReviewRequested():
            return replace(row, change_digest=fact.change_digest, waiting_since=at, notes=tuple(fact.notes))
        case TaskCompleted() if fact.pull_request_url:
            return replace(row, pull_request_url=fact.pull_request_url)
        case _:
            return row


def _heard(row: TaskRow, event: Event, facts: list[AnyFact | None]) -> TaskRow:
    for fact in facts:
        match fact:
            case None:
                row = replace(row, standing=stand(row.standing, None))
            case TaskClassified() if event.version >= row.classifier_version:
                row = replace(row, task_type=fact.type, scope=fact.scope, classifier_version=event.version)
            case PullRequestOpened() if not row.pull_request_url:
                row = replace(row, pull_request_url=fact.url)
            case _:
                pass
    return row
