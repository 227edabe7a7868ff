"""Direct gets of many messages, which nats-py does not offer: those that match a subject, or those at given places.

A connection has one inbox for all of its reads: to subscribe and unsubscribe for each would cost more than the read.
"""

import asyncio
import contextlib
import json
from abc import abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakKeyDictionary

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from eventlog.past import Recorded, stored

ANSWER_TIMEOUT_S = 5.0
DIRECT_BATCH = 256


class ReadFailed(Exception):
    """A read was not answered, or answered with a status other than "that is all"."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some messages of a stream, in order; `pending` more follow."""

    messages: tuple[Recorded, ...]
    pending: int


async def direct_batch(nc: Client, stream: str, subject: str, *, start: int, batch: int = DIRECT_BATCH) -> Batch:
    """Up to `batch` messages that match `subject`, from `start` on. Any replica may answer, and may be behind."""
    async with _inbox(nc).asked(nc, stream, _Scan(subject), [_scan(subject, start, batch)]) as scan:
        return await scan.ended


async def direct_places(nc: Client, stream: str, places: Sequence[int], subject: str) -> Batch:
    """The messages at these places of the stream, in order, and what matches `subject` after the last of them.

    Each is found at once, whatever lies between them.
    """
    wanted, inbox = sorted(set(places)), _inbox(nc)
    gets = [b'{"seq":%d}' % place for place in wanted]
    scan = _scan(subject, wanted[-1] + 1, DIRECT_BATCH)
    async with (
        inbox.asked(nc, stream, _Places(wanted), gets) as at_places,
        inbox.asked(nc, stream, _Scan(subject), [scan]) as after,
    ):
        found, newer = await at_places.ended, await after.ended
        return Batch((*found.messages, *newer.messages), newer.pending)


def _scan(subject: str, start: int, batch: int) -> bytes:
    return json.dumps({"seq": max(start, 1), "batch": batch, "next_by_subj": subject}).encode()


class _Read:
    """What has been heard of one read so far."""

    def __init__(self, what: str) -> None:
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Batch] = self._loop.create_future()
        self._what = what
        self._heard = 0
        self.watch()

    def watch(self, heard: int = -1) -> None:
        """Gives the read up when nothing of it has arrived for too long."""
        if self._heard == heard:
            self._fail(f"no answer within {ANSWER_TIMEOUT_S} s")
        else:
            self.timer = self._loop.call_later(ANSWER_TIMEOUT_S, self.watch, self._heard)

    def close(self) -> None:
        """Nobody waits for it any more."""
        self.timer.cancel()
        if not self.ended.cancel() and not self.ended.cancelled():
            self.ended.exception()  # it was seen, or another answer has told already

    @abstractmethod
    def take(self, message: Msg) -> None:
        """Hears one answer."""

    def _end(self, batch: Batch) -> None:
        if not self.ended.done():
            self.ended.set_result(batch)

    def _fail(self, why: str) -> None:
        if not self.ended.done():
            self.ended.set_exception(ReadFailed(f"direct get of {self._what}: {why}"))


class _Scan(_Read):
    """All that matches a subject: the answers come in order, and then their end."""

    def __init__(self, subject: str) -> None:
        super().__init__(repr(subject))
        self._found: list[Recorded] = []

    def take(self, message: Msg) -> None:
        self._heard += 1
        headers = message.headers or {}
        match headers.get("Status", ""):
            case "":
                # Of messages lost on the way, by a reconnect say, nothing else tells: the end still arrives.
                before = int(headers.get("Nats-Last-Sequence", "0"))
                there = self._found[-1].sequence if self._found else 0
                if before != there:
                    self._fail(f"{before} came after {there}, some were lost")
                    return
                self._found.append(stored(message.data, int(headers["Nats-Sequence"]), headers["Nats-Subject"]))
            case "204":
                self._end(Batch(tuple(self._found), int(headers.get("Nats-Num-Pending", "0"))))
            case "404":
                self._end(Batch((), 0))
            case status:
                self._fail(f"{status} {headers.get('Description', '')}")


class _Places(_Read):
    """One message for each place: the answers come in any order, for replicas may share them."""

    def __init__(self, places: Sequence[int]) -> None:
        super().__init__(f"{len(places)} places")
        self._missing = set(places)
        self._found: list[Recorded] = []

    def take(self, message: Msg) -> None:
        self._heard += 1
        headers = message.headers or {}
        if status := headers.get("Status", ""):
            self._fail(f"{status} {headers.get('Description', '')}")
            return
        sequence = int(headers["Nats-Sequence"])
        if sequence in self._missing:
            self._missing.discard(sequence)
            self._found.append(stored(message.data, sequence, headers["Nats-Subject"]))
        if not self._missing:
            self._end(Batch(tuple(sorted(self._found, key=lambda recorded: recorded.sequence)), 0))


R = TypeVar("R", bound=_Read)


class _Inbox:
    """Where the answers to all reads of one connection arrive, told apart by the last token of their subject."""

    def __init__(self, nc: Client) -> None:
        self._prefix = nc.new_inbox()
        self._reads: dict[str, _Read] = {}
        self._last = 0
        self._subscribed: asyncio.Task[Subscription] | None = None

    @contextlib.asynccontextmanager
    async def asked(self, nc: Client, stream: str, read: R, requests: Sequence[bytes]) -> AsyncIterator[R]:
        """Asks, and hears the answers while the block runs."""
        if self._subscribed is None:
            self._subscribed = asyncio.ensure_future(nc.subscribe(f"{self._prefix}.*", cb=self._came))
        self._last += 1
        token = str(self._last)
        self._reads[token] = read
        subject, reply = f"$JS.API.DIRECT.GET.{stream}", f"{self._prefix}.{token}"
        try:
            if not self._subscribed.done():
                await asyncio.shield(self._subscribed)
            for request in requests:
                await nc.publish(subject, request, reply=reply)
            yield read
        finally:
            read.close()
            del self._reads[token]

    async def _came(self, message: Msg) -> None:
        if (read := self._reads.get(message.subject.rpartition(".")[2])) is not None:
            read.take(message)


_INBOXES: "WeakKeyDictionary[Client, _Inbox]" = WeakKeyDictionary()


def _inbox(nc: Client) -> _Inbox:
    if (inbox := _INBOXES.get(nc)) is None:
        inbox = _INBOXES[nc] = _Inbox(nc)
    return inbox
