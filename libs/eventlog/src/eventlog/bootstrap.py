"""Creates the streams and consumers, with operator rights. Services declare nothing.

Idempotent: what exists is brought up to date where JetStream allows it. Nothing is ever purged or deleted.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import nats.errors
import structlog
from nats.aio.client import Client

from eventlog import subjects
from eventlog.jetstream import CONSUMER_NOT_FOUND, INSUFFICIENT_STORAGE, STREAM_NOT_FOUND, ApiError, api
from eventlog.log import EVENT_BYTES_MAX

log = structlog.get_logger()

SECOND = 1_000_000_000  # JetStream counts nanoseconds
DAY = 86_400 * SECOND
# A disk with less room than this for the log is too small.
STREAM_BYTES_MIN = 64 * 1024**2


def streams(*, replicas: int, events_bytes_max: int) -> list[dict[str, Any]]:
    """The configuration of every stream, as JetStream's API takes it."""
    common = {"storage": "file", "num_replicas": replicas}
    return [
        {
            "name": subjects.EVENTS,
            "subjects": [subjects.ALL_EVENTS],
            "retention": "limits",
            "discard": "new",  # a full disk refuses, never drops
            "max_bytes": events_bytes_max,
            "max_age": 0,
            "max_msg_size": EVENT_BYTES_MAX + 8 * 1024,  # headers count
            "deny_delete": True,
            "deny_purge": True,
            "allow_direct": True,
            # Who follows the log hears of an event with its sequence, once it is stored.
            "republish": {"src": subjects.ALL_EVENTS, "dest": subjects.STORED},
            "duplicate_window": 600 * SECOND,
            **common,
        },
        {
            "name": subjects.WORK,
            "subjects": ["factory.work.>"],
            "retention": "workqueue",
            "discard": "new",
            "discard_new_per_subject": True,
            "max_msgs_per_subject": 1,  # at most one open item per request
            "max_msg_size": EVENT_BYTES_MAX + 8 * 1024,
            **common,
        },
        {
            "name": subjects.INTAKE,
            "subjects": ["factory.submit.*"],
            "retention": "workqueue",
            "discard": "new",
            "max_bytes": 256 * 1024 * 1024,
            "max_msg_size": 512 * 1024,
            **common,
        },
        {
            "name": subjects.TIMERS,
            "subjects": ["factory.timer.sched.>", "factory.timer.fire.>"],
            "retention": "limits",
            "max_msgs_per_subject": 1,
            "max_age": 60 * DAY,
            "allow_msg_schedules": True,
            **common,
        },
        {
            "name": subjects.DLQ,
            "subjects": ["factory.dlq.>"],
            "retention": "limits",
            "max_bytes": 256 * 1024 * 1024,
            "discard": "old",
            **common,
        },
    ]


def consumers(lanes: Sequence[str], *, ack_wait_s: float, slots: Mapping[str, int]) -> list[tuple[str, dict[str, Any]]]:
    """Every durable consumer: the conductor's three, and one per working lane."""

    def durable(name: str, subject: str, ack_pending: int, **more: Any) -> dict[str, Any]:
        return {
            "durable_name": name,
            "filter_subject": subject,
            "ack_policy": "explicit",
            "ack_wait": int(ack_wait_s * SECOND),
            "max_deliver": -1,  # a healthy item must survive any number of kills
            "max_ack_pending": ack_pending,
            "deliver_policy": "all",
            **more,
        }

    working = [
        (subjects.WORK, durable(lane, f"factory.work.{lane}.>", slots.get(lane, DEFAULT_SLOTS))) for lane in lanes
    ]
    return [
        (subjects.EVENTS, durable("conductor", subjects.ALL_EVENTS, 1024)),
        (subjects.INTAKE, durable("conductor", "factory.submit.*", 256)),
        (subjects.TIMERS, durable("conductor", "factory.timer.fire.>", 256)),
        *working,
    ]


DEFAULT_SLOTS = 8
ATTEMPTS_MAX = 30
PAUSE_S = 0.5
# "no suitable peers for placement" and "temporarily unavailable": a cluster that has just been started.
NOT_YET = frozenset({10005, 10008})


