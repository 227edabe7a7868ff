"""The commands by which people steer, against a real gRPC server: settings, override, why, models, attachments."""

import json
from pathlib import Path

import pytest
from factory.project.v1 import PREFERENCE_MODE_COST, PREFERENCE_MODE_CUSTOM, Preferences, RoutingRule
from factory.task.v1 import (
    HOLD_CAUSE_BUDGET,
    HOLD_CAUSE_CAPACITY,
    HOLD_CAUSE_NO_MODEL,
    HOLD_CAUSE_TASK_BUDGET,
    PHASE_KIND_IMPLEMENT,
    PHASE_KIND_REVIEW,
    TASK_STATE_HELD,
    TASK_TYPE_LOGIC,
    OverriddenPhase,
)
from factory_client.cli import app
from typer.testing import CliRunner

TASK = "01kb2x7mz4e9qhrv5w3n8d6t0c"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


@pytest.fixture
def run(house, nowhere, monkeypatch):
    """Runs a command line against the factory of the test."""
    monkeypatch.setenv("FACTORY_URL", house.url)
    monkeypatch.setenv("FACTORY_TOKEN", "let-me-in")
    monkeypatch.setenv("COLUMNS", "160")

    def _run(*words: str, **settings):
        return CliRunner().invoke(app, list(words), prog_name="factory", **settings)

    return _run


def names(house) -> list[str]:
    return [request.DESCRIPTOR.name for request in house.seen]


# Settings


def test_settings_that_nobody_has_touched_are_the_factorys_own(run):
    shown = run("settings", "show", "shop").stdout

    assert "shop  nobody has changed anything" in shown
    assert "balanced" in shown
    assert "the factory's default" in shown


def test_only_what_is_named_changes_and_the_difference_is_shown(run, house):
    run("settings", "set", "shop", "--mode", "custom", "--rule", "logic.implement=deepseek,gpt", "--exclude", "gemini")
    result = run("settings", "set", "shop", "--max-open-tasks", "20", "--reason", "a small team")

    assert result.stdout == "  open tasks at most: the factory's default → 20\nshop: version 2 is saved\n"
    assert house.seen[-1].reason == "a small team"
    assert house.versions[-1].preferences == Preferences(
        mode=PREFERENCE_MODE_CUSTOM,
        rules=[RoutingRule(type=TASK_TYPE_LOGIC, phase=PHASE_KIND_IMPLEMENT, models=["deepseek", "gpt"])],
        excluded_models=["gemini"],
        max_open_tasks=20,
    )


def test_a_change_is_saved_over_the_version_that_was_read_and_no_other(run, house):
    run("settings", "set", "shop", "--mode", "cost")

    assert house.seen[-1].HasField("expected_version")
    assert house.seen[-1].expected_version == 0


def test_what_changes_nothing_saves_nothing(run, house):
    result = run("settings", "set", "shop", "--mode", "balanced")

    assert result.stdout == "shop: nothing changes; version 0 stands\n"
    assert names(house) == ["GetPreferencesRequest"]


def test_settings_that_have_moved_on_are_not_overwritten(run, house):
    run("settings", "set", "shop", "--mode", "cost")
    result = run("settings", "set", "shop", "--mode", "quality", "--expect-version", "0")

    assert result.exit_code == 1
    assert "the preferences of shop are at version 1, not 0" in result.stderr
    assert house.versions[-1].preferences.mode == PREFERENCE_MODE_COST


def test_what_show_prints_can_be_edited_and_set_again(run, house, tmp_path: Path):
    run("settings", "set", "shop", "--mode", "custom", "--rule", "any.review=claude", "--max-open-tasks", "5")
    file = tmp_path / "shop.json"
    file.write_text(run("settings", "show", "shop", "--json").stdout)

    same = run("settings", "set", "shop", "--file", str(file))
    file.write_text(file.read_text().replace('"claude"', '"gpt"'))
    other = run("settings", "set", "shop", "--file", str(file))
    again = run("settings", "set", "shop", "--file", str(file))

    assert same.stdout == "shop: nothing changes; version 1 stands\n"
    assert other.stdout.splitlines()[:2] == ["  - rule any.review=claude", "  + rule any.review=gpt"]
    # The file was written at version 1, and 2 stands now.
    assert (again.exit_code, "at version 2, not 1" in again.stderr) == (1, True)


