"""Publishes a model's words as they come, for whoever watches; best effort, nobody stores them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable

from eventlog import subjects

EVERY_S = 0.1

Publish = Callable[[str, bytes], Awaitable[None]]


@contextlib.asynccontextmanager
async def publishing(publish: Publish, org: str, task_id: str, call_id: str) -> AsyncIterator[Callable[[str], None]]:
    """Gives a function that takes pieces of text; they are sent on together, ten times a second."""
    pieces: list[str] = []
    subject = subjects.live(org, task_id)

    async def send() -> None:
        if not pieces:
            return
        text = "".join(pieces)
        pieces.clear()
        with contextlib.suppress(Exception):  # a watcher may miss words; the call goes on
            await publish(subject, json.dumps({"call_id": call_id, "text": text}).encode())

    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None
    sending: asyncio.Task[None] | None = None

    def due() -> None:
        nonlocal timer, sending
        timer, sending = None, loop.create_task(send())

    def on_text(piece: str) -> None:
        nonlocal timer
        pieces.append(piece)
        if timer is None:
            timer = loop.call_later(EVERY_S, due)

    try:
        yield on_text
        if sending is not None:
            await sending
        await send()
    finally:
        if timer is not None:
            timer.cancel()
