"""The edge of budgets over a log that refuses, stores without answering, and lets others in first."""

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from conductor.adapters.budgets import LEASE, Budgets
from conductor.budget import Reserved
from conductor.budget_month import Carried, Month
from conductor.budget_room import Awaiting, Ended, NeverMade, Outcome, reservation_id
from eventlog import Client, Conflict, EventLog, LogUnavailable, Past, Recorded, Tip
from factory.event.v1 import AnyFact, Event
from factory.project.v1 import SetBudgetRequest
from hypothesis import given, settings
from hypothesis import strategies as st

MONTH, LANE, REQUEST = "202611", "budget-shop-202611", "implement-1-1"
TASKS = 12
TRIES_MAX = 50


class Lane(EventLog):
    """A log of the conductor's lanes in memory, that fails as chance has it: before it has stored an event, or after."""

    def __init__(self, chance: random.Random, failing: float) -> None:
        self.org, self.service = "main", "conductor"
        self.moment = datetime(2026, 11, 23, tzinfo=UTC)
        self._now = lambda: self.moment
        self.stored: list[Recorded] = []
        self.chance, self.failing = chance, failing

    def of(self, id: str) -> list[Recorded]:
        return [recorded for recorded in self.stored if recorded.event.id == id]

    async def _others_first(self) -> None:
        for _ in range(self.chance.randint(0, 3)):
            await asyncio.sleep(0)

    async def append(
        self,
        id: str,
        facts: Any,
        *,
        after: Tip,
        cause: Event | None = None,
        read_to: int = 0,
        at: datetime | None = None,
    ) -> Recorded:
        await self._others_first()
        if self.chance.random() < self.failing:
            raise LogUnavailable("before it was stored")
        last = self.of(id)
        if (last[-1].sequence if last else 0) != after.sequence:
            raise Conflict(id)
        event = self._event(id, cast("list[AnyFact]", facts), after, cause, read_to, at or self.moment)
        recorded = Recorded(event, len(self.stored) + 1, event.SerializeToString(deterministic=True))
        self.stored.append(recorded)
        await self._others_first()
        if self.chance.random() < self.failing:
            raise LogUnavailable("after it was stored")
        return recorded

    async def read(
        self, id: str, *, at_least: int = 0, known: Past | None = None, first: int = 0, places: Sequence[int] = ()
    ) -> Past:
        await self._others_first()
        past = known or Past()
        return past + tuple(recorded for recorded in self.of(id) if recorded.sequence > past.read_to)

    async def last_own(self, id: str) -> int:
        await self._others_first()
        last = self.of(id)
        return last[-1].sequence if last else 0


class Timers:
    """As much of a connection as setting a timer takes."""

    def __init__(self) -> None:
        self.fires_at: datetime | None = None

    def jetstream(self) -> "Timers":
        return self

    async def publish(self, subject: str, data: bytes, *, headers: dict[str, str], timeout: float) -> None:
        assert subject == f"factory.timer.sched.main.{LANE}.lease"
        self.fires_at = datetime.fromisoformat(headers["Nats-Schedule"].removeprefix("@at "))


