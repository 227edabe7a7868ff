"""The money of one project in one month, folded from the facts of its lane, and the standing limits of a project.

Pure: no I/O, no clock. A lane may hold a hundred thousand reservations, so its state is one mutable fold, and a
decision is drafted over it without copying it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import NamedTuple

from factory.budget.v1 import (
    BUDGET_LIMIT_HARD,
    BUDGET_LIMIT_SOFT,
    BudgetExtended,
    BudgetLimit,
    BudgetReached,
    BudgetReleased,
    BudgetReserved,
    BudgetSet,
    BudgetSettled,
)
from factory.event.v1 import AnyFact

from conductor.budget_room import WHOLE, Standing, budget_id, lane_id


@dataclass(slots=True)
class Account:
    """One budget of a month: the project's as a whole, or one model's. A model without limits has one too."""

    hard: int | None = None
    soft: int | None = None
    spent: int = 0
    uncertain: int = 0
    reserved: int = 0
    open: int = 0
    # requests that turned out dearer than what was reserved for them; there should be none
    dearer: int = 0
    reached: frozenset[tuple[BudgetLimit, int]] = frozenset()

    @property
    def drawn(self) -> int:
        return self.spent + self.reserved

    def limit(self, limit: BudgetLimit) -> int | None:
        return self.hard if limit == BUDGET_LIMIT_HARD else self.soft


class Held(NamedTuple):
    """An open reservation."""

    task_id: str
    request_id: str
    model: str
    amount: int
    lease_until: datetime


class Cost(NamedTuple):
    """What a reservation was settled with."""

    model: str
    amount: int
    uncertain: int
    read_to: int


class Open(NamedTuple):
    """A request that was under way when the month had no budget yet, and the most that it may cost."""

    task_id: str
    request_id: str
    model: str
    amount: int


class Carried(NamedTuple):
    """What a month had spent before it had a budget, by model, with the log read up to `read_to`.

    The project as a whole, "", is the sum of its models where it is not named itself.
    """

    by_model: Mapping[str, int] = MappingProxyType({})
    read_to: int = 0
    # What these cost is settled when it is known; until then their worst case is reserved.
    open: tuple[Open, ...] = ()
    lease_until: datetime | None = None

    @property
    def whole(self) -> int:
        return self.by_model.get(WHOLE, sum(self.by_model.values()))


class Month:
    """A month's lane, folded."""

    def __init__(self, project: str, month: str) -> None:
        self.project = project
        self.month = month
        self.accounts: dict[str, Account] = {}
        # A month begins with a copy of the standing limits.
        self.began = False
        # How far the project's own lane was read when limits were last taken over, and the log for what is carried.
        self.orders_read_to = 0
        self.carried_read_to = 0
        self._held: dict[str, Held] = {}
        self._costs: dict[str, Cost] = {}

    @property
    def lane(self) -> str:
        return lane_id(self.project, self.month)

    @property
    def whole(self) -> Account:
        return self.account(WHOLE)

    @property
    def open(self) -> int:
        """How many reservations are open."""
        return self.whole.open

    def account(self, model: str) -> Account:
        return self.accounts.setdefault(model, Account())

    def held(self, reservation: str) -> Held | None:
        return self._held.get(reservation)

    def cost(self, reservation: str) -> Cost | None:
        return self._costs.get(reservation)

    def every_held(self) -> Iterator[tuple[str, Held]]:
        return iter(self._held.items())

    def standings(self) -> tuple[Standing, ...]:
        """The project's own budget first, then those of single models by name; a model without limits has none."""
        named = sorted(
            model
            for model, one in self.accounts.items()
            if model == WHOLE or one.hard is not None or one.soft is not None
        )
        return tuple(self.standing(model) for model in named)

    def standing(self, model: str) -> Standing:
        one = self.accounts.get(model) or Account()
        return Standing(
            budget_id(self.project, self.month, model),
            model,
            one.hard,
            one.soft,
            one.spent,
            one.uncertain,
            one.reserved,
            one.open,
            one.dearer,
        )

    def evolve(self, facts: Sequence[AnyFact | None], read_to: int) -> None:
        """Takes in the facts of one event of this lane."""
        for fact in facts:
            if fact is not None:
                self.apply(fact)
        if any(isinstance(fact, BudgetSet) for fact in facts):
            self.orders_read_to = max(self.orders_read_to, read_to)

    def apply(self, fact: AnyFact) -> None:
        match fact:
            case BudgetSet():
                self._set(fact)
            case BudgetReserved(reservation=reservation):
                self._put(reservation, None)
                self._settle(reservation, None)
                until = fact.lease_until.ToDatetime(tzinfo=UTC)
                self._put(reservation, Held(fact.task_id, fact.request_id, fact.model, fact.amount_pico_usd, until))
            case BudgetSettled(reservation=reservation):
                if (held := self.held(reservation)) and fact.amount_pico_usd > held.amount:
                    self.whole.dearer += 1
                self._put(reservation, None)
                self._settle(reservation, Cost(fact.model, fact.amount_pico_usd, fact.uncertain_pico_usd, fact.read_to))
            case BudgetReleased(reservation=reservation):
                self._put(reservation, None)
            case BudgetExtended(reservation=reservation):
                if held := self.held(reservation):
                    self._put(reservation, held._replace(lease_until=fact.lease_until.ToDatetime(tzinfo=UTC)))
            case BudgetReached(model=model):
                account = self.account(model)
                account.reached |= {(fact.limit, fact.percent)}
            case _:
                pass  # of no meaning for money

    def _set(self, fact: BudgetSet) -> None:
        account = self.account(fact.model)
        hard = fact.hard_pico_usd if fact.HasField("hard_pico_usd") else None
        soft = fact.soft_pico_usd if fact.HasField("soft_pico_usd") else None
        changed = {BUDGET_LIMIT_HARD: hard != account.hard, BUDGET_LIMIT_SOFT: soft != account.soft}
        # Of a new limit people are told anew.
        account.reached = frozenset(mark for mark in account.reached if not changed[mark[0]])
        account.hard, account.soft = hard, soft
        account.spent += fact.carried_pico_usd
        self.carried_read_to = max(self.carried_read_to, fact.carried_read_to)
        self.began = True

    def _put(self, reservation: str, held: Held | None) -> None:
        if before := self.held(reservation):
            for account in (self.whole, self.account(before.model)):
                account.reserved -= before.amount
                account.open -= 1
        if held:
            for account in (self.whole, self.account(held.model)):
                account.reserved += held.amount
                account.open += 1
        self._keep_held(reservation, held)

    def _settle(self, reservation: str, cost: Cost | None) -> None:
        if before := self.cost(reservation):
            for account in (self.whole, self.account(before.model)):
                account.spent -= before.amount
                account.uncertain -= before.uncertain
        if cost:
            for account in (self.whole, self.account(cost.model)):
                account.spent += cost.amount
                account.uncertain += cost.uncertain
        self._keep_cost(reservation, cost)

    def _keep_held(self, reservation: str, held: Held | None) -> None:
        if held is None:
            self._held.pop(reservation, None)
        else:
            self._held[reservation] = held

    def _keep_cost(self, reservation: str, cost: Cost | None) -> None:
        if cost is None:
            self._costs.pop(reservation, None)
        else:
            self._costs[reservation] = cost


