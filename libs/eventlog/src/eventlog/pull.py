"""Takes messages from a durable pull consumer as long as there is room for them, each in a task of its own.

It never asks for more than it can take in hand at once: a message that waits in a buffer past its ack wait would be
done twice. What is asked for is asked for ahead, so that no message waits for a round trip.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

log = structlog.get_logger()

# The server forgets a request after this time; it is asked again.
EXPIRES_S = 30.0
GRACE_S = 5.0
PULSE_S = 0.5
SECOND = 1_000_000_000  # JetStream counts nanoseconds
# Room is asked for again when so large a part of it is free: one request for several messages.
PART = 4
HEARTBEAT, BUSY = "100", "409"

Handle = Callable[[Msg], Coroutine[Any, Any, None]]


class Puller:
    """One durable consumer, and what is in hand of it. `handle` acks, naks or terms."""

    def __init__(self, nc: Client, stream: str, durable: str, handle: Handle, *, at_once: int) -> None:
        self._nc = nc
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"
        self._handle = handle
        self._at_once = at_once
        self._inbox = nc.new_inbox()
        self._asked = 0
        self._asked_until = 0.0
        self._reconnects = 0
        self._in_hand: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._stopping = False

    async def run(self, *, drain_s: float = 0) -> None:
        """Takes messages until it is cancelled; then what is in hand has `drain_s` to end before it is cancelled."""
        subscription = await self._nc.subscribe(f"{self._inbox}.*", cb=self._came)
        try:
            while True:
                await self._ask()
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PULSE_S):
                        await self._wake.wait()
        finally:
            self._stopping = True
            with contextlib.suppress(Exception):
                await subscription.unsubscribe()
            await self._drained(drain_s)

    async def _ask(self) -> None:
        """Asks for as many as there is room for; what a lost connection has swallowed is asked for again."""
        now = asyncio.get_running_loop().time()
        reconnects = self._nc.stats["reconnects"]
        if reconnects != self._reconnects or now > self._asked_until:
            self._reconnects, self._asked = reconnects, 0
        free = self._at_once - len(self._in_hand) - self._asked
        if free < max(1, self._at_once // PART) or not self._nc.is_connected:
            return
        self._asked += free
        self._asked_until = now + EXPIRES_S + GRACE_S
        request = {"batch": free, "expires": int(EXPIRES_S * SECOND)}
        await self._nc.publish(self._subject, json.dumps(request).encode(), reply=f"{self._inbox}.1")

    async def _came(self, message: Msg) -> None:
        if not message.reply.startswith("$JS.ACK."):
            self._told((message.headers or {}).get("Status", ""), message)
            return
        if self._stopping:
            await message.nak()
            return
        self._asked = max(self._asked - 1, 0)
        task = asyncio.create_task(self._handle(message))
        self._in_hand.add(task)
        task.add_done_callback(self._done)

    def _told(self, status: str, message: Msg) -> None:
        """A request has ended: it expired, or the consumer has moved to another server."""
        headers = message.headers or {}
        unserved = headers.get("Nats-Pending-Messages", "")
        self._asked = max(self._asked - int(unserved), 0) if unserved.isdigit() else 0
        if status != "408":
            log.warning("pull.refused", subject=self._subject, status=status, reason=headers.get("Description", ""))
            return  # asked again at the next pulse, not at once: it may be refused again
        self._wake.set()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._in_hand.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("pull.not_handled", subject=self._subject, error=repr(error))
        self._wake.set()

    async def _drained(self, drain_s: float) -> None:
        if self._in_hand:
            await asyncio.wait(self._in_hand, timeout=drain_s)
        while self._in_hand:
            for task in self._in_hand:
                task.cancel()
            await asyncio.wait(self._in_hand, timeout=PULSE_S)
