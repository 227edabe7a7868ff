"""One request in several hands: who waits for whose call, and for how long."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from executor.answer import Answer, Question
from executor.app import Executor
from executor.making import BEGUN_KNOWN_MAX, Making
from executor.phase import Call, Request
from executor.settings import settings_from
from factory.call.v1 import CALL_OUTCOME_LOST, ModelCalled, ModelCallStarted
from factory.event.v1 import AnyFact
from factory.phase.v1 import PhaseCompleted
from policy.models import models_from

CALL = "t.implement-1-1-1"
OPEN = Request("implement-1-1", (Call(1, ModelCallStarted(call_id=CALL)),))
NEW_FILE = "I add it.\n\nFILE: new.py\n<<<<<<< SEARCH\n=======\nx = 1\n>>>>>>> REPLACE\n"
# Far below the call timeout, after which a stranger's call is taken for deserted.
SOON_S = 20


def test_a_call_that_this_process_makes_is_waited_for_even_if_it_was_open_before():
    making = Making()
    making.claim(CALL)

    assert making.foreign(OPEN, {CALL}) == {CALL}


def test_a_call_that_was_open_before_and_is_nobodys_here_is_deserted():
    assert Making().foreign(OPEN, {CALL}) == set()


def test_a_call_that_another_process_began_while_we_were_at_it_is_waited_for():
    assert Making().foreign(OPEN, set()) == {CALL}


def test_a_call_that_this_process_began_and_no_longer_makes_is_deserted():
    making = Making()
    making.claim(CALL)
    making.has_begun(CALL)
    making.leave(CALL)

    assert making.foreign(OPEN, set()) == set()


def test_who_came_too_late_for_a_call_takes_back_only_its_own_claim():
    making = Making()
    making.claim(CALL)
    making.claim(CALL)
    making.leave(CALL)

    assert making.now() == {CALL}
    making.leave(CALL)
    assert making.now() == set()


def test_no_more_than_so_many_begun_calls_are_remembered():
    making = Making()
    for number in range(BEGUN_KNOWN_MAX + 1):
        making.has_begun(f"call-{number}")

    requests = [Request("r", (Call(1, ModelCallStarted(call_id=id)),)) for id in ("call-0", "call-1")]
    assert [bool(making.foreign(request, set())) for request in requests] == [True, False]


@dataclass
class Held:
    """A provider that answers when it is let, or breaks in a way that no provider should."""

    asked: list[str] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    let: asyncio.Event = field(default_factory=asyncio.Event)
    breaks: int = 0

    async def ask(self, question: Question, on_text, stopping=None) -> Answer:
        self.asked.append(question.call_id)
        self.begun.set()
        await self.let.wait()
        if self.breaks:
            self.breaks -= 1
            raise RuntimeError("out of its mind")
        return Answer(text=NEW_FILE, finish_reason="completed", http_status=200)

    async def close(self) -> None:
        return


@dataclass
class Hands:
    """Deliveries of one request to executors that share one provider, as they come."""

    desk: Any
    runtime: Any
    wire: Held = field(default_factory=Held)

    def process(self) -> Executor:
        settings = settings_from({**self.desk.env, "EXECUTOR_MODEL": "gpt"}, models_from(self.desk.env))
        return Executor(self.runtime, settings, wire=self.wire)

    def deliver(self, to: Executor, work, past) -> asyncio.Task[list[AnyFact]]:
        async def delivered() -> list[AnyFact]:
            facts = list(await to.handle(work, past))
            if facts:
                await self.desk.lane().report(work.id, facts)
            return facts

        return asyncio.create_task(delivered())


@pytest.fixture
async def hands(desk):
    async with desk.executor() as house:
        [runtime] = house.runtimes
        yield Hands(desk, runtime)


def results(said: list[list[AnyFact]]) -> int:
    return sum(isinstance(fact, PhaseCompleted) for facts in said for fact in facts)


@pytest.mark.slow
async def test_a_third_delivery_waits_for_a_call_that_the_first_makes_and_the_second_came_too_late_for(desk, hands):
    executor, work = hands.process(), await desk.request(offered=False)
    past = await desk.past()
    both = [hands.deliver(executor, work, past) for _ in range(2)]
    await hands.wire.begun.wait()
    await asyncio.sleep(1)  # until the second has seen that it is too late
    third = hands.deliver(executor, work, await desk.past())
    await asyncio.sleep(1)
    hands.wire.let.set()
    async with asyncio.timeout(SOON_S):
        said = await asyncio.gather(*both, third)

    assert len(hands.wire.asked) == 1
    assert results(said) == 1


@pytest.mark.slow
async def test_a_call_that_failed_in_its_own_process_is_booked_lost_soon_by_the_next_delivery(desk, hands):
    executor, work = hands.process(), await desk.request(offered=False)
    hands.wire.breaks = 1
    hands.wire.let.set()
    with pytest.raises(RuntimeError, match="out of its mind"):
        await hands.deliver(executor, work, await desk.past())
    async with asyncio.timeout(SOON_S):
        facts = await hands.deliver(executor, work, await desk.past())

    assert results([facts]) == 1
    assert len(hands.wire.asked) == 2
    outcomes = [fact.outcome for facts in await desk.said() for fact in facts if isinstance(fact, ModelCalled)]
    assert outcomes[0] == CALL_OUTCOME_LOST


@pytest.mark.slow
async def test_who_waits_for_a_call_of_its_own_process_takes_over_soon_after_it_has_failed(desk, hands):
    executor, work = hands.process(), await desk.request(offered=False)
    past = await desk.past()
    hands.wire.breaks = 1
    both = [hands.deliver(executor, work, past) for _ in range(2)]
    await hands.wire.begun.wait()
    await asyncio.sleep(1)  # until the other stands back
    hands.wire.let.set()
    async with asyncio.timeout(SOON_S):
        said = await asyncio.gather(*both, return_exceptions=True)

    failed = [one for one in said if isinstance(one, BaseException)]
    assert [str(one) for one in failed] == ["out of its mind"]
    assert results([one for one in said if not isinstance(one, BaseException)]) == 1
    assert len(hands.wire.asked) == 2


@pytest.mark.slow
async def test_a_call_that_another_live_process_makes_is_waited_for(desk, hands):
    executor, other, work = hands.process(), hands.process(), await desk.request(offered=False)
    past = await desk.past()
    first = hands.deliver(executor, work, past)
    await hands.wire.begun.wait()
    second = hands.deliver(other, work, past)
    await asyncio.sleep(7)  # longer than a call of its own process would count after its end
    asked = list(hands.wire.asked)
    hands.wire.let.set()
    async with asyncio.timeout(SOON_S):
        said = await asyncio.gather(first, second)

    assert asked == hands.wire.asked == [f"{work.id}.implement-1-1-1"]
    assert results(said) == 1
