"""Turns what the SDKs raise into faults. Both SDKs stand on httpx2 and have the same family of errors."""

from collections.abc import Mapping
from typing import Any

import httpx2

from executor.answer import Fault, FaultKind

# Before any of these is over, no byte of the request has left.
_NOT_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
    httpx2.InvalidURL,
)
ERROR_STATUS_MIN = 400


def of_status(response: httpx2.Response, body: object, message: str) -> Fault:
    """An HTTP status, or an error event within a stream that began with 200."""
    told = details(body)
    kind = FaultKind.STATUS if response.status_code >= ERROR_STATUS_MIN else FaultKind.STREAM_ERROR
    return Fault(
        kind,
        http_status=response.status_code,
        type=_text(told.get("type") or told.get("status")),
        code=_text(told.get("code")),
        message=_text(told.get("message")) or message,
        retry_after=_retry_after(response.headers),
    )


def of_connection(error: BaseException) -> Fault:
    """Anything below HTTP, or an event that could not be read: unless it was never sent, it may be billed."""
    cause: BaseException | None = error
    while cause is not None:
        name = type(cause).__name__
        if isinstance(cause, _NOT_SENT):
            return Fault(FaultKind.NOT_SENT, message=f"{name}: {cause}")
        if isinstance(cause, httpx2.TimeoutException):
            return Fault(FaultKind.TIMEOUT, message=name)
        if isinstance(cause, httpx2.HTTPError):
            return Fault(FaultKind.BROKEN, message=f"{name}: {cause}")
        cause = cause.__cause__
    return Fault(FaultKind.BROKEN, message=type(error).__name__)


def details(body: object) -> Mapping[str, Any]:
    """The error object in an error body: `{"error": {…}}`, the bare object, or Gemini's list of one."""
    if isinstance(body, list) and body:
        body = body[0]
    if isinstance(body, Mapping):
        inner = body.get("error")
        return inner if isinstance(inner, Mapping) else body
    return {}


def _retry_after(headers: httpx2.Headers) -> str:
    """`Retry-After`, or the finer header of OpenAI and others, as seconds."""
    precise = headers.get("retry-after-ms", "")
    if precise.replace(".", "", 1).isdigit():
        return str(float(precise) / 1000)
    return headers.get("retry-after", "")


def _text(value: object) -> str:
    return str(value) if isinstance(value, str | int) else ""
