"""Reads the price list of the `genai-prices` package into facts. Changes nothing and publishes nothing itself.

What the list cannot say in our terms exactly stays unpriced: no price is better than a wrong one.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING

from factory.price.v1 import PricePublished, PriceTier

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

PACKAGE = "genai-prices"
# The list is in dollars for a million tokens, facts are in pico-dollars for one.
PICO_PER_TOKEN_FOR_DOLLARS_PER_MILLION = 10**6

# Providers as OpenTelemetry names them, where the list has another name. Any other must be in the list by its own name:
# the list's own search would take an "openai-compatible" server for OpenAI.
LISTED_AS = {
    "aws.bedrock": "aws",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "mistral_ai": "mistral",
    "moonshot_ai": "moonshotai",
    "x_ai": "x-ai",
}
PRICE_OF_LISTED = {
    "input_mtok": "input_pico_usd",
    "cache_read_mtok": "cache_read_pico_usd",
    "cache_write_mtok": "cache_write_5m_pico_usd",
    "cache_write_1h_mtok": "cache_write_1h_pico_usd",
    "output_mtok": "output_pico_usd",
}
DEAREST_HOUR = "at the dearest time of day"


class Inexact(ValueError):
    """The list says something of a model's price that our facts cannot say exactly."""


def published_prices(models: Iterable[tuple[str, str]], version: str | None = None) -> list[PricePublished]:
    """The listed prices of these (provider, provider_model) pairs; nothing for a model that is not in the list.

    A price with a date holds from then on, one without holds from the beginning. Where the list has prices for times
    of day, the dearest of each bucket is taken, and the version says so.
    """
    named = version or f"{PACKAGE} {installed_version(PACKAGE)}"
    found = []
    for provider, provider_model in models:
        if listed := _listed(provider, provider_model):
            try:
                found += _facts(provider, provider_model, listed, named)
            except Inexact:
                continue
    return found


def _listed(provider: str, provider_model: str) -> "ModelInfo | None":
    # Half a second to import, and needed once in the life of a factory.
    from genai_prices.data_snapshot import get_snapshot

    providers = get_snapshot().providers
    name = LISTED_AS.get(provider, provider)
    here = next((known for known in providers if known.id == name), None)
    return here.find_model(provider_model, all_providers=providers) if here else None


def _facts(provider: str, provider_model: str, listed: "ModelInfo", version: str) -> list[PricePublished]:
    facts = []
    for since in _dates(listed):
        prices = _prices_since(listed, since)
        fact = PricePublished(
            version=version if len(prices) == 1 else f"{version}, {DEAREST_HOUR}",
            provider=provider,
            provider_model=provider_model,
            tiers=_tiers(prices),
        )
        if since is not None:
            fact.valid_from.FromDatetime(datetime.combine(since, time(), UTC))
        facts.append(fact)
    return facts


def _dates(listed: "ModelInfo") -> list[date | None]:
    """When the price changes: from the beginning (None), then each date in the list."""
    from genai_prices.types import StartDateConstraint

    if not isinstance(listed.prices, list):
        return [None]
    dates = {
        price.constraint.start_date for price in listed.prices if isinstance(price.constraint, StartDateConstraint)
    }
    return [None, *sorted(dates)]


def _prices_since(listed: "ModelInfo", since: date | None) -> "list[ModelPrice]":
    """The prices that hold from a date until the next: one, or several that take turns by the time of day."""
    from genai_prices.types import StartDateConstraint, TimeOfDateConstraint

    if not isinstance(listed.prices, list):
        return [listed.prices]
    found = []
    # The last one whose condition is met counts.
    for price in reversed(listed.prices):
        match price.constraint:
            case StartDateConstraint(start_date=start):
                if since is not None and start <= since:
                    return [*found, price.prices]
            case TimeOfDateConstraint():
                found.append(price.prices)
            case None:
                return [*found, price.prices]
    return [*found, listed.prices[0].prices]


def _tiers(prices: "Sequence[ModelPrice]") -> list[PriceTier]:
    """The tiers of all buckets together; of several prices the dearest."""
    starts = {0}
    for price in prices:
        _check(price)
        for name in PRICE_OF_LISTED:
            value = getattr(price, name)
            starts |= {tier.start for tier in getattr(value, "tiers", ())}
    tiers = []
    for start in sorted(starts):
        tier = PriceTier(above_input_tokens=start)
        for name, bucket in PRICE_OF_LISTED.items():
            values = [getattr(price, name) for price in prices]
            if all(value is not None for value in values):
                setattr(tier, bucket, max(_pico_above(value, start) for value in values))
        tiers.append(tier)
    return tiers


def _check(price: "ModelPrice") -> None:
    """Raises Inexact for a price that depends on more than the buckets that we count."""
    if price.requests_kcount:
        raise Inexact("every request costs something, whatever its tokens")
    if price.output_reasoning_mtok is not None and price.output_reasoning_mtok != price.output_mtok:
        raise Inexact("reasoning is not billed as output")


def _pico_above(value: "Decimal | TieredPrices", start: int) -> int:
    """The price of one token in calls whose input exceeds `start`."""
    if isinstance(value, Decimal):
        return _pico(value)
    reached = [tier.price for tier in value.tiers if tier.start <= start]
    return _pico(reached[-1] if reached else value.base)


def _pico(dollars_per_million: Decimal) -> int:
    pico = dollars_per_million * PICO_PER_TOKEN_FOR_DOLLARS_PER_MILLION
    if pico != pico.to_integral_value():
        raise Inexact(f"{dollars_per_million} dollars for a million tokens is no whole number of pico-dollars for one")
    return int(pico)
