"""The routing table as data, and the plan that follows from it. Pure: the same inputs give the same plan again."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from factory.task.v1 import (
    PHASE_KIND_DESIGN,
    PHASE_KIND_DOCUMENT,
    PHASE_KIND_IMPLEMENT,
    PHASE_KIND_REFACTOR,
    PHASE_KIND_REVIEW,
    PHASE_KIND_WRITE_TESTS,
    SCOPE_FEATURE,
    TASK_TYPE_API,
    TASK_TYPE_ARCHITECTURE,
    TASK_TYPE_DOCUMENTATION,
    TASK_TYPE_LOGIC,
    TASK_TYPE_REFACTORING,
    TASK_TYPE_TESTS,
    TASK_TYPE_UI,
    Candidate,
    PhaseKind,
    PlannedPhase,
    Scope,
    TaskType,
)

from policy.models import Model

POLICY_VERSION = "balanced-1"

Step = tuple[PhaseKind, str]

# Task type → phases, each with the model that is best for it.
ROUTES: Mapping[TaskType, tuple[Step, ...]] = {
    TASK_TYPE_ARCHITECTURE: ((PHASE_KIND_DESIGN, "claude"), (PHASE_KIND_REVIEW, "gemini")),
    TASK_TYPE_LOGIC: ((PHASE_KIND_IMPLEMENT, "gpt"),),
    TASK_TYPE_REFACTORING: ((PHASE_KIND_REFACTOR, "deepseek"),),
    TASK_TYPE_UI: ((PHASE_KIND_IMPLEMENT, "gpt"), (PHASE_KIND_REVIEW, "claude")),
    TASK_TYPE_API: ((PHASE_KIND_IMPLEMENT, "gpt"),),
    TASK_TYPE_TESTS: ((PHASE_KIND_WRITE_TESTS, "gpt"),),
    TASK_TYPE_DOCUMENTATION: ((PHASE_KIND_DOCUMENT, "claude"),),
}

# A task that spans types.
FEATURE: tuple[Step, ...] = (
    (PHASE_KIND_DESIGN, "claude"),
    (PHASE_KIND_IMPLEMENT, "gpt"),
    (PHASE_KIND_REVIEW, "gemini"),
    (PHASE_KIND_REFACTOR, "deepseek"),
)

# Who stands in when the table's choice cannot serve, best first.
ALTERNATIVES: Mapping[PhaseKind, tuple[str, ...]] = {
    PHASE_KIND_DESIGN: ("claude", "gpt", "gemini", "deepseek"),
    PHASE_KIND_IMPLEMENT: ("gpt", "claude", "gemini", "deepseek"),
    PHASE_KIND_REVIEW: ("gemini", "claude", "gpt", "deepseek"),
    PHASE_KIND_REFACTOR: ("deepseek", "claude", "gpt", "gemini"),
    PHASE_KIND_DOCUMENT: ("claude", "gpt", "gemini", "deepseek"),
    PHASE_KIND_WRITE_TESTS: ("gpt", "claude", "deepseek", "gemini"),
}

MAX_OUTPUT_TOKENS: Mapping[PhaseKind, int] = {
    PHASE_KIND_DESIGN: 8_000,
    PHASE_KIND_IMPLEMENT: 32_000,
    PHASE_KIND_REVIEW: 8_000,
    PHASE_KIND_REFACTOR: 16_000,
    PHASE_KIND_DOCUMENT: 8_000,
    PHASE_KIND_WRITE_TESTS: 16_000,
}

# Phases that leave code behind, and so are followed by tests.
CODE_PHASES = frozenset({PHASE_KIND_IMPLEMENT, PHASE_KIND_REFACTOR})
# Phases that write a change; the others read one.
AUTHOR_PHASES = frozenset(set(ALTERNATIVES) - {PHASE_KIND_REVIEW})
WRITES_TESTS: Step = (PHASE_KIND_WRITE_TESTS, "gpt")

# What the instructions of a phase take besides the pack, generously.
PROMPT_OVERHEAD_TOKENS = 4_000
# What a model is shown of a repository at most, and what a model that has others beside it should have room for.
PACK_TOKENS_MAX = 24_000
PACK_TOKENS_WANTED = 12_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done, by whom, and what a human should know about it."""

    phases: tuple[PlannedPhase, ...]
    notes: tuple[str, ...] = ()


def steps_for(type: TaskType, scope: Scope) -> tuple[Step, ...]:
    """The row of the table for a task, with its tests where it changes code."""
    steps = FEATURE if scope == SCOPE_FEATURE else ROUTES[type]
    changes_code = any(phase in CODE_PHASES for phase, _ in steps)
    return (*steps, WRITES_TESTS) if changes_code else steps


