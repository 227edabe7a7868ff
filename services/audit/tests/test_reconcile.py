"""Every difference between ledger and bill has a class, and only what no accident explains is wrong."""

import json
from typing import Any

import pytest
from audit.commands import comparison_as_json
from audit.ledger import entry, line
from audit.reconcile import Billed, BillUnreadable, Kind, bill_from, compare
from factory.audit.v1 import LedgerLine
from factory.call.v1 import (
    CALL_OUTCOME_ABANDONED,
    CALL_OUTCOME_ERROR,
    CALL_OUTCOME_LOST,
    CALL_OUTCOME_NOT_SENT,
    CALL_OUTCOME_OK,
    CallOutcome,
    Usage,
)
from policy.calls import calls_in
from policy.prices import PriceBook

TASK = "01k9vh2b7c4m8q6x5z3w0t1r2s"
CALL = f"{TASK}.implement-1-1-1"
HUNDRED_AND_TEN = Usage(input_tokens=60, cache_read_tokens=40, output_tokens=8, reasoning_tokens=2)


def ledger_line(log: Any, usage: Usage | None, outcome: CallOutcome | None, http_status: int = 200) -> LedgerLine:
    log.start(TASK)
    if outcome is not None:
        log.end(TASK, usage, outcome, http_status=http_status)
    (call,) = calls_in(log.events).values()
    return line(entry(call, PriceBook()))


def billed(call_id: str = CALL, **tokens: int) -> str:
    return json.dumps({"client_request_id": call_id, "status": "ok", "at": "2026-11-23T12:00:00Z", **tokens}) + "\n"


EXACT = billed(input=60, cache_read=40, output=8, reasoning=2)
OTHER = billed(input=100, output=10)
HUGE = billed(input=4_000, output=10)


@pytest.mark.parametrize(
    ("usage", "outcome", "status", "bill", "kind"),
    [
        (HUNDRED_AND_TEN, CALL_OUTCOME_OK, 200, EXACT, Kind.EQUAL),
        (HUNDRED_AND_TEN, CALL_OUTCOME_OK, 200, OTHER, Kind.DIFFERS),
        (HUNDRED_AND_TEN, CALL_OUTCOME_OK, 200, "", Kind.DIFFERS),
        (HUNDRED_AND_TEN, CALL_OUTCOME_OK, 200, EXACT + EXACT, Kind.REPEATED),
        (None, CALL_OUTCOME_OK, 200, EXACT, Kind.UNKNOWN),
        (None, CALL_OUTCOME_LOST, 0, EXACT, Kind.LOST),
        (None, CALL_OUTCOME_LOST, 0, HUGE, Kind.DIFFERS),
        (None, CALL_OUTCOME_LOST, 0, "", Kind.NEVER_SENT),
        (None, CALL_OUTCOME_ABANDONED, 200, EXACT, Kind.ABANDONED),
        (None, None, 0, EXACT, Kind.IN_FLIGHT),
        (None, None, 0, "", Kind.NEVER_SENT),
        (None, CALL_OUTCOME_NOT_SENT, 0, "", Kind.NEVER_SENT),
        (None, CALL_OUTCOME_NOT_SENT, 0, EXACT, Kind.DIFFERS),
        (None, CALL_OUTCOME_ERROR, 429, billed(), Kind.EQUAL),
        (None, CALL_OUTCOME_ERROR, 502, "", Kind.EQUAL),
        (None, CALL_OUTCOME_ERROR, 500, EXACT, Kind.DIFFERS),
    ],
)
def test_how_a_call_stands_in_ledger_and_bill(
    log: Any, usage: Usage | None, outcome: CallOutcome | None, status: int, bill: str, kind: Kind
):
    (compared,) = compare([ledger_line(log, usage, outcome, status)], bill_from(bill)).calls

    assert compared.kind == kind


def test_a_billed_call_that_the_ledger_does_not_have_is_missing(log: Any):
    other = f"{TASK}.implement-1-1-2"
    comparison = compare(
        [ledger_line(log, HUNDRED_AND_TEN, CALL_OUTCOME_OK)], bill_from(EXACT + billed(other, output=5))
    )

    assert [(call.call_id, call.kind) for call in comparison.wrong] == [(other, Kind.MISSING)]
    assert (comparison.ledger_tokens, comparison.billed_tokens) == (110, 115)


def test_the_difference_names_the_buckets(log: Any):
    comparison = compare([ledger_line(log, HUNDRED_AND_TEN, CALL_OUTCOME_OK)], bill_from(billed(input=100, output=10)))

    assert comparison.calls[0].detail == (
        "input: ledger 60, bill 100, cache_read: ledger 40, bill 0, output: ledger 8, bill 10, reasoning: ledger 2, bill 0"
    )


def test_ledger_and_bill_differ_by_lost_and_abandoned_calls_only(log: Any):
    lost = ledger_line(log, None, CALL_OUTCOME_LOST)
    comparison = compare([lost], bill_from(EXACT))

    assert comparison.wrong == []
    assert comparison_as_json(comparison) == {
        "ledger_tokens": 0,
        "up_to_tokens": 4_000,
        "billed_tokens": 110,
        "calls": 1,
        "counts": {kind.value: int(kind == Kind.LOST) for kind in Kind},
        "agrees": True,
        "not_equal": [
            {
                "call_id": CALL,
                "class": "lost",
                "ledger_tokens": None,
                "up_to_tokens": 4_000,
                "billed_tokens": 110,
                "detail": "",
            }
        ],
    }


def test_a_bill_is_read_for_one_task_and_without_a_last_line_that_was_cut_off():
    text = EXACT + billed("another.implement-1-1-1", input=1) + '{"client_request_id": "cut o'

    assert len(bill_from(text)) == 2
    assert [request.call_id for request in bill_from(text, TASK)] == [CALL]
    assert bill_from("") == []


@pytest.mark.parametrize(
    "row", ["no json", "[]", '{"input": 1}', billed(input=-1).strip(), '{"client_request_id": "a", "input": 1.5}']
)
def test_a_line_that_is_no_bill_is_named(row: str):
    with pytest.raises(BillUnreadable, match="line 2: expected"):
        bill_from(f"{EXACT}{row}\n")


def test_requests_without_a_call_id_are_not_ours_to_explain_away():
    (compared,) = compare([], [Billed("", {"input": 3})]).calls

    assert (compared.kind, compared.billed_tokens) == (Kind.MISSING, 3)
