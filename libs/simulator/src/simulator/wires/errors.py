"""Errors in the shape that each provider documents. Pure."""

from __future__ import annotations

from typing import Any

from simulator.call import Wire

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_OPENAI = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    402: ("insufficient_quota", "insufficient_quota"),
    404: ("invalid_request_error", "unknown_url"),
    413: ("invalid_request_error", "request_too_large"),
    429: ("requests", "rate_limit_exceeded"),
    529: ("server_error", "overloaded"),
}
_DEEPSEEK = {
    400: ("invalid_request_error", "invalid_request_error"),
    401: ("authentication_error", "invalid_request_error"),
    402: ("unknown_error", "invalid_request_error"),
}
_GOOGLE = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "FAILED_PRECONDITION",
    404: "NOT_FOUND",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    529: "UNAVAILABLE",
}
_MESSAGES = {
    401: "Incorrect API key provided: none was sent.",
    402: "Insufficient Balance",
    429: "Rate limit reached. Please try again later.",
    500: "The server had an error while processing your request.",
    529: "Overloaded",
}


def error_body(
    wire: Wire, provider: str, status: int, request_id: str, message: str = "", param: str | None = None
) -> Any:
    """The body of an error answer."""
    said = message or _MESSAGES.get(status, "Something went wrong.")
    if wire == Wire.ANTHROPIC:
        kind = _ANTHROPIC_TYPES.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": said}, "request_id": request_id}
    if provider == "gcp.gemini":
        # Google's compatible endpoint wraps its own error in a list.
        return [{"error": {"code": status, "message": said, "status": _GOOGLE.get(status, "INTERNAL")}}]
    kinds = _DEEPSEEK if provider == "deepseek" and status in _DEEPSEEK else _OPENAI
    kind, code = kinds.get(status, ("server_error", None))
    return {"error": {"message": said, "type": kind, "param": param, "code": code}}
