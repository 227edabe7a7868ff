"""How many tokens a text has here, and which of them a prompt cache would have known.

A deterministic stand-in for tokenizers: four characters are a token, rounded up. Pure, but the cache remembers.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

CHARACTERS_PER_TOKEN = 4
CACHE_BLOCK_TOKENS = 128
CACHE_PREFIX_TOKENS_MIN = 1024
CACHED_PREFIXES_MAX = 100_000

_BLOCK_CHARACTERS = CACHE_BLOCK_TOKENS * CHARACTERS_PER_TOKEN


@dataclass(frozen=True, slots=True)
class Buckets:
    """Tokens of one call in disjoint buckets: their sum is the call's total."""

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0

    @property
    def prompt(self) -> int:
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h

    @property
    def total(self) -> int:
        return self.prompt + self.output + self.reasoning


def tokens_in(text: str) -> int:
    """The tokens of a text: a quarter of its characters, rounded up."""
    return tokens_for(len(text))


def tokens_for(characters: int) -> int:
    """The tokens of so many characters."""
    return -(-characters // CHARACTERS_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class CachePoint:
    """Up to where a caller asked for the prompt to be cached, and for how long."""

    characters: int
    ttl: str = "5m"


class PromptCache:
    """Remembers prefixes of prompts per model, the most recent ones, until the process ends."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def implicit(self, model: str, text: str) -> Buckets:
        """What providers do by themselves: whole blocks of a known prefix are read, writing costs nothing."""
        read, prefix = 0, hashlib.blake2b(model.encode() + b"\0", digest_size=16)
        for start in range(0, len(text) - _BLOCK_CHARACTERS + 1, _BLOCK_CHARACTERS):
            prefix.update(text[start : start + _BLOCK_CHARACTERS].encode("utf-8", "surrogatepass"))
            if self._seen_before(prefix.digest()):
                read = (start + _BLOCK_CHARACTERS) // CHARACTERS_PER_TOKEN
        if read < CACHE_PREFIX_TOKENS_MIN:
            read = 0
        return Buckets(input=tokens_in(text) - read, cache_read=read)

    def explicit(self, model: str, text: str, points: tuple[CachePoint, ...]) -> Buckets:
        """What Anthropic does at the caller's marks: the longest known prefix is read, the rest is written."""
        read, written = 0, {"5m": 0, "1h": 0}
        for point in sorted(points, key=lambda point: point.characters):
            tokens = point.characters // CHARACTERS_PER_TOKEN
            if tokens < CACHE_PREFIX_TOKENS_MIN:
                continue
            key = f"{model}\0{text[: point.characters]}".encode("utf-8", "surrogatepass")
            if self._seen_before(hashlib.blake2b(key, digest_size=16).digest()):
                read, written = tokens, {"5m": 0, "1h": 0}
            else:
                written[point.ttl] += tokens - read - sum(written.values())
        rest = tokens_in(text) - read - sum(written.values())
        return Buckets(input=rest, cache_read=read, cache_write_5m=written["5m"], cache_write_1h=written["1h"])

    def _seen_before(self, key: bytes) -> bool:
        known = key in self._known
        self._known[key] = None
        self._known.move_to_end(key)
        if len(self._known) > CACHED_PREFIXES_MAX:
            self._known.popitem(last=False)
        return known
