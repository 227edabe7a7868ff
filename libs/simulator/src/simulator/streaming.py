"""Sends an answer that is planned and billed: whole or as a stream, at its pace, or broken off as asked for.

A caller who goes away stops the sending, never the bill: that was written before.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from simulator.call import PIECE_CHARACTERS, Speaks, Wire, pieces_of
from simulator.misbehaviour import Mode
from simulator.pace import INSTANT, Pace
from simulator.pretend import Planned
from simulator.tokens import CHARACTERS_PER_TOKEN

HANG_S_MAX = 3600.0
PIECE_TOKENS = PIECE_CHARACTERS // CHARACTERS_PER_TOKEN
_BROKEN_EVENT = b'data: {"id": "broken, "choices": [{"delta"\n\n'
# Anthropic's SDK passes over events without a name.
_BROKEN_EVENT_NAMES = {Wire.ANTHROPIC: b"event: content_block_delta\n"}
_BROKEN_BODY = b'{"id": "broken, "choices": [{"message"'


class Gone(Exception):
    """The caller has hung up."""


class _Answer(Response):
    """What both kinds share: a pace, a caller who may leave, and a wish to misbehave."""

    def __init__(self, plan: Planned, wire: Speaks, pace: Pace, headers: dict[str, str]) -> None:
        self._plan = plan
        self._wire = wire
        wish = plan.wish
        slow = wish is not None and wish.mode == Mode.SLOW
        self._pace = Pace(wish.tokens_per_second, pace.first_token_delay_s) if wish and slow else pace
        self._mode = wish.mode if wish else Mode.NONE
        if self._mode == Mode.HUGE_FILE:
            self._pace = INSTANT  # A million tokens at a watchable pace would take half an hour.
        self._said_headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope  # Everything in it has been read.
        gone = asyncio.create_task(_hung_up(receive))
        try:
            await self._send(send, gone)
        except (Gone, OSError):
            return
        finally:
            gone.cancel()

    async def _send(self, send: Send, gone: asyncio.Task[None]) -> None:
        raise NotImplementedError

    async def _start(self, send: Send, content_type: str, length: int | None = None) -> None:
        headers = [(name.encode(), value.encode()) for name, value in self._said_headers.items()]
        headers.append((b"content-type", content_type.encode()))
        if length is not None:
            headers.append((b"content-length", str(length).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})


class Whole(_Answer):
    """One JSON body."""

    async def _send(self, send: Send, gone: asyncio.Task[None]) -> None:
        billed = self._plan.billed
        await _pause(self._pace.first_token_delay_s + self._pace.seconds_for(billed.output), gone)
        if self._mode == Mode.HANG:
            await _pause(HANG_S_MAX, gone)
        body = json.dumps(self._wire.whole(self._plan.reply), separators=(",", ":")).encode()
        if self._mode == Mode.MALFORMED_WIRE:
            body = _BROKEN_BODY
        await self._start(send, "application/json", len(body))
        if self._mode == Mode.CUT:
            # Returning without the rest makes the server close the connection, as a lost provider does.
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
            return
        await send({"type": "http.response.body", "body": body})


class Streamed(_Answer):
    """Server-sent events."""

    async def _send(self, send: Send, gone: asyncio.Task[None]) -> None:
        await self._start(send, "text/event-stream; charset=utf-8")
        await self._events(send, gone)
        if self._mode == Mode.HANG:
            await _pause(HANG_S_MAX, gone)
        if self._mode not in (Mode.CUT, Mode.HANG):
            await send({"type": "http.response.body", "body": b""})

    async def _events(self, send: Send, gone: asyncio.Task[None]) -> None:
        together = bytearray()
        for event, pause_s in self._timed():
            if pause_s and together:
                await send({"type": "http.response.body", "body": bytes(together), "more_body": True})
                together.clear()
            await _pause(pause_s, gone)
            together += event
        await send({"type": "http.response.body", "body": bytes(together), "more_body": True})

    def _timed(self) -> Iterator[tuple[bytes, float]]:
        """Each event, and how long to wait before it."""
        reply, wire = self._plan.reply, self._wire
        for event in wire.opening(reply):
            yield event, 0.0
        wish, per_piece = self._plan.wish, self._pace.seconds_for(PIECE_TOKENS)
        breaks_off = self._mode in (Mode.CUT, Mode.STREAM_ERROR, Mode.HANG, Mode.MALFORMED_WIRE)
        pieces = pieces_of(reply.text)
        for part in pieces[: wish.after_chunks] if wish and breaks_off else pieces:
            yield wire.piece(reply, part), per_piece + (self._pace.first_token_delay_s if part.index == 0 else 0.0)
        match self._mode:
            case Mode.CUT | Mode.HANG:
                return
            case Mode.STREAM_ERROR:
                yield wire.stream_error(reply), 0.0
            case Mode.MALFORMED_WIRE:
                yield _BROKEN_EVENT_NAMES.get(reply.asked.wire, b"") + _BROKEN_EVENT, 0.0
            case _:
                for event in wire.closing(reply):
                    yield event, 0.0


async def _pause(seconds: float, gone: asyncio.Task[None]) -> None:
    if seconds > 0:
        await asyncio.wait({gone}, timeout=seconds)
    if gone.done():
        raise Gone


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
