"""Whole runs of a task: two conductors that read late, workers that answer twice, people who change their minds.

However these come in between each other, a run ends, is held, or waits for a person: it is never stuck.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import reduce

import pytest
from conductor.commands import Refused, Seen, approve, release, request_changes
from conductor.next_step import decide
from conductor.task import NEW, Task, happened
from conductor.world import World
from eventlog.work import Request, lane_for
from factory.artifact.v1 import ArtifactRef
from factory.classification.v1 import TaskClassified
from factory.context.v1 import CONTEXT_FAILURE_POISON, ContextFailed, ContextGathered, ContextRequested
from factory.delivery.v1 import DELIVERY_FAILURE_POISON, DeliveryFailed, DeliveryRequested, PullRequestOpened
from factory.event.v1 import AnyFact
from factory.gate.v1 import GATE_VERDICT_BLOCK, GATE_VERDICT_PASS, GATE_VERDICT_UNKNOWN, GateJudged, GateRequested
from factory.phase.v1 import (
    PHASE_FAILURE_MALFORMED,
    PHASE_FAILURE_OVERLOADED,
    PHASE_FAILURE_POISON,
    VERDICT_APPROVE,
    VERDICT_REQUEST_CHANGES,
    PhaseCompleted,
    PhaseFailed,
    PhaseRequested,
)
from factory.task.v1 import (
    PHASE_KIND_REVIEW,
    SCOPE_FEATURE,
    SCOPE_FOCUSED,
    TASK_TYPE_ARCHITECTURE,
    TASK_TYPE_UI,
    ClassificationRequested,
    TaskSubmitted,
)
from hypothesis import given as forall
from hypothesis import settings
from hypothesis import strategies as st
from policy.models import DEFAULT_MODELS
from policy.prices import PriceBook

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
WORLD = World(DEFAULT_MODELS, {}, PriceBook(()), NOW)
REF = ArtifactRef(digest="f" * 64, size=1)
SUBMITTED = TaskSubmitted(title="One", repository="/repo", submitted_by="ada")
ROUNDS_MAX = 200
STEPS = st.lists(
    st.tuples(st.sampled_from(["decide", "decide", "answer", "answer", "person"]), st.integers(0, 11)), min_size=20
)


@dataclass
class Run:
    """A log of (lane, facts), and what each of two conductors has read of it."""

    log: list[tuple[str, list[AnyFact]]] = field(default_factory=lambda: [("conductor", [SUBMITTED])])
    read: list[int] = field(default_factory=lambda: [0, 0])

    def task(self, read_to: int | None = None) -> Task:
        facts = [fact for _, facts in self.log[:read_to] for fact in facts]
        return reduce(lambda task, fact: happened(task, fact, NOW), facts, NEW)

    def append(self, facts: list[AnyFact], read_to: int) -> bool:
        """What the server does: refused if the conductor's lane has grown since it was read."""
        if not facts or any(lane == "conductor" for lane, _ in self.log[read_to:]):
            return False
        self.log.append(("conductor", facts))
        return True

    def decide(self, who: int, further: int) -> bool:
        self.read[who] = min(self.read[who] + further, len(self.log))
        return self.append(decide(self.task(self.read[who]), WORLD), self.read[who])

    def answer(self, how: int, *, settled_too: bool = False) -> bool:
        """A worker takes the request that the task waits for; what has an answer already is acknowledged undone."""
        task = self.task()
        asked = [f for _, facts in self.log for f in facts if isinstance(f, Request)]
        wanted = [f for f in asked if settled_too or (task.open and f.request_id == task.open.request_id)]
        if not wanted:
            return False
        request = wanted[-1 - how % len(wanted)] if settled_too else wanted[-1]
        lane = lane_for(request)
        answered = any(
            who == lane and getattr(fact, "request_id", "") == request.request_id
            for who, facts in self.log
            for fact in facts
        )
        if answered and not settled_too:
            return False
        self.log.append((lane, [answer_to(request, how, len(self.log))]))
        return True

    def person(self, how: int) -> bool:
        task = self.task()
        seen = Seen(task.change, task.evidence)
        try:
            match how % 3:
                case 0:
                    facts = approve("t", task, "ada", seen, None)
                case 1:
                    facts = request_changes("t", task, "ada", seen, REF)
                case _:
                    facts = release("t", task, "ada", "again", None)
        except Refused:
            return False
        return self.append(facts, len(self.log))


def answer_to(request: Request, how: int, unique: int) -> AnyFact:
    id = request.request_id
    match request:
        case ClassificationRequested():
            type = TASK_TYPE_UI if how % 2 else TASK_TYPE_ARCHITECTURE
            return TaskClassified(request_id=id, type=type, scope=SCOPE_FEATURE if how % 3 else SCOPE_FOCUSED)
        case ContextRequested() if how == 7:
            return ContextFailed(request_id=id, reason=CONTEXT_FAILURE_POISON)
        case ContextRequested():
            return ContextGathered(request_id=id, base_commit="b" * 40, snapshot=REF, pack=REF, tokens=9)
        case PhaseRequested() if how in (7, 8, 9):
            reasons = (PHASE_FAILURE_POISON, PHASE_FAILURE_OVERLOADED, PHASE_FAILURE_MALFORMED)
            return PhaseFailed(request_id=id, reason=reasons[how - 7])
        case PhaseRequested(phase=phase) if phase == PHASE_KIND_REVIEW:
            return PhaseCompleted(request_id=id, verdict=VERDICT_REQUEST_CHANGES if how % 2 else VERDICT_APPROVE)
        case PhaseRequested():
            return PhaseCompleted(request_id=id, change_digest="same" if how == 5 else f"c{unique}")
        case GateRequested(change_digest=change):
            verdict = (GATE_VERDICT_PASS, GATE_VERDICT_BLOCK, GATE_VERDICT_UNKNOWN)[how % 3]
            return GateJudged(request_id=id, change_digest=change, verdict=verdict)
        case DeliveryRequested() if how == 7:
            return DeliveryFailed(request_id=id, reason=DELIVERY_FAILURE_POISON)
        case DeliveryRequested():
            return PullRequestOpened(request_id=id, url="u", branch="b", commit="c")


@pytest.mark.slow
@settings(max_examples=150)
@forall(STEPS)
def test_no_run_is_ever_stuck(steps: list[tuple[str, int]]):
    run = Run()
    for what, how in steps:
        match what:
            case "decide":
                run.decide(how % 2, how)
            case "answer":
                run.answer(how, settled_too=how == 11)
            case _:
                run.person(how)

    for _ in range(ROUNDS_MAX):
        task = run.task()
        if task.ended is not None:
            break
        # Every event is delivered to a conductor in the end, and every request that is open to its worker.
        moved = run.decide(0, len(run.log)) or run.answer(0) or run.person(2) or run.person(0)
        assert moved, task

    requests = [fact.request_id for _, facts in run.log for fact in facts if isinstance(fact, Request)]
    assert run.task().ended is not None
    assert len(set(requests)) == len(requests)
