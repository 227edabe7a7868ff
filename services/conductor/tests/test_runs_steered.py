"""Whole runs that people steer while models fail and money runs out: nothing comes in between that leaves them stuck.

Two tasks of one project, two conductors that read late. Whatever the order of things, each task ends, no request is made
twice, a late result changes nothing, one probe is under way at most, and each decision follows from the log again.
"""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from conductor.commands import Refused, Seen, approve, cancel, override, release, request_changes
from conductor.replay import made_again
from conductor.state import Kind
from conductor.task import PASSING_HOLDS
from eventlog.work import Request, lane_for
from factory.artifact.v1 import ArtifactRef
from factory.call.v1 import CALL_OUTCOME_ERROR, CALL_OUTCOME_OK, ModelCalled, ModelCallStarted, Usage
from factory.classification.v1 import TaskClassified
from factory.context.v1 import ContextGathered, ContextRequested
from factory.delivery.v1 import DeliveryRequested, PullRequestOpened
from factory.event.v1 import AnyFact
from factory.gate.v1 import GATE_VERDICT_BLOCK, GATE_VERDICT_PASS, GateJudged, GateRequested
from factory.phase.v1 import (
    PHASE_FAILURE_CONTEXT_TOO_LARGE,
    PHASE_FAILURE_MALFORMED,
    PHASE_FAILURE_OVERLOADED,
    PHASE_FAILURE_PAYMENT_REQUIRED,
    PHASE_FAILURE_SERVER_ERROR,
    VERDICT_APPROVE,
    VERDICT_REQUEST_CHANGES,
    PhaseCompleted,
    PhaseFailed,
    PhaseRequested,
)
from factory.task.v1 import (
    PHASE_KIND_IMPLEMENT,
    PHASE_KIND_REVIEW,
    SCOPE_FOCUSED,
    TASK_TYPE_UI,
    ClassificationRequested,
    Limits,
    TaskSubmitted,
)
from google.protobuf.duration_pb2 import Duration
from hypothesis import given as forall
from hypothesis import settings
from hypothesis import strategies as st
from policy.health import recovered_by_hand, tripped_by_hand
from policy.models import DEFAULT_MODELS

from tests.steered_run import CONDUCTOR, TASKS, Run

pytestmark = pytest.mark.slow  # some seconds: left to `just test`

MODELS = tuple(DEFAULT_MODELS)
REF = ArtifactRef(digest="f" * 64, size=1)
AMPLE = 10**12
ROUNDS_MAX, IDLE_MAX = 300, 6
PAUSES = [timedelta(seconds=s) for s in (1, 20, 61, 360, 1500, 7300)]
FAILURES = (
    PHASE_FAILURE_OVERLOADED,
    PHASE_FAILURE_SERVER_ERROR,
    PHASE_FAILURE_MALFORMED,
    PHASE_FAILURE_CONTEXT_TOO_LARGE,
)
DOES = ("decide", "decide", "decide", "decide", "begin", "answer", "answer", "answer", "late", "late", "override")
DOES += (
    "person",
    "person",
    "cancel",
    "time",
    "time",
    "storm",
    "watch",
    "watch",
    "operator",
    "raise",
    "settle",
    "sweep",
)
STEPS = st.lists(st.tuples(st.sampled_from(DOES), st.integers(0, 95)), min_size=40, max_size=80)


def submitted(title: str, max_cost: int | None = None, hours: int = 0) -> TaskSubmitted:
    fact = TaskSubmitted(title=title, project="shop", repository="/repo", submitted_by="ada")
    if max_cost is not None:
        fact.limits.max_cost_pico_usd = max_cost
    if hours:
        fact.limits.timeout.FromTimedelta(timedelta(hours=hours))
    return fact


def waiting_for(run: Run, id: str) -> Request | None:
    waiting = run.truth[id].waited_for()
    return waiting[1] if waiting else None


def begin(run: Run, id: str, request: PhaseRequested) -> bool:
    """An executor makes its call, if it was offered the request: its time has come, and its money is kept."""
    if request.HasField("not_before") and request.not_before.ToDatetime(run.now.tzinfo) > run.now:
        return False
    if f"{id}.{request.request_id}-1" in run.truth[id].calls:
        return True
    if not run.confirmed(id, request):
        return False
    model = DEFAULT_MODELS[request.model]
    started = ModelCallStarted(
        call_id=f"{id}.{request.request_id}-1",
        request_id=request.request_id,
        model=model.name,
        provider=model.provider,
        provider_model=model.provider_model,
        max_output_tokens=request.max_output_tokens,
        input_tokens_estimate=request.max_input_tokens or 5_000,
    )
    return run.say(lane_for(request), id, started)


