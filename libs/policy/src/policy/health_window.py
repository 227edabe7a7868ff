"""What was seen of a model lately, and when that is too bad: windows, bounded in time and in number, and their rules.

Pure; times are microseconds of the log's own time. It judges at each bad observation, and only then.
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from factory.model.v1 import (
    TRIP_CAUSE_ERROR_RATE,
    TRIP_CAUSE_PAYMENT_REQUIRED,
    TRIP_CAUSE_QUALITY,
    TRIP_CAUSE_RATE_LIMITED,
    TRIP_CAUSE_TIMEOUTS,
    HealthEvidence,
    TripCause,
)
from factory.phase.v1 import PhaseFailure
from google.protobuf.timestamp_pb2 import Timestamp

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US

# Calls: the newest 20 of the last 10 minutes. More would hide for long that a busy model has just gone down.
CALLS_WINDOW_US = 10 * MINUTE_US
CALLS_WINDOW_MAX = 20
# Judgements and unusable answers are rarer, and no model gets better within minutes.
QUALITY_WINDOW_US = 24 * HOUR_US
QUALITY_WINDOW_MAX = 30

EXAMPLES_MAX = 10
GOOD = ""
GATE_BLOCK = "gate block"
REVIEW_REJECTION = "review rejection"
JUDGEMENTS = frozenset({GATE_BLOCK, REVIEW_REJECTION})

FAILURE_WORDS: dict[int, str] = {
    number: name.removeprefix("PHASE_FAILURE_").lower().replace("_", " ") for name, number in PhaseFailure.items()
}


class Observation(NamedTuple):
    """One call, answer or judgement."""

    at: int
    sequence: int
    # "" is good, else what was bad, in words: "server error"
    reason: str
    task_id: str
    # the call id, or "<task>.<request>"
    example: str


@dataclass(frozen=True, slots=True)
class Rule:
    """So many bad ones of so many are too many."""

    cause: TripCause
    # which reasons count as bad; None is every one
    reasons: frozenset[str] | None
    observed_min: int
    bad_min: int
    share_min: float
    # One hard task can be sent back again and again; that says little about the model.
    tasks_min: int = 1
    # Counts only the newest ones that are bad without a good one between them.
    in_a_row: bool = False


class Finding(NamedTuple):
    """A window that is too bad, and what shows it."""

    cause: TripCause
    evidence: HealthEvidence


# The first that holds names the cause. At least two failures each, and each of a request of its own: one never trips.
CALL_RULES = (
    Rule(TRIP_CAUSE_PAYMENT_REQUIRED, frozenset({"payment required"}), 2, 2, 0.0, in_a_row=True),
    Rule(TRIP_CAUSE_RATE_LIMITED, frozenset({"rate limited"}), 4, 3, 0.5),
    Rule(TRIP_CAUSE_TIMEOUTS, frozenset({"timeout", "deadline"}), 4, 3, 0.5),
    Rule(TRIP_CAUSE_ERROR_RATE, None, 5, 4, 0.5),
)
QUALITY_RULES = (Rule(TRIP_CAUSE_QUALITY, None, 6, 4, 0.6, tasks_min=3),)


class Window:
    """The newest observations, and whether one more makes them too bad."""

    def __init__(self, span_us: int, most: int, rules: tuple[Rule, ...]) -> None:
        self._span_us = span_us
        self._rules = rules
        self._seen: deque[Observation] = deque(maxlen=most)

    def add(self, observation: Observation) -> Finding | None:
        """Takes one more in; what was found if it is bad and a rule holds."""
        seen = self._seen
        seen.append(observation)
        since = observation.at - self._span_us
        while seen[0].at < since:
            seen.popleft()
        if not observation.reason:
            return None
        found = (_held(rule, seen) for rule in self._rules)
        return next((finding for finding in found if finding is not None), None)

    def clear(self) -> None:
        self._seen.clear()


def evidence_of(observed: Iterable[Observation], bad: Iterable[Observation]) -> HealthEvidence:
    """What was observed, as anybody can check it in the log."""
    all_, wrong = list(observed), list(bad)
    return HealthEvidence(
        observed=len(all_),
        bad=len(wrong),
        reasons=Counter(one.reason for one in wrong),
        from_sequence=min(one.sequence for one in all_),
        to_sequence=max(one.sequence for one in all_),
        examples=[one.example for one in wrong[-EXAMPLES_MAX:]],
    )


def to_us(timestamp: Timestamp) -> int:
    return timestamp.seconds * SECOND_US + timestamp.nanos // 1_000


def us_of(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment_of(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)


def timestamp_of(us: int) -> Timestamp:
    return Timestamp(seconds=us // SECOND_US, nanos=us % SECOND_US * 1_000)


def _held(rule: Rule, seen: deque[Observation]) -> Finding | None:
    observed = _newest_bad(rule, seen) if rule.in_a_row else list(seen)
    bad = [one for one in observed if one.reason and (rule.reasons is None or one.reason in rule.reasons)]
    enough = len(observed) >= rule.observed_min and len(bad) >= rule.bad_min
    if not enough or len(bad) < rule.share_min * len(observed) or len({one.task_id for one in bad}) < rule.tasks_min:
        return None
    return Finding(rule.cause, evidence_of(observed, bad))


def _newest_bad(rule: Rule, seen: deque[Observation]) -> list[Observation]:
    assert rule.reasons is not None, f"what follows in a row is named: {rule!r}"
    row: list[Observation] = []
    for one in reversed(seen):
        if one.reason not in rule.reasons:
            break
        row.append(one)
    return row[::-1]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
