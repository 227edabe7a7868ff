"""OpenAI's Chat Completions API, by its own SDK, always streaming; Gemini, DeepSeek and many servers speak it too."""

import httpx2
import openai
from openai.types.chat import ChatCompletionContentPartParam, ChatCompletionMessageParam

from executor.adapters import faults
from executor.adapters.received import CALL_ID_HEADER, CONNECT_TIMEOUT_S, OnText, Received, Stopping, read_to_the_end
from executor.answer import Answer, Fault, FaultKind, Message, Question


class OpenAIChat:
    def __init__(self, *, base_url: str, api_key: str, trust_env: bool, provider: str) -> None:
        self._client = client(base_url=base_url, api_key=api_key, trust_env=trust_env)
        # OpenAI has given the limit a new name, which not all who speak its protocol know.
        self._limit = "max_completion_tokens" if provider == "openai" else "max_tokens"

    async def ask(self, question: Question, on_text: OnText, stopping: Stopping | None = None) -> Answer:
        async def read(received: Received) -> None:
            await self._read(question, received)

        return await read_to_the_end(read, fault_of, timeout_s=question.timeout_s, on_text=on_text, stopping=stopping)

    async def _read(self, question: Question, received: Received) -> None:
        stream = await self._client.chat.completions.create(
            model=question.provider_model,
            messages=_messages(question),
            stream=True,
            stream_options={"include_usage": True},
            extra_body={self._limit: question.max_output_tokens},
            extra_headers={CALL_ID_HEADER: question.call_id},
            timeout=httpx2.Timeout(question.timeout_s, connect=CONNECT_TIMEOUT_S),
        )
        received.opened(stream.response)
        async for chunk in stream:
            received.provider_model = chunk.model or received.provider_model
            received.provider_request_id = received.provider_request_id or chunk.id or ""
            received.service_tier = chunk.service_tier or received.service_tier
            if chunk.usage is not None:
                # Some providers send it with every chunk, counted from the start each time: the last one is right.
                received.raw_usage = chunk.usage.to_dict(mode="json")
            for choice in chunk.choices or ():
                received.finish_reason = choice.finish_reason or received.finish_reason
                if choice.delta is not None:
                    received.refusal += choice.delta.refusal or ""
                    received.text(choice.delta.content)

    async def close(self) -> None:
        await self._client.close()


def client(*, base_url: str, api_key: str, trust_env: bool) -> openai.AsyncOpenAI:
    """A client that makes exactly one attempt."""
    return openai.AsyncOpenAI(
        api_key=api_key,
        base_url=base_url,
        max_retries=0,
        http_client=openai.DefaultAsyncHttpxClient(trust_env=trust_env),
    )


def fault_of(error: Exception) -> Fault:
    """What an error of the SDK says."""
    match error:
        case openai.APIStatusError():
            return faults.of_status(error.response, error.body, error.message)
        case openai.APIConnectionError() | openai.APIResponseValidationError():
            return faults.of_connection(error)
        case openai.APIError():
            told = faults.details(error.body)
            code = str(told.get("code") or "")
            return Fault(FaultKind.STREAM_ERROR, type=str(told.get("type") or ""), code=code, message=error.message)
        case _:
            return faults.of_connection(error)


def _messages(question: Question) -> list[ChatCompletionMessageParam]:
    messages: list[ChatCompletionMessageParam] = [{"role": "system", "content": question.system}]
    for message in question.messages:
        if message.role == "user":
            messages.append({"role": "user", "content": _content(message)})
        else:
            messages.append({"role": "assistant", "content": message.text})
    return messages


def _content(message: Message) -> str | list[ChatCompletionContentPartParam]:
    if not message.images:
        return message.text
    parts: list[ChatCompletionContentPartParam] = [
        {"type": "image_url", "image_url": {"url": image.data_url}} for image in message.images
    ]
    return [*parts, {"type": "text", "text": message.text}]
