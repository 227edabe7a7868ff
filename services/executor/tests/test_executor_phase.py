"""What the executor does next, and that two workers on one request never pay for what is already on record."""

from collections.abc import Iterator

import pytest
from eventlog import to_fact
from executor.answer import Question
from executor.outcome import failure_of
from executor.phase import (
    COMPLAINTS_MAX,
    LOST_MAX,
    Ask,
    Hopeless,
    Judge,
    Judgement,
    Report,
    Request,
    Settled,
    StandBack,
    Unusable,
    Usable,
    call_id,
    given_up,
    lost_end,
    next_step,
    request_of,
    stopped,
    with_call,
)
from factory.artifact.v1 import ArtifactRef
from factory.call.v1 import (
    CALL_OUTCOME_ERROR,
    CALL_OUTCOME_LOST,
    CALL_OUTCOME_OK,
    ModelCalled,
    ModelCallStarted,
    Usage,
)
from factory.event.v1 import AnyFact, Event
from factory.phase.v1 import (
    PHASE_FAILURE_BROKEN_STREAM,
    PHASE_FAILURE_CALLS_SPENT,
    PHASE_FAILURE_MALFORMED,
    PHASE_FAILURE_POISON,
    PHASE_FAILURE_SERVER_ERROR,
    PhaseCompleted,
    PhaseFailed,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from policy.calls import calls_in

TASK, REQUEST = "t", "implement-1-1"
RESULT = PhaseCompleted(request_id=REQUEST, change_digest="c")
FAILED = PhaseFailed(request_id=REQUEST, reason=PHASE_FAILURE_SERVER_ERROR)


def start(number: int) -> ModelCallStarted:
    return ModelCallStarted(call_id=call_id(TASK, REQUEST, number), request_id=REQUEST, model="gpt")


def answered(number: int) -> ModelCalled:
    return ModelCalled(
        call_id=call_id(TASK, REQUEST, number),
        request_id=REQUEST,
        outcome=CALL_OUTCOME_OK,
        response=ArtifactRef(digest=f"answer-{number}"),
        usage=Usage(input_tokens=100 + number, output_tokens=number),
    )


def faulted(number: int) -> ModelCalled:
    return ModelCalled(call_id=call_id(TASK, REQUEST, number), request_id=REQUEST, outcome=CALL_OUTCOME_ERROR)


def lane(*facts: AnyFact) -> Request:
    return request_of(facts, REQUEST)


BAD = Unusable("answer", "it holds no edit")


def test_a_new_request_is_asked_once():
    assert next_step(lane(), {}) == Ask(1)


def test_a_start_without_an_end_is_booked_lost_before_the_next_call():
    assert next_step(lane(start(1)), {}) == Ask(2, lost=(lost_end(start(1)),))


def test_a_call_that_somebody_else_is_making_is_waited_for():
    assert next_step(lane(start(1)), {}, {start(1).call_id}) == StandBack((start(1).call_id,))


def test_a_recorded_answer_is_read_and_not_asked_for_again():
    request = lane(start(1), answered(1))

    step = next_step(request, {})

    assert step == Judge(request.calls[0])
    assert next_step(request, {1: Usable(RESULT)}) == Report((RESULT,))


def test_an_answer_that_was_booked_lost_and_came_after_all_counts():
    request = lane(start(1), lost_end(start(1)), start(2), answered(1))

    assert next_step(request, {}, {start(2).call_id}) == Judge(request.calls[0])
    assert next_step(request, {1: Usable(RESULT)}, {start(2).call_id}) == Report((RESULT,))


def test_a_lost_that_is_told_after_the_answer_changes_nothing():
    assert lane(start(1), answered(1), lost_end(start(1))).calls[0].ended == answered(1)


def test_a_model_is_told_what_was_wrong_and_asked_again_until_the_complaints_are_used_up():
    facts: list[AnyFact] = []
    for number in range(1, COMPLAINTS_MAX + 2):
        facts += [start(number), answered(number)]
    judged: dict[int, Judgement] = dict.fromkeys(range(1, COMPLAINTS_MAX + 1), BAD)

    asked_again = next_step(lane(*facts[:-2]), judged)
    given_up_on = next_step(lane(*facts), judged | {COMPLAINTS_MAX + 1: BAD})

    assert asked_again == Ask(COMPLAINTS_MAX + 1, exchanges=(BAD,) * COMPLAINTS_MAX)
    assert isinstance(given_up_on, Report)
    assert given_up_on.facts == (
        failure_of(REQUEST, PHASE_FAILURE_MALFORMED, "3 answers could not be used; the last: it holds no edit"),
    )


def test_a_request_whose_calls_keep_getting_lost_has_failed():
    facts: list[AnyFact] = []
    for number in range(1, LOST_MAX + 2):
        facts += [start(number), lost_end(start(number))]

    step = next_step(lane(*facts), {})

    assert isinstance(next_step(lane(*facts[:-2]), {}), Ask)
    assert isinstance(step, Report)
    assert isinstance(step.facts[-1], PhaseFailed)
    assert step.facts[-1].reason == PHASE_FAILURE_POISON


def test_the_failure_of_a_call_that_was_followed_by_another_does_not_end_the_request():
    request = lane(start(1), lost_end(start(1)), start(2), faulted(1))

    assert next_step(request, {1: Hopeless(FAILED)}, {start(2).call_id}) == StandBack((start(2).call_id,))


def test_an_end_without_an_answer_and_without_a_result_is_a_failure_all_the_same():
    step = next_step(lane(start(1), faulted(1)), {})

    assert isinstance(step, Report)
    assert isinstance(step.facts[0], PhaseFailed)
    assert step.facts[0].reason == PHASE_FAILURE_BROKEN_STREAM


def test_a_request_that_has_its_result_is_left_alone():
    assert next_step(lane(start(1), answered(1), RESULT), {}) == Settled()


def test_facts_of_other_requests_are_none_of_ours():
    other = ModelCallStarted(call_id="t.design-1-1-1", request_id="design-1-1")

    assert lane(other, PhaseCompleted(request_id="design-1-1")) == Request(REQUEST)


def test_a_request_that_cannot_be_asked_still_books_what_was_begun():
    assert given_up(lane(start(1)), FAILED) == (lost_end(start(1)), FAILED)


def test_a_request_that_is_wanted_no_more_is_not_asked_again_and_books_what_was_begun():
    stopped_now = stopped(REQUEST)

    assert next_step(lane(), {}, is_wanted=False) == Report((stopped_now,))
    assert next_step(lane(start(1)), {}, is_wanted=False) == Report((lost_end(start(1)), stopped_now))
    assert next_step(lane(start(1), answered(1)), {1: BAD}, is_wanted=False) == Report((stopped_now,))


def test_a_request_that_is_wanted_no_more_does_not_wait_for_a_call_that_somebody_else_stops():
    assert next_step(lane(start(1)), {}, {start(1).call_id}, is_wanted=False) == Report((stopped(REQUEST),))


def test_an_answer_that_was_paid_for_is_recorded_though_nobody_wants_it_any_more():
    request = lane(start(1), answered(1))

    assert next_step(request, {}, is_wanted=False) == Judge(request.calls[0])
    assert next_step(request, {1: Usable(RESULT)}, is_wanted=False) == Report((RESULT,))
    assert next_step(request, {1: Hopeless(FAILED)}, is_wanted=False) == Report((FAILED,))


def test_a_call_that_was_lost_counts_among_those_that_were_reserved():
    spent = next_step(lane(start(1), lost_end(start(1)), start(2)), {}, calls_max=2)

    assert next_step(lane(start(1)), {}, calls_max=2) == Ask(2, lost=(lost_end(start(1)),))
    detail = "2 calls were made, 2 of them lost; 2 were reserved"
    assert spent == Report((lost_end(start(2)), failure_of(REQUEST, PHASE_FAILURE_CALLS_SPENT, detail)))


def test_a_model_whose_answers_cannot_be_used_has_failed_for_that_and_not_for_want_of_calls():
    step = next_step(lane(start(1), answered(1)), {1: BAD}, calls_max=1)

    detail = "no more calls are reserved, and 1 answer could not be used; the last: it holds no edit"
    assert step == Report((failure_of(REQUEST, PHASE_FAILURE_MALFORMED, detail),))


class World:
    """One lane with optimistic concurrency, and a provider that keeps its own bill."""

    def __init__(self, answers: list[str]) -> None:
        self.events: list[list[AnyFact]] = []
        self.bill: list[str] = []
        self.answers = answers
        self.given: dict[str, str] = {}
        self.patience: Iterator[bool] = iter(())
        self.apart: Iterator[bool] = iter(())
        self.reads: Iterator[bool] = iter(())
        self.calls_max = 0
        self.is_wanted = True

    def append(self, facts: list[AnyFact], *, after: int) -> bool:
        if len(self.events) != after:
            return False
        self.events.append(facts)
        return True

    def facts(self, upto: int | None = None) -> list[AnyFact]:
        return [fact for event in self.events[:upto] for fact in event]

    def answer(self, id: str) -> str:
        """What the provider answers: the same call always gets the same."""
        return self.given.setdefault(id, self.answers[len(self.given) % len(self.answers)])

    def judgement(self, id: str) -> Judgement:
        match self.answer(id):
            case "good":
                return Usable(RESULT)
            case "bad":
                return BAD
            case _:
                return Hopeless(FAILED)


def worker(world: World) -> Iterator[None]:
    """What `app.py` does with one delivery, in steps between which anything may happen; dropping it is kill -9."""
    tip = len(world.events)
    request = request_of(world.facts(tip), REQUEST)
    deserted = {call.started.call_id for call in request.open}
    judged: dict[int, Judgement] = {}
    while True:
        yield
        request = request_of(world.facts(tip), REQUEST)
        foreign = {call.started.call_id for call in request.open} - deserted
        match next_step(request, judged, foreign, is_wanted=world.is_wanted, calls_max=world.calls_max):
            case Settled():
                return
            case Report(facts):
                yield
                world.events.append(list(facts))
                return
            case Judge(call):
                judged[call.number] = world.judgement(call.started.call_id)
            case StandBack(ids):
                if next(world.patience, True):
                    deserted.update(ids)
                tip = len(world.events)
            case Ask(number, lost):
                yield
                if not world.append([*lost, start(number)], after=tip):
                    tip = len(world.events)
                    continue
                id = call_id(TASK, REQUEST, number)
                yield
                world.bill.append(id)
                yield
                end = faulted(number) if world.answer(id) == "fault" else answered(number)
                judged[number] = world.judgement(id)
                yield
                if next(world.reads, True):  # a short call reads nothing again
                    tip = len(world.events)
                request = with_call(request_of(world.facts(tip), REQUEST), Ask(number, lost), start(number), end)
                foreign = {call.started.call_id for call in request.open} - deserted
                step = next_step(request, judged, foreign, is_wanted=world.is_wanted, calls_max=world.calls_max)
                yield
                if isinstance(step, Report) and not next(world.apart, False):
                    world.events.append([end, *step.facts])
                    return
                # Not how `app.py` does it, but the answer is on record all the same.
                world.events.append([end])
                tip = len(world.events)


@pytest.mark.slow
@settings(max_examples=400)
@given(
    st.lists(st.sampled_from("AAAAAABBBBBBab"), min_size=30, max_size=90),
    st.integers(0, 5),
    st.integers(0, 180),
    st.lists(st.sampled_from(["good", "bad", "bad", "fault", "refusal"]), min_size=1, max_size=6),
    st.lists(st.booleans(), min_size=5, max_size=20),
    st.lists(st.booleans(), min_size=5, max_size=10),
    st.lists(st.booleans(), min_size=5, max_size=10),
)
def test_however_two_workers_interleave_the_ledger_equals_the_bill_and_no_answer_is_paid_twice(
    moves, calls_max, closed_at, answers, patience, apart, reads
):
    world = World(answers)
    world.calls_max = calls_max
    world.patience, world.apart, world.reads = iter(patience), iter(apart), iter(reads)
    hands: dict[str, Iterator[None] | None] = {"A": None, "B": None}
    begun_before = 0
    for number, move in enumerate(moves):
        if number == closed_at:
            world.is_wanted = False
            begun_before = len([fact for fact in world.facts() if isinstance(fact, ModelCallStarted)])
        if move.islower():
            hands[move.upper()] = None  # kill -9
            continue
        hand = hands[move] = hands[move] or worker(world)  # delivered again
        if next(hand, "over") == "over":
            hands[move] = None
    for _ in worker(world):  # in the end somebody is left alone with it
        pass

    events = [Event(id=TASK, version=n + 1, facts=[to_fact(f) for f in facts]) for n, facts in enumerate(world.events)]
    ledger = calls_in(events)
    starts = [fact.call_id for fact in world.facts() if isinstance(fact, ModelCallStarted)]
    # Every call has its own id and its start; what is on the bill stands in the ledger exactly once.
    assert len(set(starts)) == len(starts)
    assert len(set(world.bill)) == len(world.bill)
    assert set(world.bill) <= set(ledger) == set(starts)
    # What was reserved is kept to, and once nobody wants it no more begins than the two had decided on before.
    assert len(starts) <= (calls_max or len(starts))
    assert world.is_wanted or len(starts) <= begun_before + 2
    # An answer that anybody recorded counts with its tokens, whoever booked it lost, before or after.
    for id, line in ledger.items():
        real = [
            f
            for f in world.facts()
            if isinstance(f, ModelCalled) and f.call_id == id and f.outcome != CALL_OUTCOME_LOST
        ]
        assert len(real) <= 1
        assert (line.ended == real[0]) if real else (line.ended is None or line.ended.outcome == CALL_OUTCOME_LOST)
    # No call begins once a usable answer or a result is on record.
    for position, facts in enumerate(world.events):
        if any(isinstance(fact, ModelCallStarted) for fact in facts):
            before = world.facts(position)
            assert not any(isinstance(fact, PhaseCompleted | PhaseFailed) for fact in before)
            usable = [f.call_id for f in before if isinstance(f, ModelCalled) and f.outcome == CALL_OUTCOME_OK]
            assert not any(world.answer(id) == "good" for id in usable)
    # It ends, and there is one first result, which is the one that counts.
    assert request_of(world.facts(), REQUEST).is_settled


def test_a_call_counts_once_whether_or_not_its_start_has_been_read_back():
    lost = (lost_end(start(1)),)
    before, after = lane(start(1)), lane(start(1), *lost, start(2))

    counted = [with_call(read, Ask(2, lost), start(2), answered(2)) for read in (before, after)]

    assert counted[0] == counted[1] == lane(start(1), *lost, start(2), answered(2))


def test_a_call_is_named_after_its_task_request_and_number():
    assert call_id("01jx", "write_tests-2-1", 3) == "01jx.write_tests-2-1-3"
    assert Question(call_id("t", "r", 1), "m", "", (), 1, 1.0).call_id == "t.r-1"
