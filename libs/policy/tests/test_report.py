"""The token report: nothing that cost money is hidden, and whatever the order of facts, it says the same."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from factory.audit.v1 import TaskReportResponse
from factory.call.v1 import (
    CALL_OUTCOME_ABANDONED,
    CALL_OUTCOME_ERROR,
    CALL_OUTCOME_LOST,
    CALL_OUTCOME_NOT_SENT,
    CALL_OUTCOME_OK,
    CallOutcome,
    ModelCalled,
    ModelCallStarted,
    Usage,
)
from factory.classification.v1 import TaskClassified
from factory.event.v1 import AnyFact, Event, Fact
from factory.phase.v1 import (
    PHASE_FAILURE_POISON,
    PHASE_FAILURE_RATE_LIMITED,
    REWORK_CAUSE_MODEL_REVIEW,
    PhaseFailed,
    PhaseRequested,
    PhaseRerouted,
    ReworkRequested,
)
from factory.price.v1 import PricePublished, PriceTier
from factory.task.v1 import (
    PHASE_KIND_DESIGN,
    PHASE_KIND_IMPLEMENT,
    PHASE_KIND_REFACTOR,
    PHASE_KIND_REVIEW,
    SCOPE_FEATURE,
    SCOPE_FOCUSED,
    TASK_STATE_COMPLETED,
    TASK_STATE_PARKED,
    TASK_STATE_RUNNING,
    TASK_TYPE_API,
    TASK_TYPE_ARCHITECTURE,
    Candidate,
    PhaseKind,
    PlannedPhase,
    TaskCompleted,
    TaskPlanned,
    TaskSubmitted,
)
from policy.prices import PriceBook
from policy.report import phase_label, render_tree, report

TASK = "01k9vh2b7c4m8q6x5z3w0t1r2s"
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
NAMES = {"claude": "Claude 4.5", "gpt": "GPT-5", "gemini": "Gemini 3 Pro", "deepseek": "DeepSeek"}
WORDS = {
    PHASE_KIND_DESIGN: "design",
    PHASE_KIND_IMPLEMENT: "implement",
    PHASE_KIND_REVIEW: "review",
    PHASE_KIND_REFACTOR: "refactor",
}
# One dollar for a million tokens of input, two for output.
TIERS = [PriceTier(input_pico_usd=1_000_000, output_pico_usd=2_000_000)]


class Told:
    """Events as the services would append them, each on its own lane."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def say(self, producer: str, *facts: AnyFact) -> "Told":
        version = 1 + sum(event.producer == producer for event in self.events)
        event = Event(id=TASK, producer=producer, version=version)
        event.occurred_at.FromDatetime(NOON + timedelta(seconds=len(self.events)))
        for fact in facts:
            arm = next(field for field in Fact.DESCRIPTOR.fields if field.message_type is fact.DESCRIPTOR)
            getattr(event.facts.add(), arm.name).CopyFrom(fact)
        self.events.append(event)
        return self

    def ask(self, phase: PhaseKind, model: str, round_: int = 1, attempt: int = 1) -> "Told":
        request_id = f"{WORDS[phase]}-{round_}-{attempt}"
        return self.say(
            "conductor",
            PhaseRequested(request_id=request_id, phase=phase, round=round_, attempt=attempt, model=model),
        )

    def start(self, phase: PhaseKind, model: str, request: str, n: int = 1) -> "Told":
        return self.say(
            f"executor-{model}",
            ModelCallStarted(
                call_id=f"{TASK}.{request}-{n}",
                request_id=request,
                phase=phase,
                model=model,
                provider="p",
                provider_model=f"{model}-1",
                max_output_tokens=1_000,
                input_tokens_estimate=3_000,
            ),
        )

    def end(
        self,
        phase: PhaseKind,
        model: str,
        request: str,
        usage: Usage | None,
        outcome: CallOutcome = CALL_OUTCOME_OK,
        n: int = 1,
        http_status: int = 200,
    ) -> "Told":
        called = ModelCalled(
            call_id=f"{TASK}.{request}-{n}",
            request_id=request,
            phase=phase,
            model=model,
            provider="p",
            provider_model=f"{model}-1-dated",
            outcome=outcome,
            usage=usage,
            http_status=http_status,
        )
        called.latency.FromTimedelta(timedelta(seconds=1.5))
        return self.say(f"executor-{model}", called)

    def phase(self, phase: PhaseKind, model: str, tokens: int, round_: int = 1) -> "Told":
        request = f"{WORDS[phase]}-{round_}-1"
        usage = Usage(input_tokens=tokens - 100, output_tokens=100)
        self.ask(phase, model, round_).start(phase, model, request)
        return self.end(phase, model, request, usage)


