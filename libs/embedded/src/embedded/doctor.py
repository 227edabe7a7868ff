"""Looks at this machine and says what the factory will find there."""

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from policy.models import configured_in, models_from

CHECKS = "factory.checks"
GIT_MIN = (2, 30)
SLOW_SYNC_MS = 50


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    ok: bool
    says: str
    # whether the factory cannot run without it
    needed: bool = True


def examine(env: Mapping[str, str]) -> list[Finding]:
    """Every check, in the order in which one would mend them."""
    return [_python(), _git(), _nats(), _ports(), _sync(), *_contributed(), *_keys(env), _local_llm()]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", sys.version_info >= (3, 11), f"{version} (3.11 or newer)")


def _git() -> Finding:
    path = shutil.which("git")
    if not path:
        return Finding("git", False, "not found; install it: apt-get install git, or brew install git")
    text = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.split()
    version = tuple(int(part) for part in text[2].split(".")[:2]) if len(text) > 2 else ()
    return Finding("git", version >= GIT_MIN, f"{' '.join(text)} ({'.'.join(map(str, GIT_MIN))} or newer)")


def _nats() -> Finding:
    from embedded.nats import NatsFailed, binary

    try:
        path = binary()
    except NatsFailed as error:
        return Finding("nats-server", False, str(error))
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return Finding("nats-server", True, version)


def _ports() -> Finding:
    try:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            return Finding("ports", True, "free loopback ports can be bound")
    except OSError as error:
        return Finding("ports", False, f"no loopback port can be bound: {error}")


def _sync() -> Finding:
    """How long an fsync takes: every acknowledged event waits for one."""
    import os

    with tempfile.NamedTemporaryFile(dir=Path.cwd() if os.access(Path.cwd(), os.W_OK) else None) as probe:
        started = time.perf_counter()
        for _ in range(20):
            probe.write(b"x" * 512)
            probe.flush()
            os.fsync(probe.fileno())
        each_ms = (time.perf_counter() - started) * 50
    verdict = "fast enough" if each_ms < SLOW_SYNC_MS else "slow: every event waits for one"
    return Finding("disk sync", each_ms < SLOW_SYNC_MS, f"{each_ms:.2f} ms an fsync, {verdict}", needed=False)


def _contributed() -> list[Finding]:
    """What the installed services look at themselves, such as the gate's sandbox."""
    found = []
    for point in sorted(entry_points(group=CHECKS), key=lambda p: p.name):
        ok, says = point.load()()
        found.append(Finding(point.name, ok, says, needed=False))
    return found


def _keys(env: Mapping[str, str]) -> list[Finding]:
    models = models_from(env)
    why_not = configured_in({k: v for k, v in env.items() if k != "FACTORY_MODELS"}, models)
    return [
        Finding(
            model.key_env,
            not why_not[name],
            f"{model.display_name} ({model.provider_model}): {'not set' if why_not[name] else 'set'}",
            needed=False,
        )
        for name, model in models.items()
    ]


def _local_llm() -> Finding:
    """Whether `--models local` would find its model."""
    from embedded.local_llm import LocalLLMFailed, weights_path

    try:
        return Finding("local model", True, f"{weights_path().name}: factory up --models local", needed=False)
    except LocalLLMFailed as error:
        return Finding("local model", False, str(error), needed=False)
