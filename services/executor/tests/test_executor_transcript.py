"""What a call leaves behind can be read again, and fits into a fact whatever the provider sent."""

import pytest
from executor.adapters.received import Received
from executor.answer import Answer, Fault, FaultKind, Message, Question
from executor.outcome import Ending
from executor.transcript import NotReadable, answer_from, called, request_json, response_json, started
from factory.artifact.v1 import ArtifactRef
from factory.call.v1 import CALL_OUTCOME_ABANDONED, CALL_OUTCOME_OK, Usage
from factory.phase.v1 import PhaseRequested
from hypothesis import given
from hypothesis import strategies as st
from policy.models import DEFAULT_MODELS

QUESTION = Question("t.r-1", "gpt-5", "system", (Message("user", "hello"),), 100, 5.0)
START = started(QUESTION, PhaseRequested(request_id="r"), DEFAULT_MODELS["gpt"], ArtifactRef(digest="d"), 12)
anything = st.text(st.characters(exclude_categories=()), max_size=300)


def test_a_call_is_put_on_record_with_its_question_and_its_limits():
    assert START.call_id == "t.r-1"
    assert START.provider_model == "gpt-5"
    assert (START.max_output_tokens, START.input_tokens_estimate) == (100, 12)
    assert b'"hello"' in request_json(QUESTION)


@given(anything, anything, st.dictionaries(anything, st.integers() | anything, max_size=5))
def test_whatever_a_provider_sends_is_kept_and_fits_into_a_fact(text, word, raw):
    received = Received(lambda piece: None)
    received.text(text)
    received.finish_reason, received.raw_usage, received.service_tier = word, raw, word
    answer = received.answer(None)

    end = called(START, answer, Ending(CALL_OUTCOME_OK), "openai-responses", None, 0.5)
    again = answer_from(response_json(answer))

    assert len(end.SerializeToString()) < 100_000
    assert again.text == answer.text
    assert again.text.encode().decode() == answer.text


def test_a_character_that_came_in_two_halves_is_whole_again():
    received = Received(lambda piece: None)
    received.text("\ud83d")
    received.text("\ude00!")

    assert received.answer(None).text == "😀!"


def test_a_count_that_is_none_is_unknown():
    answer = Answer(raw_usage={"input_tokens": 2**70, "output_tokens": 5})

    assert called(START, answer, Ending(CALL_OUTCOME_OK), "openai-responses", None, 0.1).usage == Usage(output_tokens=5)


def test_output_that_was_not_counted_yet_when_a_stream_broke_is_unknown_and_not_none():
    # As llama.cpp begins an Anthropic stream; the output is counted in its last event, which never came.
    begun = {"input_tokens": 7, "cache_read_input_tokens": 3, "output_tokens": 0}
    broken = Answer(text="half an", raw_usage=begun, fault=Fault(FaultKind.BROKEN))

    end = called(START, broken, Ending(CALL_OUTCOME_ABANDONED), "anthropic", None, 0.1)

    assert end.usage == Usage(input_tokens=7, cache_read_tokens=3)
    assert '"output_tokens": 0' in end.raw_usage


@pytest.mark.parametrize("stored", [b"", b"[]", b"{}", b'{"format": 2}', b'{"format": 1, "more": 1}', b"\xff"])
def test_a_stored_response_that_is_none_is_named(stored):
    with pytest.raises(NotReadable):
        answer_from(stored)
