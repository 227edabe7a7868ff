"""Which model does what: how large a pack may be, and who has room for it."""

from dataclasses import replace

from factory.task.v1 import PHASE_KIND_IMPLEMENT, PHASE_KIND_REVIEW, SCOPE_FEATURE, SCOPE_FOCUSED, TASK_TYPE_API
from policy.models import DEFAULT_MODELS, Model
from policy.planning import plan
from policy.preferences import Preferences
from policy.ranking import Needs, pack_budget
from policy.routes import ROUTES

NOBODY = dict.fromkeys(DEFAULT_MODELS, "not configured")


def model(name: str, window: int, output: int = 1_024, family: str = "small") -> Model:
    known = {"context_window_tokens": window, "max_output_tokens": output, "family": family}
    return replace(DEFAULT_MODELS["gpt"], name=name, **known)


def models(*more: Model) -> dict[str, Model]:
    return {**DEFAULT_MODELS, **{one.name: one for one in more}}


def test_the_four_models_have_room_for_the_largest_pack():
    assert pack_budget(DEFAULT_MODELS, {}) == 24_000


def test_the_pack_fits_the_smallest_window_of_those_who_serve():
    medium, far_too_small = model("medium", 32_000, 8_000), model("unasked", 20_000)

    assert pack_budget(models(medium), {}) == 20_000
    assert pack_budget(models(medium, far_too_small), {"unasked": "not configured"}) == 20_000


def test_where_all_windows_are_small_the_pack_fits_the_largest_and_every_author_can_be_found():
    tiny, small = model("tiny", 6_000), model("small", 8_192)

    budget = pack_budget(models(tiny, small), NOBODY)

    assert budget == 3_168
    for type in ROUTES:
        planned = plan(type, SCOPE_FOCUSED, models(tiny, small), NOBODY, needs=Needs(pack_tokens=budget))
        assert {phase.model for phase in planned.phases} == {"small"}


def test_a_model_with_little_room_does_not_starve_the_others_it_is_ruled_out_for_what_does_not_fit():
    local = model("local", 8_192)

    assert pack_budget(models(local), {}) == 24_000
    planned = plan(TASK_TYPE_API, SCOPE_FOCUSED, models(local), {}, needs=Needs(pack_tokens=24_000))
    why = {c.model: c.ruled_out for c in planned.phases[0].candidates}
    assert why["local"] == "context window of 8,192 tokens is less than the 29,024 needed"


def test_a_window_without_any_room_leaves_a_pack_of_next_to_nothing_and_a_plan_that_says_why():
    hopeless = model("hopeless", 2_000)

    assert pack_budget(models(hopeless), NOBODY) == 1
    planned = plan(TASK_TYPE_API, SCOPE_FOCUSED, models(hopeless), NOBODY, needs=Needs(pack_tokens=1))
    assert [phase.model for phase in planned.phases if phase.phase == PHASE_KIND_IMPLEMENT] == [""]


def test_an_architects_word_outweighs_that_the_project_never_uses_a_model():
    never = Preferences(excluded=("gemini",))

    planned = plan(TASK_TYPE_API, SCOPE_FOCUSED, DEFAULT_MODELS, {}, preferences=never)
    overridden = plan(
        TASK_TYPE_API,
        SCOPE_FOCUSED,
        DEFAULT_MODELS,
        {},
        preferences=never,
        overrides={PHASE_KIND_IMPLEMENT: "gemini"},
    )

    assert [phase.model for phase in planned.phases] == ["gpt", "gpt"]
    assert [phase.model for phase in overridden.phases] == ["gemini", "gpt"]


def test_two_names_of_one_family_do_not_review_each_other():
    twins = models(model("chat", 8_192, family="smollm"), model("messages", 8_192, family="smollm"))

    planned = plan(TASK_TYPE_API, SCOPE_FEATURE, twins, NOBODY, needs=Needs(pack_tokens=1_000))

    assert PHASE_KIND_REVIEW not in {phase.phase for phase in planned.phases}
    assert any("chat: same family as the author (smollm)" in note for note in planned.notes)
