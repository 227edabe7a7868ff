"""What GitHub's REST API answers, and what it means for a delivery. Pure: given status, headers and text."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from factory.delivery.v1 import DeliveryFailure

from delivery.pull_request import NotOpened, PullRequest

MESSAGE_CHARACTERS_MAX = 300
WAIT_DEFAULT_S = 2.0
# Longer than this, waiting is the conductor's decision.
WAIT_MAX_S = 60.0

_NEXT = re.compile(r'<([^>]+)>\s*;[^,]*\brel="?next"?')


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the API. Header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    text: str

    def json(self) -> Any:
        try:
            return json.loads(self.text)
        except ValueError as error:
            raise NotOpened(
                DeliveryFailure.DELIVERY_FAILURE_UNREACHABLE,
                f"GitHub's API answered {self.status} with something that is not JSON; is the API's URL right?",
            ) from error


def wait_s(answer: Answer, now: float) -> float | None:
    """How long to wait before asking again; None for an answer that waiting cannot change. `now`: Unix time."""
    limited = answer.status == 429 or (answer.status == 403 and _is_rate_limit(answer))
    if not limited and answer.status < 500:
        return None
    if (after := answer.headers.get("retry-after", "")).isdigit():
        return float(after)
    reset = answer.headers.get("x-ratelimit-reset", "")
    if limited and answer.headers.get("x-ratelimit-remaining") == "0" and reset.isdigit():
        return max(0.0, float(reset) - now)
    # A secondary limit that names no time asks for a minute.
    return WAIT_MAX_S if limited else WAIT_DEFAULT_S


def _is_rate_limit(answer: Answer) -> bool:
    spent = answer.headers.get("x-ratelimit-remaining") == "0" or "retry-after" in answer.headers
    return spent or "rate limit" in answer.text.lower()


def refusal(answer: Answer) -> NotOpened:
    """The named failure for an answer that is not a success."""
    said = _message(answer)
    match answer.status:
        case 401:
            return _not(DeliveryFailure.DELIVERY_FAILURE_NEEDS_CREDENTIALS, f"GitHub does not accept the token: {said}")
        case 403 if not _is_rate_limit(answer):
            may = "the token may not open pull requests here"
            return _not(DeliveryFailure.DELIVERY_FAILURE_NEEDS_CREDENTIALS, f"{may}: {said}")
        case 404:
            unseen = "GitHub has no such repository, or the token may not see it"
            return _not(DeliveryFailure.DELIVERY_FAILURE_REPOSITORY_NOT_FOUND, f"{unseen}: {said}")
        case 403 | 429:
            return _not(DeliveryFailure.DELIVERY_FAILURE_UNREACHABLE, f"GitHub's rate limit is spent: {said}")
        case status if status >= 500:
            return _not(DeliveryFailure.DELIVERY_FAILURE_UNREACHABLE, f"GitHub answered {status}: {said}")
        case status:
            return _not(DeliveryFailure.DELIVERY_FAILURE_REJECTED, f"GitHub answered {status}: {said}")


def _not(reason: DeliveryFailure, detail: str) -> NotOpened:
    return NotOpened(reason, detail)


def _message(answer: Answer) -> str:
    """GitHub's own words, with the details of a 422."""
    try:
        found = json.loads(answer.text)
        errors = found.get("errors", [])
        details = [one.get("message") or one.get("code") if isinstance(one, dict) else one for one in errors]
        words = "; ".join(filter(None, [str(found.get("message", "")), *map(str, filter(None, details))]))
    except (ValueError, AttributeError, TypeError):
        words = "no explanation"
    return "".join(char if char.isprintable() else " " for char in words)[:MESSAGE_CHARACTERS_MAX]


def already_exists(answer: Answer) -> bool:
    """A 422 that says somebody, we before a crash perhaps, was faster."""
    return answer.status == 422 and "already exists" in _message(answer).lower()


def found_in(listed: Any, wanted: PullRequest) -> str | None:
    """The URL of our pull request among those listed: the open one of our branch, or one of our very commit.

    One that people have merged or closed meanwhile is still ours; opening another would be a second one.
    """
    if not isinstance(listed, Sequence):
        raise _not(DeliveryFailure.DELIVERY_FAILURE_UNREACHABLE, "GitHub's list of pull requests is no list")
    ours = [one for one in listed if one["head"]["ref"] == wanted.branch]
    for one in sorted(ours, key=lambda one: one["state"] != "open"):
        if one["state"] == "open" or one["head"]["sha"] == wanted.commit:
            return str(one["html_url"])
    return None


def next_page(answer: Answer, base_url: str) -> str | None:
    """The next page of a list; only on the API's own host, because our token goes with it."""
    match = _NEXT.search(answer.headers.get("link", ""))
    if match is None:
        return None
    there, here = urlsplit(match[1]), urlsplit(base_url)
    return match[1] if (there.scheme, there.netloc) == (here.scheme, here.netloc) else None
