"""Budgets at the edge: standing limits on the project's lane, reservations on the month's, a timer over open ones.

A project without a budget has no lane, and costs nothing here. What is known is kept in memory and carried on by
`observe`; every decision is checked by the log itself when it is appended, so what is known may be old.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog
from eventlog import Client, EventLog, Recorded
from eventlog.work import set_timer
from factory.project.v1 import SetBudgetRequest

from conductor.adapters.budget_lane import Lane, Surroundings
from conductor.adapters.budget_orders import PROJECT_PREFIX, Project
from conductor.budget import Adopt, Command, Expire, Extend, NoRoom, Release, Reserve, Reserved, Settle, Swept
from conductor.budget_month import Carried, Held, Month, Orders, standings_of
from conductor.budget_room import (
    CALLS_MAX,
    LANE_PREFIX,
    Awaiting,
    Ended,
    NeverMade,
    Outcome,
    Standing,
    lane_id,
    month_of,
    project_and_month,
    reservation_id,
)

log = structlog.get_logger()

# Longer than most requests take: one that is under way for longer says so once per lease.
LEASE = timedelta(minutes=5)
# A lease that is about to end is extended before anything is done under it; clocks may differ by as much.
LEASE_MARGIN = timedelta(seconds=30)
SWEEP_PAUSE = timedelta(seconds=5)
LOOKUPS_PER_SWEEP_MAX = 1_000
LOOKUPS_AT_ONCE_MAX = 16
LANES_KEPT_MAX = 512
PROJECTS_KEPT_MAX = 20_000
TIMER = "lease"

# What became of the request of a task for a model.
Lookup = Callable[[str, str, str], Awaitable[Outcome]]
SpentSoFar = Callable[[str, str], Awaitable[Carried]]


class Budgets:
    """Reserves, settles and releases; any number of conductors may, at once."""

    def __init__(
        self,
        log: EventLog,
        nc: Client,
        lookup: Lookup,
        spent_so_far: SpentSoFar,
        *,
        lease: timedelta = LEASE,
        sweep_pause: timedelta = SWEEP_PAUSE,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._log = log
        self._nc = nc
        self._lookup = lookup
        self._spent_so_far = spent_so_far
        self._lease = lease
        self._margin = min(LEASE_MARGIN, lease / 3)
        self._sweep_pause = sweep_pause
        self._now = now
        self._projects: OrderedDict[str, Project] = OrderedDict()
        self._lanes: OrderedDict[str, Lane] = OrderedDict()
        self._observed_to = 0

    def observe(self, recorded: Recorded) -> None:
        """Takes in one event of the log; every event comes by here, in order."""
        self._observed_to = max(self._observed_to, recorded.sequence)
        id = recorded.event.id
        if recorded.event.producer != self._log.service:
            return
        if id.startswith(PROJECT_PREFIX):
            self._project(id.removeprefix(PROJECT_PREFIX)).observe(recorded)
        elif id.startswith(LANE_PREFIX) and (id in self._lanes or recorded.event.version == 1):
            self._lane(id).observe(recorded)

    def known_standings(self, project: str, month: str) -> tuple[Standing, ...] | None:
        """How the budgets of a project stand, as far as known; None if it has to be read first, () if it has none."""
        orders = self._projects.get(project)
        if orders is None or not orders.known:
            return None
        lane = self._lanes.get(lane_id(project, month))
        if lane is not None and lane.known:
            return standings_of(lane.month, orders.orders)
        return None if orders.orders.of(month) else ()

    async def standings(self, project: str, month: str) -> tuple[Standing, ...]:
        """How the budgets of a project stand; () if it has none."""
        if (known := self.known_standings(project, month)) is not None:
            return known
        return tuple(await self.get(project, month))

    async def get(self, project: str, month: str) -> list[Standing]:
        """How the budgets of a project stand by the log's leader: the project's own first, then models by name."""
        await self._project(project).catch_up()
        await self._lane(lane_id(project, month)).catch_up()
        return list(self.known_standings(project, month) or ())

    def held(self, lane: str, reservation: str) -> int:
        """What is reserved there, as far as known; 0 where nothing is."""
        known = self._lanes.get(lane)
        held = known.month.held(reservation) if known else None
        return held.amount if held else 0

    def position(self, project: str, month: str) -> int:
        """The stream sequence up to which the budgets of a project are known."""
        lane = self._lanes.get(lane_id(project, month))
        return max(self._project(project).orders.read_to, lane.tip.sequence if lane else 0)

    async def reserve(
        self,
        project: str,
        month: str,
        task_id: str,
        request_id: str,
        model: str,
        worst_case_pico_usd: int,
        calls_max: int = CALLS_MAX,
    ) -> Reserved | NoRoom:
        """Keeps money for up to `calls_max` calls; asked again, it stays one reservation."""
        if worst_case_pico_usd < 0 or not 1 <= calls_max <= CALLS_MAX:
            raise ValueError(
                f"expected a worst case of 0 or more and 1 to {CALLS_MAX} calls for {task_id}.{request_id}, "
                f"found {worst_case_pico_usd} and {calls_max}"
            )
        if self.known_standings(project, month) is None:
            await self.get(project, month)
        if self.known_standings(project, month) == ():
            return Reserved("", 0, calls_max)
        asked = Reserve(
            reservation_id(task_id, request_id, model),
            task_id,
            request_id,
            model,
            worst_case_pico_usd,
            calls_max,
            self._now() + self._lease,
        )
        answer = await self._lane(lane_id(project, month)).ask(asked)
        assert answer is not None, "a reservation is answered"
        return answer

    async def settle(
        self, lane: str, reservation: str, model: str, amount: int, uncertain: int, *, read_to: int = 0
    ) -> None:
        """Books what a request has cost; the last one counts, unless it had seen less of the request (`read_to`)."""
        if not 0 <= uncertain <= amount:
            raise ValueError(f"expected 0 <= uncertain <= amount for {reservation}, found {uncertain} and {amount}")
        await self._lane(lane).ask(Settle(reservation, model, amount, uncertain, read_to))

    async def release(self, lane: str, reservation: str, reason: str) -> None:
        """Gives back what was reserved for a request that was not made, unless it was, by another conductor.

        A reservation has no owner: two conductors may have decided alike, and one of them made the request. So its
        lease ends, and what became of the request is looked up, as in any sweep; who offers its work extends it first.
        """
        of_month = self._lane(lane)
        await of_month.ask(Expire(reservation, self._now()))
        held = of_month.month.held(reservation)
        if held is not None and held.lease_until <= self._now():
            found = await self._look_up([(reservation, held)], reason)
            await asyncio.gather(*(of_month.ask(command) for command in found))

    async def confirm(self, lane: str, reservation: str, sequence: int) -> bool:
        """Whether the reservation of a request that stands at `sequence` in the log still holds, and will for a while.

        To be asked before its work is offered: a conductor that stood still for longer than a lease may have made a
        request whose reservation was given back meanwhile. False: reserve again, or withdraw the request.
        """
        of_month = self._lane(lane)
        if not of_month.known or self._observed_to < sequence:
            await of_month.catch_up()
        held = of_month.month.held(reservation)
        if held and held.lease_until - self._now() < self._margin:
            await of_month.ask(Extend(reservation, self._now() + self._lease))
            held = of_month.month.held(reservation)
        return held is not None or of_month.month.cost(reservation) is not None

    async def draws_on(self, project: str, month: str, sequence: int, reservation: str = "") -> str:
        """The lane that pays for a request which stands at `sequence` in the log without a reservation; "" for none.

        Somebody may have set the first budget while the request was being made: what it costs is settled there.
        """
        if await self.standings(project, month) == ():
            return ""
        of_month = self._lane(lane_id(project, month)).month
        taken_over = of_month.held(reservation) is not None or of_month.cost(reservation) is not None
        return of_month.lane if of_month.began and (taken_over or sequence > of_month.carried_read_to) else ""

    async def set(self, request: SetBudgetRequest, who: str) -> Standing:
        """Sets limits from this month on, for the project or one model."""
        month = month_of(self._now())
        await self._project(request.project).set(request, who)
        await self.adopt(request.project, month)
        return self._lane(lane_id(request.project, month)).month.standing(request.model)

    async def adopt(self, project: str, month: str = "") -> None:
        """Takes the standing limits over into a month; so does whoever hears of them, for who set them may die."""
        month = month or month_of(self._now())
        await self._project(project).catch_up()
        if self._project(project).orders.of(month):
            lane = self._lane(lane_id(project, month))
            await lane.catch_up()
            await lane.ask(Adopt())

    async def lease_timer(self, lane_id: str) -> None:
        """Leases may have ended: finds out what became of their requests, and watches on while any are open."""
        lane = self._lane(lane_id)
        await lane.catch_up()
        now = self._now()
        ended = [(id, held) for id, held in lane.month.every_held() if held.lease_until <= now]
        found = await self._look_up(ended[:LOOKUPS_PER_SWEEP_MAX])
        await asyncio.gather(*(lane.ask(command) for command in found))
        if found:
            log.info("budget.swept", lane=lane_id, ended=len(ended), looked_up=len(found), open=lane.month.open)
        await self._watch_over(lane)

    async def watch_again(self) -> None:
        """Once, at the start, when the log has been observed: timers that were lost are set again."""
        for lane in list(self._lanes.values()):
            await self._watch_over(lane)

    async def _watch_over(self, lane: Lane) -> None:
        if lane.month.open:
            soonest = min(held.lease_until for _, held in lane.month.every_held())
            await self._set_timer(lane.month.lane, max(soonest, self._now() + self._sweep_pause))

    async def _look_up(
        self, ended: list[tuple[str, Held]], reason: str = "the request was never made"
    ) -> list[Command]:
        at_once = asyncio.Semaphore(LOOKUPS_AT_ONCE_MAX)

        async def look(reservation: str, held: Held) -> Command | None:
            async with at_once:
                try:
                    outcome = await self._lookup(held.task_id, held.request_id, held.model)
                except Exception as error:
                    # It keeps its money until somebody can tell; the others must not wait for it.
                    log.warning("budget.not_looked_up", reservation=reservation, error=repr(error))
                    return None
            return Swept(held.lease_until, _then(reservation, held, outcome, self._now() + self._lease, reason))

        found = await asyncio.gather(*(look(id, held) for id, held in ended))
        return [command for command in found if command is not None]

    def _project(self, name: str) -> Project:
        project = self._projects.get(name)
        if project is None:
            project = self._projects[name] = Project(self._log, name)
            while len(self._projects) > PROJECTS_KEPT_MAX:
                self._projects.popitem(last=False)
        return project

    def _lane(self, id: str) -> Lane:
        """A month's lane as known; the one not used for longest is forgotten, and read again when asked for."""
        lane = self._lanes.get(id)
        if lane is None:
            project, month = project_and_month(id)
            around = Surroundings(
                orders=lambda: self._project(project).orders,
                carried=partial(self._carried, project, month),
                arm=lambda: self._set_timer(id, self._now() + self._lease),
                now=self._now,
            )
            lane = self._lanes[id] = Lane(self._log, Month(project, month), around)
            if len(self._lanes) > LANES_KEPT_MAX:
                idle = (name for name, one in self._lanes.items() if one.committing is None and one is not lane)
                if oldest := next(idle, ""):
                    del self._lanes[oldest]
        self._lanes.move_to_end(id)
        return lane

    async def _carried(self, project: str, month: str, orders: Orders) -> Carried:
        """What was spent before the month had a budget: nothing where one stood when the month began."""
        if any(order.since < month for order in orders.by_model.values()):
            return Carried({}, orders.read_to)
        carried = await self._spent_so_far(project, month)
        return carried._replace(lease_until=self._now() + self._lease)

    async def _set_timer(self, lane: str, at: datetime) -> datetime:
        await set_timer(self._nc, self._log.org, lane, TIMER, at)
        return at


def _then(
    reservation: str, held: Held, outcome: Outcome, lease_until: datetime, reason: str
) -> Extend | Settle | Release:
    match outcome:
        case Awaiting():
            return Extend(reservation, lease_until)
        case Ended(cost, uncertain, read_to):
            return Settle(reservation, held.model, cost, uncertain, read_to)
        case NeverMade():
            return Release(reservation, reason)
