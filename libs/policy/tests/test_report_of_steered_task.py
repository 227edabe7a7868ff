"""The report of a task whose routing was steered: by people, breakers, deadlines and budgets."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from factory.audit.v1 import TaskReportResponse
from factory.call.v1 import (
    CALL_OUTCOME_ABANDONED,
    CALL_OUTCOME_OK,
    CallOutcome,
    ModelCalled,
    ModelCallStarted,
    Usage,
)
from factory.classification.v1 import TaskClassified
from factory.event.v1 import AnyFact, Event, Fact
from factory.phase.v1 import (
    PHASE_FAILURE_CALLS_SPENT,
    PHASE_FAILURE_RATE_LIMITED,
    PHASE_FAILURE_STOPPED,
    PhaseCompleted,
    PhaseFailed,
    PhaseRequested,
    PhaseRerouted,
    PhaseSkipped,
)
from factory.task.v1 import (
    HOLD_CAUSE_BUDGET,
    HOLD_CAUSE_CAPACITY,
    HOLD_CAUSE_UNSPECIFIED,
    PHASE_KIND_IMPLEMENT,
    PHASE_KIND_REVIEW,
    ROUTE_SOURCE_CUSTOM,
    RULED_OUT_BY_CONFIGURATION,
    RULED_OUT_BY_HEALTH,
    RULED_OUT_BY_UNSPECIFIED,
    SCOPE_FOCUSED,
    TASK_STATE_CANCELLED,
    TASK_STATE_CLASSIFYING,
    TASK_STATE_FAILED,
    TASK_STATE_HELD,
    TASK_STATE_RUNNING,
    TASK_TYPE_API,
    Candidate,
    Receipt,
    RequestExpired,
    RoutingOverridden,
    RuledOutBy,
    TaskCancelled,
    TaskFailed,
    TaskHeld,
    TaskReleased,
    TaskSubmitted,
)
from policy.prices import PriceBook
from policy.report import render_tree, report
from policy.standing import Standing, standing_of

TASK = "01k9vh2b7c4m8q6x5z3w0t1r2s"
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
NAMES = {"claude": "Claude 4.5", "gpt": "GPT-5"}
OPEN = "breaker open since 12:00: 9 of 10 calls failed"
NO_RECEIPT = Receipt()


class Told:
    """A focused task that is about to be implemented, each service on its own lane."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.say("conductor", TaskSubmitted(title="Add an endpoint"))
        self.say("classifier", TaskClassified(type=TASK_TYPE_API, scope=SCOPE_FOCUSED))

    def say(self, producer: str, *facts: AnyFact) -> "Told":
        version = 1 + sum(event.producer == producer for event in self.events)
        event = Event(id=TASK, producer=producer, version=version)
        event.occurred_at.FromDatetime(NOON + timedelta(seconds=len(self.events)))
        for fact in facts:
            arm = next(field for field in Fact.DESCRIPTOR.fields if field.message_type is fact.DESCRIPTOR)
            getattr(event.facts.add(), arm.name).CopyFrom(fact)
        self.events.append(event)
        return self

    def ask(self, model: str, attempt: int, receipt: Receipt = NO_RECEIPT, *, probe: bool = False) -> "Told":
        return self.say(
            "conductor",
            PhaseRequested(
                request_id=f"implement-1-{attempt}",
                phase=PHASE_KIND_IMPLEMENT,
                round=1,
                attempt=attempt,
                model=model,
                receipt=receipt,
                probe=probe,
            ),
        )

    def start(self, model: str, attempt: int) -> "Told":
        fact = ModelCallStarted(**called(model, attempt), max_output_tokens=1_000, input_tokens_estimate=3_000)
        return self.say(f"executor-{model}", fact)

    def end(self, model: str, attempt: int, usage: Usage, outcome: CallOutcome = CALL_OUTCOME_OK) -> "Told":
        fact = ModelCalled(**called(model, attempt), outcome=outcome, usage=usage, http_status=200)
        return self.say(f"executor-{model}", fact)

    def done(self, model: str, attempt: int) -> "Told":
        self.start(model, attempt).end(model, attempt, Usage(input_tokens=900, output_tokens=100))
        return self.say(f"executor-{model}", PhaseCompleted(request_id=f"implement-1-{attempt}"))

    @property
    def report(self) -> TaskReportResponse:
        return report(self.events, PriceBook(), NAMES)

    @property
    def tree(self) -> list[str]:
        return render_tree(self.report).splitlines()[1:]

    @property
    def standing(self) -> Standing:
        return standing_of(self.events)


