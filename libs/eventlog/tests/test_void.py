"""When a request for work is wanted no more: only a fact of the conductor says so, and it says which."""

import pytest
from eventlog import Past
from eventlog.facts import to_fact
from eventlog.past import recorded
from eventlog.work import Work, is_answered, is_settled, is_void
from factory.event.v1 import AnyFact, Event
from factory.phase.v1 import PhaseCompleted, PhaseRequested
from factory.review.v1 import TaskRejected
from factory.task.v1 import RequestExpired, RoutingOverridden, TaskCancelled, TaskCompleted, TaskFailed

ASKED = PhaseRequested(request_id="implement-1-1", model="gpt")


def past_of(*said: tuple[str, AnyFact]) -> Past:
    events = ()
    for number, (lane, fact) in enumerate(said, 1):
        event = Event(producer=lane, org="main", id="t", facts=[to_fact(fact)])
        events += (recorded(event.SerializeToString(), number, f"factory.evt.{lane}.main.t"),)
    return Past(events, len(events))


@pytest.mark.parametrize(
    "closing",
    [
        TaskCompleted(),
        TaskFailed(),
        TaskCancelled(),
        TaskRejected(),
        RequestExpired(request_id="implement-1-1"),
        RoutingOverridden(request_id="implement-1-1"),
    ],
)
def test_an_end_of_the_task_or_of_the_request_makes_it_void(closing):
    past = past_of(("conductor", ASKED), ("conductor", closing))
    work = Work(past.events[0].event, 1, ASKED)

    assert is_void(past, "implement-1-1")
    assert is_settled(past, work, "executor-gpt")
    assert not is_answered(past, work, "executor-gpt")
    assert not is_void(past, "implement-1-1", after=2)


@pytest.mark.parametrize(
    "said",
    [
        ("conductor", RequestExpired(request_id="implement-1-2")),
        ("conductor", RoutingOverridden(request_id="design-1-1")),
        ("conductor", RoutingOverridden()),
        # Nobody but the conductor may say it: what another lane says is not heard.
        ("executor-gpt", TaskCancelled()),
        ("executor-gpt", RequestExpired(request_id="implement-1-1")),
        ("executor-gpt", PhaseCompleted(request_id="implement-1-1")),
    ],
)
def test_nothing_else_does(said):
    assert not is_void(past_of(("conductor", ASKED), said), "implement-1-1")
