"""What a watcher sees of a task: one step per piece of work, folded from the events as they come.

Pure. The facts decide; nothing here asks the factory anything or draws anything.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from factory.call.v1 import ModelCalled, ModelCallStarted
from factory.classification.v1 import TaskClassified
from factory.context.v1 import ContextFailed, ContextFailure, ContextGathered, ContextRequested
from factory.delivery.v1 import DeliveryFailed, DeliveryRequested, PullRequestOpened
from factory.event.v1 import AnyFact, Event
from factory.gate.v1 import GateJudged, GateRequested
from factory.phase.v1 import (
    REWORK_CAUSE_GATE,
    REWORK_CAUSE_HUMAN,
    VERDICT_REQUEST_CHANGES,
    PhaseCompleted,
    PhaseFailed,
    PhaseRequested,
    PhaseRerouted,
    PhaseSkipped,
    ReworkCause,
    ReworkRequested,
)
from factory.review.v1 import ChangesRequested, HumanReviewRequested, TaskApproved, TaskRejected
from factory.task.v1 import (
    ClassificationRequested,
    RequestExpired,
    RoutingOverridden,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskHeld,
    TaskPlanned,
    TaskReleased,
    TaskSubmitted,
    WatchResponse,
)

from factory_client.words import cause_word, failure_word, phase_word, plural, scope_word, type_word, verdict_word, word

CLASSIFY, CONTEXT, GATE, HUMAN, DELIVERY = "classify", "gather context", "quality gate", "human review", "pull request"

CAUSES: dict[ReworkCause, str] = {REWORK_CAUSE_GATE: "the quality gate", REWORK_CAUSE_HUMAN: "human review"}


class Stage(Enum):
    """How far a step is."""

    PLANNED = "planned"
    RUNNING = "running"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Step:
    """One piece of work, by one worker."""

    label: str
    stage: Stage = Stage.PLANNED
    # Request id; empty while only planned, and for the human's turn.
    request: str = ""
    who: str = ""
    began_s: float = 0
    ended_s: float = 0
    tokens: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """A task as its watcher sees it. Times are seconds of the log's clock."""

    title: str = ""
    steps: tuple[Step, ...] = ()
    began_s: float = 0
    latest_s: float = 0
    # What a reader must know now: why it is held, or how it ended.
    remark: str = ""
    # Why the next step begins again: "rework after model review".
    because: str = ""


def advance(progress: Progress, response: WatchResponse) -> Progress:
    """The progress after one more event."""
    now_s = response.occurred_at.ToNanoseconds() / 1e9
    progress = replace(progress, latest_s=now_s, began_s=progress.began_s or now_s)
    if not response.event:
        return progress
    for fact in Event.FromString(response.event).facts:
        arm = fact.WhichOneof("fact")
        if arm is not None:  # a kind of fact that this release does not know changes nothing here
            progress = _with(progress, getattr(fact, arm), now_s)
    return progress


def _with(progress: Progress, fact: AnyFact, now_s: float) -> Progress:
    match fact:
        case TaskSubmitted(title=title):
            return replace(progress, title=title)
        case TaskPlanned(phases=phases):
            planned = [Step(phase_word(one.phase), who=one.model) for one in phases]
            rest = (Step(GATE, who="tools"), Step(HUMAN, who="you"), Step(DELIVERY, who="delivery"))
            return replace(progress, steps=(*progress.steps, *planned, *rest))
        case ReworkRequested(cause=cause):
            return replace(progress, because=f"again, after {CAUSES.get(cause, cause_word(cause))}")
        case RoutingOverridden(model=model, overridden_by=who, request_id=request):
            given = f"given to {model} by {who}" if model else f"given back to its route by {who}"
            return (
                replace(_ended(progress, request, now_s, given, Stage.FAILED), because=given) if request else progress
            )
        case RequestExpired(request_id=request):
            return _ended(progress, request, now_s, "not answered by its deadline", Stage.FAILED)
        case PhaseRerouted(from_model=before, to_model=model, reason=reason):
            return replace(progress, because=f"{model} instead of {before}: {failure_word(reason)}")
        case TaskHeld(reason=reason):
            return replace(progress, remark=f"held: {reason}")
        case TaskReleased():
            return replace(progress, remark="")
        case TaskCompleted():
            return replace(progress, remark="")
        case TaskFailed(reason=reason):
            return replace(_stopped(progress, now_s), remark=f"failed: {reason}")
        case TaskCancelled(cancelled_by=who):
            return replace(_stopped(progress, now_s), remark=f"cancelled by {who}")
        case ModelCalled():
            return _counted(progress, fact)
        case ModelCallStarted():
            return progress
        case _:
            return _of_work(progress, fact, now_s)


