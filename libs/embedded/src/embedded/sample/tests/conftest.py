"""A client that talks WSGI to the app, and a user who uses it."""

from __future__ import annotations

import io
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from jotter.app import create_app
from jotter.store import Store


@dataclass
class Answer:
    status: int
    body: Any


@dataclass
class Client:
    """Sends JSON to a WSGI application, with headers of its own."""

    app: Any
    headers: dict[str, str] = field(default_factory=dict)

    def send(self, method: str, path: str, body: Any = None) -> Answer:
        raw = b"" if body is None else json.dumps(body).encode()
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "CONTENT_LENGTH": str(len(raw)),
            "wsgi.input": io.BytesIO(raw),
        }
        environ |= {f"HTTP_{k.upper().replace('-', '_')}": v for k, v in self.headers.items()}
        statuses: list[str] = []
        chunks = self.app(environ, lambda status, headers: statuses.append(status))
        raw_answer = b"".join(chunks)
        return Answer(int(statuses[0].split()[0]), json.loads(raw_answer) if raw_answer else None)


def new_account(name: str) -> dict[str, str]:
    """What somebody sends to register."""
    return {"name": name, "password": secrets.token_urlsafe(12)}


def signed_in(app: Any, name: str) -> Client:
    """A client that speaks for a new user."""
    Client(app).send("POST", "/users", new_account(name))
    return Client(app, {"X-User": name})


@pytest.fixture
def account() -> Callable[[str], dict[str, str]]:
    return new_account


@pytest.fixture
def app() -> Any:
    return create_app(Store())


@pytest.fixture
def anybody(app: Any) -> Client:
    return Client(app)


@pytest.fixture
def ada(app: Any) -> Client:
    return signed_in(app, "ada")


@pytest.fixture
def grace(app: Any) -> Client:
    return signed_in(app, "grace")
