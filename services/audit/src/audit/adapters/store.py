"""The ledger on disk: SQLite in WAL mode, written by one thread. Rows and checkpoint change in one transaction.

It never decides what a fact means; `audit.projection` does.
"""

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from eventlog import Recorded
from factory.price.v1 import PricePublished
from policy.calls import Tally
from policy.prices import Price, PriceBook, valid_from

from audit.adapters.rows import (
    entry_from,
    entry_row,
    micros,
    moment,
    project_from,
    project_row,
    tally_from,
    tally_text,
    task_from,
    task_row,
)
from audit.ledger import Bucket
from audit.projection import Changes, Known, Touched, check_contiguous, fold, touched

STREAM = "EVENTS"
BUSY_TIMEOUT_S = 10.0
CACHE_KIB = 32 * 1024
# Every table that is made from the log, with its key: what a rebuild drops and a digest covers.
VIEWS = {
    "checkpoint": "stream",
    "skipped": "arm",
    "price": "provider, provider_model, valid_from, known_at, fact",
    "models": "version",
    "project": "project",
    "task": "task_id",
    "story": "task_id, producer, version",
    "call": "call_id",
    "usage": "day, project, type, phase, model",
}


class ForeignCheckpoint(Exception):
    """Somebody else has moved the checkpoint: two projections write one database."""


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Opens the database; a reader's connection cannot write."""
    db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    db.execute("pragma journal_mode = wal")
    # A power cut may take the last transactions, rows and checkpoint together; they come again from the log.
    db.execute("pragma synchronous = normal")
    db.execute(f"pragma cache_size = -{CACHE_KIB}")
    db.execute(f"pragma query_only = {int(read_only)}")
    return db


class Store:
    """The one writer of the database."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._db = connect(path)
        self.migrated = migrate(self._db)
        self._prices: PriceBook | None = None

    def close(self) -> None:
        self._db.close()

    @property
    def position(self) -> int:
        """The last sequence that the rows reflect."""
        return read_position(self._db)

    def continues(self, recorded: Recorded) -> bool:
        """Whether the event at the checkpoint's sequence is the one that was read there; if not, the log is another."""
        found = self._db.execute("select sequence, event_id from checkpoint where stream = ?", (STREAM,)).fetchone()
        return (recorded.sequence, recorded.event.event_id) == (found["sequence"], found["event_id"])

    def apply(self, batch: Sequence[Recorded]) -> Changes:
        """Takes a batch that follows the checkpoint into rows and sums; raises Gap if it does not follow."""
        with self._transaction():
            after = self.position
            check_contiguous(batch, after)
            changes = fold(batch, self._known(touched(batch)))
            self._write(changes, after)
        if changes.prices:
            self._prices = None
        return changes

    def empty(self) -> None:
        """Drops every row; the next batch begins at the log's first event."""
        with self._transaction():
            for table in VIEWS:
                self._db.execute(f"delete from {table}")  # noqa: S608 (a name from the table above)
            self._db.execute("insert into checkpoint values (?, 0, '')", (STREAM,))
        self._prices = None

    def digest(self) -> str:
        """SHA-256 over every row of every view: equal for equal contents."""
        return digest(self._db)

    def sealed(self) -> tuple[int, str]:
        """Position and digest of one moment, while others write on."""
        self._db.execute("begin")
        try:
            return self.position, self.digest()
        finally:
            self._db.execute("rollback")

    def skipped(self) -> Counter[int]:
        """Facts of unknown kind that were passed over, by the number of their arm."""
        return Counter({row["arm"]: row["facts"] for row in self._db.execute("select arm, facts from skipped")})

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")

    def _known(self, wanted: Touched) -> Known:
        """What the database holds of all that a batch may change."""
        if self._prices is None:
            self._prices = read_prices(self._db)
        known = Known(prices=self._prices)
        queries: list[tuple[str, Sequence[object]]] = [
            ("call_id in (select value from json_each(?))", (_json(wanted.call_ids),)),
            ("task_id in (select value from json_each(?))", (_json(wanted.relabelled),)),
        ]
        queries += [
            ("provider = ? and provider_model = ? and began_at >= ?", (r.provider, r.provider_model, micros(r.since)))
            for r in wanted.repriced
        ]
        for where, values in queries:
            for row in self._db.execute(f"select * from call where {where}", values):  # noqa: S608 (literals above)
                known.entries[row["call_id"]] = entry_from(row)
        tasks = wanted.task_ids | {entry.call.task_id for entry in known.entries.values()}
        for row in self._db.execute(
            "select * from task where task_id in (select value from json_each(?))", (_json(tasks),)
        ):
            known.tasks[row["task_id"]] = task_from(row)
        for row in self._db.execute(
            "select * from project where project in (select value from json_each(?))", (_json(wanted.projects),)
        ):
            known.projects[row["project"]] = project_from(row)
        return known

    def _write(self, changes: Changes, after: int) -> None:
        db = self._db
        db.executemany(_upsert("call", 22), map(entry_row, changes.entries))
        db.executemany(_upsert("task", 20), map(task_row, changes.tasks))
        db.executemany(_upsert("project", 5), map(project_row, changes.projects))
        db.executemany(
            "insert or ignore into story values (?, ?, ?, ?)",
            ((e.id, e.producer, e.version, e.SerializeToString(deterministic=True)) for e in changes.stories),
        )
        db.executemany(
            "insert or ignore into models values (?, ?)",
            ((version, fact.SerializeToString(deterministic=True)) for version, fact in changes.models.items()),
        )
        db.executemany("insert or ignore into price values (?, ?, ?, ?, ?)", map(_price_row, changes.prices))
        db.executemany(
            "insert into skipped values (?, ?) on conflict (arm) do update set facts = facts + excluded.facts",
            changes.skipped.items(),
        )
        self._add(changes.sums)
        moved = db.execute(
            "update checkpoint set sequence = ?, event_id = ? where stream = ? and sequence = ?",
            (changes.sequence, changes.event_id, STREAM, after),
        )
        if moved.rowcount != 1:
            raise ForeignCheckpoint(f"{self.path}: the checkpoint is not at {after} any more")

    def _add(self, sums: Mapping[Bucket, Tally]) -> None:
        """Adds in Python, where integers have no end; a sum without calls has no row."""
        key = "day = ? and project = ? and type = ? and phase = ? and model = ?"
        for bucket, gain in sums.items():
            row = self._db.execute(f"select tally from usage where {key}", bucket).fetchone()  # noqa: S608
            total = (tally_from(row["tally"]) if row else Tally()) + gain
            if total.calls:
                self._db.execute(_upsert("usage", 6), (*bucket, tally_text(total)))
            elif row:
                self._db.execute(f"delete from usage where {key}", bucket)  # noqa: S608