class Draft(Month):
    """A month as it would be with some facts more; the month itself stays as it is, and is not copied."""

    def __init__(self, under: Month) -> None:
        super().__init__(under.project, under.month)
        self._under = under
        self.accounts = {model: replace(account) for model, account in under.accounts.items()}
        self.began = under.began
        self.orders_read_to = under.orders_read_to
        self.carried_read_to = under.carried_read_to
        self._held_here: dict[str, Held | None] = {}
        self._costs_here: dict[str, Cost | None] = {}

    def held(self, reservation: str) -> Held | None:
        return self._held_here[reservation] if reservation in self._held_here else self._under.held(reservation)

    def cost(self, reservation: str) -> Cost | None:
        return self._costs_here[reservation] if reservation in self._costs_here else self._under.cost(reservation)

    def _keep_held(self, reservation: str, held: Held | None) -> None:
        self._held_here[reservation] = held

    def _keep_cost(self, reservation: str, cost: Cost | None) -> None:
        self._costs_here[reservation] = cost


@dataclass(frozen=True, slots=True)
class Order:
    """A standing limit of a project, as last set."""

    hard: int | None
    soft: int | None
    set_by: str
    reason: str
    # the month ("202611") in which it was set, by the log's time: it holds for this one and later ones
    since: str


@dataclass(frozen=True, slots=True)
class Orders:
    """The standing limits of a project by model, as its own lane has them up to stream sequence `read_to`."""

    by_model: Mapping[str, Order]
    read_to: int = 0

    def __bool__(self) -> bool:
        return bool(self.by_model)

    def after(self, fact: BudgetSet, since: str, sequence: int) -> "Orders":
        order = Order(
            fact.hard_pico_usd if fact.HasField("hard_pico_usd") else None,
            fact.soft_pico_usd if fact.HasField("soft_pico_usd") else None,
            fact.set_by,
            fact.reason,
            since,
        )
        return Orders({**self.by_model, fact.model: order}, sequence)

    def of(self, month: str) -> dict[str, Order]:
        """Those that hold in a month: what is set in December says nothing about November."""
        return {model: order for model, order in self.by_model.items() if order.since <= month}


NO_ORDERS = Orders({})


def standings_of(month: Month, orders: Orders) -> tuple[Standing, ...]:
    """How the budgets of a month stand: before its lane has begun by what was ordered for it; () without any."""
    if month.began:
        return month.standings()
    wanted = orders.of(month.month)
    if not wanted:
        return ()
    limits = {WHOLE: (None, None)} | {model: (order.hard, order.soft) for model, order in wanted.items()}
    return tuple(
        Standing(budget_id(month.project, month.month, model), model, *limits[model]) for model in sorted(limits)
    )