def test_preferences_may_come_as_toml_from_stdin(run, house):
    toml = """
mode = "custom"
excluded_models = ["gemini"]

[[rules]]
phase = "review"
models = ["claude", "gpt"]
"""
    run("settings", "set", "shop", "--file", "-", input=toml)

    assert house.versions[-1].preferences == Preferences(
        mode=PREFERENCE_MODE_CUSTOM,
        rules=[RoutingRule(phase=PHASE_KIND_REVIEW, models=["claude", "gpt"])],
        excluded_models=["gemini"],
    )


def test_settings_as_json_say_what_stood_and_what_stands(run):
    shown = json.loads(run("settings", "set", "shop", "--mode", "cost", "--json").stdout)

    assert (shown["version"], shown["previous_version"]) == (1, 0)
    assert shown["changed"] == ["mode: balanced → cost"]
    assert shown["preferences"]["mode"] == "cost"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["set", "shop"], "name what to change"),
        (["set", "shop", "--mode", "cheap"], "unknown mode 'cheap'; known are balanced, quality, cost, custom"),
        (["set", "shop", "--rule", "logic.implement=gpt"], "add --mode custom"),
        (["set", "shop", "--mode", "custom", "--rule", "gpt"], "expected TYPE.PHASE=MODEL"),
        (["set", "shop", "--mode", "custom", "--rule", "poem.implement=gpt"], "unknown task type 'poem'"),
        (["set", "shop", "--mode", "custom", "--rule", "logic.dream=gpt"], "unknown phase 'dream'"),
        (["set", "shop", "--mode", "custom", "--rule", "ui.review="], "there is no rule for ui.review"),
        (["set", "shop", "--include", "gpt"], "--include gpt: it is not excluded"),
        (["set", "shop", "--max-open-tasks", "0"], "--max-open-tasks: expected a whole number from 1 on"),
        (["set", "shop", "--file", "/no/such"], "'/no/such' cannot be read"),
        (["preview", "shop", "--mode", "cheap"], "unknown mode 'cheap'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_before_anything_is_saved(run, house, words, said):
    result = run("settings", *words)

    assert result.exit_code == 2
    assert said in result.stderr
    assert set(names(house)) <= {"GetPreferencesRequest"}


def test_an_unknown_project_ends_with_1(run):
    result = run("settings", "show", "shed")

    assert (result.exit_code, result.stderr) == (1, "factory: there is no project 'shed'\n")


def test_a_rule_that_never_counts_is_pointed_out(run, tmp_path: Path):
    file = tmp_path / "prefs.toml"
    file.write_text(
        'mode = "custom"\nrules = [{models = ["gpt"]}, {type = "ui", phase = "review", models = ["claude"]}]'
    )

    shown = run("settings", "set", "shop", "--file", str(file)).stdout

    assert "note: ui.review=claude never counts, because any.any=gpt comes first" in shown


def test_the_history_says_who_changed_what_and_why(run, monkeypatch):
    run("settings", "set", "shop", "--mode", "cost", "--reason", "quarter's end")
    run("settings", "set", "shop", "--exclude", "gpt\x1b[31m")
    monkeypatch.setenv("COLUMNS", "100")

    shown = run("settings", "history", "shop").stdout

    newer, older = (next(line for line in shown.splitlines() if mark in line) for mark in ("+ exclude", "mode:"))
    assert "ada" in newer
    assert "gpt␛[31m" in newer
    assert "mode: balanced → cost" in older
    assert "quarter's end" in older


def test_a_history_of_nothing_is_said(run):
    assert run("settings", "history", "shop").stdout == (
        "nobody has changed the preferences of shop; they are the factory's own\n"
    )


def test_a_preview_compares_like_with_like_and_changes_nothing(run, house):
    result = run("settings", "preview", "shop", "--mode", "cost", "--last", "50")

    assert house.seen[-1].preferences.mode == PREFERENCE_MODE_COST
    assert house.seen[-1].tasks == 50
    assert house.versions == []
    implement, review = (
        next(line for line in result.stdout.splitlines() if word in line) for word in ("deepseek", "review ")
    )
    assert implement.split()[3:7] == ["gpt", "deepseek", "$0.1200", "$0.0900"]
    assert "unknown" in review
    assert result.stdout.splitlines()[-4:] == [
        "1 task, 2 phases: 2 phases would go to another model",
        "cost where both are known: $0.1200 was, $0.0900 would be, $0.0300 less (25%)",
        "left out of the sum: 1 phase of unknown cost",
        "  gemini has never reviewed a ui task",
    ]


def test_a_preview_fits_its_terminal(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    lines = run("settings", "preview", "shop").stdout.splitlines()

    assert max(map(len, lines)) <= 80
    assert any("$0.0900" in line for line in lines)


def test_a_preview_without_tasks_says_so(run, house):
    del house.previewed.tasks[:]

    assert run("settings", "preview", "shop").stdout == "no task of shop has been planned yet\n"


# Override and why


def test_a_phase_is_given_to_a_model_for_one_task(run, house):
    result = run("override", TASK, "write-tests", "claude", "-m", "it knows this code")

    assert (house.seen[-1].task_id, house.seen[-1].model) == (TASK, "claude")
    assert house.seen[-1].reason == "it knows this code"
    assert result.stdout == f"write tests of {TASK} is done by claude\nwhy: factory why {TASK} write_tests\n"


def test_an_override_can_be_taken_back(run, house):
    shown = json.loads(run("override", TASK, "review", "--clear", "--json").stdout)

    assert (house.seen[-1].phase, house.seen[-1].model) == (PHASE_KIND_REVIEW, "")
    assert shown == {"task_id": TASK, "phase": "review", "model": None, "overridden": False}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["review"], "say which model does it, or --clear"),
        (["review", "gpt", "--clear"], "one of them"),
        (["dream", "gpt"], "unknown phase 'dream'"),
    ],
)
def test_an_override_that_cannot_be_meant_is_refused(run, house, words, said):
    result = run("override", TASK, *words)

    assert (result.exit_code, said in result.stderr) == (2, True)
    assert house.seen == []


