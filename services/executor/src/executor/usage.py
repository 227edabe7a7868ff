"""Providers count tokens in their own ways; here they become one normal form of disjoint buckets.

Pure. It never guesses: a bucket that the provider did not report is absent, never 0, and the sum of the buckets is
what the provider counted in all. A detail that contradicts the total it belongs to is disbelieved; the raw usage is
kept beside the buckets for whoever wants to look.
"""

from collections.abc import Mapping
from typing import Any

from factory.call.v1 import Usage

Raw = Mapping[str, Any]

COUNT_MAX = 2**48
"""More tokens than this in one call are no count."""


def normalised(wire: str, raw: Raw | None) -> Usage | None:
    """The usage that arrived over a wire, in disjoint buckets; None when nothing of it could be read."""
    if not raw:
        return None
    usage = _of_anthropic(raw) if wire == "anthropic" else _of_openai(raw)
    return usage if usage.ListFields() else None


def merged(start: Raw | None, delta: Raw | None) -> dict[str, Any] | None:
    """Anthropic reports usage twice in a stream, cumulatively: what comes later replaces, nothing is added."""
    if start is None and delta is None:
        return None
    return {**(start or {}), **{key: value for key, value in (delta or {}).items() if value is not None}}


def total(usage: Usage) -> int:
    """All tokens that the buckets hold."""
    return sum(value for _, value in usage.ListFields())


def _of_openai(raw: Raw) -> Usage:
    """OpenAI's two wires and all who speak them: the cache is part of the prompt, reasoning a part of the completion.

    Gemini's compatible endpoint leaves thoughts out of the completion but counts them in the total; DeepSeek names
    cache hits in fields of its own.
    """
    prompt = _first(raw, "prompt_tokens", "input_tokens")
    completion = _first(raw, "completion_tokens", "output_tokens")
    if prompt is None:
        prompt = _sum(_count(raw, "prompt_cache_hit_tokens"), _count(raw, "prompt_cache_miss_tokens"))
    usage = Usage()
    _fill_input(usage, raw, prompt)
    _fill_output(usage, raw, prompt, completion)
    return usage


def _fill_input(usage: Usage, raw: Raw, prompt: int | None) -> None:
    if prompt is None:
        return
    details = _details(raw, "prompt_tokens_details", "input_tokens_details")
    read = _count(details, "cached_tokens")
    if read is None:
        read = _count(raw, "prompt_cache_hit_tokens")
    written = _count(details, "cache_write_tokens")
    if (read or 0) + (written or 0) > prompt:
        read = written = None
    usage.input_tokens = prompt - (read or 0) - (written or 0)
    if read is not None:
        usage.cache_read_tokens = read
    if written:
        # Two classes exist, short and long; OpenAI's 12-hour retention is the long one.
        by_ttl = _details(details, "cache_write_tokens_details")
        long = min(_count(by_ttl, "ttl_12h_tokens") or 0, written)
        usage.cache_write_5m_tokens = written - long
        if long:
            usage.cache_write_1h_tokens = long


def _fill_output(usage: Usage, raw: Raw, prompt: int | None, completion: int | None) -> None:
    reasoning = _count(_details(raw, "completion_tokens_details", "output_tokens_details"), "reasoning_tokens")
    all_tokens = _count(raw, "total_tokens")
    if all_tokens is not None and prompt is not None and all_tokens > prompt + (completion or 0):
        # The total knows of tokens that prompt and completion do not: they were thought, and are billed as output.
        usage.reasoning_tokens = all_tokens - prompt - (completion or 0)
        if completion is not None:
            usage.output_tokens = completion
        return
    if completion is None:
        return
    if reasoning is not None and reasoning <= completion:
        usage.reasoning_tokens = reasoning
        completion -= reasoning
    usage.output_tokens = completion


def _of_anthropic(raw: Raw) -> Usage:
    """Input excludes the cache; writes come as a sum and, mostly, by lifetime; thinking is a part of the output."""
    usage = Usage()
    if (plain := _count(raw, "input_tokens")) is not None:
        usage.input_tokens = plain
    if (read := _count(raw, "cache_read_input_tokens")) is not None:
        usage.cache_read_tokens = read
    by_ttl = _details(raw, "cache_creation")
    short, long = _count(by_ttl, "ephemeral_5m_input_tokens"), _count(by_ttl, "ephemeral_1h_input_tokens")
    written = _count(raw, "cache_creation_input_tokens")
    if written is not None and written != (short or 0) + (long or 0):
        # Without a breakdown, or with a stale one, the sum is right, and five minutes are the default.
        long = min(long, written) if long is not None else None
        short = written - (long or 0)
    if short is not None:
        usage.cache_write_5m_tokens = short
    if long is not None:
        usage.cache_write_1h_tokens = long
    if (output := _count(raw, "output_tokens")) is not None:
        thinking = _count(_details(raw, "output_tokens_details"), "thinking_tokens")
        if thinking is not None and thinking <= output:
            usage.reasoning_tokens = thinking
            output -= thinking
        usage.output_tokens = output
    return usage


def _details(raw: Raw, *names: str) -> Raw:
    return next((raw[name] for name in names if isinstance(raw.get(name), Mapping)), {})


def _count(raw: Raw, name: str) -> int | None:
    """A count as received; what is no whole number of tokens is as good as not said."""
    value = raw.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= COUNT_MAX else None


def _first(raw: Raw, *names: str) -> int | None:
    return next((count for name in names if (count := _count(raw, name)) is not None), None)


def _sum(left: int | None, right: int | None) -> int | None:
    return None if left is None or right is None else left + right
