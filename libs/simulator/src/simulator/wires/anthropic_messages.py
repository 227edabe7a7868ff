"""Anthropic's messages: usage comes twice in a stream, both times cumulative. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from simulator.call import Asked, BadRequest, Finish, Piece, Reply, Wire
from simulator.tokens import Buckets, CachePoint
from simulator.wires import images
from simulator.wires.reading import JsonObject, first_user_text, limit_of, messages_of, model_of, sse, text_in


def asked(body: JsonObject) -> Asked:
    """A request to `/v1/messages`."""
    model = model_of(body)
    limit = limit_of(body, "max_tokens")
    if limit is None:
        raise BadRequest("max_tokens: Field required", "max_tokens")
    messages = messages_of(body.get("messages"), "messages")
    thinking = body.get("thinking")
    text = "\n".join([text_in(body.get("system")), *(said for _, said in messages)])
    points = tuple(_cache_points(body))
    if isinstance(body.get("cache_control"), dict):
        points += (_point(len(text), body["cache_control"]),)
    return Asked(
        wire=Wire.ANTHROPIC,
        model=model,
        text=text,
        first_message=first_user_text(messages),
        stream=body.get("stream") is True,
        include_usage=True,
        images=_images(body),
        max_output_tokens=limit,
        thinking=isinstance(thinking, dict) and thinking.get("type") in ("enabled", "adaptive"),
        cache_points=points,
    )


def _images(body: JsonObject) -> int:
    """How many pictures the messages hold; each is looked at."""
    count = 0
    for part in images.parts_in(body.get("messages"), "image"):
        source = part.get("source")
        if not isinstance(source, dict) or source.get("type") != "base64":
            raise BadRequest("messages: an image's source must be of type base64 here", "messages")
        images.check(source.get("media_type"), source.get("data"), "messages.content.image.source")
        count += 1
    return count


def _cache_points(body: JsonObject) -> Iterator[CachePoint]:
    """Where blocks carry a `cache_control`, as a number of characters from the start of all text."""
    contents: list[Any] = [body.get("system"), *(m.get("content") for m in body["messages"] if isinstance(m, dict))]
    at = 0
    for content in contents:
        blocks: list[Any] = content if isinstance(content, list) else [{"text": text_in(content)}]
        for block in blocks:
            if not isinstance(block, dict):
                continue
            at += len(block.get("text") or "")
            if isinstance(block.get("cache_control"), dict):
                yield _point(at, block["cache_control"])
        at += 1


def _point(at: int, control: JsonObject) -> CachePoint:
    return CachePoint(at, "1h" if control.get("ttl") == "1h" else "5m")


def whole(reply: Reply) -> dict[str, Any]:
    """The answer to a request without streaming."""
    content = [{"type": "text", "text": reply.text}] if reply.text else []
    return _message(reply, content, _finish(reply), usage(reply, reply.usage))


def usage(reply: Reply, tokens: Buckets) -> dict[str, Any]:
    counted: dict[str, Any] = {
        "input_tokens": tokens.input,
        "cache_creation_input_tokens": tokens.cache_write_5m + tokens.cache_write_1h,
        "cache_read_input_tokens": tokens.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": tokens.cache_write_5m,
            "ephemeral_1h_input_tokens": tokens.cache_write_1h,
        },
        "output_tokens": tokens.output + tokens.reasoning,
        "service_tier": "standard",
    }
    if reply.asked.thinking:
        counted["output_tokens_details"] = {"thinking_tokens": tokens.reasoning}
    return counted


def opening(reply: Reply) -> list[bytes]:
    # One token of output, as the real one says before it has written any.
    begun = usage(reply, reply.usage) | {"output_tokens": 1}
    begun.pop("output_tokens_details", None)
    start = {"type": "message_start", "message": _message(reply, [], None, begun)}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    return [sse(event, event["type"]) for event in (start, block, {"type": "ping"})]


def piece(_reply: Reply, part: Piece) -> bytes:
    delta = {"type": "text_delta", "text": part.text}
    return sse({"type": "content_block_delta", "index": 0, "delta": delta}, "content_block_delta")


def closing(reply: Reply) -> list[bytes]:
    counted = usage(reply, reply.usage)
    del counted["cache_creation"], counted["service_tier"]
    delta = {"stop_reason": _finish(reply), "stop_sequence": None}
    events = [
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": delta, "usage": counted},
        {"type": "message_stop"},
    ]
    return [sse(event, event["type"]) for event in events]


def stream_error(_reply: Reply) -> bytes:
    """An error after the stream has begun."""
    return sse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "error")


def _message(reply: Reply, content: list[Any], stop: str | None, counted: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": reply.id,
        "type": "message",
        "role": "assistant",
        "model": reply.asked.model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": counted,
    }


def _finish(reply: Reply) -> str:
    match reply.finish:
        case Finish.STOP:
            return "end_turn"
        case Finish.LENGTH:
            return "max_tokens"
        case Finish.REFUSAL:
            return "refusal"
