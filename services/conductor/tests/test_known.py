"""What a conductor keeps of a task: among it, for whom money must still be kept."""

from datetime import UTC, datetime, timedelta

from conductor.known import UNENDED_MAX, Known
from eventlog import Recorded
from eventlog.facts import to_fact
from factory.call.v1 import ModelCallStarted
from factory.event.v1 import AnyFact, Event
from factory.phase.v1 import PhaseCompleted
from google.protobuf.timestamp_pb2 import Timestamp

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
STARTED = ModelCallStarted(call_id="t.implement-1-1-1", request_id="implement-1-1")


def known(*said: AnyFact) -> Known:
    known, at = Known(), Timestamp()
    at.FromDatetime(NOW)
    for sequence, fact in enumerate(said, start=1):
        event = Event(id="t", producer="executor-gpt", version=sequence, occurred_at=at, facts=[to_fact(fact)])
        known.learn(Recorded(event, sequence, b""))
    return known


def test_money_is_kept_for_a_call_that_may_still_end_though_its_request_is_answered():
    task = known(STARTED, PhaseCompleted(request_id="implement-1-1", change_digest="c"))

    assert task.is_awaited("implement-1-1", NOW + timedelta(minutes=1))


def test_money_is_not_kept_for_ever_for_a_call_whose_maker_died_after_another_had_answered():
    task = known(STARTED, PhaseCompleted(request_id="implement-1-1", change_digest="c"))

    assert not task.is_awaited("implement-1-1", NOW + UNENDED_MAX)
