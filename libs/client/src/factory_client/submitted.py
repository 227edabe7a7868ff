"""What becomes of a submission, as a value. Pure."""

from dataclasses import dataclass
from decimal import Decimal

from factory.task.v1 import PlannedPhase, SubmitResponse

from factory_client.words import usd


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a submission. On a dry run `task_id` is empty and `plan` is filled."""

    task_id: str
    # The task was there already, submitted before with the same key.
    existed: bool
    # Log position at which the task is known.
    position: int
    plan: tuple[PlannedPhase, ...] = ()
    notes: tuple[str, ...] = ()
    # Dry run: the most that the plan can cost without rework; None where a model has no price.
    max_cost_usd: Decimal | None = None
    # Dry run: what it costs if each phase is like the median of what its model has done lately; None where unknown.
    typical_cost_usd: Decimal | None = None


def submitted_from(answer: SubmitResponse) -> Submitted:
    """What the factory has answered."""
    return Submitted(
        task_id=answer.task_id,
        existed=answer.existed,
        position=answer.position.sequence,
        plan=tuple(answer.plan),
        notes=tuple(answer.notes),
        max_cost_usd=usd(answer.max_cost_pico_usd) if answer.HasField("max_cost_pico_usd") else None,
        typical_cost_usd=usd(answer.typical_cost_pico_usd) if answer.HasField("typical_cost_pico_usd") else None,
    )
