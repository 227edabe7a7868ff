"""Rows as answers, and the small language of pages and dimensions. Pure."""

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from factory.audit.v1 import (
    USAGE_DIMENSION_DAY,
    USAGE_DIMENSION_MODEL,
    USAGE_DIMENSION_PHASE,
    USAGE_DIMENSION_PROJECT,
    USAGE_DIMENSION_TASK_TYPE,
    PendingReview,
    Project,
    UsageDimension,
    UsageRow,
)
from factory.audit.v1 import TaskRow as TaskAnswer
from factory.task.v1 import PhaseKind, TaskType
from google.protobuf.timestamp_pb2 import Timestamp
from policy.calls import Tally

from audit.ledger import Bucket
from audit.projection import ProjectRow
from audit.task_row import TaskRow

UNKNOWN = "unknown"


class Unreadable(ValueError):
    """A part of a request cannot be read; the message says what was expected."""


def page_token(key: tuple[int, str]) -> str:
    """Where the next page begins, opaque to the caller."""
    return base64.urlsafe_b64encode(json.dumps(key, separators=(",", ":")).encode()).decode()


def page_key(token: str) -> tuple[int, str] | None:
    """What `page_token` was made of; None for the first page."""
    if not token:
        return None
    try:
        at, name = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (binascii.Error, ValueError, TypeError) as error:
        raise Unreadable("expected the `next_page_token` of an answer") from error
    if not isinstance(at, int) or not isinstance(name, str) or abs(at) >= 2**63:
        raise Unreadable("expected the `next_page_token` of an answer")
    return at, name


def day_from(moment: Timestamp) -> str:
    """The UTC day that begins at this moment; sums are kept by day, so no other moment will do."""
    try:
        at = moment.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise Unreadable("expected a moment between the years 1 and 9999") from error
    if at != datetime(at.year, at.month, at.day, tzinfo=UTC):
        raise Unreadable(f"expected midnight UTC, because sums are kept by day; found {at.isoformat()}")
    return at.date().isoformat()


def task_answer(row: TaskRow) -> TaskAnswer:
    answer = TaskAnswer(
        task_id=row.task_id,
        title=row.title,
        project=row.project,
        type=row.task_type,
        scope=row.scope,
        state=row.standing.shown,
        amount=row.tally.amount(),
        pull_request_url=row.pull_request_url,
        hold_cause=row.standing.hold_cause,
    )
    if row.submitted_at:
        answer.submitted_at.FromDatetime(row.submitted_at)
    if row.changed_at:
        answer.changed_at.FromDatetime(row.changed_at)
    return answer


def pending_answer(row: TaskRow) -> PendingReview:
    answer = PendingReview(
        task_id=row.task_id,
        title=row.title,
        project=row.project,
        change_digest=row.change_digest,
        amount=row.tally.amount(),
        notes=row.notes,
    )
    if row.waiting_since:
        answer.waiting_since.FromDatetime(row.waiting_since)
    return answer


def project_answer(row: ProjectRow) -> Project:
    return Project(project=row.project, repository=row.repository, base_branch=row.base_branch, tasks=row.tasks)


def grouped(
    sums: Iterable[tuple[Bucket, Tally]], dimensions: Sequence[UsageDimension]
) -> list[tuple[tuple[str, ...], Tally]]:
    """Sums by the dimensions asked for, in the order of their keys."""
    groups: dict[tuple[str, ...], Tally] = {}
    for bucket, tally in sums:
        key = tuple(dimension_word(bucket, dimension) for dimension in dimensions)
        groups[key] = groups.get(key, Tally()) + tally
    return sorted(groups.items())


def usage_row(key: tuple[str, ...], tally: Tally) -> UsageRow:
    return UsageRow(key=key, amount=tally.amount())


def dimension_word(bucket: Bucket, dimension: UsageDimension) -> str:
    """The bucket's value in one dimension: "claude", "api", "2026-11-23"."""
    if dimension not in DIMENSIONS:
        raise Unreadable(f"expected a dimension of usage, found {dimension}")
    return DIMENSIONS[dimension](bucket)


def _word(enum: type[TaskType] | type[PhaseKind], value: int, prefix: str) -> str:
    if not value or value not in enum.values():
        return UNKNOWN
    return enum.Name(value).removeprefix(prefix).lower()  # type: ignore[arg-type]


DIMENSIONS: Mapping[UsageDimension, Callable[[Bucket], str]] = {
    USAGE_DIMENSION_MODEL: lambda bucket: bucket.model,
    USAGE_DIMENSION_TASK_TYPE: lambda bucket: _word(TaskType, bucket.task_type, "TASK_TYPE_"),
    USAGE_DIMENSION_PHASE: lambda bucket: _word(PhaseKind, bucket.phase, "PHASE_KIND_"),
    USAGE_DIMENSION_PROJECT: lambda bucket: bucket.project,
    USAGE_DIMENSION_DAY: lambda bucket: bucket.day,
}
