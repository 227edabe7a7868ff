"""Who uses this, and who is calling."""

from __future__ import annotations

from http import HTTPStatus

from jotter import passwords
from jotter.store import NameTaken, Store, User
from jotter.web import HttpError, Request, Response

NAME_LONGEST = 40
PASSWORD_SHORTEST = 10
PASSWORD_LONGEST = 200


class Users:
    def __init__(self, store: Store) -> None:
        self._store = store

    def register(self, request: Request) -> Response:
        name = request.text_field("name", longest=NAME_LONGEST)
        password = request.text_field("password", longest=PASSWORD_LONGEST)
        if len(password) < PASSWORD_SHORTEST:
            raise HttpError(
                HTTPStatus.BAD_REQUEST, f"'password' needs {PASSWORD_SHORTEST} characters"
            )
        try:
            user = self._store.add_user(name, passwords.hash_password(password))
        except NameTaken as error:
            raise HttpError(HTTPStatus.CONFLICT, f"{name!r} is taken") from error
        return Response(HTTPStatus.CREATED, {"id": user.id, "name": user.name})

    def caller(self, request: Request) -> User:
        """The user who sent this request, going by its `X-User` header."""
        user = self._store.user_named(request.headers.get("x-user", ""))
        if user is None:
            raise HttpError(HTTPStatus.UNAUTHORIZED, "say who you are in the X-User header")
        return user
