"""From a request to a task in the log, the same whichever way the request came."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import grpc
from eventlog import Conflict, Past, Tip
from factory.project.v1 import ProjectCreated
from factory.task.v1 import (
    SCOPE_FEATURE,
    TASK_TYPE_API,
    TASK_TYPE_UNSPECIFIED,
    ClassificationRequested,
    SubmitRequest,
    SubmitResponse,
    TaskSubmitted,
)
from policy.models import Model
from policy.planning import plan
from policy.prices import upper_bound
from policy.ranking import Needs, pack_budget
from policy.routes import PROMPT_OVERHEAD_TOKENS
from runtime import Caller, Problem, Runtime
from ulid import ULID
from worktree import RefusedUrl, check_url

from conductor.adapters.tasks import Tasks
from conductor.next_step import World
from conductor.submission import differences, submitted_fact, task_id_for, violations_of

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
        self._roots = tuple(Path(root) for root in rt.settings.allowed_roots.split(":") if root)

    async def submit(self, request: SubmitRequest, who: Caller) -> Accepted:
        """Appends the task, or finds the one with the same key. Raises Problem, which names every fault."""
        repository, base_branch = await self._checked(request, who)
        body = await self._rt.artifacts.put(request.body.encode()) if request.body else None
        fact = submitted_fact(request, by=who.subject, repository=repository, base_branch=base_branch, body=body)
        key = request.idempotency_key
        task_id = task_id_for(self._rt.settings.org, fact.project, key) if key else str(ULID()).lower()
        try:
            stored = await self._rt.log.append(
                task_id, [fact, ClassificationRequested(request_id="classification-1-1")], after=Tip()
            )
        except Conflict:
            return await self._same(task_id, fact)
        return Accepted(task_id, False, stored.sequence)

    async def dry_run(self, request: SubmitRequest, who: Caller) -> SubmitResponse:
        """What would be done, and what it may cost at most without rework; nothing is stored."""
        await self._checked(request, who)
        if request.type == TASK_TYPE_UNSPECIFIED and request.scope != SCOPE_FEATURE:
            raise Problem(INVALID, "a dry run needs the type", violations=[("type", "expected a type, found none")])
        world = self._tasks.world(Past())
        pack_tokens = pack_budget(world.models, world.ruled_out)
        # A feature's plan is the same whatever its type.
        planned = plan(
            request.type or TASK_TYPE_API,
            request.scope,
            world.models,
            world.ruled_out,
            needs=Needs(pack_tokens=pack_tokens),
        )
        answer = SubmitResponse(plan=planned.phases, notes=planned.notes)
        bounds = [_bound(world, phase.model, pack_tokens, phase.max_output_tokens) for phase in planned.phases]
        if all(bound is not None for bound in bounds):
            answer.max_cost_pico_usd = sum(bound or 0 for bound in bounds)
        return answer

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
        known = await self._tasks.fresh(task_id)
        first = known.past.lane(self._rt.lane)[0]
        there = next(found for found in first.facts if isinstance(found, TaskSubmitted))
        if differing := differences(there, fact):
            raise Problem(
                grpc.StatusCode.ALREADY_EXISTS,
                f"key {fact.idempotency_key!r} belongs to task {task_id}, which differs in: {', '.join(differing)}",
                violations=[(name, "the same as the task that has this key") for name in differing],
                reason="KEY_TAKEN",
            )
        return Accepted(task_id, True, first.sequence)


def _bound(world: World, name: str, pack_tokens: int, max_output: int) -> int | None:
    model: Model | None = world.models.get(name)
    price = world.prices.at(model.provider, model.provider_model, world.now) if model else None
    return upper_bound(price.tiers, pack_tokens + PROMPT_OVERHEAD_TOKENS, max_output) if price else None
