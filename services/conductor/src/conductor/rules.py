"""What a conductor is configured with, and the same as a fact: who decides again needs to know by what was decided.

Pure. Addresses and keys of models are the executors' business, and no part of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from factory.model.v1 import ModelsConfigured
from google.protobuf.json_format import MessageToDict
from policy import catalog
from policy.models import Model
from policy.receipts import inputs_digest
from runtime.settings import SettingsWrong, number_in

from conductor.roster import OPEN_TASKS_DEFAULT
from conductor.state import Kind
from conductor.world import PATIENCE

LANE_ID = "models"
OPEN_TASKS, OPEN_TASKS_MAX = "FACTORY_OPEN_TASKS_MAX", 100_000
# FACTORY_PHASE_DEADLINE_S and its like, one for each kind of request.
DEADLINE_S, DEADLINE_S_MAX = "FACTORY_{}_DEADLINE_S", 7 * 86_400.0


# on or off: whether a model that is not well is passed over.
BREAKERS = "FACTORY_BREAKERS"
# How long a reservation is kept before it is looked up what became of its request.
LEASE_S, LEASE_S_DEFAULT, LEASE_S_MAX = "FACTORY_BUDGET_LEASE_S", 300.0, 86_400.0


@dataclass(frozen=True, slots=True)
class Rules:
    """What a conductor is configured with."""

    models: Mapping[str, Model]
    # why a model cannot serve at all; "" where it can
    ruled_out: Mapping[str, str]
    open_tasks_max: int = OPEN_TASKS_DEFAULT
    patience: Mapping[Kind, timedelta] = field(default_factory=lambda: PATIENCE)
    # health is watched and told, and rules nobody out
    breakers_off: bool = False
    # names all of this in receipts
    digest: str = ""


def rules_from(env: Mapping[str, str], models: Mapping[str, Model], ruled_out: Mapping[str, str]) -> Rules:
    """What a conductor is configured with; SettingsWrong names what cannot be used."""
    patience = {
        kind: timedelta(
            seconds=number_in(env, DEADLINE_S.format(kind.name), PATIENCE[kind].total_seconds(), 1.0, DEADLINE_S_MAX)
        )
        for kind in Kind
    }
    open_tasks_max = int(number_in(env, OPEN_TASKS, OPEN_TASKS_DEFAULT, 1, OPEN_TASKS_MAX))
    rules = Rules(models, ruled_out, open_tasks_max, patience, breakers_off=_switch(env, BREAKERS))
    return replace(rules, digest=configured(rules).digest)


def lease_from(env: Mapping[str, str]) -> timedelta:
    """How long a reservation is kept; SettingsWrong names what cannot be used."""
    return timedelta(seconds=number_in(env, LEASE_S, LEASE_S_DEFAULT, 5.0, LEASE_S_MAX))


def configured(rules: Rules) -> ModelsConfigured:
    """The fact that puts a configuration on record."""
    fact = ModelsConfigured(
        models=catalog.configured(rules.models, rules.ruled_out),
        open_tasks_max=rules.open_tasks_max,
        breakers_off=rules.breakers_off,
        patience_s={kind.value: allowed.total_seconds() for kind, allowed in rules.patience.items()},
    )
    fact.digest = inputs_digest(MessageToDict(fact))
    return fact


def rules_in(fact: ModelsConfigured) -> Rules:
    """The configuration that a fact has put on record, as far as deciding goes."""
    models, ruled_out = catalog.models_in(fact)
    return Rules(
        models=models,
        ruled_out=ruled_out,
        open_tasks_max=fact.open_tasks_max,
        patience={Kind(kind): timedelta(seconds=seconds) for kind, seconds in fact.patience_s.items()},
        breakers_off=fact.breakers_off,
        digest=fact.digest,
    )


def _switch(env: Mapping[str, str], name: str) -> bool:
    """Whether something that is on by default is switched off."""
    text = env.get(name, "") or "on"
    if text not in ("on", "off"):
        raise SettingsWrong(f"{name} is {text!r}; expected on or off")
    return text == "off"
