"""What is known about one call to a provider, and what it amounts to.

Pure. Facts about a call may come twice and in any order; what is known in the end is the same. The ledger, its sums and
every report count with the same `reckon`, so that they cannot differ.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from factory.audit.v1 import Amount
from factory.call.v1 import (
    CALL_OUTCOME_ABANDONED,
    CALL_OUTCOME_ERROR,
    CALL_OUTCOME_LOST,
    CALL_OUTCOME_NOT_SENT,
    CALL_OUTCOME_OK,
    ModelCalled,
    ModelCallStarted,
    Usage,
)
from factory.event.v1 import Event
from factory.price.v1 import PriceTier

from policy.prices import (
    INPUT_BUCKETS,
    PRICE_OF_BUCKET,
    PriceBook,
    cost_pico_usd,
    input_side,
    output_side,
    total_tokens,
    upper_bound,
)

HTTP_ERROR_MIN = 400
# A usage beyond this is a provider's mistake, not a bill: it counts as unknown, so that one absurd answer spoils no
# sum.
CREDIBLE_TOKENS_MAX = 10**12


class Place(NamedTuple):
    """Where a fact stands: orders the facts of a lane, whatever the order in which they are read."""

    version: int
    position: int
    producer: str


@dataclass(frozen=True, slots=True)
class Call:
    """All that its facts say about one call. The first start and the best end count."""

    call_id: str
    task_id: str
    started: ModelCallStarted | None = None
    started_at: datetime | None = None
    started_place: Place | None = None
    ended: ModelCalled | None = None
    ended_at: datetime | None = None
    ended_place: Place | None = None

    @property
    def fact(self) -> ModelCallStarted | ModelCalled:
        """The fact that says whose call this is; the start where there is one."""
        fact = self.started or self.ended
        assert fact is not None, f"call {self.call_id!r} was made from a fact"
        return fact

    @property
    def began_at(self) -> datetime:
        """When it began in the log's time; its end, for a call whose start was never seen."""
        at = self.started_at or self.ended_at
        assert at is not None, f"call {self.call_id!r} was made from a fact"
        return at

    @property
    def request(self) -> tuple[int, int]:
        """Round and attempt of its request."""
        return round_and_attempt(self.fact.request_id)


@dataclass(frozen=True, slots=True)
class Tally:
    """A sum over calls. What is exact, uncertain, unpriced and unknown never mixes; integers of any size."""

    tokens: int = 0
    cost_pico_usd: int = 0
    uncertain_tokens: int = 0
    uncertain_cost_pico_usd: int = 0
    unpriced_tokens: int = 0
    unknown_calls: int = 0
    calls: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.tokens + other.tokens,
            self.cost_pico_usd + other.cost_pico_usd,
            self.uncertain_tokens + other.uncertain_tokens,
            self.uncertain_cost_pico_usd + other.uncertain_cost_pico_usd,
            self.unpriced_tokens + other.unpriced_tokens,
            self.unknown_calls + other.unknown_calls,
            self.calls + other.calls,
        )

    def __neg__(self) -> "Tally":
        return Tally(
            -self.tokens,
            -self.cost_pico_usd,
            -self.uncertain_tokens,
            -self.uncertain_cost_pico_usd,
            -self.unpriced_tokens,
            -self.unknown_calls,
            -self.calls,
        )

    def amount(self) -> Amount:
        """As it is told to others: money as decimal strings."""
        return Amount(
            tokens=self.tokens,
            cost_pico_usd=str(self.cost_pico_usd),
            uncertain_tokens=self.uncertain_tokens,
            uncertain_cost_pico_usd=str(self.uncertain_cost_pico_usd),
            unpriced_tokens=self.unpriced_tokens,
            unknown_calls=self.unknown_calls,
            calls=self.calls,
        )


@dataclass(frozen=True, slots=True)
class Reckoning:
    """What one call amounts to. None is unknown (tokens) or unpriced (cost)."""

    tokens: int | None = None
    cost_pico_usd: int | None = None
    up_to_tokens: int | None = None
    up_to_cost_pico_usd: int | None = None
    price_version: str = ""

    @property
    def tally(self) -> Tally:
        unpriced = self.tokens is not None and self.cost_pico_usd is None
        return Tally(
            tokens=self.tokens or 0,
            cost_pico_usd=self.cost_pico_usd or 0,
            uncertain_tokens=self.up_to_tokens or 0,
            uncertain_cost_pico_usd=self.up_to_cost_pico_usd or 0,
            unpriced_tokens=(self.tokens or 0) if unpriced else 0,
            unknown_calls=int(self.tokens is None and self.up_to_tokens is None),
            calls=1,
        )


