"""The review desk: what waits for an architect, and what they decide."""

import asyncio

import grpc
from artifacts import ArtifactDamaged, ArtifactMissing
from eventlog import Past
from factory.artifact.v1 import SEVERITY_BLOCKING, ArtifactRef, Change, Finding, Findings
from factory.gate.v1 import GateJudged, TestRun
from factory.review.v1 import (
    ApproveRequest,
    ApproveResponse,
    GetChangeRequest,
    GetChangeResponse,
    RejectRequest,
    RejectResponse,
    RequestChangesRequest,
    RequestChangesResponse,
    ReviewServiceServicer,
)
from runtime import Problem, Runtime, caller

from conductor import commands, rpc
from conductor.adapters.tasks import Tasks
from conductor.commands import Seen
from conductor.next_step import notes_for_reviewer
from conductor.secrets import secrets_in
from conductor.task import Blob
from conductor.wording import standing

REMARK_BYTES_MAX = 64 * 1024
COMMENTS_MAX = 200


class Reviews(ReviewServiceServicer):
    def __init__(self, rt: Runtime, tasks: Tasks) -> None:
        self._rt = rt
        self._tasks = tasks

    async def GetChange(self, request: GetChangeRequest, context: object) -> GetChangeResponse:
        known = await rpc.existing(self._tasks, request.task_id)
        task = known.task
        past = await self._rt.log.read(request.task_id, at_least=known.read_to)
        if not task.awaiting_review:
            raise Problem(
                rpc.FAILED_PRECONDITION, f"{request.task_id!r} has no change waiting for review; {standing(task)}"
            )
        missing: list[str] = []
        patch = await self._diff(task.change, missing)
        findings = [
            *await self._findings(task.gate_findings, "the gate's findings", missing),
            *await self._findings(task.review_findings, "the model reviewer's findings", missing),
        ]
        return GetChangeResponse(
            task_id=request.task_id,
            title=task.title,
            change_digest=task.change,
            evidence_digest=task.evidence,
            base_commit=task.base_commit,
            diff=patch,
            findings=findings,
            verdict=task.gate,
            tests=_tests(past, task.change),
            notes=notes_for_reviewer(task),
            position=rpc.position(known.read_to),
            missing=missing,
        )

    async def Approve(self, request: ApproveRequest, context: object) -> ApproveResponse:
        who = caller().subject
        remark = await self._remark(request.remark)
        seen = Seen(request.change_digest, request.evidence_digest)
        done = await rpc.commanded(
            self._tasks, request.task_id, lambda task: commands.approve(request.task_id, task, who, seen, remark)
        )
        return ApproveResponse(position=rpc.position(done.sequence))

    async def RequestChanges(self, request: RequestChangesRequest, context: object) -> RequestChangesResponse:
        who = caller().subject
        if not request.remark.strip() and not request.comments:
            raise Problem(
                grpc.StatusCode.INVALID_ARGUMENT,
                "remark: say what is to be changed, or comment on lines",
                violations=[("remark", "what is to be changed; found neither a remark nor comments")],
            )
        if len(request.comments) > COMMENTS_MAX:
            what = f"at most {COMMENTS_MAX} comments, found {len(request.comments)}"
            raise Problem(grpc.StatusCode.INVALID_ARGUMENT, what, violations=[("comments", what)])
        # Comments too: together they are no longer than one remark.
        await self._screen("\n".join([request.remark, *(comment.message for comment in request.comments)]))
        found = [
            Finding(
                source="human", rule="comment", severity=SEVERITY_BLOCKING, path=c.path, line=c.line, message=c.message
            )
            for c in request.comments
        ]
        if request.remark.strip():
            found.insert(0, Finding(source="human", rule="remark", severity=SEVERITY_BLOCKING, message=request.remark))
        ref = await self._rt.artifacts.put(Findings(findings=found).SerializeToString(deterministic=True))
        seen = Seen(request.change_digest, request.evidence_digest)
        done = await rpc.commanded(
            self._tasks, request.task_id, lambda task: commands.request_changes(request.task_id, task, who, seen, ref)
        )
        return RequestChangesResponse(position=rpc.position(done.sequence))

    async def Reject(self, request: RejectRequest, context: object) -> RejectResponse:
        who = caller().subject
        remark = await self._remark(request.remark)
        seen = Seen(request.change_digest, request.evidence_digest)
        done = await rpc.commanded(
            self._tasks, request.task_id, lambda task: commands.reject(request.task_id, task, who, seen, remark)
        )
        return RejectResponse(position=rpc.position(done.sequence))

    async def _remark(self, remark: str) -> ArtifactRef | None:
        await self._screen(remark)
        return await self._rt.artifacts.put(remark.encode()) if remark.strip() else None

    async def _screen(self, remark: str) -> None:
        if len(remark.encode()) > REMARK_BYTES_MAX:
            what = f"at most {REMARK_BYTES_MAX:,} bytes, found {len(remark.encode()):,}"
            raise Problem(grpc.StatusCode.INVALID_ARGUMENT, f"remark: {what}", violations=[("remark", what)])
        if secret := await asyncio.to_thread(lambda: next(secrets_in(remark), None)):
            what = f"no credentials, found what looks like a {secret.kind} in line {secret.line}"
            raise Problem(grpc.StatusCode.INVALID_ARGUMENT, f"remark: {what}", violations=[("remark", what)])

    async def _diff(self, digest: str, missing: list[str]) -> str:
        try:
            stored = await self._rt.artifacts.get(digest)
        except (ArtifactMissing, ArtifactDamaged) as error:
            missing.append(f"the change: {error}")
            return ""
        return Change.FromString(stored).patch.decode(errors="replace")

    async def _findings(self, blob: Blob | None, what: str, missing: list[str]) -> list[Finding]:
        if blob is None:
            return []
        try:
            return list(Findings.FromString(await self._rt.artifacts.get(blob.digest)).findings)
        except (ArtifactMissing, ArtifactDamaged) as error:
            missing.append(f"{what}: {error}")
            return []


def _tests(past: Past, change: str) -> TestRun | None:
    """The test run of the judgement that belongs to the change."""
    for recorded in reversed(past.events):
        for fact in recorded.facts:
            if isinstance(fact, GateJudged) and fact.change_digest == change:
                return fact.tests if fact.HasField("tests") else None
    return None
