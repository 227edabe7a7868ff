"""What a log says of failures and of who stood in, in the log's own time. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from eventlog import Recorded
from factory.call.v1 import CALL_OUTCOME_ERROR, CALL_OUTCOME_OK, ModelCalled, ModelCallStarted
from factory.context.v1 import ContextGathered
from factory.model.v1 import ModelProbed, ModelRecovered, ModelTripped, TripCause
from factory.phase.v1 import PhaseRequested, PhaseRerouted
from factory.price.v1 import PricePublished
from factory.task.v1 import TaskCompleted, TaskFailed, TaskHeld, TaskSubmitted
from policy.calls import Call, Place, Tally, learn, reckon
from policy.prices import PriceBook


@dataclass(frozen=True, slots=True)
class Failover:
    """A phase whose first model failed, and the model that did it instead."""

    task_id: str
    failed_calls: int
    # from the first failure to the first token of whoever stood in
    took_s: float
    # the breaker of the failed model had tripped before
    after_trip: bool


@dataclass
class Told:
    """One run, as its log tells it."""

    submitted: dict[str, datetime] = field(default_factory=dict)
    completed: dict[str, datetime] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)
    calls: dict[str, Call] = field(default_factory=dict)
    prices: PriceBook = field(default_factory=PriceBook)
    trips: list[tuple[datetime, TripCause, int]] = field(default_factory=list)
    probes: int = 0
    recoveries: int = 0
    reroutes: int = 0
    # when the phase of a task could have begun
    could_begin: dict[str, datetime] = field(default_factory=dict)
    asked: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def took_s(self) -> float:
        return (max(self.completed.values()) - min(self.submitted.values())).total_seconds()

    @property
    def tally(self) -> Tally:
        return self._sum(self.calls.values())

    @property
    def failed_tally(self) -> Tally:
        """What was paid for nothing."""
        return self._sum(call for call in self.calls.values() if _failed(call))

    @property
    def failed_calls(self) -> int:
        return sum(_failed(call) for call in self.calls.values())

    def latencies_s(self) -> list[float]:
        """From submission to pull request."""
        return [(at - self.submitted[id]).total_seconds() for id, at in self.completed.items()]

    def failovers(self) -> list[Failover]:
        """Every task whose first model failed and another answered."""
        found = []
        tripped = min((at for at, _, _ in self.trips), default=None)
        for task_id, calls in self._by_task().items():
            failed = [call for call in calls if _failed(call)]
            if not failed:
                continue
            began = min(_end(call) for call in failed)
            instead = [_first_token(c) for c in calls if _answered(c) and c.fact.model != failed[0].fact.model]
            if instead:
                took_s = (min(instead) - began).total_seconds()
                found.append(Failover(task_id, len(failed), took_s, tripped is not None and began > tripped))
        return found

    def straight_s(self, model: str) -> list[float]:
        """From the pack to the first token, for tasks whose first request was to this model and succeeded."""
        found = []
        for task_id, calls in self._by_task().items():
            if self.asked[task_id][:1] == [model] and not any(_failed(call) for call in calls):
                first = min(_first_token(call) for call in calls if _answered(call))
                found.append((first - self.could_begin[task_id]).total_seconds())
        return found

    def _sum(self, calls: Iterable[Call]) -> Tally:
        return sum((reckon(call, self.prices).tally for call in calls), Tally())

    def _by_task(self) -> dict[str, list[Call]]:
        by_task: defaultdict[str, list[Call]] = defaultdict(list)
        for call in sorted(self.calls.values(), key=lambda call: call.began_at):
            by_task[call.task_id].append(call)
        return by_task


def told(log: Iterable[Recorded]) -> Told:
    """Reads a whole log."""
    run, prices = Told(), list[tuple[PricePublished, datetime]]()
    for recorded in log:
        event, at = recorded.event, recorded.event.occurred_at.ToDatetime(tzinfo=UTC)
        for position, fact in enumerate(recorded.facts):
            match fact:
                case TaskSubmitted():
                    run.submitted[event.id] = at
                case ContextGathered():
                    run.could_begin[event.id] = at
                case PhaseRequested():
                    run.asked[event.id].append(fact.model)
                case PhaseRerouted():
                    run.reroutes += 1
                case ModelCallStarted() | ModelCalled():
                    call = run.calls.get(fact.call_id) or Call(fact.call_id, event.id)
                    run.calls[fact.call_id] = learn(call, fact, at, Place(event.version, position, event.producer))
                case ModelTripped():
                    run.trips.append((at, fact.cause, fact.trips))
                case ModelProbed():
                    run.probes += 1
                case ModelRecovered():
                    run.recoveries += 1
                case TaskCompleted():
                    run.completed[event.id] = at
                case TaskFailed() | TaskHeld():
                    run.others[f"{fact.DESCRIPTOR.name}: {fact.reason}"] += 1
                case PricePublished():
                    prices.append((fact, at))
                case _:
                    continue
    run.prices = PriceBook(prices)
    return run


def quantiles(values: Sequence[float]) -> dict[str, float | int]:
    """p50 and p99 in seconds, and of how many; of none there are none."""
    ordered = sorted(values)
    found: dict[str, float | int] = {"n": len(ordered)}
    for q in (50, 99) if ordered else ():
        found[f"p{q}_s"] = round(ordered[min(len(ordered) * q // 100, len(ordered) - 1)], 3)
    return found


def _failed(call: Call) -> bool:
    return call.ended is not None and call.ended.outcome == CALL_OUTCOME_ERROR


def _answered(call: Call) -> bool:
    return call.ended is not None and call.ended.outcome == CALL_OUTCOME_OK


def _end(call: Call) -> datetime:
    assert call.ended_at is not None, f"{call.call_id!r} has ended"
    return call.ended_at


def _first_token(call: Call) -> datetime:
    assert call.ended is not None, f"{call.call_id!r} has ended"
    wait = call.ended.time_to_first_token if call.ended.HasField("time_to_first_token") else call.ended.latency
    return call.began_at + wait.ToTimedelta()