def calls_in(events: Iterable[Event]) -> dict[str, Call]:
    """Every call in these events, by call id."""
    calls: dict[str, Call] = {}
    for event in events:
        for position, fact in enumerate(event.facts):
            match fact.WhichOneof("fact"):
                case "model_call_started":
                    told = fact.model_call_started
                case "model_called":
                    told = fact.model_called
                case _:
                    continue
            call = calls.get(told.call_id) or Call(told.call_id, event.id)
            place = Place(event.version, position, event.producer)
            calls[told.call_id] = learn(call, told, event.occurred_at.ToDatetime(tzinfo=UTC), place)
    return calls


def learn(call: Call, fact: ModelCallStarted | ModelCalled, at: datetime, place: Place) -> Call:
    """The call with one fact more. Learning it again, or in another order, gives the same."""
    match fact:
        case ModelCallStarted():
            if call.started_place is None or place < call.started_place:
                return Call(call.call_id, call.task_id, fact, at, place, call.ended, call.ended_at, call.ended_place)
        case ModelCalled():
            if call.ended is None or (_weight(fact), place) > (_weight(call.ended), call.ended_place):
                return Call(
                    call.call_id, call.task_id, call.started, call.started_at, call.started_place, fact, at, place
                )
    return call


def reckon(call: Call, prices: PriceBook) -> Reckoning:
    """What the call amounts to, at the price that was valid when it started."""
    price = prices.at(call.fact.provider, call.fact.provider_model, call.began_at)
    tiers = price.tiers if price else ()
    usage = final_usage(call.ended)
    if usage is not None:
        cost = cost_pico_usd(usage, tiers)
        version = price.version if price and cost is not None else ""
        return Reckoning(tokens=total_tokens(usage), cost_pico_usd=cost, price_version=version)
    if not _is_bounded(call):
        return Reckoning()
    tokens, cost = _bound(call, tiers)
    version = price.version if price and cost is not None else ""
    return Reckoning(up_to_tokens=tokens, up_to_cost_pico_usd=cost, price_version=version)


def final_usage(end: ModelCalled | None) -> Usage | None:
    """The usage that the provider bills, where it is known for good; else None.

    Nothing is billed for a call that was never sent, nor for one refused by an HTTP error status: that status is sent
    before any content. An error within a stream comes after a 200, and is not known to be free.
    """
    if end is None:
        return None
    answered = end.outcome in (CALL_OUTCOME_OK, CALL_OUTCOME_ERROR)
    if answered and _knows_usage(end):
        return end.usage
    refused = end.outcome == CALL_OUTCOME_ERROR and end.http_status >= HTTP_ERROR_MIN
    return Usage() if refused or end.outcome == CALL_OUTCOME_NOT_SENT else None


def round_and_attempt(request_id: str) -> tuple[int, int]:
    """Round and attempt of a request id `<phase>-<round>-<attempt>`; zeros for one that is not of this form."""
    parts = request_id.rsplit("-", 2)
    if len(parts) == 3 and parts[1].isdecimal() and parts[2].isdecimal():
        return int(parts[1]), int(parts[2])
    return 0, 0


def _is_bounded(call: Call) -> bool:
    """Whether the call has an upper bound: it may still be billed, and its start says how much at most."""
    if call.started is None:
        return False
    return call.ended is None or call.ended.outcome not in (CALL_OUTCOME_OK, CALL_OUTCOME_ERROR)


def _bound(call: Call, tiers: Sequence[PriceTier]) -> tuple[int, int | None]:
    """Most tokens, and the most money, that a call whose end is not known can be billed.

    Input that the provider has named is exact. Output seen so far is not: the provider may have written on until its
    limit after we stopped reading.
    """
    started, end = call.started, call.ended
    assert started is not None, f"call {call.call_id!r} has a start"
    seen = end.usage if end is not None and _knows_usage(end) else Usage()
    output = max(started.max_output_tokens, output_side(seen))
    if not seen.HasField("input_tokens"):
        size = max(started.input_tokens_estimate, input_side(seen))
        return size + output, upper_bound(tiers, size, output)
    usage = Usage(output_tokens=output, **{bucket: getattr(seen, bucket) for bucket in INPUT_BUCKETS})
    return total_tokens(usage), cost_pico_usd(usage, tiers)


def _knows_usage(end: ModelCalled) -> bool:
    named = end.HasField("usage") and any(end.usage.HasField(bucket) for bucket in PRICE_OF_BUCKET)
    return named and total_tokens(end.usage) <= CREDIBLE_TOKENS_MAX


def _weight(end: ModelCalled) -> int:
    """How much an end knows: a whole answer outweighs a broken one, and anything outweighs `lost`."""
    if end.outcome == CALL_OUTCOME_LOST:
        return 0
    if not _knows_usage(end):
        return 1
    return 2 if end.outcome == CALL_OUTCOME_ABANDONED else 3
