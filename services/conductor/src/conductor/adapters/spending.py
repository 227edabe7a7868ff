"""What a project has spent in a month, off the whole log: asked once, when its first budget is set in mid-month."""

from collections import defaultdict
from collections.abc import Mapping

from eventlog import EventLog, Recorded
from factory.phase.v1 import PhaseRequested
from factory.task.v1 import TaskSubmitted
from policy.calls import Tally
from policy.prices import PriceBook

from conductor.budget_month import Carried
from conductor.budget_room import CALLS_MAX, month_of
from conductor.known import Known


async def spent_so_far(events: EventLog, prices: PriceBook, project: str, month: str) -> Carried:
    """What the calls of a project's tasks have cost in a month, worst case where not known, and what its open requests
    may still cost; by model, and as a whole under ""."""
    until = await events.last_sequence()
    known: dict[str, Known] = {}
    async for batch in events.follow(after=0):
        for recorded in batch:
            if recorded.sequence <= until:
                _take(known, recorded, project)
        if not until or (batch and batch[-1].sequence >= until):
            break
    spent: defaultdict[str, int] = defaultdict(int)
    for task in known.values():
        for model, amount in _of_task(task, prices, month).items():
            spent[model] += amount
            spent[""] += amount
    return Carried(dict(spent), until)


def _take(known: dict[str, Known], recorded: Recorded, project: str) -> None:
    id = recorded.event.id
    if any(isinstance(fact, TaskSubmitted) and fact.project == project for fact in recorded.facts):
        known.setdefault(id, Known())
    if id in known:
        known[id].learn(recorded)


def _of_task(task: Known, prices: PriceBook, month: str) -> Mapping[str, int]:
    spent: defaultdict[str, int] = defaultdict(int)
    for call in task.calls.values():
        if month_of(call.began_at) == month:
            tally: Tally = task.cost_of_call(call.call_id, prices)
            spent[call.fact.model] += tally.cost_pico_usd + tally.uncertain_cost_pico_usd
    waiting = task.waited_for()
    if waiting is not None and isinstance(waiting[1], PhaseRequested) and task.task.ended is None:
        request = waiting[1]
        spent[request.model] += (request.calls_max or CALLS_MAX) * request.worst_case_pico_usd
    return spent
