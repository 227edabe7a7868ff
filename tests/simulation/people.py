"""People: they submit, approve, change their minds, cancel, release, and do it twice; what they saw may be old."""

from collections.abc import Callable, Sequence
from random import Random

from conductor.commands import Seen, approve, cancel, override, reject, release, request_changes
from conductor.known import Known
from conductor.rules import Rules
from conductor.state import Task
from factory.budget.v1 import BudgetSet
from factory.event.v1 import AnyFact
from factory.task.v1 import Limits, PhaseKind, TaskSubmitted
from google.protobuf.duration_pb2 import Duration
from simulation.provider import blob
from simulation.surroundings import BUDGETS, PROJECT, budget

NAMES = ("ada", "grace", "linus")
# In pico-dollars: from what no phase fits into, to what most tasks need.
LIMITS = (10**10, 5 * 10**11, 2 * 10**12, 10**13)
RAISED = 10**15
TIMEOUTS_S = (600, 3 * 3600, 48 * 3600)

Judge = Callable[[Known], Sequence[AnyFact]]


def submission(chance: Random, title: str) -> TaskSubmitted:
    """A new task, now and then with a limit or a deadline."""
    limits = Limits()
    if chance.random() < 0.3:
        limits.max_cost_pico_usd = chance.choice(LIMITS)
    if chance.random() < 0.2:
        limits.timeout.CopyFrom(Duration(seconds=chance.choice(TIMEOUTS_S)))
    return TaskSubmitted(
        project=PROJECT, title=title, repository="https://example.com/shop", submitted_by="ada", limits=limits
    )


def new_budget(chance: Random) -> BudgetSet:
    return budget(chance.choice([hard for hard in BUDGETS if hard]))


def raised() -> BudgetSet:
    return budget(RAISED)


def wanted(id: str, task: Task) -> tuple[str, str, Judge] | None:
    """What a task at rest waits for somebody to say; None if it waits for nobody."""
    if task.held:
        return id, "ada, who releases it", releasing(id, "ada", Limits(max_cost_pico_usd=RAISED))
    if task.awaiting_review:
        return id, "ada, who approves it", approving(id, "ada", Seen(task.change, task.evidence))
    return None


def word(chance: Random, id: str, task: Task, rules: Rules) -> tuple[str, Judge] | None:
    """What somebody who looks at a task now asks of it; None for somebody who only looks."""
    who = chance.choice(NAMES)
    if chance.random() < 0.04:
        return f"{who}, who cancels {id}", cancelling(id, who)
    if task.queue and chance.random() < 0.2:
        phase, model = chance.choice(task.queue), chance.choice(["", *rules.models])
        return f"{who}, who gives a phase of {id} to {model!r}", overriding(id, who, rules, phase, model)
    if task.held:
        limits = Limits(max_cost_pico_usd=RAISED) if task.max_cost_pico_usd is not None else None
        return f"{who}, who releases {id}", releasing(id, who, limits)
    if not task.awaiting_review:
        return None
    seen = Seen(task.change, task.evidence)
    match chance.randrange(10):
        case 0:
            return f"{who}, who rejects {id}", rejecting(id, who, seen)
        case 1 | 2 | 3:
            return f"{who}, who sends {id} back", sending_back(id, who, seen)
        case _:
            return f"{who}, who approves {id}", approving(id, who, seen)


def approving(id: str, who: str, seen: Seen) -> Judge:
    return lambda known: approve(id, known.task, who, seen, None)


def sending_back(id: str, who: str, seen: Seen) -> Judge:
    return lambda known: request_changes(id, known.task, who, seen, blob("remark"))


def rejecting(id: str, who: str, seen: Seen) -> Judge:
    return lambda known: reject(id, known.task, who, seen, None)


def cancelling(id: str, who: str) -> Judge:
    return lambda known: cancel(id, known.task, who)


def releasing(id: str, who: str, limits: Limits | None) -> Judge:
    return lambda known: release(id, known.task, who, "mended", limits)


def overriding(id: str, who: str, rules: Rules, phase: PhaseKind, model: str) -> Judge:
    return lambda known: override(id, known.task, rules, phase, model, who, "it knows better")
