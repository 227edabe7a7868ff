"""The factory, from a program: submit tasks, watch them, decide on changes, ask for reports.

Speaks gRPC and nothing else; keeps no state but the connection and the last log position that it was told.
"""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from decimal import Decimal
from types import TracebackType
from typing import Self

from factory.artifact.v1 import Finding
from factory.audit.v1 import (
    LedgerLine,
    LedgerRequest,
    PendingReview,
    PendingReviewsRequest,
    Project,
    ProjectsRequest,
    TaskReportRequest,
    TaskReportResponse,
    TaskRow,
    TasksRequest,
    UsageRequest,
    UsageResponse,
)
from factory.log.v1 import LogPosition
from factory.project.v1 import CreateRequest
from factory.review.v1 import (
    ApproveRequest,
    GetChangeRequest,
    GetChangeResponse,
    RejectRequest,
    RequestChangesRequest,
)
from factory.task.v1 import (
    CancelRequest,
    EraseRequest,
    GetRequest,
    ReleaseRequest,
    SubmitRequest,
    Task,
    WatchRequest,
    WatchResponse,
)

from factory_client.attachments import uploads
from factory_client.errors import FactoryError
from factory_client.steering import Steering
from factory_client.submitted import Submitted as Submitted
from factory_client.submitted import submitted_from
from factory_client.watching import has_ended as has_ended
from factory_client.watching import watched
from factory_client.wire import Wire
from factory_client.words import dimension_for, pico_usd, scope_for, state_for, task_type_for

# The stream that every sequence of this client counts in.
EVENTS = "EVENTS"
CALL_TIMEOUT_S = 30
# Checks and reads a repository the first time it is named.
SUBMIT_TIMEOUT_S = 120
PAGE_SIZE = 500


