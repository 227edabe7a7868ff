"""The routing table as data. Pure: who does what by default, and who stands in. `ranking.py` chooses by it."""

from collections.abc import Mapping

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
    PhaseKind,
    Scope,
    TaskType,
)

POLICY_VERSION = "routing-2"

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

# Quality: these everywhere, each where the table's order puts it first.
PREMIUM = ("claude", "gpt")
# Cost: the cheapest first, by list price.
CHEAPEST_FIRST = ("deepseek", "gpt", "gemini", "claude")
# Where cost does not count before quality, besides features and architecture.
PREMIUM_PHASES = frozenset({PHASE_KIND_DESIGN, PHASE_KIND_REVIEW})

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
# Phases that see what a submitter has attached; the others work on what these have made of it.
ATTACHED_PHASES = frozenset({PHASE_KIND_DESIGN, PHASE_KIND_IMPLEMENT, PHASE_KIND_DOCUMENT, PHASE_KIND_REVIEW})

# What the instructions of a phase take besides the pack, generously.
PROMPT_OVERHEAD_TOKENS = 4_000
# What a model is shown of a repository at most, and what a model that has others beside it should have room for.
PACK_TOKENS_MAX = 24_000
PACK_TOKENS_WANTED = 12_000


def steps_for(type: TaskType, scope: Scope) -> tuple[Step, ...]:
    """The row of the table for a task, with its tests where it changes code."""
    steps = FEATURE if scope == SCOPE_FEATURE else ROUTES[type]
    changes_code = any(phase in CODE_PHASES for phase, _ in steps)
    return (*steps, WRITES_TESTS) if changes_code else steps


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
