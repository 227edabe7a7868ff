"""Users and notes in SQLite."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

SCHEMA = """
create table if not exists users (
    id integer primary key,
    name text not null unique,
    password_hash text not null
);
create table if not exists notes (
    id integer primary key,
    user_id integer not null references users (id),
    title text not null,
    text text not null
);
"""


class NameTaken(Exception):
    """Somebody else has this name."""


@dataclass(frozen=True)
class User:
    id: int
    name: str
    password_hash: str


@dataclass(frozen=True)
class Note:
    id: int
    user_id: int
    title: str
    text: str


class Store:
    def __init__(self, path: str = ":memory:") -> None:
        self._db = sqlite3.connect(path)
        self._db.executescript(SCHEMA)

    def add_user(self, name: str, password_hash: str) -> User:
        try:
            with self._db:
                cursor = self._db.execute(
                    "insert into users (name, password_hash) values (?, ?)", (name, password_hash)
                )
        except sqlite3.IntegrityError as error:
            raise NameTaken(name) from error
        return User(cursor.lastrowid or 0, name, password_hash)

    def user_named(self, name: str) -> User | None:
        row = self._db.execute(
            "select id, name, password_hash from users where name = ?", (name,)
        ).fetchone()
        return User(*row) if row else None

    def user(self, user_id: int) -> User | None:
        row = self._db.execute(
            "select id, name, password_hash from users where id = ?", (user_id,)
        ).fetchone()
        return User(*row) if row else None

    def add_note(self, user_id: int, title: str, text: str) -> Note:
        with self._db:
            cursor = self._db.execute(
                "insert into notes (user_id, title, text) values (?, ?, ?)", (user_id, title, text)
            )
        return Note(cursor.lastrowid or 0, user_id, title, text)

    def notes_of(self, user_id: int) -> list[Note]:
        rows = self._db.execute(
            "select id, user_id, title, text from notes where user_id = ? order by id desc",
            (user_id,),
        )
        return [Note(*row) for row in rows]

    def note(self, user_id: int, note_id: int) -> Note | None:
        row = self._db.execute(
            "select id, user_id, title, text from notes where user_id = ? and id = ?",
            (user_id, note_id),
        ).fetchone()
        return Note(*row) if row else None

    def change_note(self, note: Note, title: str, text: str) -> Note:
        with self._db:
            self._db.execute(
                "update notes set title = ?, text = ? where id = ?", (title, text, note.id)
            )
        return Note(note.id, note.user_id, title, text)

    def remove_note(self, note: Note) -> None:
        with self._db:
            self._db.execute("delete from notes where id = ?", (note.id,))
