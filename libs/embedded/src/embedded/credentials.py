"""Who may say what on the log, and by which password: made once, kept in files that only their owner can read.

Never sends anything anywhere, and never replaces a password that is there.
"""

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from eventlog.permissions import OPERATOR, PLATFORM, authorization
from policy.models import models_from
from runtime.rpc import ROLES, token_entry
from runtime.run import installed

ORG = "main"
# The one service that runs once per model.
PER_MODEL = "executor"
# They speak or listen, but no work is offered to them.
TAKES_NO_WORK = ("conductor", "audit", "console")

PASSWORDS_FILE = "nats-passwords.json"
AUTHORIZATION_FILE = "authorization.conf"
TOKEN_FILE = "token"  # noqa: S105 - a name, no token
TOKENS_FILE = "tokens.json"

PRIVATE = 0o600
READABLE = 0o644


def lanes(env: Mapping[str, str]) -> list[str]:
    """Every lane that may speak: one per installed service, one per model for the executor."""
    names = [name for name in installed() if name != PER_MODEL]
    return [*names, *(f"{PER_MODEL}-{model}" for model in models_from(env))]


def working_lanes(env: Mapping[str, str]) -> list[str]:
    """Every lane that work is offered to."""
    return [lane for lane in lanes(env) if lane not in TAKES_NO_WORK]


def passwords(directory: Path, users: Sequence[str]) -> dict[str, str]:
    """A password per user, made once and kept."""
    path = directory / PASSWORDS_FILE
    known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    missing = [user for user in users if user not in known]
    if missing:
        known |= {user: secrets.token_urlsafe(24) for user in missing}
        write(path, json.dumps(known, indent=2))
    return known


def owner_token(directory: Path, *, mode: int = PRIVATE) -> str:
    """The owner's token: every role. Services see only its hash, in a file of `mode`."""
    path = directory / TOKEN_FILE
    if not path.exists():
        write(path, secrets.token_urlsafe(24))
    token = path.read_text().strip()
    write(directory / TOKENS_FILE, json.dumps([token_entry(token, "owner", ROLES)], indent=2), mode)
    return token


def write_credentials(directory: Path, env: Mapping[str, str], org: str = ORG) -> list[str]:
    """Writes what services that run apart need; returns the users. Repeat it when there is another model or service.

    The block for nats-server, the settings of each user in a file of its own, and the tokens of gRPC.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    speaking = lanes(env)
    users = [OPERATOR, PLATFORM, *speaking]
    known = passwords(directory, users)
    write(directory / AUTHORIZATION_FILE, authorization(known, speaking, org) + "\n")
    for user in users:
        settings = {"FACTORY_ORG": org, "FACTORY_NATS_PASSWORD": known[user]}
        if user.startswith(f"{PER_MODEL}-"):
            settings["EXECUTOR_MODEL"] = user.removeprefix(f"{PER_MODEL}-")
        write(directory / f"{user}.env", "".join(f"{name}={value}\n" for name, value in settings.items()))
    # hashes only, and services that have given up root must be able to read them
    owner_token(directory, mode=READABLE)
    return users


def write(path: Path, text: str, mode: int = PRIVATE) -> None:
    """Writes a file whole or not at all; by default only its owner can read it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as out:
        os.fchmod(descriptor, mode)
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(path)
