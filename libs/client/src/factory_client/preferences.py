"""How a project's tasks are routed, as people write and read it: options, files, and what differs. Pure.

Judges words only; whether a model may be named is for the factory to say.
"""

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from factory.project.v1 import PREFERENCE_MODE_CUSTOM, Preferences, RoutingRule
from factory.task.v1 import PhaseKind, TaskType

from factory_client.words import ANY, code_word, mode_for, mode_word, phase_for, task_type_for

ANY_WORD = "any"
DEFAULT = "default"
OPEN_TASKS_MAX = 2**32 - 1
KEYS = frozenset({"mode", "rules", "excluded_models", "max_open_tasks"})
RULE_KEYS = frozenset({"type", "phase", "models"})
# What `settings show --json` writes around the preferences.
AROUND = frozenset({"version", "preferences", "history", "position"})


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be different; whatever is not named stays as it is."""

    mode: str = ""
    # "logic.implement=deepseek,gpt"; without models the rule for that type and phase is taken away.
    rules: Sequence[str] = ()
    exclude: Sequence[str] = ()
    include: Sequence[str] = ()
    # A number, or "default".
    max_open_tasks: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """Preferences from a file; `version` where the file says which version they were read at."""

    preferences: Preferences
    version: int | None = None


def changed(standing: Preferences, change: Change) -> Preferences:
    """Preferences with a change; rules go when the mode is no longer custom, because they count in no other."""
    wanted = Preferences()
    wanted.CopyFrom(standing)
    if change.mode:
        wanted.mode = mode_for(change.mode)
    if wanted.mode != PREFERENCE_MODE_CUSTOM:
        if change.rules:
            raise ValueError(
                f"--rule counts in mode custom only, and the mode is {mode_word(wanted.mode)}: add --mode custom"
            )
        del wanted.rules[:]
    rules = list(wanted.rules)
    for text in change.rules:
        _put(rules, rule_for(text), text)
    del wanted.rules[:]
    wanted.rules.extend(rules)
    _exclude(wanted, change)
    if change.max_open_tasks == DEFAULT:
        wanted.ClearField("max_open_tasks")
    elif change.max_open_tasks:
        wanted.max_open_tasks = _open_tasks(change.max_open_tasks, "--max-open-tasks")
    return wanted


def rule_for(text: str) -> RoutingRule:
    """The rule of "logic.implement=deepseek,gpt"; "any" stands for every type or every phase."""
    where, equals, names = text.partition("=")
    kind, dot, phase = where.strip().partition(".")
    if not (equals and dot and kind and phase):
        raise ValueError(f"--rule: expected TYPE.PHASE=MODEL,…, such as logic.implement=deepseek,gpt, found {text!r}")
    models = [name.strip() for name in names.split(",") if name.strip()]
    return _rule(kind, phase, models)


def rule_text(rule: RoutingRule) -> str:
    """A rule as the command line takes it."""
    return f"{_where(rule)}={','.join(rule.models)}"


def rules_that_never_count(rules: Sequence[RoutingRule]) -> list[tuple[RoutingRule, RoutingRule]]:
    """Rules behind one that fits whatever they fit, each with that one."""
    found: list[tuple[RoutingRule, RoutingRule]] = []
    for index, rule in enumerate(rules):
        before = next((one for one in rules[:index] if _covers(one, rule)), None)
        if before is not None:
            found.append((rule, before))
    return found


def differences(before: Preferences, after: Preferences) -> list[str]:
    """What was changed, one line for each thing; empty when nothing was."""
    lines: list[str] = []
    if mode_word(before.mode) != mode_word(after.mode):
        lines.append(f"mode: {mode_word(before.mode)} → {mode_word(after.mode)}")
    lines += _rule_differences([rule_text(one) for one in before.rules], [rule_text(one) for one in after.rules])
    gone, come = set(before.excluded_models), set(after.excluded_models)
    lines += [f"+ exclude {name}" for name in sorted(come - gone)]
    lines += [f"- exclude {name}" for name in sorted(gone - come)]
    if open_tasks_text(before) != open_tasks_text(after):
        lines.append(f"open tasks at most: {open_tasks_text(before)} → {open_tasks_text(after)}")
    return lines


def open_tasks_text(preferences: Preferences) -> str:
    """How many tasks may be open at once."""
    return f"{preferences.max_open_tasks:,}" if preferences.HasField("max_open_tasks") else "the factory's default"


def written(text: str) -> Written:
    """The preferences of a TOML or JSON file; also of what `settings show --json` prints, with its version."""
    try:
        table = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except ValueError as error:  # both of them
        raise ValueError(f"neither JSON nor TOML: {error}") from None
    if "preferences" not in table:
        return Written(_preferences(table))
    _check_keys(table, AROUND, "")
    version, inner = table.get("version"), table["preferences"]
    if version is not None and (not isinstance(version, int) or isinstance(version, bool) or version < 0):
        raise ValueError(f"version: expected a whole number, found {version!r}")
    if not isinstance(inner, dict):
        raise ValueError(f"preferences: expected an object, found {inner!r}")
    return Written(_preferences(inner), version)


def _preferences(table: Mapping[str, Any]) -> Preferences:
    _check_keys(table, KEYS, "")
    wanted = Preferences(
        mode=mode_for(_text(table.get("mode"), "mode") or "balanced"),
        rules=[_written_rule(one, f"rules[{index}]") for index, one in enumerate(_list(table.get("rules"), "rules"))],
        excluded_models=_names(table.get("excluded_models"), "excluded_models"),
    )
    if table.get("max_open_tasks") is not None:
        wanted.max_open_tasks = _open_tasks(table["max_open_tasks"], "max_open_tasks")
    if wanted.rules and wanted.mode != PREFERENCE_MODE_CUSTOM:
        raise ValueError(
            f'rules: none unless mode = "custom", found {len(wanted.rules)} in mode {mode_word(wanted.mode)}'
        )
    return wanted


def _written_rule(table: Any, where: str) -> RoutingRule:
    if not isinstance(table, dict):
        raise ValueError(f"{where}: expected type, phase and models, found {table!r}")
    _check_keys(table, RULE_KEYS, f"{where}.")
    kind, phase = _text(table.get("type"), f"{where}.type"), _text(table.get("phase"), f"{where}.phase")
    models = _names(table.get("models"), f"{where}.models")
    if not models:
        raise ValueError(f"{where}.models: expected models, best first, found none")
    return _rule(kind, phase, models)


def _rule(kind: str, phase: str, models: Sequence[str]) -> RoutingRule:
    return RoutingRule(
        type=task_type_for("" if kind.strip().lower() in ANY else kind),
        phase=phase_for("" if phase.strip().lower() in ANY else phase),
        models=models,
    )


def _put(rules: list[RoutingRule], rule: RoutingRule, text: str) -> None:
    """Replaces the rule for the same type and phase; a new one goes before the first that would hide it."""
    same = next((index for index, one in enumerate(rules) if _where(one) == _where(rule)), None)
    if not rule.models:
        if same is None:
            raise ValueError(f"--rule {text}: there is no rule for {_where(rule)} to take away")
        del rules[same]
    elif same is not None:
        rules[same] = rule
    else:
        hides = next((index for index, one in enumerate(rules) if _covers(one, rule)), len(rules))
        rules.insert(hides, rule)


def _exclude(wanted: Preferences, change: Change) -> None:
    excluded = list(wanted.excluded_models)
    for name in change.include:
        if name not in excluded:
            raise ValueError(f"--include {name}: it is not excluded")
        excluded.remove(name)
    excluded += [name for name in dict.fromkeys(change.exclude) if name not in excluded]
    del wanted.excluded_models[:]
    wanted.excluded_models.extend(excluded)


def _covers(one: RoutingRule, other: RoutingRule) -> bool:
    return one.type in (0, other.type) and one.phase in (0, other.phase)


def _where(rule: RoutingRule) -> str:
    return f"{code_word(TaskType, rule.type) or ANY_WORD}.{code_word(PhaseKind, rule.phase) or ANY_WORD}"


def _rule_differences(before: list[str], after: list[str]) -> Iterable[str]:
    """Rules taken away and added; one that has moved is both, because their order counts."""
    for tag, old, old_end, new, new_end in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag != "equal":
            yield from (f"- rule {one}" for one in before[old:old_end])
            yield from (f"+ rule {one}" for one in after[new:new_end])


def _open_tasks(value: Any, what: str) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= OPEN_TASKS_MAX:
        raise ValueError(f"{what}: expected a whole number from 1 on, found {value!r}")
    return value


def _text(value: Any, what: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{what}: expected a word, found {value!r}")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"{what}: expected a list, found {value!r}")
    return value


def _names(value: Any, what: str) -> list[str]:
    names = _list(value, what)
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"{what}: expected names of models, found {name!r}")
    return names


def _check_keys(table: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise ValueError(f"unknown {where}{key}; known are {', '.join(sorted(known))}")
