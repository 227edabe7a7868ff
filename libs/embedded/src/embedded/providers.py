"""Who answers when the factory asks a model: the real providers, simulated ones, or a local model."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from policy.models import DEFAULT_MODELS, configured_in, models_from

REAL, SIMULATED, LOCAL = "real", "simulated", "local"
SIMULATOR_URL = "FACTORY_SIMULATOR_URL"


@dataclass(frozen=True, slots=True)
class Providers:
    """Settings that point the executors at those who answer."""

    configured: tuple[str, ...]
    pretend: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def pretending(models: str, data: Path, env: Mapping[str, str]) -> Iterator[Providers]:
    """Starts whatever answers in place of the providers, and says how to reach it."""
    match models:
        case "real":
            why_not = configured_in({k: v for k, v in env.items() if k != "FACTORY_MODELS"}, models_from(env))
            yield Providers(tuple(name for name, reason in why_not.items() if not reason))
        case "simulated":
            with contextlib.ExitStack() as stack:
                url = env.get(SIMULATOR_URL) or stack.enter_context(_simulator(data / "simulator" / "bill.jsonl"))
                names = tuple(DEFAULT_MODELS)
                yield Providers(names, names, _pointing_at(url, env))
        case "local":
            from embedded.local_llm import SLOTS, SLOTS_DEFAULT, local_llm

            with local_llm(data, slots=env.get(SLOTS) or SLOTS_DEFAULT) as providers:
                yield providers
        case _:
            raise ValueError(f"models must be real, simulated or local, found {models!r}")


@contextlib.contextmanager
def _simulator(bill: Path) -> Iterator[str]:
    from simulator import WATCHABLE, start

    bill.parent.mkdir(parents=True, exist_ok=True)
    simulator = start(bill, pace=WATCHABLE)
    try:
        yield simulator.url
    finally:
        simulator.stop()


def _pointing_at(url: str, env: Mapping[str, str]) -> dict[str, str]:
    """Base URLs and a key for every model; a simulated provider takes any key."""
    settings: dict[str, str] = {}
    for name, model in models_from(env).items():
        if name in DEFAULT_MODELS:
            settings[f"FACTORY_{name.upper()}_BASE_URL"] = url if model.wire == "anthropic" else f"{url}/v1"
            settings[model.key_env] = "simulated"
    return settings
