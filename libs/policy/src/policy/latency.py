"""Whether a model answers much slower than it used to: the newest answers against its own earlier ones.

Pure. Answers differ in length, so what is compared is the time for 1,000 tokens. A model that stays slow becomes, after
some trips, its own new usual: a factory that has no faster one should use it.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from factory.model.v1 import TRIP_CAUSE_LATENCY, HealthEvidence
from google.protobuf.duration_pb2 import Duration

from policy.health_window import CALLS_WINDOW_MAX, CALLS_WINDOW_US, EXAMPLES_MAX, SECOND_US, Finding

PER_TOKENS = 1_000
# The wait for the first token counts as that many tokens more; else short answers would seem slow.
FIRST_TOKEN_TOKENS = 200
LATENCY_QUANTILE = 0.75
LATENCY_SAMPLES_MIN = 10
BASELINE_SAMPLES_MIN = 30
BASELINE_SAMPLES_MAX = 200
SLOWER_FACTOR = 3
# Three times nothing is nothing: below this nobody minds.
SLOWER_BY_MIN_US = 5 * SECOND_US


class Answer(NamedTuple):
    """One answer that came whole."""

    at: int
    sequence: int
    # for 1,000 tokens
    pace_us: int
    call_id: str


def pace(took_us: int, output_tokens: int) -> int:
    """Microseconds for 1,000 tokens, at the speed of this answer."""
    return took_us * PER_TOKENS // (output_tokens + FIRST_TOKEN_TOKENS)


def quantile(ordered: Sequence[int], share: float) -> int:
    """The smallest value that at least this share of `ordered` does not exceed."""
    return ordered[max(-(-len(ordered) * round(share * 1000) // 1000) - 1, 0)]


class Latency:
    """The newest answers of a model, and the baseline that those before them make."""

    def __init__(self) -> None:
        self._newest: deque[Answer] = deque()
        self._baseline: deque[int] = deque()
        self._ordered: list[int] = []

    def add(self, answer: Answer) -> Finding | None:
        """Takes one more in; what was found if it is slow and enough others are as slow."""
        newest = self._newest
        newest.append(answer)
        since = answer.at - CALLS_WINDOW_US
        while newest[0].at < since or len(newest) > CALLS_WINDOW_MAX:
            self._to_baseline(newest.popleft())
        enough = len(newest) >= LATENCY_SAMPLES_MIN and len(self._ordered) >= BASELINE_SAMPLES_MIN
        return self._found(answer) if enough else None

    def clear(self) -> None:
        """The newest answers become earlier ones."""
        while self._newest:
            self._to_baseline(self._newest.popleft())

    def _found(self, answer: Answer) -> Finding | None:
        usual = quantile(self._ordered, LATENCY_QUANTILE)
        too_slow = max(usual * SLOWER_FACTOR, usual + SLOWER_BY_MIN_US)
        if answer.pace_us < too_slow:
            return None
        newest = list(self._newest)
        now = quantile(sorted(one.pace_us for one in newest), LATENCY_QUANTILE)
        if now < too_slow:
            return None
        slow = [one for one in newest if one.pace_us >= too_slow]
        evidence = HealthEvidence(
            observed=len(newest),
            bad=len(slow),
            reasons={"slow": len(slow)},
            from_sequence=newest[0].sequence,
            to_sequence=newest[-1].sequence,
            latency=_duration(now),
            baseline=_duration(usual),
            examples=[one.call_id for one in slow[-EXAMPLES_MAX:]],
        )
        return Finding(TRIP_CAUSE_LATENCY, evidence)

    def _to_baseline(self, answer: Answer) -> None:
        self._baseline.append(answer.pace_us)
        insort(self._ordered, answer.pace_us)
        if len(self._baseline) > BASELINE_SAMPLES_MAX:
            del self._ordered[bisect_left(self._ordered, self._baseline.popleft())]


def _duration(us: int) -> Duration:
    return Duration(seconds=us // SECOND_US, nanos=us % SECOND_US * 1_000)