async def bootstrap(
    nc: Client,
    *,
    lanes: Sequence[str],
    replicas: int = 1,
    events_bytes_max: int = 50 * 1024**3,
    ack_wait_s: float = 60,
    slots: Mapping[str, int] | None = None,
) -> None:
    """Brings streams and consumers to the state that services expect. `lanes`: the working services' lanes."""
    # The log last: where the disk is small, it takes what the others leave.
    for stream in reversed(streams(replicas=replicas, events_bytes_max=events_bytes_max)):
        await _ensure(nc, stream["name"], stream)
    for stream_name, consumer in consumers(lanes, ack_wait_s=ack_wait_s, slots=slots or {}):
        await _ensure_consumer(nc, stream_name, consumer)


async def _patiently(nc: Client, subject: str, request: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One API request, asked again while a cluster is still choosing its leader or waiting for its nodes."""
    for attempt in range(ATTEMPTS_MAX):
        try:
            return await api(nc, subject, request)
        except ApiError as error:
            if error.code not in NOT_YET or attempt == ATTEMPTS_MAX - 1:
                raise
        except nats.errors.TimeoutError:
            if attempt == ATTEMPTS_MAX - 1:
                raise
        log.warning("bootstrap.waiting", subject=subject, attempt=attempt)
        await asyncio.sleep(PAUSE_S)
    raise AssertionError("the last attempt returns or raises")


async def _ensure(nc: Client, name: str, wanted: Mapping[str, Any]) -> None:
    try:
        found = (await _patiently(nc, f"STREAM.INFO.{name}"))["config"]
    except ApiError as error:
        if error.code != STREAM_NOT_FOUND:
            raise
        await _create_fitting(nc, name, wanted)
        return
    differing = {key: value for key, value in wanted.items() if found.get(key, _zero(value)) != value}
    if "max_bytes" in differing and not await _has_room(nc, name, found, differing):
        del differing["max_bytes"]
    if differing:
        await _patiently(nc, f"STREAM.UPDATE.{name}", {**found, **differing})
        log.info("bootstrap.updated", kind="stream", name=name, fields=sorted(differing))


async def _create_fitting(nc: Client, name: str, wanted: Mapping[str, Any]) -> None:
    """Creates a stream as large as wanted, or as the server's disk has room for: JetStream reserves `max_bytes`."""
    while True:
        try:
            await _patiently(nc, f"STREAM.CREATE.{name}", wanted)
        except ApiError as error:
            smaller = wanted.get("max_bytes", 0) // 2
            if error.code != INSUFFICIENT_STORAGE or smaller < STREAM_BYTES_MIN:
                raise
            wanted = {**wanted, "max_bytes": smaller}
            continue
        log.info("bootstrap.created", kind="stream", name=name, max_bytes=wanted.get("max_bytes", 0))
        return


async def _has_room(nc: Client, name: str, found: Mapping[str, Any], differing: Mapping[str, Any]) -> bool:
    """Lets a stream grow; False where the disk is still as small as when it was created."""
    try:
        await _patiently(nc, f"STREAM.UPDATE.{name}", {**found, "max_bytes": differing["max_bytes"]})
    except ApiError as error:
        if error.code != INSUFFICIENT_STORAGE:
            raise
        log.warning("bootstrap.no_room_to_grow", name=name, max_bytes=found["max_bytes"])
        return False
    return True


async def _ensure_consumer(nc: Client, stream: str, wanted: Mapping[str, Any]) -> None:
    name = wanted["durable_name"]
    try:
        found = (await _patiently(nc, f"CONSUMER.INFO.{stream}.{name}"))["config"]
        if all(found.get(key, _zero(value)) == value for key, value in wanted.items()):
            return
    except ApiError as error:
        if error.code != CONSUMER_NOT_FOUND:
            raise
    await _patiently(nc, f"CONSUMER.DURABLE.CREATE.{stream}.{name}", {"stream_name": stream, "config": wanted})


def _zero(value: object) -> object:
    """What JetStream leaves out of an answer."""
    return type(value)() if isinstance(value, (bool, int, str)) else None
