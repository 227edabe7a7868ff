"""Budgets as `conductor/adapters/budgets.py` has them: what is decided is the product's, the order of effects is here."""

from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from conductor.adapters import spending
from conductor.adapters.budgets import LEASE, LEASE_MARGIN, SWEEP_PAUSE
from conductor.budget import (
    Adopt,
    Answer,
    Command,
    Expire,
    Extend,
    NoRoom,
    Release,
    Reserve,
    Reserved,
    Settle,
    Swept,
)
from conductor.budget_month import NO_ORDERS, Carried, Held, Month, Orders, standings_of
from conductor.budget_room import (
    LANE_PREFIX,
    Awaiting,
    Ended,
    Outcome,
    Standing,
    lane_id,
    month_of,
    project_and_month,
    reservation_id,
)
from conductor.known import Known
from eventlog import Conflict, Recorded, Tip
from factory.budget.v1 import BudgetSet
from simulation.process import Doing
from simulation.reading import Reader

ATTEMPTS_MAX = 40
PAUSE_MS = 5
PROJECT_PREFIX = "project-"
TIMER = "lease"

Lookup = Generator[str | int, None, Outcome]


@dataclass(slots=True)
class Lane:
    """A month's lane, or a project's, as this conductor knows it."""

    month: Month
    orders: Orders = NO_ORDERS
    tip: Tip = field(default_factory=Tip)
    known: bool = False

    def observe(self, recorded: Recorded) -> None:
        """Takes in an event once, and in order."""
        version = recorded.event.version
        if version <= self.tip.version:
            return
        if version > self.tip.version + 1:
            self.known = False
            return
        if recorded.event.id.startswith(LANE_PREFIX):
            self.month.evolve(recorded.facts, recorded.event.read_to)
        else:
            since = month_of(recorded.event.occurred_at.ToDatetime(tzinfo=UTC))
            for fact in recorded.facts:
                if isinstance(fact, BudgetSet):
                    self.orders = self.orders.after(fact, since, recorded.sequence)
        self.tip = recorded.tip
        self.known = self.known or version == 1


