"""Work items: a `*Requested` fact that has come back from the log, offered to whoever does that kind of work.

Work is derived from facts. Losing the queue loses nothing: it is made again from the log.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from factory.classification.v1 import TaskClassified
from factory.context.v1 import ContextFailed, ContextGathered, ContextRequested
from factory.delivery.v1 import DeliveryFailed, DeliveryRequested, PullRequestOpened
from factory.event.v1 import AnyFact, Event
from factory.gate.v1 import GateJudged, GateRequested
from factory.phase.v1 import PhaseCompleted, PhaseFailed, PhaseRequested
from factory.review.v1 import TaskRejected
from factory.task.v1 import (
    ClassificationRequested,
    RequestExpired,
    RoutingOverridden,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
)
from nats.aio.client import Client
from nats.js.errors import APIError

from eventlog import subjects
from eventlog.facts import facts_of
from eventlog.jetstream import MESSAGES_PER_SUBJECT_EXCEEDED
from eventlog.past import Past, Recorded
from eventlog.publishing import publish

SEQUENCE_HEADER = "Factory-Sequence"
# Where the log of the item's id begins: without it a server looks through all that came before.
FIRST_HEADER = "Factory-First"
# Where the events of that id stand, this one included: without it a server looks through all that lies between.
PLACES_HEADER = "Factory-Places"
# A longer past is cheaper to look for than to name.
PLACES_MAX = 100
PUBLISH_TIMEOUT_S = 5.0

Request = ClassificationRequested | ContextRequested | PhaseRequested | GateRequested | DeliveryRequested
Result = (
    TaskClassified
    | ContextGathered
    | ContextFailed
    | PhaseCompleted
    | PhaseFailed
    | GateJudged
    | PullRequestOpened
    | DeliveryFailed
)


@dataclass(frozen=True, slots=True)
class Work:
    """One item: the request, and the event that it came in."""

    event: Event
    # stream sequence of that event
    sequence: int
    request: Request
    # 1 for the first delivery
    deliveries: int = 1
    # stream sequence of the first event about this id, or any before it
    first: int = 0
    # stream sequences of all events about this id, up to that event; empty where they were not told
    places: tuple[int, ...] = ()

    @property
    def id(self) -> str:
        return self.event.id

    @property
    def request_id(self) -> str:
        return self.request.request_id


def lane_for(request: Request) -> str:
    """Which lane's queue a request belongs to."""
    match request:
        case ClassificationRequested():
            return "classifier"
        case ContextRequested():
            return "context"
        case PhaseRequested(model=model):
            return f"executor-{model}"
        case GateRequested():
            return "quality_gate"
        case DeliveryRequested():
            return "delivery"


def requests_in(event: Event) -> Iterator[Request]:
    """The requests for work that an event holds."""
    for fact in facts_of(event):
        if isinstance(fact, Request):
            yield fact


def work_of(data: bytes, headers: Mapping[str, str], subject: str, deliveries: int) -> Work:
    """Reads a work item; ValueError if it holds no request of the id that its subject names."""
    event = Event.FromString(data)
    request_id = subject.rsplit(".", 1)[-1]
    for request in requests_in(event):
        if request.request_id == request_id:
            sequence, first = int(headers.get(SEQUENCE_HEADER, "0")), int(headers.get(FIRST_HEADER, "0"))
            places = tuple(int(place) for place in headers.get(PLACES_HEADER, "").split())
            return Work(event, sequence, request, deliveries, first, places)
    raise ValueError(f"the work item on {subject!r} holds no request {request_id!r}")


def is_settled(past: Past, work: Work, lane: str) -> bool:
    """Whether a fact says that this request needs no more work: its result is there, or nobody wants one any more.

    Concluded only from a fact that closes it, never from absence.
    """
    return is_answered(past, work, lane) or is_void(past, work.request_id)


def is_answered(past: Past, work: Work, lane: str) -> bool:
    """Whether the result of this request stands on the lane of those who work on it."""
    return any(
        isinstance(fact, Result) and fact.request_id == work.request_id
        for recorded in past.lane(lane)
        for fact in recorded.facts
    )


def is_void(past: Past, request_id: str, *, after: int = 0) -> bool:
    """Whether a result of this request is wanted no more: the task has ended, or the request was closed without one.

    Only events after the sequence `after` are looked at.
    """
    return any(
        _closes(fact, request_id) for recorded in past.events if recorded.sequence > after for fact in recorded.facts
    )


def _closes(fact: AnyFact | None, request_id: str) -> bool:
    match fact:
        case TaskCompleted() | TaskFailed() | TaskCancelled() | TaskRejected():
            return True
        case RequestExpired() | RoutingOverridden():
            return fact.request_id == request_id
        case _:
            return False


async def publish_work(nc: Client, recorded: Recorded, request: Request, *, places: Sequence[int] = ()) -> None:
    """Offers a request for work; one that is offered already stays as it is.

    `places`: where all events of its id stand, from the first to this one.

    Without `Nats-Msg-Id`: a de-duplication window would silently swallow a rebuild of the queue.
    """
    event = recorded.event
    subject = subjects.work(lane_for(request), event.org, event.id, request.request_id)
    headers = {SEQUENCE_HEADER: str(recorded.sequence), FIRST_HEADER: str(places[0] if places else 0)}
    if 0 < len(places) <= PLACES_MAX:
        headers[PLACES_HEADER] = " ".join(map(str, places))
    try:
        await publish(nc, subject, recorded.raw, headers=headers, timeout_s=PUBLISH_TIMEOUT_S)
    except APIError as error:
        if error.err_code != MESSAGES_PER_SUBJECT_EXCEEDED:
            raise


async def set_timer(nc: Client, org: str, id: str, name: str, at: datetime) -> None:
    """Asks for a message on the timer's fire subject at a time; asked twice, the later time counts.

    Never cancelled: a timer that fires for something no longer open decides nothing.
    """
    headers = {
        "Nats-Schedule": f"@at {at.isoformat().replace('+00:00', 'Z')}",
        "Nats-Schedule-Target": subjects.timer_fire(org, id, name),
    }
    await nc.jetstream().publish(
        subjects.timer_schedule(org, id, name), b"-", headers=headers, timeout=PUBLISH_TIMEOUT_S
    )
