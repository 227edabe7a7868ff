"""When a model is given no more tasks: what opens its breaker, and what never does."""

from datetime import timedelta
from typing import cast

import pytest
from factory.call.v1 import CALL_OUTCOME_LOST, ModelCalled
from factory.model.v1 import (
    TRIP_CAUSE_ERROR_RATE,
    TRIP_CAUSE_PAYMENT_REQUIRED,
    TRIP_CAUSE_RATE_LIMITED,
    TRIP_CAUSE_TIMEOUTS,
    ModelRecovered,
    ModelTripped,
)
from factory.phase.v1 import (
    PHASE_FAILURE_ARTIFACT_MISSING,
    PHASE_FAILURE_BROKEN_STREAM,
    PHASE_FAILURE_CALLS_SPENT,
    PHASE_FAILURE_CONTEXT_TOO_LARGE,
    PHASE_FAILURE_INVALID_REQUEST,
    PHASE_FAILURE_OVERLOADED,
    PHASE_FAILURE_PAYMENT_REQUIRED,
    PHASE_FAILURE_POISON,
    PHASE_FAILURE_RATE_LIMITED,
    PHASE_FAILURE_SERVER_ERROR,
    PHASE_FAILURE_STOPPED,
    PHASE_FAILURE_TIMEOUT,
    PHASE_FAILURE_UNAUTHENTICATED,
    PHASE_FAILURE_UNREACHABLE,
    PHASE_FAILURE_UNSPECIFIED,
    VERDICT_APPROVE,
    PhaseCompleted,
    PhaseFailure,
)
from factory.task.v1 import (
    TASK_TYPE_API,
    TASK_TYPE_UNSPECIFIED,
    RequestExpired,
    TaskCancelled,
)
from policy.health import POLICY_VERSION, State, Status

from tests.health_log import NOON, HealthLog, down, failed, let_through, sloppy, status, the_trip

ANY = TASK_TYPE_UNSPECIFIED


@pytest.fixture
def log() -> HealthLog:
    return HealthLog()


def test_a_model_of_which_nothing_is_known_serves(log: HealthLog):
    assert status(log) == Status(state=State.CLOSED, why="", badness=0.0)
    assert log.health.due() == []


def test_a_model_that_fails_most_of_its_calls_is_tripped_with_evidence_that_can_be_checked(log: HealthLog):
    log.answers("gpt")
    first = log.sequence
    for _ in range(3):
        log.fails("gpt", PHASE_FAILURE_SERVER_ERROR)
    assert log.health.due() == []
    log.fails("gpt", PHASE_FAILURE_OVERLOADED)

    trip = the_trip(log)

    assert (trip.model, trip.type, trip.cause, trip.trips) == ("gpt", ANY, TRIP_CAUSE_ERROR_RATE, 1)
    assert trip.policy_version == POLICY_VERSION
    assert (trip.evidence.observed, trip.evidence.bad) == (5, 4)
    assert dict(trip.evidence.reasons) == {"server error": 3, "overloaded": 1}
    assert (trip.evidence.from_sequence, trip.evidence.to_sequence) == (first, log.sequence)
    assert list(trip.evidence.examples) == [f"task-{n}.implement-1-1-1" for n in (2, 3, 4, 5)]
    assert trip.open_until.ToDatetime(NOON.tzinfo) == log.now + timedelta(seconds=30)


def test_only_what_is_said_in_the_log_opens_a_breaker_and_it_is_said_once(log: HealthLog):
    for _ in range(5):
        log.fails("gpt", PHASE_FAILURE_SERVER_ERROR)
    assert status(log).state is State.CLOSED
    trip = the_trip(log)
    assert log.health.due("claude") == []
    assert log.health.due("gpt") == [trip]

    log.say_of_model(trip)

    assert log.health.due() == []
    assert status(log).state is State.OPEN
    assert status(log).why == "paused until 12:00:40 UTC: 5 of 5 calls failed (5 server error)"
    log.fails("gpt", PHASE_FAILURE_SERVER_ERROR)
    assert log.health.due() == []


def test_a_lone_failure_never_trips_whatever_it_is(log: HealthLog):
    for reason in cast(list[PhaseFailure], PhaseFailure.values()):
        alone = HealthLog()
        alone.fails("gpt", reason)
        assert alone.health.due() == []


