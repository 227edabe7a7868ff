"""Answers what other preferences would have chosen, from one snapshot of the ledger."""

from collections import defaultdict
from functools import cache

import grpc
from factory.audit.v1 import PreviewRoutingRequest, PreviewRoutingResponse
from factory.event.v1 import Event
from policy.catalog import models_in
from policy.preferences import preferences_from, violations_of
from runtime import Problem

from audit.adapters.queries import Snapshot
from audit.adapters.store import STREAM
from audit.ledger import Entry
from audit.preview import Factory, preview, routed

PREVIEWED_TASKS = 20
PREVIEWED_TASKS_MAX = 200
# Lanes that say what a task needs, and what an architect has decided.
PREVIEW_LANES = ("conductor", "context")


def check_preview(request: PreviewRoutingRequest) -> None:
    """Refuses what can be seen to be wrong without the ledger."""
    violations = []
    if not request.project:
        violations.append(("project", "the name of a project, found nothing"))
    if request.tasks > PREVIEWED_TASKS_MAX:
        violations.append(("tasks", f"1 to {PREVIEWED_TASKS_MAX}, or 0 for {PREVIEWED_TASKS}; found {request.tasks}"))
    _refuse(violations)


def preview_routing(snapshot: Snapshot, request: PreviewRoutingRequest) -> PreviewRoutingResponse:
    """The preview of a project's last planned tasks; the position is left to the caller."""
    upto = f"the log up to {STREAM} {snapshot.position}"
    configured = snapshot.models()
    if configured is None:
        raise Problem(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"no models are named in {upto}: a conductor names those that it routes over when it starts",
            reason="MODELS_UNKNOWN",
        )
    models, ruled_out = models_in(configured)
    _refuse(violations_of(request.preferences, models))
    if snapshot.project(request.project) is None:
        raise Problem(grpc.StatusCode.NOT_FOUND, f"no project {request.project!r} in {upto}")
    rows = snapshot.planned(project=request.project, limit=request.tasks or PREVIEWED_TASKS)
    task_ids = [row.task_id for row in rows]
    events: dict[str, list[Event]] = defaultdict(list)
    for event in snapshot.stories(task_ids, PREVIEW_LANES):
        events[event.id].append(event)
    entries: dict[str, list[Entry]] = defaultdict(list)
    for entry in snapshot.entries_of(task_ids):
        entries[entry.call.task_id].append(entry)
    factory = Factory(models, ruled_out, snapshot.prices(), cache(snapshot.has_done))
    tasks = (routed(row, events[row.task_id], entries[row.task_id]) for row in rows)
    return preview(tasks, preferences_from(request.preferences), factory)


def _refuse(violations: list[tuple[str, str]]) -> None:
    if violations:
        field, what = violations[0]
        raise Problem(grpc.StatusCode.INVALID_ARGUMENT, f"{field}: expected {what}", violations=violations)