class Factory(Steering, AbstractAsyncContextManager["Factory"]):
    """A factory at `url` ("127.0.0.1:7070", or "https://factory.example:443" for TLS), opened by `token`.

    Every method raises `FactoryError` when the factory refuses or cannot be reached. Questions to the audit wait until
    it has seen what this client has done before, so a report is never older than one's own last command.

    `url` may be a function, for a factory that listens elsewhere after each start: it is asked before every call.
    """

    def __init__(
        self,
        url: str | Callable[[], str],
        token: str = "",
        *,
        audit_url: str = "",
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> None:
        here = url if callable(url) else lambda: url
        self._wire = Wire(here, (lambda: audit_url) if audit_url else here, token, timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def has_seen(self, position: int) -> None:
        """Makes questions wait for what another client of the same program has seen: a log position."""
        self._wire.saw(LogPosition(stream=EVENTS, sequence=position))

    async def close(self) -> None:
        """Closes the connection; the next call opens another."""
        await self._wire.close()

    # Tasks

    async def submit(
        self,
        title: str,
        *,
        project: str = "",
        repository: str = "",
        body: str = "",
        type: str = "",
        scope: str = "",
        key: str = "",
        labels: Mapping[str, str] | None = None,
        base_branch: str = "",
        max_cost_usd: Decimal | str | float | None = None,
        deadline: timedelta | None = None,
        attachments: Mapping[str, bytes] | None = None,
        dry_run: bool = False,
    ) -> Submitted:
        """Hands in a task for a project (or, for operators, a repository).

        With a `key` it is safe to call again: the same key finds the same task, for ever. A task that has no pull
        request by its `deadline`, from now on, fails. `attachments` are images or texts by file name.
        """
        request = SubmitRequest(
            title=title,
            body=body,
            project=project,
            repository=repository,
            base_branch=base_branch,
            labels=dict(labels or {}),
            type=task_type_for(type),
            scope=scope_for(scope),
            idempotency_key=key,
            dry_run=dry_run,
            attachments=uploads(attachments or {}),
        )
        if deadline is not None:
            request.limits.timeout.FromTimedelta(deadline)
        if max_cost_usd is not None:
            request.limits.max_cost_pico_usd = pico_usd(max_cost_usd)
        answer = await self._wire.call(self._wire.tasks.Submit, request, SUBMIT_TIMEOUT_S)
        return submitted_from(answer)

    async def get(self, task_id: str) -> Task:
        """What a task is doing and whose turn it is."""
        return (await self._wire.call(self._wire.tasks.Get, GetRequest(task_id=task_id))).task

    async def watch(self, task_id: str, after: int = 0) -> AsyncIterator[WatchResponse]:
        """Every event of a task from the first (or after a sequence) and then as they come, until the task has ended.

        A broken connection is taken up again after the last event seen; none is shown twice.
        """

        def stream(after_sequence: int, timeout_s: float) -> AsyncIterable[WatchResponse]:
            request = WatchRequest(task_id=task_id, after_sequence=after_sequence)
            return self._wire.tasks.Watch(request, metadata=self._wire.metadata, timeout=timeout_s)

        async def ended() -> bool:
            try:
                return has_ended((await self.get(task_id)).state)
            except FactoryError as error:
                if error.unreachable:
                    return False
                raise

        async for response in watched(stream, ended, after):
            self._wire.saw(LogPosition(stream=EVENTS, sequence=response.sequence))
            yield response

    async def wait(self, task_id: str) -> Task:
        """Waits until a task has ended, and how it did."""
        async for _ in self.watch(task_id):
            pass
        return await self.get(task_id)

    async def cancel(self, task_id: str) -> None:
        """Ends a task."""
        await self._wire.call(self._wire.tasks.Cancel, CancelRequest(task_id=task_id))

    async def release(
        self, task_id: str, reason: str = "", *, max_cost_usd: Decimal | str | float | None = None
    ) -> None:
        """Lets a held task go on, with a new limit where one is given."""
        request = ReleaseRequest(task_id=task_id, reason=reason)
        if max_cost_usd is not None:
            request.limits.max_cost_pico_usd = pico_usd(max_cost_usd)
        await self._wire.call(self._wire.tasks.Release, request)

    async def erase(self, task_id: str) -> int:
        """Erases the texts and changes of a task that has ended, and says how many; its facts and costs stay."""
        return (await self._wire.call(self._wire.tasks.Erase, EraseRequest(task_id=task_id))).erased

    # Review

    async def get_change(self, task_id: str) -> GetChangeResponse:
        """The change that waits for a decision, with findings and tests."""
        return await self._wire.call(self._wire.reviews.GetChange, GetChangeRequest(task_id=task_id))

    async def approve(self, task_id: str, change: str, evidence: str = "", remark: str = "") -> None:
        """Lets exactly this change pass; refused if it has moved on."""
        request = ApproveRequest(task_id=task_id, change_digest=change, evidence_digest=evidence, remark=remark)
        await self._wire.call(self._wire.reviews.Approve, request)

    async def request_changes(
        self, task_id: str, change: str, evidence: str = "", remark: str = "", comments: Iterable[Finding] = ()
    ) -> None:
        """Sends the change back to its author, saying what is wrong."""
        request = RequestChangesRequest(
            task_id=task_id, change_digest=change, evidence_digest=evidence, remark=remark, comments=comments
        )
        await self._wire.call(self._wire.reviews.RequestChanges, request)

    async def reject(self, task_id: str, change: str, evidence: str = "", remark: str = "") -> None:
        """Ends the task without a pull request."""
        request = RejectRequest(task_id=task_id, change_digest=change, evidence_digest=evidence, remark=remark)
        await self._wire.call(self._wire.reviews.Reject, request)

    # Questions

    async def tasks(self, project: str = "", state: str = "", search: str = "", limit: int = 50) -> list[TaskRow]:
        """Tasks, newest first."""
        request = TasksRequest(
            project=project,
            state=state_for(state),
            search=search,
            page_size=min(limit, PAGE_SIZE),
            min_position=self._wire.seen,
        )
        return [row async for row in self._wire.pages(self._wire.audit.Tasks, request, "tasks", limit)]

    async def pending_reviews(self, project: str = "", limit: int = 50) -> list[PendingReview]:
        """Changes that wait for an architect, longest waiting first."""
        request = PendingReviewsRequest(project=project, page_size=min(limit, PAGE_SIZE), min_position=self._wire.seen)
        return [row async for row in self._wire.pages(self._wire.audit.PendingReviews, request, "reviews", limit)]

    async def report(self, task_id: str) -> TaskReportResponse:
        """The token report of one task."""
        request = TaskReportRequest(task_id=task_id, min_position=self._wire.seen)
        return await self._wire.call(self._wire.audit.TaskReport, request)

    async def usage(
        self,
        by: Iterable[str] = ("model",),
        *,
        project: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> UsageResponse:
        """Tokens and cost, grouped by any of model, type, phase, project, day."""
        request = UsageRequest(
            group_by=[dimension_for(one) for one in by], project=project, min_position=self._wire.seen
        )
        if since is not None:
            getattr(request, "from").FromDatetime(since)  # `from` is a word of the language
        if until is not None:
            request.until.FromDatetime(until)
        return await self._wire.call(self._wire.audit.Usage, request)

    async def ledger(self, task_id: str = "", project: str = "", limit: int = 0) -> AsyncIterator[LedgerLine]:
        """Ledger lines, one per call, in the order in which the calls started; all of them unless limited."""
        request = LedgerRequest(
            task_id=task_id, project=project, page_size=min(limit or PAGE_SIZE, PAGE_SIZE), min_position=self._wire.seen
        )
        async for line in self._wire.pages(self._wire.audit.Ledger, request, "lines", limit):
            yield line

    # Projects

    async def create_project(self, project: str, repository: str, base_branch: str = "") -> bool:
        """Creates a project, and whether it was there already."""
        request = CreateRequest(project=project, repository=repository, base_branch=base_branch)
        return (await self._wire.call(self._wire.projects.Create, request)).existed

    async def projects(self) -> list[Project]:
        """Projects by name."""
        return list(
            (await self._wire.call(self._wire.audit.Projects, ProjectsRequest(min_position=self._wire.seen))).projects
        )
