"""What the end of a call means: for the ledger (its outcome) and for the phase (why it failed).

Pure. It reads what the wire told and never retries anything: that is the conductor's decision.
"""

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from factory.call.v1 import (
    CALL_OUTCOME_ABANDONED,
    CALL_OUTCOME_ERROR,
    CALL_OUTCOME_NOT_SENT,
    CALL_OUTCOME_OK,
    CallOutcome,
)
from factory.phase.v1 import (
    PHASE_FAILURE_BROKEN_STREAM,
    PHASE_FAILURE_CONTEXT_TOO_LARGE,
    PHASE_FAILURE_INVALID_REQUEST,
    PHASE_FAILURE_OVERLOADED,
    PHASE_FAILURE_PAYMENT_REQUIRED,
    PHASE_FAILURE_RATE_LIMITED,
    PHASE_FAILURE_REFUSED,
    PHASE_FAILURE_SERVER_ERROR,
    PHASE_FAILURE_STOPPED,
    PHASE_FAILURE_TIMEOUT,
    PHASE_FAILURE_TRUNCATED,
    PHASE_FAILURE_UNAUTHENTICATED,
    PHASE_FAILURE_UNREACHABLE,
    PhaseFailed,
    PhaseFailure,
)

from executor.answer import Answer, Fault, FaultKind

DETAIL_CHARACTERS_MAX = 500
RETRY_AFTER_S_MAX = 24 * 3600.0
OVERLOADED = 529

_TRUNCATED = {"length", "max_tokens", "max_output_tokens", "model_context_window_exceeded"}
_REFUSED = {"refusal", "content_filter", "safety", "recitation", "prohibited_content", "blocklist"}
_QUOTA = re.compile(r"insufficient[_ ](quota|balance|funds)|credit balance|billing_(error|hard_limit)|payment", re.I)
_OVERLOADED = re.compile(r"overloaded", re.I)
_CONTEXT = re.compile(
    r"context[_ ](length|window|size)|prompt is too long|exceed_context_size|request_too_large"
    r"|input token count.{0,40}exceeds|maximum context",
    re.I,
)
_RATE = re.compile(r"rate[_ ]limit|too_many_requests", re.I)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call ended; `failure` is unspecified when the answer can be read on."""

    outcome: CallOutcome
    failure: PhaseFailure = PhaseFailure.PHASE_FAILURE_UNSPECIFIED
    retry_after_s: float | None = None
    detail: str = ""


def ending_of(answer: Answer, *, now: datetime, secret: str = "") -> Ending:
    """What the end of this call means; `secret` is the key, which a provider's error message may quote."""
    if answer.fault is not None:
        ending = _of_fault(answer.fault, answer, now)
        return replace(ending, detail=ending.detail.replace(secret, "[key]")) if secret else ending
    reason = answer.finish_reason.lower()
    if reason in _REFUSED or (answer.refusal and not answer.text):
        # OpenAI ends a refusal as it ends any answer: "completed" would say the opposite.
        said = reason if reason in _REFUSED else "refusal"
        return Ending(CALL_OUTCOME_OK, PHASE_FAILURE_REFUSED, detail=f"the model declined ({said})")
    if reason in _TRUNCATED:
        return Ending(CALL_OUTCOME_OK, PHASE_FAILURE_TRUNCATED, detail=f"the answer ended with {reason!r}")
    return Ending(CALL_OUTCOME_OK)


def phase_failed(request_id: str, ending: Ending) -> PhaseFailed:
    """The fact that says so."""
    failed = failure_of(request_id, ending.failure, ending.detail)
    if ending.retry_after_s is not None:
        failed.retry_after.FromMilliseconds(round(ending.retry_after_s * 1000))
    return failed


def failure_of(request_id: str, reason: PhaseFailure, detail: str) -> PhaseFailed:
    """A failure for people to read: one line, short, without control characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in detail).split())
    return PhaseFailed(request_id=request_id, reason=reason, detail=line[:DETAIL_CHARACTERS_MAX])


def retry_after_s(header: str, *, now: datetime) -> float | None:
    """Seconds to wait by a `Retry-After` header, which holds seconds or a date; None when it says neither."""
    try:
        seconds = float(header)
    except ValueError:
        try:
            moment = parsedate_to_datetime(header)
        except (ValueError, TypeError):
            return None
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now.timestamp()
    if seconds != seconds:
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_S_MAX)


def _of_fault(fault: Fault, answer: Answer, now: datetime) -> Ending:
    wait = retry_after_s(fault.retry_after, now=now) if fault.retry_after else None
    match fault.kind:
        case FaultKind.NOT_SENT:
            return Ending(CALL_OUTCOME_NOT_SENT, PHASE_FAILURE_UNREACHABLE, detail=f"not reached: {fault.message}")
        case FaultKind.TIMEOUT:
            return Ending(CALL_OUTCOME_ABANDONED, PHASE_FAILURE_TIMEOUT, detail=f"no answer in time: {fault.message}")
        case FaultKind.STOPPED:
            return Ending(CALL_OUTCOME_ABANDONED, PHASE_FAILURE_STOPPED, detail=f"stopped: {fault.message}")
        case FaultKind.BROKEN:
            return Ending(CALL_OUTCOME_ABANDONED, PHASE_FAILURE_BROKEN_STREAM, detail=f"broke off: {fault.message}")
        case FaultKind.STREAM_ERROR:
            # The provider may bill what it had said before it gave up: not known before reconciliation.
            begun = bool(answer.text or answer.raw_usage)
            outcome = CALL_OUTCOME_ABANDONED if begun else CALL_OUTCOME_ERROR
            return Ending(outcome, _reason(fault), wait, f"error within the stream: {_words(fault)}")
        case FaultKind.STATUS:
            return Ending(CALL_OUTCOME_ERROR, _reason(fault), wait, f"answered {fault.http_status}: {_words(fault)}")


def _reason(fault: Fault) -> PhaseFailure:
    """The first row that fits; what a provider says in words outweighs the status it says it with."""
    words, status = f"{fault.type} {fault.code} {fault.message}", fault.http_status
    rows = (
        (status == 402 or _QUOTA.search(words), PHASE_FAILURE_PAYMENT_REQUIRED),
        (status == OVERLOADED or _OVERLOADED.search(words), PHASE_FAILURE_OVERLOADED),
        (status == 413 or (status in (0, 200, 400, 422) and _CONTEXT.search(words)), PHASE_FAILURE_CONTEXT_TOO_LARGE),
        (status in (401, 403) or fault.type == "authentication_error", PHASE_FAILURE_UNAUTHENTICATED),
        (status == 429 or _RATE.search(f"{fault.type} {fault.code}"), PHASE_FAILURE_RATE_LIMITED),
        (status in (408, 504), PHASE_FAILURE_TIMEOUT),
        (status >= 500 or (status < 400 and fault.kind is FaultKind.STREAM_ERROR), PHASE_FAILURE_SERVER_ERROR),
    )
    return next((reason for fits, reason in rows if fits), PHASE_FAILURE_INVALID_REQUEST)


def _words(fault: Fault) -> str:
    return " ".join(part for part in (fault.type, fault.code, fault.message) if part) or "no reason given"
