"""Tasks as this conductor knows them: folded once, then carried on with whatever is newer in the log.

Several conductors may decide about one task at once; optimistic concurrency lets one of them win, and the others fold
again. Deciding twice is harmless.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from weakref import WeakValueDictionary

from eventlog import Conflict, EventLog, Past
from factory.event.v1 import AnyFact, Event
from policy.models import Model
from policy.prices import PriceBook

from conductor.next_step import World, decide, spent
from conductor.task import NEW, Task, evolve

TASKS_KEPT_MAX = 1_000
ATTEMPTS_MAX = 8


@dataclass(frozen=True, slots=True)
class Known:
    """A task, and the log from which it was folded."""

    past: Past
    task: Task


class Tasks:
    """Reads, folds and decides."""

    def __init__(self, log: EventLog, models: Mapping[str, Model], ruled_out: Mapping[str, str]) -> None:
        self._log = log
        self._kept: OrderedDict[str, Known] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.models = models
        self.ruled_out = ruled_out
        self.prices = PriceBook(())

    def world(self, past: Past) -> World:
        return World(self.models, self.ruled_out, self.prices, datetime.now(UTC), spent(past, self.prices))

    async def known(self, task_id: str, *, at_least: int = 0) -> Known:
        """The task as the log has it, including the event at `at_least`."""
        before = self._kept.get(task_id, Known(Past(), NEW))
        past = await self._log.read(task_id, at_least=at_least, known=before.past)
        newer = past.events[len(before.past.events) :]
        known = Known(past, reduce(evolve, newer, before.task))
        self._keep(task_id, known)
        return known

    async def fresh(self, task_id: str) -> Known:
        """The task with everything that any conductor has decided: commands must not be judged by a stale replica."""
        return await self.known(task_id, at_least=await self._log.last_own(task_id))

    async def advance(self, task_id: str, *, at_least: int, cause: Event) -> Known:
        """Decides what follows for a task, if anything does."""

        def follow(known: Known) -> Sequence[AnyFact]:
            return decide(known.task, self.world(known.past))

        return await self._decide(task_id, follow, at_least=at_least, cause=cause)

    async def command(self, task_id: str, judge: Callable[[Known], Sequence[AnyFact]]) -> Known:
        """Judges a command against the newest state and appends what it gives; `judge` may refuse by raising."""
        return await self._decide(task_id, judge, at_least=await self._log.last_own(task_id), cause=None)

    async def _decide(
        self, task_id: str, judge: Callable[[Known], Sequence[AnyFact]], *, at_least: int, cause: Event | None
    ) -> Known:
        lock = self._locks.setdefault(task_id, asyncio.Lock())
        async with lock:
            for _ in range(ATTEMPTS_MAX):
                known = await self.known(task_id, at_least=at_least)
                facts = judge(known)
                if not facts:
                    return known
                try:
                    stored = await self._log.append(
                        task_id,
                        facts,
                        after=known.past.tip(self._log.service),
                        cause=cause or (known.past.events[-1].event if known.past.events else None),
                        read_to=known.past.read_to,
                    )
                except Conflict:
                    at_least = max(at_least, await self._log.last_own(task_id))
                    continue
                return await self.known(task_id, at_least=stored.sequence)
        raise Conflict(f"{task_id!r} changed {ATTEMPTS_MAX} times while it was being decided about")

    def _keep(self, task_id: str, known: Known) -> None:
        self._kept[task_id] = known
        self._kept.move_to_end(task_id)
        while len(self._kept) > TASKS_KEPT_MAX:
            self._kept.popitem(last=False)
