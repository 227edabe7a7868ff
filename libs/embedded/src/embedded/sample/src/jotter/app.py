"""Puts the parts together."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from jotter.notes import Notes
from jotter.store import Store
from jotter.users import Users
from jotter.web import Request, Response, Router, wsgi


def health(request: Request) -> Response:
    return Response(body={"status": "ok"})


def create_app(store: Store) -> Callable[..., Iterable[bytes]]:
    """The whole API as a WSGI application."""
    users = Users(store)
    notes = Notes(store, users)

    router = Router()
    router.add("GET", "/health", health)
    router.add("POST", "/users", users.register)
    router.add("GET", "/notes", notes.list)
    router.add("POST", "/notes", notes.create)
    router.add("GET", "/notes/<note_id>", notes.read)
    router.add("PUT", "/notes/<note_id>", notes.change)
    router.add("DELETE", "/notes/<note_id>", notes.remove)
    return wsgi(router)