def plan(
    type: TaskType, scope: Scope, models: Mapping[str, Model], ruled_out: Mapping[str, str], *, pack_tokens: int
) -> Plan:
    """Chooses a model for every phase of a task.

    `ruled_out` names, for each model, why it cannot serve at all ("" where it can). A phase that nobody can do keeps
    an empty `model`; a review that nobody may do is left out, and a note says so.
    """
    planned: list[PlannedPhase] = []
    notes: list[str] = []
    author = ""
    for phase, first_choice in steps_for(type, scope):
        candidates = rank(phase, first_choice, models, ruled_out, pack_tokens=pack_tokens, author=author)
        chosen = next((c.model for c in candidates if not c.ruled_out), "")
        if phase == PHASE_KIND_REVIEW and not chosen:
            notes.append(f"no model review: {_why_none(candidates)}")
            continue
        if phase in AUTHOR_PHASES:
            author = chosen or author
        limit = _answer_tokens(phase, models[chosen]) if chosen else MAX_OUTPUT_TOKENS[phase]
        planned.append(PlannedPhase(phase=phase, model=chosen, candidates=candidates, max_output_tokens=limit))
        if chosen and chosen != first_choice:
            why = next((c.ruled_out for c in candidates if c.model == first_choice), "unknown model")
            notes.append(f"{phase_word(phase)} by {chosen} instead of {first_choice}: {why}")
    return Plan(tuple(planned), tuple(notes))


def pack_budget(models: Mapping[str, Model], ruled_out: Mapping[str, str]) -> int:
    """How large a pack may be, so that every model that can serve has room for it whatever the phase.

    A model with little room does not starve the others: it is ruled out for what does not fit it. Where all have
    little room, the roomiest counts.
    """
    rooms = [_room(model) for name, model in models.items() if not ruled_out.get(name)]
    enough = [room for room in rooms if room >= PACK_TOKENS_WANTED]
    budget = min(enough) if enough else max(rooms, default=PACK_TOKENS_MAX)
    return max(1, min(budget, PACK_TOKENS_MAX))


def rank(
    phase: PhaseKind,
    first_choice: str,
    models: Mapping[str, Model],
    ruled_out: Mapping[str, str],
    *,
    pack_tokens: int,
    author: str = "",
) -> list[Candidate]:
    """Every model for a phase: those that can serve first, each with its score, the others with what rules them out."""
    order = [first_choice, *(name for name in ALTERNATIVES[phase] if name != first_choice)]
    order += sorted(name for name in models if name not in order)
    found = []
    for place, name in enumerate(order):
        if name in models:
            why = ruled_out.get(name, "") or _cannot(phase, models, name, pack_tokens, author)
            found.append(Candidate(model=name, score=round(1 - 0.1 * place, 2), ruled_out=why))
    return sorted(found, key=lambda candidate: (bool(candidate.ruled_out), -candidate.score))


def same_family(models: Mapping[str, Model], one: str, other: str) -> bool:
    return one in models and other in models and models[one].family == models[other].family


def phase_word(phase: PhaseKind) -> str:
    """`PHASE_KIND_WRITE_TESTS` as request ids and people say it: "write_tests"."""
    return PhaseKind.Name(phase).removeprefix("PHASE_KIND_").lower()


def type_word(type: TaskType) -> str:
    return TaskType.Name(type).removeprefix("TASK_TYPE_").lower()


def scope_word(scope: Scope) -> str:
    return Scope.Name(scope).removeprefix("SCOPE_").lower()


def routing_table() -> str:
    """The table as Markdown, for the README."""
    rows = [(type_word(type), steps_for(type, Scope.SCOPE_FOCUSED)) for type in ROUTES]
    rows.append(("**feature** (spans types)", steps_for(TASK_TYPE_API, SCOPE_FEATURE)))
    lines = ["| task type | phases |", "|---|---|"]
    lines += [
        f"| {name} | {' → '.join(f'{phase_word(phase)}: {model}' for phase, model in steps)} |" for name, steps in rows
    ]
    return "\n".join(lines)


def _cannot(phase: PhaseKind, models: Mapping[str, Model], name: str, pack_tokens: int, author: str) -> str:
    model = models[name]
    if phase == PHASE_KIND_REVIEW and same_family(models, name, author):
        return f"same family as the author ({model.family})"
    needed = pack_tokens + PROMPT_OVERHEAD_TOKENS + _answer_tokens(phase, model)
    if needed > model.context_window_tokens:
        return f"context window of {model.context_window_tokens:,} tokens is less than the {needed:,} needed"
    return ""


def _answer_tokens(phase: PhaseKind, model: Model) -> int:
    return min(MAX_OUTPUT_TOKENS[phase], model.max_output_tokens)


def _room(model: Model) -> int:
    """What the window holds besides the instructions and the longest answer."""
    longest = max(_answer_tokens(phase, model) for phase in MAX_OUTPUT_TOKENS)
    return model.context_window_tokens - PROMPT_OVERHEAD_TOKENS - longest


def _why_none(candidates: Sequence[Candidate]) -> str:
    reasons: Iterable[str] = (f"{c.model}: {c.ruled_out}" for c in candidates)
    return "; ".join(reasons) or "no model is known"