def end(run: Run, id: str, request: PhaseRequested, how: int) -> bool:
    """The call has its end, and the request its result."""
    fact, outcome = result(request, how, len(run.log)), CALL_OUTCOME_OK
    if isinstance(fact, PhaseFailed) and fact.reason in FAILURES[:2]:
        outcome = CALL_OUTCOME_ERROR
    model = DEFAULT_MODELS[request.model]
    called = ModelCalled(
        call_id=f"{id}.{request.request_id}-1",
        request_id=request.request_id,
        model=model.name,
        provider=model.provider,
        provider_model=model.provider_model,
        outcome=outcome,
    )
    if outcome == CALL_OUTCOME_OK:
        called.usage.CopyFrom(Usage(input_tokens=900, output_tokens=request.max_output_tokens))
    else:
        called.http_status = 529
    return run.say(lane_for(request), id, called, fact)


def result(request: PhaseRequested, how: int, unique: int) -> PhaseCompleted | PhaseFailed:
    id = request.request_id
    if how % 3 == 2:
        wait = Duration(seconds=30 * (how % 5))
        return PhaseFailed(request_id=id, reason=FAILURES[how // 3 % 4], retry_after=wait)
    if request.phase == PHASE_KIND_REVIEW:
        return PhaseCompleted(request_id=id, verdict=VERDICT_REQUEST_CHANGES if how % 3 == 1 else VERDICT_APPROVE)
    return PhaseCompleted(request_id=id, change_digest=f"c{unique}")


def answer(run: Run, id: str, how: int) -> bool:
    """Whoever was asked answers the request that the task waits for."""
    request = waiting_for(run, id)
    match request:
        case None:
            return False
        case PhaseRequested():
            before = len(run.log)
            return (begin(run, id, request) and end(run, id, request, how)) or len(run.log) > before
        case ClassificationRequested(request_id=request_id):
            fact: AnyFact = TaskClassified(request_id=request_id, type=TASK_TYPE_UI, scope=SCOPE_FOCUSED)
        case ContextRequested(request_id=request_id):
            fact = ContextGathered(request_id=request_id, base_commit="b" * 40, snapshot=REF, pack=REF, tokens=9)
        case GateRequested(request_id=request_id, change_digest=change):
            verdict = GATE_VERDICT_BLOCK if how % 3 == 1 else GATE_VERDICT_PASS
            fact = GateJudged(request_id=request_id, change_digest=change, verdict=verdict)
        case DeliveryRequested(request_id=request_id):
            fact = PullRequestOpened(request_id=request_id, url="u", branch="b", commit="c")
    return run.say(lane_for(request), id, fact)


def late(run: Run, id: str, how: int) -> bool:
    """A call ends that nobody waits for any more; or a result is told a second time, by an executor that was slow."""
    known = run.truth[id]
    asked = [f for one in run.log if one.event.id == id for f in one.facts if isinstance(f, PhaseRequested)]
    void = [f for f in asked if known.task.open is None or f.request_id != known.task.open.request_id]
    if not void:
        return False
    request = void[how % len(void)]
    call = known.calls.get(f"{id}.{request.request_id}-1")
    if call is not None and call.ended is None:
        return end(run, id, request, how)
    return call is not None and run.say(lane_for(request), id, result(request, how, len(run.log)))


def person(run: Run, id: str, how: int) -> bool:
    """Approves, asks for changes, or lets a held task go on."""
    task = run.truth[id].task
    seen = Seen(task.change, task.evidence)
    try:
        match how % 3:
            case 0:
                return run.command(id, approve(id, task, "ada", seen, None))
            case 1:
                return run.command(id, request_changes(id, task, "ada", seen, REF))
            case _:
                return run.command(id, release(id, task, "ada", "again", Limits(max_cost_pico_usd=AMPLE)))
    except Refused:
        return False


def steer(run: Run, id: str, how: int) -> bool:
    """Gives a phase to a model, or takes that back; of a phase that is under way, too."""
    task = run.truth[id].task
    phases = [step.phase for step in task.steps] or [PHASE_KIND_IMPLEMENT]
    phase = task.open.phase if task.open and task.open.kind is Kind.PHASE else phases[how % len(phases)]
    model = (*MODELS, "")[how % 5]
    try:
        return run.command(id, override(id, task, run.rules, phase, model, "ada", "I know better"))
    except Refused:
        return False


def give_up(run: Run, id: str) -> bool:
    try:
        return run.command(id, cancel(id, run.truth[id].task, "ada"))
    except Refused:
        return False


def storm(run: Run, how: int) -> bool:
    """A model fails tasks that are none of ours, until its breaker ought to open."""
    model, unpaid = MODELS[how % 4], how % 3 == 0
    reason = PHASE_FAILURE_PAYMENT_REQUIRED if unpaid else PHASE_FAILURE_SERVER_ERROR
    for _ in range(2 if unpaid else 5):
        id = f"other-{len(run.log)}"
        run.say(CONDUCTOR, id, PhaseRequested(request_id="implement-1-1", phase=PHASE_KIND_IMPLEMENT, model=model))
        run.say(f"executor-{model}", id, PhaseFailed(request_id="implement-1-1", reason=reason))
    return True


def operate(run: Run, how: int) -> bool:
    model = MODELS[how % 4]
    by_hand = recovered_by_hand(model, "olga") if how % 3 else tripped_by_hand(model, "olga", run.now)
    return run.say(CONDUCTOR, f"model-{model}", by_hand)


def step(run: Run, what: str, how: int) -> None:
    who, id, how = how % 2, TASKS[how // 2 % 2], how // 4
    match what:
        case "decide":
            run.conductors[who].read(run.log, how)
            run.advance(who, id)
        case "begin":
            if isinstance(request := waiting_for(run, id), PhaseRequested):
                begin(run, id, request)
        case "answer":
            answer(run, id, how)
        case "late":
            late(run, id, how)
        case "person":
            person(run, id, how)
        case "override":
            steer(run, id, how)
        case "cancel":
            if how < 4:
                give_up(run, id)
        case "time":
            run.now += PAUSES[how % len(PAUSES)]
        case "storm":
            storm(run, how)
        case "watch":
            run.conductors[who].read(run.log, how)
            run.say_of_health(who)
            run.adopt(who)
        case "operator":
            operate(run, how)
        case "raise":
            run.order(200_000 * 2**how if how < 12 else AMPLE)
        case "settle":
            run.settle(who)
        case _:
            run.sweep()


def begun(run: Run) -> None:
    """Both tasks come as far as they may without a model, the way they always do."""
    for _ in range(4):
        for who, id in enumerate(TASKS):
            run.conductors[who].read(run.log)
            run.advance(who, id)
            if not isinstance(waiting_for(run, id), PhaseRequested):
                answer(run, id, 0)


def finish(run: Run) -> None:
    """Everything that is under way comes to its end: events are read, requests answered, questions too."""
    idle = 0
    for _ in range(ROUNDS_MAX):
        if all(known.task.ended is not None for known in run.truth.values()):
            return
        before = len(run.log)
        for who, conductor in enumerate(run.conductors):
            conductor.read(run.log)
            run.say_of_health(who)
            run.adopt(who)
            for id in TASKS:
                run.advance(who, id)
            run.settle(who)
        for id in TASKS:
            if run.truth[id].task.hold_cause in PASSING_HOLDS:
                continue  # it goes on by itself, or it is stuck
            if not answer(run, id, 0):
                person(run, id, 0 if not run.truth[id].task.held else 2)
        idle = idle + 1 if len(run.log) == before else 0
        if idle:
            run.now += timedelta(minutes=2)
            run.sweep()
        if idle == 2:
            run.order(AMPLE)
        assert idle < IDLE_MAX, [known.task for known in run.truth.values()]
    raise AssertionError(f"not at its end after {ROUNDS_MAX} rounds: {[known.task for known in run.truth.values()]}")


@settings(max_examples=80)
@forall(
    STEPS,
    st.sampled_from([100_000, 1_000_000, 10_000_000, AMPLE]),
    st.sampled_from([1, 2]),
    st.sampled_from([None, 400_000, 2_000_000]),
    st.sampled_from([0, 0, 5]),
)
def test_a_run_that_is_steered_is_never_stuck(
    steps: Sequence[tuple[str, int]], hard: int, open_tasks_max: int, max_cost: int | None, hours: int
):
    run = Run(hard, open_tasks_max, [submitted("One"), submitted("Two", max_cost, hours)])

    begun(run)
    for what, how in steps:
        step(run, what, how)
    finish(run)

    assert [one.recorded.sequence for one in made_again(run.log) if not one.is_same] == []
