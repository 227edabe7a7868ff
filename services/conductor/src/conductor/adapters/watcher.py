"""Reads the whole log in its order, for everything that a conductor has to know besides the task at hand.

Each conductor has one: a shared consumer shows each only a part. It changes nothing; what is to be said about what it
has seen (a model has tripped, a task may go on) is carried out beside it, so that reading never waits.
"""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import structlog
from eventlog import TROUBLES_THAT_PASS, Conflict, EventLog, Recorded, Tip
from factory.model.v1 import ModelRecovered, ModelTripped

from conductor.adapters.budgets import Budgets
from conductor.adapters.progress import Progress
from conductor.adapters.tasks import Tasks
from conductor.book import Book
from conductor.roster import Place

log = structlog.get_logger()

# How many tasks that wait for money are tried at once when some has come free: so many of those that have waited
# longest, and as many of those behind them in turn, for what is too little for the first may be enough for another.
TRIED_FOR_MONEY_MAX = 8


class Watcher:
    """Follows the log, and reacts to what concerns more than one task."""

    def __init__(self, events: EventLog, book: Book, tasks: Tasks, budgets: Budgets, progress: Progress) -> None:
        self._events = events
        self._book = book
        self._tasks = tasks
        self._budgets = budgets
        self._progress = progress
        # what lies before this was over when we came: it is only read
        self._history_to = 0
        self._reacting: dict[str, asyncio.Task[None]] = {}
        # how many of a project's tasks behind the oldest were tried already since money has come free
        self._tried: dict[str, int] = {}

    async def run(self, history_to: int) -> None:
        """Follows the log for ever; up to `history_to` nothing is reacted to."""
        self._history_to = history_to
        async for batch in self._events.follow(after=self._book.read_to):
            for recorded in batch:
                self._take(recorded)
            if batch:
                self._progress.move(batch[-1].sequence)
            if self._book.read_to >= self._history_to:
                self._react()

    def _take(self, recorded: Recorded) -> None:
        self._book.observe(recorded)
        self._tasks.observe(recorded)
        self._budgets.observe(recorded)

    def _react(self) -> None:
        for fact in self._book.health.due():
            self._beside(f"{fact.model} {fact.type}", lambda fact=fact: self._say(fact))
        for project in [*self._book.ordered]:
            if self._beside(f"{project} orders", lambda project=project: self._adopt(project)):
                self._book.ordered.discard(project)
        for project in [*self._book.freed]:
            if self._beside(project, lambda project=project: self._wake(project)):
                self._book.freed.discard(project)

    def _beside(self, what: str, work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Does something beside the reading, unless it is being done already."""
        if what in self._reacting:
            return False
        task = asyncio.get_running_loop().create_task(work())
        self._reacting[what] = task
        task.add_done_callback(lambda _: self._reacting.pop(what, None))
        return True

    async def _say(self, fact: ModelTripped | ModelRecovered) -> None:
        """Says what has become of a model's health; another conductor may have been faster, and has said the same."""
        id = f"model-{fact.model}"
        try:
            stored = await self._events.append(
                id,
                [fact],
                after=self._book.tips.get(id, Tip()),
                read_to=self._book.read_to,
                at=datetime.now(UTC),
            )
            log.info("model.judged", model=fact.model, said=fact.DESCRIPTOR.name, sequence=stored.sequence)
            await self._progress.reach(stored.sequence)
        except Conflict:
            await self._progress.reach(await self._events.last_own(id))
        except TROUBLES_THAT_PASS as error:
            log.warning("model.not_judged", model=fact.model, error=repr(error))

    async def _adopt(self, project: str) -> None:
        """Takes a standing budget over into this month: so does every conductor, for the one that set it may die."""
        try:
            await self._budgets.adopt(project)
        except TROUBLES_THAT_PASS as error:
            log.warning("budget.not_adopted", project=project, error=repr(error))

    async def _wake(self, project: str) -> None:
        """Lets tasks of a project go on that waited for room or for money: as many as may, the oldest first."""
        roster = self._book.roster
        room = self._tasks.open_tasks_max(project) - roster.open_tasks(project)
        waiting = [*roster.waiting(project, Place.FOR_ROOM, room), *self._next_for_money(project)]
        for task_id in waiting:
            try:
                await self._tasks.advance(task_id, at_least=roster.last_seen(task_id), cause=None)
            except Exception as error:
                # One that cannot be decided about must not keep those behind it waiting.
                log.warning("task.not_woken", task=task_id, error=repr(error))
                if isinstance(error, TROUBLES_THAT_PASS):
                    self._book.freed.add(project)  # nobody else may ever say that there is room
        if self._tried.get(project):
            self._book.freed.add(project)

    def _next_for_money(self, project: str) -> list[str]:
        """The tasks whose turn it is to be tried, until all that wait have been."""
        queue = self._book.roster.waiting(project, Place.FOR_MONEY, self._book.roster.count(project, Place.FOR_MONEY))
        oldest, others = queue[:TRIED_FOR_MONEY_MAX], queue[TRIED_FOR_MONEY_MAX:]
        tried = self._tried.pop(project, 0)
        upto = tried + TRIED_FOR_MONEY_MAX
        if upto < len(others):
            self._tried[project] = upto
        return [*oldest, *others[tried:upto]]
