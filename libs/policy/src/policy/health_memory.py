"""What model health remembers of tasks: which requests are open, which have ended how, and who wrote what.

Pure, and bounded: what is forgotten is not counted, and nothing is counted twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from factory.phase.v1 import PHASE_FAILURE_STOPPED
from factory.task.v1 import (
    PHASE_KIND_CLASSIFY,
    PHASE_KIND_REVIEW,
    PHASE_KIND_UNSPECIFIED,
    TASK_TYPE_UNSPECIFIED,
    PhaseKind,
    TaskType,
)

Value = TypeVar("Value")

TASKS_MAX = 10_000
REQUESTS_MAX = 50_000
REQUESTS_PER_TASK_MAX = 64
AUTHORS_PER_TASK_MAX = 16
# Tasks that have ended, of which a late or repeated fact may still come.
ENDED_TASKS_MAX = 10_000
# Calls that are under way, and calls that have ended, of which an end may come twice.
CALLS_MAX = 10_000

# How a request ends, beside every `PhaseFailure`: these are no number of one.
OPEN = -1
COMPLETED = -2
NOT_AUTHORS = frozenset({PHASE_KIND_REVIEW, PHASE_KIND_CLASSIFY, PHASE_KIND_UNSPECIFIED})


@dataclass(slots=True)
class Request:
    """One request to a model, or to the gate about a model's change."""

    task_id: str
    request_id: str
    # who is asked; "" is the gate
    model: str
    # where it stands in the log
    sequence: int
    type: TaskType = TASK_TYPE_UNSPECIFIED
    phase: PhaseKind = PHASE_KIND_UNSPECIFIED
    # whose change is judged
    author: str = ""
    call_id: str = ""
    end: int = OPEN

    @property
    def is_authoring(self) -> bool:
        return self.phase not in NOT_AUTHORS

    @property
    def name(self) -> str:
        return f"{self.task_id}.{self.request_id}"


@dataclass(slots=True)
class Change:
    """What one model wrote for one task."""

    # of its newest request to write
    asked: int
    approved: bool = False
    # whether it passed at the first try is known
    settled: bool = False


@dataclass(slots=True)
class TaskMemory:
    requests: dict[str, Request] = field(default_factory=dict)
    changes: dict[str, Change] = field(default_factory=dict)


class Memory:
    """The tasks that go on, and the names of those that have ended."""

    def __init__(self) -> None:
        self.tasks: dict[str, TaskMemory] = {}
        self._ended: dict[str, None] = {}
        self._requests = 0

    def ask(self, request: Request) -> tuple[bool, list[Request]]:
        """Remembers a request; whether it is a new one, and those open ones that had to be forgotten for it."""
        if request.task_id in self._ended:
            return False, []
        forgotten = self._room_for(request.task_id)
        task = self.tasks.setdefault(request.task_id, TaskMemory())
        if request.request_id in task.requests or len(task.requests) >= REQUESTS_PER_TASK_MAX:
            return False, forgotten
        self._requests += 1
        task.requests[request.request_id] = request
        if request.is_authoring and (request.model in task.changes or len(task.changes) < AUTHORS_PER_TASK_MAX):
            task.changes.setdefault(request.model, Change(0)).asked = request.sequence
        return True, forgotten

    def known(self, task_id: str, request_id: str) -> Request | None:
        task = self.tasks.get(task_id)
        return task.requests.get(request_id) if task else None

    def has_ended(self, task_id: str) -> bool:
        """Whether this task is known to have ended."""
        return task_id in self._ended

    def end(self, task_id: str, request_id: str, end: int) -> Request | None:
        """The open request that this ends; None for one that was never seen or has ended before."""
        request = self.known(task_id, request_id)
        if request is None or request.end != OPEN:
            return None
        request.end = end
        return request

    def change(self, judge: Request) -> Change:
        """What the author of the judged change wrote for this task."""
        task = self.tasks.get(judge.task_id)
        if task is None or (judge.author not in task.changes and len(task.changes) >= AUTHORS_PER_TASK_MAX):
            return Change(0, settled=True)
        return task.changes.setdefault(judge.author, Change(0))

    def passed(self, gate: Request) -> list[str]:
        """The gate let the task's change pass: the authors for whom this was the first try, each told once."""
        task = self.tasks.get(gate.task_id)
        first = {name: one for name, one in task.changes.items() if one.approved and not one.settled} if task else {}
        for change in first.values():
            change.settled = True
        return list(first)

    def end_task(self, task_id: str) -> list[Request]:
        """Forgets a task that has ended; returns the requests that it leaves without an answer."""
        remember(self._ended, task_id, None, ENDED_TASKS_MAX)
        return self._forget(task_id)

    def _room_for(self, task_id: str) -> list[Request]:
        """Forgets the oldest tasks where there are too many; returns the requests that they leave open."""
        forgotten: list[Request] = []
        while self._requests >= REQUESTS_MAX or (len(self.tasks) >= TASKS_MAX and task_id not in self.tasks):
            forgotten += self._forget(next(iter(self.tasks)))
        return forgotten

    def _forget(self, task_id: str) -> list[Request]:
        task = self.tasks.pop(task_id, None)
        if task is None:
            return []
        self._requests -= len(task.requests)
        left = list(still_open(task))
        for request in left:
            request.end = PHASE_FAILURE_STOPPED
        return left


def still_open(task: TaskMemory) -> Iterator[Request]:
    return (request for request in task.requests.values() if request.end == OPEN)


def remember(known: dict[str, Value], key: str, value: Value, most: int) -> None:
    """Adds to a memory that forgets its oldest."""
    if key not in known and len(known) >= most:
        del known[next(iter(known))]
    known[key] = value
