"""The real SDKs talk to the pretend providers and find nothing odd; what they are told equals the bill."""

from typing import Any

import anthropic
import httpx
import openai
import pytest
from simulator import Simulator, start

PROMPT = "# Task\nTitle: Sort the basket\nType: logic\nScope: focused\nPhase: implement\nRound: 1\n\n# Repository\n"
LONG = PROMPT + "".join(f"line {n} of a prompt that is long enough to be cached\n" for n in range(400))
CALL = {"X-Client-Request-Id": "call-1"}


@pytest.fixture
def simulator(tmp_path):
    running = start(tmp_path / "bill.jsonl")
    yield running
    running.stop()


def gpt(simulator: Simulator, prefix: str = "/v1") -> Any:
    return openai.AsyncOpenAI(base_url=simulator.url + prefix, api_key="any", max_retries=0)


def claude(simulator: Simulator) -> Any:
    return anthropic.AsyncAnthropic(base_url=simulator.url, api_key="any", max_retries=0)


def says(text=PROMPT):
    return [{"role": "user", "content": text}]


async def chat_stream(client, model, text=PROMPT, **more):
    stream = await client.chat.completions.create(
        model=model,
        messages=says(text),
        stream=True,
        stream_options={"include_usage": True},
        extra_headers=CALL,
        **more,
    )
    return [chunk async for chunk in stream]


