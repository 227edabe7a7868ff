"""Where a factory listens and what token opens it. Reads the environment and one file; never starts anything."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_state_dir

APP_NAME = "ai-factory"
ADDRESS_FILE = "factory.json"


@dataclass(frozen=True, slots=True)
class Address:
    """How to reach a factory."""

    url: str
    token: str
    # Where it was found, for error messages: a path, or the name of a variable.
    source: str
    http_url: str = ""
    pid: int = 0
    # Where the audit answers, if it runs apart; empty: at `url`.
    audit_url: str = ""


class NoAddress(Exception):
    """No factory is known here; the message says what to do."""


def data_directory(data: Path | None = None, env: Mapping[str, str] = os.environ) -> Path:
    """`--data`, else FACTORY_DATA, else the platform's state directory."""
    if data is not None:
        return data
    return Path(env["FACTORY_DATA"]) if env.get("FACTORY_DATA") else Path(user_state_dir(APP_NAME))


def find_address(data: Path | None = None, env: Mapping[str, str] = os.environ) -> Address:
    """FACTORY_URL, FACTORY_AUDIT_URL and FACTORY_TOKEN where set, else what `factory up` wrote into its data directory.

    A `--data` that was given outweighs the environment.
    """
    if data is None and env.get("FACTORY_URL"):
        audit_url = env.get("FACTORY_AUDIT_URL", "")
        return Address(env["FACTORY_URL"], env.get("FACTORY_TOKEN", ""), "FACTORY_URL", audit_url=audit_url)
    path = data_directory(data, env) / ADDRESS_FILE
    try:
        known = json.loads(path.read_text())
        pid = known.get("pid") or 0
        address = Address(known["url"], known.get("token", ""), str(path), known.get("http_url", ""), pid)
    except FileNotFoundError:
        raise NoAddress(f"no factory runs here (no {path}); start one with `factory up`, or set FACTORY_URL") from None
    except PermissionError:
        raise NoAddress(f"{path} belongs to somebody else; set FACTORY_URL and FACTORY_TOKEN") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NoAddress(f"{path} cannot be read ({error!r}); start the factory again with `factory up`") from None
    if pid and not _runs(pid):
        raise NoAddress(f"the factory of {path.parent} is not running; start it with `factory up`")
    return address


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # no such process, or no such number
        return False
    except PermissionError:
        return True
    return True
