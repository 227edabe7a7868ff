"""What other preferences would have chosen and cost: exact where the log tells, unknown in words where it does not."""

import sqlite3
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import grpc
import pytest
from audit.adapters.queries import Reader
from audit.adapters.store import Store
from audit.preview_rpc import check_preview, preview_routing
from factory.artifact.v1 import ArtifactRef, Attachment
from factory.audit.v1 import PreviewedPhase, PreviewRoutingRequest, PreviewRoutingResponse
from factory.call.v1 import CALL_OUTCOME_ERROR, CALL_OUTCOME_LOST, CALL_OUTCOME_OK, ModelCalled, ModelCallStarted, Usage
from factory.classification.v1 import TaskClassified
from factory.context.v1 import ContextGathered
from factory.model.v1 import ConfiguredModel, ModelsConfigured
from factory.price.v1 import PricePublished, PriceTier
from factory.project.v1 import (
    PREFERENCE_MODE_BALANCED,
    PREFERENCE_MODE_COST,
    PREFERENCE_MODE_CUSTOM,
    PREFERENCE_MODE_QUALITY,
    PreferenceMode,
    Preferences,
    ProjectCreated,
    RoutingRule,
)
from factory.task.v1 import (
    PHASE_KIND_IMPLEMENT,
    PHASE_KIND_REVIEW,
    PHASE_KIND_WRITE_TESTS,
    SCOPE_FOCUSED,
    TASK_TYPE_API,
    TASK_TYPE_DOCUMENTATION,
    TASK_TYPE_UI,
    PhaseKind,
    RoutingOverridden,
    TaskPlanned,
    TaskSubmitted,
    TaskType,
)
from policy.catalog import models_in
from policy.models import DEFAULT_MODELS
from policy.routes import phase_word
from runtime import Problem

# Pico-dollars for a token of input; output costs twice as much.
PRICES = {"claude": 5_000_000, "gpt": 2_000_000, "deepseek": 300_000}


def configured(**ruled_out: str) -> ModelsConfigured:
    """The four models, gemini without a price."""
    return ModelsConfigured(
        digest="d",
        models=[
            ConfiguredModel(
                model=model.name,
                display_name=model.display_name,
                family=model.family,
                provider="p",
                provider_model=f"{model.name}-1",
                context_window_tokens=model.context_window_tokens,
                max_output_tokens=model.max_output_tokens,
                image_input=model.image_input,
                structured_output=model.structured_output,
                ruled_out=ruled_out.get(model.name, ""),
            )
            for model in DEFAULT_MODELS.values()
        ],
    )


@pytest.fixture
def shop(log: Any) -> Any:
    """A project, prices and models."""
    for name, pico in PRICES.items():
        log.say("prices", "conductor", price(name, pico))
    log.say("models", "conductor", configured())
    return log.say("project-shop", "conductor", ProjectCreated(project="shop"))


def price(model: str, pico: int) -> PricePublished:
    tier = PriceTier(input_pico_usd=pico, output_pico_usd=2 * pico)
    return PricePublished(version="list 1", provider="p", provider_model=f"{model}-1", tiers=[tier])


def plan(log: Any, task: str, task_type: TaskType = TASK_TYPE_API, project: str = "shop", **submitted: Any) -> None:
    log.say(task, "conductor", TaskSubmitted(title=f"Task {task}", project=project, **submitted))
    log.say(task, "classifier", TaskClassified(type=task_type, scope=SCOPE_FOCUSED))
    log.say(task, "context", ContextGathered(tokens=9_000))
    log.say(task, "conductor", TaskPlanned())