def submitted() -> Told:
    told = Told().say("conductor", TaskSubmitted(title="Create user authentication endpoint"))
    return told.say("classifier", TaskClassified(type=TASK_TYPE_API, scope=SCOPE_FEATURE))


def feature() -> Told:
    told = submitted()
    told.phase(PHASE_KIND_DESIGN, "claude", 2_400)
    told.phase(PHASE_KIND_IMPLEMENT, "gpt", 8_200)
    told.phase(PHASE_KIND_REVIEW, "gemini", 1_800)
    told.phase(PHASE_KIND_REFACTOR, "deepseek", 900)
    return told.say("conductor", TaskCompleted(pull_request_url="https://example.org/1"))


def book(*models: str) -> PriceBook:
    return PriceBook(
        (PricePublished(version="list 1", provider="p", provider_model=f"{model}-1", tiers=TIERS), NOON)
        for model in models
    )


def read(told: Told, prices: PriceBook | None = None) -> TaskReportResponse:
    return report(told.events, prices or book(*NAMES), NAMES)


def test_a_feature_reads_as_one_line_per_phase_and_model():
    assert render_tree(read(feature())) == (
        'Task: "Create user authentication endpoint"\n'
        "├── Claude 4.5: 2,400 tokens (Architecture design)\n"
        "├── GPT-5: 8,200 tokens (Code implementation)\n"
        "├── Gemini 3 Pro: 1,800 tokens (Architecture review)\n"
        "├── DeepSeek: 900 tokens (Code refactoring)\n"
        "└── Total: 13,300 tokens"
    )


def test_cost_time_and_reason_stand_beside_each_line_where_asked():
    told = submitted().say(
        "conductor",
        TaskPlanned(
            phases=[
                PlannedPhase(
                    phase=PHASE_KIND_DESIGN,
                    model="claude",
                    candidates=[Candidate(model="claude", score=1), Candidate(model="gpt", score=0.5)],
                ),
                PlannedPhase(
                    phase=PHASE_KIND_IMPLEMENT,
                    model="claude",
                    candidates=[Candidate(model="gpt", ruled_out="not configured"), Candidate(model="claude")],
                ),
            ]
        ),
    )
    told.phase(PHASE_KIND_DESIGN, "claude", 2_400).phase(PHASE_KIND_IMPLEMENT, "claude", 8_200)

    assert render_tree(read(told), long=True) == (
        'Task: "Create user authentication endpoint"\n'
        "├── Claude 4.5: 2,400 tokens (Architecture design) · $0.0025 · 1.5 s · first choice of the table\n"
        "├── Claude 4.5: 8,200 tokens (Code implementation) · $0.0083 · 1.5 s · gpt ruled out: not configured\n"
        "└── Total: 10,600 tokens · $0.011"
    )


def test_rework_is_a_line_of_its_own_with_its_cause():
    told = submitted().phase(PHASE_KIND_IMPLEMENT, "gpt", 8_200).phase(PHASE_KIND_REVIEW, "gemini", 1_800)
    told.say("conductor", ReworkRequested(phase=PHASE_KIND_IMPLEMENT, round=2, cause=REWORK_CAUSE_MODEL_REVIEW))
    told.phase(PHASE_KIND_IMPLEMENT, "gpt", 5_000, round_=2).phase(PHASE_KIND_REVIEW, "gemini", 1_000, round_=2)
    answer = read(told)

    assert [line.label for line in answer.lines] == [
        "Code implementation",
        "Architecture review",
        "Code implementation (rework 1, after model review)",
        "Architecture review (rework 1)",
    ]
    assert "├── GPT-5: 5,000 tokens (Code implementation, rework 1)\n" in render_tree(answer)
    assert answer.total.tokens == 16_000


def test_a_retried_call_is_told_and_its_line_counts_both():
    told = submitted().ask(PHASE_KIND_IMPLEMENT, "gpt").start(PHASE_KIND_IMPLEMENT, "gpt", "implement-1-1")
    told.end(PHASE_KIND_IMPLEMENT, "gpt", "implement-1-1", None, CALL_OUTCOME_ERROR, http_status=429)
    told.say("executor-gpt", PhaseFailed(request_id="implement-1-1", reason=PHASE_FAILURE_RATE_LIMITED))
    told.ask(PHASE_KIND_IMPLEMENT, "gpt", attempt=2).start(PHASE_KIND_IMPLEMENT, "gpt", "implement-1-2")
    told.end(PHASE_KIND_IMPLEMENT, "gpt", "implement-1-2", Usage(input_tokens=7, output_tokens=1))
    answer = read(told)

    assert [(line.amount.tokens, line.amount.calls, list(line.notes)) for line in answer.lines] == [
        (8, 2, ["attempt 1 failed: rate limited", "2 calls: 1 failed (HTTP 429), 1 answered"])
    ]
    assert "note: GPT-5, Code implementation: attempt 1 failed: rate limited" in render_tree(answer)


