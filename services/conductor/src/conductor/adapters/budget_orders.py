"""A project's standing limits, as its own lane has them: read once, then carried on with whatever is newer."""

import asyncio
import random
from dataclasses import dataclass, field
from datetime import UTC

from eventlog import Conflict, EventLog, Past, Recorded, Tip
from factory.budget.v1 import BudgetSet
from factory.project.v1 import SetBudgetRequest

from conductor.budget_month import NO_ORDERS, Orders
from conductor.budget_room import WHOLE, month_of

ATTEMPTS_MAX = 20
PAUSE_S = 0.01
# All of them are copied into one event when a month begins.
BUDGETS_PER_PROJECT_MAX = 32
PROJECT_PREFIX = "project-"


class TooManyBudgets(ValueError):
    """A project has as many budgets as it may."""


@dataclass(slots=True)
class Project:
    """The budgets' part of a project's lane; others write to it too."""

    events: EventLog
    name: str
    orders: Orders = NO_ORDERS
    tip: Tip = field(default_factory=Tip)
    known: bool = False
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def lane(self) -> str:
        return f"{PROJECT_PREFIX}{self.name}"

    def observe(self, recorded: Recorded) -> None:
        """Takes in an event of this lane once, and in order."""
        version = recorded.event.version
        if version <= self.tip.version:
            return
        if version > self.tip.version + 1:
            self.known = False
            return
        since = month_of(recorded.event.occurred_at.ToDatetime(tzinfo=UTC))
        for fact in recorded.facts:
            if isinstance(fact, BudgetSet):
                self.orders = self.orders.after(fact, since, recorded.sequence)
        self.tip = recorded.tip
        self.known = self.known or version == 1

    async def catch_up(self) -> None:
        """Reads what is newer than what is known, up to what the log's leader has now."""
        async with self.reading:
            last = await self.events.last_own(self.lane)
            if last > self.tip.sequence:
                newer = await self.events.read(self.lane, at_least=last, known=Past((), self.tip.sequence))
                for recorded in newer.lane(self.events.service):
                    self.observe(recorded)
            self.known = True

    async def set(self, request: SetBudgetRequest, who: str) -> None:
        """Makes these limits the standing ones; nothing is said where they stand already."""
        for _ in range(ATTEMPTS_MAX):
            await self.catch_up()
            fact = _order(request, who)
            if self._stands(fact):
                return
            if fact.model not in self.orders.by_model and len(self.orders.by_model) >= BUDGETS_PER_PROJECT_MAX:
                raise TooManyBudgets(
                    f"project {self.name!r} has {len(self.orders.by_model)} budgets, one more was asked for "
                    f"({fact.model!r}); it may have {BUDGETS_PER_PROJECT_MAX}"
                )
            try:
                stored = await self.events.append(self.lane, [fact], after=self.tip, read_to=self.tip.sequence)
            except Conflict:
                await asyncio.sleep(random.uniform(0, PAUSE_S))  # noqa: S311 - a pause is no secret
                continue
            except Exception:
                self.known = False  # it may have been stored: nothing is answered from memory until the log was asked
                raise
            self.observe(stored)
            return
        raise Conflict(f"{self.lane!r} changed {ATTEMPTS_MAX} times while a budget was being set")

    def _stands(self, fact: BudgetSet) -> bool:
        new = NO_ORDERS.after(fact, "", 0).by_model[fact.model]
        old = self.orders.by_model.get(fact.model)
        if old is None:
            return new.hard is None and new.soft is None
        return (old.hard, old.soft) == (new.hard, new.soft)


def _order(request: SetBudgetRequest, who: str) -> BudgetSet:
    return BudgetSet(
        project=request.project,
        model=request.model or WHOLE,
        hard_pico_usd=request.hard_pico_usd if request.HasField("hard_pico_usd") else None,
        soft_pico_usd=request.soft_pico_usd if request.HasField("soft_pico_usd") else None,
        set_by=who,
        reason=request.reason,
    )
