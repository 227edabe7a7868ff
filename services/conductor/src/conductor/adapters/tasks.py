"""Tasks as this conductor knows them: folded once, then carried on with whatever the watcher reads.

Several conductors may decide about one task at once; optimistic concurrency lets one of them win, and the others fold
again. Deciding twice is harmless.
"""

import asyncio
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from weakref import WeakValueDictionary

import structlog
from eventlog import Conflict, EventLog, Recorded, Stale, Tip
from factory.event.v1 import AnyFact, Event
from factory.phase.v1 import PhaseRequested
from factory.task.v1 import RequestExpired
from policy.health import probe
from policy.preferences import BALANCED

from conductor.adapters.budgets import Budgets
from conductor.adapters.progress import Progress
from conductor.book import Book
from conductor.budget import Reserved
from conductor.budget_room import Awaiting, Ended, NeverMade, lane_id, month_of, project_and_month, reservation_id
from conductor.known import Known
from conductor.next_step import decide, waits
from conductor.rules import Rules
from conductor.world import World

log = structlog.get_logger()

TASKS_KEPT_MAX = 2_000
# The consumer brings an event soon after it was read: more than may be in hand at once.
RECENT_MAX = 1_024
ATTEMPTS_MAX = 12
# How often money may be ahead of what was read of the log, while a decision is prepared.
READINGS_MAX = 100


@dataclass(frozen=True, slots=True)
class Decided:
    """A task, and the stream sequence of what was said about it; of its last event where nothing was."""

    known: Known
    sequence: int


