"""One request in hand, with all that it is to be asked with."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from artifacts import ArtifactDamaged, ArtifactMissing, Artifacts
from eventlog import Past
from eventlog.work import Work, is_void
from factory.phase.v1 import (
    PHASE_FAILURE_ARTIFACT_MISSING,
    PHASE_FAILURE_INVALID_REQUEST,
    PHASE_FAILURE_UNAUTHENTICATED,
    PhaseFailed,
    PhaseRequested,
)
from worktree import TreeDiffers

from executor.adapters import desk
from executor.adapters.bases import Bases
from executor.adapters.tree import Tree, prepared
from executor.brief import Brief, brief_of
from executor.outcome import failure_of
from executor.phase import Judgement
from executor.prompt import Assignment, shown_files
from executor.settings import Settings


class CannotAsk(Exception):
    """The request cannot be asked of this model at all."""

    def __init__(self, failure: PhaseFailed) -> None:
        super().__init__(failure.detail)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Material:
    """What the model is told, and the files that its answer is about."""

    assignment: Assignment
    tree: Tree


@dataclass(slots=True)
class Job:
    """One request in hand."""

    work: Work
    request: PhaseRequested
    material: Material
    past: Past
    # set by whoever hints that the request may be wanted no more
    hinted: asyncio.Event
    # calls that were open when we came, or have taken too long since: their maker is gone, unless it is this process
    deserted: set[str]
    judged: dict[int, Judgement] = field(default_factory=dict)
    waiting_since: dict[str, float] = field(default_factory=dict)

    @property
    def is_wanted(self) -> bool:
        return not is_void(self.past, self.request.request_id, after=self.work.sequence)


@contextlib.asynccontextmanager
async def preparing(
    request: PhaseRequested, past: Past, settings: Settings, artifacts: Artifacts, bases: Bases
) -> AsyncIterator[Material]:
    """All that the request is asked with, kept while the block runs; raises CannotAsk where something is missing."""
    brief = brief_of(past.facts())
    async with contextlib.AsyncExitStack() as stack:
        try:
            found = await _found(request, brief, settings, artifacts)
            digest = request.snapshot.digest
            base = await stack.enter_async_context(
                bases.checked_out(digest, brief.base_commit, partial(artifacts.get, digest))
            )
            tree = await _prepared(request, brief, found, base, bases)
            stack.push_async_callback(_removed, tree)
        except (desk.Gone, ArtifactMissing, ArtifactDamaged, TreeDiffers) as gone:
            raise CannotAsk(failure_of(request.request_id, PHASE_FAILURE_ARTIFACT_MISSING, str(gone))) from gone
        yield Material(_assignment(request, brief, found, tree), tree)


async def _prepared(request: PhaseRequested, brief: Brief, found: desk.Material, base: Path, bases: Bases) -> Tree:
    """The tree, with what its pack hides; that is learned once for all requests of the same base and pack."""
    key = f"{request.snapshot.digest} {brief.base_commit} {request.pack.digest}"
    known, root = bases.redactions(key), bases.scratch()
    if known is not None and found.change is None:
        return Tree(base, root, brief.base_commit, redactions=known)
    told = (brief.base_commit, found.change, request.change_digest, found.pack, known)
    tree = await asyncio.to_thread(prepared, base, root, *told)
    bases.has_learned(key, tree.redactions)
    return tree


async def _removed(tree: Tree) -> None:
    if tree.is_own:
        await asyncio.to_thread(shutil.rmtree, tree.root, ignore_errors=True)


async def _found(request: PhaseRequested, brief: Brief, settings: Settings, artifacts: Artifacts) -> desk.Material:
    model = settings.model
    if not settings.api_key:
        missing = f"no key for {model.name!r}: {model.key_env} is not set"
        raise CannotAsk(failure_of(request.request_id, PHASE_FAILURE_UNAUTHENTICATED, missing))
    found = await desk.fetched(artifacts, request, brief)
    if found.images and not model.image_input:
        detail = f"{model.name!r} takes no images, and is to be shown {found.images[0].name!r}"
        raise CannotAsk(failure_of(request.request_id, PHASE_FAILURE_INVALID_REQUEST, detail))
    return found


def _assignment(request: PhaseRequested, brief: Brief, found: desk.Material, tree: Tree) -> Assignment:
    return Assignment(
        phase=request.phase,
        round=request.round,
        title=brief.title,
        type=brief.type,
        scope=brief.scope,
        body=found.body,
        files=shown_files(found.pack.files, tree.touched),
        diff=tree.diff,
        findings=found.findings,
        texts=found.texts,
        images=found.images,
    )
