"""Two tasks of one project under two conductors that read late, with all that may come in between; in virtual time.

The deciders are the conductor's own, and each decides from what it has read and nothing else. What holds at every moment
is asserted as it is said: budgets, one probe at a time, requests with ids of their own, results that come too late.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from conductor.book import Book
from conductor.budget import Adopt, Command, Expire, Extend, Release, Reserve, Reserved, Settle, Swept
from conductor.budget import decide as decide_money
from conductor.budget_month import NO_ORDERS, Carried, Held, Month, Orders, standings_of
from conductor.budget_room import lane_id, month_of, reservation_id
from conductor.known import CONDUCTOR, Known
from conductor.next_step import decide
from conductor.replay import PROJECT_PREFIX
from conductor.rules import Rules, configured
from conductor.world import World
from eventlog import Recorded, Tip
from eventlog.facts import to_fact
from eventlog.work import Request, Result
from factory.budget.v1 import BudgetSet
from factory.event.v1 import AnyFact, Event
from factory.model.v1 import ModelProbed, ModelRecovered, ModelTripped
from factory.phase.v1 import PhaseCompleted, PhaseFailed, PhaseRequested
from factory.price.v1 import PricePublished, PriceTier
from factory.task.v1 import RequestExpired, RoutingOverridden, TaskSubmitted
from policy.health import probe
from policy.models import DEFAULT_MODELS

START = datetime(2026, 11, 3, 12, tzinfo=UTC)
PROJECT, MONTH = "shop", month_of(START)
LANE, ORDERS_LANE = lane_id(PROJECT, MONTH), f"{PROJECT_PREFIX}{PROJECT}"
TASKS = ("a" * 26, "b" * 26)
LEASE = timedelta(minutes=5)
ATTEMPTS_MAX = 12

# One pico-dollar for a token that goes in, ten for one that comes out.
PRICES = [
    PricePublished(
        version="test",
        provider=model.provider,
        provider_model=model.provider_model,
        tiers=[PriceTier(input_pico_usd=1, output_pico_usd=10)],
    )
    for model in DEFAULT_MODELS.values()
]


@dataclass
class Conductor:
    """One of two: what it has read, up to `book.read_to`."""

    rules: Rules
    book: Book = field(default_factory=Book)
    known: dict[str, Known] = field(default_factory=lambda: {id: Known() for id in TASKS})
    month: Month = field(default_factory=lambda: Month(PROJECT, MONTH))
    orders: Orders = NO_ORDERS

    def read(self, log: Sequence[Recorded], further: int | None = None) -> None:
        """Reads on, by so many events or to the end."""
        to = len(log) if further is None else self.book.read_to + further
        for recorded in log[self.book.read_to : to]:
            self.book.observe(recorded)
            if (known := self.known.get(recorded.event.id)) is not None:
                known.learn(recorded)
            self.orders = learn_money(self.month, self.orders, recorded)

    def world(self, id: str, now: datetime) -> World:
        standings = standings_of(self.month, self.orders)

        def reserved(request_id: str, model: str) -> int:
            held = self.month.held(reservation_id(id, request_id, model))
            return held.amount if held else 0

        lane = LANE if standings else ""
        return self.book.world(id, self.known[id], self.rules, now, lane=lane, budgets=standings, reserved=reserved)


def learn_money(month: Month, orders: Orders, recorded: Recorded) -> Orders:
    """Takes an event into the month, if it is of its lane; the standing orders after it."""
    if recorded.event.id == LANE:
        month.evolve(recorded.facts, recorded.event.read_to)
    elif recorded.event.id == ORDERS_LANE:
        for fact in recorded.facts:
            if isinstance(fact, BudgetSet):
                orders = orders.after(fact, MONTH, recorded.sequence)
    return orders


class Probes:
    """Which probes are outstanding, told from the facts alone."""

    def __init__(self) -> None:
        self._claimed: dict[tuple[str, int], ModelProbed] = {}

    def take(self, id: str, fact: AnyFact | None, now: datetime) -> None:
        match fact:
            case ModelProbed():
                before = self._claimed.get((fact.model, fact.type))
                over = before is None or before.until.ToDatetime(tzinfo=UTC) <= now
                assert over, f"{before} is outstanding, and then comes {fact}"
                self._claimed[fact.model, fact.type] = fact
            case ModelTripped():
                self._claimed.pop((fact.model, fact.type), None)
            case ModelRecovered():
                for key in [k for k in self._claimed if k[0] == fact.model and (k[1] == fact.type or not fact.type)]:
                    del self._claimed[key]
            case PhaseCompleted() | PhaseFailed() | RequestExpired() | RoutingOverridden():
                self._over(id, fact.request_id)
            case _ if fact is not None and "Task" in fact.DESCRIPTOR.name:
                self._over(id, "")
            case _:
                pass

    def _over(self, id: str, request_id: str) -> None:
        for key, one in list(self._claimed.items()):
            if one.task_id == id and request_id in ("", one.request_id):
                del self._claimed[key]


class Run:
    """The log, the time, and everybody who has a part in it."""

    def __init__(self, hard: int, open_tasks_max: int, submitted: Sequence[TaskSubmitted]) -> None:
        unnamed = Rules(DEFAULT_MODELS, {}, open_tasks_max)
        on_record = configured(unnamed)
        self.rules = Rules(DEFAULT_MODELS, {}, open_tasks_max, digest=on_record.digest)
        self.log: list[Recorded] = []
        self.now = START
        self.truth = {id: Known() for id in TASKS}
        self.month, self.orders = Month(PROJECT, MONTH), NO_ORDERS
        self.conductors = (Conductor(self.rules), Conductor(self.rules))
        self._tips: dict[tuple[str, str], Tip] = {}
        self._asked: set[tuple[str, str]] = set()
        self._probes = Probes()
        self.say(CONDUCTOR, "models", on_record)
        self.say(CONDUCTOR, "prices", *PRICES)
        self.order(hard)
        for id, fact in zip(TASKS, submitted, strict=True):
            self.say(CONDUCTOR, id, fact)

    def say(self, producer: str, id: str, *facts: AnyFact, after: Tip | None = None, read_to: int = 0) -> bool:
        """What the server does: refused if the lane has grown since it was read."""
        tip = self._tips.get((producer, id), Tip())
        if not facts or (after is not None and after.sequence != tip.sequence):
            return False
        event = Event(id=id, version=tip.version + 1, producer=producer, read_to=read_to)
        event.occurred_at.FromDatetime(self.now)
        event.facts.extend(to_fact(fact) for fact in facts)
        recorded = Recorded(event, len(self.log) + 1, b"")
        self._tips[producer, id] = recorded.tip
        self.log.append(recorded)
        self._take(recorded)
        return True

    def _take(self, recorded: Recorded) -> None:
        id = recorded.event.id
        self.orders = learn_money(self.month, self.orders, recorded)
        for account in self.month.accounts.values():
            assert account.hard is None or account.drawn <= account.hard, f"overdrawn at {recorded.sequence}"
        for fact in recorded.facts:
            self._probes.take(id, fact, self.now)
            if isinstance(fact, Request) and id in self.truth:
                assert (id, fact.request_id) not in self._asked, f"{fact.request_id} was asked for twice"
                self._asked.add((id, fact.request_id))
        if (known := self.truth.get(id)) is not None:
            before = known.task
            known.learn(recorded)
            waited_for = before.open.request_id if before.open else ""
            late = all(isinstance(f, Result) and f.request_id != waited_for for f in recorded.facts)
            assert not late or known.task == before, f"{recorded.facts} came too late, and changed {before}"

    # What conductors do.

    def advance(self, who: int, id: str) -> bool:
        """Decides what follows for a task, as far as this conductor has read, and says it if it may."""
        conductor, drawn = self.conductors[who], set[str]()
        if not conductor.known[id].read_to:
            return False
        try:
            for _ in range(ATTEMPTS_MAX):
                known, world = conductor.known[id], conductor.world(id, self.now)
                facts = decide(known.task, world)
                asked = [fact for fact in facts if isinstance(fact, PhaseRequested)]
                if any(not self._reserve(id, fact, drawn) for fact in asked if fact.budget):
                    conductor.read(self.log)
                    continue
                if any(self._claims(conductor, id, fact, world) for fact in asked if fact.probe):
                    return True
                if self.say(CONDUCTOR, id, *facts, after=known.tip, read_to=known.read_to):
                    drawn -= {_reservation(id, fact) for fact in asked}
                    return True
                return False
            raise AssertionError(f"money moved {ATTEMPTS_MAX} times while nobody else did anything")
        finally:
            for reservation in drawn:
                self.money(Expire(reservation, self.now))
                self.sweep()

    def _reserve(self, id: str, fact: PhaseRequested, drawn: set[str]) -> bool:
        reservation, until = _reservation(id, fact), self.now + LEASE
        answer = self.money(
            Reserve(reservation, id, fact.request_id, fact.model, fact.worst_case_pico_usd, fact.calls_max, until)
        )
        if isinstance(answer, Reserved):
            drawn.add(reservation)
        return isinstance(answer, Reserved) and answer.calls_max == fact.calls_max

    def _claims(self, conductor: Conductor, id: str, fact: PhaseRequested, world: World) -> bool:
        """Whether there was still something to do before this request may be a probe."""
        well, lane = world.wellness(fact.model), f"model-{fact.model}"
        if well.probe == fact.request_id:
            return False
        claim = probe(fact.model, well.type, id, fact.request_id, self.now)
        after = conductor.book.tips.get(lane, Tip())
        if not self.say(CONDUCTOR, lane, claim, after=after, read_to=world.read_to):
            conductor.read(self.log)
        return True

    def say_of_health(self, who: int) -> bool:
        """Says what has become of models, as the watcher does."""
        book = self.conductors[who].book
        said = [
            self.say(CONDUCTOR, f"model-{fact.model}", fact, after=book.tips.get(f"model-{fact.model}", Tip()))
            for fact in book.health.due()
        ]
        return any(said)

    def adopt(self, who: int) -> None:
        """Takes over what was ordered into the month, as the watcher does."""
        ordered = self.conductors[who].book.ordered
        if ordered:
            ordered.clear()
            self.money(Adopt())

    def settle(self, who: int) -> None:
        """Books what requests have cost that have their result."""
        for id, known in self.conductors[who].known.items():
            for request_id in sorted(known.draws.keys() & known.answered):
                self.money(self._settled(id, known, request_id))

    # Money.

    def money(self, *commands: Command) -> object:
        """Puts commands to the month as it stands; the last one's answer."""
        decision = decide_money(self.month, commands, self.orders, Carried())
        self.say(CONDUCTOR, LANE, *decision.facts, read_to=self.orders.read_to)
        return decision.answers[-1]

    def order(self, hard: int) -> None:
        """Sets the project's standing limit; it is never less than before, so that what holds is easily said."""
        hard = max(hard, *(order.hard or 0 for order in self.orders.by_model.values()), 0)
        self.say(CONDUCTOR, ORDERS_LANE, BudgetSet(project=PROJECT, hard_pico_usd=hard, set_by="olga"))

    def sweep(self) -> None:
        """Finds out what became of requests whose leases have ended."""
        for reservation, held in [one for one in self.month.every_held() if one[1].lease_until <= self.now]:
            self.money(Swept(held.lease_until, self._found(reservation, held)))

    def confirmed(self, id: str, request: PhaseRequested) -> bool:
        """Whether what a request needs is kept for it; else it is void."""
        reservation = _reservation(id, request)
        if not request.budget or self.month.cost(reservation) is not None:
            return True
        if self.month.held(reservation) is not None:
            self.money(Extend(reservation, self.now + LEASE))
            return True
        if self._reserve(id, request, set()):
            return True
        self.say(CONDUCTOR, id, RequestExpired(request_id=request.request_id))
        return False

    def _found(self, reservation: str, held: Held) -> Settle | Release | Extend:
        known = self.truth[held.task_id]
        if known.requested.get(held.request_id, (0, ""))[1] != held.model:
            return Release(reservation, "the request was never made")
        if known.is_awaited(held.request_id, self.now):
            return Extend(reservation, self.now + LEASE)
        return self._settled(held.task_id, known, held.request_id)

    def _settled(self, id: str, known: Known, request_id: str) -> Settle:
        tally = known.cost_of(request_id, self.conductors[0].book.prices)
        assert not tally.unknown_calls, f"every call of {request_id} has a bound"
        most = tally.cost_pico_usd + tally.uncertain_cost_pico_usd
        model = known.requested[request_id][1]
        return Settle(reservation_id(id, request_id, model), model, most, tally.uncertain_cost_pico_usd, known.read_to)

    # What people do, with the newest log before their eyes.

    def command(self, id: str, judged: Sequence[AnyFact]) -> bool:
        known = self.truth[id]
        return self.say(CONDUCTOR, id, *judged, after=known.tip, read_to=known.read_to)


def _reservation(id: str, request: PhaseRequested) -> str:
    return reservation_id(id, request.request_id, request.model)
