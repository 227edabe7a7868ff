"""What the conductor hears: every fact, submissions over NATS, and timers. It is the only one that decides."""

import asyncio
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from eventlog import Recorded, subjects
from eventlog.past import recorded as read_event
from eventlog.work import Request, publish_work, set_timer
from factory.call.v1 import ModelCalled, ModelCallStarted
from factory.operations.v1 import DeadLettered
from factory.phase.v1 import PhaseCompleted, PhaseFailed, PhaseRequested
from factory.task.v1 import HOLD_CAUSE_BUDGET, TaskHeld
from google.protobuf.message import DecodeError
from policy.models import configured_in, models_from
from runtime import Runtime, Service

from conductor.adapters.budgets import Budgets
from conductor.adapters.configuration import publish_configuration
from conductor.adapters.intake import Intake
from conductor.adapters.prices import publish_prices
from conductor.adapters.progress import Progress
from conductor.adapters.spending import spent_so_far
from conductor.adapters.submissions import Submissions
from conductor.adapters.tasks import Tasks
from conductor.adapters.watcher import Watcher
from conductor.book import Book
from conductor.budget_room import LANE_PREFIX
from conductor.known import Known
from conductor.next_step import next_due
from conductor.rpc import add_rpcs
from conductor.rules import lease_from, rules_from
from conductor.submission import TASK_ID

log = structlog.get_logger()

EVENTS_AT_ONCE = 256
SUBMISSIONS_AT_ONCE = 16
TIMERS_AT_ONCE = 16
# A task that cannot be decided about must not keep the others waiting.
NAK_DELAY_MAX_S = 60
OFFERS_ATTEMPTS_MAX = 5
MONTH_TIMER = "month"
ARMED_MAX = 100_000
# So far into a month the clocks of all conductors agree on which one it is.
MONTH_MARGIN = timedelta(minutes=1)


def service(env: Mapping[str, str]) -> Service:
    """The conductor; any number of them may run."""
    models = models_from(env)
    rules, lease = rules_from(env, models, configured_in(env, models)), lease_from(env)

    async def setup(rt: Runtime) -> None:
        book, progress = Book(), Progress()
        budgets = Budgets(
            rt.log,
            rt.nc,
            lambda task_id, request_id, model: tasks.looked_up(task_id, request_id, model),
            lambda project, month: spent_so_far(rt.log, book.prices, project, month),
            lease=lease,
        )
        tasks = Tasks(rt.log, book, rules, budgets, progress)
        watcher = Watcher(rt.log, book, tasks, budgets, progress)
        await publish_prices(rt.log, models.values())
        await publish_configuration(rt.log, rules)
        history_to = await rt.log.last_sequence()
        rt.spawn(watcher.run(history_to), "watcher")
        # Nothing is decided before everything that is known has been read.
        await progress.reach(history_to)
        submissions = Submissions(rt, tasks)
        hearing = Hearing(rt, tasks, budgets)
        rt.pull(subjects.EVENTS, rt.lane, hearing.event, at_once=EVENTS_AT_ONCE)
        intake = Intake(rt, submissions)
        rt.subscribe(subjects.INTAKE, rt.lane, "factory.submit.*", intake.heard, batch=SUBMISSIONS_AT_ONCE)
        rt.subscribe(subjects.TIMERS, rt.lane, "factory.timer.fire.>", hearing.timer, batch=TIMERS_AT_ONCE)
        rt.spawn(hearing.offer_again(), "offer_again")
        add_rpcs(rt, tasks, submissions, budgets, progress)

    return Service(name="conductor", lane="conductor", setup=setup)