@dataclass
class Treasurer(Reader):
    """Reserves, settles and releases; each conductor does, at once."""

    lanes: dict[str, Lane] = field(default_factory=dict)

    def forget(self) -> None:
        super().forget()
        self.lanes.clear()

    def observe_money(self, stored: Recorded) -> None:
        id = stored.event.id
        if stored.event.producer != self.service:
            return
        if id.startswith((PROJECT_PREFIX, LANE_PREFIX)):
            self.lane(id).observe(stored)

    def lane(self, id: str) -> Lane:
        if (lane := self.lanes.get(id)) is None:
            month = Month(*project_and_month(id)) if id.startswith(LANE_PREFIX) else Month("", "")
            lane = self.lanes[id] = Lane(month)
        return lane

    def orders(self, project: str) -> Lane:
        return self.lane(f"{PROJECT_PREFIX}{project}")

    def catch_up(self, id: str) -> Doing:
        """Reads what is newer than what is known, up to what the log's leader has now."""
        lane = self.lane(id)
        last = yield from self.last_own(id)
        if last.sequence > lane.tip.sequence:
            newer = yield from self.read_newer(id, lane.tip.sequence, last.sequence)
            for stored in newer:
                if stored.event.producer == self.service:
                    lane.observe(stored)
        lane.known = True

    def known_standings(self, project: str, month: str) -> tuple[Standing, ...] | None:
        """How the budgets stand, as far as known; None if it has to be read first, () if there are none."""
        orders = self.orders(project)
        if not orders.known:
            return None
        lane = self.lanes.get(lane_id(project, month))
        if lane is not None and lane.known:
            return standings_of(lane.month, orders.orders)
        return None if orders.orders.of(month) else ()

    def standings(self, project: str, month: str) -> Doing:
        if self.known_standings(project, month) is None:
            yield from self.catch_up(f"{PROJECT_PREFIX}{project}")
            yield from self.catch_up(lane_id(project, month))

    def money_known_to(self, project: str, month: str) -> int:
        lane = self.lanes.get(lane_id(project, month))
        return max(self.orders(project).orders.read_to, lane.tip.sequence if lane else 0)

    def held(self, lane: str, reservation: str) -> int:
        held = self.lane(lane).month.held(reservation)
        return held.amount if held else 0

    def reserve(
        self, month: str, task_id: str, request_id: str, model: str, worst_case: int, calls_max: int, project: str
    ) -> Generator[str | int, None, Answer]:
        """Keeps money for so many calls; asked again, it stays one reservation."""
        yield from self.standings(project, month)
        if self.known_standings(project, month) == ():
            return Reserved("", 0, calls_max)
        asked = Reserve(
            reservation_id(task_id, request_id, model),
            task_id,
            request_id,
            model,
            worst_case,
            calls_max,
            self.world.moment + LEASE,
        )
        answer = yield from self.ask(lane_id(project, month), asked)
        self.world.counts["reservations refused"] += isinstance(answer, NoRoom)
        return answer

    def release(self, lane: str, reservation: str) -> Doing:
        """Gives back what was reserved for a request that was not made, unless it was, by another conductor."""
        yield from self.ask(lane, Expire(reservation, self.world.moment))
        held = self.lane(lane).month.held(reservation)
        if held is not None and held.lease_until <= self.world.moment:
            yield from self.sweep(lane, reservation, held)

    def sweep(self, lane: str, reservation: str, held: Held) -> Doing:
        """Finds out what became of a request whose lease has ended."""
        outcome = yield from self.looked_up(held.task_id, held.request_id, held.model)
        self.world.counts["leases looked up"] += 1
        then = after_the_lease(reservation, held, outcome, self.world.moment + LEASE)
        yield from self.ask(lane, Swept(held.lease_until, then))

    def book_cost(self, lane: str, reservation: str, model: str, amount: int, uncertain: int, read_to: int) -> Doing:
        yield from self.ask(lane, Settle(reservation, model, amount, uncertain, read_to))

    def confirm(self, lane_id: str, reservation: str, sequence: int) -> Generator[str | int, None, bool]:
        """Whether the reservation of a request that stands at `sequence` still holds, and will for a while."""
        lane = self.lane(lane_id)
        if not lane.known or self.book.read_to < sequence:
            yield from self.catch_up(lane_id)
        held = lane.month.held(reservation)
        if held and held.lease_until - self.world.moment < min(LEASE_MARGIN, LEASE / 3):
            yield from self.ask(lane_id, Extend(reservation, self.world.moment + LEASE))
            held = lane.month.held(reservation)
        return held is not None or lane.month.cost(reservation) is not None

    def draws_on(self, project: str, month: str, sequence: int, reservation: str) -> Generator[str | int, None, str]:
        """The lane that pays for a request which stands at `sequence` without a reservation; "" for none."""
        if self.known_standings(project, month) == ():
            return ""
        yield from self.standings(project, month)
        if self.known_standings(project, month) == ():
            return ""
        month_ = self.lane(lane_id(project, month)).month
        taken_over = month_.held(reservation) is not None or month_.cost(reservation) is not None
        return month_.lane if month_.began and (taken_over or sequence > month_.carried_read_to) else ""

    def adopt(self, project: str) -> Doing:
        """Takes the standing limits over into this month."""
        month = month_of(self.world.moment)
        yield from self.catch_up(f"{PROJECT_PREFIX}{project}")
        if self.orders(project).orders.of(month):
            yield from self.catch_up(lane_id(project, month))
            yield from self.ask(lane_id(project, month), Adopt())

    def taken_over(self, project: str) -> Doing:
        return self.adopt(project)

    def set_budget(self, fact: BudgetSet) -> Doing:
        """Makes these limits the standing ones, and this month's."""
        id = f"{PROJECT_PREFIX}{fact.project}"
        for _ in range(ATTEMPTS_MAX):
            yield from self.catch_up(id)
            lane = self.lane(id)
            try:
                stored = yield from self.append(id, [fact], after=lane.tip, cause=None, read_to=lane.tip.sequence)
            except Conflict:
                continue
            lane.observe(stored)
            break
        yield from self.adopt(fact.project)

    def ask(self, id: str, command: Command) -> Generator[str | int, None, Answer]:
        """One command, decided on what is known, checked by the log, decided again where somebody was faster."""
        lane = self.lane(id)
        for _ in range(ATTEMPTS_MAX):
            if not lane.known:
                yield from self.catch_up(id)
            orders = self.orders(lane.month.project).orders
            carried = Carried()
            if not lane.month.began and orders.of(lane.month.month):
                carried = yield from self.carried(lane.month, orders)
            yield f"decides about {id}"
            tip = lane.tip
            decision = self.world.parts.budget(lane.month, [command], orders, carried)
            if not decision.facts:
                return decision.answers[0]
            fires_at = self.world.moment + LEASE
            if decision.wants_timer:
                yield from self.set_lease_timer(id, fires_at)
            try:
                stored = yield from self.append(id, decision.facts, after=tip, cause=None, read_to=orders.read_to)
            except Conflict:
                yield from self.catch_up(id)
                yield PAUSE_MS
                continue
            lane.observe(stored)
            if decision.wants_timer and self.world.moment >= fires_at:
                yield from self.set_lease_timer(id, self.world.moment + LEASE)
            self.world.counts["requests dearer than reserved"] += decision.dearer
            return decision.answers[0]
        raise Conflict(f"{id!r} changed {ATTEMPTS_MAX} times while it was being decided about")

    def carried(self, month: Month, orders: Orders) -> Generator[str | int, None, Carried]:
        """What was spent before the month had a budget."""
        if any(order.since < month.month for order in orders.by_model.values()):
            return Carried({}, orders.read_to)
        yield "reads the whole log for what was spent"
        until = self.world.log.head
        known: dict[str, Known] = {}
        for stored in self.world.log.events[:until]:
            spending._take(known, stored, month.project)
        found = spending.carried_of(known, self.book.prices, month.month, until)
        return found._replace(lease_until=self.world.moment + LEASE)

    def lease_timer(self, id: str) -> Doing:
        """Leases may have ended: finds out what became of their requests, and watches on while any are open."""
        yield from self.catch_up(id)
        now = self.world.moment
        for reservation, held in [*self.lane(id).month.every_held()]:
            if held.lease_until <= now:
                yield from self.sweep(id, reservation, held)
        yield from self.watch_over(id)

    def watch_again(self) -> Doing:
        """Once, at the start: timers that were lost are set again."""
        for id in [*self.lanes]:
            yield from self.watch_over(id)

    def watch_over(self, id: str) -> Doing:
        month = self.lane(id).month
        if month.open:
            soonest = min(held.lease_until for _, held in month.every_held())
            yield from self.set_lease_timer(id, max(soonest, self.world.moment + SWEEP_PAUSE))

    def set_lease_timer(self, id: str, at: datetime) -> Doing:
        yield f"sets a timer for the leases of {id}"
        self.world.set_timer(id, TIMER, at)

    def looked_up(self, task_id: str, request_id: str, model: str) -> Lookup:
        raise NotImplementedError


def after_the_lease(reservation: str, held: Held, outcome: Outcome, lease_until: datetime) -> Extend | Settle | Release:
    match outcome:
        case Awaiting():
            return Extend(reservation, lease_until)
        case Ended(cost, uncertain, read_to):
            return Settle(reservation, held.model, cost, uncertain, read_to)
        case _:
            return Release(reservation, "the request was never made")
