"""Two conductors race for one month's money, on what may be old, and die between any two effects."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from conductor.budget import Adopt, Command, Decision, Expire, Extend, Release, Reserve, Reserved, Settle, Swept, decide
from conductor.budget_month import Carried, Held, Month, Order, Orders
from conductor.budget_room import WHOLE
from factory.budget.v1 import BudgetReached, BudgetSet
from factory.event.v1 import AnyFact
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

pytestmark = pytest.mark.slow  # two hundred stories

START = datetime(2026, 11, 23, 12, tzinfo=UTC)
LEASE = timedelta(minutes=5)
MONTH = "202611"
TASKS = [f"t{n}" for n in range(2)]
MODELS = {task: "gpt" if n % 2 else "claude" for n, task in enumerate(TASKS)}
CONDUCTORS = st.sampled_from([0, 1])
# Mostly one effect follows the other; sometimes everything else happens in between.
AT_ONCE = st.sampled_from([True, True, False])
ANY_TASK = st.sampled_from(TASKS)


@dataclass
class Conductor:
    """What one conductor believes, and the event that it is about to append."""

    month: Month = field(default_factory=lambda: Month("shop", MONTH))
    seen: int = 0
    orders_seen: Orders = field(default_factory=lambda: Orders({}))
    planned: tuple[list[Command], Decision, int, int] | None = None
    sweeping: bool = False


@dataclass
class Request:
    """What really happened to one request."""

    reserved: int
    calls_max: int
    made: bool = False
    # (cost, uncertain, known up to), as it became known
    ends: list[tuple[int, int, int]] = field(default_factory=list)
    # how much was known in the settlement that knew the most
    settled_to: int = 0


class Racing(RuleBasedStateMachine):
    """A lane with optimistic concurrency; every rule is one effect, so a conductor may die between any two."""

    def __init__(self) -> None:
        super().__init__()
        self.lane: list[tuple[tuple[AnyFact, ...], int]] = []
        self.truth = Month("shop", MONTH)
        self.conductors = [Conductor(), Conductor()]
        self.orders = Orders({})
        self.requests: dict[str, Request] = {}
        self.timer = False
        self.clock = START
        self.sequence = 1
        self.adopted_to = 0

    @initialize(hard=st.integers(20, 60), gpt=st.none() | st.integers(10, 40))
    def a_budget_is_set(self, hard: int, gpt: int | None) -> None:
        self.orders = Orders(
            {WHOLE: Order(hard, hard // 2, "olga", "", MONTH), "gpt": Order(gpt, None, "olga", "", MONTH)}, 1
        )
        for conductor in self.conductors:
            conductor.orders_seen = self.orders
        self._decide(0, [Adopt()])
        self._append(0)

    def _decide(self, n: int, commands: list[Command]) -> None:
        conductor = self.conductors[n]
        decision = decide(
            conductor.month, commands, conductor.orders_seen, Carried({WHOLE: 3} if not conductor.month.began else {})
        )
        if decision.wants_timer:
            self.timer = True  # an effect of its own, before the append
        conductor.planned = (commands, decision, conductor.orders_seen.read_to, conductor.seen)

    def _plan(self, n: int, commands: list[Command], at_once: bool) -> None:
        self._decide(n, commands)
        if at_once:
            self._append_at_last(n)

    def _append(self, n: int) -> None:
        conductor = self.conductors[n]
        assert conductor.planned is not None
        commands, decision, read_to, version = conductor.planned
        conductor.planned = None
        if decision.facts:
            if version != len(self.lane):
                self._catch_up(n)  # somebody was faster: decide again
                self._decide(n, commands)
                return
            self._store(decision.facts, read_to)
            self.timer = self.timer or decision.wants_timer  # it may have fired before there was anything to watch over
            self._catch_up(n)
            self._a_repetition_says_nothing(commands)
        self._answered(commands, decision)
        if conductor.sweeping:
            conductor.sweeping = False
            self.timer = self.timer or bool(conductor.month.open)

    def _append_at_last(self, n: int) -> None:
        while not self._idle(n):
            self._append(n)

    def _store(self, facts: tuple[AnyFact, ...], read_to: int) -> None:
        before = {model: account.drawn for model, account in self.truth.accounts.items()}
        self.lane.append((facts, read_to))
        self.truth.evolve(facts, read_to)
        self.sequence += 1
        if any(isinstance(fact, BudgetSet) for fact in facts):
            assert read_to >= self.adopted_to, "limits that were heard of late undid newer ones"
            self.adopted_to = read_to
        lowered = {fact.model for fact in facts if isinstance(fact, BudgetSet)}
        for model, account in self.truth.accounts.items():
            fits = account.hard is None or account.drawn <= account.hard
            assert fits or model in lowered or account.drawn <= before.get(model, 0), f"overshoot of {model!r}"

    def _a_repetition_says_nothing(self, commands: list[Command]) -> None:
        if len(commands) == 1:  # after several, one may have given back what another was refused
            assert decide(self.truth, commands, Orders({}), Carried()).facts == ()

    def _answered(self, commands: list[Command], decision: Decision) -> None:
        for command, answer in zip(commands, decision.answers, strict=True):
            if isinstance(command, Reserve) and isinstance(answer, Reserved):
                known = self.requests.setdefault(command.reservation, Request(answer.amount, answer.calls_max))
                if not known.made:
                    known.reserved, known.calls_max = answer.amount, answer.calls_max
            if isinstance(command, Settle):
                request = self.requests[command.reservation]
                request.settled_to = max(request.settled_to, command.read_to)

    def _catch_up(self, n: int) -> None:
        conductor = self.conductors[n]
        for facts, read_to in self.lane[conductor.seen :]:
            conductor.month.evolve(facts, read_to)
        conductor.seen = len(self.lane)

    def _idle(self, n: int) -> bool:
        return self.conductors[n].planned is None

    @rule(
        n=CONDUCTORS,
        wanted=st.lists(st.tuples(ANY_TASK, st.integers(0, 12), st.integers(1, 3)), min_size=1, max_size=4),
        at_once=AT_ONCE,
    )
    def reserve(self, n: int, at_once: bool, wanted: list[tuple[str, int, int]]) -> None:
        if self._idle(n):
            until = self.clock + LEASE
            self._plan(
                n, [Reserve(f"{t}.r", t, "r", MODELS[t], worst, calls, until) for t, worst, calls in wanted], at_once
            )

    @rule(n=CONDUCTORS)
    def append(self, n: int) -> None:
        if not self._idle(n):
            self._append(n)

    @rule(n=CONDUCTORS)
    def catch_up(self, n: int) -> None:
        self._catch_up(n)
        self.conductors[n].orders_seen = self.orders

    @rule(n=CONDUCTORS)
    def die(self, n: int) -> None:
        """A new one takes its place: it knows nothing, and what was planned is gone; an unserved timer comes back."""
        self.timer = self.timer or self.conductors[n].sweeping
        self.conductors[n] = Conductor(orders_seen=self.orders)

    @rule(task=ANY_TASK)
    def make_the_request(self, task: str) -> None:
        """Its work is offered only when the reservation is confirmed."""
        request, held = self.requests.get(f"{task}.r"), self.truth.held(f"{task}.r")
        if request and held and not request.made and held.lease_until > self.clock and held.amount >= request.reserved:
            request.made = True

    @rule(task=ANY_TASK, share=st.integers(0, 100), lost=st.booleans())
    def the_request_ends(self, task: str, share: int, lost: bool) -> None:
        request = self.requests.get(f"{task}.r")
        if request and request.made and len(request.ends) < 2 and not (request.ends and lost):
            cost = request.reserved if lost else request.reserved * share // 100
            self.sequence += 1
            request.ends.append((cost, cost if lost else 0, self.sequence))

    @rule(n=CONDUCTORS, task=ANY_TASK, old=st.booleans(), at_once=AT_ONCE)
    def settle(self, n: int, at_once: bool, task: str, old: bool) -> None:
        """By a conductor that has heard of all there is, or only of the first end."""
        request = self.requests.get(f"{task}.r")
        if self._idle(n) and request and request.ends:
            cost, uncertain, read_to = request.ends[0 if old else -1]
            self._plan(n, [Settle(f"{task}.r", MODELS[task], cost, uncertain, read_to)], at_once)

    @rule(n=CONDUCTORS, task=ANY_TASK, at_once=AT_ONCE)
    def confirm(self, n: int, at_once: bool, task: str) -> None:
        """Before its work is offered, a lease that has ended or soon will is extended, if nobody was faster."""
        if self._idle(n):
            self._catch_up(n)
            self._plan(n, [Extend(f"{task}.r", self.clock + LEASE)], at_once)

    @rule(n=CONDUCTORS, task=ANY_TASK, at_once=AT_ONCE)
    def give_back(self, n: int, at_once: bool, task: str) -> None:
        """A conductor finds that its request was not made after all; another one may be making it."""
        if self._idle(n):
            id = f"{task}.r"
            self._plan(n, [Expire(id, self.clock)], at_once=True)
            held = self.conductors[n].month.held(id)
            if held and held.lease_until <= self.clock:
                self._plan(n, [Swept(held.lease_until, self._found_out(id, held))], at_once)

    @rule(hard=st.none() | st.integers(0, 80), gpt=st.none() | st.integers(0, 50))
    def limits_change(self, hard: int | None, gpt: int | None) -> None:
        self.sequence += 1
        named = {WHOLE: Order(hard, None, "olga", "", MONTH), "gpt": Order(gpt, None, "olga", "", MONTH)}
        self.orders = Orders(named, self.sequence)

    @rule(n=CONDUCTORS, at_once=AT_ONCE)
    def adopt(self, n: int, at_once: bool) -> None:
        if self._idle(n):
            self.catch_up(n)
            self._plan(n, [Adopt()], at_once)

    @rule(minutes=st.integers(1, 6))
    def time_passes(self, minutes: int) -> None:
        self.clock += timedelta(minutes=minutes)

    @precondition(lambda self: self.timer)
    @rule(n=CONDUCTORS, at_once=AT_ONCE)
    def the_timer_fires(self, n: int, at_once: bool) -> None:
        if self._idle(n):
            self.timer = False
            self._catch_up(n)
            ended = [(id, held) for id, held in self.conductors[n].month.every_held() if held.lease_until <= self.clock]
            self.conductors[n].sweeping = True
            self._plan(n, [Swept(held.lease_until, self._found_out(id, held)) for id, held in ended], at_once)

    def _found_out(self, id: str, held: Held) -> Settle | Release | Extend:
        request = self.requests.get(id)
        if request is None or not request.made:
            return Release(id, "never made")
        if not request.ends:
            return Extend(id, self.clock + LEASE)
        cost, uncertain, read_to = request.ends[-1]
        return Settle(id, held.model, cost, uncertain, read_to)

    @invariant()
    def an_open_reservation_is_watched_over(self) -> None:
        assert not self.truth.open or self.timer or any(conductor.sweeping for conductor in self.conductors)

    @invariant()
    def what_is_reserved_is_the_sum_of_what_is_open(self) -> None:
        held = [one for _, one in self.truth.every_held()]
        assert self.truth.whole.reserved == sum(one.amount for one in held)
        assert self.truth.whole.open == len(held)

    @invariant()
    def a_request_that_is_under_way_keeps_its_money(self) -> None:
        for id, request in self.requests.items():
            assert not request.made or request.ends or self.truth.held(id), f"{id} may spend what others may have"

    @invariant()
    def a_settlement_is_never_undone_by_one_that_knew_less(self) -> None:
        for id, request in self.requests.items():
            cost = self.truth.cost(id)
            assert not request.settled_to or (cost and cost.read_to >= request.settled_to)

    @invariant()
    def people_are_told_of_a_limit_at_most_once(self) -> None:
        told: set[tuple[str, int, int, int]] = set()
        for facts, _ in self.lane:
            for fact in facts:
                match fact:
                    case BudgetSet():
                        told = {mark for mark in told if mark[0] != fact.model}
                    case BudgetReached():
                        mark = (fact.model, fact.limit, fact.percent, fact.limit_pico_usd)
                        assert mark not in told
                        told.add(mark)

    def teardown(self) -> None:
        """Everybody dies, the open requests end, the leases run out: nothing is left, and every cost is counted once."""
        if not self.lane:
            return
        for n in (0, 1):
            self.die(n)
        for request in self.requests.values():
            if request.made and not request.ends:
                request.ends.append((request.reserved, 0, self.sequence + 1))
        self.clock += 2 * LEASE
        for _ in range(3):
            if self.timer:
                self.the_timer_fires(0, at_once=True)
        for id, request in self.requests.items():
            if request.ends:
                self._decide(0, [Settle(id, MODELS[id.split(".")[0]], *request.ends[-1])])
                self._append_at_last(0)
        self._decide(0, [Adopt()])
        self._append_at_last(0)
        assert {model: self.truth.account(model).hard for model in self.orders.by_model} == {
            model: order.hard for model, order in self.orders.by_model.items()
        }
        assert (self.truth.open, self.truth.whole.reserved, self.truth.whole.dearer) == (0, 0, 0)
        costs = {id: request.ends[-1][0] for id, request in self.requests.items() if request.made}
        assert self.truth.whole.spent == 3 + sum(costs.values())
        assert self.truth.account("gpt").spent == sum(
            cost for id, cost in costs.items() if MODELS[id.split(".")[0]] == "gpt"
        )


TestTwoConductorsRace = Racing.TestCase
TestTwoConductorsRace.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)


def under_way() -> Racing:
    story = Racing()
    story.a_budget_is_set(hard=40, gpt=None)
    story.reserve(0, at_once=True, wanted=[("t0", 10, 1)])
    return story


def test_a_sweep_that_comes_after_the_lease_was_extended_takes_nothing_from_a_request_under_way():
    story = under_way()

    story.time_passes(minutes=6)
    story.the_timer_fires(1, at_once=False)
    story.confirm(0, at_once=True, task="t0")
    story.make_the_request("t0")
    story.append(1)
    story.append(1)

    story.a_request_that_is_under_way_keeps_its_money()
    story.teardown()


def test_a_settlement_on_its_way_since_before_the_real_end_was_known_does_not_undo_it():
    story = under_way()

    story.make_the_request("t0")
    story.the_request_ends("t0", share=0, lost=True)
    story.settle(0, at_once=False, task="t0", old=True)
    story.the_request_ends("t0", share=30, lost=False)
    story.settle(1, at_once=True, task="t0", old=False)
    story.append(0)
    story.append(0)

    story.a_settlement_is_never_undone_by_one_that_knew_less()
    assert story.truth.whole.spent == 3 + 3
    story.teardown()


def test_who_gives_a_reservation_back_takes_nothing_from_another_who_makes_the_request():
    story = under_way()

    story.give_back(1, at_once=False, task="t0")
    story.confirm(0, at_once=True, task="t0")
    story.make_the_request("t0")
    story.append(1)
    story.append(1)

    story.a_request_that_is_under_way_keeps_its_money()
    story.teardown()
