"""Whatever the order of lanes, the batches and the repetitions, the ledger is the same, and equals an obvious one."""

import random
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path

import pytest
from audit.adapters.queries import Reader
from audit.adapters.store import Store
from audit.answers import grouped
from audit.rpc import task_report
from eventlog import Recorded, to_fact
from factory.audit.v1 import USAGE_DIMENSION_MODEL, USAGE_DIMENSION_PROJECT, USAGE_DIMENSION_TASK_TYPE
from factory.budget.v1 import (
    BudgetExtended,
    BudgetReached,
    BudgetReleased,
    BudgetReserved,
    BudgetSet,
    BudgetSettled,
)
from factory.call.v1 import (
    CALL_OUTCOME_ABANDONED,
    CALL_OUTCOME_ERROR,
    CALL_OUTCOME_LOST,
    CALL_OUTCOME_NOT_SENT,
    CALL_OUTCOME_OK,
    ModelCalled,
    ModelCallStarted,
    Usage,
)
from factory.classification.v1 import TaskClassified
from factory.event.v1 import AnyFact, Event
from factory.model.v1 import ConfiguredModel, ModelProbed, ModelRecovered, ModelsConfigured, ModelTripped
from factory.phase.v1 import (
    PHASE_FAILURE_CALLS_SPENT,
    PHASE_FAILURE_DEADLINE,
    PHASE_FAILURE_STOPPED,
    PhaseCompleted,
    PhaseFailed,
    PhaseRequested,
    PhaseRerouted,
    PhaseSkipped,
)
from factory.price.v1 import PricePublished, PriceTier
from factory.project.v1 import PREFERENCE_MODE_QUALITY, Preferences, PreferencesSaved
from factory.task.v1 import (
    HOLD_CAUSE_BUDGET,
    HOLD_CAUSE_CAPACITY,
    PHASE_KIND_IMPLEMENT,
    PHASE_KIND_REVIEW,
    RULED_OUT_BY_HEALTH,
    TASK_TYPE_API,
    TASK_TYPE_LOGIC,
    TASK_TYPE_UI,
    Candidate,
    Receipt,
    RequestExpired,
    RoutingOverridden,
    TaskCancelled,
    TaskCompleted,
    TaskHeld,
    TaskPlanned,
    TaskReleased,
    TaskSubmitted,
    TaskType,
)
from hypothesis import given
from hypothesis import strategies as st
from policy.calls import Tally
from policy.prices import prices_in
from policy.report import report
from policy.standing import standing_of

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
TASKS = ("a", "b")
MODELS = ("gpt", "claude")
Lanes = dict[tuple[str, str], list[Event]]

ends = st.builds(
    ModelCalled,
    usage=st.one_of(
        st.none(),
        st.builds(Usage, input_tokens=st.integers(0, 9), output_tokens=st.sampled_from((None, 7, 1_000, 2**63))),
    ),
    outcome=st.sampled_from(
        (CALL_OUTCOME_OK, CALL_OUTCOME_ERROR, CALL_OUTCOME_ABANDONED, CALL_OUTCOME_LOST, CALL_OUTCOME_NOT_SENT)
    ),
    http_status=st.sampled_from((0, 200, 429)),
)
calls = st.tuples(st.sampled_from(TASKS), st.sampled_from(MODELS), st.booleans(), st.lists(ends, max_size=3))
prices = st.tuples(st.sampled_from(MODELS), st.integers(-60, 60), st.integers(0, 2**40))
types = st.sampled_from((TASK_TYPE_API, TASK_TYPE_LOGIC, TASK_TYPE_UI))