def text_of(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


async def test_chat_completions_answer_whole(simulator):
    answer = await gpt(simulator).chat.completions.create(model="gpt-5", messages=says(), extra_headers=CALL)

    [line] = simulator.bill.of("call-1")
    assert "FILE: simulated_sort_the_basket.py" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens == line.input
    assert answer.usage.completion_tokens == line.output + line.reasoning
    assert answer.usage.completion_tokens_details.reasoning_tokens == line.reasoning > 0
    assert answer.usage.total_tokens == line.total


async def test_chat_completions_stream_usage_once_in_a_chunk_of_its_own(simulator):
    chunks = await chat_stream(gpt(simulator), "gpt-5")

    [line] = simulator.bill.lines
    assert "FILE: simulated_sort_the_basket.py" in text_of(chunks)
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == line.total
    assert chunks[-2].choices[0].finish_reason == "stop"


async def test_chat_completions_stream_no_usage_unless_asked(simulator):
    stream = await gpt(simulator).chat.completions.create(model="gpt-5", messages=says(), stream=True)

    assert [chunk.usage async for chunk in stream if chunk.usage] == []
    assert simulator.bill.total > 0


async def test_gemini_counts_up_in_every_chunk_and_thoughts_only_in_the_total(simulator):
    chunks = await chat_stream(gpt(simulator, "/v1beta/openai"), "gemini-3-pro-preview")

    [line] = simulator.bill.lines
    counts = [chunk.usage.completion_tokens for chunk in chunks]
    last = chunks[-1].usage
    assert line.provider == "gcp.gemini"
    assert counts == sorted(counts)
    assert (last.prompt_tokens, last.completion_tokens) == (line.input, line.output)
    assert last.total_tokens - last.prompt_tokens - last.completion_tokens == line.reasoning > 0


async def test_deepseek_names_cache_hits_and_misses_and_sends_usage_with_its_last_choice(simulator):
    await chat_stream(gpt(simulator, ""), "deepseek-chat", LONG)
    chunks = await chat_stream(gpt(simulator, ""), "deepseek-chat", LONG)

    line = simulator.bill.lines[1]
    raw = chunks[-1].usage.to_dict()
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert raw["prompt_cache_hit_tokens"] == line.cache_read > 1024
    assert raw["prompt_cache_miss_tokens"] == line.input
    assert raw["prompt_tokens"] == line.input + line.cache_read


async def test_responses_answer_whole(simulator):
    answer = await gpt(simulator).responses.create(model="gpt-5", instructions="Be good.", input=says(), store=False)

    [line] = simulator.bill.lines
    assert "FILE: simulated_sort_the_basket.py" in answer.output_text
    assert answer.status == "completed"
    assert answer.usage.output_tokens == line.output + line.reasoning
    assert answer.usage.output_tokens_details.reasoning_tokens == line.reasoning
    assert answer.usage.total_tokens == line.total


async def test_responses_stream_numbered_events_and_end_with_the_whole_answer(simulator):
    stream = await gpt(simulator).responses.create(model="gpt-5", input=PROMPT, stream=True, extra_headers=CALL)
    events = [event async for event in stream]

    [line] = simulator.bill.of("call-1")
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    final = events[-1]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert final.type == "response.completed"
    assert final.response.output_text == text
    assert final.response.usage.total_tokens == line.total


async def test_the_sdk_accumulates_a_response_stream_of_its_own(simulator):
    async with gpt(simulator).responses.stream(model="gpt-5", input=PROMPT) as stream:
        final = await stream.get_final_response()

    assert "FILE: simulated_sort_the_basket.py" in final.output_text


async def test_messages_answer_whole(simulator):
    answer = await claude(simulator).messages.create(
        model="claude-opus-4-5", max_tokens=4096, system="Be good.", messages=says(), extra_headers=CALL
    )

    [line] = simulator.bill.of("call-1")
    assert "FILE: simulated_sort_the_basket.py" in answer.content[0].text
    assert answer.stop_reason == "end_turn"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (line.input, line.output)


async def test_messages_stream_cumulative_usage(simulator):
    events = [
        event
        async for event in await claude(simulator).messages.create(
            model="claude-opus-4-5", max_tokens=4096, messages=says(), stream=True
        )
    ]

    [line] = simulator.bill.lines
    start_usage = events[0].message.usage
    [delta] = [event for event in events if event.type == "message_delta"]
    assert (start_usage.input_tokens, start_usage.output_tokens) == (line.input, 1)
    assert (delta.usage.input_tokens, delta.usage.output_tokens) == (line.input, line.output)
    assert events[-1].type == "message_stop"


async def test_the_sdk_accumulates_a_message_stream_of_its_own(simulator):
    async with claude(simulator).messages.stream(model="claude-opus-4-5", max_tokens=4096, messages=says()) as stream:
        final = await stream.get_final_message()

    assert "FILE: simulated_sort_the_basket.py" in final.content[0].text
    assert final.usage.output_tokens == simulator.bill.lines[0].output


async def test_claude_caches_only_what_is_marked_and_tells_lifetimes_apart(simulator):
    marked = [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    for system in (marked, marked, LONG):
        await claude(simulator).messages.create(
            model="claude-opus-4-5", max_tokens=4096, system=system, messages=says()
        )

    written, read, unmarked = simulator.bill.lines
    assert written.cache_write_1h == read.cache_read > 1024
    assert (written.cache_read, written.cache_write_5m, read.cache_write_1h) == (0, 0, 0)
    assert (unmarked.cache_read, unmarked.input) == (0, written.input + written.cache_write_1h)


async def test_claude_tells_thinking_apart_where_it_was_asked_to_think(simulator):
    answer = await claude(simulator).messages.create(
        model="claude-opus-4-5",
        max_tokens=4096,
        messages=says(),
        thinking={"type": "enabled", "budget_tokens": 1024},
    )

    [line] = simulator.bill.lines
    assert answer.usage.output_tokens_details.thinking_tokens == line.reasoning > 0
    assert answer.usage.output_tokens == line.output + line.reasoning


async def test_a_limit_on_output_is_kept_on_every_wire(simulator):
    chunks = await chat_stream(gpt(simulator), "deepseek-chat", max_tokens=40)
    response = await gpt(simulator).responses.create(model="gpt-5", input=PROMPT, max_output_tokens=100)
    message = await claude(simulator).messages.create(model="claude-x", max_tokens=40, messages=says())

    lines = simulator.bill.lines
    assert [line.output + line.reasoning for line in lines] == [40, 100, 40]
    assert chunks[-1].choices[0].finish_reason == "length"
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert message.stop_reason == "max_tokens"


async def test_without_a_key_each_provider_refuses_in_its_own_words(simulator):
    async with httpx.AsyncClient(base_url=simulator.url) as nobody:
        of_openai = await nobody.post("/v1/responses", json={"model": "gpt-5", "input": PROMPT})
        of_anthropic = await nobody.post(
            "/v1/messages", json={"model": "claude-x", "max_tokens": 9, "messages": says()}, headers={"X-Api-Key": ""}
        )

    assert (of_openai.status_code, of_anthropic.status_code) == (401, 401)
    assert of_openai.json()["error"]["code"] == "invalid_api_key"
    assert of_anthropic.json()["error"]["type"] == "authentication_error"
    assert [(line.http_status, line.total) for line in simulator.bill.lines] == [(401, 0), (401, 0)]


async def test_a_request_that_makes_no_sense_is_refused_and_costs_nothing(simulator):
    with pytest.raises(openai.BadRequestError, match="at least one message"):
        await gpt(simulator).chat.completions.create(model="gpt-5", messages=[])
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        await claude(simulator).messages.create(model="claude-x", max_tokens=0, messages=says())

    assert [(line.http_status, line.total) for line in simulator.bill.lines] == [(400, 0), (400, 0)]


async def test_models_are_listed_for_both_sdks(simulator):
    of_openai = [model.id async for model in await gpt(simulator).models.list()]
    of_anthropic = [model.id async for model in await claude(simulator).models.list()]

    assert "gpt-5" in of_openai
    assert "claude-opus-4-5" in of_anthropic