class Hearing:
    """From a message to a decision, and from a request that has come back from the log to a work item."""

    def __init__(self, rt: Runtime, tasks: Tasks, budgets: Budgets) -> None:
        self._rt = rt
        self._tasks = tasks
        self._budgets = budgets
        # when the deadline timer of a task fires, as far as this conductor has set it
        self._armed: dict[tuple[str, str], datetime] = {}

    async def event(self, raw: Any) -> None:
        """Something happened: start what follows from it, if anything does."""
        sequence = raw.metadata.sequence.stream
        await self._tasks.reach(sequence)
        try:
            recorded = self._tasks.recent(sequence) or read_event(raw.data, sequence, raw.subject)
        except DecodeError as error:
            await self._set_aside(raw, f"not an event: {error}")
            return
        if not TASK_ID.fullmatch(recorded.event.id) or all(isinstance(f, ModelCallStarted) for f in recorded.facts):
            await raw.ack()  # nothing follows for any task
            return
        try:
            decided = await self._tasks.advance(recorded.event.id, at_least=sequence, cause=recorded.event)
            await self._offer(decided.known, recorded)
            await self._settle(decided.known, recorded)
            await raw.ack()
        except Exception as error:
            log.warning("event.not_decided", task=recorded.event.id, sequence=sequence, error=repr(error))
            await raw.nak(delay=min(2 ** (raw.metadata.num_delivered - 1), NAK_DELAY_MAX_S))

    async def timer(self, message: Any) -> None:
        """A time has come: whatever is due is decided, and the work that waited for it is offered if still wanted."""
        raw = message.raw_message
        id, name = raw.subject.split(".")[-2:]
        try:
            if id.startswith(LANE_PREFIX):
                await self._budgets.lease_timer(id)
            elif TASK_ID.fullmatch(id):
                await self._due(id, name)
            await raw.ack()
        except Exception as error:
            log.warning("timer.not_served", id=id, name=name, error=repr(error))
            await raw.nak(delay=1)

    async def _due(self, task_id: str, name: str) -> None:
        known = await self._tasks.fresh(task_id)
        if known.last is None:
            return
        self._armed.pop((task_id, name), None)
        decided = await self._tasks.advance(task_id, at_least=known.read_to, cause=None)
        if (waiting := decided.known.waited_for()) is not None:
            asked, request = waiting
            if request.request_id == name:
                await self._offered(asked, request)
        await self._arm(decided.known)
        if name == MONTH_TIMER:
            await self._await_month(await self._tasks.fresh(task_id))

    async def _offer(self, known: Known, recorded: Recorded) -> None:
        """Work is published when the request itself comes back from the log, never right after the append: dying in
        between would lose it. A request that the task no longer waits for is not offered."""
        held = [fact for fact in recorded.facts if isinstance(fact, TaskHeld)]
        if held:
            # One that waits for others has no request that could have its deadline watched.
            await self._arm(known)
        if any(fact.cause == HOLD_CAUSE_BUDGET for fact in held):
            await self._await_month(known)
        waiting = known.waited_for()
        if waiting is not None and waiting[0].sequence == recorded.sequence:
            await self._publish(*waiting)
            await self._arm(known)

    async def _publish(self, asked: Recorded, request: Request) -> None:
        if not_before := _not_before(request):
            await self._set_timer(asked.event.id, request.request_id, not_before)
        else:
            await self._offered(asked, request)

    async def _offered(self, asked: Recorded, request: Request) -> None:
        """Offers a request for work; one that draws on a budget only while its money is kept for it."""
        if isinstance(request, PhaseRequested) and request.budget:
            known = await self._tasks.known(asked.event.id, at_least=asked.sequence)
            if not await self._tasks.confirmed(asked.event.id, known, request):
                await self._tasks.withdraw(asked.event.id, request.request_id)
                return
        await publish_work(self._rt.nc, asked, request, places=self._tasks.places(asked))

    async def _arm(self, known: Known) -> None:
        """Has the task looked at when its next deadline has passed: a timer per kind of request, set again when it
        fires."""
        due, last, now = next_due(known.task), known.last, datetime.now(UTC)
        if due is None or last is None:
            return
        at, name = due
        armed = self._armed.get((last.id, name))
        if armed is not None and now < armed <= at:
            return
        await self._set_timer(last.id, name, at)
        if len(self._armed) >= ARMED_MAX:
            self._armed.clear()  # set once too often does no harm
        self._armed[last.id, name] = at

    async def _await_month(self, known: Known) -> None:
        """Has a task that waits for money looked at when the next month begins, and so month by month."""
        task, last = known.task, known.last
        if last is not None and task.ended is None and task.held and task.hold_cause == HOLD_CAUSE_BUDGET:
            await self._set_timer(last.id, MONTH_TIMER, _next_month(datetime.now(UTC)) + MONTH_MARGIN)

    async def _set_timer(self, task_id: str, name: str, at: datetime) -> None:
        await set_timer(self._rt.nc, self._rt.settings.org, task_id, name, at)

    async def _settle(self, known: Known, recorded: Recorded) -> None:
        """What a request has cost is booked when its result is known, and again when a late end says more."""
        told = {f.request_id for f in recorded.facts if isinstance(f, PhaseCompleted | PhaseFailed | ModelCalled)}
        if told:
            await self._tasks.settle(recorded.event.id, known, told)

    async def offer_again(self) -> None:
        """Once, at the start: whatever the queue or the timers have lost is made again from the log.

        Each task is decided about besides: an older release may have left one alone for a fact that it did not know.
        What is offered already stays as it is, and what was done meanwhile is acknowledged without being done.
        """
        await self._budgets.watch_again()
        going_on = sorted(self._tasks.book.roster.entries)
        left = going_on
        for attempt in range(OFFERS_ATTEMPTS_MAX):
            left = [task_id for task_id in left if not await self._taken_up(task_id)]
            if not left:
                break
            await asyncio.sleep(2**attempt)
        log.info("work.offered_again", tasks=len(going_on))

    async def _taken_up(self, task_id: str) -> bool:
        """Whether a task goes on as far as it can; one that fails stops neither the others nor the conductor."""
        try:
            known = await self._tasks.fresh(task_id)
            decided = await self._tasks.advance(task_id, at_least=known.read_to, cause=None)
            if (waiting := decided.known.waited_for()) is not None:
                await self._publish(*waiting)
            await self._tasks.settle(task_id, decided.known, set(decided.known.requested))
            await self._arm(decided.known)
            await self._await_month(decided.known)
        except Exception as error:
            log.warning("work.not_offered_again", task=task_id, error=repr(error))
            return False
        return True

    async def _set_aside(self, raw: Any, reason: str) -> None:
        """An unreadable message must not stop the others; it is kept, and that it was is a fact."""
        subject = subjects.dead_letter(subjects.EVENTS, self._rt.lane)
        await self._rt.nc.jetstream().publish(subject, raw.data, headers={"Factory-Reason": reason[:500]})
        digest = hashlib.sha256(raw.data).hexdigest()
        letter = DeadLettered(
            source=f"{subjects.EVENTS}/{self._rt.lane}",
            sequence=raw.metadata.sequence.stream,
            reason=reason[:500],
            message_digest=digest,
        )
        await self._rt.log.report("dead-letters", [letter])
        await raw.ack()


def _not_before(request: Request) -> datetime | None:
    if isinstance(request, PhaseRequested) and request.HasField("not_before"):
        return request.not_before.ToDatetime(tzinfo=UTC)
    return None


def _next_month(now: datetime) -> datetime:
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=32)).replace(day=1)
