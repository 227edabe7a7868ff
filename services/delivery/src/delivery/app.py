"""Hears DeliveryRequested, says PullRequestOpened or DeliveryFailed. Finds or creates at each step, so that dying
anywhere and beginning again leaves one branch, one commit and one pull request.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog
from artifacts import ArtifactDamaged, ArtifactMissing
from eventlog import Past
from factory.artifact.v1 import Change
from factory.delivery.v1 import DeliveryFailure, DeliveryRequested, PullRequestOpened
from factory.event.v1 import AnyFact
from factory.review.v1 import TaskApproved
from factory.task.v1 import TaskSubmitted
from google.protobuf.message import DecodeError
from policy.models import Model, models_from
from policy.prices import PriceBook, prices_in
from policy.report import render_tree, report
from runtime import Runtime, Service, Work
from worktree import GitFailed, Pushed, RefusedUrl, push_branch

from delivery.failure import failed, failed_by
from delivery.pull_request import NotOpened, PullRequest, PullRequests
from delivery.settings import DeliverySettings, settings_from
from delivery.target import BranchOnly, GitHub, Local, Target, target_of
from delivery.wording import AUTHOR, body, branch_name, commit_message, moved_note, plain, pretend_note

log = structlog.get_logger()


def service(env: Mapping[str, str]) -> Service:
    """Delivery, as `factory.services` knows it."""
    settings = settings_from(env)
    models = models_from(env)

    async def setup(rt: Runtime) -> None:
        async def handle(work: Work, past: Past) -> Sequence[AnyFact]:
            request = work.request
            assert isinstance(request, DeliveryRequested)
            try:
                return [await delivered(rt, settings, models, request, work, past)]
            except (GitFailed, RefusedUrl, NotOpened) as problem:
                log.warning("delivery.failed", kind=type(problem).__name__, problem=str(problem))
                return [failed_by(request.request_id, problem)]
            except (ArtifactMissing, ArtifactDamaged, DecodeError) as problem:
                reason = DeliveryFailure.DELIVERY_FAILURE_ARTIFACT_MISSING
                return [failed(request.request_id, reason, str(problem))]

        rt.worker(handle, poison)

    return Service("delivery", "delivery", setup)


async def delivered(
    rt: Runtime,
    settings: DeliverySettings,
    models: Mapping[str, Model],
    request: DeliveryRequested,
    work: Work,
    past: Past,
) -> PullRequestOpened:
    """The branch pushed and the pull request open, whatever of it was there before."""
    title, (approved_by, approved_at) = _title(past), _approval(past, request, work)
    branch = branch_name(work.id, title)
    target = target_of(request.repository, settings.github_host)
    if isinstance(target, GitHub) and not settings.github_token:
        reason = DeliveryFailure.DELIVERY_FAILURE_NEEDS_CREDENTIALS
        raise NotOpened(reason, "FACTORY_GITHUB_TOKEN is not set, and pull requests on GitHub need it")
    message = commit_message(title, work.id, approved_by)
    pushed = await _push(rt, settings, target, request, branch, message, approved_at)
    prices = prices_in(recorded.event for recorded in (await rt.log.read("prices")).events)
    wanted = PullRequest(
        task_id=work.id,
        title=plain(title) or f"Task {work.id}",
        body=_body(work.id, title, request, past, prices, models, pushed, target),
        branch=branch,
        base_branch=request.base_branch,
        commit=pushed.commit,
        approved_by=approved_by,
        approved_at=approved_at.isoformat(),
    )
    async with _place(target, settings) as place:
        url = await place.find_or_open(wanted)
    log.info("delivery.opened", url=url, branch=branch, commit=pushed.commit, base_moved=pushed.base_moved)
    return PullRequestOpened(
        request_id=request.request_id,
        url=url,
        branch=branch,
        commit=pushed.commit,
        change_digest=request.change_digest,
        base_moved=pushed.base_moved,
    )


async def _push(
    rt: Runtime,
    settings: DeliverySettings,
    target: Target,
    request: DeliveryRequested,
    branch: str,
    message: str,
    when: datetime,
) -> Pushed:
    bundle = await rt.artifacts.get(request.snapshot.digest)
    change = Change.FromString(await rt.artifacts.get(request.change_digest))
    if change.base_commit != request.base_commit:
        reason = DeliveryFailure.DELIVERY_FAILURE_TREE_DIFFERS
        said = f"the change is on {change.base_commit!r}, and {request.base_commit!r} was approved"
        raise NotOpened(reason, said)
    roots = rt.settings.allowed_roots.split(os.pathsep)
    return await asyncio.to_thread(
        push_branch,
        bundle=bundle,
        change=change,
        repository=request.repository,
        branch=branch,
        base_branch=request.base_branch,
        message=message,
        author=AUTHOR,
        when=when,
        allowed_roots=tuple(Path(root) for root in roots if root),
        workdir=rt.settings.data.absolute() / "delivery",
        # To that host only; other remotes know us by what the operator's ssh has, or not at all.
        token=settings.github_token if isinstance(target, GitHub) and target.by_token else None,
    )


@contextlib.asynccontextmanager
async def _place(target: Target, settings: DeliverySettings) -> AsyncIterator[PullRequests]:
    """Where the pull request of a repository is opened. Imported when needed: starting must be quick."""
    match target:
        case GitHub():
            from delivery.adapters.github import GitHubPullRequests

            async with GitHubPullRequests(target, api_url=settings.github_api, token=settings.github_token) as place:
                yield place
        case Local(path=path):
            from delivery.adapters.local_remote import LocalPullRequests

            yield LocalPullRequests(Path(path))
        case BranchOnly(url=url):
            from delivery.adapters.branch_only import BranchOnlyRemote

            yield BranchOnlyRemote(url)


def _body(
    task_id: str,
    title: str,
    request: DeliveryRequested,
    past: Past,
    prices: PriceBook,
    models: Mapping[str, Model],
    pushed: Pushed,
    target: Target,
) -> str:
    """The description with the token report as the log has it now."""
    names = {model.name: model.display_name for model in models.values()}
    told = report((recorded.event for recorded in past.events), prices, names)
    asked = dict.fromkeys(line.model for line in told.lines)
    pretend = [names[name] for name in asked if name in models and models[name].pretend]
    notes = [note for note in request.notes if note not in told.notes]
    if pushed.base_moved:
        notes.append(moved_note(request.base_branch))
    notes.append(pretend_note(pretend))
    if isinstance(target, BranchOnly):
        notes.append("the branch is pushed; the pull request itself is yours to open")
    return body(task_id=task_id, title=title, approved_by=request.approved_by, tree=render_tree(told), notes=notes)


def _title(past: Past) -> str:
    return next((fact.title for fact in past.facts() if isinstance(fact, TaskSubmitted)), "")


def _approval(past: Past, request: DeliveryRequested, work: Work) -> tuple[str, datetime]:
    """Who approved this change first, and when: it dates the commit, so that a second try makes the same one."""
    for recorded in past.events:
        for fact in recorded.facts:
            if isinstance(fact, TaskApproved) and fact.change_digest == request.change_digest:
                return fact.approved_by, recorded.event.occurred_at.ToDatetime(tzinfo=UTC)
    return request.approved_by, work.event.occurred_at.ToDatetime(tzinfo=UTC)


def poison(work: Work, _past: Past) -> Sequence[AnyFact]:
    """Delivery has fallen over this request too often."""
    reason = DeliveryFailure.DELIVERY_FAILURE_POISON
    return [failed(work.request_id, reason, f"delivery broke {work.deliveries} times over this request")]
