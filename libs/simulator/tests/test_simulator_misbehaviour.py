"""Providers fail in many ways; here they do so on request, and the bill still says what each failure cost."""

import asyncio
import json
import subprocess
import sys
import time
from contextlib import aclosing
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
from simulator import Misbehaviour, Mode, Pace, read_bill, serve, start

pytestmark = pytest.mark.slow  # real servers: left to `just test`

PROMPT = "# Task\nTitle: Sort the basket\nType: logic\nScope: focused\nPhase: implement\nRound: 1\n"
CALL = {"X-Client-Request-Id": "call-1"}
BROKEN_STREAMS = (openai.APIError, anthropic.APIError, httpx2.TransportError, ValueError)


@pytest.fixture
def simulator(tmp_path):
    running = start(tmp_path / "bill.jsonl")
    yield running
    running.stop()


async def wish(simulator, **fields) -> Any:
    async with httpx.AsyncClient() as client:
        answer = await client.post(simulator.url + "/_simulator/misbehave", json=fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def gpt(simulator, **more) -> Any:
    return openai.AsyncOpenAI(base_url=simulator.url + "/v1", api_key="any", max_retries=0, **more)


def claude(simulator, **more) -> Any:
    return anthropic.AsyncAnthropic(base_url=simulator.url, api_key="any", max_retries=0, **more)


async def by_responses(simulator, model="gpt-5", **more) -> list[Any]:
    stream = await gpt(simulator, **more).responses.create(model=model, input=PROMPT, stream=True, extra_headers=CALL)
    return [event async for event in stream]


async def by_chat(simulator, model="gpt-5", **more) -> list[Any]:
    stream = await gpt(simulator, **more).chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": PROMPT}],
        stream=True,
        stream_options={"include_usage": True},
        extra_headers=CALL,
    )
    return [chunk async for chunk in stream]


async def by_messages(simulator, model="claude-x", **more) -> list[Any]:
    stream = await claude(simulator, **more).messages.create(
        model=model,
        max_tokens=4096,
        messages=[{"role": "user", "content": PROMPT}],
        stream=True,
        extra_headers=CALL,
    )
    return [event async for event in stream]


WIRES = [by_responses, by_chat, by_messages]


@pytest.mark.parametrize("status", [429, 402, 500, 529])
@pytest.mark.parametrize("ask", WIRES)
async def test_an_error_is_answered_as_often_as_wished_and_costs_nothing(simulator, ask, status):
    await wish(simulator, mode=str(status), times=2, retry_after_s=7)

    for _ in range(2):
        with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)) as refused:
            await ask(simulator)
        assert refused.value.status_code == status
        assert refused.value.response.headers["retry-after"] == "7"
    await ask(simulator)

    lines = simulator.bill.of("call-1")
    assert [line.http_status for line in lines] == [status, status, 200]
    assert [line.total > 0 for line in lines] == [False, False, True]


async def test_google_wraps_its_errors_in_a_list(simulator):
    await wish(simulator, model="gemini*", mode="429")

    with pytest.raises(openai.RateLimitError) as refused:
        await by_chat(simulator, "gemini-3-pro-preview")

    assert refused.value.response.json()[0]["error"]["status"] == "RESOURCE_EXHAUSTED"


async def test_a_wish_concerns_only_the_models_and_phases_that_it_names(simulator):
    await wish(simulator, model="gemini*", mode="500", times=0)
    await wish(simulator, model="*", mode="500", phase="review", times=0)
    await wish(simulator, client_request_id="other-*", mode="500", times=0)

    await by_responses(simulator)

    assert [line.status for line in simulator.bill.lines] == ["ok"]


@pytest.mark.parametrize("ask", WIRES)
async def test_a_stream_that_is_cut_is_billed_up_to_the_cut(simulator, ask):
    await ask(simulator)
    await wish(simulator, mode="cut", after_chunks=2)

    with pytest.raises(BROKEN_STREAMS):
        await ask(simulator)

    whole, cut = simulator.bill.lines
    assert (whole.status, cut.status) == ("ok", "cut")
    assert cut.output == 2 * 128 // 4 < whole.output
    assert (cut.input, cut.reasoning) == (whole.input, whole.reasoning)


