"""Notes: each belongs to one user, and nobody else can see it."""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus

from jotter.store import Note, Store
from jotter.users import Users
from jotter.web import HttpError, Request, Response

TITLE_LONGEST = 120
TEXT_LONGEST = 20_000


class Notes:
    def __init__(self, store: Store, users: Users) -> None:
        self._store = store
        self._users = users

    def list(self, request: Request) -> Response:
        user = self._users.caller(request)
        return Response(body={"notes": [asdict(note) for note in self._store.notes_of(user.id)]})

    def create(self, request: Request) -> Response:
        user = self._users.caller(request)
        note = self._store.add_note(user.id, *_fields(request))
        return Response(HTTPStatus.CREATED, asdict(note))

    def read(self, request: Request, note_id: int) -> Response:
        return Response(body=asdict(self._own(request, note_id)))

    def change(self, request: Request, note_id: int) -> Response:
        note = self._own(request, note_id)
        return Response(body=asdict(self._store.change_note(note, *_fields(request))))

    def remove(self, request: Request, note_id: int) -> Response:
        self._store.remove_note(self._own(request, note_id))
        return Response(HTTPStatus.NO_CONTENT)

    def _own(self, request: Request, note_id: int) -> Note:
        note = self._store.note(self._users.caller(request).id, note_id)
        if note is None:
            raise HttpError(HTTPStatus.NOT_FOUND, f"you have no note {note_id}")
        return note


def _fields(request: Request) -> tuple[str, str]:
    return (
        request.text_field("title", longest=TITLE_LONGEST),
        request.text_field("text", longest=TEXT_LONGEST),
    )
