"""Settings that every service shares, read from `FACTORY_…` environment variables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class SettingsInvalid(Exception):
    """A setting is missing or wrong; the message names the variable."""


class SettingsWrong(ValueError):
    """A setting of one service cannot be used; the message names the variable."""


class Settings(BaseSettings):
    """What a service needs to find its log, its artifacts and its listeners."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    # Where nats-server listens; several, separated by commas, for a cluster.
    nats_url: str = "nats://127.0.0.1:4222"
    # The user is the lane's name; bootstrap writes the permissions.
    nats_password: SecretStr = SecretStr("")
    org: str = "main"
    # Directory of the artifact store, shared by every service.
    artifacts: Path = Path("artifacts")
    # Directory for what is the service's own: caches, databases.
    data: Path = Path()
    grpc_listen: str = "127.0.0.1:0"
    # JSON list of {"subject", "roles", "sha256"}; without it every call is refused.
    tokens_file: Path | None = None
    # host:port of /live, /ready and /metrics; empty for none.
    http_listen: str = ""
    # How long a worker may stay silent before its item is offered again; must equal what bootstrap was told.
    ack_wait_s: float = 60
    heartbeat_s: float = 15
    # How long a stop waits for work in hand.
    drain_s: float = 20
    log_format: Literal["console", "json"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    # Local repositories may lie below these directories only, separated by the platform's path separator.
    allowed_roots: str = ""


def settings_from(env: Mapping[str, str]) -> Settings:
    """Reads the settings from an environment; SettingsInvalid names what is wrong."""
    values = {key.removeprefix("FACTORY_").lower(): value for key, value in env.items() if key.startswith("FACTORY_")}
    known = {key: value for key, value in values.items() if key in Settings.model_fields}
    try:
        return Settings.model_validate(known)
    except ValidationError as error:
        wrong = "; ".join(
            f"FACTORY_{str(e['loc'][0]).upper()}: {e['msg']}, found {e['input']!r}" for e in error.errors()
        )
        raise SettingsInvalid(wrong) from error


def number_in(env: Mapping[str, str], name: str, default: float, least: float, most: float) -> float:
    """A number in an environment; SettingsWrong for one that is none, or not from `least` to `most`."""
    text = env.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise SettingsWrong(f"{name} is {text!r}; expected a number from {least:g} to {most:g}")
    return value
