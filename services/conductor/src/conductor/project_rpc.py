"""What the conductor answers and takes about projects: their repository, their preferences, their budgets."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import grpc
from eventlog import Conflict, Past, Recorded
from factory.event.v1 import AnyFact
from factory.project.v1 import (
    Budget,
    CreateRequest,
    CreateResponse,
    GetBudgetRequest,
    GetBudgetResponse,
    GetPreferencesRequest,
    GetPreferencesResponse,
    PreferencesSaved,
    PreferencesVersion,
    ProjectCreated,
    ProjectServiceServicer,
    SavePreferencesRequest,
    SavePreferencesResponse,
    SetBudgetRequest,
    SetBudgetResponse,
)
from policy.preferences import BALANCED, message_of, preferences_from, violations_of
from runtime import Problem, Runtime, caller

from conductor import rpc
from conductor.adapters.budget_orders import TooManyBudgets
from conductor.adapters.budgets import Budgets
from conductor.adapters.progress import Progress
from conductor.adapters.submissions import Submissions
from conductor.adapters.tasks import ATTEMPTS_MAX, Tasks
from conductor.budget_room import Standing, dashed, month_of, undashed
from conductor.budget_room import violations_of as violations_of_budget
from conductor.roster import Place
from conductor.submission import ADHOC, BRANCH, PROJECT

INVALID = grpc.StatusCode.INVALID_ARGUMENT


class ProjectRpc(ProjectServiceServicer):
    def __init__(
        self, rt: Runtime, tasks: Tasks, submissions: Submissions, budgets: Budgets, progress: Progress
    ) -> None:
        self._rt = rt
        self._tasks = tasks
        self._submissions = submissions
        self._budgets = budgets
        self._progress = progress

    async def Create(self, request: CreateRequest, context: object) -> CreateResponse:
        self._check(request)
        fact = ProjectCreated(
            project=request.project,
            repository=request.repository,
            base_branch=request.base_branch,
            created_by=caller().subject,
        )
        existed = False

        def judge(past: Past) -> Sequence[AnyFact]:
            nonlocal existed
            for there in past.facts():
                if isinstance(there, ProjectCreated):
                    existed = True
                    _check_same(there, fact)
                    return []
            return [fact]

        return CreateResponse(position=rpc.position(await self._say(request.project, judge)), existed=existed)

    async def GetPreferences(self, request: GetPreferencesRequest, context: object) -> GetPreferencesResponse:
        past = await self._past(request.project)
        _check_exists(request.project, past)
        history = [version for recorded in past.events for version in _versions(recorded)]
        newest = history[-1] if history else PreferencesVersion(preferences=message_of(BALANCED))
        return GetPreferencesResponse(
            version=newest.version,
            preferences=newest.preferences,
            history=reversed(history),
            position=rpc.position(past.read_to),
        )

    async def SavePreferences(self, request: SavePreferencesRequest, context: object) -> SavePreferencesResponse:
        who, reason = caller().subject, rpc.screened_reason(request.reason)
        if violations := violations_of(request.preferences, self._tasks.rules.models):
            raise _invalid(violations)
        version = 0

        def judge(past: Past) -> Sequence[AnyFact]:
            nonlocal version
            _check_exists(request.project, past)
            known = [fact for fact in past.facts() if isinstance(fact, PreferencesSaved)]
            standing = known[-1].version if known else 0
            if request.HasField("expected_version") and request.expected_version != standing:
                what = (
                    f"the preferences of {request.project!r} are at version {standing}, not {request.expected_version}"
                )
                raise Problem(grpc.StatusCode.ABORTED, f"{what}; look at them again", reason="VERSION_MOVED")
            before = known[-1].preferences if known else message_of(BALANCED)
            if preferences_from(before) == preferences_from(request.preferences):
                version = standing
                return []
            version = standing + 1
            return [
                PreferencesSaved(
                    project=request.project,
                    version=version,
                    preferences=request.preferences,
                    saved_by=who,
                    reason=reason,
                )
            ]

        position = rpc.position(await self._say(request.project, judge))
        return SavePreferencesResponse(version=version, position=position)

    async def GetBudget(self, request: GetBudgetRequest, context: object) -> GetBudgetResponse:
        month = _month(request.month)
        _check_exists(request.project, await self._past(request.project))
        standings = await self._budgets.get(request.project, month)
        return GetBudgetResponse(
            project=request.project,
            month=dashed(month),
            budgets=[_view(standing) for standing in standings],
            held_tasks=self._tasks.book.roster.count(request.project, Place.FOR_MONEY),
            position=rpc.position(max(self._budgets.position(request.project, month), self._progress.sequence)),
        )

    async def SetBudget(self, request: SetBudgetRequest, context: object) -> SetBudgetResponse:
        who, reason = caller().subject, rpc.screened_reason(request.reason)
        _check_exists(request.project, await self._past(request.project))
        if request.model and request.model not in self._tasks.rules.models:
            known = ", ".join(sorted(self._tasks.rules.models))
            raise _invalid([("model", f"one of {known}, or none for the project, found {request.model[:40]!r}")])
        if violations := violations_of_budget(request):
            raise _invalid(violations)
        wanted = SetBudgetRequest()
        wanted.CopyFrom(request)
        wanted.reason = reason
        try:
            standing = await self._budgets.set(wanted, who)
        except TooManyBudgets as refused:
            raise Problem(rpc.FAILED_PRECONDITION, str(refused), reason="BUDGETS_MAX") from refused
        # It was asked of the leader: whoever reads at this position reads what was set.
        sequence = self._budgets.position(request.project, month_of(datetime.now(UTC)))
        return SetBudgetResponse(budget=_view(standing), position=rpc.position(sequence))

    async def _past(self, project: str) -> Past:
        if not PROJECT.fullmatch(project) and project != ADHOC:
            raise _invalid([("project", f"the name of a project, found {project[:63]!r}")])
        id = f"project-{project}"
        return await self._rt.log.read(id, at_least=await self._rt.log.last_own(id))

    async def _say(self, project: str, judge: Callable[[Past], Sequence[AnyFact]]) -> int:
        """Appends what is judged right on the project's lane; the stream sequence at which it is known."""
        for _ in range(ATTEMPTS_MAX):
            past = await self._past(project)
            facts = judge(past)
            if not facts:
                return past.read_to
            try:
                tip = past.tip(self._rt.lane)
                stored = await self._rt.log.append(f"project-{project}", facts, after=tip, read_to=past.read_to)
            except Conflict:
                continue  # somebody was faster
            await self._progress.reach(stored.sequence)
            return stored.sequence
        raise Problem(grpc.StatusCode.ABORTED, f"project {project!r} changed {ATTEMPTS_MAX} times meanwhile")

    def _check(self, request: CreateRequest) -> None:
        violations = []
        if not PROJECT.fullmatch(request.project) or request.project == ADHOC:
            found = request.project[:63]
            violations.append(("project", f"lower-case letters, digits and hyphens, 1 to 63, found {found!r}"))
        if why_not := self._submissions.why_not(request.repository):
            violations.append(("repository", why_not))
        if request.base_branch and (not BRANCH.fullmatch(request.base_branch) or ".." in request.base_branch):
            violations.append(("base_branch", f"a branch name, found {request.base_branch[:60]!r}"))
        if violations:
            raise _invalid(violations)


