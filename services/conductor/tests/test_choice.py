"""Who is asked to do a phase, and why: override, rules, mode, table; health, money and failures rule out."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from conductor.budget_room import Standing
from conductor.choice import Choice, choose
from conductor.commands import Refused, override
from conductor.next_step import decide, due_at, next_due
from conductor.rules import Rules
from conductor.state import Attached, Blob, Kind
from conductor.task import NEW, Task, happened
from conductor.wording import summary
from conductor.world import Wellness, World
from factory.artifact.v1 import ArtifactRef
from factory.classification.v1 import TaskClassified
from factory.context.v1 import ContextGathered
from factory.delivery.v1 import DeliveryFailed, PullRequestOpened
from factory.event.v1 import AnyFact
from factory.phase.v1 import (
    PHASE_FAILURE_ARTIFACT_MISSING,
    PHASE_FAILURE_CONTEXT_TOO_LARGE,
    PHASE_FAILURE_MALFORMED,
    PHASE_FAILURE_OVERLOADED,
    PhaseCompleted,
    PhaseFailed,
    PhaseRequested,
    PhaseRerouted,
    PhaseSkipped,
)
from factory.price.v1 import PricePublished, PriceTier
from factory.project.v1 import (
    PREFERENCE_MODE_COST,
    PREFERENCE_MODE_CUSTOM,
    PREFERENCE_MODE_QUALITY,
)
from factory.task.v1 import (
    HOLD_CAUSE_BUDGET,
    HOLD_CAUSE_CAPACITY,
    HOLD_CAUSE_NO_MODEL,
    HOLD_CAUSE_TASK_BUDGET,
    PHASE_KIND_DESIGN,
    PHASE_KIND_IMPLEMENT,
    PHASE_KIND_REVIEW,
    PHASE_KIND_UNSPECIFIED,
    ROUTE_SOURCE_CUSTOM,
    ROUTE_SOURCE_DEFAULT,
    ROUTE_SOURCE_MODE,
    ROUTE_SOURCE_OVERRIDE,
    RULED_OUT_BY_CAPABILITY,
    RULED_OUT_BY_HEALTH,
    SCOPE_FEATURE,
    SCOPE_FOCUSED,
    TASK_TYPE_API,
    TASK_TYPE_UI,
    TASK_TYPE_UNSPECIFIED,
    ClassificationRequested,
    Limits,
    RequestExpired,
    RoutingOverridden,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskHeld,
    TaskPlanned,
    TaskReleased,
    TaskSubmitted,
)
from policy.models import DEFAULT_MODELS
from policy.preferences import Preferences, Rule
from policy.prices import PriceBook

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
# One pico-dollar for a token that goes in, ten for one that comes out: figures that one can follow.
PRICES = PriceBook(
    (
        PricePublished(
            version="test",
            provider=model.provider,
            provider_model=model.provider_model,
            tiers=[PriceTier(input_pico_usd=1, output_pico_usd=10)],
        ),
        NOW - timedelta(days=1),
    )
    for model in DEFAULT_MODELS.values()
)
WORLD = World(DEFAULT_MODELS, {}, PRICES, NOW)
RULES = Rules(DEFAULT_MODELS, {})
SUBMITTED = TaskSubmitted(title="One", project="shop", repository="/repo", submitted_by="ada")
OPEN = Wellness(is_open=True, why="4 of 5 calls failed", badness=0.8)


def planned(
    *more: AnyFact, type=TASK_TYPE_API, scope=SCOPE_FOCUSED, world: World = WORLD, submitted: TaskSubmitted = SUBMITTED
) -> Task:
    """A task with its plan, and whatever happened after that; its first phase is not asked for yet."""
    facts: list[AnyFact] = [
        submitted,
        TaskClassified(request_id="classification-1-1", type=type, scope=scope),
        ContextGathered(
            request_id="context-1-1",
            base_commit="b" * 40,
            snapshot=ArtifactRef(digest="5" * 64, size=1),
            pack=ArtifactRef(digest="6" * 64, size=1),
            tokens=1000,
        ),
    ]
    task = NEW
    for fact in facts:
        task = happened(task, fact, NOW)
        for said in decide(task, world):
            if isinstance(said, PhaseRequested | TaskHeld | PhaseSkipped) and task.steps:
                break
            task = happened(task, said, NOW)
    for fact in more:
        task = happened(task, fact, NOW)
    return task


def asked(task: Task, world: World = WORLD) -> PhaseRequested:
    [request] = [fact for fact in decide(task, world) if isinstance(fact, PhaseRequested)]
    return request


def chosen(task: Task, world: World = WORLD) -> Choice:
    return choose(task, world)


def preferring(**preferences) -> World:
    return replace(WORLD, preferences=Preferences(version=1, **preferences))


def models_of(task: Task) -> list[str]:
    return [step.candidates[0][0] for step in task.steps]


def test_by_default_the_table_decides_and_the_receipt_says_so():
    told = chosen(planned()).receipt

    assert (told.chosen, told.source) == ("gpt", ROUTE_SOURCE_DEFAULT)
    assert told.because == "the routing table names gpt"
    assert [candidate.model for candidate in told.candidates] == ["gpt", "claude", "gemini", "deepseek"]
    assert told.policy_version == "routing-2" and len(told.inputs_digest) == 64


def test_a_project_that_puts_quality_first_is_served_by_claude_and_gpt_everywhere():
    world = preferring(mode=PREFERENCE_MODE_QUALITY)

    task = planned(scope=SCOPE_FEATURE, world=world)

    assert models_of(task) == ["claude", "gpt", "claude", "claude", "gpt"]
    assert chosen(task, world).receipt.source == ROUTE_SOURCE_MODE


def test_a_project_that_puts_cost_first_is_served_by_deepseek_but_for_design_review_and_features():
    world = preferring(mode=PREFERENCE_MODE_COST)

    assert models_of(planned(world=world)) == ["deepseek", "deepseek"]
    assert models_of(planned(type=TASK_TYPE_UI, world=world)) == ["deepseek", "claude", "deepseek"]
    assert models_of(planned(scope=SCOPE_FEATURE, world=world)) == ["claude", "gpt", "gemini", "deepseek", "gpt"]


def test_the_first_rule_that_fits_a_phase_decides_and_names_its_alternatives_in_order():
    rules = (
        Rule(TASK_TYPE_UI, PHASE_KIND_IMPLEMENT, ("claude",)),
        Rule(TASK_TYPE_UNSPECIFIED, PHASE_KIND_IMPLEMENT, ("gemini", "deepseek")),
        Rule(TASK_TYPE_API, PHASE_KIND_UNSPECIFIED, ("deepseek",)),
    )
    world = preferring(mode=PREFERENCE_MODE_CUSTOM, rules=rules)

    task = planned(world=world)

    assert [name for name, _ in task.steps[0].candidates] == ["gemini", "deepseek", "gpt", "claude"]
    assert models_of(task) == ["gemini", "deepseek"]
    told = chosen(task, world).receipt
    assert (told.source, told.because) == (
        ROUTE_SOURCE_CUSTOM,
        "a rule of the project names gemini for implement of api tasks",
    )


def test_an_excluded_model_is_never_chosen_and_preferences_saved_later_do_not_change_a_plan():
    world = preferring(excluded=("gpt",))

    task = planned(world=world)

    assert chosen(task, world).model == "claude"
    assert chosen(task, WORLD).model == "claude"


def test_an_architects_word_outweighs_rules_mode_and_table():
    world = preferring(mode=PREFERENCE_MODE_CUSTOM, rules=(Rule(TASK_TYPE_API, PHASE_KIND_IMPLEMENT, ("gemini",)),))
    task = planned(world=world)

    task = happened(task, override("t", task, RULES, PHASE_KIND_IMPLEMENT, "deepseek", "ada", "cheap enough")[0], NOW)

    told = chosen(task, world).receipt
    assert (told.chosen, told.source) == ("deepseek", ROUTE_SOURCE_OVERRIDE)
    assert told.because == "ada has put deepseek in charge of this phase"
    back = happened(task, override("t", task, RULES, PHASE_KIND_IMPLEMENT, "", "ada", "")[0], NOW)
    assert chosen(back, world).model == "gemini"


def test_an_override_of_a_running_phase_voids_its_request_and_asks_the_other_model():
    task = planned()
    running = happened(task, asked(task), NOW)

    [overridden] = override("t", running, RULES, PHASE_KIND_IMPLEMENT, "claude", "ada", "")
    task = happened(running, overridden, NOW)

    assert isinstance(overridden, RoutingOverridden) and overridden.request_id == "implement-1-1"
    late = PhaseCompleted(request_id="implement-1-1", change_digest="late")
    assert happened(task, late, NOW) == task
    again = asked(task)
    assert (again.request_id, again.model) == ("implement-1-2", "claude")
    assert override("t", happened(task, again, NOW), RULES, PHASE_KIND_IMPLEMENT, "claude", "ada", "") == []


def test_an_override_that_could_not_be_done_is_refused_with_the_reason():
    feature = planned(scope=SCOPE_FEATURE)
    reviewing = replace(feature, author_model="gpt")

    with pytest.raises(Refused, match="gpt cannot do review: same family as the author"):
        override("t", reviewing, RULES, PHASE_KIND_REVIEW, "gpt", "ada", "")
    with pytest.raises(Refused, match="has no phase design; it has implement, write_tests"):
        override("t", planned(), RULES, PHASE_KIND_DESIGN, "claude", "ada", "")
    with pytest.raises(Refused, match="nobody has put a model in charge of implement"):
        override("t", planned(), RULES, PHASE_KIND_IMPLEMENT, "", "ada", "")
    with pytest.raises(Refused, match="has ended already"):
        override("t", planned(TaskCancelled(cancelled_by="x")), RULES, PHASE_KIND_IMPLEMENT, "gpt", "ada", "")


def test_a_model_whose_breaker_is_open_is_passed_over_and_comes_back_as_a_probe():
    task = planned()

    told = chosen(task, replace(WORLD, health={"gpt": OPEN})).receipt
    assert told.chosen == "claude"
    assert told.because == "the routing table names gpt, but gpt: 4 of 5 calls failed; so claude"
    assert {c.model: c.by for c in told.candidates}["gpt"] == RULED_OUT_BY_HEALTH

    half_open = replace(WORLD, health={"gpt": Wellness(is_half_open=True, why="it is to be probed")})
    assert (asked(task, half_open).model, asked(task, half_open).probe) == ("gpt", True)
    for probe, model in (("implement-1-1", "gpt"), ("*", "claude"), ("implement-1-2", "claude")):
        probed = replace(WORLD, health={"gpt": Wellness(is_half_open=True, probe=probe, why="it is being probed")})
        assert asked(task, probed).model == model


def test_where_no_model_is_well_the_least_bad_is_asked_and_the_receipt_says_so():
    unwell = {name: replace(OPEN, badness=bad) for name, bad in zip(DEFAULT_MODELS, (0.9, 0.8, 0.3, 0.7), strict=True)}

    choice = chosen(planned(), replace(WORLD, health=unwell))

    assert choice.model == "gemini"
    assert choice.receipt.because == "no model that could do this is well; gemini is the least bad"


def test_an_architects_word_outweighs_a_breaker():
    task = planned()
    task = happened(task, override("t", task, RULES, PHASE_KIND_IMPLEMENT, "gemini", "ada", "")[0], NOW)

    assert chosen(task, replace(WORLD, health={"gemini": OPEN})).model == "gemini"


def test_a_passing_failure_is_tried_again_on_the_same_model_unless_its_breaker_has_opened():
    failed = PhaseFailed(request_id="implement-1-1", reason=PHASE_FAILURE_OVERLOADED)
    task = planned()
    task = happened(happened(task, asked(task), NOW), failed, NOW)

    again = asked(task)
    assert (again.model, again.receipt.because) == ("gpt", "gpt may get over it: overloaded")
    rerouted, request = decide(task, replace(WORLD, health={"gpt": OPEN}))
    assert isinstance(rerouted, PhaseRerouted) and rerouted.to_model == "claude"
    assert isinstance(request, PhaseRequested) and request.model == "claude"


def test_an_image_rules_out_models_that_cannot_read_it_where_it_is_shown():
    screenshot = Attached("screenshot.png", "image/png", Blob("7" * 64, 1000))
    world = preferring(mode=PREFERENCE_MODE_COST)
    task = replace(planned(world=world), steps=(), queue=(), attached=(screenshot,))
    plan = next(fact for fact in decide(task, world) if isinstance(fact, TaskPlanned))

    implement, write_tests = plan.phases
    why = {candidate.model: (candidate.by, candidate.ruled_out) for candidate in implement.candidates}
    assert why["deepseek"] == (RULED_OUT_BY_CAPABILITY, "cannot read images, and screenshot.png is attached")
    assert implement.model == "gpt"
    assert write_tests.model == "deepseek"
    request = asked(happened(task, plan, NOW), world)
    assert [attachment.name for attachment in request.attachments] == ["screenshot.png"]


def budgeted(hard: int | None = None, soft: int | None = None, model: str = "", **state: int) -> World:
    name = "shop-202611" + (f"/{model}" if model else "")
    return replace(WORLD, budgets=(Standing(name, model, hard, soft, **state),), budget_lane="budget-shop-202611")


# 12,000 tokens go in at the most (four times the pack of 1,000, and 8,000 of instructions), 32,000 come out.
IMPLEMENT_BY_GPT = 12_000 + 32_000 * 10


def test_a_request_is_let_through_with_as_many_calls_as_the_budget_has_room_for():
    task = planned()

    plenty = asked(task, budgeted(hard=10 * IMPLEMENT_BY_GPT))
    assert (plenty.worst_case_pico_usd, plenty.calls_max) == (IMPLEMENT_BY_GPT, 3)
    assert (plenty.budget, plenty.reserved_pico_usd) == ("budget-shop-202611", 3 * IMPLEMENT_BY_GPT)
    assert plenty.max_input_tokens == 12_000
    assert asked(task, budgeted(hard=2 * IMPLEMENT_BY_GPT)).calls_max == 2


def test_without_any_limit_nothing_is_reserved_and_the_executors_own_limits_hold():
    request = asked(planned())

    assert (request.calls_max, request.max_input_tokens, request.budget) == (0, 0, "")
    assert not request.HasField("reserved_pico_usd")


def test_a_budget_without_room_holds_the_task_and_room_lets_it_go_on_by_itself():
    task, full = planned(), budgeted(hard=50_000, spent=1)

    [held] = decide(task, full)
    assert isinstance(held, TaskHeld) and (held.cause, held.budget) == (HOLD_CAUSE_BUDGET, "shop-202611")
    assert held.reason == (
        "implement waits for money: deepseek may cost up to $0.000000092, "
        "and $0.000000050 of budget shop-202611 ($0.000000050) are left"
    )

    task = happened(task, held, NOW)
    assert decide(task, full) == []
    released, request = decide(task, budgeted(hard=2 * IMPLEMENT_BY_GPT, spent=1))
    assert isinstance(released, TaskReleased) and released.released_by == "conductor"
    assert isinstance(request, PhaseRequested) and request.calls_max == 1


def test_a_task_that_waits_for_its_project_says_so_once_only_its_own_limit_stands_in_its_way():
    limited = TaskSubmitted(title="One", project="shop", repository="/r", limits=Limits(max_cost_pico_usd=1_000))
    task = planned(submitted=limited)
    [held] = decide(task, budgeted(hard=500))
    assert isinstance(held, TaskHeld) and held.cause == HOLD_CAUSE_BUDGET

    released, held = decide(happened(task, held, NOW), budgeted(hard=2 * IMPLEMENT_BY_GPT))

    assert isinstance(released, TaskReleased) and released.reason == "budget shop-202611 no longer holds it up"
    assert isinstance(held, TaskHeld) and held.cause == HOLD_CAUSE_TASK_BUDGET
    assert decide(happened(happened(task, released, NOW), held, NOW), budgeted(hard=2 * IMPLEMENT_BY_GPT)) == []


def test_the_money_that_is_reserved_for_this_very_request_is_its_own():
    world = budgeted(hard=IMPLEMENT_BY_GPT, reserved=IMPLEMENT_BY_GPT)

    assert isinstance(decide(planned(), world)[0], TaskHeld)
    assert (
        asked(
            planned(),
            replace(
                world,
                reserved=lambda request_id, model: (
                    IMPLEMENT_BY_GPT if (request_id, model) == ("implement-1-1", "gpt") else 0
                ),
            ),
        ).calls_max
        == 1
    )


def test_a_budget_of_one_model_rules_that_model_out_and_the_next_stands_in():
    told = chosen(planned(), budgeted(hard=0, model="gpt")).receipt

    assert told.chosen == "claude"
    assert "shop-202611/gpt" in {candidate.model: candidate.ruled_out for candidate in told.candidates}["gpt"]


def test_past_a_soft_limit_the_cheapest_model_comes_first():
    cheap = PricePublished(
        version="test",
        provider="deepseek",
        provider_model="deepseek-chat",
        valid_from=None,
        tiers=[PriceTier(input_pico_usd=0, output_pico_usd=1)],
    )
    prices = PriceBook([*PRICES, (cheap, NOW)])

    choice = chosen(planned(), replace(budgeted(soft=10, spent=10), prices=prices))

    assert choice.model == "deepseek"
    assert choice.receipt.because == "a soft limit of the project's budget is passed, so the cheapest come first"


def test_the_tasks_own_limit_holds_it_until_somebody_raises_it():
    limited = TaskSubmitted(title="One", project="shop", repository="/r", limits=Limits(max_cost_pico_usd=1_000))
    task = planned(submitted=limited)

    [held] = decide(task, WORLD)

    assert isinstance(held, TaskHeld) and held.cause == HOLD_CAUSE_TASK_BUDGET
    assert decide(happened(task, held, NOW), WORLD) == []


def test_a_model_without_a_price_cannot_keep_a_limit():
    choice = chosen(planned(), replace(budgeted(hard=10), prices=PriceBook(())))

    assert choice.model == "" and choice.cause == HOLD_CAUSE_BUDGET
    assert "gpt has no price, so budget shop-202611 cannot be kept" in choice.why_none


def test_a_prompt_that_was_kept_small_for_a_budget_is_asked_again_with_the_whole_window():
    world = budgeted(hard=100 * IMPLEMENT_BY_GPT)
    task = planned()
    first = asked(task, world)
    too_small = PhaseFailed(request_id="implement-1-1", reason=PHASE_FAILURE_CONTEXT_TOO_LARGE)

    again = asked(happened(happened(task, first, NOW), too_small, NOW), world)

    assert (first.max_input_tokens, again.model, again.max_input_tokens) == (12_000, "gpt", 400_000 - 32_000)


def test_a_request_that_nobody_answers_is_void_at_its_deadline_and_the_next_model_is_asked():
    task = planned()
    waiting = happened(task, asked(task), NOW)
    assert waiting.open and waiting.open.deadline == NOW + timedelta(hours=2)
    later = replace(WORLD, now=NOW + timedelta(hours=2))

    expired, rerouted, request = decide(waiting, later)

    assert isinstance(expired, RequestExpired) and expired.request_id == "implement-1-1"
    assert isinstance(rerouted, PhaseRerouted) and rerouted.to_model == "claude"
    assert isinstance(request, PhaseRequested) and request.request_id == "implement-1-2"
    answered = happened(waiting, PhaseCompleted(request_id="implement-1-1", change_digest="c"), NOW)
    assert happened(answered, expired, NOW) == answered, "an expiry that had not seen the answer changes nothing"


def test_each_kind_of_request_has_a_timer_of_its_own_and_the_task_another():
    # Conductors share timers: one that is moved for a later request must not be counted on for an earlier deadline.
    waiting = happened(NEW, SUBMITTED, NOW)
    for fact in decide(waiting, WORLD):
        waiting = happened(waiting, fact, NOW)
    task = planned()

    assert next_due(waiting) == (NOW + timedelta(minutes=30), "deadline-classification")
    assert next_due(happened(task, asked(task), NOW)) == (NOW + timedelta(hours=2), "deadline-phase")
    assert next_due(task) is None
    assert next_due(replace(task, deadline=NOW)) == (NOW, "deadline")


def test_a_task_that_has_no_pull_request_by_its_deadline_has_failed():
    submitted = TaskSubmitted(title="One", project="shop", repository="/r")
    submitted.limits.timeout.FromTimedelta(timedelta(hours=1))
    task = planned(submitted=submitted)

    assert isinstance(decide(task, WORLD)[-1], PhaseRequested)
    [failed] = decide(happened(task, asked(task), NOW), replace(WORLD, now=NOW + timedelta(hours=1)))
    assert isinstance(failed, TaskFailed) and failed.reason == "its deadline has passed (2026-11-25 13:00:00 UTC)"


def test_a_project_with_as_many_open_tasks_as_it_may_have_holds_the_next_until_there_is_room():
    full = replace(WORLD, has_room=False, open_tasks_max=2)
    new = happened(NEW, SUBMITTED, NOW)

    [held] = decide(new, full)
    assert isinstance(held, TaskHeld) and held.cause == HOLD_CAUSE_CAPACITY
    assert held.reason == "the project has 2 open tasks already; this one begins when another has ended"
    waiting = happened(new, held, NOW)
    assert decide(waiting, full) == []
    released, _ = decide(waiting, WORLD)
    assert isinstance(released, TaskReleased)


def test_the_same_task_in_the_same_world_leaves_the_same_receipt_and_another_world_another():
    task = planned()

    assert asked(task) == asked(task)
    other = asked(task, replace(WORLD, health={"gemini": OPEN}))
    assert other.model == asked(task).model
    assert other.receipt.inputs_digest != asked(task).receipt.inputs_digest


def test_a_review_is_left_out_only_where_no_model_may_do_it_and_not_for_want_of_money():
    task = replace(planned(scope=SCOPE_FEATURE), queue=(PHASE_KIND_REVIEW,), author_model="gpt", change="c")
    only = {name: "" if name == "gpt" else "not configured" for name in DEFAULT_MODELS}

    assert isinstance(decide(task, replace(WORLD, ruled_out=only))[0], PhaseSkipped)
    assert isinstance(decide(task, budgeted(hard=0))[0], TaskHeld)


def test_a_task_whose_artifact_is_gone_does_not_wait_for_money():
    task = planned()
    gone = PhaseFailed(request_id="implement-1-1", reason=PHASE_FAILURE_ARTIFACT_MISSING, detail="the snapshot is gone")

    [held] = decide(happened(happened(task, asked(task), NOW), gone, NOW), budgeted(hard=0))

    assert isinstance(held, TaskHeld) and held.cause == HOLD_CAUSE_NO_MODEL
    assert held.reason == "implement has no model left to ask: the snapshot is gone"


def test_a_model_that_failed_for_good_is_ruled_out_with_what_it_said():
    task = planned()
    failed = PhaseFailed(request_id="implement-1-1", reason=PHASE_FAILURE_MALFORMED, detail="no blocks")

    told = chosen(happened(happened(task, asked(task), NOW), failed, NOW)).receipt

    assert told.chosen == "claude"
    assert {c.model: c.ruled_out for c in told.candidates}["gpt"] == "malformed (no blocks)"


def test_a_task_whose_pull_request_is_being_opened_does_not_fail_by_its_deadline():
    submitted = TaskSubmitted(title="One", project="shop", repository="/repo", submitted_by="ada")
    submitted.limits.timeout.seconds = 60
    task = replace(planned(submitted=submitted), queue=(), change="c1", judged="c1", approved_by="ada")
    [delivery] = decide(task, WORLD)
    task = happened(task, delivery, NOW)
    late = replace(WORLD, now=NOW + timedelta(minutes=2))

    assert decide(task, late) == []
    assert due_at(task) == NOW + WORLD.patience[Kind.DELIVERY]
    opened = PullRequestOpened(request_id="delivery-1-1", url="https://example.org/1")
    assert [type(fact) for fact in decide(happened(task, opened, late.now), late)] == [TaskCompleted]
    failed = DeliveryFailed(request_id="delivery-1-1", detail="no")
    assert [type(fact) for fact in decide(happened(task, failed, late.now), late)] == [TaskFailed]


def test_a_word_given_before_the_plan_and_taken_back_after_it_leaves_the_route_as_it_was():
    before = RoutingOverridden(phase=PHASE_KIND_IMPLEMENT, model="deepseek", overridden_by="ada")
    task = planned_under(before)
    assert asked(task).model == "deepseek"

    back = override("t", task, RULES, PHASE_KIND_IMPLEMENT, "", "ada", "")
    request = asked(happened(task, back[0], NOW))

    assert (request.model, request.receipt.source) == ("gpt", ROUTE_SOURCE_DEFAULT)
    assert request.receipt.because == "the routing table names gpt"


def planned_under(word: RoutingOverridden) -> Task:
    """A task whose plan was made when an architect had spoken already."""
    task = planned()
    return happened(replace(happened(task, word, NOW), steps=(), queue=()), decide_plan(task, word), NOW)


def decide_plan(task: Task, word: RoutingOverridden) -> TaskPlanned:
    [plan] = [
        fact
        for fact in decide(replace(happened(task, word, NOW), steps=(), queue=()), WORLD)
        if isinstance(fact, TaskPlanned)
    ]
    return plan


def test_a_word_that_is_taken_back_does_not_stop_the_model_that_the_route_names_too():
    word = RoutingOverridden(phase=PHASE_KIND_IMPLEMENT, model="gpt", overridden_by="ada")
    task = planned(word)
    running = happened(task, asked(task), NOW)

    [back] = override("t", running, RULES, PHASE_KIND_IMPLEMENT, "", "ada", "")

    assert isinstance(back, RoutingOverridden) and back.request_id == ""
    after = happened(running, back, NOW)
    assert after.open is not None and after.override(PHASE_KIND_IMPLEMENT) == ""


def test_a_task_that_waits_for_room_and_is_released_by_hand_goes_on_where_there_is_none():
    full = replace(WORLD, has_room=False, open_tasks_max=1)
    task = happened(NEW, SUBMITTED, NOW)
    [held] = decide(task, full)

    released = happened(happened(task, held, NOW), TaskReleased(released_by="ada"), NOW)

    assert [type(fact) for fact in decide(released, full)] == [ClassificationRequested]


def test_a_request_that_is_withdrawn_counts_against_no_model():
    task = planned()
    request = asked(task)
    task = happened(happened(task, request, NOW), RequestExpired(request_id=request.request_id), NOW)

    again = asked(task)

    assert (again.model, again.request_id) == (request.model, "implement-1-2")
    assert "is withdrawn" in summary(RequestExpired(request_id="implement-1-1"))