def called(model: str, attempt: int) -> dict[str, Any]:
    request = f"implement-1-{attempt}"
    names = {"model": model, "provider": "p", "provider_model": f"{model}-1"}
    return {"call_id": f"{TASK}.{request}-1", "request_id": request, "phase": PHASE_KIND_IMPLEMENT, **names}


def because(words: str, *candidates: tuple[str, str, RuledOutBy]) -> Receipt:
    """A receipt that considered these, best first."""
    return Receipt(
        because=words,
        candidates=[
            Candidate(model=model, score=1 - place / 10, ruled_out=why, by=by)
            for place, (model, why, by) in enumerate(candidates)
        ],
    )


def override(model: str = "claude", attempt: int = 1, reason: str = "knows this code") -> RoutingOverridden:
    return RoutingOverridden(
        phase=PHASE_KIND_IMPLEMENT,
        model=model,
        overridden_by="ada",
        reason=reason,
        request_id=f"implement-1-{attempt}",
    )


def test_a_phase_that_was_given_to_another_model_while_it_ran_tells_by_whom_and_stays_uncertain():
    told = Told().ask("gpt", 1).start("gpt", 1).say("conductor", override())
    told.end("gpt", 1, Usage(input_tokens=2_000), CALL_OUTCOME_ABANDONED)
    told.say("executor-gpt", PhaseFailed(request_id="implement-1-1", reason=PHASE_FAILURE_STOPPED))
    told.ask("claude", 2, because("ada has put claude in charge of this phase")).done("claude", 2)

    assert told.tree == [
        "├── GPT-5: 0 tokens, up to 3,000 more (Code implementation)",
        "├── Claude 4.5: 1,000 tokens (Code implementation)",
        "└── Total: 1,000 tokens, up to 3,000 more",
        "    note: GPT-5, Code implementation: attempt 1 stopped: given to claude by ada: knows this code",
        "    note: GPT-5, Code implementation: 1 call: 1 abandoned",
        "    note: GPT-5, Code implementation: up to 3,000 tokens more may be billed",
        "    note: Claude 4.5, Code implementation: 1,000 tokens unpriced",
    ]
    assert told.report.lines[1].reason == "ada has put claude in charge of this phase"
    assert told.standing.state == TASK_STATE_RUNNING


def test_an_answer_that_comes_after_the_override_is_paid_for_and_told_as_stopped():
    told = Told().ask("gpt", 1).start("gpt", 1).say("conductor", override())
    told.end("gpt", 1, Usage(input_tokens=5)).say("executor-gpt", PhaseCompleted(request_id="implement-1-1"))
    told.ask("claude", 2).done("claude", 2)

    assert told.report.total.tokens == 1_005
    assert told.report.lines[0].notes[0] == "attempt 1 stopped: given to claude by ada: knows this code"


def test_an_override_that_came_after_the_answer_has_stopped_nothing():
    told = Told().ask("gpt", 1).done("gpt", 1).say("conductor", override())

    assert list(told.report.lines[0].notes) == ["1,000 tokens unpriced"]


def test_an_override_that_is_taken_back_tells_so():
    told = Told().ask("claude", 1).start("claude", 1).say("conductor", override(model="", reason="")).ask("gpt", 2)

    assert told.report.lines[0].notes[0] == "attempt 1 stopped: ada took an override back"


