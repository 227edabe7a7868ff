"""Why a task went the way it went, as lines: one for each phase, or every decision about one. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from factory.task.v1 import Decision, PhaseKind, PlannedPhase, RoutingOverridden, TaskPlanned

from factory_client.plain import one_line
from factory_client.words import clock_text, phase_word, source_word

DIGEST_SHOWN = 12
PLANNED, OVERRIDDEN = TaskPlanned.DESCRIPTOR.full_name, RoutingOverridden.DESCRIPTOR.full_name


@dataclass(frozen=True, slots=True)
class Told:
    """One decision for people: when and about what, in sentences, and what it rests on."""

    heading: str
    sentences: tuple[str, ...]
    receipt: str = ""


def phase_lines(plan: Iterable[PlannedPhase], decisions: Sequence[Decision]) -> list[str]:
    """One line for each phase: who does it, and why; by the last decision that chose somebody."""
    latest: dict[PhaseKind, Decision] = {}
    for decision in decisions:
        if decision.phase and (decision.receipt.chosen or decision.type == OVERRIDDEN):
            latest[decision.phase] = decision
    planned = {phase.phase: phase for phase in plan}
    lines: list[str] = []
    for phase in dict.fromkeys([*planned, *latest]):
        decision = latest.get(phase)
        if decision is not None and decision.type != PLANNED:
            lines.append(f"{phase_word(phase)}: {_chosen(decision)}")
        elif phase in planned:
            lines.append(f"{phase_word(phase)}: {_planned(planned[phase])}")
    return lines


def _chosen(decision: Decision) -> str:
    if not decision.HasField("receipt"):
        return " ".join(decision.sentences)
    receipt = decision.receipt
    because = receipt.because or source_word(receipt.source)
    return f"{receipt.chosen}, because {because}" if because else receipt.chosen


def _planned(phase: PlannedPhase) -> str:
    model = phase.model or "nobody"
    by = source_word(phase.source)
    return f"{model} is planned by {by}" if by else f"{model} is planned"


def told(decision: Decision) -> Told:
    """One decision with everything that is known of it."""
    what = phase_word(decision.phase) or "the task"
    if decision.round > 1:
        what += f", round {decision.round}"
    about = f" ({decision.request_id})" if decision.request_id else ""
    heading = f"{clock_text(decision.decided_at)}  {what}{about}"
    return Told(one_line(heading), tuple(map(one_line, decision.sentences)), _receipt(decision))


def _receipt(decision: Decision) -> str:
    if not decision.HasField("receipt"):
        return ""
    receipt = decision.receipt
    parts = [f"decided by {receipt.policy_version or 'rules without a version'}"]
    if receipt.inputs_digest:
        parts.append(f"on inputs {receipt.inputs_digest[:DIGEST_SHOWN]}")
    if receipt.world_read_to:
        parts.append(f"the log read to {receipt.world_read_to:,}")
    return one_line(", ".join(parts))
