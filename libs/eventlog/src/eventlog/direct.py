"""Batched direct gets, which nats-py does not offer: many messages of a stream for one request.

A connection has one inbox for all of its reads: to subscribe and unsubscribe for each would cost more than the read.
"""

import asyncio
import json
from dataclasses import dataclass
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
    if (inbox := _INBOXES.get(nc)) is None:
        inbox = _INBOXES[nc] = _Inbox(nc)
    return await inbox.read(nc, stream, subject, max(start, 1), batch)


class _Read:
    """What has been heard of one read so far."""

    def __init__(self, subject: str, loop: asyncio.AbstractEventLoop) -> None:
        self.ended: asyncio.Future[Batch] = loop.create_future()
        self._subject = subject
        self._loop = loop
        self._found: list[Recorded] = []
        self._heard = 0
        self.watch()

    def watch(self, heard: int = -1) -> None:
        """Gives the read up when nothing of it has arrived for too long."""
        if self._heard == heard:
            self._fail(f"no answer within {ANSWER_TIMEOUT_S} s")
        else:
            self.timer = self._loop.call_later(ANSWER_TIMEOUT_S, self.watch, self._heard)

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

    def _end(self, batch: Batch) -> None:
        if not self.ended.done():
            self.ended.set_result(batch)

    def _fail(self, why: str) -> None:
        if not self.ended.done():
            self.ended.set_exception(ReadFailed(f"direct get of {self._subject!r}: {why}"))


class _Inbox:
    """Where the answers to all reads of one connection arrive, told apart by the last token of their subject."""

    def __init__(self, nc: Client) -> None:
        self._prefix = nc.new_inbox()
        self._reads: dict[str, _Read] = {}
        self._last = 0
        self._subscribed: asyncio.Task[Subscription] | None = None

    async def read(self, nc: Client, stream: str, subject: str, start: int, batch: int) -> Batch:
        if self._subscribed is None:
            self._subscribed = asyncio.ensure_future(nc.subscribe(f"{self._prefix}.*", cb=self._came))
        if not self._subscribed.done():
            await asyncio.shield(self._subscribed)
        self._last += 1
        token = str(self._last)
        read = self._reads[token] = _Read(subject, asyncio.get_running_loop())
        request = {"seq": start, "batch": batch, "next_by_subj": subject}
        try:
            await nc.publish(
                f"$JS.API.DIRECT.GET.{stream}", json.dumps(request).encode(), reply=f"{self._prefix}.{token}"
            )
            return await read.ended
        finally:
            read.timer.cancel()
            del self._reads[token]

    async def _came(self, message: Msg) -> None:
        if (read := self._reads.get(message.subject.rpartition(".")[2])) is not None:
            read.take(message)


_INBOXES: "WeakKeyDictionary[Client, _Inbox]" = WeakKeyDictionary()
