"""OpenAI's chat completions, as OpenAI, Google and DeepSeek speak them: one shape, three habits of counting. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from simulator.call import Asked, BadRequest, Finish, Piece, Reply, Wire, provider_of
from simulator.tokens import Buckets, tokens_for
from simulator.wires import images
from simulator.wires.reading import JsonObject, first_user_text, limit_of, messages_of, model_of, sse


def asked(body: JsonObject) -> Asked:
    """A request to `/v1/chat/completions`."""
    messages = messages_of(body.get("messages"), "messages")
    options = body.get("stream_options")
    model = model_of(body)
    return Asked(
        wire=Wire.CHAT,
        model=model,
        images=_images(body, provider_of(model, Wire.CHAT), model),
        text="\n".join(text for _, text in messages),
        first_message=first_user_text(messages),
        stream=body.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        max_output_tokens=limit_of(body, "max_completion_tokens", "max_tokens"),
    )


def _images(body: JsonObject, provider: str, model: str) -> int:
    """How many pictures the messages hold; DeepSeek's models take none, and say so as a parser would."""
    count = 0
    for part in images.parts_in(body.get("messages"), "image_url"):
        if provider == "deepseek":
            told = "Failed to deserialize the JSON body into the target type: messages: unknown variant `image_url`"
            raise BadRequest(f"{told}, expected `text`", model=model)
        held = part.get("image_url")
        images.check_url(held.get("url") if isinstance(held, dict) else None, "messages.content.image_url")
        count += 1
    return count


def whole(reply: Reply) -> dict[str, Any]:
    """The answer to a request without streaming."""
    message = {"role": "assistant", "content": reply.text or None, "refusal": None}
    if _is_refused(reply):
        message |= {"content": None, "refusal": reply.text}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(reply)}
    return {**_frame(reply, "chat.completion"), "choices": [choice], "usage": usage(reply, reply.usage)}


def opening(reply: Reply) -> list[bytes]:
    return [_chunk(reply, {"role": "assistant", "content": ""}, seen=0)]


def piece(reply: Reply, part: Piece) -> bytes:
    return _chunk(reply, {"refusal" if _is_refused(reply) else "content": part.text}, seen=part.seen)


def closing(reply: Reply) -> list[bytes]:
    events = [_chunk(reply, {}, seen=len(reply.text), finish=_finish(reply))]
    if reply.asked.include_usage and reply.asked.provider == "openai":
        last = {"choices": [], "usage": usage(reply, reply.usage)}
        events.append(sse(_frame(reply, "chat.completion.chunk") | last))
    return [*events, b"data: [DONE]\n\n"]


def usage(reply: Reply, tokens: Buckets) -> dict[str, Any]:
    """Usage as this model's provider counts it."""
    prompt, answer = tokens.prompt, tokens.output + tokens.reasoning
    counted: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
    match reply.asked.provider:
        case "gcp.gemini":
            # Thoughts are in the total and in nothing else.
            counted["completion_tokens"] = tokens.output
            if tokens.cache_read:
                counted["prompt_tokens_details"] = {"cached_tokens": tokens.cache_read}
        case "deepseek":
            counted["prompt_tokens_details"] = {"cached_tokens": tokens.cache_read}
            counted["prompt_cache_hit_tokens"] = tokens.cache_read
            counted["prompt_cache_miss_tokens"] = prompt - tokens.cache_read
            if tokens.reasoning:
                counted["completion_tokens_details"] = {"reasoning_tokens": tokens.reasoning}
        case _:
            counted["prompt_tokens_details"] = {"cached_tokens": tokens.cache_read, "audio_tokens": 0}
            counted["completion_tokens_details"] = {
                "reasoning_tokens": tokens.reasoning,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            }
    return counted


def stream_error(_reply: Reply) -> bytes:
    """An error after the stream has begun."""
    return sse({"error": {"message": "The server had an error while streaming.", "type": "server_error", "code": None}})


def _chunk(reply: Reply, delta: dict[str, Any], *, seen: int, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    chunk = {**_frame(reply, "chat.completion.chunk"), "choices": [choice]}
    return sse(chunk | _usage_of_chunk(reply, seen, finish))


def _usage_of_chunk(reply: Reply, seen: int, finish: str | None) -> dict[str, Any]:
    if not reply.asked.include_usage:
        return {}
    match reply.asked.provider:
        case "gcp.gemini":
            # With every chunk, cumulative: who adds them up is wrong.
            so_far = reply.usage.output if finish else min(tokens_for(seen), reply.usage.output)
            return {"usage": usage(reply, replace(reply.usage, output=so_far))}
        case "deepseek":
            # With the last chunk that has a choice, and not in one of its own.
            return {"usage": usage(reply, reply.usage) if finish else None}
        case _:
            return {"usage": None}


def _frame(reply: Reply, kind: str) -> dict[str, Any]:
    return {
        "id": reply.id,
        "object": kind,
        "created": reply.created,
        "model": reply.asked.model,
        "service_tier": "default",
        "system_fingerprint": "fp_simulated",
    }


def _is_refused(reply: Reply) -> bool:
    """Only OpenAI has a field for it; with others the text just says so."""
    return reply.finish == Finish.REFUSAL and reply.asked.provider == "openai"


def _finish(reply: Reply) -> str:
    match reply.finish:
        case Finish.STOP:
            return "stop"
        case Finish.LENGTH:
            return "length"
        case Finish.REFUSAL:
            return "stop" if reply.asked.provider == "openai" else "content_filter"