attempts = st.integers(1, 3)
requests = attempts.map(lambda attempt: f"implement-1-{attempt}")
implement = st.just(PHASE_KIND_IMPLEMENT)
receipts = st.builds(
    Receipt,
    because=st.sampled_from(("", "the routing table names gpt")),
    candidates=st.just([Candidate(model="gpt", score=1, ruled_out="open", by=RULED_OUT_BY_HEALTH)]),
)
asked = st.builds(
    lambda attempt, model, receipt, probe: PhaseRequested(
        request_id=f"implement-1-{attempt}",
        phase=PHASE_KIND_IMPLEMENT,
        round=1,
        attempt=attempt,
        model=model,
        receipt=receipt,
        probe=probe,
    ),
    attempts,
    st.sampled_from(MODELS),
    receipts,
    st.booleans(),
)
# What steers a task: the conductor's word, and the executors'.
decided = st.one_of(
    asked,
    st.builds(RoutingOverridden, phase=implement, model=st.sampled_from(("", *MODELS)), overridden_by=st.just("ada")),
    st.builds(RoutingOverridden, phase=implement, model=st.sampled_from(MODELS), request_id=requests),
    st.builds(RequestExpired, request_id=requests),
    st.builds(TaskHeld, reason=st.just("full"), cause=st.sampled_from((HOLD_CAUSE_BUDGET, HOLD_CAUSE_CAPACITY))),
    st.builds(TaskReleased, released_by=st.sampled_from(("", "ada"))),
    st.builds(PhaseRerouted, request_id=requests, from_model=st.just("gpt"), to_model=st.just("claude")),
    st.builds(PhaseSkipped, phase=st.just(PHASE_KIND_REVIEW), round=st.just(1), reason=st.just("nobody")),
    st.builds(TaskPlanned),
    st.builds(TaskCancelled, cancelled_by=st.just("ada")),
)
answered = st.one_of(
    st.builds(PhaseCompleted, request_id=requests),
    st.builds(
        PhaseFailed,
        request_id=requests,
        reason=st.sampled_from((PHASE_FAILURE_STOPPED, PHASE_FAILURE_CALLS_SPENT, PHASE_FAILURE_DEADLINE)),
    ),
)
steering = st.one_of(
    st.tuples(st.sampled_from(TASKS), st.just("conductor"), decided),
    st.tuples(st.sampled_from(TASKS), st.sampled_from(("executor-gpt", "executor-claude")), answered),
)
# Facts that are about no task.
elsewhere = st.one_of(
    st.tuples(
        st.just("project-shop"),
        st.one_of(
            st.builds(PreferencesSaved, preferences=st.just(Preferences(mode=PREFERENCE_MODE_QUALITY))),
            st.builds(BudgetSet, project=st.just("shop")),
        ),
    ),
    st.tuples(
        st.just("budget-shop-202611"),
        st.one_of(
            *map(st.builds, (BudgetSet, BudgetReserved, BudgetSettled, BudgetReleased, BudgetExtended, BudgetReached))
        ),
    ),
    st.tuples(st.just("model-gpt"), st.one_of(*map(st.builds, (ModelTripped, ModelProbed, ModelRecovered)))),
    st.tuples(
        st.just("models"),
        st.builds(
            lambda model: ModelsConfigured(digest=model, models=[ConfiguredModel(model=model)]), st.sampled_from(MODELS)
        ),
    ),
)
steered_lanes = st.tuples(st.lists(steering, max_size=8), st.lists(elsewhere, max_size=5))
Steered = tuple[list[tuple[str, str, AnyFact]], list[tuple[str, AnyFact]]]


def lanes_of(
    told: Sequence[tuple[str, str, bool, list[ModelCalled]]],
    published: Sequence[tuple[str, int, int]],
    task_types: dict[str, TaskType],
    steered: Steered,
) -> Lanes:
    """The lanes of a small factory: two tasks, two models, prices, and what steers them."""
    lanes: Lanes = defaultdict(list)

    def say(name: str, producer: str, fact: AnyFact) -> None:
        lane = lanes[name, producer]
        event = Event(id=name, producer=producer, version=len(lane) + 1, facts=[to_fact(fact)])
        event.occurred_at.FromDatetime(NOON + timedelta(seconds=sum(map(len, lanes.values()))))
        lane.append(event)

    for task in TASKS:
        say(task, "conductor", TaskSubmitted(title=task, project=f"project of {task}"))
        say(task, "classifier", TaskClassified(type=task_types[task]))
    for number, (task, model, with_start, called) in enumerate(told):
        same = {
            "call_id": f"{task}.implement-1-1-{number}",
            "request_id": "implement-1-1",
            "phase": PHASE_KIND_IMPLEMENT,
            "model": model,
            "provider": "p",
            "provider_model": model,
        }
        if with_start:
            say(
                task,
                f"executor-{model}",
                ModelCallStarted(**same, max_output_tokens=100, input_tokens_estimate=20),
            )
        for end in called:
            fact = ModelCalled(**same, outcome=end.outcome, http_status=end.http_status)
            if end.HasField("usage") and end.outcome not in (CALL_OUTCOME_LOST, CALL_OUTCOME_NOT_SENT):
                fact.usage.CopyFrom(end.usage)
            say(task, f"executor-{model}", fact)
    for model, since_s, pico in published:
        tier = PriceTier(input_pico_usd=pico, output_pico_usd=pico)
        fact = PricePublished(version=f"{pico}", provider="p", provider_model=model, tiers=[tier])
        fact.valid_from.FromDatetime(NOON + timedelta(seconds=since_s))
        say("prices", "conductor", fact)
    for task, producer, fact in steered[0]:
        say(task, producer, fact)
    for name, fact in steered[1]:
        say(name, "conductor", fact)
    # The other one goes on.
    say(TASKS[0], "conductor", TaskCompleted())
    return lanes


