"""From a request to a task in the log, the same whichever way the request came."""

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import grpc
from eventlog import Conflict, Tip
from factory.artifact.v1 import Attachment
from factory.project.v1 import ProjectCreated
from factory.task.v1 import (
    SCOPE_FEATURE,
    TASK_TYPE_API,
    TASK_TYPE_UNSPECIFIED,
    SubmitRequest,
    SubmitResponse,
    TaskSubmitted,
    Upload,
)
from policy.ranking import pack_budget
from runtime import Caller, Problem, Runtime
from ulid import ULID
from worktree import RefusedUrl, check_url

from conductor.adapters.tasks import Tasks
from conductor.attachments import kind_of
from conductor.foresight import foreseen
from conductor.known import Known
from conductor.next_step import decide
from conductor.state import Attached, Blob
from conductor.submission import differences, submitted_fact, task_id_for, violations_of
from conductor.task import NEW, happened

STREAM = "EVENTS"
INVALID = grpc.StatusCode.INVALID_ARGUMENT


@dataclass(frozen=True, slots=True)
class Accepted:
    task_id: str
    existed: bool
    sequence: int


class Submissions:
    """Judges submissions and makes tasks of them."""

    def __init__(self, rt: Runtime, tasks: Tasks) -> None:
        self._rt = rt
        self._tasks = tasks
        # tasks that are being submitted now, by project
        self._entering: Counter[str] = Counter()
        self._roots = tuple(Path(root) for root in rt.settings.allowed_roots.split(":") if root)

    async def submit(self, request: SubmitRequest, who: Caller) -> Accepted:
        """Appends the task, or finds the one with the same key. Raises Problem, which names every fault."""
        repository, base_branch = await self._checked(request, who)
        body = await self._rt.artifacts.put(request.body.encode()) if request.body else None
        attached = [await self._stored(upload) for upload in request.attachments]
        fact = submitted_fact(
            request, by=who.subject, repository=repository, base_branch=base_branch, body=body, attached=attached
        )
        key = request.idempotency_key
        task_id = task_id_for(self._rt.settings.org, fact.project, key) if key else str(ULID()).lower()
        # Until the roster knows of it, the task counts among those that are on their way.
        others = self._entering[fact.project]
        self._entering[fact.project] += 1
        try:
            return await self._entered(task_id, fact, others)
        finally:
            self._entering[fact.project] -= 1

    async def _entered(self, task_id: str, fact: TaskSubmitted, others: int) -> Accepted:
        world = await self._tasks.world(task_id, Known(happened(NEW, fact, datetime.now(UTC))), entering=others)
        follows = decide(happened(NEW, fact, world.now), world)
        try:
            stored = await self._rt.log.append(task_id, [fact, *follows], after=Tip(), at=world.now)
        except Conflict:
            return await self._same(task_id, fact)
        await self._tasks.reach(stored.sequence)
        return Accepted(task_id, False, stored.sequence)

    async def _stored(self, upload: Upload) -> Attachment:
        ref = await self._rt.artifacts.put(upload.content)
        return Attachment(artifact=ref, name=upload.name, media_type=kind_of(upload).media_type)

    async def dry_run(self, request: SubmitRequest, who: Caller) -> SubmitResponse:
        """What would be done, what it usually costs, and what it may cost at most without rework; stores nothing."""
        repository, base_branch = await self._checked(request, who)
        if request.type == TASK_TYPE_UNSPECIFIED and request.scope != SCOPE_FEATURE:
            raise Problem(INVALID, "a dry run needs the type", violations=[("type", "expected a type, found none")])
        fact = submitted_fact(request, by=who.subject, repository=repository, base_branch=base_branch, body=None)
        task = happened(NEW, fact, datetime.now(UTC))
        texts = [(u.name, kind_of(u).media_type, len(u.content)) for u in request.attachments]
        attached = tuple(Attached(name, media_type, Blob("", size)) for name, media_type, size in texts)
        world = await self._tasks.world("", Known(task))
        task = replace(
            task,
            # A feature's plan is the same whatever its type.
            type=request.type or TASK_TYPE_API,
            scope=request.scope,
            base_commit="0" * 40,
            pack_tokens=pack_budget(world.models, world.ruled_out),
            body_bytes=len(request.body.encode()),
            attached=attached,
        )
        return foreseen(task, world, self._tasks.book)

    async def project(self, name: str) -> ProjectCreated | None:
        id = f"project-{name}"
        past = await self._rt.log.read(id, at_least=await self._rt.log.last_own(id))
        return next((fact for fact in past.facts() if isinstance(fact, ProjectCreated)), None)

    async def violations(self, request: SubmitRequest) -> list[tuple[str, str]]:
        # A quarter of a megabyte of text is scanned for credentials: not on the loop.
        return await asyncio.to_thread(violations_of, request, self.why_not)

    def why_not(self, repository: str) -> str:
        """Why a repository may not be reached; "" if it may."""
        try:
            check_url(repository, self._roots)
        except RefusedUrl as refused:
            return str(refused)
        return ""

    async def _checked(self, request: SubmitRequest, who: Caller) -> tuple[str, str]:
        """The repository and branch of a request that may become a task."""
        if violations := await self.violations(request):
            field, what = violations[0]
            more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
            raise Problem(INVALID, f"{field}: {what}{more}", violations=violations)
        if request.repository:
            if "operator" not in who.roles:
                raise Problem(
                    grpc.StatusCode.PERMISSION_DENIED,
                    f"only an operator may name a repository; {who.subject!r} names a project",
                    violations=[("repository", "a project instead")],
                )
            return request.repository, ""
        found = await self.project(request.project)
        if found is None:
            raise Problem(
                grpc.StatusCode.NOT_FOUND,
                f"there is no project {request.project!r}; `factory project list` shows those there are",
                violations=[("project", f"an existing project, found {request.project!r}")],
            )
        return found.repository, found.base_branch

    async def _same(self, task_id: str, fact: TaskSubmitted) -> Accepted:
        """The task that has this key already, if it is the same one."""
        past = await self._rt.log.read(task_id, at_least=await self._rt.log.last_own(task_id))
        first = past.lane(self._rt.lane)[0]
        there = next(found for found in first.facts if isinstance(found, TaskSubmitted))
        if differing := differences(there, fact):
            raise Problem(
                grpc.StatusCode.ALREADY_EXISTS,
                f"key {fact.idempotency_key!r} belongs to task {task_id}, which differs in: {', '.join(differing)}",
                violations=[(name, "the same as the task that has this key") for name in differing],
                reason="KEY_TAKEN",
            )
        return Accepted(task_id, True, first.sequence)
