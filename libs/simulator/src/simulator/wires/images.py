"""Pictures in a request: each wire wraps them in its own way, and every provider looks at the bytes. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any

from simulator.call import BadRequest

# What a picture's bytes begin with, by its media type.
_BEGINNINGS = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/webp": (b"RIFF",),
}
_DATA_URL = re.compile(r"data:(?P<type>[\w/+.-]+);base64,(?P<data>.*)", re.DOTALL)


def parts_in(messages: Any, kind: str) -> Iterator[dict[str, Any]]:
    """The parts of this kind in the contents of all messages."""
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and part.get("type") == kind:
                yield part


def check_url(url: Any, param: str) -> None:
    """A picture as OpenAI's wires take it: a data URL here, for nothing is fetched."""
    match = _DATA_URL.fullmatch(url) if isinstance(url, str) else None
    if match is None:
        raise BadRequest(f"Invalid {param}. Expected a base64-encoded data URL with an image MIME type.", param)
    check(match["type"], match["data"], param)


def check(media_type: Any, data: Any, param: str) -> None:
    """Raises BadRequest unless the data is a picture of this type."""
    if media_type not in _BEGINNINGS:
        raise BadRequest(f"{param}: expected one of {', '.join(_BEGINNINGS)}, found {media_type!r}", param)
    try:
        raw = base64.b64decode(data, validate=True) if isinstance(data, str) else b""
    except binascii.Error:
        raw = b""
    if not raw.startswith(_BEGINNINGS[media_type]):
        raise BadRequest(f"{param}: the data does not represent a valid {media_type} image", param)
