"""Between rows of the database and what the pure code works with. Moments are stored as microseconds since 1970."""

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any

from factory.call.v1 import ModelCalled, ModelCallStarted
from policy.calls import Call, Place, Reckoning, Tally
from policy.standing import Standing

from audit.ledger import Bucket, Entry
from audit.projection import ProjectRow
from audit.task_row import TaskRow

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def micros(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - EPOCH) // MICROSECOND


def moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else EPOCH + timedelta(microseconds=microseconds)


def tally_text(tally: Tally) -> str:
    return (
        f"{tally.tokens} {tally.cost_pico_usd} {tally.uncertain_tokens} {tally.uncertain_cost_pico_usd}"
        f" {tally.unpriced_tokens} {tally.unknown_calls} {tally.calls}"
    )


def tally_from(text: str) -> Tally:
    return Tally(*map(int, text.split()))


def entry_row(entry: Entry) -> tuple[Any, ...]:
    """In the order of the columns of `call`."""
    call, fact, reckoning = entry.call, entry.call.fact, entry.reckoning
    return (
        call.call_id,
        call.task_id,
        entry.project,
        entry.task_type,
        fact.provider,
        fact.provider_model,
        micros(call.began_at),
        call.started.SerializeToString(deterministic=True) if call.started is not None else None,
        micros(call.started_at),
        *(call.started_place or (None, None, None)),
        call.ended.SerializeToString(deterministic=True) if call.ended is not None else None,
        micros(call.ended_at),
        *(call.ended_place or (None, None, None)),
        _text(reckoning.tokens),
        _text(reckoning.cost_pico_usd),
        _text(reckoning.up_to_tokens),
        _text(reckoning.up_to_cost_pico_usd),
        reckoning.price_version,
    )


def entry_from(row: sqlite3.Row) -> Entry:
    call = Call(
        call_id=row["call_id"],
        task_id=row["task_id"],
        started=None if row["started"] is None else ModelCallStarted.FromString(row["started"]),
        started_at=moment(row["started_at"]),
        started_place=_place(row["started_version"], row["started_position"], row["started_producer"]),
        ended=None if row["ended"] is None else ModelCalled.FromString(row["ended"]),
        ended_at=moment(row["ended_at"]),
        ended_place=_place(row["ended_version"], row["ended_position"], row["ended_producer"]),
    )
    reckoning = Reckoning(
        tokens=_number(row["tokens"]),
        cost_pico_usd=_number(row["cost_pico_usd"]),
        up_to_tokens=_number(row["up_to_tokens"]),
        up_to_cost_pico_usd=_number(row["up_to_cost_pico_usd"]),
        price_version=row["price_version"],
    )
    return Entry(call, row["project"], row["type"], reckoning)


def task_row(task: TaskRow) -> tuple[Any, ...]:
    """In the order of the columns of `task`."""
    return (
        task.task_id,
        task.title,
        task.project,
        task.task_type,
        task.scope,
        task.standing.state,
        task.standing.before_hold,
        int(task.standing.parked),
        task.standing.shown,
        task.conductor_version,
        task.classifier_version,
        micros(task.submitted_at),
        micros(task.changed_at),
        task.pull_request_url,
        task.change_digest,
        micros(task.waiting_since),
        json.dumps(task.notes, ensure_ascii=False),
        tally_text(task.tally),
        task.standing.hold_cause,
        int(task.planned),
    )


def task_from(row: sqlite3.Row) -> TaskRow:
    return TaskRow(
        task_id=row["task_id"],
        title=row["title"],
        project=row["project"],
        task_type=row["type"],
        scope=row["scope"],
        standing=Standing(row["state"], row["before_hold"], bool(row["parked"]), row["hold_cause"]),
        conductor_version=row["conductor_version"],
        classifier_version=row["classifier_version"],
        submitted_at=moment(row["submitted_at"]),
        changed_at=moment(row["changed_at"]),
        pull_request_url=row["pull_request_url"],
        change_digest=row["change_digest"],
        waiting_since=moment(row["waiting_since"]),
        notes=tuple(json.loads(row["notes"])),
        tally=tally_from(row["tally"]),
        planned=bool(row["planned"]),
    )


def project_row(project: ProjectRow) -> tuple[Any, ...]:
    """In the order of the columns of `project`."""
    return project.project, project.repository, project.base_branch, int(project.created), project.tasks


def project_from(row: sqlite3.Row) -> ProjectRow:
    return ProjectRow(row["project"], row["repository"], row["base_branch"], bool(row["created"]), row["tasks"])


def bucket_from(row: sqlite3.Row) -> Bucket:
    return Bucket(row["day"], row["project"], row["type"], row["phase"], row["model"])


def _place(version: int | None, position: int | None, producer: str | None) -> Place | None:
    if version is None or position is None or producer is None:
        return None
    return Place(version, position, producer)


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)
