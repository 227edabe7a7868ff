"""What people are told about a model that is not well, in one sentence. Pure."""

from datetime import datetime, timedelta

from factory.model.v1 import HealthEvidence, TripCause
from google.protobuf.duration_pb2 import Duration

from policy.breaker import Breaker, State
from policy.health_window import moment_of
from policy.routes import type_word


def why(breaker: Breaker, now: int) -> str:
    """Why no task, or one only, is given to this model; "" for one that serves."""
    told = _cause(breaker)
    match breaker.state(now):
        case State.CLOSED:
            return ""
        case State.OPEN:
            return f"paused until {_clock(moment_of(breaker.pause_until), moment_of(now))}: {told}"
        case State.HALF_OPEN if breaker.probe is not None and breaker.is_probed(now):
            return f"being tried again with one request of task {breaker.probe.task_id}: {told}"
        case State.HALF_OPEN:
            return f"to be tried again with the next request: {told}"


def _cause(breaker: Breaker) -> str:
    evidence = breaker.evidence or HealthEvidence()
    share = f"{evidence.bad} of {evidence.observed}"
    match breaker.cause:
        case TripCause.TRIP_CAUSE_ERROR_RATE:
            return f"{share} calls failed ({_reasons(evidence)})"
        case TripCause.TRIP_CAUSE_TIMEOUTS:
            return f"{share} calls were not answered in time"
        case TripCause.TRIP_CAUSE_PAYMENT_REQUIRED:
            return f"its account is empty ({evidence.bad} calls in a row answered 402)"
        case TripCause.TRIP_CAUSE_RATE_LIMITED:
            return f"{share} calls were over its rate limit (429)"
        case TripCause.TRIP_CAUSE_LATENCY:
            slow, usual = _seconds(evidence.latency), _seconds(evidence.baseline)
            return f"1,000 tokens take {slow}, and took {usual} before"
        case TripCause.TRIP_CAUSE_QUALITY:
            return f"{share} results for {type_word(breaker.type)} tasks were bad ({_reasons(evidence)})"
        case TripCause.TRIP_CAUSE_PROBE_FAILED:
            times = f", {breaker.trips} times in a row" if breaker.trips > 1 else ""
            return f"it was tried again and failed ({_reasons(evidence)}){times}"
        case TripCause.TRIP_CAUSE_OPERATOR:
            return f"{breaker.by or 'somebody'} paused it"
        case _:
            return "for a reason that this release does not know"


def _reasons(evidence: HealthEvidence) -> str:
    ordered = sorted(evidence.reasons.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {reason}" for reason, count in ordered) or "no reason told"


def _clock(moment: datetime, now: datetime) -> str:
    same_day = moment - now < timedelta(hours=12)
    return f"{moment:%H:%M:%S} UTC" if same_day else f"{moment:%Y-%m-%d %H:%M} UTC"


def _seconds(duration: Duration) -> str:
    return f"{duration.ToTimedelta().total_seconds():.1f} s"
