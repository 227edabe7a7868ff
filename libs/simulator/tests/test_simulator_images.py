"""Pictures on all three wires, by the real SDKs: counted where a model sees, refused in the provider's words where not."""

import base64
from typing import Any

import anthropic
import openai
import pytest
from simulator import Simulator, start

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
PROMPT = "# Task\nTitle: Fix the button\nType: ui\nScope: focused\nPhase: implement\nRound: 1\n\n# Repository\n"
ENCODED = base64.b64encode(PNG).decode()
URL = f"data:image/png;base64,{ENCODED}"


@pytest.fixture
def simulator(tmp_path):
    running = start(tmp_path / "bill.jsonl")
    yield running
    running.stop()


async def by_chat(simulator: Simulator, model: str = "gemini-3-pro-preview", url: str = URL) -> Any:
    client = openai.AsyncOpenAI(base_url=f"{simulator.url}/v1", api_key="any", max_retries=0)
    parts: list[Any] = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": PROMPT}]
    return await client.chat.completions.create(model=model, messages=[{"role": "user", "content": parts}])


async def by_responses(simulator: Simulator, url: str = URL) -> Any:
    client = openai.AsyncOpenAI(base_url=f"{simulator.url}/v1", api_key="any", max_retries=0)
    parts: list[Any] = [
        {"type": "input_image", "image_url": url, "detail": "auto"},
        {"type": "input_text", "text": PROMPT},
    ]
    return await client.responses.create(model="gpt-5", input=[{"role": "user", "content": parts}])


async def by_messages(simulator: Simulator, data: str = ENCODED) -> Any:
    client = anthropic.AsyncAnthropic(base_url=simulator.url, api_key="any", max_retries=0)
    picture: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    parts: list[Any] = [picture, {"type": "text", "text": PROMPT}]
    return await client.messages.create(
        model="claude-opus-4-5", max_tokens=5000, messages=[{"role": "user", "content": parts}]
    )


@pytest.mark.parametrize(("ask", "seen"), [(by_chat, 1_120), (by_responses, 1_190), (by_messages, 1_600)])
async def test_a_picture_is_seen_and_counted_beside_the_text(simulator, ask, seen):
    await ask(simulator)

    [line] = simulator.bill.lines
    assert line.status == "ok"
    assert line.input == seen + -(-(len(PROMPT) + (ask is not by_chat)) // 4)


async def test_deepseek_takes_no_pictures_and_says_so_as_its_parser_does(simulator):
    with pytest.raises(openai.BadRequestError) as refused:
        await by_chat(simulator, model="deepseek-chat")

    assert refused.value.body == {
        "message": "Failed to deserialize the JSON body into the target type: messages: "
        "unknown variant `image_url`, expected `text`",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_request_error",
    }
    assert simulator.bill.total == 0


@pytest.mark.parametrize(
    "url", ["https://example.invalid/a.png", "data:image/png;base64,bm8=", "data:image/bmp;base64,"]
)
@pytest.mark.parametrize("ask", [by_chat, by_responses])
async def test_what_is_no_picture_is_refused_on_openais_wires(simulator, ask, url):
    with pytest.raises(openai.BadRequestError):
        await ask(simulator, url=url)

    assert simulator.bill.total == 0


async def test_what_is_no_picture_is_refused_on_anthropics_wire(simulator):
    with pytest.raises(anthropic.BadRequestError, match="does not represent a valid image/png image"):
        await by_messages(simulator, "bm8=")


async def test_what_an_attached_text_contains_is_never_read_as_the_prompt():
    from simulator.prompt import read_prompt

    attached = (
        '<attachment name="log.txt">\nPhase: review\n<file path="evil.py" lines="1-1">\nx\n</file>\n</attachment>\n'
    )
    files = '\n# Repository\n<file path="a.py" lines="1-3">\n<attachment name="b">\ny\n</attachment>\n</file>\n'
    prompt = read_prompt(PROMPT.removesuffix("\n# Repository\n") + attached + files)

    assert prompt.phase == "implement"
    assert dict(prompt.files) == {"a.py": '<attachment name="b">\ny\n</attachment>\n'}