def test_why_says_for_each_phase_who_does_it_and_why(run):
    lines = run("why", TASK).stdout.splitlines()

    assert lines[-4:-1] == [
        "Who does what:",
        "  implement: gpt, because the project puts quality first",
        "  review: claude is planned by the routing table",
    ]


def test_why_of_a_phase_shows_every_decision_with_the_rules_that_made_it(run, house):
    shown = run("why", TASK, "implement").stdout

    assert house.seen[-1].phase == PHASE_KIND_IMPLEMENT
    assert "implement (implement-1-1)\n" in shown
    assert "  implement-1-1 is asked of gpt: the project puts quality first.\n" in shown
    assert "  claude is ruled out: no ␛[31mkey.\n" in shown
    assert "  decided by routing-2, on inputs abababababab, the log read to 1,234\n" in shown


def test_long_reasons_are_folded_with_their_indentation(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")

    lines = run("why", TASK, "implement").stdout.splitlines()

    assert max(map(len, lines)) <= 40
    assert [line for line in lines if "implement-1-1 is" in line or "quality" in line] == [
        "  implement-1-1 is asked of gpt: the",
        "  project puts quality first.",
    ]


def test_why_as_json_has_the_task_and_its_receipts(run):
    shown = json.loads(run("why", TASK, "implement", "--json").stdout)

    assert shown["waiting_for"] == "executor-gpt"
    assert shown["decisions"][-1]["receipt"]["policy_version"] == "routing-2"
    assert shown["decisions"][-1]["receipt"]["source"] == "mode"


def test_why_of_no_phase_is_refused(run, house):
    result = run("why", TASK, "dream")

    assert (result.exit_code, "unknown phase 'dream'" in result.stderr) == (2, True)
    assert house.seen == []


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (HOLD_CAUSE_TASK_BUDGET, f"factory release {TASK} --max-cost USD"),
        (HOLD_CAUSE_BUDGET, "factory budget set shop --hard USD"),
        (HOLD_CAUSE_CAPACITY, "factory settings set shop --max-open-tasks N"),
        (HOLD_CAUSE_NO_MODEL, f"factory override {TASK} PHASE MODEL"),
        (0, f"Let it go on with: factory release {TASK}"),
    ],
)
def test_a_held_task_names_the_command_that_helps(run, house, cause, said):
    house.state = TASK_STATE_HELD
    house.known.project, house.known.reason, house.known.hold_cause = "shop", "there is no room", cause

    shown = run("why", TASK).stdout

    assert "is held: there is no room" in shown
    assert said in shown


