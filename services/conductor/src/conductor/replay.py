"""Makes recorded decisions again, from nothing but the log: the same facts must come of it.

Pure. Whoever doubts a decision can ask what was known when it was made, and check that this is what follows from it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from eventlog import Recorded
from factory.budget.v1 import BudgetSet
from factory.event.v1 import AnyFact
from factory.phase.v1 import PhaseRequested, PhaseRerouted, PhaseSkipped, ReworkRequested
from factory.task.v1 import Receipt, TaskHeld, TaskPlanned

from conductor.book import Book
from conductor.budget_month import NO_ORDERS, Month, Orders, standings_of
from conductor.budget_room import LANE_PREFIX, Standing, lane_id, month_of, project_and_month, reservation_id
from conductor.known import CONDUCTOR, Known
from conductor.next_step import decide
from conductor.rules import rules_in

PROJECT_PREFIX = "project-"

Decides = TaskPlanned | PhaseRequested | PhaseRerouted | PhaseSkipped | ReworkRequested | TaskHeld


@dataclass(frozen=True, slots=True)
class Again:
    """A decision as it stands in the log, and as it is made again."""

    recorded: Recorded
    again: tuple[AnyFact, ...]

    @property
    def is_same(self) -> bool:
        return list(self.again) == self.recorded.facts


@dataclass(slots=True)
class _Money:
    """Every budget, as far as the log was read."""

    months: dict[str, Month] = field(default_factory=dict)
    orders: defaultdict[str, Orders] = field(default_factory=lambda: defaultdict(lambda: NO_ORDERS))

    def observe(self, recorded: Recorded) -> None:
        event = recorded.event
        if event.producer != CONDUCTOR:
            return
        if event.id.startswith(LANE_PREFIX):
            self.month(*project_and_month(event.id)).evolve(recorded.facts, event.read_to)
        elif event.id.startswith(PROJECT_PREFIX):
            project, since = event.id.removeprefix(PROJECT_PREFIX), month_of(event.occurred_at.ToDatetime(tzinfo=UTC))
            for fact in recorded.facts:
                if isinstance(fact, BudgetSet):
                    self.orders[project] = self.orders[project].after(fact, since, recorded.sequence)

    def month(self, project: str, month: str) -> Month:
        return self.months.setdefault(lane_id(project, month), Month(project, month))

    def standings(self, project: str, month: str) -> tuple[Standing, ...]:
        return standings_of(self.month(project, month), self.orders[project])


def made_again(log: Sequence[Recorded]) -> Iterator[Again]:
    """Every decision with a receipt in a whole log, made again at the positions that it names."""
    by_task: defaultdict[str, list[Recorded]] = defaultdict(list)
    for recorded in log:
        by_task[recorded.event.id].append(recorded)
    wanted = [(told.world_read_to, recorded, told) for recorded in log if (told := receipt_of(recorded.facts))]
    book, money, rest = Book(), _Money(), iter(log)
    upcoming = next(rest, None)
    for position, recorded, told in sorted(wanted, key=lambda one: (one[0], one[1].sequence)):
        while upcoming is not None and upcoming.sequence <= position:
            book.observe(upcoming)
            money.observe(upcoming)
            upcoming = next(rest, None)
        yield Again(recorded, tuple(_decided(recorded, told, by_task[recorded.event.id], book, money)))


def receipt_of(facts: Iterable[AnyFact | None]) -> Receipt | None:
    """The receipt of a decision; None for an event that holds none."""
    receipts = (fact.receipt for fact in facts if isinstance(fact, Decides) and fact.HasField("receipt"))
    return next(receipts, None)


def _decided(recorded: Recorded, told: Receipt, events: Sequence[Recorded], book: Book, money: _Money) -> list[AnyFact]:
    event = recorded.event
    known = Known()
    for one in events:
        if one.sequence <= event.read_to:
            known.learn(one)
    now: datetime = event.occurred_at.ToDatetime(tzinfo=UTC)
    project, month = known.task.project, month_of(now)
    standings = money.standings(project, month)
    lane = lane_id(project, month) if standings else ""

    def reserved(request_id: str, model: str) -> int:
        held = money.month(project, month).held(reservation_id(event.id, request_id, model))
        return held.amount if held else 0

    rules = rules_in(book.catalogs[told.models_digest])
    world = book.world(event.id, known, rules, now, lane=lane, budgets=standings, reserved=reserved)
    return decide(known.task, world)