def call(
    log: Any,
    task: str,
    phase: PhaseKind,
    model: str,
    usage: Usage | None = None,
    *,
    outcome: Any = CALL_OUTCOME_OK,
    http_status: int = 200,
    n: int = 1,
) -> None:
    request = f"{phase_word(phase)}-1-{n}"
    same: dict[str, Any] = {"call_id": f"{task}.{request}-1", "request_id": request, "phase": phase, "model": model}
    same |= {"provider": "p", "provider_model": f"{model}-1"}
    log.say(task, f"executor-{model}", ModelCallStarted(**same, max_output_tokens=100, input_tokens_estimate=100))
    ended = ModelCalled(**same, outcome=outcome, usage=usage, http_status=http_status)
    log.say(task, f"executor-{model}", ended)


def used(input_tokens: int = 1_000, output_tokens: int = 100) -> Usage:
    return Usage(input_tokens=input_tokens, output_tokens=output_tokens)


def api_task(log: Any, task: str, implement: str = "gpt", tests: str = "gpt") -> None:
    """An API task that was implemented and got tests, with the usual usage."""
    plan(log, task)
    call(log, task, PHASE_KIND_IMPLEMENT, implement, used())
    call(log, task, PHASE_KIND_WRITE_TESTS, tests, used())


@pytest.fixture
def asked(store: Store) -> Callable[..., PreviewRoutingResponse]:
    """Takes a log in and asks for a preview."""

    def ask(log: Any, preferences: Preferences, tasks: int = 0, project: str = "shop") -> PreviewRoutingResponse:
        if new := log.recorded()[store.position :]:
            store.apply(new)
        reader = Reader(store.path)
        try:
            with reader.snapshot() as snapshot:
                return preview_routing(
                    snapshot, PreviewRoutingRequest(project=project, preferences=preferences, tasks=tasks)
                )
        finally:
            reader.close()

    return ask


def mode(value: PreferenceMode) -> Preferences:
    return Preferences(mode=value)


def rule(phase: PhaseKind, *models: str) -> Preferences:
    return Preferences(mode=PREFERENCE_MODE_CUSTOM, rules=[RoutingRule(phase=phase, models=models)])


def implement_of(answer: PreviewRoutingResponse, task: str) -> PreviewedPhase:
    phases = next(previewed.phases for previewed in answer.tasks if previewed.task_id == task)
    return next(phase for phase in phases if phase.phase == PHASE_KIND_IMPLEMENT)


def test_the_same_model_costs_what_it_has_cost(shop: Any, asked: Any):
    api_task(shop, "a")
    answer = asked(shop, mode(PREFERENCE_MODE_BALANCED))

    phase = implement_of(answer, "a")
    assert (phase.recorded_model, phase.preview_model, phase.because) == ("gpt", "gpt", "the routing table names gpt")
    # 1,000 tokens in and 100 out, at 2 and 4 dollars a million
    assert (phase.recorded_cost_pico_usd, phase.preview_cost_pico_usd) == ("2400000000", "2400000000")
    assert (answer.recorded_cost_pico_usd, answer.preview_cost_pico_usd) == ("4800000000", "4800000000")
    assert (answer.changed_phases, answer.unknown_phases) == (0, 0)


def test_another_model_costs_the_recorded_usage_at_its_own_price(shop: Any, asked: Any):
    api_task(shop, "old", implement="deepseek", tests="deepseek")
    api_task(shop, "a")
    answer = asked(shop, mode(PREFERENCE_MODE_COST), tasks=1)

    assert [task.task_id for task in answer.tasks] == ["a"]
    assert [(p.recorded_model, p.preview_model, p.preview_cost_pico_usd) for p in answer.tasks[0].phases] == [
        ("gpt", "deepseek", "360000000"),
        ("gpt", "deepseek", "360000000"),
    ]
    assert answer.tasks[0].phases[0].because == "the project puts cost first"
    assert (answer.recorded_cost_pico_usd, answer.preview_cost_pico_usd) == ("4800000000", "720000000")
    assert (answer.changed_phases, answer.unknown_phases) == (2, 0)