@pytest.mark.parametrize("ask", [by_responses, by_messages, by_chat])
async def test_an_error_in_the_middle_of_a_stream_is_told(simulator, ask):
    await wish(simulator, mode="stream_error", after_chunks=1)

    if ask is by_responses:
        assert (await ask(simulator))[-1].type == "response.failed"
    else:
        with pytest.raises((openai.APIError, anthropic.APIError)):
            await ask(simulator)

    assert simulator.bill.lines[0].output == 32


@pytest.mark.parametrize("ask", WIRES)
async def test_broken_bytes_break_the_reading(simulator, ask):
    await wish(simulator, mode="malformed_wire")

    with pytest.raises(BROKEN_STREAMS):
        await ask(simulator)

    assert simulator.bill.lines[0].total > 0


@pytest.mark.parametrize("ask", WIRES)
async def test_who_gives_up_on_a_hanging_stream_pays_for_all_of_it(simulator, ask):
    await wish(simulator, mode="hang", after_chunks=1)

    with pytest.raises((*BROKEN_STREAMS, TimeoutError)):
        await asyncio.wait_for(ask(simulator, timeout=0.3), 5)
    await ask(simulator)

    hung, whole = simulator.bill.lines
    assert hung.status == "hang"
    assert hung.total == whole.total


async def test_who_hangs_up_in_the_middle_pays_for_the_whole_generation(tmp_path):
    async with serve(tmp_path / "bill.jsonl", pace=Pace(tokens_per_second=100)) as simulator:
        stream = await gpt(simulator).responses.create(model="gpt-5", input=PROMPT, stream=True)
        async with aclosing(stream):
            async for event in stream:
                if event.type == "response.output_text.delta":
                    break
        left = simulator.bill.lines
    async with serve(tmp_path / "other.jsonl") as simulator:
        await by_responses(simulator)
        whole = simulator.bill.lines

    assert [line.total for line in left] == [line.total for line in whole]


async def test_wrong_usage_is_told_to_the_caller_and_not_to_the_bill(simulator):
    await wish(simulator, mode="wrong_usage")
    wrong = (await by_responses(simulator))[-1].response.usage
    right = (await by_responses(simulator))[-1].response.usage

    assert wrong.total_tokens > right.total_tokens
    assert [line.total for line in simulator.bill.lines] == [right.total_tokens, right.total_tokens]


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        ("bad_path", "FILE: ../../etc/passwd"),
        ("bad_edit", "stand nowhere in this repository"),
        ("malformed", "and then some"),
    ],
)
async def test_an_answer_can_be_unusable_and_still_arrive_whole(simulator, mode, text):
    await wish(simulator, mode=mode)

    final = (await by_responses(simulator))[-1]

    assert text in final.response.output_text
    assert final.response.usage.total_tokens == simulator.bill.total


async def test_a_file_can_be_huge_whatever_the_limit_and_the_pace(tmp_path):
    async with serve(tmp_path / "bill.jsonl", pace=Pace(tokens_per_second=100)) as simulator:
        await wish(simulator, mode="huge_file")
        events = await by_messages(simulator)

        assert sum(len(e.delta.text) for e in events if e.type == "content_block_delta") > 4_000_000
        assert simulator.bill.total > 1_000_000


async def test_a_refusal_has_a_shape_of_its_own_on_each_wire(simulator):
    await wish(simulator, mode="refusal", times=3)

    response = (await by_responses(simulator))[-1].response
    chunks = await by_chat(simulator)
    messages = await by_messages(simulator)

    assert response.output[-1].content[0].type == "refusal"
    assert "".join(c.choices[0].delta.refusal or "" for c in chunks if c.choices).startswith("I can't")
    assert [e.delta.stop_reason for e in messages if e.type == "message_delta"] == ["refusal"]


