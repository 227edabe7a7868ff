"""Taking messages from a durable consumer: as many at once as there is room for, and none is forgotten."""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest
from embedded.nats import Nats
from eventlog import connect
from eventlog.pull import Puller
from nats.aio.client import Client
from nats.aio.msg import Msg

pytestmark = pytest.mark.slow


@asynccontextmanager
async def pulling(nc: Client, handle, *, at_once: int):
    task = asyncio.create_task(Puller(nc, "WORK", "context", handle, at_once=at_once).run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def offered(nc: Client, count: int, first: int = 0) -> list[str]:
    subjects = [f"factory.work.context.main.t{n}.context-1-1" for n in range(first, first + count)]
    for subject in subjects:
        await nc.jetstream().publish(subject, b"-")
    return subjects


def cut(nc: Client) -> None:
    """Breaks the connection, as a network does."""
    assert nc._transport is not None
    nc._transport.close()


async def until(seen) -> None:
    async with asyncio.timeout(20):
        while not seen():
            await asyncio.sleep(0.01)


async def test_as_many_are_in_hand_as_there_is_room_for_and_each_is_taken_once(nc: Client):
    in_hand, most, taken = 0, 0, []

    async def handle(message: Msg) -> None:
        nonlocal in_hand, most
        in_hand += 1
        most = max(most, in_hand)
        await asyncio.sleep(0.01)
        taken.append(message.subject)
        await message.ack()
        in_hand -= 1

    wanted = await offered(nc, 30)
    async with pulling(nc, handle, at_once=3):
        await until(lambda: len(taken) == 30)

    assert most == 3
    assert sorted(taken) == sorted(wanted)


async def test_what_fits_is_taken_at_once_even_if_more_would_fit(nc: Client):
    taken: list[str] = []

    async def handle(message: Msg) -> None:
        taken.append(message.subject)
        await message.ack()

    async with pulling(nc, handle, at_once=64):
        for number in range(5):
            await offered(nc, 1, first=number)
            await until(lambda number=number: len(taken) == number + 1)


async def test_a_handler_that_fails_keeps_no_room(nc: Client):
    taken: list[int] = []

    async def handle(message: Msg) -> None:
        taken.append(message.metadata.num_delivered)
        if len(taken) == 1:
            await message.nak()
            raise ValueError("not this time")
        await message.ack()

    await offered(nc, 1)
    async with pulling(nc, handle, at_once=1):
        await until(lambda: taken == [1, 2])


async def test_what_was_asked_for_before_the_connection_broke_is_asked_for_again(nc: Client, nats_server: Nats):
    taken: list[str] = []

    async def handle(message: Msg) -> None:
        taken.append(message.subject)
        await message.ack()

    fragile = await connect(nats_server.url, name="operator")
    async with pulling(fragile, handle, at_once=1):
        await offered(nc, 1)
        await until(lambda: len(taken) == 1)
        cut(fragile)
        await until(lambda: fragile.stats["reconnects"] == 1)
        await offered(nc, 2, first=1)
        await until(lambda: len(taken) == 3)
    await fragile.close()


async def test_what_is_in_hand_at_the_end_is_given_back(nc: Client):
    taken: list[int] = []

    async def handle(message: Msg) -> None:
        taken.append(message.metadata.num_delivered)
        try:
            await asyncio.sleep(60 if len(taken) == 1 else 0)
            await message.ack()
        except asyncio.CancelledError:
            await message.nak()
            raise

    await offered(nc, 1)
    async with pulling(nc, handle, at_once=1):
        await until(lambda: taken == [1])
    async with pulling(nc, handle, at_once=1):
        await until(lambda: taken == [1, 2])
