"""Hears ClassificationRequested; says TaskClassified."""

import asyncio
from collections.abc import Mapping, Sequence

import structlog
from artifacts import ArtifactDamaged, ArtifactMissing, Artifacts
from eventlog import Past
from factory.classification.v1 import TaskClassified, TypeScore
from factory.event.v1 import AnyFact
from factory.task.v1 import Scope, TaskSubmitted, TaskType
from runtime import Runtime, Service, Work

from classifier.classification import Classification, classify, name_of

log = structlog.get_logger()


def service(env: Mapping[str, str]) -> Service:  # noqa: ARG001  # every service is made from its environment
    """The service as the runtime starts it."""

    async def setup(rt: Runtime) -> None:
        async def handle(work: Work, past: Past) -> Sequence[AnyFact]:
            return await judge(work, past, rt.artifacts)

        rt.worker(handle, poison)

    return Service(name="classifier", lane="classifier", setup=setup)


async def judge(work: Work, past: Past, artifacts: Artifacts) -> Sequence[AnyFact]:
    """Classifies the task that the past submits."""
    task = next((fact for fact in past.facts() if isinstance(fact, TaskSubmitted)), None)
    if task is None:
        raise LookupError(f"task {work.id!r} asks for a type, but its past holds no TaskSubmitted")
    body = await _body(task, artifacts)
    # A thread, because rules over a long body take longer than a heartbeat should wait behind.
    judged = await asyncio.to_thread(
        classify, task.title, body, asked_type=task.asked_type, asked_scope=task.asked_scope
    )
    log.info("task.classified", task=work.id, type=name_of(judged.type), confidence=round(judged.confidence, 3))
    return [classified(work.request_id, judged)]


def classified(request_id: str, judged: Classification) -> TaskClassified:
    return TaskClassified(
        request_id=request_id,
        type=judged.type,
        scope=judged.scope,
        scores=[TypeScore(type=type, score=score) for type, score in judged.scores],
        confidence=judged.confidence,
        version=judged.version,
        method=judged.method,
        reasons=judged.reasons,
    )


async def _body(task: TaskSubmitted, artifacts: Artifacts) -> str:
    """A body that has been erased is done without: the title says what is wanted."""
    if not task.HasField("body"):
        return ""
    try:
        return (await artifacts.get(task.body.digest)).decode(errors="replace")
    except (ArtifactMissing, ArtifactDamaged) as problem:
        log.warning("classification.body_unreadable", problem=str(problem))
        return ""


def poison(work: Work, _past: Past) -> Sequence[AnyFact]:
    """A task that could not be classified still goes on, as what an empty text would be; the human sees why."""
    judged = classify("")
    fact = classified(work.request_id, judged)
    fact.reasons.append(f"classification failed {work.deliveries - 1} times; the service's log says why")
    fact.scope = Scope.SCOPE_FOCUSED
    assert fact.type != TaskType.TASK_TYPE_UNSPECIFIED
    return [fact]