async def test_a_truncated_answer_says_so(simulator):
    await wish(simulator, mode="truncated", times=2)

    response = (await by_responses(simulator))[-1]
    messages = await by_messages(simulator)

    assert response.type == "response.incomplete"
    assert [e.delta.stop_reason for e in messages if e.type == "message_delta"] == ["max_tokens"]


async def test_slow_is_slow(simulator):
    await wish(simulator, mode="slow", tokens_per_second=600)
    begun = time.monotonic()
    await by_responses(simulator)

    assert time.monotonic() - begun > simulator.bill.lines[0].output / 600 * 0.8


async def test_none_ends_what_was_wished(simulator):
    await wish(simulator, model="gpt*", mode="500", times=0)
    left = await wish(simulator, model="gpt*", mode="none")
    await by_responses(simulator)

    assert left == {"misbehaviours": []}


async def test_an_unknown_mode_is_refused_and_named(simulator):
    async with httpx.AsyncClient() as client:
        answer = await client.post(simulator.url + "/_simulator/misbehave", json={"mode": "sulk"})

    assert answer.status_code == 400
    assert "sulk" in answer.json()["error"]


async def test_misbehaviour_can_be_there_from_the_start(tmp_path):
    async with serve(tmp_path / "b", misbehaviours=[Misbehaviour(mode=Mode.BROKEN)]) as simulator:
        with pytest.raises(openai.InternalServerError):
            await by_responses(simulator)


async def test_the_bill_is_served_summed_and_in_lines(simulator):
    await by_responses(simulator)
    await by_messages(simulator)

    async with httpx.AsyncClient() as client:
        bill = (await client.get(simulator.url + "/_simulator/bill")).json()

    assert bill["requests"] == 2
    assert bill["total"] == sum(line["total"] for line in bill["lines"]) == simulator.bill.total
    assert set(bill["models"]) == {"gpt-5", "claude-x"}


async def test_a_bill_is_continued_after_a_restart_and_half_a_line_is_dropped(tmp_path):
    path = tmp_path / "bill.jsonl"
    async with serve(path) as simulator:
        await by_responses(simulator)
    with path.open("ab") as file:
        file.write(b'{"at": "2026')

    before = read_bill(path)
    async with serve(path) as simulator:
        await by_responses(simulator)

    assert len(before.lines) == 1
    assert len(read_bill(path).lines) == 2


async def test_a_killed_process_has_on_its_bill_all_that_anybody_was_told(tmp_path):
    bill, ready = tmp_path / "bill.jsonl", tmp_path / "ready.json"
    command = [sys.executable, "-m", "simulator", "--bill", str(bill), "--ready-file", str(ready)]
    process = subprocess.Popen([*command, "--tokens-per-second", "200"], stdout=subprocess.PIPE)
    try:
        while not ready.exists():
            await asyncio.sleep(0.02)
        url = json.loads(ready.read_text())["url"]
        client: Any = openai.AsyncOpenAI(base_url=url + "/v1", api_key="any", max_retries=0)
        stream = await client.responses.create(model="gpt-5", input=PROMPT, stream=True, extra_headers=CALL)
        async for event in stream:
            if event.type == "response.output_text.delta":
                break
    finally:
        process.kill()
        process.wait()

    [line] = read_bill(bill).of("call-1")
    assert line.output > 32


@pytest.mark.slow
async def test_hundreds_of_requests_at_once_are_all_served_and_billed(simulator):
    body = {"model": "gpt-5", "input": PROMPT, "stream": True}
    total, at_once = 600, 16
    limits = httpx.Limits(max_connections=at_once)
    async with httpx.AsyncClient(limits=limits, headers={"Authorization": "Bearer x"}, timeout=30) as client:
        gate = asyncio.Semaphore(at_once)

        async def one():
            async with gate:
                return await client.post(simulator.url + "/v1/responses", json=body)

        answers = await asyncio.gather(*(one() for _ in range(total)))

    assert {answer.status_code for answer in answers} == {200}
    assert len(simulator.bill.lines) == total
