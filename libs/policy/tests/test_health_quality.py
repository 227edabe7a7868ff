"""A model whose work is sent back is not asked for that type of task, until a change of its passes."""

from datetime import timedelta

import pytest
from factory.gate.v1 import GATE_VERDICT_BLOCK, GATE_VERDICT_PASS, GATE_VERDICT_UNKNOWN
from factory.model.v1 import (
    TRIP_CAUSE_PROBE_FAILED,
    TRIP_CAUSE_QUALITY,
    ModelRecovered,
)
from factory.phase.v1 import (
    PHASE_FAILURE_MALFORMED,
    PHASE_FAILURE_REFUSED,
    PHASE_FAILURE_SERVER_ERROR,
    PHASE_FAILURE_TRUNCATED,
    VERDICT_APPROVE,
    VERDICT_REQUEST_CHANGES,
    PhaseCompleted,
    PhaseFailure,
)
from factory.task.v1 import (
    PHASE_KIND_REVIEW,
    TASK_TYPE_API,
    TASK_TYPE_UI,
    TASK_TYPE_UNSPECIFIED,
)
from policy.health import State, probe, recovered_by_hand

from tests.health_log import NOON, HealthLog, failed, let_through, sloppy, status, the_trip

ANY = TASK_TYPE_UNSPECIFIED


@pytest.fixture
def log() -> HealthLog:
    return HealthLog()


def test_a_model_whose_changes_are_sent_back_is_not_asked_for_tasks_of_that_type(log: HealthLog):
    for _ in range(2):
        log.writes("gpt", TASK_TYPE_API, review=VERDICT_APPROVE, gate=GATE_VERDICT_UNKNOWN)
    for _ in range(3):
        log.writes("gpt", TASK_TYPE_API, review=VERDICT_REQUEST_CHANGES)
    log.writes("gpt", TASK_TYPE_UI, gate=GATE_VERDICT_BLOCK)
    assert log.health.due() == []
    log.writes("gpt", TASK_TYPE_API, gate=GATE_VERDICT_BLOCK)

    trip = the_trip(log)

    assert (trip.model, trip.type, trip.cause) == ("gpt", TASK_TYPE_API, TRIP_CAUSE_QUALITY)
    assert (trip.evidence.observed, trip.evidence.bad) == (6, 4)
    assert dict(trip.evidence.reasons) == {"review rejection": 3, "gate block": 1}
    assert list(trip.evidence.examples)[-1].endswith(".gate-1-1")
    log.say_of_model(trip)
    api = status(log, TASK_TYPE_API)
    assert (api.state, api.type) == (State.OPEN, TASK_TYPE_API)
    assert api.why.endswith("4 of 6 results for api tasks were bad (3 review rejection, 1 gate block)")
    assert status(log, TASK_TYPE_UI).state is State.CLOSED
    assert status(log).state is State.CLOSED
    assert log.health.status("gemini", TASK_TYPE_API, log.now).state is State.CLOSED, "the reviewer did nothing wrong"


def test_one_hard_task_that_is_sent_back_again_and_again_trips_nobody(log: HealthLog):
    task = log.new_task()
    for round_ in range(1, 7):
        log.writes("gpt", TASK_TYPE_API, VERDICT_REQUEST_CHANGES, GATE_VERDICT_BLOCK, task=task, round_=round_)

    assert log.health.due() == []


def test_a_gate_that_could_not_tell_says_nothing(log: HealthLog):
    for _ in range(10):
        log.writes("gpt", TASK_TYPE_API, gate=GATE_VERDICT_UNKNOWN)

    assert log.health.due() == []
    assert log.health.figures("gpt", log.now).judged_changes == 0


@pytest.mark.parametrize("reason", [PHASE_FAILURE_MALFORMED, PHASE_FAILURE_TRUNCATED, PHASE_FAILURE_REFUSED])
def test_answers_that_cannot_be_used_count_for_the_type_and_not_for_the_model(log: HealthLog, reason: PhaseFailure):
    for _ in range(6):
        log.fails("gpt", reason, type=TASK_TYPE_API, outcome_ok=True)

    trip = the_trip(log)

    assert (trip.type, trip.cause, trip.evidence.bad) == (TASK_TYPE_API, TRIP_CAUSE_QUALITY, 6)


def test_usable_answers_hide_no_bad_changes(log: HealthLog):
    for _ in range(20):
        log.answers("gpt", type=TASK_TYPE_API, phase=PHASE_KIND_REVIEW)

    assert sloppy(log).evidence.bad == 6


def test_a_model_that_writes_badly_is_well_again_when_a_change_of_its_passes(log: HealthLog):
    sloppy(log)
    task, request = let_through(log, after_s=901, type=TASK_TYPE_API)
    log.say(task, "executor-gpt", PhaseCompleted(request_id=request))
    assert log.health.due() == [], "that it answered is not enough"
    assert status(log, TASK_TYPE_API).probe_pending
    log.judges("gpt", TASK_TYPE_API, task, gate=GATE_VERDICT_PASS)

    (fact,) = log.health.due()

    assert isinstance(fact, ModelRecovered)
    assert fact.type == TASK_TYPE_API
    log.say_of_model(fact)
    assert status(log, TASK_TYPE_API).state is State.CLOSED


def test_a_probe_whose_change_is_rejected_has_failed(log: HealthLog):
    sloppy(log)
    task, request = let_through(log, after_s=901, type=TASK_TYPE_API)
    log.say(task, "executor-gpt", PhaseCompleted(request_id=request))
    log.judges("gpt", TASK_TYPE_API, task, review=VERDICT_REQUEST_CHANGES)

    trip = the_trip(log)

    assert (trip.type, trip.cause, trip.trips) == (TASK_TYPE_API, TRIP_CAUSE_PROBE_FAILED, 2)
    assert trip.open_until.ToDatetime(NOON.tzinfo) == log.now + timedelta(minutes=30)


def test_what_is_said_of_an_earlier_change_of_the_same_task_is_no_verdict_on_the_probe(log: HealthLog):
    task = log.authored("gpt", TASK_TYPE_API)
    sloppy(log)
    log.wait(901)
    log.say_of_model(probe("gpt", TASK_TYPE_API, task, "implement-2-1", log.now))
    log.judges("gpt", TASK_TYPE_API, task, review=VERDICT_REQUEST_CHANGES)

    assert log.health.due() == []
    assert status(log, TASK_TYPE_API).probe_pending


def test_a_probe_of_quality_that_meets_a_provider_that_is_down_tells_nothing(log: HealthLog):
    sloppy(log)
    task, request = let_through(log, after_s=901, type=TASK_TYPE_API)
    log.say(task, "executor-gpt", failed(request, PHASE_FAILURE_SERVER_ERROR))

    assert log.health.due() == []
    assert not status(log, TASK_TYPE_API).probe_pending


def test_changes_from_before_a_recovery_that_are_judged_after_it_do_not_count(log: HealthLog):
    written = [log.authored("gpt", TASK_TYPE_API) for _ in range(8)]
    sloppy(log)
    log.say_of_model(recovered_by_hand("gpt", "ada"))
    for task in written:
        log.judges("gpt", TASK_TYPE_API, task, gate=GATE_VERDICT_BLOCK)
    for _ in range(5):
        log.writes("gpt", TASK_TYPE_API, gate=GATE_VERDICT_BLOCK)
    assert log.health.due() == []

    log.writes("gpt", TASK_TYPE_API, gate=GATE_VERDICT_BLOCK)

    assert the_trip(log).type == TASK_TYPE_API
