"""One pricing path: usage times the price valid when the call started."""

from datetime import UTC, datetime, timedelta

import pytest
from factory.call.v1 import Usage
from factory.event.v1 import Event, Fact
from factory.price.v1 import PricePublished, PriceTier
from hypothesis import given
from hypothesis import strategies as st
from policy.prices import (
    PICO_PER_DOLLAR,
    PRICE_OF_BUCKET,
    PriceBook,
    cost_pico_usd,
    dollars,
    input_side,
    output_side,
    prices_in,
    rounded_dollars,
    upper_bound,
)

# $3 and $15 for a million tokens, $6 and $22.50 above 200,000 of input.
SONNET = [
    PriceTier(
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
MARCH = datetime(2026, 3, 1, tzinfo=UTC)
JUNE = datetime(2026, 6, 1, tzinfo=UTC)


def published(cost: int, since: datetime | None = None, version: str = "list 1") -> PricePublished:
    fact = PricePublished(
        version=version, provider="openai", provider_model="gpt-5", tiers=[PriceTier(input_pico_usd=cost)]
    )
    if since:
        fact.valid_from.FromDatetime(since)
    return fact


def test_each_bucket_is_billed_at_its_own_price():
    usage = Usage(
        input_tokens=1,
        cache_read_tokens=10,
        cache_write_5m_tokens=100,
        cache_write_1h_tokens=1_000,
        output_tokens=10_000,
    )

    assert cost_pico_usd(usage, SONNET) == 3_000_000 + 3_000_000 + 375_000_000 + 6_000_000_000 + 150_000_000_000


def test_reasoning_is_billed_as_output():
    assert cost_pico_usd(Usage(reasoning_tokens=7), SONNET) == 7 * 15_000_000


def test_cached_input_counts_for_the_tier_and_the_tier_prices_the_whole_call():
    at_the_limit = Usage(input_tokens=1, cache_read_tokens=199_999, output_tokens=1)
    over_it = Usage(input_tokens=2, cache_read_tokens=199_999, output_tokens=1)

    assert cost_pico_usd(at_the_limit, SONNET) == 3_000_000 + 199_999 * 300_000 + 15_000_000
    assert cost_pico_usd(over_it, SONNET) == 2 * 6_000_000 + 199_999 * 600_000 + 22_500_000


def test_tiers_need_not_come_in_order():
    usage = Usage(input_tokens=300_000)

    assert cost_pico_usd(usage, SONNET[::-1]) == cost_pico_usd(usage, SONNET)


def test_a_used_bucket_without_a_price_makes_the_call_unpriced_and_an_unused_one_does_not():
    tiers = [PriceTier(input_pico_usd=1, output_pico_usd=1)]

    assert cost_pico_usd(Usage(input_tokens=5, cache_read_tokens=1), tiers) is None
    assert cost_pico_usd(Usage(input_tokens=5, cache_read_tokens=0), tiers) == 5


def test_a_price_of_zero_is_a_price_and_no_price_list_is_not():
    assert cost_pico_usd(Usage(input_tokens=5), [PriceTier(input_pico_usd=0)]) == 0
    assert cost_pico_usd(Usage(input_tokens=5), []) is None


def test_a_call_is_priced_by_what_was_valid_when_it_started():
    book = PriceBook([(published(1), MARCH), (published(2, JUNE), MARCH)])

    def price_at(when: datetime) -> int:
        price = book.at("openai", "gpt-5", when)
        assert price is not None
        return price.tiers[0].input_pico_usd

    assert price_at(JUNE - timedelta(microseconds=1)) == 1
    assert price_at(JUNE) == 2
    assert book.at("openai", "gpt-4", JUNE) is None
    assert book.at("azure", "gpt-5", JUNE) is None


def test_a_price_that_is_not_valid_yet_is_no_price():
    assert PriceBook([(published(2, JUNE), MARCH)]).at("openai", "gpt-5", MARCH) is None


def test_a_correction_replaces_a_price_and_the_old_view_can_still_be_asked_for():
    wrong, right = published(1, MARCH), published(2, MARCH, "list 2")
    book = PriceBook([(right, JUNE), (wrong, MARCH)])

    assert book.at("openai", "gpt-5", JUNE) == right
    assert book.at("openai", "gpt-5", JUNE, known_at=JUNE - timedelta(days=1)) == wrong
    assert book.at("openai", "gpt-5", JUNE, known_at=MARCH - timedelta(days=1)) is None


def test_the_book_is_read_from_events_and_known_since_their_time():
    event = Event(facts=[Fact(price_published=published(1)), Fact()])
    event.occurred_at.FromDatetime(JUNE)

    book = prices_in([event])

    assert [(price.fact, price.known_at) for price in book] == [(published(1), JUNE)]
    assert len(book) == 1


@given(
    st.builds(Usage, **{bucket: st.integers(0, 500_000) for bucket in PRICE_OF_BUCKET}),
    st.integers(0, 1_000),
    st.integers(0, 1_000),
)
def test_no_call_costs_more_than_its_upper_bound(usage: Usage, more_input: int, more_output: int):
    bound = upper_bound(SONNET, input_side(usage) + more_input, output_side(usage) + more_output)
    cost = cost_pico_usd(usage, SONNET)

    assert cost is not None
    assert bound is not None
    assert cost <= bound


def test_without_a_price_there_is_no_upper_bound():
    assert upper_bound([], 1, 1) is None
    assert upper_bound([PriceTier(input_pico_usd=1)], 1, 1) is None
    assert upper_bound([PriceTier(input_pico_usd=1)], 5, 0) == 5


def test_sums_beyond_64_bits_are_exact():
    usage = Usage(input_tokens=2**63)

    assert cost_pico_usd(usage, [PriceTier(input_pico_usd=2**62)]) == 2**125


@pytest.mark.parametrize(
    ("pico", "exact", "human"),
    [
        (0, "0", "$0.00"),
        (1, "0.000000000001", "$0.0000000000010"),
        (12_345_000_000, "0.012345", "$0.012"),
        (419_600_000_000, "0.4196", "$0.42"),
        (PICO_PER_DOLLAR, "1", "$1.00"),
        (1_234_567 * PICO_PER_DOLLAR + 5_000_000_000, "1234567.005", "$1,234,567.01"),
        (-1_500_000_000_000, "-1.5", "-$1.50"),
        (2**70, "1180591620.717411303424", "$1,180,591,620.72"),
    ],
)
def test_money_reads_exactly_or_rounded(pico: int, exact: str, human: str):
    assert dollars(pico) == exact
    assert rounded_dollars(pico) == human
