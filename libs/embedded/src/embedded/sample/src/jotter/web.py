"""Just enough of a web framework: requests, responses and a router, over WSGI."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

BODY_BYTES_MAX = 64 * 1024


class HttpError(Exception):
    """An answer that is not a success: raised anywhere, told to the caller as JSON."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> dict[str, Any]:
        """The body as a JSON object."""
        try:
            value = json.loads(self.body)
        except ValueError as error:
            raise HttpError(HTTPStatus.BAD_REQUEST, "the body is not JSON") from error
        if not isinstance(value, dict):
            raise HttpError(HTTPStatus.BAD_REQUEST, "the body must be a JSON object")
        return value

    def text_field(self, name: str, *, longest: int) -> str:
        """A required text field of the body."""
        value = self.json().get(name)
        if not isinstance(value, str) or not value.strip():
            raise HttpError(HTTPStatus.BAD_REQUEST, f"{name!r} is required")
        if len(value) > longest:
            raise HttpError(HTTPStatus.BAD_REQUEST, f"{name!r} has more than {longest} characters")
        return value


@dataclass(frozen=True)
class Response:
    status: HTTPStatus = HTTPStatus.OK
    body: Any = None

    def encoded(self) -> bytes:
        return b"" if self.body is None else json.dumps(self.body).encode()


Endpoint = Callable[..., Response]


class Router:
    """Finds the endpoint for a method and a path such as `/notes/<id>`; `<id>` is a number."""

    def __init__(self) -> None:
        self._routes: list[tuple[str, re.Pattern[str], Endpoint]] = []

    def add(self, method: str, pattern: str, endpoint: Endpoint) -> None:
        regex = re.compile(re.sub(r"<(\w+)>", r"(?P<\1>\\d+)", pattern))
        self._routes.append((method, regex, endpoint))

    def dispatch(self, request: Request) -> Response:
        found_path = False
        for method, regex, endpoint in self._routes:
            match = regex.fullmatch(request.path)
            if match is None:
                continue
            found_path = True
            if method == request.method:
                return endpoint(request, **{k: int(v) for k, v in match.groupdict().items()})
        if found_path:
            raise HttpError(HTTPStatus.METHOD_NOT_ALLOWED, f"{request.method} is not allowed here")
        raise HttpError(HTTPStatus.NOT_FOUND, f"nothing at {request.path}")


def request_from(environ: dict[str, Any]) -> Request:
    """What WSGI hands us, as a request."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length > BODY_BYTES_MAX:
        raise HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too large")
    headers = {
        name[len("HTTP_") :].replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    body = environ["wsgi.input"].read(length) if length else b""
    return Request(environ["REQUEST_METHOD"], environ.get("PATH_INFO") or "/", headers, body)


def wsgi(router: Router) -> Callable[..., Iterable[bytes]]:
    """The router as a WSGI application."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            response = router.dispatch(request_from(environ))
        except HttpError as error:
            response = Response(error.status, {"error": error.message})
        body = response.encoded()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response(f"{response.status.value} {response.status.phrase}", headers)
        return [body]

    return application
