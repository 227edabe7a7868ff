"""Watching a task over a connection that may break. Shows every event once, in order; knows no rendering."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable

import grpc
from factory.task.v1 import (
    TASK_STATE_CANCELLED,
    TASK_STATE_COMPLETED,
    TASK_STATE_FAILED,
    TASK_STATE_REJECTED,
    WatchResponse,
)

from factory_client.errors import error_from

# A stream is opened anew at least this often, so that a connection that died silently is noticed.
STREAM_MAX_S = 300.0
# How long nobody may answer before watching gives up.
PATIENCE_S = 60.0
PAUSE_FIRST_S = 0.1
PAUSE_MAX_S = 2.0

ENDED = frozenset({TASK_STATE_COMPLETED, TASK_STATE_FAILED, TASK_STATE_CANCELLED, TASK_STATE_REJECTED})
TRY_AGAIN = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})


def has_ended(state: int) -> bool:
    """Nothing more will happen to a task in this state."""
    return state in ENDED


async def watched(
    stream: Callable[[int, float], AsyncIterable[WatchResponse]],
    ended: Callable[[], Awaitable[bool]],
    after: int,
    patience_s: float = PATIENCE_S,
) -> AsyncIterator[WatchResponse]:
    """Events after a sequence; opens the stream again after the last one whenever it breaks.

    Raises `FactoryError` when nobody has answered for `patience_s`, or at once when the factory refuses.
    """
    clock = asyncio.get_running_loop().time
    last, heard, pause_s = after, clock(), PAUSE_FIRST_S
    while True:
        done = False
        try:
            async for response in stream(last, STREAM_MAX_S):
                heard, pause_s = clock(), PAUSE_FIRST_S
                if response.sequence <= last:
                    continue
                last = response.sequence
                done = done or has_ended(response.task.state)
                yield response
            # The server closed the stream: because the task has ended, or because it is going down.
            if done or await ended():
                return
        except grpc.aio.AioRpcError as error:
            if done:
                return
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                heard = clock()
            if error.code() not in TRY_AGAIN or clock() - heard > patience_s:
                raise error_from(error) from None
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, PAUSE_MAX_S)
