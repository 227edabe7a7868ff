"""What the conductor hears: every fact, submissions over NATS, and timers. It is the only one that decides."""

import asyncio
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import structlog
from eventlog import Recorded, subjects
from eventlog.past import recorded as read_event
from eventlog.work import Ended, Request, publish_work, requests_in, set_timer
from factory.operations.v1 import DeadLettered
from factory.phase.v1 import PhaseRequested
from google.protobuf.message import DecodeError
from policy.models import configured_in, models_from
from runtime import Runtime, Service

from conductor.adapters.intake import Intake
from conductor.adapters.prices import publish_prices
from conductor.adapters.submissions import Submissions
from conductor.adapters.tasks import Known, Tasks
from conductor.rpc import add_rpcs
from conductor.submission import TASK_ID

log = structlog.get_logger()

EVENTS_AT_ONCE = 64
SUBMISSIONS_AT_ONCE = 16
TIMERS_AT_ONCE = 16
SUBSCRIBERS = 2
# A task that cannot be decided about must not keep the others waiting.
NAK_DELAY_MAX_S = 60
OFFERS_ATTEMPTS_MAX = 5


def service(env: Mapping[str, str]) -> Service:
    """The conductor; any number of them may run."""
    models = models_from(env)
    ruled_out = configured_in(env, models)

    async def setup(rt: Runtime) -> None:
        tasks = Tasks(rt.log, models, ruled_out)
        tasks.prices = await publish_prices(rt.log, models.values())
        submissions = Submissions(rt, tasks)
        hearing = Hearing(rt, tasks)
        for _ in range(SUBSCRIBERS):
            rt.subscribe(subjects.EVENTS, rt.lane, subjects.ALL_EVENTS, hearing.event, batch=EVENTS_AT_ONCE)
        intake = Intake(rt, submissions)
        rt.subscribe(subjects.INTAKE, rt.lane, "factory.submit.*", intake.heard, batch=SUBMISSIONS_AT_ONCE)
        rt.subscribe(subjects.TIMERS, rt.lane, "factory.timer.fire.>", hearing.timer, batch=TIMERS_AT_ONCE)
        rt.spawn(hearing.offer_again(), "offer_again")
        add_rpcs(rt, tasks, submissions)

    return Service(name="conductor", lane="conductor", setup=setup)


class Hearing:
    """From a message to a decision, and from a request that has come back from the log to a work item."""

    def __init__(self, rt: Runtime, tasks: Tasks) -> None:
        self._rt = rt
        self._tasks = tasks

    async def event(self, message: Any) -> None:
        """Something happened: start what follows from it, if anything does."""
        raw = message.raw_message
        sequence = raw.metadata.sequence.stream
        try:
            recorded = read_event(raw.data, sequence, raw.subject)
        except DecodeError as error:
            await self._set_aside(raw, f"not an event: {error}")
            return
        if not TASK_ID.fullmatch(recorded.event.id):
            await raw.ack()
            return
        try:
            known = await self._tasks.advance(recorded.event.id, at_least=sequence, cause=recorded.event)
            await self._offer(known, recorded)
            await raw.ack()
        except Exception as error:
            log.warning("event.not_decided", task=recorded.event.id, sequence=sequence, error=repr(error))
            await raw.nak(delay=min(2 ** (raw.metadata.num_delivered - 1), NAK_DELAY_MAX_S))

    async def timer(self, message: Any) -> None:
        """A time has come: offer the work that waited for it, if it is still wanted."""
        raw = message.raw_message
        task_id, request_id = raw.subject.split(".")[-2:]
        try:
            known = await self._tasks.fresh(task_id)
            for recorded, request in waited_for(known):
                if request.request_id == request_id:
                    await publish_work(self._rt.nc, recorded, request)
            await raw.ack()
        except Exception as error:
            log.warning("timer.not_served", task=task_id, request=request_id, error=repr(error))
            await raw.nak(delay=1)

    async def _offer(self, known: Known, recorded: Recorded) -> None:
        """Work is published when the request itself comes back from the log, never right after the append: dying in
        between would lose it. A request that the task no longer waits for is not offered."""
        for asked, request in waited_for(known):
            if asked.sequence == recorded.sequence:
                await self._publish(asked, request)

    async def _publish(self, asked: Recorded, request: Request) -> None:
        if not_before := _not_before(request):
            await set_timer(self._rt.nc, asked.event.org, asked.event.id, request.request_id, not_before)
        else:
            await publish_work(self._rt.nc, asked, request)

    async def offer_again(self) -> None:
        """Once, at the start: whatever the queue or the timers have lost is made again from the log.

        Each task is decided about besides: an older release may have left one alone for a fact that it did not know.
        What is offered already stays as it is, and what was done meanwhile is acknowledged without being done.
        """
        going_on: set[str] = set()
        async for batch in self._rt.log.follow(after=0):
            for recorded in batch:
                if TASK_ID.fullmatch(recorded.event.id):
                    going_on.add(recorded.event.id)
                    if any(isinstance(fact, Ended) for fact in recorded.facts):
                        going_on.discard(recorded.event.id)
            if not batch:
                break
        left = sorted(going_on)
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
            last = known.past.events[-1]
            known = await self._tasks.advance(task_id, at_least=last.sequence, cause=last.event)
            for asked, request in waited_for(known):
                await self._publish(asked, request)
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


def waited_for(known: Known) -> list[tuple[Recorded, Request]]:
    """The one request that the task waits for, with the event that holds it; empty while it waits for none."""
    wanted = known.task.open.request_id if known.task.open else ""
    found = [(r, request) for r in known.past.lane("conductor") for request in requests_in(r.event)]
    return [(recorded, request) for recorded, request in found if request.request_id == wanted]


def _not_before(request: Request) -> datetime | None:
    if isinstance(request, PhaseRequested) and request.HasField("not_before"):
        return request.not_before.ToDatetime(tzinfo=UTC)
    return None
