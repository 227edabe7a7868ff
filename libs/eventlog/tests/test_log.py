"""The log on a real server: appends that know themselves, reads that are whole, followers that miss nothing."""

import asyncio
from pathlib import Path

import pytest
from embedded.nats import Nats, running
from eventlog import Conflict, EventLog, EventTooLarge, Past, Tip, connect
from eventlog.bootstrap import bootstrap
from factory.classification.v1 import TaskClassified
from factory.event.v1 import Event
from factory.review.v1 import TaskApproved
from factory.task.v1 import TASK_TYPE_API, TaskFailed, TaskSubmitted
from nats.aio.client import Client


def log_of(nc: Client, service: str = "conductor") -> EventLog:
    return EventLog(nc, org="main", service=service)


async def test_an_appended_fact_is_read_back_with_its_envelope(nc: Client) -> None:
    log = log_of(nc)

    first = await log.append("t1", [TaskSubmitted(title="One")], after=Tip())
    second = await log.append(
        "t1", [TaskFailed(reason="no")], after=first.tip, cause=first.event, read_to=first.sequence
    )
    past = await log.read("t1", at_least=second.sequence)

    assert list(past.facts()) == [TaskSubmitted(title="One"), TaskFailed(reason="no")]
    assert [recorded.event.version for recorded in past.events] == [1, 2]
    assert past.events[1].event.prev_hash == first.tip.hash
    assert past.events[1].event.causation_id == first.event.event_id
    assert past.tip("conductor") == second.tip
    assert past.tip("classifier") == Tip()


async def test_of_two_writers_at_one_version_exactly_one_wins(nc: Client) -> None:
    writers = [log_of(nc) for _ in range(8)]

    results = await asyncio.gather(
        *(writer.append("t1", [TaskSubmitted(title=str(n))], after=Tip()) for n, writer in enumerate(writers)),
        return_exceptions=True,
    )

    assert sum(isinstance(result, Conflict) for result in results) == 7
    assert len((await writers[0].read("t1")).events) == 1


async def test_a_past_whose_places_are_known_is_the_one_that_is_found_by_looking(nc: Client) -> None:
    conductor, classifier = log_of(nc), log_of(nc, "classifier")
    first = await conductor.append("t1", [TaskSubmitted(title="One")], after=Tip())
    await conductor.append("t2", [TaskSubmitted(title="Another")], after=Tip())
    second = await classifier.append("t1", [TaskClassified(type=TASK_TYPE_API)], after=Tip())
    last = await conductor.append("t1", [TaskFailed(reason="no")], after=first.tip)
    looked_for = await conductor.read("t1", at_least=last.sequence)

    for places in (
        [first.sequence, second.sequence, last.sequence],
        [first.sequence, second.sequence],  # what came later is looked for
        [first.sequence, first.sequence + 1],  # one of them is another task's
        [second.sequence, last.sequence],  # a lane without its beginning
        [first.sequence, last.sequence + 100],  # not in the log yet
    ):
        assert await conductor.read("t1", at_least=last.sequence, places=places) == looked_for


async def test_lanes_of_one_task_do_not_stand_in_each_others_way(nc: Client) -> None:
    conductor, classifier = log_of(nc), log_of(nc, "classifier")

    await conductor.append("t1", [TaskSubmitted(title="One")], after=Tip())
    await classifier.append("t1", [TaskClassified(type=TASK_TYPE_API)], after=Tip())
    past = await conductor.read("t1")

    assert [recorded.event.producer for recorded in past.events] == ["conductor", "classifier"]
    assert [recorded.event.version for recorded in past.events] == [1, 1]


async def test_an_append_whose_answer_was_lost_finds_its_own_event(nc: Client) -> None:
    log = log_of(nc)
    stored = await log.append("t1", [TaskSubmitted(title="One")], after=Tip())

    found = await log._find("factory.evt.conductor.main.t1", Tip(), stored.event.event_id)

    assert found is not None and found.sequence == stored.sequence
    assert await log._find("factory.evt.conductor.main.t1", Tip(), "another") is None


