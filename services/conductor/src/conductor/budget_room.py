"""How budgets stand and what they have room for, and how lanes, budgets and months are named.

Pure: what the decision about a task needs of budgets, apart from how a month's lane comes to be.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from factory.project.v1 import SetBudgetRequest

# A request may make so many calls: the answer, and two complaints about it.
CALLS_MAX = 3
# Instead of a model: the project as a whole.
WHOLE = ""
LANE_PREFIX = "budget-"
_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
_LANE = re.compile(r"budget-(.+)-([0-9]{6})")
REASON_CHARACTERS_MAX = 500
PICO_USD_MAX = 10**18  # a million dollars, far below what an int64 holds


@dataclass(frozen=True, slots=True)
class Standing:
    """One budget in one month. Money in pico-dollars."""

    # "shop-202611", or "shop-202611/gpt" for one model's
    budget: str
    # "" for the project as a whole
    model: str
    hard: int | None
    soft: int | None
    spent: int = 0
    # the part of `spent` that is an upper bound
    uncertain: int = 0
    reserved: int = 0
    # reservations that are open
    open: int = 0
    # requests that cost more than was reserved for them; there should be none
    dearer: int = 0

    @property
    def left(self) -> int | None:
        """What may still be reserved; None without a hard limit."""
        return None if self.hard is None else max(self.hard - self.spent - self.reserved, 0)

    @property
    def is_soft_limit_reached(self) -> bool:
        return self.soft is not None and self.spent + self.reserved >= self.soft


@dataclass(frozen=True, slots=True)
class Room:
    """What the budgets have room for."""

    # calls that fit, 0 to CALLS_MAX
    calls: int
    # the budget that has no room for a single call, or None
    refused_by: Standing | None = None
    # the budget whose soft limit is reached, or None: then cheaper models come first
    over_soft: Standing | None = None


@dataclass(frozen=True, slots=True)
class Awaiting:
    """The request was made, and has not ended."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The request has ended, with this cost; known up to stream sequence `read_to`."""

    cost: int
    # the part of `cost` that is an upper bound
    uncertain: int = 0
    read_to: int = 0


@dataclass(frozen=True, slots=True)
class NeverMade:
    """The request is not in the log."""


Outcome = Awaiting | Ended | NeverMade


def room(standings: Sequence[Standing], model: str, worst_case: int | None, calls_max: int = CALLS_MAX) -> Room:
    """How many calls of a model fit, each at its worst case; None for a model that has no price.

    What may cost anything fits into no hard limit.
    """
    own = [standing for standing in standings if standing.model in (WHOLE, model)]
    over_soft = next((standing for standing in own if standing.is_soft_limit_reached), None)
    fitting = calls_max
    for standing in own:
        calls = calls_within(standing.left, worst_case, calls_max)
        if calls == 0:
            return Room(0, standing, over_soft)
        fitting = min(fitting, calls)
    return Room(fitting, None, over_soft)


def calls_within(left: int | None, worst_case: int | None, calls_max: int) -> int:
    """How many calls of this worst case fit into what is left; `left` None is no limit."""
    if left is None or worst_case == 0:
        return calls_max
    if worst_case is None:
        return 0
    return min(calls_max, max(left, 0) // worst_case)


def violations_of(request: SetBudgetRequest) -> list[tuple[str, str]]:
    """Everything that is wrong with limits that somebody wants to set: (field, what was expected and found)."""
    found = []
    for name in ("hard_pico_usd", "soft_pico_usd"):
        amount = getattr(request, name)
        if not 0 <= amount <= PICO_USD_MAX:
            found.append((name, f"0 to {PICO_USD_MAX} pico-dollars, found {amount}"))
    both = request.HasField("hard_pico_usd") and request.HasField("soft_pico_usd")
    if both and request.soft_pico_usd > request.hard_pico_usd:
        found.append(
            ("soft_pico_usd", f"at most the hard limit, {request.hard_pico_usd}, found {request.soft_pico_usd}")
        )
    if len(request.reason) > REASON_CHARACTERS_MAX:
        found.append(("reason", f"at most {REASON_CHARACTERS_MAX} characters, found {len(request.reason)}"))
    return found


def month_of(moment: datetime) -> str:
    """The UTC month of a moment, as lanes name it: "202611"."""
    utc = moment.astimezone(UTC)
    return f"{utc.year:04}{utc.month:02}"


def dashed(month: str) -> str:
    """A month as messages and people write it: "2026-11"."""
    return f"{month[:4]}-{month[4:]}"


def undashed(month: str) -> str:
    """A month as lanes name it; ValueError for what is none."""
    if not _MONTH.fullmatch(month):
        raise ValueError(f"{month[:20]!r} is no month; expected one like '2026-11'")
    return month.replace("-", "")


def lane_id(project: str, month: str) -> str:
    """The lane of a project's month: "budget-shop-202611"."""
    return f"{LANE_PREFIX}{project}-{month}"


def project_and_month(lane: str) -> tuple[str, str]:
    """What a lane's id names; ValueError for the id of something else."""
    if not (found := _LANE.fullmatch(lane)):
        raise ValueError(f"{lane[:100]!r} is no lane of a budget; expected one like 'budget-shop-202611'")
    return found[1], found[2]


def reservation_id(task_id: str, request_id: str, model: str) -> str:
    """How a request's reservation is named: "<task>.<request>/<model>". Two conductors may choose different models for
    one request, and only one of them will have made it."""
    return f"{task_id}.{request_id}/{model}"


def budget_id(project: str, month: str, model: str = WHOLE) -> str:
    """A budget as facts and people name it: "shop-202611", "shop-202611/gpt"."""
    return f"{project}-{month}/{model}" if model else f"{project}-{month}"
