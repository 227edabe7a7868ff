"""What goes over the wire and what comes back, in words that no provider owns.

Values only. An `Answer` is what was received, whole or not; what it means is decided in `outcome.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

ANSWER_BYTES_MAX = 8 * 1024 * 1024
"""A longer answer is cut off and counts as broken: no phase needs that much text."""


@dataclass(frozen=True, slots=True)
class Image:
    """A picture that a model is shown."""

    name: str
    media_type: str
    # of its bytes, as the artifact store knows them
    digest: str
    base64: str = field(repr=False)

    @property
    def data_url(self) -> str:
        return f"data:{self.media_type};base64,{self.base64}"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of the conversation; the system prompt travels apart."""

    role: Literal["user", "assistant"]
    text: str
    # the user's only, shown before the text
    images: tuple[Image, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """One call, ready to be sent."""

    call_id: str
    provider_model: str
    system: str
    messages: tuple[Message, ...]
    max_output_tokens: int
    timeout_s: float


class FaultKind(StrEnum):
    """At which point a call went wrong."""

    NOT_SENT = "not_sent"
    TIMEOUT = "timeout"
    STATUS = "status"
    STREAM_ERROR = "stream_error"
    BROKEN = "broken"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Fault:
    """What went wrong, as the wire told it."""

    kind: FaultKind
    http_status: int = 0
    type: str = ""
    code: str = ""
    message: str = ""
    retry_after: str = ""
    """The `Retry-After` header as received: seconds or an HTTP date."""


@dataclass(frozen=True, slots=True)
class Answer:
    """All that was received of an answer; `fault` is None when the stream was read to its end."""

    text: str = ""
    refusal: str = ""
    finish_reason: str = ""
    raw_usage: Mapping[str, Any] | None = None
    provider_model: str = ""
    provider_request_id: str = ""
    service_tier: str = ""
    http_status: int = 0
    time_to_first_token_s: float | None = None
    fault: Fault | None = None
