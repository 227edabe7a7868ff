"""The executor's own settings, read from the environment. Pure: the environment is an argument."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from policy.models import Model
from runtime.settings import SettingsWrong, number_in

MODEL, MODEL_ALIAS = "EXECUTOR_MODEL", "FACTORY_EXECUTOR_MODEL"
SLOTS, SLOTS_DEFAULT, SLOTS_MAX = "FACTORY_EXECUTOR_SLOTS", 4, 64
CALL_TIMEOUT, CALL_TIMEOUT_S_DEFAULT, CALL_TIMEOUT_S_MAX = "FACTORY_EXECUTOR_CALL_TIMEOUT_S", 600.0, 3600.0

# The SDKs insist on a key; a pretend provider must never see a real one, and a local server has none.
PRETEND_KEY = "pretend"
LOCAL_KEY = "local"


@dataclass(frozen=True, slots=True)
class Settings:
    model: Model
    # empty when none is set and one is needed: every request then fails with that reason
    api_key: str = field(repr=False)
    slots: int = SLOTS_DEFAULT
    call_timeout_s: float = CALL_TIMEOUT_S_DEFAULT


def settings_from(env: Mapping[str, str], models: Mapping[str, Model]) -> Settings:
    """Reads the settings; SettingsWrong names what is missing or wrong."""
    name = env.get(MODEL) or env.get(MODEL_ALIAS, "")
    if name not in models:
        found = f"is {name!r}" if name else "is not set"
        raise SettingsWrong(f"{MODEL} {found}; it names one of {', '.join(sorted(models))}")
    return Settings(
        model=models[name],
        api_key=_key(models[name], env),
        slots=int(number_in(env, SLOTS, SLOTS_DEFAULT, 1, SLOTS_MAX)),
        call_timeout_s=number_in(env, CALL_TIMEOUT, CALL_TIMEOUT_S_DEFAULT, 0.1, CALL_TIMEOUT_S_MAX),
    )


def is_local(url: str) -> bool:
    """Whether a server runs on this machine."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _key(model: Model, env: Mapping[str, str]) -> str:
    if model.pretend:
        return PRETEND_KEY
    if key := env.get(model.key_env, ""):
        return key
    return LOCAL_KEY if not model.key_env or is_local(model.base_url) else ""
