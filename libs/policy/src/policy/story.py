"""What a task's facts tell besides its calls: what was asked of whom, what failed, what was done again, how it ended.

Pure. Each lane is read in its own order, so the order in which lanes are mixed makes no difference.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from factory.classification.v1 import TaskClassified
from factory.event.v1 import AnyFact, Event
from factory.phase.v1 import (
    PhaseCompleted,
    PhaseFailed,
    PhaseRequested,
    PhaseRerouted,
    PhaseSkipped,
    ReworkRequested,
)
from factory.review.v1 import TaskRejected
from factory.task.v1 import (
    SCOPE_UNSPECIFIED,
    TASK_TYPE_UNSPECIFIED,
    RequestExpired,
    RoutingOverridden,
    Scope,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskHeld,
    TaskPlanned,
    TaskReleased,
    TaskSubmitted,
    TaskType,
)

from policy.standing import CONDUCTOR, Standing, evolve

BEGINNING = Standing()

Ending = TaskCompleted | TaskFailed | TaskCancelled | TaskRejected


@dataclass(frozen=True, slots=True)
class Story:
    """One task, as its report tells it."""

    task_id: str = ""
    title: str = ""
    task_type: TaskType = TASK_TYPE_UNSPECIFIED
    scope: Scope = SCOPE_UNSPECIFIED
    standing: Standing = BEGINNING
    submitted_at: datetime | None = None
    ended_at: datetime | None = None
    # How it ended; None while it goes on.
    ending: Ending | None = None
    plan: TaskPlanned | None = None
    # In the order in which the conductor asked, with the time.
    requests: tuple[tuple[PhaseRequested, datetime], ...] = ()
    # The first failure that was told of each request.
    failures: tuple[PhaseFailed, ...] = ()
    # Requests that were answered with a result.
    completed: tuple[str, ...] = ()
    # Requests that were not answered by their deadline.
    expired: tuple[str, ...] = ()
    overrides: tuple[RoutingOverridden, ...] = ()
    reroutes: tuple[PhaseRerouted, ...] = ()
    reworks: tuple[ReworkRequested, ...] = ()
    skips: tuple[PhaseSkipped, ...] = ()
    # Each hold, with what released it.
    holds: tuple[tuple[TaskHeld, TaskReleased | None], ...] = ()


def story_of(events: Iterable[Event]) -> Story:
    """The story that these events tell, in whatever order and however often they come."""
    story = Story()
    told = {(event.producer, event.version): event for event in events}
    for _, event in sorted(told.items(), key=lambda item: item[0]):
        at = event.occurred_at.ToDatetime(tzinfo=UTC)
        for fact in event.facts:
            arm = fact.WhichOneof("fact")
            told_fact: AnyFact | None = getattr(fact, arm) if arm else None
            if told_fact is None or event.producer == CONDUCTOR:
                story = replace(story, standing=evolve(story.standing, told_fact))
            if told_fact is not None:
                story = _with(story, told_fact, event.id, at)
    return story


def _with(story: Story, fact: AnyFact, task_id: str, at: datetime) -> Story:
    match fact:
        case TaskSubmitted():
            return replace(story, task_id=task_id, title=fact.title, submitted_at=at)
        case TaskClassified():
            return replace(story, task_type=fact.type, scope=fact.scope)
        case TaskPlanned():
            return replace(story, plan=fact)
        case PhaseRequested():
            return replace(story, requests=(*story.requests, (fact, at)))
        case PhaseFailed() if all(known.request_id != fact.request_id for known in story.failures):
            return replace(story, failures=(*story.failures, fact))
        case PhaseCompleted():
            return replace(story, completed=(*story.completed, fact.request_id))
        case RequestExpired():
            return replace(story, expired=(*story.expired, fact.request_id))
        case RoutingOverridden():
            return replace(story, overrides=(*story.overrides, fact))
        case PhaseRerouted():
            return replace(story, reroutes=(*story.reroutes, fact))
        case ReworkRequested():
            return replace(story, reworks=(*story.reworks, fact))
        case PhaseSkipped():
            return replace(story, skips=(*story.skips, fact))
        case TaskHeld():
            return replace(story, holds=(*story.holds, (fact, None)))
        case TaskReleased() if story.holds and story.holds[-1][1] is None:
            return replace(story, holds=(*story.holds[:-1], (story.holds[-1][0], fact)))
        case TaskCompleted() | TaskFailed() | TaskCancelled() | TaskRejected() if story.ending is None:
            return replace(story, ended_at=at, ending=fact)
        case _:
            return story