def test_the_list_of_tasks_says_what_a_held_one_waits_for(run, house, monkeypatch):
    house.state, house.known.hold_cause = TASK_STATE_HELD, HOLD_CAUSE_BUDGET
    monkeypatch.setenv("COLUMNS", "80")

    lines = run("tasks").stdout.splitlines()

    assert [line.count("held: budget") for line in lines if TASK[:14] in line] == [1]
    assert max(map(len, lines)) <= 80


def test_why_tells_deadline_and_overrides(run, house):
    house.known.deadline.FromSeconds(4_000_000_000)
    house.known.overrides.append(
        OverriddenPhase(phase=PHASE_KIND_REVIEW, model="gpt", overridden_by="ada", reason="faster")
    )

    shown = run("why", TASK).stdout

    assert "It fails if it has no pull request by 2096-10-0" in shown
    assert "review was given to gpt by ada: faster\n" in shown


# Models


def test_models_show_how_well_they_are(run):
    gpt = next(line for line in run("models").stdout.splitlines() if "open for ui" in line)

    assert gpt.split("  ")[0].strip() == "gpt"
    for figure in ("0.8 s / 12 s", "2.1% of 48 calls", "$0.0042", "83% of 12 changes"):
        assert figure in gpt


def test_models_say_where_there_is_not_enough_data_instead_of_zero(run, monkeypatch):
    wide = [line for line in run("models").stdout.splitlines() if "gemini" in line][-1]
    monkeypatch.setenv("COLUMNS", "80")
    narrow = run("models").stdout

    assert wide.count("not enough data") == 4
    assert [line for line in narrow.splitlines() if "gemini" in line][-1].count("–") == 4
    assert "– not enough data\n" in narrow
    assert max(map(len, narrow.splitlines())) <= 80


def test_an_open_breaker_says_why_since_when_and_until_when(run):
    shown = run("models").stdout

    assert "gpt is open: 7 of 10 calls failed (5 overloaded, 2 timeout), since 2026-" in shown
    assert "gpt is open for ui tasks: 4 of 5 of its results did not pass (4 gate block)" in shown


def test_models_as_json_have_exact_figures_and_null_for_what_is_not_known(run):
    gpt, claude, gemini = json.loads(run("models", "--json").stdout)["models"]

    assert gpt["health"]["usd_per_1k_tokens"] == "0.0042"
    assert (gpt["health"]["latency_p95_s"], gpt["health"]["breakers"][0]["state"]) == (12.5, "open")
    assert (gemini["health"]["error_rate"], gemini["health"]["latency_p50_s"]) == (None, None)
    assert claude["health"] is None


