"""The analysers: how each is called, and what its report means. Pure.

Reports are the output of a program that has read untrusted code, so whatever does not have the expected form is
`Unreadable`, never a pass.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from quality_gate.introduced import Reported, Side

# What we ask of a stranger's code is correctness, not taste: errors, undefined names, likely bugs.
RUFF_RULES = "E4,E7,E9,F,B,PLE"
SIDES = tuple(side.value for side in Side)
MESSAGE_CHARACTERS_MAX = 500


class Unreadable(Exception):
    """A tool's report does not have the form that this release knows."""


@dataclass(frozen=True, slots=True)
class Analyser:
    """One static analyser."""

    name: str
    # As `python -m <module>`, or a binary of that name.
    arguments: tuple[str, ...]
    read: Callable[[str], list[Reported]]


def _side_and_path(filename: str) -> tuple[Side, str]:
    """`…/after/src/app.py` → (AFTER, "src/app.py")."""
    parts = filename.removeprefix("/").split("/")
    for at, part in enumerate(parts):
        if part in SIDES:
            return Side(part), "/".join(parts[at + 1 :])
    raise Unreadable(f"expected a path below {' or '.join(SIDES)}, found {filename!r}")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"expected JSON, found {text[:80]!r}") from error


def read_ruff(text: str) -> list[Reported]:
    """`ruff check --output-format json`."""
    try:
        found = _json(text)
        if not isinstance(found, list):
            raise Unreadable(f"ruff: expected a list, found {text[:80]!r}")
        return [_ruff(one) for one in found]
    except (KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"ruff: {error!r}") from error


def _ruff(one: dict[str, Any]) -> Reported:
    side, path = _side_and_path(one["filename"])
    rule = one["code"] or "invalid-syntax"
    return Reported(side, "ruff", rule, path, int(one["location"]["row"]), one["message"][:MESSAGE_CHARACTERS_MAX])


def read_bandit(text: str) -> list[Reported]:
    """`bandit -f json`. Files that do not parse are ruff's to report."""
    try:
        return [_bandit(one) for one in _json(text)["results"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"bandit: {error!r}") from error


def _bandit(one: dict[str, Any]) -> Reported:
    side, path = _side_and_path(one["filename"])
    message = one["issue_text"][:MESSAGE_CHARACTERS_MAX]
    return Reported(side, "bandit", one["test_id"], path, int(one["line_number"]), message, one["issue_severity"])


def read_secrets(text: str) -> list[Reported]:
    """`detect-secrets scan`. The secret itself is never in the report, only its hash."""
    try:
        found = _json(text)["results"]
        return [_secret(filename, one) for filename, many in found.items() for one in many]
    except (KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"detect-secrets: {error!r}") from error


def _secret(filename: str, one: dict[str, Any]) -> Reported:
    side, path = _side_and_path(filename)
    return Reported(
        side, "detect-secrets", one["type"], path, int(one["line_number"]), f"looks like a secret: {one['type']}"
    )


ANALYSERS = (
    Analyser(
        "ruff",
        (
            *("ruff", "check", "--isolated", "--no-cache", "--ignore-noqa", "--exit-zero"),
            *("--output-format", "json", "--select", RUFF_RULES),
            # A directory called build is excluded by default, and a .gitignore would be obeyed.
            *("--config", "exclude = []", "--no-respect-gitignore", *SIDES),
        ),
        read_ruff,
    ),
    Analyser(
        "bandit",
        (
            *("python", "-m", "bandit", "-r", "-q", "-f", "json", "--exit-zero", "--ignore-nosec"),
            # Otherwise a `.bandit` file in the change says which tests to leave out.
            *("--ini", "/dev/null", "-x", "/nothing-is-excluded", *SIDES),
        ),
        read_bandit,
    ),
    Analyser(
        "detect-secrets",
        (
            *("python", "-m", "detect_secrets", "-c", "1", "scan", "--all-files", "--no-verify"),
            *("--disable-filter", "detect_secrets.filters.allowlist.is_line_allowlisted", *SIDES),
        ),
        read_secrets,
    ),
)
