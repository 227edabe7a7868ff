"""How long a model is left alone, and how it comes back: the pause, the one probe, the recovery, and people."""

from datetime import timedelta

import pytest
from factory.model.v1 import (
    BREAKER_STATE_CLOSED,
    BREAKER_STATE_OPEN,
    TRIP_CAUSE_ERROR_RATE,
    TRIP_CAUSE_OPERATOR,
    TRIP_CAUSE_PROBE_FAILED,
    ModelRecovered,
    TripCause,
)
from factory.phase.v1 import (
    PHASE_FAILURE_CALLS_SPENT,
    PHASE_FAILURE_MALFORMED,
    PHASE_FAILURE_RATE_LIMITED,
    PHASE_FAILURE_SERVER_ERROR,
    PHASE_FAILURE_STOPPED,
    PhaseCompleted,
    PhaseFailed,
)
from factory.task.v1 import (
    TASK_TYPE_API,
    TASK_TYPE_UNSPECIFIED,
    RequestExpired,
    RoutingOverridden,
    TaskCancelled,
)
from policy.breaker import PAUSES, cool_down_us
from policy.health import State, probe, recovered_by_hand, tripped_by_hand
from policy.health_window import SECOND_US

from tests.health_log import NOON, HealthLog, down, failed, let_through, sloppy, status, the_trip

ANY = TASK_TYPE_UNSPECIFIED


@pytest.fixture
def log() -> HealthLog:
    return HealthLog()


def test_after_the_pause_one_request_is_let_through_and_nobody_else(log: HealthLog):
    trip = down(log)
    until = trip.open_until.ToDatetime(NOON.tzinfo)
    assert status(log, now=until - timedelta(seconds=1)).state is State.OPEN
    half_open = status(log, now=until)
    assert (half_open.state, half_open.probe_pending) == (State.HALF_OPEN, False)
    assert half_open.why == "to be tried again with the next request: 5 of 5 calls failed (5 server error)"

    task, request = let_through(log)

    pending = status(log)
    assert (pending.state, pending.probe_pending) == (State.HALF_OPEN, True)
    assert (pending.probe_task, pending.probe_request) == (task, request)
    assert pending.why == f"being tried again with one request of task {task}: 5 of 5 calls failed (5 server error)"


def test_a_probe_that_is_answered_closes_the_breaker(log: HealthLog):
    down(log)
    task, request = let_through(log)
    log.call("gpt", task, request)
    assert log.health.due() == []
    log.say(task, "executor-gpt", PhaseCompleted(request_id=request))

    (fact,) = log.health.due()

    assert isinstance(fact, ModelRecovered)
    assert (fact.model, fact.type, fact.recovered_by) == ("gpt", ANY, "")
    assert (fact.evidence.observed, fact.evidence.bad) == (1, 0)
    assert status(log).probe_pending, "nobody else is let through before that is said"
    log.say_of_model(fact)
    assert status(log).state is State.CLOSED
    assert log.health.due() == []


def test_an_answer_that_cannot_be_used_still_shows_that_the_model_is_up(log: HealthLog):
    down(log)
    task, request = let_through(log)
    log.say(task, "executor-gpt", failed(request, PHASE_FAILURE_MALFORMED))

    assert [type(fact) for fact in log.health.due()] == [ModelRecovered]


def test_a_probe_that_fails_opens_the_breaker_again_for_longer(log: HealthLog):
    down(log)
    task, request = let_through(log)
    log.say(task, "executor-gpt", failed(request, PHASE_FAILURE_SERVER_ERROR))

    trip = the_trip(log)

    assert (trip.cause, trip.trips) == (TRIP_CAUSE_PROBE_FAILED, 2)
    assert (trip.evidence.observed, trip.evidence.bad) == (1, 1)
    assert list(trip.evidence.examples) == [f"{task}.{request}"]
    assert trip.open_until.ToDatetime(NOON.tzinfo) == log.now + timedelta(seconds=60)
    log.say_of_model(trip)
    assert status(log).why.endswith("it was tried again and failed (1 server error), 2 times in a row")


