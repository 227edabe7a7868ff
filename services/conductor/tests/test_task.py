"""The life of a task, told in facts: what follows from what."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import reduce

from conductor.next_step import decide, next_step
from conductor.task import NEW, Task, happened
from conductor.world import World
from eventlog.work import Request
from factory.artifact.v1 import ArtifactRef
from factory.call.v1 import ModelCallStarted
from factory.classification.v1 import TaskClassified
from factory.context.v1 import (
    CONTEXT_FAILURE_NO_COMMITS,
    CONTEXT_FAILURE_UNREACHABLE,
    ContextFailed,
    ContextGathered,
    ContextRequested,
)
from factory.delivery.v1 import DeliveryRequested, PullRequestOpened
from factory.event.v1 import AnyFact
from factory.gate.v1 import (
    GATE_VERDICT_BLOCK,
    GATE_VERDICT_PASS,
    GATE_VERDICT_UNKNOWN,
    GateJudged,
    GateRequested,
    GateVerdict,
)
from factory.phase.v1 import (
    PHASE_FAILURE_MALFORMED,
    PHASE_FAILURE_RATE_LIMITED,
    REWORK_CAUSE_GATE,
    REWORK_CAUSE_HUMAN,
    REWORK_CAUSE_MODEL_REVIEW,
    VERDICT_APPROVE,
    VERDICT_REQUEST_CHANGES,
    PhaseCompleted,
    PhaseFailed,
    PhaseRequested,
    PhaseRerouted,
    PhaseSkipped,
    ReworkRequested,
    Verdict,
)
from factory.review.v1 import ChangesRequested, HumanReviewRequested, TaskApproved
from factory.task.v1 import (
    HOLD_CAUSE_TROUBLE,
    SCOPE_FEATURE,
    SCOPE_FOCUSED,
    TASK_TYPE_API,
    TASK_TYPE_ARCHITECTURE,
    TASK_TYPE_UI,
    ClassificationRequested,
    Limits,
    PhaseKind,
    TaskCompleted,
    TaskFailed,
    TaskHeld,
    TaskPlanned,
    TaskReleased,
    TaskSubmitted,
)
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given as forall
from hypothesis import strategies as st
from policy.models import DEFAULT_MODELS
from policy.prices import PriceBook

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
WORLD = World(DEFAULT_MODELS, {}, PriceBook(()), NOW)

SUBMITTED = TaskSubmitted(title="Create user authentication with JWT tokens", repository="/repo", submitted_by="ada")
CONTEXT = ContextGathered(
    request_id="context-1-1",
    base_commit="b" * 40,
    base_branch="main",
    snapshot=ArtifactRef(digest="5" * 64, size=1),
    pack=ArtifactRef(digest="6" * 64, size=1),
    tokens=1000,
)
FINDINGS = ArtifactRef(digest="f" * 64, size=10)


def stamp(**after: float) -> Timestamp:
    moment = Timestamp()
    moment.FromDatetime(NOW + timedelta(**after))
    return moment


def classified(type, scope=SCOPE_FOCUSED) -> TaskClassified:
    return TaskClassified(request_id="classification-1-1", type=type, scope=scope)


def done(request_id: str, change: str) -> PhaseCompleted:
    return PhaseCompleted(request_id=request_id, change_digest=change)


def reviewed(request_id: str, verdict: Verdict) -> PhaseCompleted:
    found = FINDINGS if verdict == VERDICT_REQUEST_CHANGES else None
    return PhaseCompleted(request_id=request_id, verdict=verdict, findings=found)


def judged(request_id: str, verdict: GateVerdict = GATE_VERDICT_PASS) -> GateJudged:
    return GateJudged(request_id=request_id, verdict=verdict, evidence=ArtifactRef(digest="e" * 64))


def given(*facts: AnyFact | None, world: World = WORLD) -> Task:
    """A task to which these things happened, with everything decided that followed in between."""
    task = NEW
    for fact in facts:
        task = happened(task, fact, world.now)
        task = reduce(lambda t, f: happened(t, f, world.now), decide(task, world), task)
    return task


def then(*facts: AnyFact, world: World = WORLD) -> list[AnyFact]:
    """What the last of these facts leads to."""
    return decide(happened(given(*facts[:-1], world=world), facts[-1], world.now), world)


def asked(facts: list[AnyFact]) -> list[tuple[str, str]]:
    return [(f.request_id, f.model) for f in facts if isinstance(f, PhaseRequested)]


FEATURE = (SUBMITTED, classified(TASK_TYPE_API, SCOPE_FEATURE), CONTEXT)
DESIGNED = (*FEATURE, done("design-1-1", "c1"), done("implement-1-1", "c2"))


def test_a_submitted_task_is_classified_first():
    assert then(SUBMITTED) == [ClassificationRequested(request_id="classification-1-1", deadline=stamp(minutes=30))]


def test_a_classified_task_gets_its_context_and_a_planned_one_its_first_phase():
    assert isinstance(then(SUBMITTED, classified(TASK_TYPE_API))[0], ContextRequested)

    facts = then(*FEATURE)
    assert isinstance(facts[0], TaskPlanned)
    assert asked(facts) == [("design-1-1", "claude")]


def test_a_pack_is_asked_for_that_fits_the_window_of_the_only_model_there_is():
    gpt = replace(DEFAULT_MODELS["gpt"], context_window_tokens=8_192, max_output_tokens=1_024)
    only = {name: "" if name == "gpt" else "not configured" for name in DEFAULT_MODELS}
    small = World({**DEFAULT_MODELS, "gpt": gpt}, only, PriceBook(()), NOW)

    [asked_for] = then(SUBMITTED, classified(TASK_TYPE_API), world=small)

    assert isinstance(asked_for, ContextRequested) and asked_for.budget_tokens == 3_168
    cut = ContextGathered(request_id="context-1-1", base_commit="b" * 40, tokens=asked_for.budget_tokens)
    assert asked(then(SUBMITTED, classified(TASK_TYPE_API), cut, world=small)) == [("implement-1-1", "gpt")]


def test_architecture_is_designed_by_claude_then_reviewed_by_gemini():
    start = (SUBMITTED, classified(TASK_TYPE_ARCHITECTURE), CONTEXT)

    assert asked(then(*start)) == [("design-1-1", "claude")]
    assert asked(then(*start, done("design-1-1", "c1"))) == [("review-1-1", "gemini")]
    assert isinstance(then(*start, done("design-1-1", "c1"), reviewed("review-1-1", VERDICT_APPROVE))[0], GateRequested)


def test_a_feature_goes_from_design_to_tests_by_the_model_of_each_phase():
    assert asked(then(*FEATURE, done("design-1-1", "c1"))) == [("implement-1-1", "gpt")]
    assert asked(then(*DESIGNED)) == [("review-1-1", "gemini")]
    approved = (*DESIGNED, reviewed("review-1-1", VERDICT_APPROVE))
    assert asked(then(*approved)) == [("refactor-1-1", "deepseek")]
    assert asked(then(*approved, done("refactor-1-1", "c3"))) == [("write_tests-1-1", "gpt")]


def test_a_reviewer_who_asks_for_changes_sends_the_findings_back_to_the_author():
    facts = then(*DESIGNED, reviewed("review-1-1", VERDICT_REQUEST_CHANGES))

    rework = next(f for f in facts if isinstance(f, ReworkRequested))
    assert (rework.phase, rework.round, rework.cause) == (PhaseKind.PHASE_KIND_IMPLEMENT, 2, REWORK_CAUSE_MODEL_REVIEW)
    request = next(f for f in facts if isinstance(f, PhaseRequested))
    assert (request.request_id, request.model, request.findings) == ("implement-2-1", "gpt", FINDINGS)
    assert asked(then(*DESIGNED, reviewed("review-1-1", VERDICT_REQUEST_CHANGES), done("implement-2-1", "c3"))) == [
        ("review-2-1", "gemini")
    ]


def test_after_two_rounds_of_rework_a_human_decides_and_is_told():
    history = DESIGNED
    for n in (1, 2, 3):
        history = (*history, reviewed(f"review-{n}-1", VERDICT_REQUEST_CHANGES))
        if n < 3:
            history = (*history, done(f"implement-{n + 1}-1", f"c2{n}"))
    assert asked(then(*history)) == [("refactor-1-1", "deepseek")]

    facts = then(*history, done("refactor-1-1", "c8"), done("write_tests-1-1", "c9"), judged("gate-1-1"))

    assert isinstance(facts[0], HumanReviewRequested)
    assert "gemini still asks for changes after 2 rounds of rework" in facts[0].notes


def focused_api(*more: AnyFact) -> tuple[AnyFact, ...]:
    return (
        SUBMITTED,
        classified(TASK_TYPE_API),
        CONTEXT,
        done("implement-1-1", "c1"),
        done("write_tests-1-1", "c2"),
        *more,
    )


def test_a_gate_that_blocks_sends_the_change_back_and_one_that_cannot_tell_leaves_it_to_a_human():
    facts = then(*focused_api(judged("gate-1-1", GATE_VERDICT_BLOCK)))
    assert [f.cause for f in facts if isinstance(f, ReworkRequested)] == [REWORK_CAUSE_GATE]
    assert asked(facts) == [("implement-2-1", "gpt")]

    unknown = GateJudged(request_id="gate-1-1", verdict=GATE_VERDICT_UNKNOWN, unknown_because="no sandbox")
    [asks] = then(*focused_api(unknown))
    assert isinstance(asks, HumanReviewRequested)
    assert list(asks.notes) == ["the gate could not judge this change: no sandbox"]


def test_an_approved_change_is_delivered_and_its_pull_request_completes_the_task():
    waiting = focused_api(judged("gate-1-1"))
    approved = TaskApproved(approved_by="ada", change_digest="c2")

    [delivery] = then(*waiting, approved)
    assert isinstance(delivery, DeliveryRequested)
    assert (delivery.change_digest, delivery.base_commit) == ("c2", "b" * 40)
    opened = PullRequestOpened(request_id="delivery-1-1", url="u")
    assert then(*waiting, approved, opened) == [TaskCompleted(pull_request_url="u")]


def test_a_human_who_asks_for_changes_starts_another_round_that_does_not_count_against_the_models():
    rework = ReworkRequested(
        phase=PhaseKind.PHASE_KIND_IMPLEMENT, round=2, cause=REWORK_CAUSE_HUMAN, change_digest="c2", findings=FINDINGS
    )

    task = given(*focused_api(judged("gate-1-1"), ChangesRequested(change_digest="c2"), rework))

    assert task.open is not None and task.open.request_id == "implement-2-1"
    assert task.reworks == 0


def test_a_rate_limited_model_is_asked_again_later_and_then_replaced():
    limited = PhaseFailed(
        request_id="implement-1-1", reason=PHASE_FAILURE_RATE_LIMITED, retry_after=Duration(seconds=7)
    )
    start = (SUBMITTED, classified(TASK_TYPE_API), CONTEXT)

    [again] = then(*start, limited)
    assert isinstance(again, PhaseRequested)
    assert (again.request_id, again.model) == ("implement-1-2", "gpt")
    assert again.not_before.ToDatetime(tzinfo=UTC) == NOW + timedelta(seconds=7)

    rerouted, other = then(*start, limited, PhaseFailed(request_id="implement-1-2", reason=PHASE_FAILURE_RATE_LIMITED))
    assert isinstance(rerouted, PhaseRerouted) and (rerouted.from_model, rerouted.to_model) == ("gpt", "claude")
    assert asked([other]) == [("implement-1-3", "claude")]


def test_a_phase_that_no_model_can_do_holds_the_task_until_it_is_released():
    history: tuple[AnyFact, ...] = (SUBMITTED, classified(TASK_TYPE_API), CONTEXT)
    for n in range(1, 5):
        history = (*history, PhaseFailed(request_id=f"implement-1-{n}", reason=PHASE_FAILURE_MALFORMED))

    [held] = then(*history)
    assert isinstance(held, TaskHeld) and "gpt: malformed" in held.reason
    assert asked(then(*history, TaskReleased(released_by="ada"))) == [("implement-1-5", "gpt")]


def test_a_reviewer_that_fails_everywhere_is_left_out_and_the_human_is_told():
    world = World(DEFAULT_MODELS, {"claude": "no key", "deepseek": "no key"}, PriceBook(()), NOW)
    history = (SUBMITTED, classified(TASK_TYPE_UI), CONTEXT, done("implement-1-1", "c1"))
    refused = PhaseFailed(request_id="review-1-1", reason=PHASE_FAILURE_MALFORMED)

    facts = then(*history, refused, world=world)

    assert isinstance(facts[0], PhaseSkipped)
    assert asked(facts) == [("write_tests-1-1", "gpt")]


def test_a_review_is_never_by_the_authors_own_family():
    world = World(DEFAULT_MODELS, {"gpt": "no key", "gemini": "no key", "deepseek": "no key"}, PriceBook(()), NOW)

    [planned, *_] = then(*FEATURE, world=world)

    assert isinstance(planned, TaskPlanned)
    assert all(phase.phase != PhaseKind.PHASE_KIND_REVIEW for phase in planned.phases)
    assert any(note.startswith("no model review") for note in planned.notes)


def test_without_any_model_the_task_fails_and_says_why():
    world = World(DEFAULT_MODELS, dict.fromkeys(DEFAULT_MODELS, "not configured"), PriceBook(()), NOW)

    [failed] = then(*FEATURE, world=world)

    assert isinstance(failed, TaskFailed) and "claude: not configured" in failed.reason


def test_a_repository_without_commits_fails_the_task_and_one_that_cannot_be_reached_holds_it():
    start = (SUBMITTED, classified(TASK_TYPE_API))
    empty = ContextFailed(request_id="context-1-1", reason=CONTEXT_FAILURE_NO_COMMITS, detail="no commits")
    away = ContextFailed(request_id="context-1-1", reason=CONTEXT_FAILURE_UNREACHABLE, detail="no route")

    assert then(*start, empty) == [TaskFailed(reason="no commits")]
    assert then(*start, away) == [TaskHeld(reason="no route", cause=HOLD_CAUSE_TROUBLE)]
    [again] = then(*start, away, TaskReleased(released_by="ada"))
    assert isinstance(again, ContextRequested) and again.request_id == "context-1-2"


def test_a_cost_limit_that_an_unpriced_model_cannot_keep_holds_the_task():
    limited = TaskSubmitted(title="t", limits=Limits(max_cost_pico_usd=1))

    facts = then(limited, classified(TASK_TYPE_API), CONTEXT)

    assert isinstance(facts[-1], TaskHeld) and "no price" in facts[-1].reason


def test_a_trouble_without_words_holds_the_task_once():
    facts = then(
        SUBMITTED,
        classified(TASK_TYPE_API),
        ContextFailed(reason=CONTEXT_FAILURE_UNREACHABLE, request_id="context-1-1"),
    )

    assert [type(fact) for fact in facts] == [TaskHeld]


def test_a_model_that_lost_its_key_since_the_plan_is_not_asked_and_one_that_has_it_now_is():
    without_gpt = replace(WORLD, ruled_out={"gpt": "not configured: no OPENAI_API_KEY"})
    planned = given(SUBMITTED, classified(TASK_TYPE_UI), CONTEXT)
    only_claude = replace(WORLD, ruled_out=dict.fromkeys(("gpt", "gemini", "deepseek"), "not configured: no key"))
    planned_without = given(SUBMITTED, classified(TASK_TYPE_API), CONTEXT, world=only_claude)
    overloaded = PhaseFailed(request_id="implement-1-1", reason=PHASE_FAILURE_RATE_LIMITED)
    malformed = PhaseFailed(request_id="implement-1-1", reason=PHASE_FAILURE_MALFORMED)

    assert asked(decide(happened(planned, overloaded, NOW), without_gpt)) == [("implement-1-2", "claude")]
    assert asked(decide(happened(planned_without, malformed, NOW), WORLD)) == [("implement-1-2", "gpt")]


def test_an_unknown_fact_parks_the_task_and_nothing_else():
    task = given(*FEATURE, None)

    assert task.parked
    assert next_step(task, WORLD) == []


def test_a_result_that_nobody_waits_for_changes_nothing():
    before = given(*DESIGNED)

    assert happened(before, done("implement-1-1", "another"), NOW) is before
    assert happened(before, ModelCallStarted(call_id="x"), NOW) is before


def test_a_reroute_decided_without_seeing_the_answer_before_it_is_void():
    """The answer stands in the log at 45; somebody who had read to 40 rerouted at 50."""
    task = given(SUBMITTED, classified(TASK_TYPE_API), CONTEXT, done("implement-1-1", "c1"))
    reroute = PhaseRerouted(request_id="implement-1-1", from_model="gpt", to_model="claude")
    request = PhaseRequested(
        request_id="implement-1-2", phase=PhaseKind.PHASE_KIND_IMPLEMENT, round=1, attempt=2, model="claude"
    )

    assert happened(happened(task, reroute, NOW), request, NOW) == task


ANYTHING = st.sampled_from(
    [
        SUBMITTED,
        classified(TASK_TYPE_API, SCOPE_FEATURE),
        classified(TASK_TYPE_UI),
        CONTEXT,
        done("design-1-1", "c1"),
        done("implement-1-1", "c2"),
        done("implement-2-1", "c3"),
        reviewed("review-1-1", VERDICT_REQUEST_CHANGES),
        reviewed("review-2-1", VERDICT_APPROVE),
        done("refactor-1-1", "c4"),
        done("write_tests-1-1", "c5"),
        judged("gate-1-1"),
        judged("gate-1-1", GATE_VERDICT_BLOCK),
        PhaseFailed(request_id="implement-1-1", reason=PHASE_FAILURE_MALFORMED),
        PhaseFailed(request_id="review-1-1", reason=PHASE_FAILURE_RATE_LIMITED),
        TaskApproved(approved_by="ada", change_digest="c5"),
        PullRequestOpened(request_id="delivery-1-1", url="u"),
    ]
)


@forall(st.lists(ANYTHING, max_size=25))
def test_whatever_happened_a_redelivered_message_starts_nothing_new(history: list[AnyFact]):
    task = given(*history)

    assert decide(task, WORLD) == []


@forall(st.lists(ANYTHING, max_size=25), st.integers(0, 24))
def test_whatever_is_told_twice_is_as_if_told_once(history: list[AnyFact], at: int):
    once = given(*history)
    twice = given(*history[: at + 1], *history[at : at + 1], *history[at + 1 :])

    assert twice == once


@forall(st.lists(ANYTHING, max_size=25))
def test_at_most_one_request_is_open_and_it_is_always_the_last_one_asked(history: list[AnyFact]):
    task, requests = NEW, []
    for fact in history:
        task = happened(task, fact, NOW)
        for decided in decide(task, WORLD):
            task = happened(task, decided, NOW)
            if isinstance(decided, Request):
                requests.append(decided.request_id)

    assert len(set(requests)) == len(requests)
    assert task.open is None or task.open.request_id == requests[-1]
