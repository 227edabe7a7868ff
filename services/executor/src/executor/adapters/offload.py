"""Runs what takes long in a thread, so that heartbeats go on, and what is quick at once: a thread would cost more."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

QUICK_CHARACTERS_MAX = 200_000
"""Text of this length is rendered or read within a few milliseconds."""


async def worked(characters: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` makes of so much text."""
    if characters <= QUICK_CHARACTERS_MAX:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)