def test_a_task_that_is_cancelled_while_it_runs_tells_what_was_stopped_and_what_may_be_billed():
    told = Told().ask("gpt", 1).start("gpt", 1).say("conductor", TaskCancelled(cancelled_by="ada"))
    at_once = told.report
    told.end("gpt", 1, Usage(input_tokens=2_000), CALL_OUTCOME_ABANDONED)
    told.say("executor-gpt", PhaseFailed(request_id="implement-1-1", reason=PHASE_FAILURE_STOPPED))

    assert list(at_once.lines[0].notes)[:2] == ["attempt 1 stopped: cancelled by ada", "1 call: 1 in flight"]
    assert told.report.state == TASK_STATE_CANCELLED
    assert told.tree == [
        "├── GPT-5: 0 tokens, up to 3,000 more (Code implementation)",
        "└── Total: 0 tokens, up to 3,000 more",
        "    note: GPT-5, Code implementation: attempt 1 stopped: cancelled by ada",
        "    note: GPT-5, Code implementation: 1 call: 1 abandoned",
        "    note: GPT-5, Code implementation: up to 3,000 tokens more may be billed",
    ]


def test_a_task_whose_deadline_passed_tells_what_was_stopped():
    told = Told().ask("gpt", 1).say("conductor", TaskFailed(reason="its deadline has passed"))
    told.say("executor-gpt", PhaseFailed(request_id="implement-1-1", reason=PHASE_FAILURE_STOPPED))

    assert told.report.state == TASK_STATE_FAILED
    assert list(told.report.notes) == [
        "GPT-5, Code implementation: attempt 1 stopped: the task had failed: its deadline has passed"
    ]


def test_a_phase_whose_first_choice_has_an_open_breaker_goes_to_the_next_and_says_why():
    candidates = (("gpt", OPEN, RULED_OUT_BY_HEALTH), ("claude", "", RULED_OUT_BY_UNSPECIFIED))
    words = f"the routing table names gpt, but gpt: {OPEN}; so claude"
    told = Told().ask("claude", 1, because(words, *candidates)).done("claude", 1)

    assert told.report.lines[0].reason == words
    assert told.tree[2] == f"    note: Claude 4.5, Code implementation: attempt 1 went to claude instead of gpt: {OPEN}"


def test_a_receipt_that_does_not_say_what_ruled_out_the_first_choice_is_completed_from_its_candidates():
    candidates = (("gpt", "not configured", RULED_OUT_BY_CONFIGURATION), ("claude", "", RULED_OUT_BY_UNSPECIFIED))
    told = Told().ask("claude", 1, because("the routing table names gpt", *candidates)).done("claude", 1)

    assert told.report.lines[0].reason == "the routing table names gpt; gpt ruled out: not configured"
    assert list(told.report.lines[0].notes) == ["1,000 tokens unpriced"]


def test_a_receipt_without_a_sentence_tells_what_put_the_model_first():
    told = Told().ask("claude", 1, Receipt(source=ROUTE_SOURCE_CUSTOM)).done("claude", 1)

    assert told.report.lines[0].reason == "a rule of the project names it"


def test_a_phase_that_failed_and_went_to_another_model_gives_the_reason_that_its_receipt_gives():
    rerouted: dict[str, Any] = {"request_id": "implement-1-1", "from_model": "gpt", "to_model": "claude"}
    told = Told().ask("gpt", 1)
    told.say("executor-gpt", PhaseFailed(request_id="implement-1-1", reason=PHASE_FAILURE_RATE_LIMITED))
    told.say("conductor", PhaseRerouted(**rerouted, reason=PHASE_FAILURE_RATE_LIMITED))
    told.ask("claude", 2, because("gpt: rate limited; so claude")).done("claude", 2)

    assert told.report.lines[0].reason == "gpt: rate limited; so claude"
    assert told.standing.state == TASK_STATE_RUNNING


