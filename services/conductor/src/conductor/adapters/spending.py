"""What a project has spent in a month, off the whole log: asked once, when its first budget is set in mid-month."""

from collections import defaultdict
from collections.abc import Mapping

from eventlog import EventLog, Recorded
from factory.phase.v1 import PhaseRequested
from factory.task.v1 import TaskSubmitted
from policy.calls import Tally
from policy.prices import PriceBook

from conductor.budget_month import Carried, Open
from conductor.budget_room import CALLS_MAX, month_of
from conductor.known import Known

# A request that draws on no budget makes no more calls than that: three that answer, and three that are lost.
UNLIMITED_CALLS_MAX = CALLS_MAX + 3
# Open requests for which money is kept one by one; all of it goes into one event. What more there are counts as spent.
OPEN_CARRIED_MAX = 256


async def spent_so_far(events: EventLog, prices: PriceBook, project: str, month: str) -> Carried:
    """What the calls of a project's tasks have cost in a month, worst case where not known, and its open
    requests; by model, and as a whole under ""."""
    until = await events.last_sequence()
    known: dict[str, Known] = {}
    async for batch in events.follow(after=0):
        for recorded in batch:
            if recorded.sequence <= until:
                _take(known, recorded, project)
        if not until or (batch and batch[-1].sequence >= until):
            break
    return carried_of(known, prices, month, until)


def carried_of(known: Mapping[str, Known], prices: PriceBook, month: str, read_to: int) -> Carried:
    """What the tasks of a project, known up to stream sequence `read_to`, have spent in a month and have under way."""
    spent: defaultdict[str, int] = defaultdict(int)
    going_on: list[Open] = []
    for id, task in known.items():
        asked = _open_request(id, task) if len(going_on) < OPEN_CARRIED_MAX else None
        going_on += [asked] if asked else []
        for model, amount in _of_task(id, task, prices, month, asked).items():
            spent[model] += amount
            spent[""] += amount
    return Carried(dict(spent), read_to, tuple(going_on))


def _take(known: dict[str, Known], recorded: Recorded, project: str) -> None:
    id = recorded.event.id
    if any(isinstance(fact, TaskSubmitted) and fact.project == project for fact in recorded.facts):
        known.setdefault(id, Known())
    if id in known:
        known[id].learn(recorded)


def _open_request(id: str, task: Known) -> Open | None:
    """The request that a task waits for, with the most that it may cost."""
    waiting = task.waited_for()
    if waiting is None or not isinstance(waiting[1], PhaseRequested) or task.task.ended is not None:
        return None
    request = waiting[1]
    most = (request.calls_max or UNLIMITED_CALLS_MAX) * request.worst_case_pico_usd
    return Open(id, request.request_id, request.model, most)


def _of_task(id: str, task: Known, prices: PriceBook, month: str, reserved: Open | None) -> Mapping[str, int]:
    """What the calls of a task have cost in a month, and its open request may cost, unless money is kept for that."""
    spent: defaultdict[str, int] = defaultdict(int)
    for call in task.calls.values():
        if month_of(call.began_at) == month and not (reserved and call.fact.request_id == reserved.request_id):
            tally: Tally = task.cost_of_call(call.call_id, prices)
            spent[call.fact.model] += tally.cost_pico_usd + tally.uncertain_cost_pico_usd
    if reserved is None and (asked := _open_request(id, task)) is not None:
        spent[asked.model] += asked.amount
    return spent
