"""Publishes to a stream and waits for its acknowledgement, in half of the time that nats-py's request takes.

A connection has one inbox for all of its acknowledgements. Errors are those of nats-py.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.errors import APIError, NoStreamResponseError

NO_RESPONDERS = "503"


async def publish(nc: Client, subject: str, data: bytes, *, headers: Mapping[str, str], timeout_s: float) -> int:
    """The sequence that the message has got in its stream.

    Raises APIError where the stream refuses it, and nats.errors.TimeoutError where nobody knows.
    """
    if (acks := _ACKS.get(nc)) is None:
        acks = _ACKS[nc] = _Acks(nc)
    answer = await acks.asked(nc, subject, data, headers, timeout_s)
    if not answer.data and (answer.headers or {}).get("Status") == NO_RESPONDERS:
        raise NoStreamResponseError
    told: dict[str, Any] = json.loads(answer.data)
    if "error" in told:
        raise APIError.from_error(told["error"])
    return int(told["seq"])


class _Acks:
    """Where the acknowledgements of one connection arrive, told apart by the last token of their subject."""

    def __init__(self, nc: Client) -> None:
        self._prefix = nc.new_inbox()
        self._waiting: dict[str, asyncio.Future[Msg]] = {}
        self._last = 0
        self._subscribed: asyncio.Task[Subscription] | None = None

    async def asked(self, nc: Client, subject: str, data: bytes, headers: Mapping[str, str], timeout_s: float) -> Msg:
        if self._subscribed is None:
            self._subscribed = asyncio.ensure_future(nc.subscribe(f"{self._prefix}.*", cb=self._came))
        if not self._subscribed.done():
            await asyncio.shield(self._subscribed)
        loop = asyncio.get_running_loop()
        self._last += 1
        token = str(self._last)
        ack: asyncio.Future[Msg] = loop.create_future()
        self._waiting[token] = ack
        timer = loop.call_later(timeout_s, _give_up, ack)
        try:
            await nc.publish(subject, data, reply=f"{self._prefix}.{token}", headers=dict(headers))
            return await ack
        finally:
            timer.cancel()
            del self._waiting[token]

    async def _came(self, message: Msg) -> None:
        ack = self._waiting.get(message.subject.rpartition(".")[2])
        if ack is not None and not ack.done():
            ack.set_result(message)


def _give_up(ack: asyncio.Future[Msg]) -> None:
    if not ack.done():
        ack.set_exception(nats.errors.TimeoutError())


_ACKS: "WeakKeyDictionary[Client, _Acks]" = WeakKeyDictionary()
