"""How a service takes work: one item at a time per slot, heartbeats while it runs, the ack only after the facts.

Anything may be delivered twice. What is settled is acknowledged without being done again.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import structlog
from eventlog import EventLog, Past
from eventlog.work import Work, is_answered, is_void, work_of
from factory.event.v1 import AnyFact
from prometheus_client import Counter, Histogram

log = structlog.get_logger()

DELIVERIES_MAX = 5
NAK_DELAY_MAX_S = 30

WORK_ITEMS = Counter("factory_work_items", "Work items by how they ended", ["lane", "outcome"])
WORK_SECONDS = Histogram("factory_work_seconds", "Time from delivery to acknowledgement", ["lane"])

Handle = Callable[[Work, Past], Awaitable[Sequence[AnyFact]]]
Poison = Callable[[Work, Past], Sequence[AnyFact]]
# What is said of a request that was closed before it was answered.
Closed = Callable[[Work, Past], Sequence[AnyFact]]


async def take(
    message: Any,
    *,
    events: EventLog,
    handle: Handle,
    poison: Poison,
    heartbeat_s: float,
    closed: Closed | None = None,
) -> None:
    """Sees one delivered item (a nats-py message) through to its acknowledgement."""
    lane = events.service
    deliveries = message.metadata.num_delivered
    try:
        work = work_of(message.data, message.headers or {}, message.subject, deliveries)
    except ValueError as error:
        # Work is derived from the log: an unreadable item is made again from its fact, so nothing is lost by ending it.
        log.error("work.unreadable", lane=lane, subject=message.subject, error=str(error))
        WORK_ITEMS.labels(lane, "unreadable").inc()
        await message.term()
        return
    with structlog.contextvars.bound_contextvars(task=work.id, request=work.request_id, lane=lane):
        started = time.monotonic()
        async with _heartbeats(message, heartbeat_s):
            await _see_through(message, work, events, handle, poison, closed)
        WORK_SECONDS.labels(lane).observe(time.monotonic() - started)


async def _see_through(
    message: Any, work: Work, events: EventLog, handle: Handle, poison: Poison, closed: Closed | None
) -> None:
    lane = events.service
    try:
        past = await events.read(work.id, at_least=work.sequence, first=work.first, places=work.places)
        if is_answered(past, work, lane):
            facts, outcome = (), "settled"
        elif is_void(past, work.request_id):
            facts, outcome = closed(work, past) if closed else (), "settled"
        elif work.deliveries > DELIVERIES_MAX:
            facts, outcome = poison(work, past), "poison"
        else:
            facts, outcome = await handle(work, past), "done"
        if facts:
            await events.persist(work.id, facts, cause=work.event, after=past.tip(lane))
        await message.ack()
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await message.nak()
        raise
    except Exception as error:
        log.exception("work.failed", deliveries=work.deliveries, error=repr(error))
        outcome = "failed"
        with contextlib.suppress(Exception):
            await message.nak(delay=min(0.2 * 4**work.deliveries, NAK_DELAY_MAX_S))
    WORK_ITEMS.labels(lane, outcome).inc()


@contextlib.asynccontextmanager
async def _heartbeats(message: Any, every_s: float) -> AsyncIterator[None]:
    """Tells JetStream that the item is being worked on: a model may think for ten minutes."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(every_s)
            try:
                await message.in_progress()
            except Exception as error:
                log.warning("work.heartbeat_failed", error=repr(error))

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
