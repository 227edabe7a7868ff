"""The whole factory in one process: nats-server as a child, SQLite, local repositories, every installed service.

The same service objects run here that run apart; each has its own user, and its own rights on the log.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from eventlog import connect
from eventlog.bootstrap import bootstrap
from eventlog.permissions import OPERATOR, PLATFORM, authorization
from eventlog.preflight import check
from filelock import FileLock, Timeout
from policy.models import configured_in, models_from
from runtime import House, Service, serve
from runtime.run import installed

from embedded import nats
from embedded.credentials import ORG, PER_MODEL, lanes, owner_token, passwords, working_lanes, write
from embedded.providers import Providers, pretending

log = structlog.get_logger()

ACK_WAIT_S = 5
HEARTBEAT_S = 1
ADDRESS_FILE = "factory.json"
# Credentials that one service alone may see.
ONLY_FOR = {"FACTORY_GITHUB_TOKEN": "delivery", "FACTORY_CONTEXT_READ_TOKEN": "context"}


class InUse(Exception):
    """Another factory runs over this data directory."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a running factory is reached; written for the command line, readable by its owner only."""

    url: str
    token: str
    http_url: str
    nats_url: str
    nats_user: str
    nats_password: str
    pid: int
    models: Sequence[str]
    pretend: Sequence[str]


@contextlib.asynccontextmanager
async def factory(
    data: Path, *, models: str, env: Mapping[str, str], roots: Sequence[Path]
) -> AsyncIterator[tuple[House, Address]]:
    """Runs the factory over `data` until the block ends. `models`: "real", "simulated" or "local"."""
    await asyncio.to_thread(data.mkdir, parents=True, exist_ok=True, mode=0o700)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(FileLock(data / "lock", timeout=0))
        except Timeout as error:
            raise InUse(f"a factory is running over {data} already (its lock is held)") from error
        (data / ADDRESS_FILE).unlink(missing_ok=True)
        providers = stack.enter_context(pretending(models, data, env))
        known = {**env, **providers.env}
        speaking = lanes(known)
        secrets = passwords(data, [OPERATOR, PLATFORM, *speaking])
        rights = authorization(secrets, speaking, ORG)
        server = await asyncio.to_thread(stack.enter_context, nats.running(data / "nats", authorization=rights))
        await _prepare(server, secrets[OPERATOR], working_lanes(known))
        token = owner_token(data)
        services = _services(data, server, secrets, known, providers, roots)
        async with serve(services) as house:
            address = Address(
                url=house.grpc_address,
                token=token,
                http_url=house.http_address,
                nats_url=server.url,
                nats_user=PLATFORM,
                nats_password=secrets[PLATFORM],
                pid=os.getpid(),
                models=providers.configured,
                pretend=providers.pretend,
            )
            write(data / ADDRESS_FILE, json.dumps(_as_dict(address), indent=2))
            try:
                yield house, address
            finally:
                (data / ADDRESS_FILE).unlink(missing_ok=True)


async def _prepare(server: nats.Nats, password: str, working: Sequence[str]) -> None:
    """Streams, consumers and the check that nothing acknowledged can be lost."""
    found = await asyncio.to_thread(check, server.monitor_url)
    log.info("preflight.passed", nats=found.server_version, sync_always=found.sync_always)
    nc = await connect(server.url, name=OPERATOR, user=OPERATOR, password=password)
    try:
        await bootstrap(nc, lanes=working, ack_wait_s=ACK_WAIT_S)
    finally:
        await nc.close()


def _services(
    data: Path,
    server: nats.Nats,
    secrets: Mapping[str, str],
    env: Mapping[str, str],
    providers: Providers,
    roots: Sequence[Path],
) -> list[tuple[Service, Mapping[str, str]]]:
    """Each service with an environment of its own: a provider's key is seen by its executor and nobody else."""
    keys = {model.key_env for model in models_from(env).values()}
    withheld = keys | set(ONLY_FOR)
    shared = {name: value for name, value in env.items() if name.startswith("FACTORY_") and name not in withheld}
    shared |= {
        "FACTORY_NATS_URL": server.url,
        "FACTORY_ORG": ORG,
        "FACTORY_ARTIFACTS": str(data / "artifacts"),
        "FACTORY_TOKENS_FILE": str(data / "tokens.json"),
        "FACTORY_ACK_WAIT_S": str(ACK_WAIT_S),
        "FACTORY_HEARTBEAT_S": str(HEARTBEAT_S),
        "FACTORY_DRAIN_S": env.get("FACTORY_DRAIN_S", "5"),
        "FACTORY_ALLOWED_ROOTS": ":".join(str(root) for root in roots),
        "FACTORY_MODELS": ",".join(providers.configured),
        "FACTORY_PRETEND_MODELS": ",".join(providers.pretend),
        "FACTORY_HTTP_LISTEN": env.get("FACTORY_HTTP_LISTEN", "127.0.0.1:0"),
        "PATH": env.get("PATH", os.defpath),
    }
    found: list[tuple[Service, Mapping[str, str]]] = []
    for name, make in installed().items():
        if name != PER_MODEL:
            own = shared | {"FACTORY_DATA": str(data / name), "FACTORY_NATS_PASSWORD": secrets[name]}
            own |= {secret: env[secret] for secret, owner in ONLY_FOR.items() if owner == name and secret in env}
            found.append((make(own), own))
            continue
        for model in providers.configured:
            key = models_from(env)[model].key_env
            own = shared | {
                "FACTORY_DATA": str(data / name),
                "FACTORY_NATS_PASSWORD": secrets[f"executor-{model}"],
                "EXECUTOR_MODEL": model,
                key: env.get(key, ""),
            }
            found.append((make(own), own))
    for _, own in found:
        Path(own["FACTORY_DATA"]).mkdir(parents=True, exist_ok=True)
    return found


def configured_models(env: Mapping[str, str]) -> list[str]:
    """The models whose key stands in the environment."""
    models = models_from(env)
    without_list = {name: value for name, value in env.items() if name != "FACTORY_MODELS"}
    return [name for name, why_not in configured_in(without_list, models).items() if not why_not]


def _as_dict(address: Address) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(replace(address, models=list(address.models), pretend=list(address.pretend)))
