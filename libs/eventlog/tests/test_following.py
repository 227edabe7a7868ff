"""Following the log: in order and without gaps, whatever is lost on the way to the follower."""

import asyncio
from contextlib import aclosing

import pytest
from embedded.nats import Nats
from eventlog import EventLog, Tip, connect
from eventlog.following import Follower
from eventlog.headers import Headers, plain_headers
from factory.task.v1 import TaskSubmitted
from hypothesis import given as forall
from hypothesis import strategies as st
from nats.aio.client import Client

pytestmark = pytest.mark.slow


def log_of(nc: Client) -> EventLog:
    return EventLog(nc, org="main", service="conductor")


def cut(nc: Client) -> None:
    """Breaks the connection, as a network does."""
    assert nc._transport is not None
    nc._transport.close()


async def told(log: EventLog, first: int, last: int) -> None:
    await asyncio.gather(*(log.append(f"t{n}", [TaskSubmitted()], after=Tip()) for n in range(first, last)))


async def followed(follower: Follower, last: int, pause_s: float = 0) -> list[int]:
    """The sequences that the follower gives, up to `last`."""
    seen: list[int] = []
    async with asyncio.timeout(30), aclosing(follower.batches()) as batches:
        async for batch in batches:
            seen += [recorded.sequence for recorded in batch]
            if seen and seen[-1] >= last:
                break
            await asyncio.sleep(pause_s)
    return seen


async def test_a_follower_that_cannot_keep_up_reads_what_it_has_missed(nc: Client):
    await told(log_of(nc), 0, 5)
    slow = Follower(nc, "factory.evt.>", after=2, batch=4, heard_max=3)

    seen, _ = await asyncio.gather(followed(slow, 60, pause_s=0.005), told(log_of(nc), 5, 60))

    assert seen == list(range(3, 61))


async def test_what_was_said_while_the_connection_was_broken_is_read(nc: Client, nats_server: Nats):
    fragile = await connect(nats_server.url, name="operator")
    following = asyncio.create_task(followed(Follower(fragile, "factory.evt.>", after=0, batch=10), 30))
    await told(log_of(nc), 0, 10)
    cut(fragile)

    await told(log_of(nc), 10, 30)

    assert await following == list(range(1, 31))
    await fragile.close()


async def test_a_follower_of_one_task_hears_of_no_other(nc: Client):
    log = log_of(nc)
    following = asyncio.create_task(followed(Follower(nc, "factory.evt.*.main.t7", after=0, batch=10), 12))

    await told(log, 0, 7)
    mine = await log.append("t7", [TaskSubmitted()], after=Tip())
    await told(log, 8, 11)
    await log.append("t7", [TaskSubmitted(title="again")], after=mine.tip)

    assert await following == [8, 12]


async def test_an_empty_batch_says_that_the_log_has_been_read(nc: Client):
    await told(log_of(nc), 0, 7)
    batches: list[int] = []

    async for batch in log_of(nc).follow(after=0, batch=3):
        batches.append(len(batch))
        if not batch:
            break

    assert batches == [3, 3, 1, 0]


async def test_many_reads_at_once_do_not_mix(nc: Client):
    log = log_of(nc)
    await told(log, 0, 40)

    pasts = await asyncio.gather(*(log.read(f"t{n}") for n in range(40)))

    assert [[recorded.event.id for recorded in past.events] for past in pasts] == [[f"t{n}"] for n in range(40)]


async def test_a_report_behind_a_known_end_asks_nobody_and_one_behind_an_old_end_is_appended_all_the_same(
    nc: Client, nats_server: Nats
):
    asked: list[str] = []

    async def note(message) -> None:
        asked.append(message.subject)

    log, other = log_of(nc), log_of(nc)
    first = await log.append("t1", [TaskSubmitted(title="1")], after=Tip())
    watching = await connect(nats_server.url, name="operator")
    await watching.subscribe("$JS.API.STREAM.MSG.GET.EVENTS", cb=note)
    await watching.flush()

    await other.report("t1", [TaskSubmitted(title="2")], after=first.tip)
    await other.report("t1", [TaskSubmitted(title="3")])
    await watching.flush()
    unasked = list(asked)
    await log.report("t1", [TaskSubmitted(title="4")], after=first.tip)
    past = await log.read("t1")
    await watching.flush()

    assert unasked == []
    assert asked != []
    assert [recorded.event.version for recorded in past.events] == [1, 2, 3, 4]
    await watching.close()


HEADER_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=12)


@forall(st.lists(st.tuples(HEADER_TEXT, HEADER_TEXT), max_size=4), st.binary(max_size=6))
def test_headers_are_read_as_nats_py_reads_them_or_left_to_it(headers: list[tuple[str, str]], rest: bytes):
    raw = "".join(f"{name}: {value}\r\n" for name, value in headers).encode() + rest + b"\r\n"

    assert plain_headers(raw) in (None, Client()._parse_header_lines(raw))


def test_plain_headers_are_not_left_to_nats_py():
    assert plain_headers(b"Nats-Sequence: 7\r\nce-type:x\r\n\r\n") == {"Nats-Sequence": "7", "ce-type": "x"}


@forall(st.lists(st.tuples(HEADER_TEXT, HEADER_TEXT), max_size=4), st.integers(1, 9))
def test_a_header_is_the_same_whether_it_is_looked_for_or_all_are_read(headers: list[tuple[str, str]], sequence: int):
    told = [*headers, ("Nats-Subject", "factory.evt.x"), ("Nats-Sequence", str(sequence))]
    raw = "".join(f"{name}: {value}\r\n" for name, value in told).encode() + b"\r\n"
    all_of_them = Client()._parse_header_lines(raw)

    for name in (*all_of_them, "Nats-Missing", "Status"):
        assert Headers(raw, Client()._parse_header_lines).get(name) == all_of_them.get(name)
    assert dict(Headers(raw, Client()._parse_header_lines)) == all_of_them