def _check_same(there: ProjectCreated, wanted: ProjectCreated) -> None:
    if (there.repository, there.base_branch) != (wanted.repository, wanted.base_branch):
        raise Problem(
            grpc.StatusCode.ALREADY_EXISTS,
            f"project {wanted.project!r} is there already, on {there.repository} "
            f"({there.base_branch or 'default branch'})",
        )


def _check_exists(project: str, past: Past) -> None:
    """The tasks of repositories that were named directly belong to a project that nobody has created."""
    if project != ADHOC and not any(isinstance(fact, ProjectCreated) for fact in past.facts()):
        what = f"there is no project {project!r}; `factory project list` shows those there are"
        raise Problem(grpc.StatusCode.NOT_FOUND, what, violations=[("project", "an existing project")])


def _versions(recorded: Recorded) -> list[PreferencesVersion]:
    return [
        PreferencesVersion(
            version=fact.version,
            preferences=fact.preferences,
            saved_by=fact.saved_by,
            reason=fact.reason,
            saved_at=recorded.event.occurred_at,
        )
        for fact in recorded.facts
        if isinstance(fact, PreferencesSaved)
    ]


def _view(standing: Standing) -> Budget:
    return Budget(
        model=standing.model,
        hard_pico_usd=standing.hard,
        soft_pico_usd=standing.soft,
        spent_pico_usd=standing.spent,
        uncertain_pico_usd=standing.uncertain,
        reserved_pico_usd=standing.reserved,
        open_reservations=standing.open,
    )


def _month(asked: str) -> str:
    if not asked:
        return month_of(datetime.now(UTC))
    try:
        return undashed(asked)
    except ValueError as error:
        raise _invalid([("month", str(error))]) from error


def _invalid(violations: Sequence[tuple[str, str]]) -> Problem:
    field, what = violations[0]
    more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
    return Problem(INVALID, f"{field}: {what}{more}", violations=violations)
