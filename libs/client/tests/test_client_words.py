"""Words, money, JSON and progress: pure, in milliseconds."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from factory.audit.v1 import LedgerLine, TaskReportResponse
from factory.call.v1 import CALL_OUTCOME_OK
from factory.event.v1 import Event, Fact
from factory.log.v1 import LogPosition
from factory.model.v1 import Health
from factory.phase.v1 import PhaseRequested, PhaseSkipped
from factory.task.v1 import (
    PHASE_KIND_IMPLEMENT,
    PHASE_KIND_REVIEW,
    TASK_STATE_AWAITING_REVIEW,
    TASK_STATE_COMPLETED,
    TASK_STATE_FAILED,
    RequestExpired,
    RoutingOverridden,
    Task,
    TaskState,
    WatchResponse,
)
from factory_client.as_json import as_json
from factory_client.discovery import NoAddress, find_address
from factory_client.plain import one_line, plain
from factory_client.progress import Progress, Stage, advance
from factory_client.waiting import why_sentences
from factory_client.words import (
    code_word,
    money,
    money_left,
    percent_of,
    pico_usd,
    seconds_text,
    share_text,
    span_for,
    state_word,
    task_type_for,
    usd_text,
    word,
)

NOW = datetime(2026, 11, 23, 14, 5, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("pico", "shown"), [(0, "$0.00"), (12_300_000_000, "$0.0123"), (12_345_678 * 10**9, "$12,345.68"), ("5", "$0.0000")]
)
def test_money_for_people_is_short(pico, shown):
    assert money(pico) == shown


def test_money_for_programs_is_exact_even_beyond_64_bits():
    assert usd_text("92233720368547758070000000000001") == "92233720368547758070.000000000001"
    assert usd_text(420_000_000_000) == "0.42"


@pytest.mark.parametrize("amount", ["", "much", "-1", "NaN", "Infinity", "0.0000000000001", "1e30"])
def test_what_is_no_amount_of_money_is_refused(amount):
    with pytest.raises(ValueError, match="is not an amount in US dollars"):
        pico_usd(amount)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.42, "0.4 s"), (12.9, "12 s"), (192, "3 min 12 s"), (7500, "2 h 5 min"), (3e5, "3 days")]
)
def test_a_span_of_time_reads_as_one_would_say_it(seconds, shown):
    assert seconds_text(seconds) == shown


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45), ("90m", 5400), ("2h", 7200), ("1d", 86_400), ("1h30m", 5400), (" 2H ", 7200)]
)
def test_a_span_of_time_is_read_as_it_is_written(text, seconds):
    assert span_for(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "0m", "-1h", "1.5h", "2 weeks", "367d", "999999999d", "٢h"])
def test_what_is_no_span_of_time_is_refused(text):
    with pytest.raises(ValueError, match="is not a span of time"):
        span_for(text)


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [(0, 5, "0%"), (1, 10**6, "<0.1%"), (21, 1000, "2.1%"), (999_999, 10**6, "99%"), (5, 5, "100%"), (1, 0, "100%")],
)
def test_a_share_of_a_budget_is_never_rounded_up(part, whole, shown):
    assert percent_of(part, whole) == shown


def test_what_is_left_is_never_more_than_there_is():
    assert money_left(4_999_999_999_999) == "$4.99"
    assert money_left(999_999_999_999) == "$0.9999"
    assert money_left(-1) == "$0.00"


@pytest.mark.parametrize(("share", "shown"), [(0, "0%"), (0.021, "2.1%"), (0.83, "83%"), (1, "100%")])
def test_a_share_reads_as_percent(share, shown):
    assert share_text(share) == shown


def test_json_names_dollars_wherever_a_name_says_pico_dollars():
    shown = as_json(Health(pico_usd_per_1k_tokens=4_200_000_001))

    assert shown["usd_per_1k_tokens"] == "0.004200000001"
    assert "error_rate" in shown and shown["error_rate"] is None


def test_a_state_of_a_newer_release_has_a_word_too():
    assert word(TaskState, 99) == "unknown 99"
    assert (state_word(TASK_STATE_AWAITING_REVIEW), code_word(TaskState, 0)) == ("awaiting review", "")


def test_common_other_words_for_a_type_are_understood():
    assert task_type_for("cleanup") == task_type_for("refactoring")


def test_json_tells_unknown_from_zero():
    line = as_json(LedgerLine(call_id="c", outcome=CALL_OUTCOME_OK))

    assert line["cost_usd"] is None
    assert line["usage"] is None
    assert line["outcome"] == "ok"


def test_json_shows_money_as_exact_strings_and_positions_as_sequences():
    report = TaskReportResponse(task_id="t", position=LogPosition(stream="EVENTS", sequence=7))
    report.total.cost_pico_usd = "12300000001"
    report.lines.add().model_time.FromMilliseconds(1500)
    shown = json.loads(json.dumps(as_json(report)))

    assert shown["total"]["cost_usd"] == "0.012300000001"
    assert shown["position"] == 7
    assert shown["lines"][0]["model_time_s"] == 1.5


def test_text_of_others_cannot_steer_the_terminal():
    assert plain("red \x1b[31m\nnext\tcell") == "red \u241b[31m\nnext\tcell"
    assert plain("a\u202eb\x9bc") == "a<U+202E>b<U+009B>c"
    assert one_line(" two\n lines ") == "two lines"


def test_progress_shows_each_round_of_a_phase_as_a_step_of_its_own(told):
    progress = Progress()
    for response in told:
        progress = advance(progress, response)

    assert [(step.label, step.note) for step in progress.steps] == [
        ("classify", "ui, focused"),
        ("implement", ""),
        ("review", "asks for changes: 1 blocking finding"),
        ("implement", "again, after model review"),
        ("review", "approves"),
        ("quality gate", "pass · 12 tests passed"),
        ("human review", "approved by ada"),
        ("pull request", "factory/notes"),
    ]
    assert {step.stage for step in progress.steps} == {Stage.DONE}
    assert progress.steps[1].tokens == 1500
    assert (progress.steps[1].began_s, progress.steps[1].ended_s) == (1_790_000_002, 1_790_000_003)


def test_progress_shows_what_is_still_to_come(told):
    progress = Progress()
    for response in told[:3]:
        progress = advance(progress, response)

    assert [(step.label, step.stage) for step in progress.steps[1:]] == [
        ("implement", Stage.RUNNING),
        ("review", Stage.PLANNED),
        ("quality gate", Stage.PLANNED),
        ("human review", Stage.PLANNED),
        ("pull request", Stage.PLANNED),
    ]


def test_a_skipped_phase_stays_on_the_screen_with_its_reason(told):
    skipped = PhaseSkipped(phase=PHASE_KIND_REVIEW, reason="one family only")
    event = Event(facts=[Fact(phase_skipped=skipped)]).SerializeToString()
    progress = Progress()
    for response in (*told[:4], WatchResponse(sequence=20, event=event)):
        progress = advance(progress, response)

    assert [(s.label, s.note) for s in progress.steps if s.stage is Stage.SKIPPED] == [
        ("review", "skipped: one family only")
    ]


def test_a_phase_that_is_given_to_another_model_stops_and_begins_again(told):
    given = RoutingOverridden(phase=PHASE_KIND_IMPLEMENT, model="claude", overridden_by="ada")
    given.request_id = "implement-1-1"
    asked = PhaseRequested(request_id="implement-1-2", phase=PHASE_KIND_IMPLEMENT, model="claude")
    event = Event(facts=[Fact(routing_overridden=given), Fact(phase_requested=asked)]).SerializeToString()
    progress = Progress()
    for response in (*told[:3], WatchResponse(sequence=20, event=event)):
        progress = advance(progress, response)

    assert [(s.who, s.stage, s.note) for s in progress.steps if s.label == "implement"] == [
        ("gpt", Stage.FAILED, "given to claude by ada"),
        ("claude", Stage.RUNNING, "given to claude by ada"),
    ]


def test_a_request_that_expires_is_over_on_the_screen(told):
    event = Event(facts=[Fact(request_expired=RequestExpired(request_id="implement-1-1"))]).SerializeToString()
    progress = Progress()
    for response in (*told[:3], WatchResponse(sequence=20, event=event)):
        progress = advance(progress, response)

    assert [(s.stage, s.note) for s in progress.steps if s.label == "implement"] == [
        (Stage.FAILED, "not answered by its deadline")
    ]


def test_a_fact_of_a_newer_release_changes_nothing_on_the_screen(told):
    before = advance(Progress(), told[0])
    unknown = type(told[0])(sequence=11, event=b"\x82\x01\x03\xba\x3e\x00")  # facts = [an arm numbered 999]

    assert advance(before, unknown).steps == before.steps


def test_why_says_whose_turn_it_is_since_when_and_what_comes_next():
    task = Task(task_id="t-42", title="Add X", state=TASK_STATE_AWAITING_REVIEW, waiting_for="architect")
    task.since.FromDatetime(datetime(2026, 11, 23, 14, 2, 0, tzinfo=UTC))
    task.next_timer.FromDatetime(datetime(2026, 11, 23, 14, 15, 0, tzinfo=UTC))
    task.last_fact = "factory.review.v1.HumanReviewRequested"
    state, turn, look, last, timer = why_sentences(task, NOW)

    assert state == "'Add X' (t-42) is awaiting review."
    assert turn.startswith("It is the turn of architect, since ")
    assert turn.endswith("(3 min 0 s ago).")
    assert look == "Look at the change with: factory review show t-42"
    assert last == "The last thing that happened: HumanReviewRequested."
    assert timer.endswith("(in 10 min 0 s).")


def test_why_says_how_a_task_ended():
    failed = Task(task_id="t", title="Add X", state=TASK_STATE_FAILED, reason="no model can serve")
    done = Task(task_id="t", title="Add X", state=TASK_STATE_COMPLETED, pull_request_url="https://x/pr/1")

    assert why_sentences(failed, NOW)[0] == "'Add X' (t) has failed: no model can serve"
    assert why_sentences(done, NOW)[0] == "'Add X' (t) is completed; the pull request is https://x/pr/1"


def test_the_address_comes_from_the_environment_first(tmp_path: Path):
    (tmp_path / "factory.json").write_text('{"url": "127.0.0.1:1", "token": "file"}')
    env = {"FACTORY_URL": "factory.example:443", "FACTORY_TOKEN": "env", "FACTORY_DATA": str(tmp_path)}

    assert find_address(None, env).token == "env"
    assert find_address(tmp_path, env).token == "file"
    assert find_address(None, {"FACTORY_DATA": str(tmp_path)}).url == "127.0.0.1:1"


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"url": '])
def test_a_damaged_address_file_is_named(tmp_path: Path, content: str):
    (tmp_path / "factory.json").write_text(content)

    with pytest.raises(NoAddress, match=r"factory\.json cannot be read"):
        find_address(tmp_path, {})


def test_the_address_of_a_factory_that_was_killed_says_how_to_start_it(tmp_path: Path):
    (tmp_path / "factory.json").write_text('{"url": "127.0.0.1:1", "token": "t", "pid": 4194304000}')

    with pytest.raises(NoAddress, match="is not running; start it with `factory up`"):
        find_address(tmp_path, {})
