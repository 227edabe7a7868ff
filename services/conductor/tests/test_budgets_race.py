"""Budgets on a real log: two conductors, sixty-four tasks at once, one of them dying in the middle."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from conductor.adapters.budgets import LEASE, Budgets
from conductor.budget import NoRoom, Reserved
from conductor.budget_month import Carried, Month
from conductor.budget_room import Awaiting, Ended, NeverMade, Outcome, Standing, month_of, reservation_id
from eventlog import Client, EventLog, Tip
from eventlog.past import Recorded
from factory.budget.v1 import BudgetReserved, BudgetSet
from factory.project.v1 import ProjectCreated, SetBudgetRequest

pytestmark = pytest.mark.slow  # real servers: left to `just test`

TASKS = 64
MONTH = month_of(datetime.now(UTC))
LANE = f"budget-shop-{MONTH}"
REQUEST = "implement-1-1"


@dataclass
class World:
    """What the rest of the conductor knows: which requests were made, and what they came to."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    spent_before: Carried = field(default_factory=lambda: Carried({}, 0))
    asked_what_was_spent: int = 0

    async def lookup(self, task_id: str, request_id: str, model: str) -> Outcome:
        return self.outcomes.get(reservation_id(task_id, request_id, model), NeverMade())

    async def spent_so_far(self, project: str, month: str) -> Carried:
        self.asked_what_was_spent += 1
        return self.spent_before


def budgets(nc: Client, world: World, lease: timedelta = LEASE, sweep_pause: timedelta = LEASE) -> Budgets:
    log = EventLog(nc, org="main", service="conductor")
    return Budgets(log, nc, world.lookup, world.spent_so_far, lease=lease, sweep_pause=sweep_pause)


def limits(hard: int | None, soft: int | None = None, model: str = "") -> SetBudgetRequest:
    return SetBudgetRequest(project="shop", model=model, hard_pico_usd=hard, soft_pico_usd=soft)


async def lane(nc: Client) -> tuple[Recorded, ...]:
    return (await EventLog(nc, org="main", service="conductor").read(LANE)).events


async def folded(nc: Client) -> Month:
    """The month as the log has it; the limit holds after each of its events."""
    month = Month("shop", MONTH)
    for recorded in await lane(nc):
        month.evolve(recorded.facts, recorded.event.read_to)
        for account in month.accounts.values():
            assert account.hard is None or account.drawn <= account.hard
    return month


@asynccontextmanager
async def hearing(nc: Client, *heard: Budgets) -> AsyncIterator[None]:
    """The watcher: every event of the log, in order, and timers of leases to the last of them."""
    log = EventLog(nc, org="main", service="conductor")

    async def watch() -> None:
        async for batch in log.follow(after=0):
            for recorded in batch:
                for one in heard:
                    one.observe(recorded)

    async def timers() -> None:
        fired = await nc.jetstream().pull_subscribe_bind("conductor", "TIMERS")
        while True:
            try:
                messages = await fired.fetch(1, timeout=1)
            except TimeoutError:
                continue
            for message in messages:
                await heard[-1].lease_timer(message.subject.split(".")[-2])
                await message.ack()

    tasks = [asyncio.create_task(watch()), asyncio.create_task(timers())]
    try:
        yield
    finally:
        for task in tasks:
            while not task.done():  # Python 3.11's `wait_for` may swallow a cancellation
                task.cancel()
                await asyncio.wait([task], timeout=0.1)


async def until(what: Callable[[], Awaitable[bool]], timeout_s: float = 30) -> None:
    async with asyncio.timeout(timeout_s):
        while not await what():
            await asyncio.sleep(0.1)


async def test_a_project_without_a_budget_has_no_lane_and_no_reservations(nc: Client) -> None:
    one = budgets(nc, World())

    assert await one.standings("shop", MONTH) == ()
    assert one.known_standings("shop", MONTH) == ()
    assert await one.reserve("shop", MONTH, "t1", REQUEST, "gpt", 10, 3) == Reserved("", 0, 3)
    assert await lane(nc) == ()


async def test_a_first_budget_counts_what_the_month_has_spent_already(nc: Client) -> None:
    world = World(spent_before=Carried({"gpt": 30, "claude": 20}, 7))
    one = budgets(nc, world)

    await one.set(limits(40, model="gpt"), "olga")
    whole = await one.set(limits(100, 90), "olga")
    again = await one.set(limits(100, 90), "olga")
    month = await folded(nc)

    assert whole == again == Standing(f"shop-{MONTH}", "", 100, 90, spent=50)
    assert await one.reserve("shop", MONTH, "t1", REQUEST, "gpt", 11, 1) == NoRoom(f"shop-{MONTH}/gpt", 10, 11)
    assert (world.asked_what_was_spent, month.carried_read_to, len(await lane(nc))) == (1, 7, 2)
    assert [await one.draws_on("shop", MONTH, at) for at in (7, 8)] == ["", LANE]