def mixed(lanes: Lanes, order: random.Random) -> list[Event]:
    """A stream that keeps the order within each lane, with some events told again later."""
    left = {key: list(events) for key, events in lanes.items()}
    stream: list[Event] = []
    while left:
        key = order.choice(sorted(left))
        stream.append(left[key].pop(0))
        if not left[key]:
            del left[key]
        if order.random() < 0.2:
            stream.append(order.choice(stream))
    return stream


def numbered(events: Sequence[Event], after: int = 0) -> list[Recorded]:
    return [Recorded(event, after + n, b"") for n, event in enumerate(events, 1)]


def obvious(events: Sequence[Event]) -> dict[str, Tally]:
    """The ledger as one would do it by hand, a call at a time, from all facts at once."""
    found: dict[str, Tally] = {}
    published = [(e, f.price_published) for e in events for f in e.facts if f.HasField("price_published")]
    starts = {
        f.model_call_started.call_id: (e, f.model_call_started)
        for e in events
        for f in e.facts
        if f.HasField("model_call_started")
    }
    told = sorted(
        ((e, f.model_called) for e in events for f in e.facts if f.HasField("model_called")), key=lambda p: p[0].version
    )
    for call_id in {*starts, *(called.call_id for _, called in told)}:
        mine = [(event, called) for event, called in told if called.call_id == call_id]
        start = starts.get(call_id)
        whole = [c for _, c in mine if c.outcome in (CALL_OUTCOME_OK, CALL_OUTCOME_ERROR) and known(c)]
        broken = [c for _, c in mine if c.outcome == CALL_OUTCOME_ABANDONED and known(c)]
        silent = [c for _, c in mine if c.outcome != CALL_OUTCOME_LOST and not known(c)]
        last = (whole or broken or silent or [None])[-1]
        at = start[0].occurred_at if start else best_event(mine, last).occurred_at
        began = at.ToDatetime(tzinfo=UTC)
        model = (start[1] if start else mine[0][1]).provider_model
        valid = [
            (p.valid_from.ToDatetime(tzinfo=UTC), e.occurred_at.ToDatetime(tzinfo=UTC), p)
            for e, p in published
            if p.provider_model == model and p.valid_from.ToDatetime(tzinfo=UTC) <= began
        ]
        pico = max(valid, key=lambda v: v[:2])[2].tiers[0].input_pico_usd if valid else None
        found[call_id] = by_hand(last, start is not None, pico)
    return found


def best_event(mine: Sequence[tuple[Event, ModelCalled]], last: ModelCalled | None) -> Event:
    """The event of the end that counts; of several `lost` the last."""
    return next((event for event, called in reversed(mine) if called is last), mine[-1][0])


def by_hand(last: ModelCalled | None, has_start: bool, pico: int | None) -> Tally:
    if last is not None and last.outcome == CALL_OUTCOME_NOT_SENT:
        return Tally(calls=1)
    if last is not None and last.outcome in (CALL_OUTCOME_OK, CALL_OUTCOME_ERROR):
        if known(last):
            tokens = last.usage.input_tokens + last.usage.output_tokens
            if pico is None:
                return Tally(tokens=tokens, unpriced_tokens=tokens, calls=1)
            return Tally(tokens=tokens, cost_pico_usd=tokens * pico, calls=1)
        if last.outcome == CALL_OUTCOME_ERROR and last.http_status == 429:
            return Tally(calls=1)
        return Tally(unknown_calls=1, calls=1)
    if not has_start:
        return Tally(unknown_calls=1, calls=1)
    bound = 120
    if last is not None and known(last):
        bound = last.usage.input_tokens + max(100, last.usage.output_tokens)
    return Tally(uncertain_tokens=bound, uncertain_cost_pico_usd=bound * (pico or 0), calls=1)


