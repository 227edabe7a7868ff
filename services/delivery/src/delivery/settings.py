"""What delivery is told by its environment. Pure: given the variables."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

GITHUB_HOST_DEFAULT = "github.com"
GITHUB_API_DEFAULT = "https://api.github.com"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """Where pull requests go, and by what right."""

    # Host and port, as in the repository's URL.
    github_host: str
    github_api: str
    # Never shown.
    github_token: str


def settings_from(env: Mapping[str, str]) -> DeliverySettings:
    """Reads the settings; ValueError names the variable that is wrong."""
    host = env.get("FACTORY_GITHUB_HOST") or GITHUB_HOST_DEFAULT
    default = GITHUB_API_DEFAULT if host == GITHUB_HOST_DEFAULT else f"https://{host}/api/v3"
    api = env.get("FACTORY_GITHUB_API") or default
    parts = urlsplit(api)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise ValueError(f"FACTORY_GITHUB_API: expected an https URL, found {api!r}")
    if "@" in parts.netloc:
        raise ValueError("FACTORY_GITHUB_API: expected a URL without credentials")
    return DeliverySettings(host, api, env.get("FACTORY_GITHUB_TOKEN", "").strip())
