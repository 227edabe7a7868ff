"""A request that is wanted no more: its running call is stopped, one not begun is not begun, what is paid is booked."""

import asyncio
import json

import pytest
from eventlog import subjects
from eventlog.work import publish_work
from factory.call.v1 import CALL_OUTCOME_ABANDONED, CALL_OUTCOME_OK, ModelCalled, ModelCallStarted
from factory.event.v1 import AnyFact
from factory.phase.v1 import PhaseCompleted, PhaseFailed, PhaseFailure
from factory.task.v1 import PHASE_KIND_IMPLEMENT, RequestExpired, RoutingOverridden, TaskCancelled
from nats.js.api import StreamInfo
from simulator import Mode

pytestmark = pytest.mark.slow  # real servers: left to `just test`

TASK = "01jd0000000000000000000000"
OVERRIDDEN = RoutingOverridden(phase=PHASE_KIND_IMPLEMENT, model="claude", request_id="implement-1-1")
EXPIRED = RequestExpired(request_id="implement-1-1")
CANCELLED = TaskCancelled(cancelled_by="ada")


async def on_the_bill(desk) -> None:
    async with asyncio.timeout(10):
        while not desk.provider.bill.lines:
            await asyncio.sleep(0.02)


async def left_in_the_queue(desk) -> int:
    info: StreamInfo = await desk.nc.jetstream().stream_info(subjects.WORK)
    return info.state.messages


@pytest.mark.parametrize("model", ["claude", "gpt", "gemini"])
async def test_an_override_stops_the_running_call_at_once_and_books_what_was_seen_of_it(desk, model):
    await desk.misbehave(mode=Mode.HANG)
    # Only the hint can be in time: the first heartbeat would come after the test has ended.
    async with desk.executor(model, FACTORY_ACK_WAIT_S="600", FACTORY_HEARTBEAT_S="300"):
        await desk.request(model)
        await on_the_bill(desk)
        await asyncio.sleep(0.3)
        await desk.conductor.report(TASK, [OVERRIDDEN])
        await desk.nc.publish(subjects.stop("main", TASK), b"")
        result = await desk.result(model)
    started, [end, failed] = await desk.said(model)

    assert [type(fact) for fact in started] == [ModelCallStarted]
    assert isinstance(end, ModelCalled)
    assert result == failed
    assert PhaseFailure.Name(result.reason) == "PHASE_FAILURE_STOPPED"
    assert end.outcome == CALL_OUTCOME_ABANDONED
    assert len(desk.provider.bill.lines) == 1
    assert "FILE:" in json.loads(await desk.store.get(end.response.digest))["text"]
    # Anthropic tells the input at the start of a stream; the others say nothing before its end.
    assert end.usage.input_tokens == (desk.provider.bill.lines[0].input if model != "gpt" else 0)
    assert end.HasField("usage") == (model != "gpt")
    assert await left_in_the_queue(desk) == 0


@pytest.mark.parametrize("closing", [OVERRIDDEN, EXPIRED, CANCELLED])
async def test_a_hint_that_was_lost_is_made_good_by_the_next_heartbeat(desk, closing: AnyFact):
    await desk.misbehave(mode=Mode.HANG)
    async with desk.executor(FACTORY_HEARTBEAT_S="0.3"):
        await desk.request()
        await on_the_bill(desk)
        await desk.conductor.report(TASK, [closing])
        result = await desk.result()

    assert isinstance(result, PhaseFailed)
    assert PhaseFailure.Name(result.reason) == "PHASE_FAILURE_STOPPED"


async def test_a_hint_without_a_fact_stops_nothing_nor_does_an_override_of_another_request(desk):
    await desk.misbehave(mode=Mode.SLOW, tokens_per_second=400)
    async with desk.executor(FACTORY_HEARTBEAT_S="0.1"):
        await desk.request()
        await on_the_bill(desk)
        await desk.conductor.report(TASK, [RoutingOverridden(phase=PHASE_KIND_IMPLEMENT, request_id="design-1-1")])
        await desk.nc.publish(subjects.stop("main", TASK), b"")
        result = await desk.result()

    assert isinstance(result, PhaseCompleted)


async def test_an_answer_that_has_arrived_whole_is_recorded_as_any_other(desk):
    await desk.misbehave(mode=Mode.SLOW, tokens_per_second=400)
    async with desk.executor(FACTORY_HEARTBEAT_S="4"):
        await desk.request()
        await on_the_bill(desk)
        await desk.conductor.report(TASK, [OVERRIDDEN])
        result = await desk.result()
    [_, [end, _]] = await desk.said()

    assert isinstance(result, PhaseCompleted)
    assert isinstance(end, ModelCalled)
    assert end.outcome == CALL_OUTCOME_OK


@pytest.mark.parametrize("closing", [OVERRIDDEN, EXPIRED, CANCELLED])
async def test_a_request_that_was_closed_before_it_was_begun_is_said_to_be_stopped_and_nothing_is_paid(desk, closing):
    work = await desk.request(offered=False)
    await desk.conductor.report(TASK, [closing])
    recorded = (await desk.past()).events[-2]
    await publish_work(desk.nc, recorded, work.request)
    async with desk.executor():
        result = await desk.result()
        await publish_work(desk.nc, recorded, work.request)  # and offered once more, nothing more is said
        async with asyncio.timeout(10):
            while await left_in_the_queue(desk):
                await asyncio.sleep(0.02)

    assert isinstance(result, PhaseFailed)
    assert PhaseFailure.Name(result.reason) == "PHASE_FAILURE_STOPPED"
    assert await desk.said() == [[result]]
    assert desk.provider.bill.lines == ()