class Tasks:
    """Reads, folds and decides."""

    def __init__(self, events: EventLog, book: Book, rules: Rules, budgets: Budgets, progress: Progress) -> None:
        self._log = events
        self._budgets = budgets
        self._progress = progress
        self._kept: OrderedDict[str, Known] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        # what this conductor has said of a task and may not have read yet
        self._said: dict[str, int] = {}
        # the last events of all, each at its sequence modulo RECENT_MAX
        self._recent: list[Recorded | None] = [None] * RECENT_MAX
        self.book = book
        self.rules = rules

    def observe(self, recorded: Recorded) -> None:
        """Takes the next event of the log in."""
        self._recent[recorded.sequence % RECENT_MAX] = recorded
        if (known := self._kept.get(recorded.event.id)) is not None:
            known.learn(recorded)

    async def reach(self, sequence: int) -> None:
        """Waits until this conductor has read the log so far."""
        await self._progress.reach(sequence)

    def recent(self, sequence: int) -> Recorded | None:
        """The event at this place as it was read; None where it was not lately, or could not be read."""
        recorded = self._recent[sequence % RECENT_MAX]
        return recorded if recorded and recorded.sequence == sequence and recorded.event.event_id else None

    def places(self, asked: Recorded) -> Sequence[int]:
        """Where the events of a task stand in the log, up to this one; nothing for a task that is not kept."""
        known = self._kept.get(asked.event.id)
        return known.places[: bisect_right(known.places, asked.sequence)] if known else ()

    def open_tasks_max(self, project: str) -> int:
        """How many tasks of a project may be open at once."""
        return self.book.preferences.get(project, BALANCED).max_open_tasks or self.rules.open_tasks_max

    async def known(self, task_id: str, *, at_least: int = 0) -> Known:
        """The task as the log has it, including the event at `at_least`."""
        await self._progress.reach(max(at_least, self._said.get(task_id, 0)))
        known = self._kept.get(task_id) or await self._read(task_id, at_least)
        self._kept.move_to_end(task_id)
        return known

    async def fresh(self, task_id: str) -> Known:
        """The task with everything that any conductor has decided: commands must not be judged by a stale replica."""
        return await self.known(task_id, at_least=await self._log.last_own(task_id))

    async def advance(self, task_id: str, *, at_least: int, cause: Event | None) -> Decided:
        """Decides what follows for a task, if anything does."""
        known = await self.known(task_id, at_least=at_least)
        if waits(known.task, datetime.now(UTC)):
            return Decided(known, known.read_to)
        return await self._decide(task_id, lambda known, world: decide(known.task, world), at_least, cause)

    async def command(self, task_id: str, judge: Callable[[Known], Sequence[AnyFact]]) -> Decided:
        """Judges a command against the newest state and appends what it gives; `judge` may refuse by raising."""
        at_least = await self._log.last_own(task_id)
        return await self._decide(task_id, lambda known, _: judge(known), at_least, None)

    async def world(self, task_id: str, known: Known, *, entering: int = 0) -> World:
        """What deciding about a task needs, as far as this conductor has read."""
        now = datetime.now(UTC)
        project, month = known.task.project, month_of(now)
        if project:
            await self._reach_money(project, month)
        standings = (self._budgets.known_standings(project, month) if project else None) or ()
        lane = lane_id(project, month) if standings else ""

        def reserved(request_id: str, model: str) -> int:
            return self._budgets.held(lane, reservation_id(task_id, request_id, model)) if lane else 0

        return self.book.world(
            task_id, known, self.rules, now, lane=lane, budgets=standings, reserved=reserved, entering=entering
        )

    async def _reach_money(self, project: str, month: str) -> None:
        """Reads the log as far as the budgets of a project are known: a decision names the position it was made at.

        What we say of money is known before it is read back, and while we read, other tasks have more said.
        """
        await self._budgets.standings(project, month)
        for _ in range(READINGS_MAX):
            known_to = self._budgets.position(project, month)
            if known_to <= self._progress.sequence:
                return
            await self._progress.reach(known_to)
        raise Stale(f"the budgets of {project!r} were ahead of the log {READINGS_MAX} times as it was read")

    async def settle(self, task_id: str, known: Known, request_ids: set[str]) -> None:
        """Books what requests have cost that drew on a budget and have their result; said again, it changes nothing."""
        for request_id in sorted(request_ids & known.answered & known.requested.keys()):
            sequence, model = known.requested[request_id]
            draw = known.draws.get(request_id)
            reservation, read_to = reservation_id(task_id, request_id, model), known.read_to
            lane = draw.lane if draw else await self._drawn_on_later(known.task.project, sequence, reservation)
            if lane:
                amount, uncertain = self._cost(known, request_id)
                await self._budgets.settle(lane, reservation, model, amount, uncertain, read_to=read_to)

    async def confirmed(self, task_id: str, known: Known, request: PhaseRequested) -> bool:
        """Whether what a request needs is still reserved; where it is not, whether it could be reserved again."""
        sequence, model = known.requested[request.request_id]
        if await self._budgets.confirm(request.budget, reservation_id(task_id, request.request_id, model), sequence):
            return True
        project, month = project_and_month(request.budget)
        answer = await self._budgets.reserve(
            project, month, task_id, request.request_id, model, request.worst_case_pico_usd, request.calls_max
        )
        return isinstance(answer, Reserved) and answer.calls_max == request.calls_max

    async def withdraw(self, task_id: str, request_id: str) -> None:
        """Makes a request void that nobody may answer any more."""

        def judge(known: Known) -> list[AnyFact]:
            waiting = known.task.open is not None and known.task.open.request_id == request_id
            return [RequestExpired(request_id=request_id)] if waiting else []

        await self.command(task_id, judge)

    async def _drawn_on_later(self, project: str, sequence: int, reservation: str) -> str:
        """The lane that pays for a request that was made without a reservation; "" for none, as for most."""
        month = month_of(datetime.now(UTC))
        if self._budgets.known_standings(project, month) == ():
            return ""
        return await self._budgets.draws_on(project, month, sequence, reservation)

    async def looked_up(self, task_id: str, request_id: str, model: str) -> Awaiting | Ended | NeverMade:
        """What became of a request whose lease has ended."""
        known = await self.fresh(task_id)
        if request_id not in known.requested or known.requested[request_id][1] != model:
            return NeverMade()
        if known.is_awaited(request_id, datetime.now(UTC)):
            return Awaiting()
        # Answered, or void: nobody may begin a call for it any more. One that never ended counts at its bound.
        amount, uncertain = self._cost(known, request_id)
        return Ended(amount, uncertain, known.read_to)

    def _cost(self, known: Known, request_id: str) -> tuple[int, int]:
        tally = known.cost_of(request_id, self.book.prices)
        if tally.unknown_calls:
            # The provider named no usage, and nothing bounds it but what was reserved.
            draw = known.draws.get(request_id)
            most = max(draw.amount_pico_usd if draw else 0, tally.cost_pico_usd + tally.uncertain_cost_pico_usd)
            return most, most - tally.cost_pico_usd
        return tally.cost_pico_usd + tally.uncertain_cost_pico_usd, tally.uncertain_cost_pico_usd

    async def _decide(
        self, task_id: str, judge: Callable[[Known, World], Sequence[AnyFact]], at_least: int, cause: Event | None
    ) -> Decided:
        lock = self._locks.setdefault(task_id, asyncio.Lock())
        async with lock:
            drawn: set[tuple[str, str]] = set()
            try:
                for _ in range(ATTEMPTS_MAX):
                    known = await self.known(task_id, at_least=at_least)
                    world = await self.world(task_id, known)
                    facts = judge(known, world)
                    tip, read_to, last = known.tip, known.read_to, known.last
                    if not facts:
                        return Decided(known, read_to)
                    if not await self._secured(task_id, known, world, facts, drawn):
                        continue
                    try:
                        stored = await self._log.append(
                            task_id, facts, after=tip, cause=cause or last, read_to=read_to, at=world.now
                        )
                    except Conflict:
                        at_least = max(at_least, await self._log.last_own(task_id))
                        continue
                    self._note_said(task_id, stored.sequence)
                    drawn -= {_drawn_by(task_id, fact) for fact in _asked(facts)}
                    return Decided(known, stored.sequence)
            finally:
                for lane, reservation in drawn:
                    with suppress(Conflict):  # its lease ends
                        await self._budgets.release(lane, reservation, "the request was not made after all")
        raise Conflict(f"{task_id!r} changed {ATTEMPTS_MAX} times while it was being decided about")

    async def _secured(
        self, task_id: str, known: Known, world: World, facts: Sequence[AnyFact], drawn: set[tuple[str, str]]
    ) -> bool:
        """Reserves the money and claims the probe that a request needs; False where somebody was faster."""
        for fact in _asked(facts):
            if fact.budget:
                answer = await self._budgets.reserve(
                    known.task.project,
                    month_of(world.now),
                    task_id,
                    fact.request_id,
                    fact.model,
                    fact.worst_case_pico_usd,
                    fact.calls_max,
                )
                if isinstance(answer, Reserved):
                    drawn.add(_drawn_by(task_id, fact))
                if not isinstance(answer, Reserved) or answer.calls_max != fact.calls_max:
                    return False
            if fact.probe and not await self._claimed(task_id, fact, world):
                return False
        return True

    async def _claimed(self, task_id: str, fact: PhaseRequested, world: World) -> bool:
        """Says that this request is the probe of its model; at most one conductor can say so."""
        well, id = world.wellness(fact.model), f"model-{fact.model}"
        if well.probe == fact.request_id:
            return True  # it is claimed already
        tip = self.book.tips.get(id, Tip())
        if tip.sequence > world.read_to:
            return False  # something was said of the model since: what was decided is decided again
        claim = probe(fact.model, well.type, task_id, fact.request_id, world.now)
        try:
            stored = await self._log.append(id, [claim], after=tip, read_to=world.read_to, at=world.now)
        except Conflict:
            await self._progress.reach(await self._log.last_own(id))
            return False
        # What was decided before the claim was decided without it: decided again, it says the same with it.
        await self._progress.reach(stored.sequence)
        return False

    async def _read(self, task_id: str, at_least: int) -> Known:
        """Folds a task from the log. What the watcher passes meanwhile must be part of it: nobody brings it again."""
        while True:
            at_least = max(at_least, self.book.roster.last_seen(task_id))
            past = await self._log.read(task_id, at_least=at_least)
            if (kept := self._kept.get(task_id)) is not None:
                return kept
            if past.read_to >= self.book.roster.last_seen(task_id):
                break
        known = Known()
        for recorded in past.events:
            known.learn(recorded)
        self._kept[task_id] = known
        while len(self._kept) > TASKS_KEPT_MAX:
            gone, _ = self._kept.popitem(last=False)
            self._said.pop(gone, None)
        return known

    def _note_said(self, task_id: str, sequence: int) -> None:
        self._said[task_id] = sequence


def _drawn_by(task_id: str, fact: PhaseRequested) -> tuple[str, str]:
    """The lane and the reservation of a request."""
    return fact.budget, reservation_id(task_id, fact.request_id, fact.model)


def _asked(facts: Sequence[AnyFact]) -> list[PhaseRequested]:
    return [fact for fact in facts if isinstance(fact, PhaseRequested)]
