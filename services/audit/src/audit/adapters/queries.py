"""Questions to the ledger on disk: each in one read transaction, so that rows and position belong together.

Never writes. Every list reads a page of rows; sums of usage are one row per day and key, whatever the history.
"""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection, Cursor

from factory.event.v1 import Event
from factory.model.v1 import ModelsConfigured
from factory.task.v1 import TASK_STATE_AWAITING_REVIEW, PhaseKind, TaskState, TaskType
from policy.calls import Tally
from policy.prices import PriceBook

from audit.adapters.rows import bucket_from, entry_from, micros, project_from, tally_from, task_from
from audit.adapters.store import connect, read_position, read_prices
from audit.ledger import Bucket, Entry
from audit.projection import ProjectRow
from audit.task_row import TaskRow

Where = list[tuple[str, Sequence[object]]]


class Snapshot:
    """The ledger as it stood at one position of the log."""

    def __init__(self, db: Connection) -> None:
        self._db = db
        self.position = read_position(db)

    def tasks(
        self,
        *,
        limit: int,
        before: tuple[int, str] | None = None,
        project: str = "",
        state: TaskState = 0,  # type: ignore[assignment]
        words: Sequence[str] = (),
    ) -> list[TaskRow]:
        """Tasks, newest first; `before` is submission time and id of the last one seen."""
        where: Where = [("submitted_at is not null", ())]
        where += [("project = ?", (project,))] if project else []
        where += [("shown = ?", (state,))] if state else []
        where += [("title like ? escape '\\'", (f"%{_literally(word)}%",)) for word in words]
        where += [("(submitted_at, task_id) < (?, ?)", before)] if before else []
        return [task_from(row) for row in self._select("task", where, "submitted_at desc, task_id desc", limit)]

    def pending(self, *, limit: int, after: tuple[int, str] | None = None, project: str = "") -> list[TaskRow]:
        """Tasks that wait for an architect, longest waiting first."""
        # The state is a literal, so that the partial index serves.
        where: Where = [(f"shown = {int(TASK_STATE_AWAITING_REVIEW)}", ()), ("waiting_since is not null", ())]
        where += [("project = ?", (project,))] if project else []
        where += [("(waiting_since, task_id) > (?, ?)", after)] if after else []
        return [task_from(row) for row in self._select("task", where, "waiting_since, task_id", limit)]

    def planned(self, *, project: str, limit: int) -> list[TaskRow]:
        """A project's tasks that have a plan, newest first."""
        # Literals, so that the partial index serves.
        where: Where = [("planned = 1", ()), ("submitted_at is not null", ()), ("project = ?", (project,))]
        return [task_from(row) for row in self._select("task", where, "submitted_at desc, task_id desc", limit)]

    def entries(
        self, *, limit: int | None = None, after: tuple[int, str] | None = None, task_id: str = "", project: str = ""
    ) -> list[Entry]:
        """The ledger's calls in the order in which they began."""
        where: Where = [("task_id = ?", (task_id,))] if task_id else []
        where += [("project = ?", (project,))] if project else []
        where += [("(began_at, call_id) > (?, ?)", after)] if after else []
        return [entry_from(row) for row in self._select("call", where, "began_at, call_id", limit)]

    def entries_of(self, task_ids: Sequence[str]) -> list[Entry]:
        """All calls of these tasks, in the order in which they began."""
        where: Where = [_among("task_id", task_ids)]
        return [entry_from(row) for row in self._select("call", where, "began_at, call_id", None)]

    def usage(self, *, since: str = "", until: str = "", project: str = "") -> Iterator[tuple[Bucket, Tally]]:
        """The sums of the days from `since` to before `until`."""
        where: Where = [("day >= ?", (since,))] if since else []
        where += [("day < ?", (until,))] if until else []
        where += [("project = ?", (project,))] if project else []
        for row in self._select("usage", where, "day, project, type, phase, model", None):
            yield bucket_from(row), tally_from(row["tally"])

    def has_done(self, task_type: TaskType, phase: PhaseKind, model: str) -> bool:
        """Whether the model has ever answered such a phase, in any project and on any day."""
        # The last condition is the partial index's own.
        where: Where = [("type = ? and phase = ? and model = ?", (task_type, phase, model))]
        where += [("substr(tally, 1, 2) <> '0 '", ())]
        return self._select("usage", where, "day", 1).fetchone() is not None

    def project(self, project: str) -> ProjectRow | None:
        """One project, created or named by a task."""
        where: Where = [("project = ?", (project,))]
        return next((project_from(row) for row in self._select("project", where, "project", 1)), None)

    def projects(self) -> list[ProjectRow]:
        """Every project that was created, by name."""
        return [project_from(row) for row in self._select("project", [("created = 1", ())], "project", None)]

    def task(self, task_id: str) -> TaskRow | None:
        """One task, if its submission was seen."""
        where: Where = [("task_id = ?", (task_id,)), ("submitted_at is not null", ())]
        return next((task_from(row) for row in self._select("task", where, "task_id", 1)), None)

    def story(self, task_id: str) -> list[Event]:
        """What the task's events say besides its calls."""
        where: Where = [("task_id = ?", (task_id,))]
        return [Event.FromString(row["event"]) for row in self._select("story", where, "producer, version", None)]

    def stories(self, task_ids: Sequence[str], producers: Sequence[str]) -> list[Event]:
        """What these lanes of the tasks say besides calls, each in its own order."""
        where: Where = [_among("task_id", task_ids), _among("producer", producers)]
        rows = self._select("story", where, "task_id, producer, version", None)
        return [Event.FromString(row["event"]) for row in rows]

    def models(self) -> ModelsConfigured | None:
        """The models that a conductor has named last."""
        row = self._select("models", [], "version desc", 1).fetchone()
        return None if row is None else ModelsConfigured.FromString(row["fact"])

    def prices(self) -> PriceBook:
        return read_prices(self._db)

    def _select(self, table: str, where: Where, order: str, limit: int | None) -> Cursor:
        conditions = " and ".join(condition for condition, _ in where) or "true"
        values = [value for _, values in where for value in values]
        # Conditions and names are literals of this file; every value is bound.
        statement = f"select * from {table} where {conditions} order by {order} limit ?"  # noqa: S608
        return self._db.execute(statement, (*values, -1 if limit is None else limit))


class Reader:
    """Opens snapshots, in whatever thread asks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._open: list[Connection] = []

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        db = self._connection()
        db.execute("begin")
        try:
            yield Snapshot(db)
        finally:
            db.execute("rollback")

    def close(self) -> None:
        for db in self._open:
            db.close()

    def _connection(self) -> Connection:
        db: Connection | None = getattr(self._local, "db", None)
        if db is None:
            db = self._local.db = connect(self._path, read_only=True)
            self._open.append(db)
        return db


def task_key(row: TaskRow) -> tuple[int, str]:
    """Where a page of tasks ends."""
    return _key(row.submitted_at, row.task_id)


def pending_key(row: TaskRow) -> tuple[int, str]:
    """Where a page of waiting tasks ends."""
    return _key(row.waiting_since, row.task_id)


def entry_key(entry: Entry) -> tuple[int, str]:
    """Where a page of the ledger ends."""
    return _key(entry.call.began_at, entry.call.call_id)


def _among(column: str, values: Sequence[str]) -> tuple[str, Sequence[object]]:
    condition = f"{column} in (select value from json_each(?))"  # noqa: S608 (a name of this file)
    return condition, (json.dumps(list(values)),)


def _key(at: datetime | None, name: str) -> tuple[int, str]:
    return micros(at) or 0, name


def _literally(word: str) -> str:
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