async def test_a_report_is_appended_behind_whatever_came_meanwhile(nc: Client) -> None:
    log = log_of(nc, "classifier")

    await asyncio.gather(*(log.report("t1", [TaskClassified(request_id=str(n))]) for n in range(6)))
    past = await log.read("t1")

    assert [recorded.event.version for recorded in past.events] == [1, 2, 3, 4, 5, 6]


async def test_a_follower_sees_every_event_in_order_and_wakes_for_new_ones(nc: Client) -> None:
    log = log_of(nc)
    for n in range(7):
        await log.append(f"t{n}", [TaskSubmitted(title=str(n))], after=Tip())
    seen: list[int] = []

    async def follow() -> None:
        async for batch in log.follow(after=0, batch=3):
            seen.extend(recorded.sequence for recorded in batch)
            if len(seen) >= 8:
                return

    following = asyncio.create_task(follow())
    await asyncio.sleep(0.2)
    await log.append("late", [TaskSubmitted(title="late")], after=Tip())
    await asyncio.wait_for(following, 5)

    assert seen == [1, 2, 3, 4, 5, 6, 7, 8]


async def test_what_is_known_already_is_not_fetched_again(nc: Client) -> None:
    log = log_of(nc)
    first = await log.append("t1", [TaskSubmitted(title="One")], after=Tip())
    known = await log.read("t1")
    await log.append("t1", [TaskFailed(reason="no")], after=first.tip)

    past = await log.read("t1", known=known)

    assert past.events[0] is known.events[0]
    assert len(past.events) == 2


async def test_an_event_that_belongs_in_artifacts_is_refused_before_it_is_sent(nc: Client) -> None:
    with pytest.raises(EventTooLarge, match="the log takes 262144"):
        await log_of(nc).append("t1", [TaskSubmitted(title="x" * 300_000)], after=Tip())


async def test_a_fact_of_an_unknown_kind_is_read_as_none(nc: Client) -> None:
    unknown_arm = b"\x82\x01\x04" + b"\xa2\x3f\x01\x00"  # facts (16) = Fact with field 1012
    await nc.jetstream().publish(
        "factory.evt.conductor.main.t1",
        Event(org="main", id="t1", producer="conductor").SerializeToString() + unknown_arm,
    )

    past = await log_of(nc).read("t1")

    assert past.events[0].facts == [None]
    assert isinstance(past, Past)


async def test_what_a_lane_has_no_right_to_say_is_not_believed(nc: Client) -> None:
    executor = log_of(nc, "executor-gpt")
    await executor.append("t1", [TaskApproved(approved_by="nobody")], after=Tip())

    past = await log_of(nc).read("t1")

    assert past.events[0].facts == [None]
    assert list(past.facts()) == []


@pytest.mark.parametrize(
    "raw",
    [b"\xff\xff", Event(org="main", id="t1", producer="conductor").SerializeToString()],
    ids=["garbage", "forged"],
)
async def test_bytes_that_are_no_event_of_their_lane_say_something_unknown_and_stop_nobody(
    nc: Client, raw: bytes
) -> None:
    await nc.jetstream().publish("factory.evt.executor-gpt.main.t1", raw)
    await log_of(nc).append("t2", [TaskSubmitted(title="Two")], after=Tip())

    past = await log_of(nc).read("t1")
    followed = await anext(log_of(nc).follow(after=0))

    assert past.events[0].facts == [None]
    assert past.tip("conductor") == Tip()
    assert [recorded.sequence for recorded in followed] == [1, 2]


async def test_a_connection_may_be_made_to_any_of_several_servers(nats_server: Nats) -> None:
    nc = await connect(f"{nats_server.url},nats://127.0.0.1:1", name="operator")

    assert nc.is_connected
    await nc.close()


async def test_a_small_disk_gets_a_small_log_and_keeps_it(tmp_path: Path) -> None:
    with running(tmp_path / "nats", sync="always, max_file_store: 2GB") as server:
        nc = await connect(server.url, name="operator")
        for _ in range(2):
            await bootstrap(nc, lanes=["classifier"])
        sizes = [(await nc.jetstream().stream_info(name)).config.max_bytes for name in ("EVENTS", "INTAKE", "DLQ")]
        await nc.close()

    assert sizes == [50 * 1024**3 // 64, 256 * 1024**2, 256 * 1024**2]