def test_a_reroute_gives_the_other_model_a_line_that_says_why():
    told = submitted().ask(PHASE_KIND_IMPLEMENT, "gpt").start(PHASE_KIND_IMPLEMENT, "gpt", "implement-1-1")
    told.end(PHASE_KIND_IMPLEMENT, "gpt", "implement-1-1", None, CALL_OUTCOME_ERROR, http_status=429)
    told.say(
        "conductor",
        PhaseRerouted(
            request_id="implement-1-1", from_model="gpt", to_model="claude", reason=PHASE_FAILURE_RATE_LIMITED
        ),
    )
    told.ask(PHASE_KIND_IMPLEMENT, "claude", attempt=2).start(PHASE_KIND_IMPLEMENT, "claude", "implement-1-2")
    told.end(PHASE_KIND_IMPLEMENT, "claude", "implement-1-2", Usage(input_tokens=5))
    answer = read(told)

    assert [(line.model_name, line.amount.tokens, line.reason) for line in answer.lines] == [
        ("GPT-5", 0, ""),
        ("Claude 4.5", 5, "rerouted from gpt: rate limited"),
    ]


def test_a_phase_that_failed_before_any_call_is_a_note():
    told = submitted().ask(PHASE_KIND_IMPLEMENT, "gpt")
    told.say("executor-gpt", PhaseFailed(request_id="implement-1-1", reason=PHASE_FAILURE_POISON))
    answer = read(told)

    assert list(answer.lines) == []
    assert list(answer.notes) == ["GPT-5, Code implementation: attempt 1 failed: poison"]


def one_call(usage: Usage | None, outcome: CallOutcome, http_status: int = 200) -> TaskReportResponse:
    told = submitted().ask(PHASE_KIND_IMPLEMENT, "gpt").start(PHASE_KIND_IMPLEMENT, "gpt", "implement-1-1")
    told.end(PHASE_KIND_IMPLEMENT, "gpt", "implement-1-1", usage, outcome, http_status=http_status)
    return read(told)


# Bound of a call: 3,000 estimated input at $1, 1,000 output at $2 a million.
@pytest.mark.parametrize(
    ("usage", "outcome", "status", "exact", "up_to", "up_to_cost", "unknown"),
    [
        (Usage(input_tokens=10, output_tokens=5), CALL_OUTCOME_OK, 200, 15, 0, "0", 0),
        (Usage(input_tokens=10), CALL_OUTCOME_ERROR, 200, 10, 0, "0", 0),
        (None, CALL_OUTCOME_OK, 200, 0, 0, "0", 1),
        (Usage(), CALL_OUTCOME_OK, 200, 0, 0, "0", 1),
        (Usage(input_tokens=2**63), CALL_OUTCOME_OK, 200, 0, 0, "0", 1),
        (None, CALL_OUTCOME_ERROR, 500, 0, 0, "0", 0),
        (None, CALL_OUTCOME_ERROR, 200, 0, 0, "0", 1),
        (None, CALL_OUTCOME_NOT_SENT, 0, 0, 0, "0", 0),
        (None, CALL_OUTCOME_LOST, 0, 0, 4_000, "5000000000", 0),
        (None, CALL_OUTCOME_ABANDONED, 200, 0, 4_000, "5000000000", 0),
        (Usage(input_tokens=10, output_tokens=5), CALL_OUTCOME_ABANDONED, 200, 0, 1_010, "2010000000", 0),
        (Usage(output_tokens=1_200), CALL_OUTCOME_ABANDONED, 200, 0, 4_200, "5400000000", 0),
    ],
)
def test_what_a_call_amounts_to_depends_on_how_it_ended(
    usage: Usage | None, outcome: CallOutcome, status: int, exact: int, up_to: int, up_to_cost: str, unknown: int
):
    total = one_call(usage, outcome, status).total

    assert (total.tokens, total.uncertain_tokens, total.unknown_calls) == (exact, up_to, unknown)
    assert total.uncertain_cost_pico_usd == up_to_cost
    assert total.calls == 1


