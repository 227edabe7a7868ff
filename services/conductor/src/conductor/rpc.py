"""The gRPC edge of the conductor: it answers by id; every list is the audit's."""

from collections.abc import AsyncIterator, Callable

import grpc
from eventlog import Recorded, fact_name, subjects
from factory.log.v1 import LogPosition
from factory.model.v1 import add_ModelServiceServicer_to_server
from factory.project.v1 import add_ProjectServiceServicer_to_server
from factory.review.v1 import add_ReviewServiceServicer_to_server
from factory.task.v1 import (
    CancelRequest,
    CancelResponse,
    EraseRequest,
    EraseResponse,
    ExplainRequest,
    ExplainResponse,
    GetRequest,
    GetResponse,
    OverrideRequest,
    OverrideResponse,
    ReleaseRequest,
    ReleaseResponse,
    SubmitRequest,
    SubmitResponse,
    TaskServiceServicer,
    TextErased,
    WatchedFact,
    WatchRequest,
    WatchResponse,
    add_TaskServiceServicer_to_server,
)
from factory.task.v1 import Task as TaskMessage
from policy.routes import ALTERNATIVES, phase_word
from runtime import Problem, Runtime, caller

from conductor import commands
from conductor.adapters.budgets import Budgets
from conductor.adapters.erasure import erase
from conductor.adapters.progress import Progress
from conductor.adapters.submissions import STREAM, Submissions
from conductor.adapters.tasks import Decided, Tasks
from conductor.explain import decisions
from conductor.known import Known
from conductor.model_rpc import ModelRpc
from conductor.project_rpc import ProjectRpc
from conductor.review_rpc import Reviews
from conductor.secrets import secrets_in
from conductor.submission import TASK_ID, violations_of_limits
from conductor.task import NEW, Task, evolve
from conductor.views import task_view
from conductor.wording import summary

FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
REASON_CHARACTERS_MAX = 500


def add_rpcs(rt: Runtime, tasks: Tasks, submissions: Submissions, budgets: Budgets, progress: Progress) -> None:
    """Puts the conductor's four services on the process's gRPC server."""
    rt.add_rpc(add_TaskServiceServicer_to_server, TaskRpc(rt, tasks, submissions), "factory.task.v1.TaskService")
    rt.add_rpc(add_ReviewServiceServicer_to_server, Reviews(rt, tasks), "factory.review.v1.ReviewService")
    rt.add_rpc(
        add_ProjectServiceServicer_to_server,
        ProjectRpc(rt, tasks, submissions, budgets, progress),
        "factory.project.v1.ProjectService",
    )
    rt.add_rpc(add_ModelServiceServicer_to_server, ModelRpc(rt, tasks, progress), "factory.model.v1.ModelService")


