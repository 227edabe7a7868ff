"""One breaker: of one model, for all tasks or for those of one type. Its facts open, probe and close it.

Pure. What was said in the log is the state; what was seen of the model only makes something due to be said.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple

from factory.model.v1 import (
    BREAKER_STATE_CLOSED,
    BREAKER_STATE_HALF_OPEN,
    BREAKER_STATE_OPEN,
    TRIP_CAUSE_ERROR_RATE,
    TRIP_CAUSE_LATENCY,
    TRIP_CAUSE_OPERATOR,
    TRIP_CAUSE_PAYMENT_REQUIRED,
    TRIP_CAUSE_PROBE_FAILED,
    TRIP_CAUSE_QUALITY,
    TRIP_CAUSE_RATE_LIMITED,
    TRIP_CAUSE_TIMEOUTS,
    TRIP_CAUSE_UNSPECIFIED,
    HealthEvidence,
    ModelProbed,
    ModelRecovered,
    ModelTripped,
    TripCause,
)
from factory.model.v1 import Breaker as BreakerMessage
from factory.task.v1 import TASK_TYPE_UNSPECIFIED, TaskType

from policy.health_window import HOUR_US, JUDGEMENTS, MINUTE_US, SECOND_US, Finding, timestamp_of, to_us, us_of

POLICY_VERSION = "health-1"


class Pause(NamedTuple):
    """How long a breaker stays open the first time, and at most: it doubles with each trip in a row."""

    first_us: int
    most_us: int


PAUSES: dict[TripCause, Pause] = {
    TRIP_CAUSE_ERROR_RATE: Pause(30 * SECOND_US, 30 * MINUTE_US),
    TRIP_CAUSE_TIMEOUTS: Pause(MINUTE_US, 30 * MINUTE_US),
    TRIP_CAUSE_RATE_LIMITED: Pause(15 * SECOND_US, 15 * MINUTE_US),
    # Somebody has to fill the account.
    TRIP_CAUSE_PAYMENT_REQUIRED: Pause(5 * MINUTE_US, HOUR_US),
    TRIP_CAUSE_LATENCY: Pause(2 * MINUTE_US, 30 * MINUTE_US),
    TRIP_CAUSE_QUALITY: Pause(15 * MINUTE_US, 6 * HOUR_US),
    TRIP_CAUSE_OPERATOR: Pause(15 * MINUTE_US, 24 * HOUR_US),
}
DOUBLINGS_MAX = 16
# A trip within this time after a recovery is one more in a row.
IN_A_ROW_US = HOUR_US
# A finding that nobody has said for so long is history: no model is tripped today for what it did yesterday.
UNSAID_US_MAX = 10 * MINUTE_US
# As long as a phase may take, and some more; what a probe wrote also has to be reviewed and judged.
PROBE_TIME = timedelta(minutes=20)
QUALITY_PROBE_TIME = timedelta(hours=1)
# More than that no provider means.
RETRY_AFTER_US_MAX = 24 * HOUR_US
HAND_PAUSE = timedelta(minutes=15)

# When all are open: how bad each cause is for the next request. A slow or careless model still answers.
BADNESS: dict[TripCause, float] = {
    TRIP_CAUSE_LATENCY: 0.3,
    TRIP_CAUSE_QUALITY: 0.5,
    TRIP_CAUSE_RATE_LIMITED: 0.7,
    TRIP_CAUSE_TIMEOUTS: 0.8,
    TRIP_CAUSE_ERROR_RATE: 0.9,
    TRIP_CAUSE_PAYMENT_REQUIRED: 1.0,
    TRIP_CAUSE_OPERATOR: 1.0,
}


class State(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


MESSAGE_STATES = {
    State.CLOSED: BREAKER_STATE_CLOSED,
    State.OPEN: BREAKER_STATE_OPEN,
    State.HALF_OPEN: BREAKER_STATE_HALF_OPEN,
}


class Probe(NamedTuple):
    """The one request that was let through."""

    task_id: str
    request_id: str
    until: int


@dataclass(slots=True)
class Breaker:
    """What the log says of one breaker, and what it does not say yet."""

    model: str
    type: TaskType = TASK_TYPE_UNSPECIFIED
    is_open: bool = False
    cause: TripCause = TRIP_CAUSE_UNSPECIFIED
    # the cause of the first trip in a row: a failed probe changes nothing about it
    origin: TripCause = TRIP_CAUSE_UNSPECIFIED
    evidence: HealthEvidence | None = None
    by: str = ""
    since: int = 0
    open_until: int = 0
    # what a provider asked to be left alone for
    retry_at: int = 0
    trips: int = 0
    recovered_at: int = 0
    # What was asked up to this sequence tells of a time before the last recovery.
    fresh_after: int = 0
    probe: Probe | None = None
    # the probe's place in the log, once it has written a change that is still to be judged
    probe_asked: int = 0
    due: ModelTripped | ModelRecovered | None = None
    due_since: int = 0

    def state(self, now: int) -> State:
        if not self.is_open:
            return State.CLOSED
        return State.HALF_OPEN if self.is_probed(now) or now >= self.pause_until else State.OPEN

    def is_probed(self, now: int) -> bool:
        """Whether a probe is under way; nobody else is let through. One with a verdict is, until that is said."""
        return self.probe is not None and now < self.probe.until

    def is_probed_by(self, task_id: str, request_id: str) -> bool:
        return self.probe is not None and (self.probe.task_id, self.probe.request_id) == (task_id, request_id)

    @property
    def pause_until(self) -> int:
        return max(self.open_until, self.retry_at)

    @property
    def tripped_for_judgements(self) -> bool:
        """Whether it is open for what the model wrote, so that only a judgement can tell that it is well again."""
        return self.evidence is not None and not JUDGEMENTS.isdisjoint(self.evidence.reasons)

    def counts(self, asked: int) -> bool:
        """Whether what came of a request of this sequence says anything about how the model is now."""
        return not self.is_open and asked > self.fresh_after

    def said(self, log_time: int) -> ModelTripped | ModelRecovered | None:
        """What is due, unless it is too old to be said; the verdict of a probe never is."""
        fresh = self.is_open or log_time - self.due_since <= UNSAID_US_MAX
        return self.due if fresh else None

    def find(self, finding: Finding | None, at: int) -> None:
        """The first finding is the one to say; it makes way for a later one only when it is too old."""
        if finding is not None and (self.due is None or at - self.due_since > UNSAID_US_MAX):
            again = self.trips > 0 and at - self.recovered_at <= IN_A_ROW_US
            self._due_trip(finding, finding.cause, at, self.trips + 1 if again else 1)

    def probe_failed(self, evidence: HealthEvidence, at: int) -> None:
        if self._takes_verdict(at):
            self._due_trip(Finding(TRIP_CAUSE_PROBE_FAILED, evidence), self.origin, at, self.trips + 1)

    def probe_succeeded(self, evidence: HealthEvidence, at: int) -> None:
        if self._takes_verdict(at):
            self.due = ModelRecovered(
                model=self.model, type=self.type, evidence=evidence, policy_version=POLICY_VERSION
            )
            self.due_since = at

    def probe_ended(self) -> None:
        """The probe tells nothing, for instance because its task was cancelled: the next request is a probe again."""
        if self.due is None:
            self._forget_probe()

    def tripped(self, fact: ModelTripped, at: int) -> None:
        self.is_open = True
        self.cause = fact.cause
        self.origin = fact.cause if fact.cause in PAUSES else self.origin or TRIP_CAUSE_ERROR_RATE
        self.evidence = fact.evidence if fact.HasField("evidence") else None
        self.by = fact.tripped_by
        self.since, self.open_until, self.trips = at, to_us(fact.open_until), fact.trips
        self._forget_probe()

    def probed(self, fact: ModelProbed) -> None:
        """The last one counts: whoever said it had seen the one before, and that its time was over."""
        if self.is_open:
            self._forget_probe()
            self.probe = Probe(fact.task_id, fact.request_id, to_us(fact.until))

    def recovered(self, fact: ModelRecovered, at: int, sequence: int) -> None:
        self.is_open = False
        self.evidence = fact.evidence if fact.HasField("evidence") else None
        self.by, self.cause = fact.recovered_by, TRIP_CAUSE_UNSPECIFIED
        self.since = self.recovered_at = at
        self.fresh_after = sequence
        self._forget_probe()
        if fact.recovered_by:
            # Somebody knows better: what the provider asked for and the count of trips are void too.
            self.trips = self.retry_at = 0

    def badness(self, now: int) -> float:
        """0 is well, 1 is sure to fail."""
        if not self.is_open:
            return 0.0
        share = self.evidence.bad / self.evidence.observed if self.evidence and self.evidence.observed else 1.0
        hopeless = 1 - (1 - share) / 2 ** min(max(self.trips - 1, 0), DOUBLINGS_MAX)
        return BADNESS[self.origin] * hopeless * (0.5 if self.state(now) is State.HALF_OPEN else 1.0)

    def message(self, now: int) -> BreakerMessage:
        """As it is told to others."""
        told = BreakerMessage(type=self.type, state=MESSAGE_STATES[self.state(now)], cause=self.cause)
        if self.since:
            told.since.CopyFrom(timestamp_of(self.since))
        if self.evidence is not None:
            told.evidence.CopyFrom(self.evidence)
        if self.is_open:
            told.open_until.CopyFrom(timestamp_of(self.pause_until))
        return told

    def _forget_probe(self) -> None:
        self.probe = self.due = None
        self.probe_asked = 0

    def _takes_verdict(self, at: int) -> bool:
        return self.due is None and self.is_probed(at)

    def _due_trip(self, finding: Finding, origin: TripCause, at: int, trips: int) -> None:
        until = max(at + cool_down_us(origin, trips), self.retry_at)
        self.due = ModelTripped(
            model=self.model,
            type=self.type,
            cause=finding.cause,
            evidence=finding.evidence,
            open_until=timestamp_of(until),
            trips=trips,
            policy_version=POLICY_VERSION,
        )
        self.due_since = at


def cool_down_us(origin: TripCause, trips: int) -> int:
    """How long a breaker stays open, the more often in a row the longer."""
    pause = PAUSES.get(origin, PAUSES[TRIP_CAUSE_ERROR_RATE])
    return min(pause.first_us * 2 ** min(trips - 1, DOUBLINGS_MAX), pause.most_us)


def probe(model: str, type: TaskType, task_id: str, request_id: str, now: datetime) -> ModelProbed:
    """Lets this one request through."""
    time = PROBE_TIME if type == TASK_TYPE_UNSPECIFIED else QUALITY_PROBE_TIME
    until = timestamp_of(us_of(now + time))
    return ModelProbed(model=model, type=type, task_id=task_id, request_id=request_id, until=until)


def tripped_by_hand(model: str, who: str, now: datetime, duration: timedelta = HAND_PAUSE) -> ModelTripped:
    """Opens a model's breaker for all tasks because somebody says so."""
    return ModelTripped(
        model=model,
        cause=TRIP_CAUSE_OPERATOR,
        open_until=timestamp_of(us_of(now + duration)),
        trips=1,
        policy_version=POLICY_VERSION,
        tripped_by=who,
    )


def recovered_by_hand(model: str, who: str) -> ModelRecovered:
    """Closes all of a model's breakers because somebody says so."""
    return ModelRecovered(model=model, policy_version=POLICY_VERSION, recovered_by=who)
