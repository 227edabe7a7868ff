"""Hears ContextRequested; says ContextGathered or ContextFailed.

git and ranking run in threads: the loop that heartbeats never waits for them.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog
from artifacts import ArtifactDamaged, ArtifactMissing, Artifacts
from eventlog import Past
from factory.artifact.v1 import ArtifactRef
from factory.context.v1 import ContextFailed, ContextFailure, ContextGathered, ContextRequested
from factory.event.v1 import AnyFact
from factory.task.v1 import TaskSubmitted
from runtime import Runtime, Service, Work
from worktree import GitFailed, RefusedUrl, Snapshot

from context.adapters.repository import Repositories
from context.failure import failed
from context.pack import Packed, packed
from context.ranking import ranked
from context.tokens import TOKENIZER, count_tokens

log = structlog.get_logger()

BUDGET_TOKENS_DEFAULT = 24_000
BUDGET_TOKENS_MAX = 200_000
READ_HOST_DEFAULT = "github.com"


def service(env: Mapping[str, str]) -> Service:
    """The service as the runtime starts it."""

    async def setup(rt: Runtime) -> None:
        repositories = _repositories(env, rt.settings.allowed_roots, rt.settings.data)

        async def handle(work: Work, past: Past) -> Sequence[AnyFact]:
            return await gather(work, past, repositories, rt.artifacts)

        rt.worker(handle, poison)

    return Service(name="context", lane="context", setup=setup)


def _repositories(env: Mapping[str, str], allowed_roots: str, data: Path) -> Repositories:
    return Repositories(
        allowed_roots=tuple(Path(root) for root in allowed_roots.split(os.pathsep) if root),
        cache=Path(env.get("FACTORY_CONTEXT_CACHE") or data / "context-cache").absolute(),
        token=env.get("FACTORY_CONTEXT_READ_TOKEN", ""),
        token_host=env.get("FACTORY_CONTEXT_READ_HOST", READ_HOST_DEFAULT),
    )


async def gather(work: Work, past: Past, repositories: Repositories, artifacts: Artifacts) -> Sequence[AnyFact]:
    """Pins the tip of the base branch and packs what matters for the task."""
    request = work.request
    assert isinstance(request, ContextRequested), f"context was offered {request!r}"
    try:
        taken = await asyncio.to_thread(repositories.snapshot, request.repository, request.base_branch)
        query = await _query(past, artifacts)
        budget = min(request.budget_tokens or BUDGET_TOKENS_DEFAULT, BUDGET_TOKENS_MAX)
        packing = await asyncio.to_thread(_pack, repositories, taken, query, budget)
    except (GitFailed, RefusedUrl) as problem:
        log.warning("context.failed", task=work.id, kind=type(problem).__name__, problem=str(problem))
        return [failed(request.request_id, problem)]
    snapshot = await artifacts.put(taken.bundle)
    pack = await artifacts.put(packing.pack.SerializeToString(deterministic=True))
    log.info("context.gathered", task=work.id, commit=taken.base_commit, tokens=packing.tokens)
    return [_gathered(request.request_id, taken, packing, snapshot, pack)]


def _gathered(
    request_id: str, taken: Snapshot, packing: Packed, snapshot: ArtifactRef, pack: ArtifactRef
) -> ContextGathered:
    return ContextGathered(
        request_id=request_id,
        base_commit=taken.base_commit,
        base_branch=taken.base_branch,
        snapshot=snapshot,
        pack=pack,
        manifest=packing.manifest,
        tokens=packing.tokens,
        tokenizer=TOKENIZER,
        redactions=packing.redactions,
    )


def _pack(repositories: Repositories, taken: Snapshot, query: str, budget_tokens: int) -> Packed:
    return packed(query, ranked(query, repositories.files(taken)), budget_tokens, count_tokens)


async def _query(past: Past, artifacts: Artifacts) -> str:
    """Title and body of the task; a body that has been erased is done without."""
    for fact in past.facts():
        if isinstance(fact, TaskSubmitted):
            if not fact.HasField("body"):
                return fact.title
            try:
                body = await artifacts.get(fact.body.digest)
            except (ArtifactMissing, ArtifactDamaged) as problem:
                log.warning("context.body_unreadable", problem=str(problem))
                return fact.title
            return f"{fact.title}\n\n{body.decode(errors='replace')}"
    return ""


def poison(work: Work, _past: Past) -> Sequence[AnyFact]:
    """Said after several deliveries without an outcome, so that the task does not wait for ever."""
    return [
        ContextFailed(
            request_id=work.request_id,
            reason=ContextFailure.CONTEXT_FAILURE_POISON,
            detail=f"gathering context failed {work.deliveries - 1} times; the service's log says why",
        )
    ]
