"""Which tasks are open in each project, and which wait for room or for money, in the order in which they came.

Pure, and changed in place: it is fed every event of the conductor's lanes once, in the order of the log.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import islice

from factory.event.v1 import AnyFact
from factory.review.v1 import ChangesRequested, HumanReviewRequested, TaskApproved, TaskRejected
from factory.task.v1 import (
    HOLD_CAUSE_BUDGET,
    HOLD_CAUSE_CAPACITY,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskHeld,
    TaskReleased,
    TaskSubmitted,
)

# A project without preferences of its own may have so many open tasks: enough to keep every model busy, few enough to
# leave the others their turn.
OPEN_TASKS_DEFAULT = 100


class Place(Enum):
    """Where a task is, as far as others have to wait for it."""

    OPEN = "open"
    # held by somebody's trouble, or waiting for an architect: it takes nobody's place
    RESTING = "resting"
    FOR_ROOM = "waits for room"
    FOR_MONEY = "waits for money"


@dataclass(frozen=True, slots=True)
class Entry:
    project: str
    place: Place
    # stream sequence of the last event of any lane about it
    seen: int = 0


@dataclass(slots=True)
class Roster:
    """Every task that has not ended."""

    entries: dict[str, Entry] = field(default_factory=dict)
    _open: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    _queues: dict[tuple[str, Place], OrderedDict[str, None]] = field(default_factory=dict)

    def observe(self, task_id: str, facts: Iterable[AnyFact | None], sequence: int) -> str:
        """Takes one event of the conductor about a task in; the project in which room may have come free, or ""."""
        freed = ""
        for fact in facts:
            entry = self.entries.get(task_id)
            match fact:
                case TaskSubmitted() if entry is None:
                    self._enter(task_id, Entry(fact.project, Place.OPEN, sequence))
                case TaskHeld() if entry is not None:
                    freed = self._move(task_id, entry, _place_of(fact)) or freed
                case HumanReviewRequested() if entry is not None:
                    freed = self._move(task_id, entry, Place.RESTING) or freed
                case TaskReleased() | ChangesRequested() | TaskApproved() if entry is not None:
                    self._move(task_id, entry, Place.OPEN)
                case TaskCompleted() | TaskFailed() | TaskCancelled() | TaskRejected() if entry is not None:
                    self._leave(task_id, entry)
                    freed = entry.project
                case _:
                    continue
        return freed

    def seen(self, task_id: str, sequence: int) -> None:
        """Notes that a task was heard of; only of tasks that have not ended."""
        if (entry := self.entries.get(task_id)) is not None:
            self.entries[task_id] = replace(entry, seen=sequence)

    def last_seen(self, task_id: str) -> int:
        entry = self.entries.get(task_id)
        return entry.seen if entry else 0

    def open_tasks(self, project: str) -> int:
        return self._open[project]

    def waiting(self, project: str, place: Place, limit: int) -> list[str]:
        """The tasks that have waited longest."""
        return list(islice(self._queues.get((project, place), ()), max(limit, 0)))

    def count(self, project: str, place: Place) -> int:
        return len(self._queues.get((project, place), ()))

    def has_room(self, task_id: str, project: str, most: int) -> bool:
        """Whether a task may be one of the `most` open ones now; those that have waited longer go first."""
        entry = self.entries.get(task_id)
        counted = entry is not None and entry.place is Place.OPEN
        room = most - self._open[project] + counted
        if entry is not None and entry.place is Place.FOR_ROOM:
            return task_id in self.waiting(project, Place.FOR_ROOM, room)
        return self.count(project, Place.FOR_ROOM) < room

    def _enter(self, task_id: str, entry: Entry) -> None:
        self.entries[task_id] = entry
        if entry.place is Place.OPEN:
            self._open[entry.project] += 1
        elif entry.place is not Place.RESTING:
            self._queues.setdefault((entry.project, entry.place), OrderedDict())[task_id] = None

    def _leave(self, task_id: str, entry: Entry) -> None:
        del self.entries[task_id]
        if entry.place is Place.OPEN:
            self._open[entry.project] -= 1
        elif entry.place is not Place.RESTING:
            self._queues[entry.project, entry.place].pop(task_id, None)

    def _move(self, task_id: str, entry: Entry, place: Place) -> str:
        """Moves a task; the project, where that leaves room for another."""
        if entry.place is place:
            return ""
        self._leave(task_id, entry)
        self._enter(task_id, replace(entry, place=place))
        return entry.project if entry.place is Place.OPEN else ""


def _place_of(fact: TaskHeld) -> Place:
    match fact.cause:
        case cause if cause == HOLD_CAUSE_CAPACITY:
            return Place.FOR_ROOM
        case cause if cause == HOLD_CAUSE_BUDGET:
            return Place.FOR_MONEY
        case _:
            return Place.RESTING
