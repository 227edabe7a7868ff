"""Where a service is killed: as soon as a kind of fact that it says or hears stands in the log. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from eventlog.facts import KINDS, facts_of
from factory.call.v1 import ModelCalled
from factory.event.v1 import Event
from factory.options.v1 import heard_by, said_by
from factory.phase.v1 import PhaseCompleted, PhaseFailed, PhaseRequested
from policy.models import DEFAULT_MODELS

# Every kind of fact that this storm makes happen, in the order of a task's life.
TASK_KINDS = (
    "TaskSubmitted",
    "ClassificationRequested",
    "TaskClassified",
    "ContextRequested",
    "ContextGathered",
    "TaskPlanned",
    "BudgetReserved",
    "PhaseRequested",
    "ModelCallStarted",
    "ModelCalled",
    "PhaseCompleted",
    "PhaseFailed",
    "BudgetSettled",
    "PhaseRerouted",
    "TaskHeld",
    "TaskReleased",
    "GateRequested",
    "GateJudged",
    "HumanReviewRequested",
    "ChangesRequested",
    "ReworkRequested",
    "TaskApproved",
    "DeliveryRequested",
    "PullRequestOpened",
    "TaskCompleted",
)
EXECUTORS = tuple(f"executor-{model}" for model in DEFAULT_MODELS)
CONDUCTORS = ("conductor", "conductor-2")
# Who is killed, and which processes that is.
TARGETS: dict[str, tuple[str, ...]] = {
    "conductor": CONDUCTORS[:1],
    "both conductors": CONDUCTORS,
    **{lane: (lane,) for lane in ("classifier", "context", *EXECUTORS, "quality_gate", "delivery")},
    "audit": ("audit",),
    "nats-server": ("nats-server",),
}
# They have to do with every fact.
EVERY_FACT = ("conductor", "both conductors", "audit", "nats-server")


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """One cell of the matrix: who is killed, and after which kind of fact."""

    target: str
    kind: str


def concerned(kind: str) -> tuple[str, ...]:
    """The targets that say or hear a kind of fact."""
    said: Any = said_by
    heard: Any = heard_by
    options = next(d for d in KINDS.values() if d.name == kind).GetOptions()
    services = {*options.Extensions[said], *options.Extensions[heard]}
    return tuple(target for target in TARGETS if target in EVERY_FACT or target.partition("-")[0] in services)


def all_points() -> tuple[Point, ...]:
    return tuple(Point(target, kind) for kind in TASK_KINDS for target in concerned(kind))


def points_at(event: Event) -> Iterator[Point]:
    """The points that an event is: of executors only the one that it is said by or that it asks.

    An answer that is recorded together with its result is the boundary of the result. The other one, where an answer
    stands and nothing has come of it yet, is where it could be paid for again.
    """
    facts = [fact for fact in facts_of(event) if fact is not None]
    has_result = any(isinstance(fact, PhaseCompleted | PhaseFailed) for fact in facts)
    for fact in facts:
        kind = fact.DESCRIPTOR.name
        if kind not in TASK_KINDS:
            continue
        lane = f"executor-{fact.model}" if isinstance(fact, PhaseRequested) else event.producer
        for target in concerned(kind):
            if target not in EXECUTORS or (target == lane and not (has_result and isinstance(fact, ModelCalled))):
                yield Point(target, kind)
