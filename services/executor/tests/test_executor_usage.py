"""Every provider's usage becomes disjoint buckets whose sum is what the provider counted."""

import pytest
from executor.usage import merged, normalised, total
from factory.call.v1 import Usage
from hypothesis import given
from hypothesis import strategies as st

CHAT, RESPONSES, ANTHROPIC = "openai-chat", "openai-responses", "anthropic"

GOLDEN = [
    pytest.param(
        CHAT,
        {
            "prompt_tokens": 2006,
            "completion_tokens": 300,
            "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 192,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        Usage(input_tokens=86, cache_read_tokens=1920, output_tokens=108, reasoning_tokens=192),
        2306,
        id="openai chat: the cache is inside the prompt, reasoning inside the completion",
    ),
    pytest.param(
        RESPONSES,
        {
            "input_tokens": 328,
            "input_tokens_details": {"cached_tokens": 128},
            "output_tokens": 52,
            "output_tokens_details": {"reasoning_tokens": 32},
            "total_tokens": 380,
        },
        Usage(input_tokens=200, cache_read_tokens=128, output_tokens=20, reasoning_tokens=32),
        380,
        id="openai responses",
    ),
    pytest.param(
        RESPONSES,
        {
            "input_tokens": 1000,
            "input_tokens_details": {
                "cached_tokens": 100,
                "cache_write_tokens": 500,
                "cache_write_tokens_details": {"ttl_30m_tokens": 300, "ttl_12h_tokens": 200},
            },
            "output_tokens": 10,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 1010,
        },
        Usage(
            input_tokens=400,
            cache_read_tokens=100,
            cache_write_5m_tokens=300,
            cache_write_1h_tokens=200,
            output_tokens=10,
            reasoning_tokens=0,
        ),
        1010,
        id="openai responses with cache writes of both classes",
    ),
    pytest.param(
        ANTHROPIC,
        {
            "input_tokens": 2048,
            "cache_read_input_tokens": 1800,
            "cache_creation_input_tokens": 248,
            "cache_creation": {"ephemeral_5m_input_tokens": 148, "ephemeral_1h_input_tokens": 100},
            "output_tokens": 503,
            "service_tier": "standard",
        },
        Usage(
            input_tokens=2048,
            cache_read_tokens=1800,
            cache_write_5m_tokens=148,
            cache_write_1h_tokens=100,
            output_tokens=503,
        ),
        4599,
        id="anthropic: the input excludes the cache",
    ),
    pytest.param(
        ANTHROPIC,
        {"input_tokens": 10, "cache_creation_input_tokens": 7, "output_tokens": 3},
        Usage(input_tokens=10, cache_write_5m_tokens=7, output_tokens=3),
        20,
        id="anthropic without a breakdown: five minutes are the default",
    ),
    pytest.param(
        ANTHROPIC,
        {"input_tokens": 10, "output_tokens": 50, "output_tokens_details": {"thinking_tokens": 30}},
        Usage(input_tokens=10, output_tokens=20, reasoning_tokens=30),
        60,
        id="anthropic with thinking, which is part of the output",
    ),
    pytest.param(
        CHAT,
        {"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623},
        Usage(input_tokens=20, output_tokens=198, reasoning_tokens=405),
        623,
        id="gemini: thoughts are in the total only",
    ),
    pytest.param(
        CHAT,
        {
            "prompt_tokens": 21,
            "completion_tokens": 0,
            "total_tokens": 81,
            "completion_tokens_details": {"reasoning_tokens": 60},
        },
        Usage(input_tokens=21, output_tokens=0, reasoning_tokens=60),
        81,
        id="gemini: thoughts named, and still outside the completion",
    ),
    pytest.param(
        CHAT,
        {
            "prompt_tokens": 20,
            "completion_tokens": 533,
            "total_tokens": 553,
            "completion_tokens_details": {"reasoning_tokens": 382},
        },
        Usage(input_tokens=20, output_tokens=151, reasoning_tokens=382),
        553,
        id="gemini behind a gateway that counts as openai does",
    ),
    pytest.param(
        CHAT,
        {
            "prompt_tokens": 110,
            "completion_tokens": 60,
            "total_tokens": 170,
            "prompt_tokens_details": {"cached_tokens": 64},
            "completion_tokens_details": {"reasoning_tokens": 40},
            "prompt_cache_hit_tokens": 64,
            "prompt_cache_miss_tokens": 46,
        },
        Usage(input_tokens=46, cache_read_tokens=64, output_tokens=20, reasoning_tokens=40),
        170,
        id="deepseek: hits and misses, said twice and counted once",
    ),
    pytest.param(
        CHAT,
        {"prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 46, "completion_tokens": 6},
        Usage(input_tokens=46, cache_read_tokens=64, output_tokens=6),
        116,
        id="deepseek: hits and misses alone",
    ),
    pytest.param(
        CHAT,
        {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21},
        Usage(input_tokens=9, output_tokens=12),
        21,
        id="a local server that knows no cache and no reasoning: absent, not 0",
    ),
    pytest.param(
        CHAT,
        {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 900}},
        Usage(input_tokens=10, output_tokens=5),
        15,
        id="a cache larger than the prompt is disbelieved",
    ),
    pytest.param(
        CHAT,
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 3, "completion_tokens_details": None},
        Usage(input_tokens=10, output_tokens=5),
        15,
        id="a total smaller than its parts is disbelieved",
    ),
]


@pytest.mark.parametrize(("wire", "raw", "usage", "tokens"), GOLDEN)
def test_the_usage_of_a_provider_becomes_disjoint_buckets(wire, raw, usage, tokens):
    found = normalised(wire, raw)

    assert found == usage
    assert total(usage) == tokens


@pytest.mark.parametrize("raw", [None, {}, {"prompt_tokens": None}, {"prompt_tokens": "many", "completion_tokens": -1}])
@pytest.mark.parametrize("wire", [CHAT, RESPONSES, ANTHROPIC])
def test_usage_that_says_nothing_is_unknown_and_not_zero(wire, raw):
    assert normalised(wire, raw) is None


def test_a_stream_of_anthropic_counts_its_last_word_and_adds_nothing_up():
    start = {
        "input_tokens": 472,
        "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": 20,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 2,
    }
    raw = merged(merged(start, {"output_tokens": 40, "input_tokens": None}), {"output_tokens": 89})

    assert normalised(ANTHROPIC, raw) == Usage(
        input_tokens=472, cache_read_tokens=0, cache_write_5m_tokens=20, cache_write_1h_tokens=0, output_tokens=89
    )


counts = st.integers(0, 10**9)


@given(prompt=counts, completion=counts, cached=st.none() | counts, reasoning=st.none() | counts, thought=counts)
def test_the_buckets_add_up_to_what_an_openai_provider_counted(prompt, completion, cached, reasoning, thought):
    usage = normalised(
        CHAT,
        {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion + thought,
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        },
    )

    assert usage is not None
    assert total(usage) == prompt + completion + thought


@given(st.lists(st.fixed_dictionaries({}, optional={"input_tokens": counts, "output_tokens": counts}), min_size=1))
def test_cumulative_usage_ends_with_the_last_count_of_each_kind(reports):
    raw = None
    for report in reports:
        raw = merged(raw, report)

    for name in ("input_tokens", "output_tokens"):
        said = [report[name] for report in reports if name in report]
        assert (raw or {}).get(name) == (said[-1] if said else None)
