"""Where a task stands, as its facts say: the one rule behind every list and report.

Pure. It reads only what the conductor says, in the order of the conductor's lane; it decides nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from factory.context.v1 import ContextRequested
from factory.delivery.v1 import DeliveryRequested
from factory.event.v1 import AnyFact, Event
from factory.gate.v1 import GateRequested
from factory.phase.v1 import PhaseRequested, PhaseRerouted, ReworkRequested
from factory.review.v1 import ChangesRequested, HumanReviewRequested, TaskApproved, TaskRejected
from factory.task.v1 import (
    HOLD_CAUSE_UNSPECIFIED,
    TASK_STATE_AWAITING_REVIEW,
    TASK_STATE_CANCELLED,
    TASK_STATE_CLASSIFYING,
    TASK_STATE_COMPLETED,
    TASK_STATE_DELIVERING,
    TASK_STATE_FAILED,
    TASK_STATE_GATHERING_CONTEXT,
    TASK_STATE_GATING,
    TASK_STATE_HELD,
    TASK_STATE_PARKED,
    TASK_STATE_REJECTED,
    TASK_STATE_RUNNING,
    TASK_STATE_UNSPECIFIED,
    ClassificationRequested,
    HoldCause,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskHeld,
    TaskPlanned,
    TaskReleased,
    TaskState,
    TaskSubmitted,
)

CONDUCTOR = "conductor"

ENDED = frozenset((TASK_STATE_COMPLETED, TASK_STATE_FAILED, TASK_STATE_CANCELLED, TASK_STATE_REJECTED))
# Asked of others; void while the task is held, because whoever asked had not seen that.
REQUESTS = (ClassificationRequested, ContextRequested, PhaseRequested, GateRequested, DeliveryRequested)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a task stands; while it is held, what for, and where it goes on when it is released."""

    state: TaskState = TASK_STATE_UNSPECIFIED
    before_hold: TaskState = TASK_STATE_UNSPECIFIED
    parked: bool = False
    hold_cause: HoldCause = HOLD_CAUSE_UNSPECIFIED

    @property
    def shown(self) -> TaskState:
        """The state to show: a fact of unknown kind parks a task that has not ended."""
        return TASK_STATE_PARKED if self.parked and not self.ended else self.state

    @property
    def ended(self) -> bool:
        return self.state in ENDED


def evolve(standing: Standing, fact: AnyFact | None) -> Standing:
    """Where the task stands after one more fact of its conductor's lane; None is a fact of unknown kind."""
    if fact is None:
        return replace(standing, parked=True)
    if standing.ended:
        return standing
    match fact:
        case TaskHeld():
            before = standing.before_hold if standing.state == TASK_STATE_HELD else standing.state
            return replace(standing, state=TASK_STATE_HELD, before_hold=before, hold_cause=fact.cause)
        case TaskReleased() if standing.state == TASK_STATE_HELD:
            return replace(standing, state=standing.before_hold, hold_cause=HOLD_CAUSE_UNSPECIFIED)
        case _ if standing.state == TASK_STATE_HELD and isinstance(fact, REQUESTS):
            return standing
        case _:
            state = _state_after(fact)
            return standing if state is None else replace(standing, state=state, hold_cause=HOLD_CAUSE_UNSPECIFIED)


def standing_of(events: Iterable[Event]) -> Standing:
    """Where a task stands after these events, given in the order of the conductor's lane."""
    standing = Standing()
    for event in events:
        for fact in event.facts:
            arm = fact.WhichOneof("fact")
            if arm is None or event.producer == CONDUCTOR:
                standing = evolve(standing, getattr(fact, arm) if arm else None)
    return standing


def _state_after(fact: AnyFact) -> TaskState | None:
    match fact:
        case TaskSubmitted() | ClassificationRequested():
            return TASK_STATE_CLASSIFYING
        case ContextRequested():
            return TASK_STATE_GATHERING_CONTEXT
        case TaskPlanned() | PhaseRequested() | PhaseRerouted() | ReworkRequested() | ChangesRequested():
            return TASK_STATE_RUNNING
        case GateRequested():
            return TASK_STATE_GATING
        case HumanReviewRequested():
            return TASK_STATE_AWAITING_REVIEW
        case TaskApproved() | DeliveryRequested():
            return TASK_STATE_DELIVERING
        case TaskCompleted():
            return TASK_STATE_COMPLETED
        case TaskFailed():
            return TASK_STATE_FAILED
        case TaskCancelled():
            return TASK_STATE_CANCELLED
        case TaskRejected():
            return TASK_STATE_REJECTED
        case _:
            return None
