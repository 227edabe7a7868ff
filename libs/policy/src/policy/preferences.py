"""How a project wants its tasks to be routed. Values, and pure functions over them.

Precedence: an architect's override, then the project's own rules, then its mode, then the routing table.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from factory.project.v1 import (
    PREFERENCE_MODE_BALANCED,
    PREFERENCE_MODE_CUSTOM,
    PREFERENCE_MODE_UNSPECIFIED,
    PreferenceMode,
    PreferencesSaved,
    RoutingRule,
)
from factory.project.v1 import Preferences as PreferencesMessage
from factory.task.v1 import (
    PHASE_KIND_CLASSIFY,
    PHASE_KIND_UNSPECIFIED,
    TASK_TYPE_UNSPECIFIED,
    PhaseKind,
    TaskType,
)

RULES_MAX = 64
MODELS_LISTED_MAX = 16
OPEN_TASKS_MAX = 100_000

Violation = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Rule:
    """Models for a type and phase, best first; unspecified fits all."""

    type: TaskType
    phase: PhaseKind
    models: tuple[str, ...]

    def fits(self, type: TaskType, phase: PhaseKind) -> bool:
        return self.type in (TASK_TYPE_UNSPECIFIED, type) and self.phase in (PHASE_KIND_UNSPECIFIED, phase)


@dataclass(frozen=True, slots=True)
class Preferences:
    """Preferences as plain values; `version` 0 where none were ever saved."""

    mode: PreferenceMode = PREFERENCE_MODE_BALANCED
    rules: tuple[Rule, ...] = ()
    excluded: tuple[str, ...] = ()
    # None is the factory's default
    max_open_tasks: int | None = None
    version: int = 0


BALANCED = Preferences()


def preferences_from(message: PreferencesMessage, version: int = 0) -> Preferences:
    """The preferences that a message holds."""
    return Preferences(
        mode=message.mode or PREFERENCE_MODE_BALANCED,
        rules=tuple(Rule(rule.type, rule.phase, tuple(rule.models)) for rule in message.rules),
        excluded=tuple(message.excluded_models),
        max_open_tasks=message.max_open_tasks if message.HasField("max_open_tasks") else None,
        version=version,
    )


def saved(fact: PreferencesSaved) -> Preferences:
    """The preferences that a fact puts in force."""
    return preferences_from(fact.preferences, fact.version)


def message_of(preferences: Preferences) -> PreferencesMessage:
    """As they are told to others."""
    return PreferencesMessage(
        mode=preferences.mode,
        rules=[RoutingRule(type=rule.type, phase=rule.phase, models=rule.models) for rule in preferences.rules],
        excluded_models=preferences.excluded,
        max_open_tasks=preferences.max_open_tasks,
    )


def violations_of(message: PreferencesMessage, models: Iterable[str]) -> list[Violation]:
    """Everything that is wrong with preferences: (field, what was expected and found)."""
    known = sorted(models)
    found: list[Violation] = []
    if message.mode not in PreferenceMode.values() or message.mode == PREFERENCE_MODE_UNSPECIFIED:
        found.append(("preferences.mode", f"balanced, quality, cost or custom, found {message.mode}"))
    if message.rules and message.mode != PREFERENCE_MODE_CUSTOM:
        found.append(("preferences.rules", "none, unless the mode is custom"))
    if len(message.rules) > RULES_MAX:
        found.append(("preferences.rules", f"at most {RULES_MAX}, found {len(message.rules)}"))
        return found
    for index, rule in enumerate(message.rules):
        found += _rule(f"preferences.rules[{index}]", rule, known)
    found += _names("preferences.excluded_models", message.excluded_models, known)
    if known and set(known) <= set(message.excluded_models):
        found.append(("preferences.excluded_models", "at least one model that is not excluded"))
    if message.HasField("max_open_tasks") and not 1 <= message.max_open_tasks <= OPEN_TASKS_MAX:
        found.append(("preferences.max_open_tasks", f"1 to {OPEN_TASKS_MAX:,}, found {message.max_open_tasks}"))
    return found


def _rule(field: str, rule: RoutingRule, known: list[str]) -> Iterable[Violation]:
    if rule.type not in TaskType.values():
        yield f"{field}.type", f"a known type, found {rule.type}"
    if rule.phase not in PhaseKind.values() or rule.phase == PHASE_KIND_CLASSIFY:
        yield f"{field}.phase", f"a phase of the routing table, found {rule.phase}"
    if not rule.models:
        yield f"{field}.models", f"1 to {MODELS_LISTED_MAX} models, best first, found none"
    yield from _names(f"{field}.models", rule.models, known)


def _names(field: str, names: Iterable[str], known: list[str]) -> Iterable[Violation]:
    listed = list(names)
    if len(listed) > MODELS_LISTED_MAX:
        # Each of them with a complaint of its own would be more than an answer holds.
        yield field, f"at most {MODELS_LISTED_MAX} models, found {len(listed):,}"
        return
    for name in dict.fromkeys(listed):
        if name not in known:
            yield field, f"one of {', '.join(known)}, found {name[:40]!r}"
    if len(set(listed)) != len(listed):
        yield field, "each model once"


def as_inputs(preferences: Preferences) -> Mapping[str, object]:
    """As a receipt's digest takes them."""
    return {
        "version": preferences.version,
        "mode": int(preferences.mode),
        "rules": [[int(rule.type), int(rule.phase), list(rule.models)] for rule in preferences.rules],
        "excluded": sorted(preferences.excluded),
    }
