"""The real SDKs over real HTTP: one attempt per call, read to its end, and every misbehaviour is a named end."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from executor.adapters.wires import open_wire
from executor.answer import Answer, Message, Question
from executor.outcome import ending_of
from executor.usage import normalised
from factory.call.v1 import CallOutcome, Usage
from factory.phase.v1 import PhaseFailure
from policy.models import DEFAULT_MODELS, Model
from simulator import Misbehaviour, Mode, Simulator, serve

pytestmark = pytest.mark.slow  # real servers: left to `just test`

PREFIXES = {"claude": "", "gpt": "/v1", "gemini": "/v1beta/openai", "deepseek": ""}
MODELS = sorted(PREFIXES)
PROMPT = (
    "# Task\nTitle: Add a health endpoint\nType: api\nScope: focused\nPhase: implement\nRound: 1\n" + "word " * 2000
)


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[Simulator]:
    async with serve(tmp_path / "bill.jsonl") as simulator:
        yield simulator


def at(name: str, url: str) -> Model:
    return replace(DEFAULT_MODELS[name], base_url=url + PREFIXES[name], pretend=True)


def question(call_id: str = "t.implement-1-1-1", model: str = "claude", **changes) -> Question:
    known = {
        "call_id": call_id,
        "provider_model": DEFAULT_MODELS[model].provider_model,
        "system": "You are an engineer.",
        "messages": (Message("user", PROMPT),),
        "max_output_tokens": 8000,
        "timeout_s": 20.0,
    }
    return Question(**(known | changes))


async def ask(name: str, url: str, asked: Question | None = None, on_text=lambda text: None) -> Answer:
    wire = await asyncio.to_thread(open_wire, at(name, url), "key")
    try:
        return await wire.ask(asked or question(model=name), on_text)
    finally:
        await wire.close()


async def misbehave(provider: Simulator, **wish) -> None:
    body = Misbehaviour(**wish).model_dump_json().encode()
    reader, writer = await asyncio.open_connection(*provider.url.removeprefix("http://").split(":"))
    writer.write(
        b"POST /_simulator/misbehave HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        + f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    assert b" 200 " in (await reader.read()).split(b"\r\n")[0]
    writer.close()


def billed(line) -> Usage:
    """A line of the bill in the buckets of the ledger; zeros are left out on both sides."""
    return _told(
        Usage(
            input_tokens=line.input,
            cache_read_tokens=line.cache_read,
            cache_write_5m_tokens=line.cache_write_5m,
            cache_write_1h_tokens=line.cache_write_1h,
            output_tokens=line.output,
            reasoning_tokens=line.reasoning,
        )
    )


def _told(usage: Usage | None) -> Usage:
    assert usage is not None
    return Usage(**{field.name: value for field, value in usage.ListFields() if value})


def ended(answer: Answer) -> tuple[str, str]:
    ending = ending_of(answer, now=datetime.now(UTC))
    return (
        CallOutcome.Name(ending.outcome).removeprefix("CALL_OUTCOME_"),
        PhaseFailure.Name(ending.failure).removeprefix("PHASE_FAILURE_"),
    )


@pytest.mark.parametrize("name", MODELS)
async def test_an_answer_arrives_whole_and_its_usage_equals_the_bill(provider, name):
    pieces: list[str] = []
    first = await ask(name, provider.url, on_text=pieces.append)
    again = await ask(name, provider.url, question("t.implement-1-1-2", name))

    assert first.fault is None
    assert ended(first) == ("OK", "UNSPECIFIED")
    assert "FILE: " in first.text
    assert "".join(pieces) == first.text
    assert first.time_to_first_token_s is not None
    assert first.provider_request_id.startswith("req_")
    assert first.http_status == 200
    for answer, line in zip((first, again), provider.bill.lines, strict=True):
        assert _told(normalised(DEFAULT_MODELS[name].wire, answer.raw_usage)) == billed(line)
    assert [line.client_request_id for line in provider.bill.lines] == ["t.implement-1-1-1", "t.implement-1-1-2"]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("mode", "outcome", "failure"),
    [
        (Mode.RATE_LIMITED, "ERROR", "RATE_LIMITED"),
        (Mode.UNPAID, "ERROR", "PAYMENT_REQUIRED"),
        (Mode.BROKEN, "ERROR", "SERVER_ERROR"),
        (Mode.OVERLOADED, "ERROR", "OVERLOADED"),
        (Mode.CUT, "ABANDONED", "BROKEN_STREAM"),
        (Mode.MALFORMED_WIRE, "ABANDONED", "BROKEN_STREAM"),
        (Mode.REFUSAL, "OK", "REFUSED"),
        (Mode.TRUNCATED, "OK", "TRUNCATED"),
        (Mode.MALFORMED, "OK", "UNSPECIFIED"),
    ],
)
async def test_every_misbehaviour_is_one_attempt_with_a_named_end(provider, name, mode, outcome, failure):
    await misbehave(provider, mode=mode, retry_after_s=7 if mode == Mode.RATE_LIMITED else None)

    answer = await ask(name, provider.url)

    assert ended(answer) == (outcome, failure)
    assert len(provider.bill.lines) == 1
    if mode == Mode.RATE_LIMITED:
        assert ending_of(answer, now=datetime.now(UTC)).retry_after_s == 7.0
    if outcome == "OK":
        assert _told(normalised(DEFAULT_MODELS[name].wire, answer.raw_usage)) == billed(provider.bill.lines[0])


@pytest.mark.parametrize("name", MODELS)
async def test_an_error_within_the_stream_is_overloaded_and_what_was_said_may_be_billed(provider, name):
    await misbehave(provider, mode=Mode.STREAM_ERROR, after_chunks=2)

    answer = await ask(name, provider.url)

    outcome, failure = ended(answer)
    assert outcome == "ABANDONED"
    assert failure in ("OVERLOADED", "SERVER_ERROR")


@pytest.mark.parametrize("name", MODELS)
async def test_a_provider_that_hangs_is_left_after_the_timeout_with_what_it_said(provider, name):
    await misbehave(provider, mode=Mode.HANG, after_chunks=2)

    answer = await ask(name, provider.url, question(model=name, timeout_s=0.7))

    assert ended(answer) == ("ABANDONED", "TIMEOUT")
    assert len(provider.bill.lines) == 1


@pytest.mark.parametrize("name", ["claude", "gemini"])
async def test_a_stream_that_names_its_usage_early_and_breaks_leaves_what_was_seen(provider, name):
    await misbehave(provider, mode=Mode.CUT)

    answer = await ask(name, provider.url)
    usage = normalised(DEFAULT_MODELS[name].wire, answer.raw_usage)

    assert usage is not None
    assert usage.input_tokens == provider.bill.lines[0].input
    assert answer.text


@pytest.mark.parametrize("name", ["gpt", "deepseek"])
async def test_a_stream_that_names_its_usage_at_the_end_and_breaks_before_leaves_it_unknown(provider, name):
    await misbehave(provider, mode=Mode.CUT)

    answer = await ask(name, provider.url)

    assert normalised(DEFAULT_MODELS[name].wire, answer.raw_usage) is None


@pytest.mark.parametrize("name", MODELS)
async def test_a_provider_that_is_not_there_was_never_sent_anything(name):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

    answer = await ask(name, f"http://127.0.0.1:{port}")

    assert ended(answer) == ("NOT_SENT", "UNREACHABLE")


@pytest.mark.parametrize("name", MODELS)
async def test_a_server_that_closes_without_a_word_may_have_billed(name):
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.close()

    async with await asyncio.start_server(close, "127.0.0.1", 0) as server:
        answer = await ask(name, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    assert ended(answer) == ("ABANDONED", "BROKEN_STREAM")


@pytest.mark.parametrize("name", MODELS)
async def test_a_stream_that_ends_without_saying_so_is_broken(name):
    async def empty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(empty, "127.0.0.1", 0) as server:
        answer = await ask(name, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    assert ended(answer) == ("ABANDONED", "BROKEN_STREAM")


@pytest.mark.parametrize("name", MODELS)
async def test_a_page_of_html_with_a_bad_status_is_an_error_and_not_a_crash(name):
    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b"<html>bad gateway</html>"
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(body))
        writer.write(body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(page, "127.0.0.1", 0) as server:
        answer = await ask(name, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    assert ended(answer) == ("ERROR", "SERVER_ERROR")
    assert answer.http_status == 502
