"""OpenAI's Responses API, by its own SDK, always streaming; nothing is stored at the provider."""

import httpx2
from openai.types.responses import Response, ResponseInputContentParam, ResponseInputItemParam

from executor.adapters.openai_chat import client, fault_of
from executor.adapters.received import (
    CALL_ID_HEADER,
    CONNECT_TIMEOUT_S,
    OnText,
    Received,
    Stopping,
    StreamFault,
    read_to_the_end,
)
from executor.answer import Answer, Fault, FaultKind, Question


class OpenAIResponses:
    def __init__(self, *, base_url: str, api_key: str, trust_env: bool) -> None:
        self._client = client(base_url=base_url, api_key=api_key, trust_env=trust_env)

    async def ask(self, question: Question, on_text: OnText, stopping: Stopping | None = None) -> Answer:
        async def read(received: Received) -> None:
            await self._read(question, received)

        return await read_to_the_end(read, fault_of, timeout_s=question.timeout_s, on_text=on_text, stopping=stopping)

    async def _read(self, question: Question, received: Received) -> None:
        stream = await self._client.responses.create(
            model=question.provider_model,
            instructions=question.system,
            input=_input(question),
            max_output_tokens=question.max_output_tokens,
            store=False,
            stream=True,
            extra_headers={CALL_ID_HEADER: question.call_id},
            timeout=httpx2.Timeout(question.timeout_s, connect=CONNECT_TIMEOUT_S),
        )
        received.opened(stream.response)
        async for event in stream:
            match event.type:
                case "response.output_text.delta":
                    received.text(event.delta)
                case "response.refusal.delta":
                    received.refusal += event.delta
                case "response.created":
                    received.provider_model = event.response.model
                    received.provider_request_id = received.provider_request_id or event.response.id
                case "response.completed" | "response.incomplete" | "response.failed":
                    _ended(event.response, received)
                case "error":
                    raise StreamFault(Fault(FaultKind.STREAM_ERROR, code=event.code or "", message=event.message))
                case _:
                    continue

    async def close(self) -> None:
        await self._client.close()


def _input(question: Question) -> list[ResponseInputItemParam]:
    items: list[ResponseInputItemParam] = []
    for message in question.messages:
        if not message.images:
            items.append({"role": message.role, "content": message.text})
            continue
        parts: list[ResponseInputContentParam] = [
            {"type": "input_image", "image_url": image.data_url, "detail": "auto"} for image in message.images
        ]
        items.append({"role": message.role, "content": [*parts, {"type": "input_text", "text": message.text}]})
    return items


def _ended(response: Response, received: Received) -> None:
    """Reads the response object that closes the stream."""
    received.provider_model = response.model or received.provider_model
    received.service_tier = response.service_tier or ""
    if response.usage is not None:
        received.raw_usage = response.usage.to_dict(mode="json")
    if response.status == "failed":
        error = response.error
        code, message = (error.code, error.message) if error is not None else ("", "the response has failed")
        raise StreamFault(Fault(FaultKind.STREAM_ERROR, code=code, message=message))
    reason = response.incomplete_details.reason if response.incomplete_details is not None else None
    received.finish_reason = reason or response.status or ""
    received.is_final = True