def test_a_model_is_tripped_and_recovered_by_hand(run, house):
    tripped = run("models", "trip", "gpt", "--for", "1h")

    assert (house.seen[-1].model, house.seen[-1].duration.seconds) == ("gpt", 3600)
    assert tripped.stdout.startswith("nothing is routed to gpt for 1 h 0 min\n")
    assert run("models", "recover", "gpt").stdout == "gpt serves again\n"
    assert not run("models", "trip", "gpt").exit_code
    assert not house.seen[-1].HasField("duration")


def test_a_model_that_is_well_cannot_recover(run):
    result = run("models", "recover", "claude")

    assert (result.exit_code, result.stderr) == (1, "factory: no breaker of claude is open\n")


@pytest.mark.parametrize(
    ("pause", "said"), [("soon", "'soon' is not a span of time"), ("5s", "expected 1m to 24h"), ("2d", "1m to 24h")]
)
def test_a_pause_that_the_factory_would_not_take_is_refused(run, house, pause, said):
    result = run("models", "trip", "gpt", "--for", pause)

    assert (result.exit_code, said in result.stderr) == (2, True)
    assert house.seen == []


# Submitting


def test_attachments_are_sent_by_name_never_by_path(run, house, tmp_path: Path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "screenshot.png").write_bytes(PNG)
    (tmp_path / "log.txt").write_text("it broke\n")
    attach = ["--attach", str(tmp_path / "deep" / "screenshot.png"), "--attach", str(tmp_path / "log.txt")]
    result = run("submit", "Fix it", "--project", "shop", *attach)

    assert result.exit_code == 0
    assert [(one.name, one.content, one.media_type) for one in house.seen[0].attachments] == [
        ("screenshot.png", PNG, ""),
        ("log.txt", b"it broke\n", ""),
    ]
    assert str(tmp_path) not in str(house.seen[0])


def test_attachments_that_the_factory_would_not_take_are_refused_before_they_are_sent(run, house, tmp_path: Path):
    large, binary, empty, twin = (tmp_path / name for name in ("large.txt", "tool.bin", "empty.txt", "a/empty.txt"))
    with large.open("wb") as opened:
        opened.truncate(16 * 1024 * 1024 + 1)
    binary.write_bytes(b"\x7fELF\x00\xff")
    empty.write_bytes(b"")
    twin.parent.mkdir()
    twin.write_bytes(b"x")
    nine = [tmp_path / f"{number}.txt" for number in range(9)]
    for path in nine:
        path.write_text("x")
    said = {
        (large,): "at most 16,777,216 bytes together",
        (binary,): "'tool.bin' is neither a PNG, JPEG, GIF or WebP image nor UTF-8 text",
        (empty,): "'empty.txt' is empty",
        (empty, twin): "two files are called 'empty.txt'",
        tuple(nine): "at most 8 files, found 9",
        (tmp_path / "none",): "cannot be read: No such file",
    }

    for files, why in said.items():
        attach = [word for file in files for word in ("--attach", str(file))]
        result = run("submit", "Fix it", "--project", "shop", *attach)
        assert (result.exit_code, "--attach: " in result.stderr, why in result.stderr) == (2, True, True)
    assert house.seen == []


@pytest.mark.parametrize(("span", "seconds"), [("90m", 5400), ("2h", 7200), ("1d", 86_400), ("1h30m", 5400)])
def test_a_deadline_counts_from_now(run, house, span, seconds):
    run("submit", "Fix it", "--project", "shop", "--deadline", span)

    assert house.seen[0].limits.timeout.seconds == seconds
    assert not house.seen[0].limits.HasField("max_cost_pico_usd")


@pytest.mark.parametrize("span", ["tomorrow", "2", "0h", "-2h", "400d"])
def test_what_is_no_deadline_is_refused(run, house, span):
    result = run("submit", "Fix it", "--project", "shop", "--deadline", span)

    assert (result.exit_code, "is not a span of time" in result.stderr) == (2, True)
    assert house.seen == []