class Story:
    """Some tasks, two conductors, and what really became of every request."""

    def __init__(self, seed: int, failing: float) -> None:
        self.chance = random.Random(seed)
        self.log, self.timers = Lane(self.chance, failing), Timers()
        self.outcomes: dict[str, Outcome] = {}
        self.budget_set = 0
        self.conductors = [self.conductor(), self.conductor()]

    def conductor(self) -> Budgets:
        nc = cast("Client", self.timers)
        return Budgets(self.log, nc, self.lookup, self.spent_so_far, now=lambda: self.log.moment)

    async def lookup(self, task_id: str, request_id: str, model: str) -> Outcome:
        return self.outcomes.get(reservation_id(task_id, request_id, model), NeverMade())

    async def spent_so_far(self, project: str, month: str) -> Carried:
        return Carried({"gpt": 5}, 1)

    async def at_last(self, what: Any) -> Any:
        """Does it again, by whichever conductor, as a redelivered message would; each failed one may have died."""
        for _ in range(TRIES_MAX):
            n = self.chance.randint(0, 1)
            self.watch(self.conductors[n])
            try:
                return await what(self.conductors[n])
            except LogUnavailable:
                if self.chance.random() < 0.3:
                    self.conductors[n] = self.conductor()
        raise AssertionError(f"not in {TRIES_MAX} tries")

    def watch(self, one: Budgets) -> None:
        """It hears of every event, in order; of the newest ones sometimes late, and of old ones again."""
        heard = len(self.log.stored) - self.chance.choice([0, 0, 0, 1, 3])
        for recorded in self.log.stored[: max(heard, self.budget_set)]:
            one.observe(recorded)

    async def task(self, n: int) -> None:
        model = self.chance.choice(["gpt", "claude"])
        id = reservation_id(f"t{n}", REQUEST, model)
        answer = await self.at_last(lambda one: one.reserve("shop", MONTH, f"t{n}", REQUEST, model, 10, 3))
        if not isinstance(answer, Reserved) or self.chance.random() < 0.2:
            return  # no room, or its conductor dies before it makes the request
        self.outcomes[id] = Awaiting()
        if self.chance.random() < 0.5:
            lost = 10 * answer.calls_max
            await self.at_last(lambda one: one.settle(LANE, id, model, lost, lost, read_to=5))
        cost = self.chance.randint(0, 10 * answer.calls_max)
        self.outcomes[id] = Ended(cost, 0, read_to=9)
        if self.chance.random() < 0.6:
            await self.at_last(lambda one: one.settle(LANE, id, model, cost, 0, read_to=9))

    async def told(self) -> Month:
        request = SetBudgetRequest(project="shop", hard_pico_usd=150)
        await self.at_last(lambda one: one.set(request, "olga"))
        self.budget_set = len(self.log.stored)
        await asyncio.gather(*(self.task(n) for n in range(TASKS)))
        return self.folded()

    async def swept(self) -> Month:
        """Time passes until every timer has fired; nothing else happens."""
        for _ in range(TRIES_MAX):
            if self.timers.fires_at is None:
                break
            self.log.moment = max(self.log.moment, self.timers.fires_at)
            self.timers.fires_at = None
            await self.at_last(lambda one: one.lease_timer(LANE))
        return self.folded()

    def folded(self) -> Month:
        month = Month("shop", MONTH)
        for version, recorded in enumerate(self.log.of(LANE), start=1):
            before = month.whole.drawn
            month.evolve(recorded.facts, recorded.event.read_to)
            assert recorded.event.version == version
            assert month.whole.drawn <= max(month.whole.hard or 0, before)
        return month


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.4]))
def test_whatever_the_log_does_nothing_is_counted_twice_and_nothing_leaks(seed, failing):
    story = Story(seed, failing)

    async def whole() -> Month:
        await story.told()
        return await story.swept()

    month = asyncio.run(whole())

    ended = {id: outcome.cost for id, outcome in story.outcomes.items() if isinstance(outcome, Ended)}
    late = {id: cost.amount for id in ended if (cost := month.cost(id)) and cost.read_to == 5}
    assert (month.open, month.whole.reserved, month.whole.dearer) == (0, 0, 0)
    assert month.whole.spent == 5 + sum(ended.values()) + sum(late[id] - ended[id] for id in late)


def test_the_timer_is_set_before_anything_is_reserved():
    story = Story(1, failing=0.0)

    async def dies_at_the_append() -> None:
        await story.conductors[0].set(SetBudgetRequest(project="shop", hard_pico_usd=100), "olga")
        story.log.failing = 1.0
        await asyncio.gather(
            story.conductors[0].reserve("shop", MONTH, "t1", REQUEST, "gpt", 10, 1), return_exceptions=True
        )

    asyncio.run(dies_at_the_append())

    assert story.folded().open == 0
    assert story.timers.fires_at == story.log.moment + LEASE


def test_timers_that_were_lost_are_set_again_by_whoever_starts():
    story = Story(1, failing=0.0)

    async def loses_its_timer() -> None:
        await story.conductors[0].set(SetBudgetRequest(project="shop", hard_pico_usd=100), "olga")
        await story.conductors[0].reserve("shop", MONTH, "t1", REQUEST, "gpt", 10, 1)
        story.timers.fires_at = None
        for recorded in story.log.stored:
            story.conductors[1].observe(recorded)
        await story.conductors[1].watch_again()

    asyncio.run(loses_its_timer())

    assert story.timers.fires_at == story.log.moment + LEASE


def test_a_lookup_that_fails_keeps_its_money_and_keeps_nobody_waiting():
    story = Story(1, failing=0.0)

    async def lookup(task_id: str, request_id: str, model: str) -> Outcome:
        if task_id == "t1":
            raise LogUnavailable("cannot tell")
        return NeverMade()

    async def sweeps() -> Month:
        one = Budgets(story.log, cast("Client", story.timers), lookup, story.spent_so_far, now=lambda: story.log.moment)
        await one.set(SetBudgetRequest(project="shop", hard_pico_usd=100), "olga")
        for task in ("t1", "t2"):
            await one.reserve("shop", MONTH, task, REQUEST, "gpt", 10, 1)
        story.log.moment += LEASE
        await one.lease_timer(LANE)
        return story.folded()

    month = asyncio.run(sweeps())

    assert [id for id, _ in month.every_held()] == [reservation_id("t1", REQUEST, "gpt")]
    assert story.timers.fires_at == story.log.moment + timedelta(seconds=5)
