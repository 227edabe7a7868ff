"""The real executor with two things replaced, so that nothing is measured but the way through the log.

The provider is in this process and answers at once. The desk is in this process too: no checkout, no edits applied, no
artifact on disk; `tests/bench/model_calls.py` measures the real one. The worker loop, the decisions, the prompt and every
fact are the executor's own.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from artifacts import ArtifactMissing
from artifacts.store import ref_for
from eventlog import Past
from eventlog.work import Work
from executor import app
from executor.adapters.jobs import Job, Material
from executor.adapters.received import OnText, Stopping
from executor.adapters.tree import Tree
from executor.answer import Answer, Question
from executor.brief import brief_of
from executor.phase import Judgement, Usable
from executor.prompt import Assignment
from executor.settings import settings_from
from factory.artifact.v1 import ArtifactRef
from factory.event.v1 import AnyFact
from factory.phase.v1 import VERDICT_APPROVE, PhaseCompleted, PhaseRequested
from factory.task.v1 import PHASE_KIND_REVIEW
from policy.models import models_from
from runtime import Runtime, Service, logs, serve
from runtime.run import run_loop, until_stopped
from runtime.settings import settings_from as shared_settings

USAGE = {"input_tokens": 2_000, "output_tokens": 500}


class InstantProvider:
    async def ask(self, question: Question, on_text: OnText, stopping: Stopping | None = None) -> Answer:
        on_text("Done.")
        return Answer(
            text="Done.",
            finish_reason="stop",
            raw_usage=USAGE,
            provider_model=question.provider_model,
            provider_request_id=question.call_id,
            http_status=200,
            time_to_first_token_s=0.0,
        )

    async def close(self) -> None:
        return


class Memory:
    """Artifacts that are named by their digest as ever, and kept in this process."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    async def put(self, data: bytes) -> ArtifactRef:
        ref = ref_for(data)
        self._kept[ref.digest] = data
        return ref

    async def get(self, digest: str) -> bytes:
        try:
            return self._kept[digest]
        except KeyError:
            raise ArtifactMissing(digest) from None


class WithoutDesk(app.Executor):
    async def handle(self, work: Work, past: Past) -> Sequence[AnyFact]:
        request = work.request
        assert isinstance(request, PhaseRequested)
        brief = brief_of(past.facts())
        found = {call.started.call_id for call in self._lane(request, past).open}
        assignment = Assignment(request.phase, request.round, brief.title, brief.type, brief.scope)
        material = Material(assignment, Tree(Path(), Path(), brief.base_commit))
        with self.stops.hints(work.id) as hinted:
            return await self._see_through(Job(work, request, material, past, hinted, found))

    async def _judged(self, job: Job, text: str) -> Judgement:
        request = job.request
        if request.phase == PHASE_KIND_REVIEW:
            return Usable(
                PhaseCompleted(
                    request_id=request.request_id, change_digest=request.change_digest, verdict=VERDICT_APPROVE
                )
            )
        change = await self.rt.artifacts.put(f"{job.work.id} {request.request_id}".encode())
        summary = await self.rt.artifacts.put(text.encode())
        return Usable(PhaseCompleted(request_id=request.request_id, change_digest=change.digest, summary=summary))


def service(env: Mapping[str, str]) -> Service:
    settings = settings_from(env, models_from(env))
    lane = f"executor-{settings.model.name}"

    async def setup(rt: Runtime) -> None:
        rt.artifacts = Memory()  # type: ignore[assignment]
        executor = WithoutDesk(rt, settings, wire=InstantProvider())
        await executor.stops.hear(rt.nc.subscribe, rt.settings.org)
        rt.worker(executor.handle, executor.poison, slots=settings.slots, closed=executor.closed)

    return Service(name=lane, lane=lane, setup=setup)


def main() -> None:
    env = {**os.environ, "EXECUTOR_MODEL": sys.argv[1]}
    settings = shared_settings(env)
    logs.configure(settings.log_format, settings.log_level)

    async def run_it() -> None:
        async with serve([(service(env), env)]) as house:
            await until_stopped(house)

    run_loop(run_it())


if __name__ == "__main__":
    main()
