"""Append facts to one's own lane, read an id's past, follow the whole stream.

An append knows its own event: it mints one id and keeps it over its retries, and when the server says "wrong last
sequence" or nothing at all, it reads the lane and looks for that id before it believes that somebody was faster.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime

import nats.errors
import structlog
from factory.event.v1 import AnyFact, Event
from google.protobuf.timestamp_pb2 import Timestamp
from nats.aio.client import Client
from nats.js.errors import APIError
from ulid import ULID

from eventlog import following, subjects
from eventlog.direct import ReadFailed, direct_batch, direct_places
from eventlog.facts import fact_name, facts_of, to_fact
from eventlog.jetstream import (
    STILL_IN_PROCESS,
    WRONG_LAST_SEQUENCE,
    ApiError,
    leader_last,
    leader_next,
)
from eventlog.past import Past, Recorded, Tip
from eventlog.publishing import publish

log = structlog.get_logger()

APPEND_TIMEOUT_S = 2.0
APPEND_ATTEMPTS_MAX = 30
READ_ATTEMPTS_MAX = 40
READ_PAUSE_S = 0.025
REPORT_ATTEMPTS_MAX = 20
# Between the tries to put on record what was paid for: doubled from the first to the last, and that for ever.
PERSIST_PAUSE_S_MIN = 0.2
PERSIST_PAUSE_S_MAX = 10.0
TIPS_KEPT_MAX = 1_000
EVENT_BYTES_MAX = 256 * 1024


class Conflict(Exception):
    """Somebody else has appended to the lane since it was read."""


class Stale(Exception):
    """The log could not be read up to a sequence that is known to exist. Ask again later."""


class LogUnavailable(Exception):
    """The log did not take an event, and does not hold it."""


class EventTooLarge(ValueError):
    """An event is larger than the log takes; large things belong in artifacts."""


# What a caller may meet who has nobody to answer to: it passes, and what was to be said can be said later.
TROUBLES_THAT_PASS = (Conflict, Stale, LogUnavailable, ApiError, ReadFailed, APIError, nats.errors.Error, TimeoutError)


class EventLog:
    """The log as one service sees it: it appends to its own lanes and reads all."""

    def __init__(self, nc: Client, *, org: str, service: str, now: Callable[[], datetime] | None = None) -> None:
        self._nc = nc
        self._now = now or (lambda: datetime.now(UTC))
        # where the lanes end that were written to last
        self._tips: dict[str, Tip] = {}
        self.org = org
        self.service = service

    async def append(
        self,
        id: str,
        facts: Sequence[AnyFact],
        *,
        after: Tip,
        cause: Event | None = None,
        read_to: int = 0,
        at: datetime | None = None,
    ) -> Recorded:
        """Appends one event that holds all `facts` behind `after`, the tip of the own lane.

        `at` is when it was decided, where that is not now: who decides again needs the same time.
        Raises Conflict if the lane has grown since, EventTooLarge, or LogUnavailable when the server does not answer.
        """
        event = self._event(id, facts, after, cause, read_to, at or self._now())
        raw = event.SerializeToString(deterministic=True)
        if len(raw) > EVENT_BYTES_MAX:
            raise EventTooLarge(f"{len(raw)} bytes of facts about {id!r}; the log takes {EVENT_BYTES_MAX}")
        subject = subjects.lane(self.service, self.org, id)
        headers = _headers(event, after)
        for attempt in range(APPEND_ATTEMPTS_MAX):
            try:
                sequence = await publish(self._nc, subject, raw, headers=headers, timeout_s=APPEND_TIMEOUT_S)
                return self._said(Recorded(event, sequence, raw))
            except APIError as error:
                if error.err_code not in {WRONG_LAST_SEQUENCE, *STILL_IN_PROCESS} and error.code != 503:
                    raise
                refused = error.err_code == WRONG_LAST_SEQUENCE
                if not refused and attempt == 0:
                    log.warning("append.refused", id=id, code=error.err_code, reason=error.description)
            except (nats.errors.Error, TimeoutError) as error:
                log.warning("append.unanswered", id=id, attempt=attempt, error=repr(error))
                refused = False
            try:
                if stored := await self._find(subject, after, event.event_id):
                    return self._said(stored)
                if refused:
                    raise Conflict(f"{id!r}: the lane of {self.service!r} is past version {after.version}")
            except (nats.errors.Error, ApiError) as error:
                log.warning("append.not_found_out", id=id, attempt=attempt, error=repr(error))
            await asyncio.sleep(min(0.05 * 2**attempt, 1.0))
        raise LogUnavailable(f"no answer to an append about {id!r} after {APPEND_ATTEMPTS_MAX} tries")

    async def report(
        self, id: str, facts: Sequence[AnyFact], *, cause: Event | None = None, after: Tip | None = None
    ) -> Recorded:
        """Appends facts that are true whatever else the own lane says, behind whatever it ends with.

        `after` is where the lane ended when it was last looked at: tried first, and if it has grown since, its end is
        asked of the leader. What this log itself has said since is known without asking.
        """
        subject = subjects.lane(self.service, self.org, id)
        tip = max((t for t in (after, self._tips.get(id)) if t), key=lambda t: t.sequence, default=None)
        for attempt in range(REPORT_ATTEMPTS_MAX):
            try:
                if tip is None:
                    last = await leader_last(self._nc, subjects.EVENTS, subject)
                    tip = last.tip if last else Tip()
                return await self.append(id, facts, after=tip, cause=cause)
            except Conflict:
                tip = None
            except (nats.errors.Error, ApiError) as error:
                # What is reported may have been paid for: while a leader is being chosen, it is worth the wait.
                log.warning("report.unanswered", id=id, attempt=attempt, error=repr(error))
                await asyncio.sleep(min(0.05 * 2**attempt, 1.0))
        raise LogUnavailable(f"the lane of {self.service!r} about {id!r} did not stand still for an append")

    async def persist(
        self, id: str, facts: Sequence[AnyFact], *, cause: Event | None = None, after: Tip | None = None
    ) -> Recorded:
        """Reports facts that must not be lost, money was spent on them: tries for as long as the process lives.

        A full stream or disk takes them when there is room again. Only an event that the log would never take is given
        up, with EventTooLarge; who cancels the wait is told in the log what was not stored.
        """
        pause_s = PERSIST_PAUSE_S_MIN
        try:
            while True:
                try:
                    return await self.report(id, facts, cause=cause, after=after)
                except (LogUnavailable, nats.errors.Error, ApiError, TimeoutError) as error:
                    log.error("persist.refused", id=id, error=str(error), again_in_s=pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, PERSIST_PAUSE_S_MAX)
        except asyncio.CancelledError:
            log.error("persist.not_stored", id=id, facts=[fact_name(fact) for fact in facts])
            raise

    async def read(
        self, id: str, *, at_least: int = 0, known: Past | None = None, first: int = 0, places: Sequence[int] = ()
    ) -> Past:
        """The past of one id, over all lanes, in stream order; it holds the sequence `at_least`, else Stale is raised.

        `known` is what an earlier read returned: only what is newer is fetched. `first` is where the id's first event
        stands, or any place before it: the server looks through all that lies between. `places` are those of all its
        events up to the last of them, by somebody who knows: they are fetched without looking.
        """
        past = known or Past()
        subject = subjects.every_lane(self.org, id)
        if places and known is None:
            past, is_whole = await self._read_places(id, subject, places)
            if is_whole and past.read_to >= at_least:
                return past
        failure: ReadFailed | None = None
        for attempt in range(READ_ATTEMPTS_MAX):
            try:
                past = await self._read_newer(subject, past, first)
            except ReadFailed as error:
                failure = error
            else:
                if past.read_to >= at_least:
                    return past
            await asyncio.sleep(READ_PAUSE_S * min(attempt + 1, 10))
        raise Stale(f"{id!r} was read up to sequence {past.read_to}, not {at_least}") from failure

    async def last_own(self, id: str) -> int:
        """The stream sequence of the own lane's last event, asked of the leader; 0 for an empty lane."""
        last = await leader_last(self._nc, subjects.EVENTS, subjects.lane(self.service, self.org, id))
        return last.sequence if last else 0

    async def last_sequence(self) -> int:
        """The stream sequence of the last event of all, asked of the leader; 0 for an empty log."""
        last = await leader_last(self._nc, subjects.EVENTS, subjects.ALL_EVENTS)
        return last.sequence if last else 0

    async def follow(
        self, *, after: int, batch: int = 500, subject: str = ""
    ) -> AsyncGenerator[tuple[Recorded, ...], None]:
        """Every event after a sequence, in order, in batches, and then as they come; an empty batch when idle.

        Stateless: it reads from the position it is given, so no consumer can be ahead of a checkpoint.
        """
        follower = following.Follower(self._nc, subject or subjects.ALL_EVENTS, after=after, batch=batch)
        async with contextlib.aclosing(follower.batches()) as batches:
            async for found in batches:
                yield found

    def _said(self, recorded: Recorded) -> Recorded:
        """Remembers where a lane ends: a hint, for whoever is wrong about it meets a Conflict."""
        self._tips[recorded.event.id] = recorded.tip
        if len(self._tips) > TIPS_KEPT_MAX:
            del self._tips[next(iter(self._tips))]
        return recorded

    async def _read_places(self, id: str, subject: str, places: Sequence[int]) -> tuple[Past, bool]:
        """The events at these places and what came after them, and whether that is all.

        Nothing, where they are not the whole past of the id, or not there yet: then it is looked for.
        """
        try:
            found = await direct_places(self._nc, subjects.EVENTS, places, subject)
        except ReadFailed:
            return Past(), False
        versions: dict[str, int] = {}
        for recorded in found.messages:
            event = recorded.event
            if event.id != id or event.org != self.org or event.version != versions.get(event.producer, 0) + 1:
                log.warning("read.places_do_not_fit", id=id, place=recorded.sequence)
                return Past(), False
            versions[event.producer] = event.version
        return Past() + found.messages, not found.pending

    async def _read_newer(self, subject: str, past: Past, first: int) -> Past:
        while True:
            found = await direct_batch(self._nc, subjects.EVENTS, subject, start=max(past.read_to + 1, first))
            past = past + found.messages
            if not found.pending:
                return past

    async def _find(self, subject: str, after: Tip, event_id: str) -> Recorded | None:
        """The event with this id, if the lane holds it behind `after`."""
        start = after.sequence + 1
        while True:
            stored = await leader_next(self._nc, subjects.EVENTS, subject, start=start)
            if stored is None or stored.event.event_id == event_id:
                return stored
            start = stored.sequence + 1

    def _event(
        self, id: str, facts: Sequence[AnyFact], after: Tip, cause: Event | None, read_to: int, at: datetime
    ) -> Event:
        if not facts:
            raise ValueError(f"an event about {id!r} without facts says nothing")
        moment = Timestamp()
        moment.FromDatetime(at)
        return Event(
            event_id=str(ULID()),
            org=self.org,
            id=id,
            version=after.version + 1,
            correlation_id=cause.correlation_id if cause else id,
            causation_id=cause.event_id if cause else "",
            occurred_at=moment,
            producer=self.service,
            prev_hash=after.hash,
            read_to=read_to,
            facts=[to_fact(fact) for fact in facts],
        )


def _headers(event: Event, after: Tip) -> dict[str, str]:
    """OCC and de-duplication, and the envelope once more as CloudEvents attributes."""
    names = [fact_name(fact) for fact in facts_of(event) if fact is not None]
    trace = hashlib.sha256(event.correlation_id.encode()).hexdigest()
    return {
        "Nats-Expected-Last-Subject-Sequence": str(after.sequence),
        "Nats-Msg-Id": event.event_id,
        "ce-specversion": "1.0",
        "ce-id": event.event_id,
        "ce-source": f"/{event.org}/{event.producer}",
        "ce-type": names[-1],
        "ce-subject": event.id,
        "ce-time": event.occurred_at.ToJsonString(),
        "ce-datacontenttype": "application/protobuf",
        "ce-facts": ",".join(names),
        "traceparent": f"00-{trace[:32]}-{event.event_id[-16:].encode().hex()[:16]}-01",
    }
