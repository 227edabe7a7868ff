"""The plan of a task: which phases, and who does each. Pure: the same inputs give the same plan again.

What comes and goes while a task runs (breakers, budgets) is asked again at each request, and makes no plan.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from factory.task.v1 import PHASE_KIND_REVIEW, Candidate, PhaseKind, PlannedPhase, Scope, TaskType

from policy.models import Model
from policy.preferences import BALANCED, Preferences
from policy.ranking import NOTHING_ATTACHED, Needs, answer_tokens, order_for, rank
from policy.routes import AUTHOR_PHASES, MAX_OUTPUT_TOKENS, phase_word, steps_for


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done, by whom, and what a human should know about it."""

    phases: tuple[PlannedPhase, ...]
    notes: tuple[str, ...] = ()


def plan(
    type: TaskType,
    scope: Scope,
    models: Mapping[str, Model],
    ruled_out: Mapping[str, str],
    *,
    needs: Needs = NOTHING_ATTACHED,
    preferences: Preferences = BALANCED,
    overrides: Mapping[PhaseKind, str] | None = None,
) -> Plan:
    """Chooses a model for every phase of a task.

    `ruled_out` names, for each model, why it cannot serve at all ("" where it can). A phase that nobody can do keeps
    an empty `model`; a review that nobody may do is left out, and a note says so.
    """
    planned: list[PlannedPhase] = []
    notes: list[str] = []
    author = ""
    for phase, first_choice in steps_for(type, scope):
        override = (overrides or {}).get(phase, "")
        order = order_for(type, scope, phase, first_choice, models, preferences, override)
        # An architect's word outweighs the project's.
        excluded = tuple(name for name in preferences.excluded if name != override)
        candidates = rank(phase, order.names, models, ruled_out, needs=needs, author=author, excluded=excluded)
        chosen = next((c.model for c in candidates if not c.ruled_out), "")
        if phase == PHASE_KIND_REVIEW and not chosen:
            notes.append(f"no model review: {_why_none(candidates)}")
            continue
        if phase in AUTHOR_PHASES:
            author = chosen or author
        limit = answer_tokens(phase, models[chosen]) if chosen else MAX_OUTPUT_TOKENS[phase]
        planned.append(
            PlannedPhase(phase=phase, model=chosen, candidates=candidates, max_output_tokens=limit, source=order.source)
        )
        if chosen and order.names and chosen != order.names[0]:
            why = next((c.ruled_out for c in candidates if c.model == order.names[0]), "unknown model")
            notes.append(f"{phase_word(phase)} by {chosen} instead of {order.names[0]}: {why}")
    return Plan(tuple(planned), tuple(notes))


def _why_none(candidates: Sequence[Candidate]) -> str:
    reasons: Iterable[str] = (f"{c.model}: {c.ruled_out}" for c in candidates)
    return "; ".join(reasons) or "no model is known"
