"""Refuses to start on a server that would lose what it has acknowledged."""

import json
import urllib.request
from dataclasses import dataclass
from typing import Any

PREFLIGHT_TIMEOUT_S = 3


class Unsafe(Exception):
    """The server is not configured as the event log needs it."""


@dataclass(frozen=True, slots=True)
class Preflight:
    server_version: str
    sync_always: bool
    replicas: int


def check(monitor_urls: str, *, allow_unsynced: bool = False) -> Preflight:
    """Reads every server's `/varz`; raises Unsafe unless every write is synced before it is acknowledged.

    `monitor_urls`: several, separated by commas, for a cluster; each server has a configuration of its own.

    By default JetStream syncs every two minutes: a power cut then loses events that were acknowledged. Blocking: call
    it from a thread.
    """
    found = [_check(url.strip(), allow_unsynced=allow_unsynced) for url in monitor_urls.split(",")]
    return found[0]


def _check(monitor_url: str, *, allow_unsynced: bool) -> Preflight:
    if not monitor_url.startswith(("http://", "https://")):
        raise ValueError(f"the monitor URL must be http or https, found {monitor_url!r}")
    with urllib.request.urlopen(f"{monitor_url.rstrip('/')}/varz", timeout=PREFLIGHT_TIMEOUT_S) as answer:  # noqa: S310 - scheme checked above
        return judge(json.load(answer), allow_unsynced=allow_unsynced)


def judge(varz: dict[str, Any], *, allow_unsynced: bool) -> Preflight:
    """What `/varz` says, or Unsafe."""
    config = varz.get("jetstream", {}).get("config")
    if not config:
        raise Unsafe("this nats-server runs without JetStream; the event log needs it")
    found = Preflight(
        varz.get("version", "?"), bool(config.get("sync_always")), len(varz.get("cluster", {}).get("urls", []))
    )
    if not found.sync_always and not allow_unsynced:
        raise Unsafe(
            "this nats-server acknowledges before it syncs: a power cut would lose acknowledged events. "
            "Set `sync_interval: always` in its jetstream block"
        )
    return found
