"""Anthropic's Messages API, by its own SDK, always streaming."""

from typing import Literal, cast

import anthropic
import httpx2
from anthropic.types import ImageBlockParam, MessageParam, TextBlockParam

from executor.adapters import faults
from executor.adapters.received import CALL_ID_HEADER, CONNECT_TIMEOUT_S, OnText, Received, Stopping, read_to_the_end
from executor.answer import Answer, Fault, Image, Message, Question
from executor.usage import merged


class AnthropicMessages:
    def __init__(self, *, base_url: str, api_key: str, trust_env: bool) -> None:
        self._client = anthropic.AsyncAnthropic(
            api_key=api_key,
            base_url=base_url,
            max_retries=0,
            open_telemetry=False,
            http_client=anthropic.DefaultAsyncHttpxClient(trust_env=trust_env),
        )

    async def ask(self, question: Question, on_text: OnText, stopping: Stopping | None = None) -> Answer:
        async def read(received: Received) -> None:
            await self._read(question, received)

        return await read_to_the_end(read, _fault, timeout_s=question.timeout_s, on_text=on_text, stopping=stopping)

    async def _read(self, question: Question, received: Received) -> None:
        stream = await self._client.messages.create(
            model=question.provider_model,
            system=question.system,
            messages=_messages(question),
            max_tokens=question.max_output_tokens,
            stream=True,
            extra_headers={CALL_ID_HEADER: question.call_id},
            timeout=httpx2.Timeout(question.timeout_s, connect=CONNECT_TIMEOUT_S),
        )
        received.opened(stream.response)
        async for event in stream:
            match event.type:
                case "message_start":
                    received.provider_model = event.message.model
                    received.service_tier = event.message.usage.service_tier or ""
                    received.provider_request_id = received.provider_request_id or event.message.id
                    received.raw_usage = merged(received.raw_usage, event.message.usage.to_dict(mode="json"))
                case "content_block_delta" if event.delta.type == "text_delta":
                    received.text(event.delta.text)
                case "message_delta":
                    received.finish_reason = event.delta.stop_reason or received.finish_reason
                    received.raw_usage = merged(received.raw_usage, event.usage.to_dict(mode="json"))
                case "message_stop":
                    received.is_final = bool(received.finish_reason)
                case _:
                    continue

    async def close(self) -> None:
        await self._client.close()


def _messages(question: Question) -> list[MessageParam]:
    messages: list[MessageParam] = []
    for turn in question.messages:
        if turn.role == "user":
            messages.append({"role": "user", "content": _content(turn)})
        else:
            messages.append({"role": "assistant", "content": turn.text})
    return messages


def _content(turn: Message) -> str | list[TextBlockParam | ImageBlockParam]:
    if not turn.images:
        return turn.text
    return [*map(_image, turn.images), {"type": "text", "text": turn.text}]


def _image(image: Image) -> ImageBlockParam:
    media_type = cast("Literal['image/jpeg', 'image/png', 'image/gif', 'image/webp']", image.media_type)
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": image.base64}}


def _fault(error: Exception) -> Fault:
    if isinstance(error, anthropic.APIStatusError):
        return faults.of_status(error.response, error.body, error.message)
    return faults.of_connection(error)
