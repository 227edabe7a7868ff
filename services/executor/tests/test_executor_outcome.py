"""Each way in which a call can end is a named outcome, and a failure for the conductor to decide on."""

from datetime import UTC, datetime

import pytest
from executor.answer import Answer, Fault, FaultKind
from executor.outcome import ending_of, failure_of, phase_failed, retry_after_s
from factory.call.v1 import CallOutcome
from factory.phase.v1 import PHASE_FAILURE_TIMEOUT, PhaseFailure

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def status(http_status, **words):
    return Answer(fault=Fault(FaultKind.STATUS, http_status=http_status, **words), http_status=http_status)


def in_stream(text="", **words):
    return Answer(text=text, fault=Fault(FaultKind.STREAM_ERROR, http_status=200, **words))


@pytest.mark.parametrize(
    ("answer", "outcome", "failure"),
    [
        (status(429, type="rate_limit_error"), "ERROR", "RATE_LIMITED"),
        (status(429, code="insufficient_quota", type="insufficient_quota"), "ERROR", "PAYMENT_REQUIRED"),
        (status(402, message="Insufficient Balance"), "ERROR", "PAYMENT_REQUIRED"),
        (status(400, message="Your credit balance is too low"), "ERROR", "PAYMENT_REQUIRED"),
        (status(401, type="authentication_error"), "ERROR", "UNAUTHENTICATED"),
        (status(403, type="permission_error"), "ERROR", "UNAUTHENTICATED"),
        (status(400, type="invalid_request_error", message="bad field"), "ERROR", "INVALID_REQUEST"),
        (status(404, type="not_found_error", message="model: gpt-9"), "ERROR", "INVALID_REQUEST"),
        (status(400, code="context_length_exceeded"), "ERROR", "CONTEXT_TOO_LARGE"),
        (status(400, message="prompt is too long: 209 tokens > 200 maximum"), "ERROR", "CONTEXT_TOO_LARGE"),
        (status(400, type="exceed_context_size_error"), "ERROR", "CONTEXT_TOO_LARGE"),
        (status(400, message="The input token count (9) exceeds the maximum"), "ERROR", "CONTEXT_TOO_LARGE"),
        (status(413, type="request_too_large"), "ERROR", "CONTEXT_TOO_LARGE"),
        (status(500, type="api_error"), "ERROR", "SERVER_ERROR"),
        (status(503, message="try again"), "ERROR", "SERVER_ERROR"),
        (status(503, message="The model is overloaded."), "ERROR", "OVERLOADED"),
        (status(529, type="overloaded_error"), "ERROR", "OVERLOADED"),
        (status(504), "ERROR", "TIMEOUT"),
        (in_stream(type="overloaded_error"), "ERROR", "OVERLOADED"),
        (in_stream(text="half an", type="overloaded_error"), "ABANDONED", "OVERLOADED"),
        (in_stream(code="rate_limit_exceeded"), "ERROR", "RATE_LIMITED"),
        (in_stream(code="server_error", message="an error occurred"), "ERROR", "SERVER_ERROR"),
        (Answer(fault=Fault(FaultKind.TIMEOUT)), "ABANDONED", "TIMEOUT"),
        (Answer(text="half", fault=Fault(FaultKind.BROKEN)), "ABANDONED", "BROKEN_STREAM"),
        (Answer(fault=Fault(FaultKind.NOT_SENT)), "NOT_SENT", "UNREACHABLE"),
        (Answer(text="x", finish_reason="length"), "OK", "TRUNCATED"),
        (Answer(text="x", finish_reason="max_tokens"), "OK", "TRUNCATED"),
        (Answer(text="x", finish_reason="max_output_tokens"), "OK", "TRUNCATED"),
        (Answer(text="x", finish_reason="refusal"), "OK", "REFUSED"),
        (Answer(text="", finish_reason="content_filter"), "OK", "REFUSED"),
        (Answer(refusal="I cannot", finish_reason="stop"), "OK", "REFUSED"),
        (Answer(text="x", finish_reason="stop"), "OK", "UNSPECIFIED"),
        (Answer(text="x", finish_reason="end_turn"), "OK", "UNSPECIFIED"),
        (Answer(text="x", finish_reason="completed"), "OK", "UNSPECIFIED"),
    ],
)
def test_every_end_of_a_call_has_a_name(answer, outcome, failure):
    ending = ending_of(answer, now=NOW)

    assert CallOutcome.Name(ending.outcome) == f"CALL_OUTCOME_{outcome}"
    assert PhaseFailure.Name(ending.failure) == f"PHASE_FAILURE_{failure}"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("17", 17.0),
        ("0.25", 0.25),
        ("Sun, 01 Mar 2026 12:01:30 GMT", 90.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("-5", 0.0),
        ("99999999", 86400.0),
        ("soon", None),
        ("nan", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header, seconds):
    assert retry_after_s(header, now=NOW) == seconds


def test_a_rate_limit_tells_the_conductor_how_long_the_provider_wants_to_be_left_alone():
    failed = phase_failed("implement-1-1", ending_of(status(429, retry_after="2.5"), now=NOW))

    assert failed.retry_after.ToMilliseconds() == 2500


def test_a_provider_that_quotes_the_key_in_its_error_does_not_get_it_into_the_log():
    answer = status(401, message="Incorrect API key provided: sk-secret-1234")

    assert "sk-secret" not in ending_of(answer, now=NOW, secret="sk-secret-1234").detail


def test_a_detail_is_one_short_printable_line():
    detail = failure_of("r", PHASE_FAILURE_TIMEOUT, "a\n\x1b[31mb " + "c" * 900).detail

    assert detail.startswith("a [31mb ccc")
    assert len(detail) == 500


def test_a_refusal_is_not_told_in_the_word_for_an_ordinary_end():
    told = {
        reason: ending_of(Answer(refusal="no", finish_reason=reason), now=NOW).detail
        for reason in ("completed", "safety")
    }

    assert told == {"completed": "the model declined (refusal)", "safety": "the model declined (safety)"}
