"""What holds of model health whatever the log says: every reader agrees, and there is one probe at a time."""

from dataclasses import dataclass, field
from typing import cast

from factory.event.v1 import AnyFact, Event
from factory.gate.v1 import GATE_VERDICT_BLOCK, GATE_VERDICT_PASS, GateVerdict
from factory.model.v1 import ModelProbed, ModelRecovered, ModelTripped
from factory.phase.v1 import (
    PHASE_FAILURE_PAYMENT_REQUIRED,
    VERDICT_APPROVE,
    VERDICT_REQUEST_CHANGES,
    PhaseCompleted,
    PhaseFailure,
    Verdict,
)
from factory.task.v1 import TASK_TYPE_API, TASK_TYPE_UNSPECIFIED, RequestExpired, RoutingOverridden, TaskCancelled
from hypothesis import given
from hypothesis import strategies as st
from policy.health import Health, State, probe, recovered_by_hand, tripped_by_hand

from tests.health_log import HealthLog, failed

MODELS = ("gpt", "claude")
TYPES = (TASK_TYPE_UNSPECIFIED, TASK_TYPE_API)
Told = list[tuple[Event, list[AnyFact | None], int]]

HAPPEN = (
    *("answer", "fail", "fail", "fail", "write", "ask", "end", "say", "probe", "wait"),
    *("expire", "override", "cancel", "pause by hand", "recover by hand"),
)
# One thing that happens: what, to which model, which reason or verdict, how long after.
HAPPENINGS = st.lists(
    st.tuples(
        st.sampled_from(HAPPEN),
        st.sampled_from(MODELS),
        st.integers(0, 40),
    ),
    max_size=80,
)
REASONS = cast(list[PhaseFailure], PhaseFailure.values())


def written(happenings: list[tuple[str, str, int]]) -> HealthLog:
    """A log in which all this happens, with one conductor that says what is due and probes when it may."""
    log = HealthLog()
    open_: list[tuple[str, str, str]] = []
    for what, model, n in happenings:
        task, request, asked = open_[n % len(open_)] if open_ else ("stranger", "implement-1-1", model)
        match what:
            case "answer":
                log.answers(model, took_s=n, tokens=n * 20)
            case "fail":
                log.fails(model, REASONS[n % len(REASONS)], retry_after_s=n, type=TASK_TYPE_API)
            case "write":
                verdict: Verdict = VERDICT_APPROVE if n % 3 == 0 else VERDICT_REQUEST_CHANGES
                gate: GateVerdict = GATE_VERDICT_PASS if n % 2 else GATE_VERDICT_BLOCK
                log.writes(model, TASK_TYPE_API, verdict, gate)
            case "ask":
                open_.append((*log.ask(model, type=TASK_TYPE_API), model))
            case "end" if n % 2:
                log.call(asked, task, request, ending=(PhaseCompleted(request_id=request),))
            case "end":
                log.say(task, f"executor-{asked}", failed(request, REASONS[n % len(REASONS)]))
            case "expire":
                log.say(task, "conductor", RequestExpired(request_id=request))
            case "override":
                log.say(task, "conductor", RoutingOverridden(request_id=request))
            case "cancel":
                log.say(task, "conductor", TaskCancelled())
            case "wait":
                log.wait(n**3)
            case "say":
                log.say_of_model(*log.health.due())
            case "probe":
                open_ += _probed(log, model, TYPES[n % 2])
            case "pause by hand":
                log.say_of_model(tripped_by_hand(model, "ada", log.now))
            case "recover by hand":
                log.say_of_model(recovered_by_hand(model, "ada"))
    return log


def _probed(log: HealthLog, model: str, type) -> list[tuple[str, str, str]]:
    status = log.health.status(model, type, log.now)
    if status.state is not State.HALF_OPEN or status.probe_pending:
        return []
    task = log.new_task()
    log.say_of_model(probe(model, status.type, task, "implement-1-1", log.now))
    return [(*log.ask(model, type=TASK_TYPE_API, task=task), model)]


def read(told: Told) -> Health:
    health = Health()
    for event, facts, sequence in told:
        health.observe(event, facts, sequence)
    return health


def answers_of(health: Health, log: HealthLog) -> list[object]:
    """Everything that one can ask."""
    return [
        health.due(),
        [health.status(model, type, log.now) for model in MODELS for type in TYPES],
        [health.message(model, log.now) for model in MODELS],
    ]


@given(HAPPENINGS, st.integers(0, 300))
def test_two_readers_of_the_same_log_agree_whenever_they_were_asked(happenings, cut: int):
    log = written(happenings)
    late = read(log.events[:cut])
    late.due()
    answers_of(late, log)
    for event, facts, sequence in log.events[cut:]:
        late.observe(event, facts, sequence)

    assert answers_of(late, log) == answers_of(log.health, log) == answers_of(read(log.events), log)


@given(HAPPENINGS)
def test_what_is_due_is_not_due_any_more_once_it_was_said(happenings):
    log = written(happenings)
    due = log.health.due()
    log.say_of_model(*due)

    assert log.health.due() == []
    for fact in due:
        state = log.health.status(fact.model, fact.type, log.now).state
        assert state is not State.CLOSED or isinstance(fact, ModelRecovered)