def test_a_model_that_is_asked_as_a_last_resort_is_told_as_such():
    worse = ("claude", "breaker open", RULED_OUT_BY_HEALTH)
    words = "no model that could do this is well; gpt is the least bad"
    told = Told().ask("gpt", 1, because(words, ("gpt", OPEN, RULED_OUT_BY_HEALTH), worse)).done("gpt", 1)

    assert told.report.lines[0].reason == words
    assert told.report.lines[0].notes[0] == f"attempt 1 was a last resort: {OPEN}"


def test_a_request_that_probes_a_model_is_told_as_such():
    told = Told().ask("gpt", 1, probe=True).done("gpt", 1)

    assert told.report.lines[0].notes[0] == "attempt 1 was to show whether the model is well again"


@pytest.mark.parametrize("late", [False, True])
def test_a_request_that_was_not_answered_in_time_has_expired_whatever_comes_later(late: bool):
    told = Told().ask("gpt", 1).say("conductor", RequestExpired(request_id="implement-1-1")).ask("claude", 2)
    if late:
        told.done("gpt", 1)

    assert told.standing.state == TASK_STATE_RUNNING
    assert told.report.notes[0] == "GPT-5, Code implementation: attempt 1 expired: no answer by its deadline"


def test_a_request_whose_reserved_calls_are_spent_says_so():
    told = Told().ask("gpt", 1)
    told.say("executor-gpt", PhaseFailed(request_id="implement-1-1", reason=PHASE_FAILURE_CALLS_SPENT))

    assert told.report.notes[0] == ("GPT-5, Code implementation: attempt 1 failed: the calls reserved for it are spent")


def test_a_task_that_a_budget_holds_waits_and_goes_on_where_it_was():
    why = "implement waits for money: gpt: $0.10 of budget shop-202611 are left"
    told = Told().ask("gpt", 1)
    told.say("executor-gpt", PhaseFailed(request_id="implement-1-1", reason=PHASE_FAILURE_RATE_LIMITED))
    told.say("conductor", TaskHeld(reason=why, cause=HOLD_CAUSE_BUDGET, budget="shop-202611"))
    held, held_notes = told.standing, list(told.report.notes)
    told.say("conductor", TaskReleased(reason="budget shop-202611 has room again", released_by="conductor"))

    assert (held.state, held.hold_cause) == (TASK_STATE_HELD, HOLD_CAUSE_BUDGET)
    assert held_notes[-1] == f"held: {why}"
    assert (told.standing.state, told.standing.hold_cause) == (TASK_STATE_RUNNING, HOLD_CAUSE_UNSPECIFIED)
    assert told.report.notes[-1] == f"held: {why}; released by conductor: budget shop-202611 has room again"


def test_a_request_that_had_not_seen_the_hold_does_not_end_it():
    told = Told().say("conductor", TaskHeld(reason="full", cause=HOLD_CAUSE_CAPACITY)).ask("gpt", 1)

    assert told.standing.state == TASK_STATE_HELD


def test_a_task_that_is_held_again_for_something_else_waits_for_that():
    told = Told().say("conductor", TaskHeld(cause=HOLD_CAUSE_CAPACITY), TaskHeld(cause=HOLD_CAUSE_BUDGET))
    before = told.standing
    told.say("conductor", TaskReleased())

    assert (before.state, before.hold_cause) == (TASK_STATE_HELD, HOLD_CAUSE_BUDGET)
    assert told.standing.state != TASK_STATE_HELD


def test_a_task_that_waits_for_room_is_held_before_it_is_classified():
    told = Told().say("conductor", TaskHeld(reason="full", cause=HOLD_CAUSE_CAPACITY))
    told.say("conductor", TaskReleased(reason="there is room"))

    assert told.standing.state == TASK_STATE_CLASSIFYING


def test_a_review_that_nobody_may_do_any_more_is_told():
    told = Told().say("conductor", PhaseSkipped(phase=PHASE_KIND_REVIEW, round=1, reason="gemini: breaker open"))

    assert list(told.report.notes) == ["Code review left out: gemini: breaker open"]
