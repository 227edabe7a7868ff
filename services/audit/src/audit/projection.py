"""Folds a batch of the log into what changes in the ledger, its sums and its lists.

Pure. `touched` says what a batch may change, the store brings what it knows of that, `fold` says what it becomes.
Sums are changed by differences: what an entry amounts to now, minus what it amounted to before.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from eventlog import Recorded
from factory.budget.v1 import (
    BudgetExtended,
    BudgetReached,
    BudgetReleased,
    BudgetReserved,
    BudgetSet,
    BudgetSettled,
)
from factory.call.v1 import ModelCalled, ModelCallStarted
from factory.event.v1 import Event, Fact
from factory.model.v1 import ModelProbed, ModelRecovered, ModelsConfigured, ModelTripped
from factory.operations.v1 import DeadLettered
from factory.price.v1 import PricePublished
from factory.project.v1 import PreferencesSaved, ProjectCreated
from factory.task.v1 import TaskRefused, TaskSubmitted
from google.protobuf.unknown_fields import UnknownFieldSet
from policy.calls import Call, Place, Tally, learn
from policy.prices import Price, PriceBook, valid_from

from audit.ledger import Bucket, Entry, entry
from audit.task_row import NOTHING, TaskRow, evolve

# Facts that are about no task: they make no row in the task list.
NO_TASK = (
    ProjectCreated,
    PreferencesSaved,
    PricePublished,
    TaskRefused,
    DeadLettered,
    BudgetSet,
    BudgetReserved,
    BudgetSettled,
    BudgetReleased,
    BudgetExtended,
    BudgetReached,
    ModelsConfigured,
    ModelTripped,
    ModelProbed,
    ModelRecovered,
)
CALL_ARMS = ("model_call_started", "model_called")


class Gap(Exception):
    """The log is not contiguous: going on would make sums wrong without anybody knowing."""


@dataclass(frozen=True, slots=True)
class ProjectRow:
    """A project, and how many tasks it has had. `created` is unset while only its tasks are known."""

    project: str
    repository: str = ""
    base_branch: str = ""
    created: bool = False
    tasks: int = 0


@dataclass(frozen=True, slots=True)
class Repriced:
    """Calls of this model that began at `since` or later may cost something else now."""

    provider: str
    provider_model: str
    since: datetime


@dataclass(slots=True)
class Touched:
    """What a batch may change."""

    call_ids: set[str] = field(default_factory=set)
    task_ids: set[str] = field(default_factory=set)
    # Tasks that get a project or a type, so that all of their calls may move to other sums.
    relabelled: set[str] = field(default_factory=set)
    projects: set[str] = field(default_factory=set)
    repriced: list[Repriced] = field(default_factory=list)


@dataclass(slots=True)
class Known:
    """What the store knows of what a batch touches."""

    entries: dict[str, Entry] = field(default_factory=dict)
    tasks: dict[str, TaskRow] = field(default_factory=dict)
    projects: dict[str, ProjectRow] = field(default_factory=dict)
    prices: PriceBook = field(default_factory=PriceBook)


@dataclass(slots=True)
class Changes:
    """What a batch changes. `sums` are differences; everything else is as it is to be."""

    sequence: int
    event_id: str = ""
    entries: list[Entry] = field(default_factory=list)
    tasks: list[TaskRow] = field(default_factory=list)
    projects: list[ProjectRow] = field(default_factory=list)
    sums: dict[Bucket, Tally] = field(default_factory=dict)
    prices: list[Price] = field(default_factory=list)
    # Which models there are, by the version of their lane.
    models: dict[int, ModelsConfigured] = field(default_factory=dict)
    # Events without their calls, for reports.
    stories: list[Event] = field(default_factory=list)
    # Facts of unknown kind, by the number of their arm.
    skipped: Counter[int] = field(default_factory=Counter)


@dataclass(slots=True)
class Draft:
    """What is known, while a batch is read into it. `latest` is when each task was last heard of."""

    calls: dict[str, Call]
    tasks: dict[str, TaskRow]
    projects: dict[str, ProjectRow]
    latest: dict[str, datetime] = field(default_factory=dict)

    def heard(self, task_id: str, at: datetime) -> None:
        task = self.tasks.get(task_id)
        if task is None:
            task = self.tasks[task_id] = TaskRow(task_id)
        self.latest[task_id] = max(at, self.latest.get(task_id) or task.changed_at or at)


def check_contiguous(batch: Sequence[Recorded], after: int) -> None:
    """Raises Gap unless the batch follows `after` without a hole."""
    for expected, recorded in enumerate(batch, after + 1):
        if recorded.sequence != expected:
            raise Gap(
                f"expected sequence {expected} of EVENTS, found {recorded.sequence}: the log has lost or gained events"
            )


def touched(batch: Iterable[Recorded]) -> Touched:
    """What these events may change."""
    found = Touched()
    for recorded in batch:
        found.task_ids.add(recorded.event.id)
        for fact in recorded.event.facts:
            match fact.WhichOneof("fact"):
                case "model_call_started":
                    found.call_ids.add(fact.model_call_started.call_id)
                case "model_called":
                    found.call_ids.add(fact.model_called.call_id)
                case "task_submitted":
                    found.relabelled.add(recorded.event.id)
                    found.projects.add(fact.task_submitted.project)
                case "task_classified":
                    found.relabelled.add(recorded.event.id)
                case "project_created":
                    found.projects.add(fact.project_created.project)
                case "price_published":
                    price = fact.price_published
                    found.repriced.append(Repriced(price.provider, price.provider_model, valid_from(price)))
                case _:
                    pass
    return found


def fold(batch: Sequence[Recorded], known: Known) -> Changes:
    """What becomes of what is known, once these events are read."""
    changes = Changes(batch[-1].sequence, batch[-1].event.event_id)
    draft = Draft({i: e.call for i, e in known.entries.items()}, dict(known.tasks), dict(known.projects))
    for recorded in batch:
        _read(recorded, changes, draft)
    prices = PriceBook([*known.prices, *changes.prices]) if changes.prices else known.prices
    _settle(changes, known, draft, prices)
    changes.tasks = [row for task_id, row in draft.tasks.items() if row != known.tasks.get(task_id)]
    changes.projects = [row for name, row in draft.projects.items() if row != known.projects.get(name)]
    return changes


def _read(recorded: Recorded, changes: Changes, draft: Draft) -> None:
    """Takes one event into calls, tasks, projects and prices."""
    event, facts = recorded.event, recorded.facts
    at = event.occurred_at.ToDatetime(tzinfo=UTC)
    only_calls = bool(facts)
    for position, fact in enumerate(facts):
        match fact:
            case ModelCallStarted() | ModelCalled():
                call = draft.calls.get(fact.call_id) or Call(fact.call_id, event.id)
                draft.calls[fact.call_id] = learn(call, fact, at, Place(event.version, position, event.producer))
                continue
            case None:
                changes.skipped[arm_number(event.facts[position])] += 1
            case PricePublished():
                changes.prices.append(Price(fact, at))
            case ModelsConfigured():
                changes.models[event.version] = fact
            case ProjectCreated():
                _create(draft.projects, fact)
            case TaskSubmitted():
                _count(draft.projects, draft.tasks.get(event.id), fact)
            case _:
                pass
        only_calls = False
    if all(isinstance(fact, NO_TASK) for fact in facts):
        return
    draft.heard(event.id, at)
    if not only_calls:
        draft.tasks[event.id] = evolve(draft.tasks[event.id], event, facts)
        changes.stories.append(_without_calls(event))


def _settle(changes: Changes, known: Known, draft: Draft, prices: PriceBook) -> None:
    """Makes the entries anew, and moves the differences to the sums of old and new bucket and of the task."""
    gains: dict[str, Tally] = {}
    for call_id, call in draft.calls.items():
        task = draft.tasks[call.task_id]
        now, before = entry(call, prices, task.project, task.task_type), known.entries.get(call_id)
        if now == before:
            continue
        changes.entries.append(now)
        gain = now.reckoning.tally
        _add(changes.sums, now.bucket, gain)
        if before is not None:
            loss = -before.reckoning.tally
            _add(changes.sums, before.bucket, loss)
            gain += loss
        gains[call.task_id] = gains[call.task_id] + gain if call.task_id in gains else gain
    for task_id in gains.keys() | draft.latest.keys():
        task = draft.tasks[task_id]
        latest = draft.latest.get(task_id, task.changed_at)
        draft.tasks[task_id] = replace(task, tally=task.tally + gains.get(task_id, NOTHING), changed_at=latest)


def _add(sums: dict[Bucket, Tally], bucket: Bucket, tally: Tally) -> None:
    sums[bucket] = sums[bucket] + tally if bucket in sums else tally


def _create(projects: dict[str, ProjectRow], fact: ProjectCreated) -> None:
    row = projects.get(fact.project) or ProjectRow(fact.project)
    if not row.created:
        row = replace(row, repository=fact.repository, base_branch=fact.base_branch, created=True)
    projects[fact.project] = row


def _count(projects: dict[str, ProjectRow], task: TaskRow | None, fact: TaskSubmitted) -> None:
    if task is None or task.submitted_at is None:
        row = projects.get(fact.project) or ProjectRow(fact.project)
        projects[fact.project] = replace(row, tasks=row.tasks + 1)


def _without_calls(event: Event) -> Event:
    """The event without its calls, which have rows of their own."""
    kept = [fact for fact in event.facts if fact.WhichOneof("fact") not in CALL_ARMS]
    if len(kept) == len(event.facts):
        return event
    return Event(id=event.id, version=event.version, occurred_at=event.occurred_at, producer=event.producer, facts=kept)


def arm_number(fact: Fact) -> int:
    """The number of the arm that a fact of unknown kind travels in; 0 for an empty one."""
    unknown = UnknownFieldSet(fact)
    return unknown[0].field_number if len(unknown) else 0
