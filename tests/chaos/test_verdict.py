"""The judge of a storm is not to be fooled: each thing that must not happen is seen when it does."""

from collections.abc import Sequence

from audit.reconcile import Billed, compare
from chaos.verdict import broken_lanes, duplicate_pull_requests, open_calls, repaid, unexplained
from eventlog import Recorded
from eventlog.facts import to_fact
from factory.artifact.v1 import ArtifactRef
from factory.audit.v1 import LedgerLine
from factory.call.v1 import CALL_OUTCOME_ABANDONED, CALL_OUTCOME_LOST, CALL_OUTCOME_OK, ModelCalled, ModelCallStarted
from factory.delivery.v1 import PullRequestOpened
from factory.event.v1 import AnyFact, Event
from factory.phase.v1 import PhaseCompleted, PhaseFailed
from factory.task.v1 import RequestExpired

TASK = "a" * 26
OTHER = "b" * 26
STORE = {
    "bare": {"messages": [{"role": "user", "text": "Do it."}]},
    "complaint": {
        "messages": [{"role": "user", "text": "Do it."}, {"role": "assistant", "text": "Done!"}, {"role": "user"}]
    },
    "cut": {"messages": [{"role": "assistant", "text": "Do\n[…]"}]},
    "answer": {"text": "Done!"},
}


def events(*facts: AnyFact) -> list[Recorded]:
    return [
        Recorded(Event(id=TASK, producer="executor-gpt", facts=[to_fact(fact)]), sequence, b"")
        for sequence, fact in enumerate(facts, 1)
    ]


def started(request: str, number: int, stored: str = "bare") -> ModelCallStarted:
    return ModelCallStarted(
        call_id=f"{TASK}.{request}-{number}", request_id=request, request=ArtifactRef(digest=stored)
    )


def answered(request: str, number: int) -> ModelCalled:
    return ModelCalled(
        call_id=f"{TASK}.{request}-{number}",
        request_id=request,
        outcome=CALL_OUTCOME_OK,
        response=ArtifactRef(digest="answer"),
    )


def lost(request: str, number: int) -> ModelCalled:
    return ModelCalled(call_id=f"{TASK}.{request}-{number}", request_id=request, outcome=CALL_OUTCOME_LOST)


def paid_again(*facts: AnyFact, tokens: int = 100) -> list[tuple[str, str, int]]:
    billed = {fact.call_id: tokens for fact in facts if isinstance(fact, ModelCallStarted)}
    found = repaid(events(*facts), billed, lambda digest: STORE[digest])
    return [
        (one.call_id.removeprefix(f"{TASK}."), one.answered_by.removeprefix(f"{TASK}."), one.tokens) for one in found
    ]


def test_a_question_asked_again_after_its_answer_was_recorded_is_paid_again():
    again = paid_again(started("implement-1-1", 1), answered("implement-1-1", 1), started("implement-1-1", 2))

    assert again == [("implement-1-1-2", "implement-1-1-1", 100)]


def test_a_call_that_complains_about_the_recorded_answer_is_another_question():
    first = started("implement-1-1", 1), answered("implement-1-1", 1)

    assert paid_again(*first, started("implement-1-1", 2, "complaint")) == []
    assert paid_again(*first, started("implement-1-1", 2, "cut")) == []


def test_a_call_that_was_lost_may_be_made_again():
    assert paid_again(started("implement-1-1", 1), lost("implement-1-1", 1), started("implement-1-1", 2)) == []


def test_another_request_for_the_same_phase_is_paid_again_unless_the_answered_one_has_failed_or_expired():
    first, second = (started("review-1-1", 1), answered("review-1-1", 1)), started("review-1-2", 1)

    assert paid_again(*first, second) == [("review-1-2-1", "review-1-1-1", 100)]
    assert paid_again(*first, PhaseFailed(request_id="review-1-1"), second) == []
    assert paid_again(*first, RequestExpired(request_id="review-1-1"), second) == []
    assert paid_again(*first, started("review-2-1", 1)) == []


def test_a_phase_that_is_done_is_not_asked_for_again():
    done = started("review-1-1", 1), answered("review-1-1", 1), PhaseCompleted(request_id="review-1-1")

    assert paid_again(*done, started("review-1-1", 2, "complaint")) == [("review-1-1-2", "review-1-1-1", 100)]


def test_only_lost_and_abandoned_calls_explain_a_difference_between_ledger_and_bill():
    def line(call: str, outcome: int) -> LedgerLine:
        return LedgerLine(call_id=call, outcome=outcome, up_to_tokens=500)  # type: ignore[arg-type]

    ledger = [line("lost", CALL_OUTCOME_LOST), line("broken", CALL_OUTCOME_ABANDONED), line("silent", CALL_OUTCOME_OK)]
    bill = [Billed(call, {"input": 10, "output": 5}) for call in ("lost", "broken", "silent", "nobody's")]

    assert unexplained(compare([*ledger, LedgerLine(call_id="open", up_to_tokens=500)], bill)) == {
        "silent": 15,
        "nobody's": 15,
    }
    in_flight = compare([LedgerLine(call_id="open", up_to_tokens=500)], [Billed("open", {"input": 10})])
    assert unexplained(in_flight) == {"open": 10}


def test_a_branch_or_a_record_too_many_or_too_few_is_seen():
    opened = events(PullRequestOpened(request_id="delivery-1-1"))
    branch = f"factory/{TASK}-title"

    def judged(branches: Sequence[str], records: Sequence[str]) -> tuple[list[str], list[str]]:
        return duplicate_pull_requests(opened, branches, records)

    assert judged([branch], [TASK]) == ([], [])
    assert judged([branch, f"factory/{TASK}-other"], [TASK]) == ([TASK], [])
    assert judged([branch], [TASK, TASK]) == ([TASK], [])
    assert judged([branch, f"factory/{OTHER}-title"], [TASK]) == ([OTHER], [])
    assert judged([branch], []) == ([], [TASK])


def test_a_call_without_an_end_is_seen():
    request = "implement-1-1"

    assert open_calls(events(started(request, 1), lost(request, 1), started(request, 2))) == [f"{TASK}.{request}-2"]


def test_a_gap_in_a_lane_is_seen():
    def event(version: int, before: Recorded | None = None) -> Recorded:
        prev = before.tip.hash if before else b""
        raw = Event(id=TASK, producer="conductor", version=version, prev_hash=prev)
        return Recorded(raw, version, raw.SerializeToString())

    first = event(1)

    assert broken_lanes([first, event(2, first)]) == []
    assert broken_lanes([first, event(3, first)]) == [f"conductor/{TASK} at version 3"]
    assert broken_lanes([first, event(2)]) == [f"conductor/{TASK} at version 2"]
