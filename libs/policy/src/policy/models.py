"""The models a factory may ask, and what each can do. Data, and pure functions over it.

Names ("claude") are stable; the provider's model ids behind them are configuration.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

Wire = Literal["anthropic", "openai-chat", "openai-responses"]

MODELS_FILE = "FACTORY_MODELS_FILE"
PRETEND = "FACTORY_PRETEND_MODELS"
CONFIGURED = "FACTORY_MODELS"


class ModelsInvalid(ValueError):
    """The configuration of models cannot be used; the message names what is wrong."""


@dataclass(frozen=True, slots=True)
class Model:
    """One model: its names, its wire protocol, and its capabilities."""

    name: str
    # as reports show it
    display_name: str
    # reviews are never by the author's family
    family: str
    # OpenTelemetry `gen_ai.provider.name`
    provider: str
    # the id that the provider knows
    provider_model: str
    wire: Wire
    base_url: str
    # environment variable that holds the key; only executors read it
    key_env: str
    context_window_tokens: int
    max_output_tokens: int
    image_input: bool = False
    structured_output: bool = True
    # a simulated provider answers for it
    pretend: bool = False


DEFAULT_MODELS: Mapping[str, Model] = {
    model.name: model
    for model in (
        Model(
            name="claude",
            display_name="Claude 4.5",
            family="anthropic",
            provider="anthropic",
            provider_model="claude-opus-4-5",
            wire="anthropic",
            base_url="https://api.anthropic.com",
            key_env="ANTHROPIC_API_KEY",
            context_window_tokens=200_000,
            max_output_tokens=64_000,
            image_input=True,
        ),
        Model(
            name="gpt",
            display_name="GPT-5",
            family="openai",
            provider="openai",
            provider_model="gpt-5",
            wire="openai-responses",
            base_url="https://api.openai.com/v1",
            key_env="OPENAI_API_KEY",
            context_window_tokens=400_000,
            max_output_tokens=128_000,
            image_input=True,
        ),
        Model(
            name="gemini",
            display_name="Gemini 3 Pro",
            family="google",
            provider="gcp.gemini",
            provider_model="gemini-3-pro-preview",
            wire="openai-chat",
            base_url="https://generativelanguage.googleapis.com/v1beta/openai",
            key_env="GEMINI_API_KEY",
            context_window_tokens=1_000_000,
            max_output_tokens=64_000,
            image_input=True,
        ),
        Model(
            name="deepseek",
            display_name="DeepSeek",
            family="deepseek",
            provider="deepseek",
            provider_model="deepseek-chat",
            wire="openai-chat",
            base_url="https://api.deepseek.com",
            key_env="DEEPSEEK_API_KEY",
            context_window_tokens=128_000,
            max_output_tokens=8_000,
        ),
    )
}


def models_from(env: Mapping[str, str]) -> dict[str, Model]:
    """The four models, changed and added to by configuration; ModelsInvalid names what cannot be used.

    `FACTORY_MODELS_FILE` is a TOML file with a table per model; for one model `FACTORY_<NAME>_BASE_URL` and
    `FACTORY_<NAME>_MODEL` (the provider's id) are enough. `FACTORY_PRETEND_MODELS` names those that are simulated.
    """
    models = dict(DEFAULT_MODELS)
    if path := env.get(MODELS_FILE):
        try:
            tables = tomllib.loads(Path(path).read_text())
        except (OSError, ValueError) as error:
            raise ModelsInvalid(f"{MODELS_FILE} names {path!r}, which cannot be read: {error}") from error
        for name, table in tables.items():
            models[name] = _model(name, table, models.get(name))
    pretend = set(_names(env.get(PRETEND, "")))
    for name, model in models.items():
        prefix = f"FACTORY_{name.upper().replace('-', '_')}"
        models[name] = replace(
            model,
            base_url=env.get(f"{prefix}_BASE_URL") or model.base_url,
            provider_model=env.get(f"{prefix}_MODEL") or model.provider_model,
            pretend=model.pretend or name in pretend,
        )
    return models


def configured_in(env: Mapping[str, str], models: Mapping[str, Model]) -> dict[str, str]:
    """Every model's name with why it cannot serve; empty where it can.

    `FACTORY_MODELS` names the models that have an executor; without it, those whose key stands in the environment.
    """
    if (listed := env.get(CONFIGURED)) is not None:
        names = set(_names(listed))
        if unknown := names - set(models):
            raise ModelsInvalid(f"{CONFIGURED} names {sorted(unknown)}; known are {sorted(models)}")
        return {name: "" if name in names else "not configured" for name in models}
    return {name: "" if env.get(m.key_env) else f"not configured: no {m.key_env}" for name, m in models.items()}


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _model(name: str, table: Any, known: Model | None) -> Model:
    """A model from its table, over what is known of it."""
    allowed = {field.name for field in fields(Model)} - {"name"}
    if not isinstance(table, dict):
        raise ModelsInvalid(f"model {name!r}: expected a table, found {table!r}")
    if unknown := set(table) - allowed:
        raise ModelsInvalid(f"model {name!r}: unknown {sorted(unknown)}; allowed {sorted(allowed)}")
    try:
        model = replace(known, **table) if known else Model(name=name, **{"display_name": name, **table})
    except TypeError as error:
        required = "family, provider, provider_model, wire, base_url, key_env, context_window_tokens, max_output_tokens"
        raise ModelsInvalid(f"model {name!r} needs {required}: {error}") from error
    if model.wire not in get_args(Wire):
        raise ModelsInvalid(f"model {name!r}: wire {model.wire!r} is none of {', '.join(get_args(Wire))}")
    return model
