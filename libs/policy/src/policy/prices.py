"""What a call costs: usage times the price that was valid when the call started. The one pricing path of the factory.

Pure. Money is an integer of pico-dollars (10^-12 US dollars), never a float; what is not known is None, never 0.
"""

from bisect import insort
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import NamedTuple

from factory.call.v1 import Usage
from factory.event.v1 import Event
from factory.price.v1 import PricePublished, PriceTier

PICO_PER_DOLLAR = 10**12

# Sums of a century at any price of today have fewer digits than this.
DIGITS_MAX = 200

# Each bucket of a usage, and the price that it is billed at.
PRICE_OF_BUCKET = {
    "input_tokens": "input_pico_usd",
    "cache_read_tokens": "cache_read_pico_usd",
    "cache_write_5m_tokens": "cache_write_5m_pico_usd",
    "cache_write_1h_tokens": "cache_write_1h_pico_usd",
    "output_tokens": "output_pico_usd",
    "reasoning_tokens": "output_pico_usd",
}
INPUT_BUCKETS = ("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
OUTPUT_BUCKETS = ("output_tokens", "reasoning_tokens")


class Price(NamedTuple):
    """A published price, and since when it is known (the time of the event that carries it)."""

    fact: PricePublished
    known_at: datetime


class PriceBook:
    """Every price ever published: what a model cost at a time, as known now or as known at another time."""

    def __init__(self, prices: Iterable[tuple[PricePublished, datetime]] = ()) -> None:
        self._prices: dict[tuple[str, str], list[tuple[datetime, datetime, bytes, PricePublished]]] = {}
        for fact, known_at in prices:
            row = (valid_from(fact), known_at, fact.SerializeToString(deterministic=True), fact)
            insort(self._prices.setdefault((fact.provider, fact.provider_model), []), row, key=lambda row: row[:3])

    def at(
        self, provider: str, provider_model: str, when: datetime, known_at: datetime | None = None
    ) -> PricePublished | None:
        """The price valid at `when`: the latest valid from then or before; of several, the one known last."""
        for since, known, _, fact in reversed(self._prices.get((provider, provider_model), ())):
            if since <= when and (known_at is None or known <= known_at):
                return fact
        return None

    def __iter__(self) -> Iterator[Price]:
        for rows in self._prices.values():
            for _, known_at, _, fact in rows:
                yield Price(fact, known_at)

    def __len__(self) -> int:
        return sum(len(rows) for rows in self._prices.values())


def prices_in(events: Iterable[Event]) -> PriceBook:
    """The prices that these events publish."""
    return PriceBook(
        Price(fact.price_published, event.occurred_at.ToDatetime(tzinfo=UTC))
        for event in events
        for fact in event.facts
        if fact.WhichOneof("fact") == "price_published"
    )


def valid_from(fact: PricePublished) -> datetime:
    """From when the price holds; one without a date holds since the epoch."""
    return fact.valid_from.ToDatetime(tzinfo=UTC)


def input_side(usage: Usage) -> int:
    """All input tokens of a call, cached ones included: what context-length tiers go by."""
    return sum(getattr(usage, bucket) for bucket in INPUT_BUCKETS)


def output_side(usage: Usage) -> int:
    """All output tokens of a call, reasoning included."""
    return sum(getattr(usage, bucket) for bucket in OUTPUT_BUCKETS)


def total_tokens(usage: Usage) -> int:
    """All tokens of a call. The buckets are disjoint, so this is their sum."""
    return input_side(usage) + output_side(usage)


def tier_for(tiers: Sequence[PriceTier], input_tokens: int) -> PriceTier | None:
    """The tier that prices a whole call with this much input; None when nothing is priced."""
    reached = [tier for tier in tiers if _reaches(input_tokens, tier)]
    return max(reached, key=lambda tier: tier.above_input_tokens, default=None)


def cost_pico_usd(usage: Usage, tiers: Sequence[PriceTier]) -> int | None:
    """What this usage costs; None (unpriced) when a bucket that it uses has no price."""
    tier = tier_for(tiers, input_side(usage))
    cost = 0
    for bucket, price in PRICE_OF_BUCKET.items():
        tokens = getattr(usage, bucket)
        if not tokens:
            continue
        if tier is None or not tier.HasField(price):
            return None
        cost += tokens * getattr(tier, price)
    return cost


def upper_bound(tiers: Sequence[PriceTier], input_tokens: int, output_tokens: int) -> int | None:
    """The most that a call of at most this size can cost: each side at the dearest price that it can meet.

    Cache writes cost more than plain input, and a call may be smaller than its bound and meet a lower tier.
    """
    reached = [tier for tier in tiers if _reaches(input_tokens, tier)]
    cost = 0
    for tokens, plain, buckets in (
        (input_tokens, "input_pico_usd", INPUT_BUCKETS),
        (output_tokens, "output_pico_usd", OUTPUT_BUCKETS),
    ):
        if not tokens:
            continue
        if not reached or not all(tier.HasField(plain) for tier in reached):
            return None
        # An absent price reads 0 here, which never is the dearest while the plain price is there.
        cost += tokens * max(getattr(tier, PRICE_OF_BUCKET[bucket]) for tier in reached for bucket in buckets)
    return cost


def dollars(pico_usd: int) -> str:
    """Exact dollars as a decimal string: no exponent, no trailing zeros."""
    sign = "-" if pico_usd < 0 else ""
    whole, rest = divmod(abs(pico_usd), PICO_PER_DOLLAR)
    fraction = f"{rest:012d}".rstrip("0")
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"


def rounded_dollars(pico_usd: int) -> str:
    """Dollars for people: cents, or two significant digits where cents would hide them. Never to be added up."""
    sign = "-" if pico_usd < 0 else ""
    with localcontext() as context:
        context.prec = DIGITS_MAX
        amount = Decimal(abs(pico_usd)).scaleb(-12)
        places = max(2, 1 - amount.adjusted()) if amount else 2
        return f"{sign}${amount.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP):,f}"


def _reaches(input_tokens: int, tier: PriceTier) -> bool:
    return tier.above_input_tokens == 0 or input_tokens > tier.above_input_tokens