async def test_a_budget_is_shared_with_whoever_else_writes_to_the_project(nc: Client) -> None:
    log = EventLog(nc, org="main", service="conductor")
    created = await log.append("project-shop", [ProjectCreated(project="shop")], after=Tip())
    one, other = budgets(nc, World()), budgets(nc, World())

    await one.set(limits(100), "olga")
    await other.set(limits(50, model="gpt"), "otto")
    past = await log.read("project-shop")

    assert past.events[0] == created
    assert [(fact.model, fact.set_by) for fact in past.facts() if isinstance(fact, BudgetSet)] == [
        ("", "olga"),
        ("gpt", "otto"),
    ]
    assert [standing.hard for standing in await other.get("shop", MONTH)] == [100, 50]


async def test_who_sets_a_budget_and_dies_leaves_the_rest_to_whoever_reserves_next(nc: Client) -> None:
    one, other = budgets(nc, World()), budgets(nc, World())
    await one.set(limits(100), "olga")
    await one._project("shop").set(limits(10), "olga")  # ... and dies before this month has heard of it

    await other.get("shop", MONTH)
    refused = await other.reserve("shop", MONTH, "t1", REQUEST, "gpt", 11, 1)

    assert refused == NoRoom(f"shop-{MONTH}", 10, 11)
    assert (await folded(nc)).whole.hard == 10
    assert await other.reserve("shop", MONTH, "t1", REQUEST, "gpt", 10, 1) == Reserved(LANE, 10, 1)


async def one_task(n: int, conductors: tuple[Budgets, Budgets], world: World, chance: random.Random) -> int:
    """Reserves, works, settles; each step may be done twice, and by either conductor. Answers what it cost."""
    task, first, second = f"t{n}", chance.choice(conductors), chance.choice(conductors)
    model = chance.choice(["gpt", "claude"])
    answers = await asyncio.gather(
        first.reserve("shop", MONTH, task, REQUEST, model, 10, 3),
        second.reserve("shop", MONTH, task, REQUEST, model, 10, 3),
    )
    got = [answer for answer in answers if isinstance(answer, Reserved)]
    if not got:
        return 0
    reserved = min(got, key=lambda answer: answer.calls_max)
    world.outcomes[reservation_id(task, REQUEST, model)] = Awaiting()
    await asyncio.sleep(chance.uniform(0, 0.05))
    cost = 10 * chance.randint(1, reserved.calls_max)
    world.outcomes[reservation_id(task, REQUEST, model)] = Ended(cost)
    await asyncio.gather(
        *(one.settle(LANE, reservation_id(task, REQUEST, model), model, cost, 0) for one in (first, second))
    )
    return cost


@pytest.mark.parametrize("seed", range(3))
async def test_sixty_four_tasks_under_two_conductors_never_exceed_the_limit(nc: Client, seed: int) -> None:
    world, chance = World(), random.Random(seed)
    conductors = budgets(nc, world), budgets(nc, world)
    await conductors[0].set(limits(600), "olga")
    await conductors[0].set(limits(150, model="gpt"), "olga")
    await conductors[1].get("shop", MONTH)

    async with hearing(nc, *conductors):
        costs = await asyncio.gather(*(one_task(n, conductors, world, chance) for n in range(TASKS)))
    month = await folded(nc)

    assert 0 < sum(cost > 0 for cost in costs) < TASKS
    assert month.whole.spent == sum(costs)
    assert (month.open, month.whole.reserved, month.whole.dearer) == (0, 0, 0)


