"""What deciding about one task needs besides the task itself, as plain values.

Pure data. The same task in the same world gives the same decision again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from factory.task.v1 import TASK_TYPE_UNSPECIFIED, TaskType
from policy.models import Model
from policy.preferences import BALANCED, Preferences, as_inputs
from policy.prices import PriceBook

from conductor.budget_room import Standing
from conductor.state import Kind

# How long a request may wait for its turn and be worked on, all told; then it is void. Longer than any queue should be.
PATIENCE: Mapping[Kind, timedelta] = {
    Kind.CLASSIFICATION: timedelta(minutes=30),
    Kind.CONTEXT: timedelta(hours=1),
    Kind.PHASE: timedelta(hours=2),
    Kind.GATE: timedelta(hours=2),
    Kind.DELIVERY: timedelta(hours=1),
}


@dataclass(frozen=True, slots=True)
class Wellness:
    """How well a model is, for tasks of one type."""

    # its breaker lets nobody through now
    is_open: bool = False
    # its breaker lets one request through: the probe
    is_half_open: bool = False
    # the request of this task that is the probe, or SOMEBODY for one of another task; "" while there is none
    probe: str = ""
    # one sentence; "" for one that is well
    why: str = ""
    # 0 to 1: by this the least bad is found where all are open
    badness: float = 0.0
    # which breaker this is about: of one type of task, or (unspecified) of all
    type: TaskType = TASK_TYPE_UNSPECIFIED

    def lets_through(self, request_id: str) -> bool:
        """Whether this request may be asked of the model."""
        return not self.is_open and (not self.is_half_open or self.probe in ("", request_id))


SOMEBODY = "*"


WELL = Wellness()


@dataclass(frozen=True, slots=True)
class World:
    """What deciding needs besides the task itself."""

    models: Mapping[str, Model]
    # why a model cannot serve at all; "" where it can
    ruled_out: Mapping[str, str]
    prices: PriceBook
    now: datetime
    # the most that the task's calls so far can have cost
    spent_pico_usd: int = 0
    preferences: Preferences = BALANCED
    health: Mapping[str, Wellness] = field(default_factory=dict)
    # the project's budgets of this month, and the lane they live on; empty where it has none
    budgets: tuple[Standing, ...] = ()
    budget_lane: str = ""
    # what is reserved there for a request of this task by a model
    reserved: Callable[[str, str], int] = lambda _request, _model: 0
    # whether the project may open another task, and how many it may have open
    has_room: bool = True
    open_tasks_max: int = 0
    patience: Mapping[Kind, timedelta] = field(default_factory=lambda: PATIENCE)
    # the log position that all this was read at
    read_to: int = 0
    models_digest: str = ""

    def wellness(self, model: str) -> Wellness:
        return self.health.get(model, WELL)


def weighed(world: World) -> dict[str, object]:
    """The world as a receipt's digest takes it."""
    return {
        "models": world.models_digest or sorted(world.models),
        "ruled_out": {name: why for name, why in sorted(world.ruled_out.items()) if why},
        "now": world.now.isoformat(),
        "spent": world.spent_pico_usd,
        "preferences": as_inputs(world.preferences),
        "health": {
            name: [well.is_open, well.is_half_open, well.probe, well.why, well.badness]
            for name, well in sorted(world.health.items())
        },
        "budgets": [[b.budget, b.hard, b.soft, b.spent, b.reserved] for b in world.budgets],
    }