def test_a_model_that_never_did_this_phase_for_this_type_has_no_known_cost(shop: Any, asked: Any):
    plan(shop, "ui", TASK_TYPE_UI)
    call(shop, "ui", PHASE_KIND_IMPLEMENT, "deepseek", used())
    plan(shop, "refused")
    call(shop, "refused", PHASE_KIND_IMPLEMENT, "deepseek", outcome=CALL_OUTCOME_ERROR, http_status=429)
    api_task(shop, "a")
    answer = asked(shop, rule(PHASE_KIND_IMPLEMENT, "deepseek"), tasks=1)

    phase = implement_of(answer, "a")
    assert not phase.HasField("preview_cost_pico_usd")
    assert phase.unknown_because == "deepseek has never done implement of api tasks"
    # The tests alone are known on both sides.
    assert (answer.recorded_cost_pico_usd, answer.preview_cost_pico_usd) == ("2400000000", "2400000000")
    assert (answer.changed_phases, answer.unknown_phases) == (1, 1)


def test_what_a_model_did_for_another_project_counts(shop: Any, asked: Any):
    plan(shop, "elsewhere", project="blog")
    call(shop, "elsewhere", PHASE_KIND_IMPLEMENT, "deepseek", used())
    api_task(shop, "a")

    assert implement_of(asked(shop, rule(PHASE_KIND_IMPLEMENT, "deepseek")), "a").preview_cost_pico_usd == "360000000"


def test_a_model_without_a_price_has_no_known_cost(shop: Any, asked: Any):
    api_task(shop, "old", implement="gemini")
    api_task(shop, "a")
    answer = asked(shop, rule(PHASE_KIND_IMPLEMENT, "gemini"))

    assert implement_of(answer, "a").unknown_because == "gemini (gemini-1) has no price for 2026-11-23"
    assert implement_of(answer, "old").unknown_because == "no price is known for what gemini did"


def test_tokens_that_the_other_model_has_no_price_for_are_not_guessed(shop: Any, asked: Any):
    api_task(shop, "old", implement="deepseek")
    plan(shop, "a")
    call(shop, "a", PHASE_KIND_IMPLEMENT, "gpt", Usage(input_tokens=1, cache_write_5m_tokens=1))
    phase = implement_of(asked(shop, rule(PHASE_KIND_IMPLEMENT, "deepseek")), "a")

    assert phase.unknown_because == "deepseek has no price for some of the tokens, such as those of a cache"


def test_a_call_whose_usage_is_not_known_leaves_both_sides_unknown(shop: Any, asked: Any):
    api_task(shop, "old", implement="deepseek")
    plan(shop, "a")
    call(shop, "a", PHASE_KIND_IMPLEMENT, "gpt", outcome=CALL_OUTCOME_LOST)
    call(shop, "a", PHASE_KIND_IMPLEMENT, "gpt", used(), n=2)
    for preferences in (rule(PHASE_KIND_IMPLEMENT, "deepseek"), mode(PREFERENCE_MODE_BALANCED)):
        phase = implement_of(asked(shop, preferences), "a")

        assert not phase.HasField("recorded_cost_pico_usd")
        assert not phase.HasField("preview_cost_pico_usd")
        assert phase.unknown_because == "the usage of 1 of 2 calls is not known"


def test_every_attempt_of_a_phase_counts_each_at_its_own_price(shop: Any, asked: Any):
    plan(shop, "a")
    call(shop, "a", PHASE_KIND_IMPLEMENT, "gpt", used(output_tokens=0))
    call(shop, "a", PHASE_KIND_IMPLEMENT, "gpt", outcome=CALL_OUTCOME_ERROR, http_status=429, n=2)
    call(shop, "a", PHASE_KIND_IMPLEMENT, "claude", used(output_tokens=0), n=3)
    answer = asked(shop, mode(PREFERENCE_MODE_BALANCED))

    phase = implement_of(answer, "a")
    assert (phase.recorded_model, phase.preview_model) == ("claude", "gpt")
    assert (phase.recorded_cost_pico_usd, phase.preview_cost_pico_usd) == ("7000000000", "4000000000")