def _of_work(progress: Progress, fact: AnyFact, now_s: float) -> Progress:
    """Facts that begin or end a step."""
    match fact:
        case ClassificationRequested(request_id=request):
            return _began(progress, CLASSIFY, "classifier", request, now_s)
        case TaskClassified(request_id=request, type=kind, scope=scope):
            return _ended(progress, request, now_s, f"{type_word(kind)}, {scope_word(scope)}")
        case ContextRequested(request_id=request):
            return _began(progress, CONTEXT, "context", request, now_s)
        case ContextGathered(request_id=request, manifest=manifest, tokens=tokens):
            files = len({entry.path for entry in manifest})
            return _ended(progress, request, now_s, f"{plural(files, 'file')}, {tokens:,} tokens")
        case ContextFailed(request_id=request, reason=reason, detail=detail):
            return _ended(progress, request, now_s, detail or word(ContextFailure, reason), Stage.FAILED)
        case PhaseRequested(request_id=request, phase=phase, model=model):
            return _began(progress, phase_word(phase), model, request, now_s)
        case PhaseCompleted():
            return _ended(progress, fact.request_id, now_s, _outcome(fact))
        case PhaseFailed(request_id=request, reason=reason):
            return _ended(progress, request, now_s, failure_word(reason), Stage.FAILED)
        case PhaseSkipped(phase=phase, reason=reason):
            return _skipped(progress, phase_word(phase), now_s, reason)
        case GateRequested(request_id=request):
            return _began(progress, GATE, "tools", request, now_s)
        case GateJudged():
            return _ended(progress, fact.request_id, now_s, _judgement(fact))
        case DeliveryRequested(request_id=request):
            return _began(progress, DELIVERY, "delivery", request, now_s)
        case PullRequestOpened(request_id=request, branch=branch):
            return _ended(progress, request, now_s, branch)
        case DeliveryFailed(request_id=request, detail=detail):
            return _ended(progress, request, now_s, detail, Stage.FAILED)
        case _:
            return _of_people(progress, fact, now_s)


def _of_people(progress: Progress, fact: AnyFact, now_s: float) -> Progress:
    """Facts about what a human is asked and says; any other changes nothing that a watcher sees."""
    match fact:
        case HumanReviewRequested():
            return _began(progress, HUMAN, "you", HUMAN, now_s)
        case TaskApproved(approved_by=who):
            return _ended(progress, HUMAN, now_s, f"approved by {who}")
        case ChangesRequested(requested_by=who):
            return _ended(progress, HUMAN, now_s, f"sent back by {who}")
        case TaskRejected(rejected_by=who):
            return _ended(progress, HUMAN, now_s, f"rejected by {who}", Stage.FAILED)
        case _:
            return progress


def _outcome(fact: PhaseCompleted) -> str:
    if not fact.verdict:
        return ""
    if fact.verdict == VERDICT_REQUEST_CHANGES:
        return f"asks for changes: {plural(fact.blocking_findings, 'blocking finding')}"
    return "approves"


def _judgement(fact: GateJudged) -> str:
    parts = [verdict_word(fact.verdict)]
    if fact.HasField("tests"):
        failed = fact.tests.failed + fact.tests.errors
        parts.append(f"{plural(fact.tests.passed, 'test')} passed" + (f", {failed} failed" if failed else ""))
    if fact.blocking_findings:
        parts.append(plural(fact.blocking_findings, "blocking finding"))
    if fact.unknown_because:
        parts.append(fact.unknown_because)
    return " · ".join(parts)


def _began(progress: Progress, label: str, who: str, request: str, now_s: float) -> Progress:
    """A step starts: the planned one of that name if it is still to come, else one more before what is planned."""
    step = Step(label, Stage.RUNNING, request, who, began_s=now_s, note=progress.because)
    steps = list(progress.steps)
    planned = [index for index, one in enumerate(steps) if one.stage is Stage.PLANNED]
    same = next((index for index in planned if steps[index].label == label), None)
    if same is not None and not progress.because:
        steps[same] = step
    else:
        steps.insert(planned[0] if planned else len(steps), step)
    return replace(progress, steps=tuple(steps), because="")


def _ended(progress: Progress, request: str, now_s: float, note: str, stage: Stage = Stage.DONE) -> Progress:
    def end(step: Step) -> Step:
        if step.stage is not Stage.RUNNING:
            return step
        said = " · ".join(part for part in (note, step.note) if part)
        return replace(step, stage=stage, ended_s=now_s, note=said)

    return _changed(progress, request, end)


def _skipped(progress: Progress, label: str, now_s: float, reason: str) -> Progress:
    """A planned step is left out; it stays on the screen, with the reason."""
    steps = list(progress.steps)
    for index, step in enumerate(steps):
        if step.label == label and step.stage is Stage.PLANNED:
            steps[index] = replace(step, stage=Stage.SKIPPED, began_s=now_s, ended_s=now_s, note=f"skipped: {reason}")
            break
    return replace(progress, steps=tuple(steps))


def _counted(progress: Progress, call: ModelCalled) -> Progress:
    usage = call.usage
    tokens = sum(value for field, value in usage.ListFields() if field.name.endswith("_tokens"))
    return _changed(progress, call.request_id, lambda step: replace(step, tokens=step.tokens + tokens))


def _stopped(progress: Progress, now_s: float) -> Progress:
    """The task has ended early: what ran has failed, what was planned will not come."""
    kept = [step for step in progress.steps if step.stage is not Stage.PLANNED]
    ended = [replace(s, stage=Stage.FAILED, ended_s=now_s) if s.stage is Stage.RUNNING else s for s in kept]
    return replace(progress, steps=tuple(ended))


def _changed(progress: Progress, request: str, change: Callable[[Step], Step]) -> Progress:
    """The last step of that request, changed; a request that no step has changes nothing."""
    for index in range(len(progress.steps) - 1, -1, -1):
        step = progress.steps[index]
        if request and step.request == request:
            steps = (*progress.steps[:index], change(step), *progress.steps[index + 1 :])
            return replace(progress, steps=steps)
    return progress
