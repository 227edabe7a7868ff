"""One call: what was asked, over whichever wire, and what is answered.

Values only: the wires read and write them, nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from simulator.tokens import Buckets, CachePoint


class Wire(StrEnum):
    ANTHROPIC = "anthropic"
    CHAT = "openai-chat"
    RESPONSES = "openai-responses"


class Finish(StrEnum):
    """Why the text ends; each wire has its own word for it."""

    STOP = "stop"
    LENGTH = "length"
    REFUSAL = "refusal"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, whatever its wire."""

    wire: Wire
    model: str
    # Everything the model reads, in order: what input tokens are counted on.
    text: str
    # The first thing the user says: the factory's prompt.
    first_message: str
    stream: bool = False
    include_usage: bool = False
    images: int = 0
    max_output_tokens: int | None = None
    thinking: bool = False
    cache_points: tuple[CachePoint, ...] = ()

    @property
    def provider(self) -> str:
        """OpenTelemetry's `gen_ai.provider.name`, as the model's id tells it."""
        return provider_of(self.model, self.wire)


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back, before it is written in the words of a wire."""

    id: str
    created: int
    asked: Asked
    text: str
    finish: Finish
    # As told to the caller: differs from the bill only where wrong usage was asked for.
    usage: Buckets


@dataclass(frozen=True, slots=True)
class Piece:
    """What one event of a stream carries."""

    index: int
    text: str
    # All characters so far, these included.
    seen: int


# 32 tokens: few enough events to be fast, enough of them to show progress.
PIECE_CHARACTERS = 128


def pieces_of(text: str) -> list[Piece]:
    """A text as a stream sends it."""
    return [
        Piece(index, text[start : start + PIECE_CHARACTERS], min(start + PIECE_CHARACTERS, len(text)))
        for index, start in enumerate(range(0, len(text), PIECE_CHARACTERS))
    ]


class Speaks(Protocol):
    """What a module in `wires` offers."""

    def asked(self, body: Mapping[str, Any], /) -> Asked: ...
    def whole(self, reply: Reply, /) -> dict[str, Any]: ...
    def opening(self, reply: Reply, /) -> list[bytes]: ...
    def piece(self, reply: Reply, part: Piece, /) -> bytes: ...
    def closing(self, reply: Reply, /) -> list[bytes]: ...
    def stream_error(self, reply: Reply, /) -> bytes: ...


class BadRequest(Exception):
    """The request cannot be read; the message says what is wrong, `param` where, `model` whose words say so."""

    def __init__(self, message: str, param: str | None = None, *, model: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.model = model


_PROVIDERS: Mapping[str, str] = {
    "claude": "anthropic",
    "gpt": "openai",
    "o1": "openai",
    "o3": "openai",
    "o4": "openai",
    "gemini": "gcp.gemini",
    "deepseek": "deepseek",
}
_REASONING_MODELS = ("gpt-5", "o1", "o3", "o4", "gemini-2.5", "gemini-3", "deepseek-reasoner")


def provider_of(model: str, wire: Wire) -> str:
    """Whose model this is; for an unknown name, whoever invented the wire."""
    for prefix, provider in _PROVIDERS.items():
        if model.lower().startswith(prefix):
            return provider
    return "anthropic" if wire == Wire.ANTHROPIC else "openai"


def reasons(asked: Asked) -> bool:
    """Whether this model thinks before it answers: by its name, or where it was asked to."""
    return asked.thinking or asked.model.lower().startswith(_REASONING_MODELS)