def test_the_pause_grows_with_each_trip_in_a_row_up_to_a_cap(log: HealthLog):
    trips = [down(log)]
    for _ in range(9):
        task, request = let_through(log, after_s=3600)
        log.say(task, "executor-gpt", failed(request, PHASE_FAILURE_SERVER_ERROR))
        trips.append(the_trip(log))
        log.say_of_model(trips[-1])

    pauses = [cool_down_us(TRIP_CAUSE_ERROR_RATE, trip.trips) // SECOND_US for trip in trips]
    assert pauses == [30, 60, 120, 240, 480, 960, 1800, 1800, 1800, 1800]


@pytest.mark.parametrize("cause", PAUSES)
def test_no_pause_ever_passes_its_cap(cause: TripCause):
    pause = PAUSES[cause]

    assert cool_down_us(cause, 1) == pause.first_us
    assert cool_down_us(cause, 2) == 2 * pause.first_us
    assert cool_down_us(cause, 10**9) == pause.most_us


def test_a_trip_soon_after_a_recovery_is_the_next_in_a_row_and_one_much_later_the_first(log: HealthLog):
    down(log)
    task, request = let_through(log)
    log.say(task, "executor-gpt", PhaseCompleted(request_id=request))
    log.say_of_model(*log.health.due())
    assert down(log).trips == 2

    task, request = let_through(log, after_s=61)
    log.say(task, "executor-gpt", PhaseCompleted(request_id=request))
    log.say_of_model(*log.health.due())
    log.wait(3600)
    assert down(log).trips == 1


@pytest.mark.parametrize(
    "end",
    [
        failed("implement-1-1", PHASE_FAILURE_STOPPED),
        failed("implement-1-1", PHASE_FAILURE_CALLS_SPENT),
        RoutingOverridden(request_id="implement-1-1"),
        TaskCancelled(),
    ],
)
def test_a_probe_that_was_stopped_tells_nothing_and_the_next_request_is_the_probe(log: HealthLog, end):
    down(log)
    task, _ = let_through(log)
    log.say(task, "executor-gpt" if isinstance(end, PhaseFailed) else "conductor", end)

    assert log.health.due() == []
    assert (status(log).state, status(log).probe_pending) == (State.HALF_OPEN, False)


def test_a_probe_without_an_answer_makes_way_for_the_next_and_its_late_answer_changes_nothing(log: HealthLog):
    down(log)
    first = let_through(log)
    log.wait(20 * 60)
    assert (status(log).state, status(log).probe_pending) == (State.HALF_OPEN, False)
    log.say(first[0], "executor-gpt", PhaseCompleted(request_id=first[1]))
    assert log.health.due() == []

    second = let_through(log)
    log.say(first[0], "executor-gpt", failed(first[1], PHASE_FAILURE_SERVER_ERROR))
    assert log.health.due() == []
    assert status(log).probe_task == second[0]


def test_a_verdict_that_nobody_said_before_the_next_probe_is_void(log: HealthLog):
    down(log)
    task, request = let_through(log)
    log.say(task, "executor-gpt", PhaseCompleted(request_id=request))
    assert len(log.health.due()) == 1

    let_through(log, after_s=20 * 60)

    assert log.health.due() == []


def test_a_probe_that_passed_its_deadline_has_failed(log: HealthLog):
    down(log)
    task, request = let_through(log)
    log.wait(15 * 60)
    log.say(task, "conductor", RequestExpired(request_id=request))

    assert the_trip(log).cause == TRIP_CAUSE_PROBE_FAILED


def test_a_probe_that_had_ended_before_it_was_said_to_be_one_is_judged_then(log: HealthLog):
    down(log)
    log.wait(31)
    task, request = log.ask("gpt")
    log.say(task, "executor-gpt", PhaseCompleted(request_id=request))
    assert log.health.due() == []

    log.say_of_model(probe("gpt", ANY, task, request, log.now))

    assert [type(fact) for fact in log.health.due()] == [ModelRecovered]


def test_a_recovery_starts_a_fresh_window(log: HealthLog):
    late = [log.ask("gpt") for _ in range(10)]
    down(log)
    task, request = let_through(log)
    log.say(task, "executor-gpt", PhaseCompleted(request_id=request))
    log.say_of_model(*log.health.due())

    for task, request in late:
        log.say(task, "executor-gpt", failed(request, PHASE_FAILURE_SERVER_ERROR))
    for _ in range(4):
        log.fails("gpt", PHASE_FAILURE_SERVER_ERROR)
    assert log.health.due() == [], "results of requests from before the recovery do not count"

    log.fails("gpt", PHASE_FAILURE_SERVER_ERROR)
    assert the_trip(log).evidence.observed == 5


def test_retry_after_bounds_the_earliest_probe_from_below(log: HealthLog):
    for _ in range(4):
        log.fails("gpt", PHASE_FAILURE_RATE_LIMITED, retry_after_s=90)
    trip = the_trip(log)
    assert trip.open_until.ToDatetime(NOON.tzinfo) == log.now + timedelta(seconds=90)

    task, request = log.ask("gpt")
    log.say_of_model(trip)
    log.say(task, "executor-gpt", failed(request, PHASE_FAILURE_RATE_LIMITED, retry_after_s=300))

    assert status(log, now=log.now + timedelta(seconds=299)).state is State.OPEN
    assert status(log, now=log.now + timedelta(seconds=300)).state is State.HALF_OPEN
    log.say(task, "executor-gpt", failed(request, PHASE_FAILURE_RATE_LIMITED, retry_after_s=900))
    open_until = log.health.breakers("gpt", log.now)[0].open_until
    assert open_until.ToDatetime(NOON.tzinfo) == log.now + timedelta(seconds=300)


def test_what_nobody_said_in_time_is_history(log: HealthLog):
    for _ in range(5):
        log.fails("gpt", PHASE_FAILURE_SERVER_ERROR)
    log.wait(597)
    log.answers("claude")
    assert len(log.health.due()) == 1
    log.wait(10)
    log.answers("claude")
    assert log.health.due() == []

    for _ in range(5):
        log.fails("gpt", PHASE_FAILURE_SERVER_ERROR)
    assert the_trip(log).evidence.observed == 5


# People.


def test_an_operator_pauses_a_model_and_takes_that_back(log: HealthLog):
    log.say_of_model(tripped_by_hand("gpt", "ada", log.now, timedelta(hours=1)))
    assert status(log).state is State.OPEN
    assert status(log).why == "paused until 13:00:00 UTC: ada paused it"
    (breaker,) = log.health.breakers("gpt", log.now)
    assert (breaker.state, breaker.cause) == (BREAKER_STATE_OPEN, TRIP_CAUSE_OPERATOR)

    log.say_of_model(recovered_by_hand("gpt", "ada"))

    assert status(log).state is State.CLOSED
    (breaker,) = log.health.breakers("gpt", log.now)
    assert breaker.state == BREAKER_STATE_CLOSED


def test_a_person_closes_all_breakers_of_a_model(log: HealthLog):
    down(log)
    sloppy(log)
    assert len(log.health.breakers("gpt", log.now)) == 2

    log.say_of_model(recovered_by_hand("gpt", "ada"))

    assert status(log, TASK_TYPE_API).state is State.CLOSED
    assert down(log).trips == 1


def test_a_probe_claimed_for_a_task_that_was_cancelled_meanwhile_leaves_the_next_request_to_be_one(log: HealthLog):
    down(log)
    log.wait(31)
    task, _ = log.ask("claude")
    log.say(task, "conductor", TaskCancelled(cancelled_by="ada"))

    log.say_of_model(probe("gpt", ANY, task, "implement-2-1", log.now))

    assert (status(log).state, status(log).probe_pending) == (State.HALF_OPEN, False)


@pytest.mark.parametrize("claimed_first", [True, False])
def test_a_probe_whose_request_went_to_another_model_leaves_the_next_request_to_be_one(
    log: HealthLog, claimed_first: bool
):
    down(log)
    log.wait(31)
    task = log.new_task()
    claim = probe("gpt", ANY, task, "implement-1-1", log.now)

    if claimed_first:
        log.say_of_model(claim)
    log.ask("claude", task=task)
    if not claimed_first:
        log.say_of_model(claim)

    assert (status(log).state, status(log).probe_pending) == (State.HALF_OPEN, False)