class TaskRpc(TaskServiceServicer):
    def __init__(self, rt: Runtime, tasks: Tasks, submissions: Submissions) -> None:
        self._rt = rt
        self._tasks = tasks
        self._submissions = submissions

    async def Submit(self, request: SubmitRequest, context: object) -> SubmitResponse:
        if request.dry_run:
            return await self._submissions.dry_run(request, caller())
        accepted = await self._submissions.submit(request, caller())
        return SubmitResponse(task_id=accepted.task_id, existed=accepted.existed, position=position(accepted.sequence))

    async def Get(self, request: GetRequest, context: object) -> GetResponse:
        known = await existing(self._tasks, request.task_id)
        return GetResponse(task=task_view(request.task_id, known.task), position=position(known.read_to))

    async def Watch(self, request: WatchRequest, context: object) -> AsyncIterator[WatchResponse]:
        known = await existing(self._tasks, request.task_id)
        past = await self._rt.log.read(request.task_id, at_least=known.read_to)
        task = NEW
        subject = f"factory.evt.*.{self._rt.settings.org}.{request.task_id}"
        for recorded in past.events:
            task = evolve(task, recorded)
            if recorded.sequence > request.after_sequence:
                yield _watched(request.task_id, task, recorded)
        if task.ended is not None:
            return
        async for batch in self._rt.log.follow(after=past.read_to, subject=subject):
            for recorded in batch:
                task = evolve(task, recorded)
                if recorded.sequence <= request.after_sequence:
                    continue  # the replica that we read was behind the one that the caller has read
                yield _watched(request.task_id, task, recorded)
            if task.ended is not None:
                return

    async def Cancel(self, request: CancelRequest, context: object) -> CancelResponse:
        who = caller().subject
        done = await commanded(self._tasks, request.task_id, lambda task: commands.cancel(request.task_id, task, who))
        await self._hint(request.task_id)
        return CancelResponse(position=position(done.sequence))

    async def Release(self, request: ReleaseRequest, context: object) -> ReleaseResponse:
        who, reason = caller().subject, screened_reason(request.reason)
        limits = request.limits if request.HasField("limits") else None
        if violations := [*violations_of_limits(request.limits)]:
            field, what = violations[0]
            raise Problem(grpc.StatusCode.INVALID_ARGUMENT, f"{field}: {what}", violations=violations)
        done = await commanded(
            self._tasks,
            request.task_id,
            lambda task: commands.release(request.task_id, task, who, reason, limits),
        )
        return ReleaseResponse(position=position(done.sequence))

    async def Override(self, request: OverrideRequest, context: object) -> OverrideResponse:
        who, reason = caller().subject, screened_reason(request.reason)
        rules = self._tasks.rules
        if request.phase not in ALTERNATIVES:
            what = f"one of {', '.join(phase_word(phase) for phase in ALTERNATIVES)}, found {request.phase}"
            raise Problem(grpc.StatusCode.INVALID_ARGUMENT, f"phase: {what}", violations=[("phase", what)])
        if request.model and request.model not in rules.models:
            what = f"one of {', '.join(sorted(rules.models))}, found {request.model[:40]!r}"
            raise Problem(grpc.StatusCode.INVALID_ARGUMENT, f"model: {what}", violations=[("model", what)])
        done = await commanded(
            self._tasks,
            request.task_id,
            lambda task: commands.override(request.task_id, task, rules, request.phase, request.model, who, reason),
        )
        await self._hint(request.task_id)
        return OverrideResponse(position=position(done.sequence))

    async def Explain(self, request: ExplainRequest, context: object) -> ExplainResponse:
        known = await existing(self._tasks, request.task_id)
        past = await self._rt.log.read(request.task_id, at_least=known.read_to)
        return ExplainResponse(decisions=decisions(past.events, request.phase), position=position(past.read_to))

    async def _hint(self, task_id: str) -> None:
        """Tells the workers that something of this task is wanted no more; who misses it sees it in the log."""
        await self._rt.nc.publish(subjects.stop(self._rt.settings.org, task_id), b"")

    async def Erase(self, request: EraseRequest, context: object) -> EraseResponse:
        known = await existing(self._tasks, request.task_id)
        if known.task.ended is None:
            raise Problem(FAILED_PRECONDITION, f"{request.task_id!r} has not ended; cancel it first")
        past = await self._rt.log.read(request.task_id, at_least=known.read_to)
        erased, kept = await erase(self._rt.log, self._rt.artifacts, past, request.task_id)
        if not erased:
            return EraseResponse(erased=0, kept=kept, position=position(known.read_to))
        fact = TextErased(digests=erased, erased_by=caller().subject)
        stored = await self._rt.log.report(request.task_id, [fact])
        return EraseResponse(erased=len(erased), kept=kept, position=position(stored.sequence))


async def existing(tasks: Tasks, task_id: str) -> Known:
    """The task with this id, as new as the log; Problem NOT_FOUND if there is none."""
    check_id(task_id)
    known = await tasks.fresh(task_id)
    if not known.task.title and not known.task.parked:
        raise Problem(grpc.StatusCode.NOT_FOUND, f"there is no task {task_id!r}")
    return known


async def commanded(tasks: Tasks, task_id: str, judge: Callable[[Task], list]) -> Decided:  # type: ignore[type-arg]
    """Carries out a command, or raises the Problem that says what state the task is in."""
    await existing(tasks, task_id)
    try:
        return await tasks.command(task_id, lambda known: judge(known.task))
    except commands.Refused as refused:
        raise Problem(FAILED_PRECONDITION, str(refused), reason="TASK_STATE") from refused


def screened_reason(reason: str) -> str:
    """A reason for the record, cut to its length; Problem for one that the log should not have to keep."""
    words = reason.strip()[:REASON_CHARACTERS_MAX]
    if secret := next(secrets_in(words), None):
        what = f"no credentials, found what looks like a {secret.kind}; the log cannot forget it"
        raise Problem(grpc.StatusCode.INVALID_ARGUMENT, f"reason: {what}", violations=[("reason", what)])
    return words


def check_id(task_id: str) -> None:
    if not TASK_ID.fullmatch(task_id):
        what = f"a task id of 26 lower-case letters and digits, found {task_id[:40]!r}"
        raise Problem(grpc.StatusCode.INVALID_ARGUMENT, what, violations=[("task_id", what)])


def position(sequence: int) -> LogPosition:
    return LogPosition(stream=STREAM, sequence=sequence)


def _watched(task_id: str, task: Task, recorded: Recorded) -> WatchResponse:
    view: TaskMessage = task_view(task_id, task)
    return WatchResponse(
        sequence=recorded.sequence,
        occurred_at=recorded.event.occurred_at,
        producer=recorded.event.producer,
        facts=[
            WatchedFact(type=fact_name(fact) if fact is not None else "unknown", summary=summary(fact))
            for fact in recorded.facts
        ],
        event=recorded.raw,
        task=view,
    )