def test_what_is_due_stays_the_same_until_it_is_said(log: HealthLog):
    for _ in range(5):
        log.fails("gpt", PHASE_FAILURE_SERVER_ERROR)
    trip = the_trip(log)
    log.fails("gpt", PHASE_FAILURE_RATE_LIMITED, retry_after_s=600)
    log.answers("gpt")

    assert the_trip(log) == trip


def test_a_model_that_fails_now_and_then_goes_on_serving(log: HealthLog):
    for _ in range(30):
        log.fails("gpt", PHASE_FAILURE_SERVER_ERROR)
        log.answers("gpt")
        log.answers("gpt")

    assert log.health.due() == []


def test_a_busy_model_that_goes_down_is_noticed_within_ten_failures(log: HealthLog):
    for _ in range(100):
        log.answers("gpt")
    for _ in range(9):
        log.fails("gpt", PHASE_FAILURE_UNREACHABLE)
    assert log.health.due() == []

    log.fails("gpt", PHASE_FAILURE_UNREACHABLE)

    assert the_trip(log).evidence.observed == 20


def test_failures_of_long_ago_do_not_add_up(log: HealthLog):
    for _ in range(12):
        log.fails("gpt", PHASE_FAILURE_SERVER_ERROR)
        log.wait(400)

    assert log.health.due() == []


def test_two_calls_in_a_row_for_which_nobody_paid_are_enough(log: HealthLog):
    for _ in range(20):
        log.answers("gpt")
    log.fails("gpt", PHASE_FAILURE_PAYMENT_REQUIRED)
    log.answers("gpt")
    log.fails("gpt", PHASE_FAILURE_PAYMENT_REQUIRED)
    assert log.health.due() == []
    log.fails("gpt", PHASE_FAILURE_PAYMENT_REQUIRED)

    trip = the_trip(log)

    assert (trip.cause, trip.evidence.observed, trip.evidence.bad) == (TRIP_CAUSE_PAYMENT_REQUIRED, 2, 2)
    assert trip.open_until.ToDatetime(NOON.tzinfo) == log.now + timedelta(minutes=5)


@pytest.mark.parametrize(
    ("reason", "cause"),
    [(PHASE_FAILURE_RATE_LIMITED, TRIP_CAUSE_RATE_LIMITED), (PHASE_FAILURE_TIMEOUT, TRIP_CAUSE_TIMEOUTS)],
)
def test_rate_limits_and_timeouts_are_causes_of_their_own(log: HealthLog, reason: PhaseFailure, cause: int):
    log.answers("gpt")
    for _ in range(3):
        log.fails("gpt", reason)

    assert the_trip(log).cause == cause


def test_a_request_that_nobody_answered_by_its_deadline_counts_as_a_timeout(log: HealthLog):
    for _ in range(4):
        task, request = log.ask("gpt")
        log.say(task, "conductor", RequestExpired(request_id=request))

    trip = the_trip(log)

    assert (trip.cause, dict(trip.evidence.reasons)) == (TRIP_CAUSE_TIMEOUTS, {"deadline": 4})
    assert trip.evidence.examples[0] == "task-1.implement-1-1"


@pytest.mark.parametrize(
    "reason", [PHASE_FAILURE_UNREACHABLE, PHASE_FAILURE_BROKEN_STREAM, PHASE_FAILURE_UNAUTHENTICATED]
)
def test_no_connection_a_broken_stream_and_a_wrong_key_count_against_a_model(log: HealthLog, reason: PhaseFailure):
    for _ in range(5):
        log.fails("gpt", reason)

    assert the_trip(log).cause == TRIP_CAUSE_ERROR_RATE


@pytest.mark.parametrize(
    "reason",
    [
        PHASE_FAILURE_STOPPED,
        PHASE_FAILURE_CALLS_SPENT,
        PHASE_FAILURE_ARTIFACT_MISSING,
        PHASE_FAILURE_POISON,
        PHASE_FAILURE_CONTEXT_TOO_LARGE,
        PHASE_FAILURE_INVALID_REQUEST,
        PHASE_FAILURE_UNSPECIFIED,
    ],
)
def test_what_is_our_own_doing_counts_as_nothing(log: HealthLog, reason: PhaseFailure):
    for _ in range(40):
        log.fails("gpt", reason)

    assert log.health.due() == []
    assert log.health.figures("gpt", log.now).error_rate is None


