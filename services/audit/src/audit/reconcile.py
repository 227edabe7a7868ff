"""Compares the ledger with a provider's bill, call by call, and gives every difference a class.

Pure. It reads a bill that names our call ids (as the simulator's does); it changes neither side.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from factory.audit.v1 import LedgerLine
from factory.call.v1 import (
    CALL_OUTCOME_ABANDONED,
    CALL_OUTCOME_ERROR,
    CALL_OUTCOME_LOST,
    CALL_OUTCOME_NOT_SENT,
    CALL_OUTCOME_OK,
)

# The bill's name of each bucket of a usage.
BUCKETS = {
    "input": "input_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write_5m": "cache_write_5m_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
    "output": "output_tokens",
    "reasoning": "reasoning_tokens",
}


class Kind(StrEnum):
    """How a call stands in ledger and bill."""

    EQUAL = "equal"
    # Other tokens than the bill's, more than its upper bound, or tokens that are on no bill.
    DIFFERS = "differs"
    # Billed once for each time it was sent, and it should have been sent once.
    REPEATED = "repeated"
    # Billed; its answer was lost, broke off, or is still to come. The ledger shows an upper bound.
    LOST = "lost"
    ABANDONED = "abandoned"
    IN_FLIGHT = "in_flight"
    # Billed; the answer named no usage.
    UNKNOWN = "unknown"
    # In the ledger, not on the bill, and no tokens claimed.
    NEVER_SENT = "never_sent"
    # On the bill, not in the ledger.
    MISSING = "missing"


# What must not happen. Everything else is explained by the ledger itself.
WRONG = frozenset((Kind.DIFFERS, Kind.REPEATED, Kind.MISSING))


# What a billed call is when the ledger knows no usage for good.
KIND_OF_OUTCOME = {
    CALL_OUTCOME_LOST: Kind.LOST,
    CALL_OUTCOME_ABANDONED: Kind.ABANDONED,
    CALL_OUTCOME_OK: Kind.UNKNOWN,
    CALL_OUTCOME_ERROR: Kind.UNKNOWN,
}


class BillUnreadable(ValueError):
    """A line of the bill is not what was expected; the message says which and what."""


@dataclass(frozen=True, slots=True)
class Billed:
    """One request on the bill."""

    call_id: str
    tokens: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.tokens.values())


@dataclass(frozen=True, slots=True)
class Compared:
    """One call, on both sides. Tokens of the ledger are absent where its usage is not final."""

    call_id: str
    kind: Kind
    ledger_tokens: int | None = None
    up_to_tokens: int | None = None
    billed_tokens: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Every call on either side, in the order of the ledger, then of the bill."""

    calls: tuple[Compared, ...] = ()

    @property
    def counts(self) -> Counter[Kind]:
        return Counter(call.kind for call in self.calls)

    @property
    def ledger_tokens(self) -> int:
        """Tokens that the ledger knows for good."""
        return sum(call.ledger_tokens or 0 for call in self.calls)

    @property
    def up_to_tokens(self) -> int:
        """The most that calls without a known end may add."""
        return sum(call.up_to_tokens or 0 for call in self.calls)

    @property
    def billed_tokens(self) -> int:
        return sum(call.billed_tokens or 0 for call in self.calls)

    @property
    def wrong(self) -> list[Compared]:
        """The calls that no honest accident explains."""
        return [call for call in self.calls if call.kind in WRONG]


def compare(lines: Iterable[LedgerLine], bill: Iterable[Billed]) -> Comparison:
    """Joins ledger and bill by call id."""
    billed: dict[str, list[Billed]] = defaultdict(list)
    for request in bill:
        billed[request.call_id].append(request)
    calls = [_compared(line, billed.pop(line.call_id, [])) for line in lines]
    for call_id, requests in billed.items():
        total = sum(request.total for request in requests)
        calls.append(Compared(call_id, Kind.MISSING, billed_tokens=total, detail="the ledger has no such call"))
    return Comparison(tuple(calls))


def bill_from(text: str, task_id: str = "") -> list[Billed]:
    """Reads a bill of JSON lines, or one task's part of it; a last line without an end was cut off and is left out."""
    whole = text[: text.rfind("\n") + 1]
    found = [_billed(row, number) for number, row in enumerate(whole.split("\n"), 1) if row.strip()]
    return [request for request in found if not task_id or request.call_id.startswith(f"{task_id}.")]


def _compared(line: LedgerLine, requests: Sequence[Billed]) -> Compared:
    kind, detail = _judged(line, requests)
    return Compared(
        line.call_id,
        kind,
        ledger_tokens=sum(_ledger_buckets(line).values()) if line.HasField("usage") else None,
        up_to_tokens=line.up_to_tokens if line.HasField("up_to_tokens") else None,
        billed_tokens=sum(request.total for request in requests) if requests else None,
        detail=detail,
    )


def _judged(line: LedgerLine, requests: Sequence[Billed]) -> tuple[Kind, str]:
    if not requests:
        return _unbilled(line)
    if len(requests) > 1:
        return Kind.REPEATED, f"{len(requests)} requests are billed under this call id"
    (request,) = requests
    if line.HasField("usage"):
        differences = _differences(_ledger_buckets(line), request.tokens)
        return (Kind.DIFFERS, differences) if differences else (Kind.EQUAL, "")
    if line.HasField("up_to_tokens") and request.total > line.up_to_tokens:
        return Kind.DIFFERS, f"billed {request.total}, which is more than the bound of {line.up_to_tokens}"
    return KIND_OF_OUTCOME.get(line.outcome, Kind.IN_FLIGHT), ""


def _unbilled(line: LedgerLine) -> tuple[Kind, str]:
    claimed = sum(_ledger_buckets(line).values())
    if claimed:
        return Kind.DIFFERS, f"the ledger has {claimed} tokens, the bill nothing"
    answered = line.outcome in (CALL_OUTCOME_OK, CALL_OUTCOME_ERROR)
    if answered and line.HasField("usage"):
        return Kind.EQUAL, "nothing was billed, and nothing is in the ledger"
    said = line.outcome == CALL_OUTCOME_NOT_SENT
    return Kind.NEVER_SENT, "" if said else "it was never sent, or has not been billed yet"


def _ledger_buckets(line: LedgerLine) -> dict[str, int]:
    return {name: getattr(line.usage, bucket) for name, bucket in BUCKETS.items()}


def _differences(ledger: dict[str, int], billed: dict[str, int]) -> str:
    return ", ".join(
        f"{name}: ledger {ledger[name]}, bill {billed[name]}" for name in BUCKETS if ledger[name] != billed[name]
    )


def _billed(row: str, number: int) -> Billed:
    try:
        told = json.loads(row)
    except ValueError as error:
        raise BillUnreadable(f"line {number}: expected a JSON object, found {row[:40]!r}") from error
    if not isinstance(told, dict) or not isinstance(told.get("client_request_id"), str):
        raise BillUnreadable(f"line {number}: expected a JSON object with `client_request_id`, found {row[:40]!r}")
    tokens = {name: told.get(name, 0) for name in BUCKETS}
    for name, count in tokens.items():
        if type(count) is not int or count < 0:
            raise BillUnreadable(f"line {number}: expected a count of tokens in {name!r}, found {count!r}")
    return Billed(told["client_request_id"], tokens)
