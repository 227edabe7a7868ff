"""One month's lane at the edge: everything that waits for it goes out in one event, behind the tip it was decided on.

Any number of conductors may write to it. Who is too late reads what is newer and decides again, so admissions never
exceed what was there, and sixty-four of them at once are a few appends.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from eventlog import Conflict, EventLog, Past, Recorded, Tip
from prometheus_client import Counter

from conductor.budget import Answer, Command, decide
from conductor.budget_month import Carried, Month, Orders

log = structlog.get_logger()

# Commands in one event. A fact is at most about 0.7 KB, mostly 0.2 KB; the log takes 256 KB.
FACTS_PER_EVENT_MAX = 128
WAITING_MAX = 20_000
ATTEMPTS_MAX = 40
PAUSE_S = 0.002
PAUSE_MAX_S = 0.05

APPENDS = Counter("factory_budget_appends", "Appends to lanes of budgets by how they ended", ["outcome"])
DEARER = Counter("factory_budget_dearer", "Requests that cost more than was reserved for them; there should be none")


class Overloaded(Exception):
    """More commands wait for a lane than it can take; ask again later."""


@dataclass(slots=True)
class Waiting:
    command: Command
    answer: asyncio.Future[Answer]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a lane needs of the outside: asked for when it decides, not before."""

    orders: Callable[[], Orders]
    carried: Callable[[Orders], Awaitable[Carried]]
    # sets the timer over open reservations; answers when it fires
    arm: Callable[[], Awaitable[datetime]]
    now: Callable[[], datetime]


@dataclass(slots=True)
class Lane:
    """A lane as this conductor knows it, and the commands that wait for it."""

    events: EventLog
    month: Month
    around: Surroundings
    tip: Tip = field(default_factory=Tip)
    # Whether it was read from its beginning, and nothing is known to be missing.
    known: bool = False
    # Somebody else wrote to it since our last append: let them have a turn.
    shared: bool = False
    waiting: deque[Waiting] = field(default_factory=deque)
    committing: asyncio.Task[None] | None = None
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    def observe(self, recorded: Recorded) -> bool:
        """Takes in an event of this lane once, and in order; False for one that came before, or too early."""
        version = recorded.event.version
        if version <= self.tip.version:
            return False
        if version > self.tip.version + 1:
            self.known = False
            return False
        self.month.evolve(recorded.facts, recorded.event.read_to)
        self.tip = recorded.tip
        self.known = self.known or version == 1
        return True

    async def catch_up(self) -> None:
        """Reads what is newer than what is known, up to what the log's leader has now."""
        id = self.month.lane
        async with self.reading:
            last = await self.events.last_own(id)
            if last > self.tip.sequence:
                newer = await self.events.read(id, at_least=last, known=Past((), self.tip.sequence))
                for recorded in newer.lane(self.events.service):
                    self.observe(recorded)
            self.known = True

    def ask(self, command: Command) -> asyncio.Future[Answer]:
        """Puts a command to those that wait; they go out together, as soon as the append before them is done."""
        if len(self.waiting) >= WAITING_MAX:
            raise Overloaded(f"{len(self.waiting)} commands wait for {self.month.lane!r}; it takes {WAITING_MAX}")
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.waiting.append(Waiting(command, answer))
        if self.committing is None:
            self.committing = asyncio.create_task(self._commit_all(), name=f"budget.{self.month.lane}")
        return answer

    async def _commit_all(self) -> None:
        try:
            while self.waiting:
                batch = [self.waiting.popleft() for _ in range(min(len(self.waiting), FACTS_PER_EVENT_MAX))]
                await self._commit(batch)
                if self.shared:
                    self.shared = False
                    await asyncio.sleep(random.uniform(PAUSE_S, 2 * PAUSE_S))  # noqa: S311 - a pause is no secret
        finally:
            self.committing = None

    async def _commit(self, batch: list[Waiting]) -> None:
        """Answers every one of them, with its answer or with what went wrong."""
        try:
            answers = await self._append([one.command for one in batch])
        except Exception as error:
            for one in batch:
                if not one.answer.done():
                    one.answer.set_exception(error)
            return
        except asyncio.CancelledError:
            for one in (*batch, *self.waiting):
                one.answer.cancel()
            self.waiting.clear()
            raise
        for one, answer in zip(batch, answers, strict=True):
            if not one.answer.done():  # its asker may have gone away: the lease will tell
                one.answer.set_result(answer)

    async def _append(self, commands: list[Command]) -> tuple[Answer, ...]:
        for attempt in range(ATTEMPTS_MAX):
            if not self.known:
                await self.catch_up()
            orders = self.around.orders()
            begins = not self.month.began and orders.of(self.month.month)
            carried = await self.around.carried(orders) if begins else Carried()
            tip = self.tip
            decision = decide(self.month, commands, orders, carried)
            if not decision.facts:
                return decision.answers
            # Before the append: whoever dies in between leaves a timer too many, never a reservation without one.
            fires_at = await self.around.arm() if decision.wants_timer else None
            try:
                stored = await self.events.append(self.month.lane, decision.facts, after=tip, read_to=orders.read_to)
            except Conflict:
                APPENDS.labels("conflict").inc()
                self.shared = True
                await self.catch_up()
                longest_s = min(PAUSE_S * (attempt + 1), PAUSE_MAX_S)
                await asyncio.sleep(random.uniform(0, longest_s))  # noqa: S311 - a pause is no secret
                continue
            except Exception:
                self.known = False  # it may have been stored: nothing is answered from memory until the log was asked
                raise
            APPENDS.labels("stored").inc()
            self.observe(stored)
            if fires_at and self.around.now() >= fires_at:
                await self.around.arm()  # the append took so long that the timer may have fired on nothing
            if decision.dearer:
                DEARER.inc(decision.dearer)
                log.error("budget.dearer_than_reserved", lane=self.month.lane, requests=decision.dearer)
            return decision.answers
        raise Conflict(f"{self.month.lane!r} changed {ATTEMPTS_MAX} times while it was being decided about")