def test_the_price_is_the_one_that_was_valid_when_the_call_began(shop: Any, asked: Any):
    api_task(shop, "old", implement="deepseek")
    api_task(shop, "a")
    dearer = price("deepseek", 9_000_000)
    dearer.valid_from.FromDatetime(shop.events[-1].occurred_at.ToDatetime())
    shop.say("prices", "conductor", dearer)
    plan(shop, "b")
    call(shop, "b", PHASE_KIND_IMPLEMENT, "gpt", used())
    answer = asked(shop, rule(PHASE_KIND_IMPLEMENT, "deepseek"))

    assert implement_of(answer, "a").preview_cost_pico_usd == "360000000"
    assert implement_of(answer, "b").preview_cost_pico_usd == "10800000000"


def test_a_phase_that_was_not_done_is_neither_changed_nor_known(shop: Any, asked: Any):
    plan(shop, "a")
    answer = asked(shop, mode(PREFERENCE_MODE_QUALITY))

    assert [(p.recorded_model, p.unknown_because) for p in answer.tasks[0].phases] == [
        ("", "this phase was not done"),
        ("", "this phase was not done"),
    ]
    assert (answer.changed_phases, answer.unknown_phases) == (0, 2)


def test_a_review_that_nobody_may_do_says_what_rules_all_out(shop: Any, asked: Any):
    plan(shop, "a", TASK_TYPE_UI)
    call(shop, "a", PHASE_KIND_IMPLEMENT, "gpt", used())
    call(shop, "a", PHASE_KIND_REVIEW, "claude", used())
    only_gpt = Preferences(mode=PREFERENCE_MODE_BALANCED, excluded_models=["claude", "gemini", "deepseek"])
    review = asked(shop, only_gpt).tasks[0].phases[1]

    assert (review.phase, review.recorded_model, review.preview_model) == (PHASE_KIND_REVIEW, "claude", "")
    assert review.because.startswith("no model review: claude: the project never uses it;")
    assert review.unknown_because == "no model could do it"


def test_what_rules_out_the_first_choice_is_said(shop: Any, asked: Any):
    shop.say("models", "conductor", configured(gpt="not configured"))
    api_task(shop, "a", implement="claude")
    phase = implement_of(asked(shop, mode(PREFERENCE_MODE_BALANCED)), "a")

    assert phase.preview_model == "claude"
    assert phase.because == "the routing table names gpt; gpt ruled out: not configured"


def test_an_attached_image_rules_out_who_cannot_read_it(shop: Any, asked: Any):
    image = Attachment(name="a.png", media_type="image/png", artifact=ArtifactRef(digest="d", size=9))
    plan(shop, "a", attached=[image])
    phase = implement_of(asked(shop, rule(PHASE_KIND_IMPLEMENT, "deepseek")), "a")

    assert phase.preview_model == "gpt"
    assert phase.because.endswith("; deepseek ruled out: cannot read images, and a.png is attached")


def test_attached_text_and_the_pack_must_fit_the_window(shop: Any, asked: Any):
    text = Attachment(name="a.txt", media_type="text/plain", artifact=ArtifactRef(digest="d", size=300_000))
    plan(shop, "a", attached=[text])
    phase = implement_of(asked(shop, rule(PHASE_KIND_IMPLEMENT, "deepseek")), "a")

    # 9,000 of the pack, 150,000 of the text, 4,000 of instructions, 8,000 of answer
    assert phase.because.endswith("context window of 128,000 tokens is less than the 321,000 needed")


def test_an_architects_word_outweighs_any_preference(shop: Any, asked: Any):
    plan(shop, "a")
    shop.say("a", "conductor", RoutingOverridden(phase=PHASE_KIND_IMPLEMENT, model="claude", overridden_by="ada"))
    phase = implement_of(asked(shop, mode(PREFERENCE_MODE_COST)), "a")
    shop.say("a", "conductor", RoutingOverridden(phase=PHASE_KIND_IMPLEMENT, overridden_by="ada"))
    taken_back = implement_of(asked(shop, mode(PREFERENCE_MODE_COST)), "a")

    assert (phase.preview_model, phase.because) == ("claude", "claude was put in charge by hand")
    assert taken_back.preview_model == "deepseek"


