"""A model that answers much slower than it used to is left alone for a while."""

import pytest
from factory.model.v1 import (
    TRIP_CAUSE_LATENCY,
)
from factory.task.v1 import (
    TASK_TYPE_UNSPECIFIED,
)

from tests.health_log import HealthLog, status, the_trip

ANY = TASK_TYPE_UNSPECIFIED


@pytest.fixture
def log() -> HealthLog:
    return HealthLog()


def test_a_model_that_has_become_much_slower_than_it_was_is_tripped(log: HealthLog):
    for _ in range(60):
        log.answers("gpt", took_s=9, tokens=700)
    log.wait(900)
    for _ in range(9):
        log.answers("gpt", took_s=45, tokens=700)
    assert log.health.due() == []
    log.answers("gpt", took_s=45, tokens=700)

    trip = the_trip(log)

    assert trip.cause == TRIP_CAUSE_LATENCY
    assert (trip.evidence.baseline.seconds, trip.evidence.latency.seconds) == (10, 50)
    assert (trip.evidence.observed, trip.evidence.bad, dict(trip.evidence.reasons)) == (10, 10, {"slow": 10})
    log.say_of_model(trip)
    assert status(log).why.endswith("1,000 tokens take 50.0 s, and took 10.0 s before")


def test_longer_answers_are_not_slower_ones(log: HealthLog):
    for _ in range(60):
        log.answers("gpt", took_s=9, tokens=700)
    log.wait(900)
    for _ in range(20):
        log.answers("gpt", took_s=75, tokens=7_300)

    assert log.health.due() == []


def test_a_slow_answer_among_quick_ones_trips_nothing(log: HealthLog):
    for _ in range(60):
        log.answers("gpt", took_s=9, tokens=700)
    log.wait(900)
    for n in range(20):
        log.answers("gpt", took_s=90 if n % 5 == 4 else 9, tokens=700)

    assert log.health.due() == []


def test_a_model_that_has_always_been_slow_is_as_usual(log: HealthLog):
    for _ in range(200):
        log.answers("gpt", took_s=90, tokens=700)

    assert log.health.due() == []


def test_without_enough_earlier_answers_nothing_is_slow(log: HealthLog):
    for _ in range(29):
        log.answers("gpt", took_s=9, tokens=700)
    log.wait(900)
    for _ in range(20):
        log.answers("gpt", took_s=90, tokens=700)

    assert log.health.due() == []


def test_three_times_nothing_is_nothing(log: HealthLog):
    for _ in range(60):
        log.answers("gpt", took_s=0.01, tokens=50)
    log.wait(900)
    for _ in range(20):
        log.answers("gpt", took_s=0.5, tokens=50)

    assert log.health.due() == []
