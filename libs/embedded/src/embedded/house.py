"""The whole factory in one process: nats-server as a child, SQLite, local repositories, every installed service.

The same service objects run here that run apart; each has its own user, and its own rights on the log.
"""

import asyncio
import contextlib
import json
import os
import secrets
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
from runtime.rpc import ROLES, token_entry
from runtime.run import installed

from embedded import nats
from embedded.providers import Providers, pretending

log = structlog.get_logger()

ORG = "main"
ACK_WAIT_S = 5
HEARTBEAT_S = 1
ADDRESS_FILE = "factory.json"
PER_MODEL = "executor"
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
        lanes = _lanes(env, providers)
        passwords = _passwords(data, [OPERATOR, PLATFORM, *lanes])
        rights = authorization(passwords, lanes, ORG)
        server = await asyncio.to_thread(stack.enter_context, nats.running(data / "nats", authorization=rights))
        await _prepare(server, passwords, lanes)
        token = _token(data)
        services = _services(data, server, passwords, {**env, **providers.env}, providers, roots)
        async with serve(services) as house:
            address = Address(
                url=house.grpc_address,
                token=token,
                http_url=house.http_address,
                nats_url=server.url,
                nats_user=PLATFORM,
                nats_password=passwords[PLATFORM],
                pid=os.getpid(),
                models=providers.configured,
                pretend=providers.pretend,
            )
            _write_private(data / ADDRESS_FILE, json.dumps(_as_dict(address), indent=2))
            try:
                yield house, address
            finally:
                (data / ADDRESS_FILE).unlink(missing_ok=True)


def _lanes(env: Mapping[str, str], providers: Providers) -> list[str]:
    """Every lane that may speak: one per service, one per model for the executor."""
    names = [name for name in installed() if name != PER_MODEL]
    known = models_from({**env, **providers.env})
    return [*names, *(f"executor-{model}" for model in known)]


async def _prepare(server: nats.Nats, passwords: Mapping[str, str], lanes: Sequence[str]) -> None:
    """Streams, consumers and the check that nothing acknowledged can be lost."""
    found = await asyncio.to_thread(check, server.monitor_url)
    log.info("preflight.passed", nats=found.server_version, sync_always=found.sync_always)
    working = [lane for lane in lanes if lane not in ("conductor", "audit", "console")]
    nc = await connect(server.url, name=OPERATOR, user=OPERATOR, password=passwords[OPERATOR])
    try:
        await bootstrap(nc, lanes=working, ack_wait_s=ACK_WAIT_S)
    finally:
        await nc.close()


def _services(
    data: Path,
    server: nats.Nats,
    passwords: Mapping[str, str],
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
            own = shared | {"FACTORY_DATA": str(data / name), "FACTORY_NATS_PASSWORD": passwords[name]}
            own |= {secret: env[secret] for secret, owner in ONLY_FOR.items() if owner == name and secret in env}
            found.append((make(own), own))
            continue
        for model in providers.configured:
            key = models_from(env)[model].key_env
            own = shared | {
                "FACTORY_DATA": str(data / name),
                "FACTORY_NATS_PASSWORD": passwords[f"executor-{model}"],
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


def _passwords(data: Path, users: Sequence[str]) -> dict[str, str]:
    """A password per user, made once and kept."""
    path = data / "nats-passwords.json"
    known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    missing = [user for user in users if user not in known]
    if missing:
        known |= {user: secrets.token_urlsafe(24) for user in missing}
        _write_private(path, json.dumps(known, indent=2))
    return known


def _token(data: Path) -> str:
    """The owner's token: every role. The services see only its hash."""
    path = data / "token"
    if not path.exists():
        _write_private(path, secrets.token_urlsafe(24))
    token = path.read_text().strip()
    _write_private(data / "tokens.json", json.dumps([token_entry(token, "owner", ROLES)], indent=2))
    return token


def _write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner can read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(path)


def _as_dict(address: Address) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(replace(address, models=list(address.models), pretend=list(address.pretend)))