def migrate(db: sqlite3.Connection) -> list[str]:
    """Brings the schema up to date: every file in `migrations`, in order, once; names those that were new."""
    files = sorted(
        (
            file
            for file in resources.files("audit.adapters").joinpath("migrations").iterdir()
            if file.name.endswith(".sql")
        ),
        key=lambda file: file.name,
    )
    done = db.execute("pragma user_version").fetchone()[0]
    for number, file in enumerate(files[done:], done + 1):
        db.executescript(f"begin immediate;\n{file.read_text()}\npragma user_version = {number};\ncommit;")
    return [file.name for file in files[done:]]


def digest(db: sqlite3.Connection) -> str:
    """SHA-256 over every row of every view, in the order of the keys."""
    sha = hashlib.sha256()
    for table, key in VIEWS.items():
        for row in db.execute(f"select * from {table} order by {key}"):  # noqa: S608 (names from the table above)
            sha.update(repr((table, *row)).encode())
    return sha.hexdigest()


def read_position(db: sqlite3.Connection) -> int:
    return db.execute("select sequence from checkpoint where stream = ?", (STREAM,)).fetchone()["sequence"]


def read_prices(db: sqlite3.Connection) -> PriceBook:
    return PriceBook(
        Price(PricePublished.FromString(row["fact"]), moment(row["known_at"]) or datetime.min.replace(tzinfo=UTC))
        for row in db.execute("select fact, known_at from price")
    )


def _price_row(price: Price) -> tuple[object, ...]:
    fact = price.fact
    since = micros(valid_from(fact))
    return fact.provider, fact.provider_model, since, micros(price.known_at), fact.SerializeToString(deterministic=True)


def _upsert(table: str, columns: int) -> str:
    return f"insert or replace into {table} values ({', '.join('?' * columns)})"  # noqa: S608 (a name of ours)


def _json(values: Iterable[str]) -> str:
    return json.dumps(sorted(values))
