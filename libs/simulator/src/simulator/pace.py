"""How fast a pretend model writes. Values only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """`tokens_per_second` of `None` is as fast as the machine can."""

    tokens_per_second: float | None = None
    first_token_delay_s: float = 0.0

    def seconds_for(self, tokens: int) -> float:
        return tokens / self.tokens_per_second if self.tokens_per_second else 0.0


INSTANT = Pace()
# Slow enough to watch, fast enough that a whole demo of some thousand tokens takes seconds.
WATCHABLE = Pace(tokens_per_second=600.0, first_token_delay_s=0.25)