def known(called: ModelCalled) -> bool:
    return called.HasField("usage") and called.usage.HasField("input_tokens") and called.usage.output_tokens < 2**63


@pytest.fixture(scope="module")
def ledger() -> Iterator[Store]:
    """One database for all examples; each begins by emptying it."""
    with tempfile.TemporaryDirectory() as directory:
        store = Store(Path(directory) / "audit.sqlite3")
        yield store
        store.close()


@given(
    st.lists(calls, max_size=6),
    st.lists(prices, max_size=4),
    types,
    types,
    steered_lanes,
    st.randoms(use_true_random=False),
    st.integers(1, 9),
)
def test_the_ledger_equals_the_obvious_one_and_all_its_sums(
    ledger: Store,
    told,
    published,
    type_a: TaskType,
    type_b: TaskType,
    steered: Steered,
    order: random.Random,
    size: int,
):
    lanes = lanes_of(told, published, {"a": type_a, "b": type_b}, steered)
    everything = [event for lane in lanes.values() for event in lane]
    stream = numbered(mixed(lanes, order))
    ledger.empty()
    for first in range(0, len(stream), size):
        ledger.apply(stream[first : first + size])
    expected = obvious(everything)
    reader = Reader(ledger.path)
    with reader.snapshot() as snapshot:
        entries = snapshot.entries()
        sums = list(snapshot.usage())
        tasks = {row.task_id: row for row in snapshot.tasks(limit=9)}
        heard_of = {row["task_id"] for row in snapshot._db.execute("select task_id from task")}
        models = snapshot.models()
        reports = {task: task_report(snapshot, task, {}) for task in TASKS}
    reader.close()

    assert {entry.call.call_id: entry.reckoning.tally for entry in entries} == expected
    assert heard_of == set(TASKS)
    assert models == next((fact for name, fact in reversed(steered[1]) if name == "models"), None)
    total = sum(expected.values(), Tally())
    for dimensions in permutations((USAGE_DIMENSION_MODEL, USAGE_DIMENSION_TASK_TYPE, USAGE_DIMENSION_PROJECT), 2):
        assert sum((tally for _, tally in grouped(sums, dimensions)), Tally()) == total
    for task, task_type in zip(TASKS, (type_a, type_b), strict=True):
        mine = sum((tally for call_id, tally in expected.items() if call_id.startswith(f"{task}.")), Tally())
        assert tasks[task].tally == mine
        assert reports[task] == report([e for e in everything if e.id == task], prices_in(everything), {})
        conductors = lanes[task, "conductor"]
        assert tasks[task].standing == standing_of(conductors)
        assert tasks[task].planned == any(f.HasField("task_planned") for event in conductors for f in event.facts)
        in_sums = [
            tally for bucket, tally in sums if (bucket.project, bucket.task_type) == (f"project of {task}", task_type)
        ]
        assert sum(in_sums, Tally()) == mine


@given(
    st.lists(calls, max_size=6),
    st.lists(prices, max_size=4),
    steered_lanes,
    st.randoms(use_true_random=False),
    st.integers(1, 9),
)
def test_every_order_of_lanes_gives_the_same_rows(
    ledger: Store, told, published, steered: Steered, order: random.Random, size: int
):
    lanes = lanes_of(told, published, {"a": TASK_TYPE_API, "b": TASK_TYPE_UI}, steered)
    digests = []
    for stream in (mixed(lanes, order), mixed(lanes, order)):
        ledger.empty()
        recorded = numbered(stream)
        for first in range(0, len(recorded), size):
            ledger.apply(recorded[first : first + size])
        ledger._db.execute("update checkpoint set sequence = 0")
        digests.append(ledger.digest())

    assert digests[0] == digests[1]
