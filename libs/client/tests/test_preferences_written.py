"""Preferences as people write them: rules, files, changes and what differs. Pure."""

import json

import pytest
from factory.project.v1 import PREFERENCE_MODE_BALANCED, PREFERENCE_MODE_CUSTOM, Preferences, RoutingRule
from factory.task.v1 import PHASE_KIND_IMPLEMENT, PHASE_KIND_REVIEW, TASK_TYPE_UI, PhaseKind, TaskType
from factory_client.as_json import as_json
from factory_client.preferences import (
    Change,
    changed,
    differences,
    rule_for,
    rule_text,
    rules_that_never_count,
    written,
)
from hypothesis import given
from hypothesis import strategies as st

MODELS = st.lists(st.sampled_from(["claude", "gpt", "gemini", "deepseek"]), min_size=1, max_size=4, unique=True)
RULES = st.builds(
    lambda kind, phase, models: RoutingRule(type=kind, phase=phase, models=models),
    st.sampled_from(TaskType.values()),
    st.sampled_from(PhaseKind.values()),
    MODELS,
)
PREFERENCES = st.builds(
    lambda mode, rules, excluded, most: Preferences(
        mode=PREFERENCE_MODE_CUSTOM if rules else mode, rules=rules, excluded_models=excluded, max_open_tasks=most
    ),
    st.integers(1, 4),
    st.lists(RULES, max_size=4, unique_by=lambda rule: (rule.type, rule.phase)),
    MODELS,
    st.none() | st.integers(1, 1000),
)
BALANCED = Preferences(mode=PREFERENCE_MODE_BALANCED)


@given(RULES)
def test_a_rule_reads_as_it_is_written(rule):
    assert rule_for(rule_text(rule)) == rule


@given(PREFERENCES, st.integers(0, 9))
def test_what_is_shown_to_programs_can_be_read_back(preferences, version):
    alone = written(json.dumps(as_json(preferences)))
    around = written(json.dumps({"version": version, "preferences": as_json(preferences), "history": []}))

    assert (alone.preferences, alone.version) == (preferences, None)
    assert (around.preferences, around.version) == (preferences, version)


@given(PREFERENCES, PREFERENCES)
def test_preferences_differ_exactly_where_a_difference_is_told(one, other):
    # The order in which models are excluded means nothing.
    for preferences in (one, other):
        preferences.excluded_models.sort()

    assert differences(one, one) == []
    assert (differences(one, other) == []) == (one == other)


@given(PREFERENCES)
def test_a_change_that_names_nothing_changes_nothing(preferences):
    assert changed(preferences, Change()) == preferences


def test_a_rule_for_the_same_type_and_phase_takes_the_place_of_the_old_one():
    before = changed(BALANCED, Change(mode="custom", rules=["ui.review=claude", "api.any=gpt"]))
    after = changed(before, Change(rules=["ui.review=gemini,gpt"]))

    assert [rule_text(one) for one in after.rules] == ["ui.review=gemini,gpt", "api.any=gpt"]
    assert differences(before, after) == ["- rule ui.review=claude", "+ rule ui.review=gemini,gpt"]


def test_a_new_rule_goes_before_the_one_that_would_hide_it():
    before = changed(BALANCED, Change(mode="custom", rules=["logic.any=gpt", "any.any=claude"]))
    after = changed(before, Change(rules=["*.review=gemini", "logic.implement=deepseek"]))

    assert [rule_text(one) for one in after.rules] == [
        "logic.implement=deepseek",
        "logic.any=gpt",
        "any.review=gemini",
        "any.any=claude",
    ]
    assert rules_that_never_count(after.rules) == []


def test_a_rule_without_models_is_taken_away():
    before = changed(BALANCED, Change(mode="custom", rules=["ui.review=claude"]))

    assert list(changed(before, Change(rules=["ui.review="])).rules) == []


def test_rules_go_with_the_mode_that_they_count_in():
    before = changed(BALANCED, Change(mode="custom", rules=["ui.review=claude"]))

    assert differences(before, changed(before, Change(mode="cost"))) == [
        "mode: custom → cost",
        "- rule ui.review=claude",
    ]


def test_a_limit_of_open_tasks_can_be_given_back():
    before = changed(BALANCED, Change(max_open_tasks="20"))
    after = changed(before, Change(max_open_tasks="default"))

    assert differences(before, after) == ["open tasks at most: 20 → the factory's default"]


def test_rules_that_have_changed_places_are_a_difference():
    one, other = RoutingRule(type=TASK_TYPE_UI, models=["gpt"]), RoutingRule(phase=PHASE_KIND_REVIEW, models=["claude"])
    before, after = (Preferences(mode=PREFERENCE_MODE_CUSTOM, rules=rules) for rules in ([one, other], [other, one]))

    assert len(differences(before, after)) == 2


def test_a_rule_behind_a_wider_one_never_counts():
    wide, narrow = RoutingRule(models=["gpt"]), RoutingRule(phase=PHASE_KIND_IMPLEMENT, models=["claude"])

    assert rules_that_never_count([wide, narrow]) == [(narrow, wide)]
    assert rules_that_never_count([narrow, wide]) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mode = ", "neither JSON nor TOML"),
        ('{"mode": ', "neither JSON nor TOML"),
        ('modes = "cost"', "unknown modes; known are excluded_models, max_open_tasks, mode, rules"),
        ('mode = "cheap"', "unknown mode 'cheap'"),
        ("mode = 3", "mode: expected a word, found 3"),
        ('rules = "gpt"', "rules: expected a list, found 'gpt'"),
        ('mode = "custom"\nrules = ["gpt"]', r"rules\[0\]: expected type, phase and models, found 'gpt'"),
        (
            'mode = "custom"\nrules = [{phase = "review"}]',
            r"rules\[0\].models: expected models, best first, found none",
        ),
        ('mode = "custom"\nrules = [{model = "gpt"}]', r"unknown rules\[0\].model; known are models, phase, type"),
        ('mode = "cost"\nrules = [{models = ["gpt"]}]', 'none unless mode = "custom", found 1 in mode cost'),
        ('excluded_models = [""]', "excluded_models: expected names of models, found ''"),
        ("max_open_tasks = 0", "max_open_tasks: expected a whole number from 1 on, found 0"),
        ("max_open_tasks = true", "found True"),
        ('{"version": "3", "preferences": {}}', "version: expected a whole number, found '3'"),
        ('{"preferences": []}', r"preferences: expected an object, found \[\]"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_where_it_is_wrong(text, said):
    with pytest.raises(ValueError, match=said):
        written(text)