def test_lost_calls_are_our_crashes_and_their_real_end_counts_once(log: HealthLog):
    for _ in range(10):
        task, request = log.ask("gpt")
        log.call("gpt", task, request, outcome=CALL_OUTCOME_LOST)
    task, request = log.ask("gpt")
    log.call("gpt", task, request, outcome=CALL_OUTCOME_LOST)
    assert log.health.figures("gpt", log.now).calls == 0

    for _ in range(3):
        log.call("gpt", task, request)
        log.call("gpt", task, request, outcome=CALL_OUTCOME_LOST)

    assert log.health.figures("gpt", log.now).calls == 1
    assert log.health.due() == []


def test_each_model_has_its_own_breaker(log: HealthLog):
    for _ in range(5):
        log.fails("gpt", PHASE_FAILURE_SERVER_ERROR)
        log.answers("claude")

    assert [fact.model for fact in log.health.due()] == ["gpt"]


def test_of_two_breakers_the_one_that_lets_less_through_decides(log: HealthLog):
    sloppy(log)
    assert status(log, TASK_TYPE_API).type == TASK_TYPE_API
    down(log)
    assert status(log, TASK_TYPE_API).type == ANY
    log.wait(60)

    assert status(log).state is State.HALF_OPEN
    assert (status(log, TASK_TYPE_API).state, status(log, TASK_TYPE_API).type) == (State.OPEN, TASK_TYPE_API)


def test_where_all_are_open_the_least_bad_can_be_told(log: HealthLog):
    log.models_fail("broke", PHASE_FAILURE_PAYMENT_REQUIRED, times=2)
    log.models_fail("down", PHASE_FAILURE_SERVER_ERROR, times=5)
    log.models_fail("limited", PHASE_FAILURE_RATE_LIMITED, good=3, times=3)
    log.say_of_model(*log.health.due())

    badness = {name: log.health.status(name, ANY, log.now).badness for name in ("well", "limited", "down", "broke")}

    assert sorted(badness, key=badness.__getitem__) == ["well", "limited", "down", "broke"]
    assert all(0 <= value <= 1 for value in badness.values())


# Late, repeated and unknown facts.


def test_a_result_for_a_request_that_was_never_seen_counts_nowhere(log: HealthLog):
    for n in range(10):
        log.say(f"stranger-{n}", "executor-gpt", failed("implement-1-1", PHASE_FAILURE_SERVER_ERROR))
        log.say(f"stranger-{n}", "executor-gpt", PhaseCompleted(request_id="review-1-1", verdict=VERDICT_APPROVE))
        log.say(f"stranger-{n}", "executor-gpt", ModelCalled(call_id=f"x-{n}", model="", outcome=CALL_OUTCOME_LOST))

    assert log.health.due() == []
    assert status(log) == Status()


def test_the_same_failure_told_again_counts_once(log: HealthLog):
    for _ in range(3):
        task, request = log.ask("gpt")
        for _ in range(5):
            log.say(task, "executor-gpt", failed(request, PHASE_FAILURE_SERVER_ERROR))
        log.say(task, "conductor", RequestExpired(request_id=request))

    assert log.health.due() == []


def test_facts_of_a_task_that_has_ended_count_no_more(log: HealthLog):
    for _ in range(6):
        task, request = log.ask("gpt")
        log.say(task, "conductor", TaskCancelled())
        log.ask("gpt", task=task)
        log.say(task, "executor-gpt", failed(request, PHASE_FAILURE_SERVER_ERROR))

    assert log.health.due() == []
    assert log.health.figures("gpt", log.now).in_flight == 0


def test_an_event_that_the_reader_is_given_again_changes_nothing(log: HealthLog):
    down(log)
    tripped = log.events[-1]
    log.wait(60)
    log.answers("claude")
    before = log.health.message("gpt", log.now)

    log.health.observe(*tripped)

    assert log.health.message("gpt", log.now) == before


def test_the_same_trip_in_a_second_message_changes_nothing(log: HealthLog):
    trip = down(log)
    task, _ = let_through(log)
    log.say_of_model(trip, version=1)

    assert status(log).probe_task == task


def test_a_fact_of_an_unknown_kind_or_type_is_passed_over(log: HealthLog):
    log.observe(log.envelope("model-gpt", "conductor"), [None])
    log.say_of_model(ModelTripped(model="gpt", type=99))  # type: ignore[arg-type]
    log.say_of_model(ModelRecovered(model="gpt"))

    assert status(log).state is State.CLOSED
