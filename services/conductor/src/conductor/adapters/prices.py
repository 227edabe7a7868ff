"""Prices, frozen into facts: the list of the day is published once, and every conductor reads it from the log."""

from collections.abc import Iterable

import structlog
from eventlog import Conflict, EventLog, Past
from factory.price.v1 import PricePublished
from policy.models import Model
from policy.prices import PriceBook, prices_in

log = structlog.get_logger()

PRICES = "prices"
ATTEMPTS_MAX = 5


async def publish_prices(events: EventLog, models: Iterable[Model]) -> PriceBook:
    """The price book of the log; models that it has no price for are looked up in the list that is installed."""
    wanted = sorted({(model.provider, model.provider_model) for model in models})
    for _ in range(ATTEMPTS_MAX):
        past = await events.read(PRICES, at_least=await events.last_own(PRICES))
        book = _book(past)
        known = {(fact.provider, fact.provider_model) for fact in past.facts() if isinstance(fact, PricePublished)}
        missing = [pair for pair in wanted if pair not in known]
        if not missing:
            return book
        from conductor.adapters.price_list import published_prices  # half a second to import, and needed once

        found = published_prices(missing)
        if not found:
            return book
        try:
            await events.append(PRICES, found, after=past.tip(events.service), read_to=past.read_to)
            log.info("prices.published", models=[fact.provider_model for fact in found], version=found[0].version)
        except Conflict:
            continue
    return _book(await events.read(PRICES, at_least=await events.last_own(PRICES)))


def _book(past: Past) -> PriceBook:
    return prices_in(recorded.event for recorded in past.events)
