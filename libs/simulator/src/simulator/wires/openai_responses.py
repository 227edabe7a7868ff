"""OpenAI's responses: an answer is a list of items, a stream is numbered events around it. Pure."""

from __future__ import annotations

from typing import Any

from simulator.call import Asked, Finish, Piece, Reply, Wire, pieces_of, reasons
from simulator.tokens import Buckets
from simulator.wires import images
from simulator.wires.reading import JsonObject, first_user_text, limit_of, messages_of, model_of, sse, text_in

# Created, in progress, message added, part added.
_OPENING_EVENTS = 4


def asked(body: JsonObject) -> Asked:
    """A request to `/v1/responses`."""
    instructions = text_in(body.get("instructions"))
    said = body.get("input")
    messages = [("user", said)] if isinstance(said, str) and said else messages_of(said, "input")
    return Asked(
        wire=Wire.RESPONSES,
        model=model_of(body),
        text="\n".join([instructions, *(text for _, text in messages)]),
        first_message=first_user_text(messages),
        stream=body.get("stream") is True,
        include_usage=True,
        images=_images(said),
        max_output_tokens=limit_of(body, "max_output_tokens"),
    )


def _images(said: Any) -> int:
    """How many pictures the input holds; each is looked at."""
    count = 0
    for part in images.parts_in(said, "input_image"):
        images.check_url(part.get("image_url"), "input.content.image_url")
        count += 1
    return count


def whole(reply: Reply) -> dict[str, Any]:
    """The answer to a request without streaming, and the object that closes a stream."""
    ended = "incomplete" if reply.finish == Finish.LENGTH else "completed"
    return _response(reply, ended, [*_thoughts(reply), _message(reply, ended)], usage(reply.usage))


def usage(tokens: Buckets) -> dict[str, Any]:
    output = tokens.output + tokens.reasoning
    return {
        "input_tokens": tokens.prompt,
        "input_tokens_details": {"cached_tokens": tokens.cache_read, "cache_write_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
        "total_tokens": tokens.prompt + output,
    }


def opening(reply: Reply) -> list[bytes]:
    begun = _response(reply, "in_progress", [], None)
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for thought in _thoughts(reply):
        events.append({"type": "response.output_item.added", "output_index": 0, "item": thought})
        events.append({"type": "response.output_item.done", "output_index": 0, "item": thought})
    message = _message(reply, "in_progress") | {"content": []}
    events.append({"type": "response.output_item.added", "output_index": _index(reply), "item": message})
    part = _part(reply, "")
    events.append({"type": "response.content_part.added", **_place(reply), "part": part})
    return [sse(event | {"sequence_number": n}, event["type"]) for n, event in enumerate(events)]


def piece(reply: Reply, part: Piece) -> bytes:
    kind = "response.refusal.delta" if reply.finish == Finish.REFUSAL else "response.output_text.delta"
    event = {"type": kind, **_place(reply), "delta": part.text, "sequence_number": _opened(reply) + part.index}
    return sse(event | ({} if reply.finish == Finish.REFUSAL else {"logprobs": []}), kind)


def closing(reply: Reply) -> list[bytes]:
    final = whole(reply)
    if reply.finish == Finish.REFUSAL:
        done = {"type": "response.refusal.done", **_place(reply), "refusal": reply.text}
    else:
        done = {"type": "response.output_text.done", **_place(reply), "text": reply.text, "logprobs": []}
    events: list[dict[str, Any]] = [
        done,
        {"type": "response.content_part.done", **_place(reply), "part": _part(reply, reply.text)},
        {"type": "response.output_item.done", "output_index": _index(reply), "item": final["output"][-1]},
        {"type": f"response.{final['status']}", "response": final},
    ]
    first = _opened(reply) + len(pieces_of(reply.text))
    return [sse(event | {"sequence_number": first + n}, event["type"]) for n, event in enumerate(events)]


def stream_error(reply: Reply) -> bytes:
    """An error after the stream has begun."""
    failed = _response(reply, "failed", [], None)
    failed["error"] = {"code": "server_error", "message": "The server had an error while streaming."}
    event = {
        "type": "response.failed",
        "response": failed,
        "sequence_number": _opened(reply) + len(pieces_of(reply.text)),
    }
    return sse(event, "response.failed")


def _thoughts(reply: Reply) -> list[dict[str, Any]]:
    return [{"type": "reasoning", "id": f"rs_{reply.id}", "summary": []}] if reasons(reply.asked) else []


def _opened(reply: Reply) -> int:
    """How many events come before the first piece of text: thoughts are added and done."""
    return _OPENING_EVENTS + 2 * len(_thoughts(reply))


def _index(reply: Reply) -> int:
    return len(_thoughts(reply))


def _place(reply: Reply) -> dict[str, Any]:
    return {"item_id": f"msg_{reply.id}", "output_index": _index(reply), "content_index": 0}


def _message(reply: Reply, status: str) -> dict[str, Any]:
    return {
        "type": "message",
        "id": f"msg_{reply.id}",
        "status": status,
        "role": "assistant",
        "content": [_part(reply, reply.text)],
    }


def _part(reply: Reply, text: str) -> dict[str, Any]:
    if reply.finish == Finish.REFUSAL:
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _response(reply: Reply, status: str, output: list[Any], counted: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "id": reply.id,
        "object": "response",
        "created_at": reply.created,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None,
        "max_output_tokens": reply.asked.max_output_tokens,
        "model": reply.asked.model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": counted,
        "metadata": {},
    }
