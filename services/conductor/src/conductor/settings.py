"""The conductor's own settings, read from the environment. Pure: the environment is an argument."""

from collections.abc import Mapping
from datetime import timedelta

from policy.models import Model

from conductor.book import Rules
from conductor.catalog import configured
from conductor.roster import OPEN_TASKS_DEFAULT
from conductor.state import Kind
from conductor.world import PATIENCE

OPEN_TASKS, OPEN_TASKS_MAX = "FACTORY_OPEN_TASKS_MAX", 100_000
# For all requests alike: the defaults differ by kind.
PATIENCE_S, PATIENCE_S_MAX = "FACTORY_REQUEST_DEADLINE_S", 7 * 86_400.0


class SettingsWrong(ValueError):
    """A setting cannot be used; the message names the variable."""


def rules_from(env: Mapping[str, str], models: Mapping[str, Model], ruled_out: Mapping[str, str]) -> Rules:
    """What a conductor is configured with; SettingsWrong names what cannot be used."""
    patience = PATIENCE
    if env.get(PATIENCE_S):
        allowed = timedelta(seconds=_number(env, PATIENCE_S, 0.0, 1.0, PATIENCE_S_MAX))
        patience = dict.fromkeys(Kind, allowed)
    return Rules(
        models=models,
        ruled_out=ruled_out,
        models_digest=configured(models, ruled_out).digest,
        open_tasks_max=int(_number(env, OPEN_TASKS, OPEN_TASKS_DEFAULT, 1, OPEN_TASKS_MAX)),
        patience=patience,
    )


def _number(env: Mapping[str, str], name: str, default: float, least: float, most: float) -> float:
    text = env.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise SettingsWrong(f"{name} is {text!r}; expected a number from {least:g} to {most:g}")
    return value
