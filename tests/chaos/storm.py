"""The storm itself: tasks in flight, services killed at points of the log and started again, an architect who approves.

It drives the factory as its users do and reads the log as the operator does; it never touches a service otherwise than
by killing and starting it.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from chaos.points import TARGETS, Point, points_at
from chaos.tasks import Given, given
from chaos.verdict import Ended
from conductor.budget_room import LANE_PREFIX
from eventlog import EventLog, Recorded, connect
from factory.project.v1 import Budget
from factory.review.v1 import ChangesRequested, HumanReviewRequested, TaskApproved
from factory.task.v1 import TaskHeld, TaskReleased
from factory_client import Factory, FactoryError
from stage import Providers
from stage_apart import Apart, Process, environment

# A process is left alone for so long after it is ready again; else nothing would ever get done.
LEFT_ALONE_S = {"nats-server": 4.0}
LEFT_ALONE_DEFAULT_S = 1.5
# An event that the driver sees later than this is no boundary any more.
FRESH_S = 1.0
# Two kills in three come at once, the third a little later: in the middle of what follows.
LATER_S_MAX = 0.3
# How often two die of the same event.
TWO_AT_ONCE = 0.5
# The operator takes a moment: whoever was killed when the task was held is there again.
OPERATOR_S = 5.0
AGAIN_S = 0.3
SUPERVISED_EVERY_S = 0.2
READY_TIMEOUT_S = 120.0
# Nothing at all has happened for so long: it will not settle.
STALLED_S = 150.0
# The tasks of repositories that are named directly.
ADHOC = "adhoc"
BUDGET_USD = Decimal(1_000)
# Longer than the leases of this storm, which `run.py` keeps short.
LEASES_END_S = 60.0
TOP_UP_BELOW, TOP_UP = 12, 6

Say = Callable[[str], None]


@dataclass(slots=True)
class Kill:
    """One kill -9, and what is known of it."""

    point: Point
    task_id: str
    # the last position of the log that the driver had seen
    sequence: int
    delay_s: float
    ready_after_s: float = 0.0


@dataclass(slots=True)
class Storm:
    """One run, as it stands."""

    house: Apart
    providers: Providers
    remotes: list[Path]
    chance: random.Random
    # how often each point is still to be hit
    wanted: Counter[Point]
    tasks_max: int
    say: Say
    events: list[Recorded] = field(default_factory=list)
    tasks: dict[str, Given] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    kills: list[Kill] = field(default_factory=list)
    # processes that ended by themselves: (name, exit code)
    fell: list[tuple[str, int]] = field(default_factory=list)
    since: dict[str, float] = field(default_factory=dict)
    # the last position at which a person's answer to a task stands
    answered: dict[str, int] = field(default_factory=dict)
    heard_at: float = 0.0
    # how it stands at the end
    budget: Budget | None = None
    running: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def processes(self) -> Mapping[str, Process]:
        return {**self.house.processes, "nats-server": self.house.nats}

    @property
    def last_sequence(self) -> int:
        return self.events[-1].sequence if self.events else 0

    async def run(self, tasks: int) -> None:
        """Until every task has ended, and every point was hit or the tasks are spent."""
        self.since = dict.fromkeys(self.processes, time.monotonic())
        self.heard_at = time.monotonic()
        operator = environment(self.house.credentials, "operator")
        nc = await connect(
            self.house.nats.url, name="operator", user="operator", password=operator["FACTORY_NATS_PASSWORD"]
        )
        async with self.house.factory() as factory:
            try:
                # So that every request has to reserve before it is made; nothing is ever refused.
                await factory.set_budget(ADHOC, hard_usd=BUDGET_USD)
                self._spawn(self._follow(EventLog(nc, org="main", service="operator"), factory))
                self._spawn(self._supervise())
                self._submit(factory, tasks)
                await self._settled(factory)
                self.budget = await self._nothing_reserved(factory)
            finally:
                for task in self.running:
                    task.cancel()
                await asyncio.gather(*self.running, return_exceptions=True)
                await nc.close()

    async def _settled(self, factory: Factory) -> None:
        while len(self.ended) < len(self.tasks) or (self.wanted and len(self.tasks) < self.tasks_max):
            for task in [task for task in self.running if task.done()]:
                self.running.discard(task)
                task.result()
            in_flight = len(self.tasks) - len(self.ended)
            if in_flight < TOP_UP_BELOW and self.wanted and len(self.tasks) < self.tasks_max:
                self._submit(factory, min(TOP_UP, self.tasks_max - len(self.tasks)))
            if time.monotonic() - self.heard_at > STALLED_S:
                self.say(f"nothing has happened for {STALLED_S:.0f} s: given up")
                break
            await asyncio.sleep(AGAIN_S)
        self.wanted.clear()
        async with asyncio.timeout(READY_TIMEOUT_S):
            while len(self.since) < len(self.processes):
                await asyncio.sleep(AGAIN_S)

    async def _nothing_reserved(self, factory: Factory) -> Budget:
        """The budget once every lease has ended; what is reserved even then has leaked."""
        deadline = time.monotonic() + LEASES_END_S
        while True:
            with contextlib.suppress(FactoryError):
                budget = (await factory.budget(ADHOC)).budgets[0]
                if not budget.open_reservations or time.monotonic() > deadline:
                    return budget
            await asyncio.sleep(AGAIN_S)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.running.add(asyncio.create_task(work))

    # what the users do

    def _submit(self, factory: Factory, count: int) -> None:
        for _ in range(count):
            one = given(len(self.tasks), self.chance)
            for wish in one.wishes:
                self.providers.misbehave(**wish)
            self.tasks[one.task_id] = one
            self._spawn(self._hand_in(factory, one))

    async def _hand_in(self, factory: Factory, one: Given) -> None:
        repository = self.remotes[one.number % len(self.remotes)]

        async def hand_in() -> None:
            await factory.submit(one.title, repository=str(repository), key=one.key)

        await self._insist(hand_in, lambda: any(recorded.event.id == one.task_id for recorded in self.events))

    async def _insist(self, act: Callable[[], Coroutine[Any, Any, None]], done: Callable[[], bool]) -> None:
        """As a user would: again, until it was done, by this try or an earlier one whose answer was lost."""
        while not done():
            with contextlib.suppress(FactoryError):
                await act()
                return
            await asyncio.sleep(AGAIN_S)

    def _answer(self, factory: Factory, recorded: Recorded) -> None:
        """The architect and the operator: whoever is asked something answers it."""
        task_id, sequence = recorded.event.id, recorded.sequence
        for fact in recorded.facts:
            match fact:
                case HumanReviewRequested():
                    self._spawn(self._review(factory, task_id, sequence))
                case TaskHeld():
                    self._spawn(self._release(factory, task_id, sequence))
                case TaskApproved() | ChangesRequested() | TaskReleased():
                    self.answered[task_id] = sequence

    async def _review(self, factory: Factory, task_id: str, sequence: int) -> None:
        asks_for_changes = self.tasks[task_id].changes_wanted and not any(
            isinstance(fact, ChangesRequested)
            for recorded in self.events
            if recorded.event.id == task_id
            for fact in recorded.facts
        )

        async def decide() -> None:
            shown = await factory.get_change(task_id)
            say = factory.request_changes if asks_for_changes else factory.approve
            await say(task_id, shown.change_digest, shown.evidence_digest, "Shorter, please.")

        await self._insist(decide, self._is_past(task_id, sequence))

    async def _release(self, factory: Factory, task_id: str, sequence: int) -> None:
        await asyncio.sleep(OPERATOR_S)
        await self._insist(lambda: factory.release(task_id, "go on"), self._is_past(task_id, sequence))

    def _is_past(self, task_id: str, sequence: int) -> Callable[[], bool]:
        return lambda: self.answered.get(task_id, 0) > sequence or task_id in self.ended

    # what the storm does

    async def _follow(self, log: EventLog, factory: Factory) -> None:
        async for batch in log.follow(after=0):
            for recorded in batch:
                self.heard_at = time.monotonic()
                self.events.append(recorded)
                if recorded.event.id.startswith(LANE_PREFIX):
                    self._strike(recorded)
                if recorded.event.id not in self.tasks:
                    continue
                if any(isinstance(fact, Ended) for fact in recorded.facts):
                    self.ended.add(recorded.event.id)
                self._answer(factory, recorded)
                self._strike(recorded)

    def _strike(self, recorded: Recorded) -> None:
        """Kills one or two of those for whom this event is a point that is still wanted."""
        age_s = datetime.now(UTC).timestamp() - recorded.event.occurred_at.ToNanoseconds() / 1e9
        due = [point for point in points_at(recorded.event) if self.wanted[point] and self._is_up(point.target)]
        if age_s > FRESH_S or not due:
            return
        # Whoever has most before them goes first, or they would never be through.
        left = Counter(point.target for point in self.wanted.elements())
        due.sort(key=lambda point: (left[point.target], self.chance.random()), reverse=True)
        first, second = due[0], next((point for point in due if not _overlap(point, due[0])), None)
        self._take_down(first, recorded)
        if second is not None and self.chance.random() < TWO_AT_ONCE:
            self._take_down(second, recorded)

    def _take_down(self, point: Point, recorded: Recorded) -> None:
        self.wanted -= Counter([point])
        delay_s = self.chance.choice((0.0, 0.0, self.chance.random() * LATER_S_MAX))
        kill = Kill(point, recorded.event.id, recorded.sequence, delay_s)
        for name in TARGETS[point.target]:
            del self.since[name]
        self._spawn(self._kill(kill))

    def _is_up(self, target: str) -> bool:
        at_least = LEFT_ALONE_S.get(target, LEFT_ALONE_DEFAULT_S)
        now = time.monotonic()
        return all(now - self.since.get(name, now) >= at_least for name in TARGETS[target])

    async def _kill(self, kill: Kill) -> None:
        names = TARGETS[kill.point.target]
        if kill.delay_s:
            await asyncio.sleep(kill.delay_s)
        began = time.monotonic()
        for name in names:
            self.processes[name].child.kill()
        kill.sequence = max(kill.sequence, self.last_sequence)
        self.kills.append(kill)
        number = len(self.kills)
        for name in names:
            await asyncio.to_thread(self.processes[name].child.wait)
            self.processes[name].start()
        for name in names:
            await self._ready_again(name)
        kill.ready_after_s = time.monotonic() - began
        done, left = len(self.ended), self.wanted.total()
        self.say(f"kill {number}: {kill.point.target} at {kill.point.kind}; {done} tasks ended, {left} to come")

    async def _ready_again(self, name: str) -> None:
        process = self.processes[name]
        async with asyncio.timeout(READY_TIMEOUT_S):
            while not await asyncio.to_thread(process.is_ready):
                if process.child.poll() is not None:
                    self.fell.append((name, process.child.returncode))
                    process.start()
                await asyncio.sleep(SUPERVISED_EVERY_S)
        self.since[name] = time.monotonic()

    async def _supervise(self) -> None:
        """Starts again whoever has ended without having been killed."""
        while True:
            for name, process in self.processes.items():
                if name in self.since and process.child.poll() is not None:
                    self.fell.append((name, process.child.returncode))
                    del self.since[name]
                    process.start()
                    self._spawn(self._ready_again(name))
            await asyncio.sleep(SUPERVISED_EVERY_S)


def _overlap(one: Point, other: Point) -> bool:
    return bool(set(TARGETS[one.target]) & set(TARGETS[other.target]))