def test_only_the_last_planned_tasks_of_the_project_are_asked_newest_first(shop: Any, asked: Any):
    for task in ("a", "b", "c"):
        plan(shop, task, TASK_TYPE_DOCUMENTATION)
    plan(shop, "elsewhere", project="blog")
    shop.say("d", "conductor", TaskSubmitted(title="not planned yet", project="shop"))
    answer = asked(shop, mode(PREFERENCE_MODE_BALANCED), tasks=2)

    assert [task.task_id for task in answer.tasks] == ["c", "b"]
    assert answer.tasks[0].title == "Task c"


def test_the_models_that_were_named_last_count(shop: Any, asked: Any):
    fewer = configured()
    del fewer.models[1:]
    shop.say("models", "conductor", fewer)
    with pytest.raises(Problem) as refused:
        asked(shop, rule(PHASE_KIND_IMPLEMENT, "gpt"))

    assert refused.value.violations == (("preferences.rules[0].models", "one of claude, found 'gpt'"),)


def test_models_come_back_as_they_were_named():
    models, ruled_out = models_in(configured(gpt="not configured"))

    assert {name: model.image_input for name, model in models.items()} == {
        name: model.image_input for name, model in DEFAULT_MODELS.items()
    }
    assert ruled_out == {"claude": "", "gpt": "not configured", "gemini": "", "deepseek": ""}


def test_without_named_models_nothing_can_be_previewed(log: Any, asked: Any):
    log.say("project-shop", "conductor", ProjectCreated(project="shop"))
    with pytest.raises(Problem, match="no models are named in the log up to EVENTS 1: a conductor names") as refused:
        asked(log, mode(PREFERENCE_MODE_BALANCED))

    assert refused.value.code == grpc.StatusCode.FAILED_PRECONDITION


def test_a_project_that_nobody_created_is_not_found(shop: Any, asked: Any):
    with pytest.raises(Problem, match="no project 'shpo'") as refused:
        asked(shop, mode(PREFERENCE_MODE_BALANCED), project="shpo")

    assert refused.value.code == grpc.StatusCode.NOT_FOUND


def test_preferences_that_cannot_be_used_are_refused_by_field(shop: Any, asked: Any):
    with pytest.raises(Problem) as refused:
        asked(shop, Preferences())

    assert [field for field, _ in refused.value.violations] == ["preferences.mode"]


@pytest.mark.parametrize(
    ("request_", "field"),
    [(PreviewRoutingRequest(), "project"), (PreviewRoutingRequest(project="shop", tasks=201), "tasks")],
)
def test_a_preview_that_cannot_be_asked_for_names_the_field(request_: PreviewRoutingRequest, field: str):
    with pytest.raises(Problem) as refused:
        check_preview(request_)

    assert [name for name, _ in refused.value.violations] == [field]


def test_a_database_of_the_first_release_is_read_anew(tmp_path: Path, shop: Any):
    path = tmp_path / "old.sqlite3"
    first = resources.files("audit.adapters").joinpath("migrations/0001-ledger.sql").read_text()
    with sqlite3.connect(path) as db:
        db.executescript(f"{first}\npragma user_version = 1;")
        db.execute("update checkpoint set sequence = 7, event_id = 'x'")
        db.execute("insert into usage values ('2026-11-23', 'shop', 5, 2, 'gpt', '1 1 0 0 0 0 1')")
        db.execute("insert into skipped values (75, 1)")
    api_task(shop, "a")
    store, fresh = Store(path), Store(tmp_path / "fresh.sqlite3")

    assert store.migrated == ["0002-routing.sql"]
    assert store.position == 0
    for each in (store, fresh):
        each.apply(shop.recorded())
    assert store.digest() == fresh.digest()
    store.close()
    assert Store(path).migrated == []
