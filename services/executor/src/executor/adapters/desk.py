"""What one request works with: the artifacts it names, and what its answers make of them.

Fetches and stores; whether an answer is asked for again is decided in `phase.py`.
"""

import asyncio
import base64
from dataclasses import dataclass

from artifacts import ArtifactDamaged, ArtifactMissing, Artifacts
from factory.artifact.v1 import ArtifactRef, Attachment, Change, Findings, Pack
from factory.phase.v1 import PHASE_FAILURE_ARTIFACT_MISSING, PhaseCompleted, PhaseRequested
from factory.task.v1 import PHASE_KIND_REVIEW
from google.protobuf.message import DecodeError

from executor.adapters.offload import worked
from executor.adapters.tree import Tree, change_by
from executor.answer import Answer, Image
from executor.brief import Brief
from executor.edits import DoesNotApply
from executor.judging import Reviewed, authored, reviewed, summary_of
from executor.outcome import failure_of
from executor.phase import Hopeless, Judgement, Unusable, Usable
from executor.prompt import ShownText
from executor.transcript import NotReadable, answer_from


class Gone(Exception):
    """An artifact that the work needs is missing, damaged or not what it should be."""


@dataclass(frozen=True, slots=True)
class Material:
    pack: Pack
    change: Change | None
    findings: Findings | None
    body: str
    texts: tuple[ShownText, ...] = ()
    images: tuple[Image, ...] = ()


async def fetched(artifacts: Artifacts, request: PhaseRequested, brief: Brief) -> Material:
    """Everything that the request names; raises Gone, naming what is not there."""
    if not brief.base_commit:
        raise Gone("no ContextGathered names the base commit")
    try:
        change, pack, findings, body, *attached = await asyncio.gather(
            _maybe(artifacts, request.change_digest),
            _maybe(artifacts, request.pack.digest),
            _maybe(artifacts, request.findings.digest),
            _maybe(artifacts, brief.body.digest if brief.body else ""),
            *(artifacts.get(one.artifact.digest) for one in request.attachments),
        )
        pairs = list(zip(request.attachments, attached, strict=True))
        return Material(
            pack=Pack.FromString(pack or b""),
            change=None if change is None else Change.FromString(change),
            findings=None if findings is None else Findings.FromString(findings),
            body=(body or b"").decode(errors="replace"),
            texts=tuple(
                ShownText(one.name, (data or b"").decode(errors="replace")) for one, data in pairs if not _is_image(one)
            ),
            images=tuple(_image(one, data or b"") for one, data in pairs if _is_image(one)),
        )
    except (ArtifactMissing, ArtifactDamaged, DecodeError) as error:
        raise Gone(str(error)) from error


async def judged(artifacts: Artifacts, tree: Tree, request: PhaseRequested, source: str, text: str) -> Judgement:
    """What an answer is worth; for one that can be used, its result is stored before this returns."""
    if request.phase == PHASE_KIND_REVIEW:
        return await _review(artifacts, request, source, text)
    written = await asyncio.to_thread(_written, tree, text)
    if isinstance(written, Unusable):
        return written
    change, summary = written
    stored, said = await asyncio.gather(
        artifacts.put(change.SerializeToString(deterministic=True)),
        _kept(artifacts, summary_of(summary)),
    )
    return Usable(PhaseCompleted(request_id=request.request_id, change_digest=stored.digest, summary=said))


async def recorded(artifacts: Artifacts, request: PhaseRequested, response: ArtifactRef) -> Answer | Hopeless:
    """The answer that a fact has put on record."""
    try:
        return answer_from(await artifacts.get(response.digest))
    except (ArtifactMissing, ArtifactDamaged, NotReadable) as error:
        return Hopeless(failure_of(request.request_id, PHASE_FAILURE_ARTIFACT_MISSING, f"recorded answer: {error}"))


def _written(tree: Tree, text: str) -> tuple[Change, str] | Unusable:
    """The change that an author's answer makes, and what it says about it."""
    blocks = authored(text)
    if isinstance(blocks, Unusable):
        return blocks
    try:
        return change_by(tree, blocks), blocks.summary
    except DoesNotApply as complaint:
        return Unusable(text, tree.redactions.hide_shown(str(complaint)))


async def _review(artifacts: Artifacts, request: PhaseRequested, source: str, text: str) -> Judgement:
    match await worked(len(text), reviewed, text, source):
        case Unusable() as unusable:
            return unusable
        case Reviewed(verdict=verdict, findings=findings, summary=summary) as review:
            found, said = await asyncio.gather(
                _kept(artifacts, findings.SerializeToString(deterministic=True)),
                _kept(artifacts, summary_of(summary)),
            )
            result = PhaseCompleted(
                request_id=request.request_id,
                change_digest=request.change_digest,
                verdict=verdict,
                findings=found,
                blocking_findings=review.blocking,
                summary=said,
            )
            return Usable(result)


def _is_image(attachment: Attachment) -> bool:
    return attachment.media_type.startswith("image/")


def _image(attachment: Attachment, data: bytes) -> Image:
    encoded = base64.b64encode(data).decode()
    return Image(attachment.name, attachment.media_type, attachment.artifact.digest, encoded)


async def _maybe(artifacts: Artifacts, digest: str) -> bytes | None:
    return await artifacts.get(digest) if digest else None


async def _kept(artifacts: Artifacts, data: bytes) -> ArtifactRef | None:
    """Stores what there is; nothing for nothing."""
    return await artifacts.put(data) if data else None
