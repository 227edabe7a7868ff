"""Answers questions about the ledger over gRPC, each from one snapshot whose log position it names."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import grpc
import grpc.aio
from factory.audit.v1 import (
    AuditServiceServicer,
    LedgerRequest,
    LedgerResponse,
    PendingReviewsRequest,
    PendingReviewsResponse,
    PreviewRoutingRequest,
    PreviewRoutingResponse,
    ProjectsRequest,
    ProjectsResponse,
    TaskReportRequest,
    TaskReportResponse,
    TasksRequest,
    TasksResponse,
    UsageRequest,
    UsageResponse,
)
from factory.log.v1 import LogPosition
from factory.task.v1 import TaskState
from policy.calls import Tally
from policy.report import report_from
from policy.story import story_of
from runtime import Problem

from audit.adapters.queries import Reader, Snapshot, entry_key, pending_key, task_key
from audit.adapters.store import STREAM
from audit.answers import (
    DIMENSIONS,
    Unreadable,
    day_from,
    grouped,
    page_key,
    page_token,
    pending_answer,
    project_answer,
    task_answer,
    usage_row,
)
from audit.ledger import line
from audit.preview_rpc import check_preview, preview_routing

PAGE_ROWS = 50
PAGE_ROWS_MAX = 500
SEARCH_CHARACTERS_MAX = 200
WAIT_S = 10.0
WAIT_S_MAX = 60.0

Answer = TypeVar("Answer")


class Seen:
    """How far the projection has come; those who wait for a position are told when it is reached."""

    def __init__(self, sequence: int = 0) -> None:
        self.sequence = sequence
        self._moved = asyncio.Condition()

    async def move(self, sequence: int) -> None:
        async with self._moved:
            self.sequence = sequence
            self._moved.notify_all()

    async def reach(self, sequence: int, timeout_s: float) -> None:
        """Waits until `sequence` is in the ledger; raises TimeoutError."""
        async with asyncio.timeout(timeout_s), self._moved:
            await self._moved.wait_for(lambda: self.sequence >= sequence)


class Audit(AuditServiceServicer):
    """The servicer: checks what is asked, waits for the position, reads in a thread."""

    def __init__(self, reader: Reader, threads: ThreadPoolExecutor, seen: Seen, names: Mapping[str, str]) -> None:
        self._reader = reader
        self._threads = threads
        self._seen = seen
        self._names = names

    async def Tasks(self, request: TasksRequest, context: grpc.aio.ServicerContext) -> TasksResponse:
        rows, before = page_rows(request.page_size), _read("page_token", page_key, request.page_token)
        if request.state not in TaskState.values():
            raise _invalid("state", f"expected a state of a task, found {request.state}")
        if len(request.search) > SEARCH_CHARACTERS_MAX:
            raise _invalid(
                "search", f"expected at most {SEARCH_CHARACTERS_MAX} characters, found {len(request.search)}"
            )
        words = request.search.split()

        def ask(snapshot: Snapshot) -> TasksResponse:
            found = snapshot.tasks(
                limit=rows + 1, before=before, project=request.project, state=request.state, words=words
            )
            return TasksResponse(
                tasks=map(task_answer, found[:rows]),
                next_page_token=page_token(task_key(found[rows - 1])) if len(found) > rows else "",
                position=_position(snapshot),
            )

        return await self._answer(ask, request.min_position, context)

    async def PendingReviews(
        self, request: PendingReviewsRequest, context: grpc.aio.ServicerContext
    ) -> PendingReviewsResponse:
        rows, after = page_rows(request.page_size), _read("page_token", page_key, request.page_token)

        def ask(snapshot: Snapshot) -> PendingReviewsResponse:
            found = snapshot.pending(limit=rows + 1, after=after, project=request.project)
            return PendingReviewsResponse(
                reviews=map(pending_answer, found[:rows]),
                next_page_token=page_token(pending_key(found[rows - 1])) if len(found) > rows else "",
                position=_position(snapshot),
            )

        return await self._answer(ask, request.min_position, context)

    async def TaskReport(self, request: TaskReportRequest, context: grpc.aio.ServicerContext) -> TaskReportResponse:
        if not request.task_id:
            raise _invalid("task_id", "expected the id of a task, found nothing")

        def ask(snapshot: Snapshot) -> TaskReportResponse:
            if snapshot.task(request.task_id) is None:
                position = f"{STREAM} {snapshot.position}"
                raise Problem(grpc.StatusCode.NOT_FOUND, f"no task {request.task_id!r} in the log up to {position}")
            answer = task_report(snapshot, request.task_id, self._names)
            answer.position.CopyFrom(_position(snapshot))
            return answer

        return await self._answer(ask, request.min_position, context)

    async def Usage(self, request: UsageRequest, context: grpc.aio.ServicerContext) -> UsageResponse:
        # `from` is a word of Python's own.
        since = _read("from", day_from, getattr(request, "from")) if request.HasField("from") else ""
        until = _read("until", day_from, request.until) if request.HasField("until") else ""
        for dimension in request.group_by:
            if dimension not in DIMENSIONS:
                raise _invalid("group_by", f"expected dimensions of usage, found {dimension}")

        def ask(snapshot: Snapshot) -> UsageResponse:
            sums = snapshot.usage(since=since, until=until, project=request.project)
            groups = grouped(sums, request.group_by)
            total = sum((tally for _, tally in groups), Tally())
            return UsageResponse(
                rows=(usage_row(key, tally) for key, tally in groups),
                total=total.amount(),
                position=_position(snapshot),
            )

        return await self._answer(ask, request.min_position, context)

    async def Ledger(self, request: LedgerRequest, context: grpc.aio.ServicerContext) -> LedgerResponse:
        rows, after = page_rows(request.page_size), _read("page_token", page_key, request.page_token)

        def ask(snapshot: Snapshot) -> LedgerResponse:
            found = snapshot.entries(limit=rows + 1, after=after, task_id=request.task_id, project=request.project)
            return LedgerResponse(
                lines=map(line, found[:rows]),
                next_page_token=page_token(entry_key(found[rows - 1])) if len(found) > rows else "",
                position=_position(snapshot),
            )

        return await self._answer(ask, request.min_position, context)

    async def PreviewRouting(
        self, request: PreviewRoutingRequest, context: grpc.aio.ServicerContext
    ) -> PreviewRoutingResponse:
        check_preview(request)

        def ask(snapshot: Snapshot) -> PreviewRoutingResponse:
            answer = preview_routing(snapshot, request)
            answer.position.CopyFrom(_position(snapshot))
            return answer

        return await self._answer(ask, request.min_position, context)

    async def Projects(self, request: ProjectsRequest, context: grpc.aio.ServicerContext) -> ProjectsResponse:
        def ask(snapshot: Snapshot) -> ProjectsResponse:
            return ProjectsResponse(projects=map(project_answer, snapshot.projects()), position=_position(snapshot))

        return await self._answer(ask, request.min_position, context)

    async def _answer(
        self, ask: Callable[[Snapshot], Answer], least: LogPosition, context: grpc.aio.ServicerContext
    ) -> Answer:
        """Waits for the position that the caller needs, then asks one snapshot, in a thread."""
        await self._wait(least, context)

        def in_thread() -> Answer:
            with self._reader.snapshot() as snapshot:
                return ask(snapshot)

        return await asyncio.get_running_loop().run_in_executor(self._threads, in_thread)

    async def _wait(self, least: LogPosition, context: grpc.aio.ServicerContext) -> None:
        if not least.sequence:
            return
        if least.stream not in ("", STREAM):
            raise _invalid("min_position.stream", f"expected {STREAM!r}, found {least.stream!r}")
        remaining = context.time_remaining()
        # A little less than the caller's patience, so that the answer that says why still arrives.
        timeout_s = WAIT_S if remaining is None else min(remaining * 0.9, WAIT_S_MAX)
        try:
            await self._seen.reach(least.sequence, timeout_s)
        except TimeoutError:
            raise Problem(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"asked for {STREAM} {least.sequence}, the ledger stands at {STREAM} {self._seen.sequence}"
                f" after {timeout_s:.1f} s",
                reason="LEDGER_BEHIND",
            ) from None


def task_report(snapshot: Snapshot, task_id: str, names: Mapping[str, str]) -> TaskReportResponse:
    """The report of a task from its rows; the same as from its events."""
    calls = [entry.call for entry in snapshot.entries(task_id=task_id)]
    return report_from(story_of(snapshot.story(task_id)), calls, snapshot.prices(), names)


def page_rows(asked: int) -> int:
    """How many rows a page has; none asked for means the usual number."""
    if asked > PAGE_ROWS_MAX:
        raise _invalid("page_size", f"expected 1 to {PAGE_ROWS_MAX}, or 0 for {PAGE_ROWS}; found {asked}")
    return asked or PAGE_ROWS


Part = TypeVar("Part")
Read = TypeVar("Read")


def _read(field: str, reading: Callable[[Part], Read], part: Part) -> Read:
    try:
        return reading(part)
    except Unreadable as error:
        raise _invalid(field, str(error)) from error


def _position(snapshot: Snapshot) -> LogPosition:
    return LogPosition(stream=STREAM, sequence=snapshot.position)


def _invalid(field: str, what: str) -> Problem:
    violations: Sequence[tuple[str, str]] = [(field, what)]
    return Problem(grpc.StatusCode.INVALID_ARGUMENT, f"{field}: {what}", violations=violations)