def test_a_lost_call_shows_as_up_to_and_never_inside_the_total():
    answer = one_call(None, CALL_OUTCOME_LOST)

    assert render_tree(answer).splitlines()[1:] == [
        "├── GPT-5: 0 tokens, up to 4,000 more (Code implementation)",
        "└── Total: 0 tokens, up to 4,000 more",
        "    note: GPT-5, Code implementation: 1 call: 1 lost",
        "    note: GPT-5, Code implementation: up to 4,000 tokens more may be billed",
    ]


def test_a_call_in_flight_is_bounded_too():
    told = submitted().ask(PHASE_KIND_IMPLEMENT, "gpt").start(PHASE_KIND_IMPLEMENT, "gpt", "implement-1-1")

    assert read(told).total.uncertain_tokens == 4_000
    assert read(told).lines[0].notes[0] == "1 call: 1 in flight"


@pytest.mark.parametrize("late", [False, True])
def test_an_end_that_knows_its_usage_wins_over_lost_whatever_the_order(late: bool):
    told = submitted().ask(PHASE_KIND_IMPLEMENT, "gpt").start(PHASE_KIND_IMPLEMENT, "gpt", "implement-1-1")
    ends = [(None, CALL_OUTCOME_LOST), (Usage(input_tokens=10, output_tokens=5), CALL_OUTCOME_OK)]
    for usage, outcome in ends if late else reversed(ends):
        told.end(PHASE_KIND_IMPLEMENT, "gpt", "implement-1-1", usage, outcome)

    assert (read(told).total.tokens, read(told).total.uncertain_tokens, read(told).total.calls) == (15, 0, 1)


def test_of_several_whole_answers_the_last_counts():
    told = submitted().start(PHASE_KIND_IMPLEMENT, "gpt", "implement-1-1")
    for tokens in (10, 20):
        told.end(PHASE_KIND_IMPLEMENT, "gpt", "implement-1-1", Usage(input_tokens=tokens))

    assert read(told).total.tokens == 20


def test_tokens_without_a_price_are_counted_apart():
    answer = read(feature(), book("claude", "gpt", "gemini"))

    assert (answer.total.tokens, answer.total.unpriced_tokens) == (13_300, 900)
    assert (
        render_tree(answer, long=True)
        .splitlines()[4]
        .startswith("├── DeepSeek: 900 tokens (Code refactoring) · 900 tokens unpriced")
    )


def test_a_call_is_priced_by_the_model_that_was_asked_not_by_the_name_in_the_answer():
    assert one_call(Usage(input_tokens=10), CALL_OUTCOME_OK).total.cost_pico_usd == "10000000"


def test_order_and_repetition_of_events_change_nothing():
    told = feature()
    expected = read(told)
    shuffler = random.Random(7)
    for _ in range(20):
        mixed = [*told.events, *told.events[::3]]
        shuffler.shuffle(mixed)

        assert report(mixed, book(*NAMES), NAMES) == expected


def test_the_state_is_what_the_conductor_said_last():
    assert read(submitted().ask(PHASE_KIND_DESIGN, "claude")).state == TASK_STATE_RUNNING
    assert read(feature()).state == TASK_STATE_COMPLETED
    assert read(feature()).ended_at.ToDatetime(tzinfo=UTC) == NOON + timedelta(seconds=14)


def test_a_fact_of_unknown_kind_parks_a_task_and_leaves_an_ended_one_as_it_is():
    running, ended = submitted(), feature()
    for told in (running, ended):
        told.say("conductor").events[-1].facts.append(Fact())

    assert read(running).state == TASK_STATE_PARKED
    assert read(ended).state == TASK_STATE_COMPLETED


def test_a_review_of_code_is_called_so():
    assert phase_label(PHASE_KIND_REVIEW, TASK_TYPE_API, SCOPE_FOCUSED) == "Code review"
    assert phase_label(PHASE_KIND_REVIEW, TASK_TYPE_ARCHITECTURE, SCOPE_FOCUSED) == "Architecture review"
    assert phase_label(PHASE_KIND_REVIEW, TASK_TYPE_API, SCOPE_FEATURE) == "Architecture review"


def test_a_title_cannot_draw_lines_of_its_own():
    told = Told().say("conductor", TaskSubmitted(title="x\n└── Total: 0 tokens\x1b[2J"))

    assert render_tree(read(told)) == 'Task: "x └── Total: 0 tokens [2J"\n└── Total: 0 tokens'
