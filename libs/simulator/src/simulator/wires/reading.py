"""Reading request bodies: the few shapes that all wires share. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from simulator.call import BadRequest

JsonObject = Mapping[str, Any]


def body_of(raw: bytes) -> JsonObject:
    """The body as a JSON object."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadRequest("We could not parse the JSON body of your request.") from error
    if not isinstance(body, dict):
        raise BadRequest("The body of your request must be a JSON object.")
    return body


def model_of(body: JsonObject) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("you must provide a model parameter", "model")
    return model


def limit_of(body: JsonObject, *names: str) -> int | None:
    """The first limit on output tokens that the body names."""
    for name in names:
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise BadRequest(f"{name}: must be a whole number of at least 1, not {value!r}", name)
        return value
    return None


def text_in(content: Any) -> str:
    """The text of a message's content: a string, or a list of parts of which only text counts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if isinstance(part, dict))
    return ""


def messages_of(value: Any, param: str) -> list[tuple[str, str]]:
    """Role and text of each message; anything else in the list (tool calls, reasoning) has no text here."""
    if not isinstance(value, list) or not value:
        raise BadRequest(f"{param}: at least one message is required", param)
    return [(str(m.get("role") or ""), text_in(m.get("content"))) for m in value if isinstance(m, dict)]


def first_user_text(messages: list[tuple[str, str]]) -> str:
    return next((text for role, text in messages if role == "user"), "")


def sse(value: JsonObject, event: str | None = None) -> bytes:
    """One server-sent event."""
    named = f"event: {event}\n" if event else ""
    return f"{named}data: {json.dumps(value, separators=(',', ':'))}\n\n".encode()
