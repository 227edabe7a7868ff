"""Prices come from a list that others keep; what it cannot say exactly stays unpriced."""

from datetime import UTC, datetime, timedelta

import pytest
from conductor.adapters.price_list import DEAREST_HOUR, published_prices
from factory.call.v1 import Usage
from factory.price.v1 import PriceTier
from genai_prices import Usage as ListedUsage
from genai_prices import calc_price
from hypothesis import given
from hypothesis import strategies as st
from policy.models import DEFAULT_MODELS
from policy.prices import PICO_PER_DOLLAR, PriceBook, cost_pico_usd

FOUR = [(model.provider, model.provider_model) for model in DEFAULT_MODELS.values()]
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=1)


def test_each_of_the_four_models_has_a_price():
    book = PriceBook((fact, NOW) for fact in published_prices(FOUR))

    assert [book.at(*model, LATER) is not None for model in FOUR] == [True, True, True, True]


def test_a_price_with_context_length_tiers_is_read_whole():
    (fact,) = published_prices([("anthropic", "claude-sonnet-4-5")], version="a list")

    assert fact.version == "a list"
    assert not fact.HasField("valid_from")
    assert list(fact.tiers) == [
        PriceTier(
            above_input_tokens=0,
            input_pico_usd=3_000_000,
            cache_read_pico_usd=300_000,
            cache_write_5m_pico_usd=3_750_000,
            cache_write_1h_pico_usd=6_000_000,
            output_pico_usd=15_000_000,
        ),
        PriceTier(
            above_input_tokens=200_000,
            input_pico_usd=6_000_000,
            cache_read_pico_usd=600_000,
            cache_write_5m_pico_usd=7_500_000,
            cache_write_1h_pico_usd=12_000_000,
            output_pico_usd=22_500_000,
        ),
    ]


def test_a_bucket_that_is_not_listed_has_no_price():
    (fact,) = published_prices([("openai", "gpt-5")])

    assert not fact.tiers[0].HasField("cache_write_5m_pico_usd")


def test_a_price_with_a_date_holds_from_then_on():
    facts = published_prices([("gcp.gemini", "gemini-3-pro-preview")])

    assert [fact.HasField("valid_from") for fact in facts] == [False, True]


def test_prices_by_the_time_of_day_are_taken_at_the_dearest_and_say_so():
    (fact,) = published_prices([("deepseek", "deepseek-chat")])

    assert fact.version.endswith(DEAREST_HOUR)
    assert list(fact.tiers) == [
        PriceTier(input_pico_usd=270_000, cache_read_pico_usd=70_000, output_pico_usd=1_100_000)
    ]


@pytest.mark.parametrize(
    "model", [("openai", "no-such-model"), ("llama.cpp", "gpt-5"), ("openai-compatible", "gpt-5"), ("", "")]
)
def test_what_is_not_in_the_list_has_no_price(model: tuple[str, str]):
    assert published_prices([model]) == []


@given(
    st.sampled_from([model for model in FOUR if model[0] != "deepseek"]),
    st.integers(0, 400_000),
    st.integers(0, 400_000),
    st.integers(0, 100_000),
)
def test_a_call_costs_what_the_list_itself_says(model: tuple[str, str], plain: int, cached: int, output: int):
    provider = "google" if model[0] == "gcp.gemini" else model[0]
    expected = calc_price(
        ListedUsage(input_tokens=plain + cached, cache_read_tokens=cached, output_tokens=output),
        model[1],
        provider_id=provider,
        genai_request_timestamp=LATER,
    ).total_price
    price = PriceBook((fact, NOW) for fact in published_prices([model])).at(*model, LATER)

    assert price is not None
    cost = cost_pico_usd(Usage(input_tokens=plain, cache_read_tokens=cached, output_tokens=output), price.tiers)
    assert cost == expected * PICO_PER_DOLLAR


def test_every_listed_model_can_be_read():
    from genai_prices.data_snapshot import get_snapshot

    models = [(provider.id, model.id) for provider in get_snapshot().providers for model in provider.models]
    priced = {(fact.provider, fact.provider_model) for fact in published_prices(models)}

    assert len(priced) > 0.9 * len(models)
