"""One task as a conductor keeps it: folded, with what is needed to go on from there without reading its past again.

Pure, and changed in place: it is fed every event of its task once, in the order of the log.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from eventlog import Recorded, Tip
from eventlog.work import Request
from factory.call.v1 import ModelCalled, ModelCallStarted
from factory.event.v1 import AnyFact, Event
from factory.phase.v1 import PhaseCompleted, PhaseFailed, PhaseRequested
from policy.calls import Call, Place, Tally, learn, reckon
from policy.prices import PriceBook

from conductor.state import Task
from conductor.task import NEW, evolve

CONDUCTOR = "conductor"
# A call without an end by then will never have one: its maker is gone, and the work item was somebody else's to end.
UNENDED_MAX = timedelta(hours=1)
NOTHING = Tally()


@dataclass(frozen=True, slots=True)
class Draw:
    """A request that draws on a budget."""

    lane: str
    model: str
    amount_pico_usd: int


@dataclass(slots=True)
class Known:
    """A task up to stream sequence `read_to`."""

    task: Task = NEW
    # the end of the conductor's own lane: what a decision must follow
    tip: Tip = field(default_factory=Tip)
    # where its events stand
    places: list[int] = field(default_factory=list)
    read_to: int = 0
    last: Event | None = None
    # the event that holds the request that the task waits for, and the request
    asked: tuple[Recorded, Request] | None = None
    calls: dict[str, Call] = field(default_factory=dict)
    # every request for a phase that has drawn on a budget, and those requests that have their result
    draws: dict[str, Draw] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    # every request for a phase: the sequence that it stands at, and the model
    requested: dict[str, tuple[int, str]] = field(default_factory=dict)

    def learn(self, recorded: Recorded) -> None:
        """Takes one more event of this task in; one that was read before changes nothing."""
        if recorded.sequence <= self.read_to:
            return
        event = recorded.event
        self.places.append(recorded.sequence)
        self.task = evolve(self.task, recorded)
        self.read_to, self.last = recorded.sequence, event
        for position, fact in enumerate(recorded.facts):
            self._note(recorded, position, fact)
        if event.producer == CONDUCTOR:
            self.tip = recorded.tip
            wanted = self.task.open.request_id if self.task.open else ""
            for fact in recorded.facts:
                if isinstance(fact, Request) and fact.request_id == wanted:
                    self.asked = recorded, fact

    def waited_for(self) -> tuple[Recorded, Request] | None:
        """The one request that the task waits for, with the event that holds it; None while it waits for none."""
        if self.task.open is None or self.asked is None or self.asked[1].request_id != self.task.open.request_id:
            return None
        return self.asked

    def cost_of(self, request_id: str, prices: PriceBook) -> Tally:
        """What the calls of one request amount to so far."""
        calls = (call for call in self.calls.values() if call.fact.request_id == request_id)
        return sum((reckon(call, prices).tally for call in calls), NOTHING)

    def is_awaited(self, request_id: str, now: datetime) -> bool:
        """Whether somebody may still be spending money on a request, or about to."""
        if request_id not in self.answered and self.task.open and self.task.open.request_id == request_id:
            return True
        calls = (call for call in self.calls.values() if call.fact.request_id == request_id)
        return any(call.ended is None and now - call.began_at < UNENDED_MAX for call in calls)

    def cost_of_call(self, call_id: str, prices: PriceBook) -> Tally:
        return reckon(self.calls[call_id], prices).tally

    def _note(self, recorded: Recorded, position: int, fact: AnyFact | None) -> None:
        event = recorded.event
        match fact:
            case ModelCallStarted() | ModelCalled():
                call = self.calls.get(fact.call_id) or Call(fact.call_id, event.id)
                at = event.occurred_at.ToDatetime(tzinfo=UTC)
                self.calls[fact.call_id] = learn(call, fact, at, Place(event.version, position, event.producer))
            case PhaseRequested():
                self.requested[fact.request_id] = (recorded.sequence, fact.model)
                if fact.budget:
                    self.draws[fact.request_id] = Draw(fact.budget, fact.model, fact.reserved_pico_usd)
            case PhaseCompleted() | PhaseFailed():
                self.answered.add(fact.request_id)
            case _:
                return