async def test_a_conductor_that_dies_in_the_middle_leaks_nothing(nc: Client) -> None:
    world = World()
    lease, pause = timedelta(seconds=2), timedelta(seconds=0.5)
    dying, living = budgets(nc, world, lease, pause), budgets(nc, world, lease, pause)
    await dying.set(limits(640), "olga")
    answers = await asyncio.gather(
        *(dying.reserve("shop", MONTH, f"t{n}", REQUEST, "gpt", 10, 1) for n in range(TASKS))
    )
    assert all(isinstance(answer, Reserved) for answer in answers)
    for n in range(0, TASKS, 2):
        world.outcomes[reservation_id(f"t{n}", REQUEST, "gpt")] = Ended(4, uncertain=4 if n % 4 else 0)
    world.outcomes[reservation_id("t0", REQUEST, "gpt")] = Awaiting()
    full = await living.reserve("shop", MONTH, "late", REQUEST, "gpt", 10, 1)

    async def only_the_one_under_way() -> bool:
        return (await folded(nc)).open == 1

    async with hearing(nc, living):
        await until(only_the_one_under_way)
        world.outcomes[reservation_id("t0", REQUEST, "gpt")] = Ended(9)
        room_again = await living.reserve("shop", MONTH, "late", REQUEST, "gpt", 10, 1)
        await living.release(LANE, reservation_id("late", REQUEST, "gpt"), "the task was cancelled")

        async def nothing() -> bool:
            return not (await folded(nc)).open

        await until(nothing)
    month = await folded(nc)

    assert full == NoRoom(f"shop-{MONTH}", 0, 10)
    assert room_again == Reserved(LANE, 10, 1)
    assert (month.whole.spent, month.whole.uncertain, month.whole.reserved) == (31 * 4 + 9, 16 * 4, 0)


async def test_a_reservation_given_back_while_its_conductor_stood_still_is_not_confirmed(nc: Client) -> None:
    lease = timedelta(seconds=0.3)
    one = budgets(nc, World(), lease=lease)
    other = budgets(nc, World(outcomes={reservation_id("t2", REQUEST, "gpt"): Awaiting()}), lease=lease)
    await one.set(limits(100), "olga")
    await one.reserve("shop", MONTH, "t1", REQUEST, "gpt", 10, 1)
    await one.reserve("shop", MONTH, "t2", REQUEST, "gpt", 10, 1)
    assert await one.confirm(LANE, reservation_id("t1", REQUEST, "gpt"), 1)

    await asyncio.sleep(0.4)
    await other.lease_timer(LANE)
    request = (await lane(nc))[-1].sequence + 1

    assert not await one.confirm(LANE, reservation_id("t1", REQUEST, "gpt"), request)
    assert await one.confirm(LANE, reservation_id("t2", REQUEST, "gpt"), request)


async def test_who_gives_back_a_reservation_that_another_has_used_gives_nothing_back(nc: Client) -> None:
    world = World()
    one, other = budgets(nc, world), budgets(nc, world)
    await one.set(limits(100), "olga")
    for conductor in (one, other):
        await conductor.reserve("shop", MONTH, "t1", REQUEST, "gpt", 10, 1)
    await one.reserve("shop", MONTH, "t2", REQUEST, "gpt", 20, 1)
    world.outcomes[reservation_id("t1", REQUEST, "gpt")] = Awaiting()

    await other.release(LANE, reservation_id("t1", REQUEST, "gpt"), "the request was not made after all")
    await other.release(LANE, reservation_id("t2", REQUEST, "gpt"), "the request was not made after all")

    assert (await folded(nc)).whole.reserved == 10
    assert await one.confirm(LANE, reservation_id("t1", REQUEST, "gpt"), 1)
    assert not await one.confirm(LANE, reservation_id("t2", REQUEST, "gpt"), (await lane(nc))[-1].sequence)


async def test_what_was_never_observed_is_read_and_counted_once(nc: Client) -> None:
    world = World()
    one = budgets(nc, world)
    await one.set(limits(100), "olga")
    await one.reserve("shop", MONTH, "t1", REQUEST, "gpt", 10, 1)
    late = budgets(nc, world)
    assert late.known_standings("shop", MONTH) is None

    standings = await late.standings("shop", MONTH)
    for recorded in (await EventLog(nc, org="main", service="conductor").read("project-shop")).events + await lane(nc):
        late.observe(recorded)

    assert (
        standings
        == late.known_standings("shop", MONTH)
        == (Standing(f"shop-{MONTH}", "", 100, None, reserved=10, open=1),)
    )


async def test_sixty_four_admissions_at_once_are_a_few_appends(nc: Client) -> None:
    one = budgets(nc, World())
    await one.set(limits(10_000), "olga")

    await asyncio.gather(*(one.reserve("shop", MONTH, f"t{n}", REQUEST, "gpt", 10, 3) for n in range(TASKS)))
    events = (await lane(nc))[1:]

    assert sum(isinstance(fact, BudgetReserved) for recorded in events for fact in recorded.facts) == TASKS
    assert len(events) <= 4
