"""How a model did in the last 24 hours, in figures; None where there is too little to say.

Pure and bounded: counts are kept by the quarter of an hour, latencies and prices of the newest calls only.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from factory.call.v1 import CALL_OUTCOME_LOST, CALL_OUTCOME_OK, ModelCalled, ModelCallStarted
from factory.model.v1 import Breaker, Health

from policy.calls import Call, final_usage, reckon
from policy.health_window import HOUR_US, MINUTE_US, moment_of
from policy.latency import quantile
from policy.prices import PriceBook, total_tokens

FIGURES_SPAN_US = 24 * HOUR_US
SPELL_US = 15 * MINUTE_US
SPELLS_MAX = FIGURES_SPAN_US // SPELL_US + 1
LATENCIES_MAX = 2_000
PRICED_CALLS_MAX = 500
# Enough data: so many calls for an error rate, answers for a latency, calls of known cost for a price, changes for a
# yield.
CALLS_ENOUGH = 5
CHANGES_ENOUGH = 5


class Start(NamedTuple):
    """What a call was started as: its price goes by that."""

    at: int
    provider: str
    provider_model: str


@dataclass(slots=True)
class Spell:
    """A quarter of an hour."""

    since: int
    calls: int = 0
    observed: int = 0
    bad: int = 0
    tokens: int = 0
    judged: int = 0
    passed: int = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """The last 24 hours of one model."""

    in_flight: int = 0
    # calls that have ended, whatever came of them
    calls: int = 0
    tokens: int = 0
    error_rate: float | None = None
    latency_p50: timedelta | None = None
    latency_p95: timedelta | None = None
    pico_usd_per_1k_tokens: int | None = None
    judged_changes: int = 0
    first_pass_yield: float | None = None


class Tallies:
    """What figures are made of."""

    def __init__(self) -> None:
        self._spells: deque[Spell] = deque(maxlen=SPELLS_MAX)
        self._latencies: deque[tuple[int, int]] = deque(maxlen=LATENCIES_MAX)
        self._priced: deque[tuple[int, Start | None, ModelCalled]] = deque(maxlen=PRICED_CALLS_MAX)

    def spell(self, at: int) -> Spell:
        """The quarter of an hour to count in."""
        since = at - at % SPELL_US
        if not self._spells or self._spells[-1].since < since:
            self._spells.append(Spell(since))
        return self._spells[-1]

    def called(self, end: ModelCalled, start: Start | None, latency_us: int, at: int) -> None:
        """Counts a call; one that is lost to us is no call of the model's."""
        if end.outcome == CALL_OUTCOME_LOST:
            return
        spell = self.spell(at)
        spell.calls += 1
        if end.outcome == CALL_OUTCOME_OK:
            spell.observed += 1
            self._latencies.append((at, latency_us))
        usage = final_usage(end)
        if usage is not None and (tokens := total_tokens(usage)):
            spell.tokens += tokens
            # A copy of what the price goes by: the fact itself would keep its whole event in memory.
            kept = ModelCalled(outcome=end.outcome, http_status=end.http_status, usage=usage)
            kept.provider, kept.provider_model = end.provider, end.provider_model
            self._priced.append((at, start, kept))

    def figures(self, in_flight: int, now: int, prices: PriceBook) -> Figures:
        since = now - FIGURES_SPAN_US
        spells = [spell for spell in self._spells if spell.since + SPELL_US > since]
        observed = sum(spell.observed for spell in spells)
        judged = sum(spell.judged for spell in spells)
        latencies = sorted(took for at, took in self._latencies if at >= since)
        bad, passed = sum(spell.bad for spell in spells), sum(spell.passed for spell in spells)
        return Figures(
            in_flight=in_flight,
            calls=sum(spell.calls for spell in spells),
            tokens=sum(spell.tokens for spell in spells),
            error_rate=bad / observed if observed >= CALLS_ENOUGH else None,
            latency_p50=_at(latencies, 0.5),
            latency_p95=_at(latencies, 0.95),
            pico_usd_per_1k_tokens=self._per_1k_tokens(since, prices),
            judged_changes=judged,
            first_pass_yield=passed / judged if judged >= CHANGES_ENOUGH else None,
        )

    def _per_1k_tokens(self, since: int, prices: PriceBook) -> int | None:
        """Rounded to the nearest; by the one pricing path."""
        tokens = cost = calls = 0
        for call in self._calls(since):
            reckoning = reckon(call, prices)
            if reckoning.tokens and reckoning.cost_pico_usd is not None:
                calls, tokens, cost = calls + 1, tokens + reckoning.tokens, cost + reckoning.cost_pico_usd
        return (cost * 1_000 * 2 + tokens) // (tokens * 2) if calls >= CALLS_ENOUGH else None

    def _calls(self, since: int) -> Iterator[Call]:
        for at, start, end in self._priced:
            if at < since:
                continue
            if start is None:
                yield Call("", "", ended=end, ended_at=moment_of(at))
            else:
                started = ModelCallStarted(provider=start.provider, provider_model=start.provider_model)
                yield Call("", "", started=started, started_at=moment_of(start.at), ended=end, ended_at=moment_of(at))


def message_of(figures: Figures, breakers: Iterable[Breaker]) -> Health:
    """As `ModelService.List` tells it."""
    return Health(
        breakers=breakers,
        in_flight=figures.in_flight,
        calls=figures.calls,
        error_rate=figures.error_rate,
        latency_p50=figures.latency_p50,
        latency_p95=figures.latency_p95,
        pico_usd_per_1k_tokens=figures.pico_usd_per_1k_tokens,
        first_pass_yield=figures.first_pass_yield,
        judged_changes=figures.judged_changes,
    )


def _at(ordered: list[int], share: float) -> timedelta | None:
    return timedelta(microseconds=quantile(ordered, share)) if len(ordered) >= CALLS_ENOUGH else None
