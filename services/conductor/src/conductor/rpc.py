"""The gRPC edge of the conductor: it answers by id; every list is the audit's."""

from collections.abc import AsyncIterator, Callable

import grpc
from eventlog import Conflict, Past, Recorded, fact_name
from factory.log.v1 import LogPosition
from factory.model.v1 import ListRequest, ListResponse, ModelServiceServicer, add_ModelServiceServicer_to_server
from factory.model.v1 import Model as ModelMessage
from factory.project.v1 import (
    CreateRequest,
    CreateResponse,
    ProjectCreated,
    ProjectServiceServicer,
    add_ProjectServiceServicer_to_server,
)
from factory.review.v1 import add_ReviewServiceServicer_to_server
from factory.task.v1 import (
    CancelRequest,
    CancelResponse,
    EraseRequest,
    EraseResponse,
    GetRequest,
    GetResponse,
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
from runtime import Problem, Runtime, caller

from conductor import commands
from conductor.adapters.erasure import erase
from conductor.adapters.submissions import STREAM, Submissions
from conductor.adapters.tasks import ATTEMPTS_MAX, Known, Tasks
from conductor.review_rpc import Reviews
from conductor.secrets import secrets_in
from conductor.submission import BRANCH, PROJECT, TASK_ID
from conductor.task import NEW, Task, evolve
from conductor.views import task_view
from conductor.wording import summary

FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


def add_rpcs(rt: Runtime, tasks: Tasks, submissions: Submissions) -> None:
    """Puts the conductor's four services on the process's gRPC server."""
    rt.add_rpc(add_TaskServiceServicer_to_server, TaskRpc(rt, tasks, submissions), "factory.task.v1.TaskService")
    rt.add_rpc(add_ReviewServiceServicer_to_server, Reviews(rt, tasks), "factory.review.v1.ReviewService")
    rt.add_rpc(add_ProjectServiceServicer_to_server, ProjectRpc(rt, submissions), "factory.project.v1.ProjectService")
    rt.add_rpc(add_ModelServiceServicer_to_server, ModelRpc(tasks), "factory.model.v1.ModelService")


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
        return GetResponse(task=task_view(request.task_id, known.task), position=position(known.past.read_to))

    async def Watch(self, request: WatchRequest, context: object) -> AsyncIterator[WatchResponse]:
        known = await existing(self._tasks, request.task_id)
        task = NEW
        subject = f"factory.evt.*.{self._rt.settings.org}.{request.task_id}"
        for recorded in known.past.events:
            task = evolve(task, recorded)
            if recorded.sequence > request.after_sequence:
                yield _watched(request.task_id, task, recorded)
        if task.ended is not None:
            return
        async for batch in self._rt.log.follow(after=known.past.read_to, subject=subject):
            for recorded in batch:
                task = evolve(task, recorded)
                if recorded.sequence <= request.after_sequence:
                    continue  # the replica that we read was behind the one that the caller has read
                yield _watched(request.task_id, task, recorded)
            if task.ended is not None:
                return

    async def Cancel(self, request: CancelRequest, context: object) -> CancelResponse:
        who = caller().subject
        known = await commanded(self._tasks, request.task_id, lambda task: commands.cancel(request.task_id, task, who))
        return CancelResponse(position=position(known.past.read_to))

    async def Release(self, request: ReleaseRequest, context: object) -> ReleaseResponse:
        who = caller().subject
        if secret := next(secrets_in(request.reason[:500]), None):
            what = f"no credentials, found what looks like a {secret.kind}; the log cannot forget it"
            raise Problem(grpc.StatusCode.INVALID_ARGUMENT, f"reason: {what}", violations=[("reason", what)])
        limits = request.limits if request.HasField("limits") else None
        known = await commanded(
            self._tasks,
            request.task_id,
            lambda task: commands.release(request.task_id, task, who, request.reason[:500], limits),
        )
        return ReleaseResponse(position=position(known.past.read_to))

    async def Erase(self, request: EraseRequest, context: object) -> EraseResponse:
        known = await existing(self._tasks, request.task_id)
        if known.task.ended is None:
            raise Problem(FAILED_PRECONDITION, f"{request.task_id!r} has not ended; cancel it first")
        erased, kept = await erase(self._rt.log, self._rt.artifacts, known.past, request.task_id)
        if not erased:
            return EraseResponse(erased=0, kept=kept, position=position(known.past.read_to))
        fact = TextErased(digests=erased, erased_by=caller().subject)
        stored = await self._rt.log.report(request.task_id, [fact])
        return EraseResponse(erased=len(erased), kept=kept, position=position(stored.sequence))


class ProjectRpc(ProjectServiceServicer):
    def __init__(self, rt: Runtime, submissions: Submissions) -> None:
        self._rt = rt
        self._submissions = submissions

    async def Create(self, request: CreateRequest, context: object) -> CreateResponse:
        self._check(request)
        fact = ProjectCreated(
            project=request.project,
            repository=request.repository,
            base_branch=request.base_branch,
            created_by=caller().subject,
        )
        id = f"project-{request.project}"
        for _ in range(ATTEMPTS_MAX):
            past = await self._rt.log.read(id, at_least=await self._rt.log.last_own(id))
            for there in past.facts():
                if isinstance(there, ProjectCreated):
                    return self._same(there, fact, past)
            try:
                stored = await self._rt.log.append(id, [fact], after=past.tip(self._rt.lane))
            except Conflict:
                continue  # somebody created it meanwhile
            return CreateResponse(position=position(stored.sequence))
        raise Problem(grpc.StatusCode.ABORTED, f"project {request.project!r} changed {ATTEMPTS_MAX} times meanwhile")

    def _check(self, request: CreateRequest) -> None:
        violations = []
        if not PROJECT.fullmatch(request.project) or request.project == "adhoc":
            found = request.project[:63]
            violations.append(("project", f"lower-case letters, digits and hyphens, 1 to 63, found {found!r}"))
        if why_not := self._submissions.why_not(request.repository):
            violations.append(("repository", why_not))
        if request.base_branch and (not BRANCH.fullmatch(request.base_branch) or ".." in request.base_branch):
            violations.append(("base_branch", f"a branch name, found {request.base_branch[:60]!r}"))
        if violations:
            field, what = violations[0]
            raise Problem(grpc.StatusCode.INVALID_ARGUMENT, f"{field}: {what}", violations=violations)

    def _same(self, there: ProjectCreated, wanted: ProjectCreated, past: Past) -> CreateResponse:
        if (there.repository, there.base_branch) != (wanted.repository, wanted.base_branch):
            raise Problem(
                grpc.StatusCode.ALREADY_EXISTS,
                f"project {wanted.project!r} is there already, on {there.repository} "
                f"({there.base_branch or 'default branch'})",
            )
        return CreateResponse(position=position(past.read_to), existed=True)


class ModelRpc(ModelServiceServicer):
    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    async def List(self, request: ListRequest, context: object) -> ListResponse:
        world = self._tasks.world(Past())
        models = []
        for model in world.models.values():
            price = world.prices.at(model.provider, model.provider_model, world.now)
            tier = price.tiers[0] if price else None
            models.append(
                ModelMessage(
                    model=model.name,
                    display_name=model.display_name,
                    family=model.family,
                    provider=model.provider,
                    provider_model=model.provider_model,
                    configured=not world.ruled_out.get(model.name, ""),
                    ruled_out=world.ruled_out.get(model.name, ""),
                    pretend=model.pretend,
                    context_window_tokens=model.context_window_tokens,
                    image_input=model.image_input,
                    structured_output=model.structured_output,
                    input_pico_usd=tier.input_pico_usd if tier and tier.HasField("input_pico_usd") else None,
                    output_pico_usd=tier.output_pico_usd if tier and tier.HasField("output_pico_usd") else None,
                    price_version=price.version if price else "",
                )
            )
        return ListResponse(models=models)


async def existing(tasks: Tasks, task_id: str) -> Known:
    """The task with this id, as new as the log; Problem NOT_FOUND if there is none."""
    check_id(task_id)
    known = await tasks.fresh(task_id)
    if not known.task.title and not known.task.parked:
        raise Problem(grpc.StatusCode.NOT_FOUND, f"there is no task {task_id!r}")
    return known


async def commanded(tasks: Tasks, task_id: str, judge: Callable[[Task], list]) -> Known:  # type: ignore[type-arg]
    """Carries out a command, or raises the Problem that says what state the task is in."""
    await existing(tasks, task_id)
    try:
        return await tasks.command(task_id, lambda known: judge(known.task))
    except commands.Refused as refused:
        raise Problem(FAILED_PRECONDITION, str(refused), reason="TASK_STATE") from refused


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