@given(HAPPENINGS, st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=20))
def test_events_that_come_again_change_nothing(happenings, again: list[tuple[int, int]]):
    log = written(happenings)
    spaced: Told = [(event, facts, sequence * 1_000) for event, facts, sequence in log.events]
    told = list(spaced)
    for n, (which, later) in enumerate(again):
        if which < len(spaced):
            event, facts, sequence = spaced[which]
            behind = min(which + later, len(spaced) - 1)
            told.append((event, facts, spaced[behind][2] + n + 1))
            told.append((event, facts, sequence))
    told.sort(key=lambda one: one[2])

    assert answers_of(read(told), log) == answers_of(read(spaced), log)


@given(HAPPENINGS, st.randoms(use_true_random=False))
def test_whatever_the_order_of_lanes_nothing_breaks_and_each_breaker_says_one_thing(happenings, random):
    log = written(happenings)
    lanes: dict[tuple[str, str], Told] = {}
    for event, facts, sequence in log.events:
        lanes.setdefault((event.id, event.producer), []).append((event, facts, sequence))
    waiting, mixed = list(lanes.values()), []
    while waiting:
        lane = random.choice(waiting)
        event, facts, _ = lane.pop(0)
        mixed.append((event, facts, len(mixed) + 1))
        waiting = [lane for lane in waiting if lane]

    health = read(mixed)
    due = health.due()

    assert answers_of(health, log) == answers_of(read(mixed), log)
    assert len({(fact.model, fact.type) for fact in due}) == len(due)
    assert all(health.figures(model, log.now).in_flight >= 0 for model in MODELS)


@given(HAPPENINGS)
def test_what_a_trip_rests_on_can_be_found_in_the_log(happenings):
    log = written(happenings)
    trips = [fact for _, facts, _ in log.events for fact in facts if isinstance(fact, ModelTripped)]
    for trip in (*trips, *(fact for fact in log.health.due() if isinstance(fact, ModelTripped))):
        evidence = trip.evidence
        if trip.tripped_by:
            continue
        assert 0 < evidence.bad <= evidence.observed <= 30
        assert sum(evidence.reasons.values()) == evidence.bad
        assert 0 < len(evidence.examples) <= 10
        assert len(set(evidence.examples)) == len(evidence.examples)
        part = [event for event, _, at in log.events if evidence.from_sequence <= at <= evidence.to_sequence]
        tasks = {event.id for event in part}
        assert all(example.split(".")[0] in tasks for example in evidence.examples)


@given(st.lists(st.sampled_from(("good", "pause")), max_size=60), st.integers(0, 60), st.sampled_from(REASONS))
def test_a_lone_failure_never_trips(others: list[str], where: int, reason: PhaseFailure):
    log = HealthLog()
    for what in (*others[:where], "bad", *others[where:]):
        if what == "bad":
            log.fails("gpt", reason, type=TASK_TYPE_API)
        elif what == "good":
            log.answers("gpt", type=TASK_TYPE_API)
        else:
            log.wait(200)
        assert log.health.due() == []


@dataclass
class Conductor:
    """One that reads the log at its own speed, and appends only behind the last event of a lane that it has read."""

    log: HealthLog
    health: Health = field(default_factory=Health)
    read_to: int = 0

    def read(self, events: int) -> None:
        for event, facts, sequence in self.log.events[self.read_to : self.read_to + events]:
            self.health.observe(event, facts, sequence)
        self.read_to = min(self.read_to + events, len(self.log.events))

    def append(self, fact: ModelTripped | ModelProbed | ModelRecovered) -> bool:
        """With optimistic concurrency, as the log does it."""
        newer = self.log.events[self.read_to :]
        if any(event.id == f"model-{fact.model}" for event, _, _ in newer):
            return False
        self.log.say_of_model(fact)
        return True


CONDUCTORS = st.lists(
    st.tuples(
        st.sampled_from(("read", "read", "say", "probe", "probe", "answer", "fail", "stop", "wait")),
        st.integers(0, 1),
        st.integers(1, 12),
    ),
    max_size=120,
)


@given(CONDUCTORS)
def test_however_far_conductors_have_read_at_most_one_probe_is_under_way(steps):
    log = HealthLog()
    for _ in range(2):
        log.fails("gpt", PHASE_FAILURE_PAYMENT_REQUIRED)
    log.say_of_model(*log.health.due())
    conductors = (Conductor(log), Conductor(log))
    under_way: list[ModelProbed] = []
    for what, who, n in steps:
        conductor = conductors[who]
        match what:
            case "read":
                conductor.read(n)
            case "say":
                for fact in conductor.health.due():
                    conductor.append(fact)
            case "wait":
                log.wait(n * 60)
            case "probe":
                status = conductor.health.status("gpt", TASK_TYPE_API, log.now)
                fact = probe("gpt", status.type, log.new_task(), "implement-1-1", log.now)
                if status.state is State.HALF_OPEN and not status.probe_pending and conductor.append(fact):
                    under_way.append(fact)
                    log.ask("gpt", task=fact.task_id)
            case "answer" | "fail" | "stop" if under_way:
                ended = under_way.pop()
                reason = PhaseFailure.PHASE_FAILURE_STOPPED if what == "stop" else PHASE_FAILURE_PAYMENT_REQUIRED
                result = PhaseCompleted(request_id="implement-1-1") if what == "answer" else None
                log.say(ended.task_id, "executor-gpt", result or failed("implement-1-1", reason))
        under_way = [one for one in under_way if one.until.ToDatetime(log.now.tzinfo) > log.now]
        assert len(under_way) <= 1
