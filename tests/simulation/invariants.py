"""What must hold of every world when it has come to rest. Each rule gives the sentences that say how it was broken."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from conductor.budget_month import Month
from conductor.budget_room import LANE_PREFIX, project_and_month, reservation_id
from eventlog.facts import may_say
from eventlog.work import Request
from factory.budget.v1 import BudgetReserved, BudgetSet
from factory.call.v1 import CALL_OUTCOME_NOT_SENT, CALL_OUTCOME_OK, ModelCalled, ModelCallStarted
from factory.review.v1 import TaskRejected
from factory.task.v1 import TASK_STATE_COMPLETED, TaskCancelled, TaskCompleted, TaskFailed
from policy.calls import Call, calls_in, final_usage, reckon
from policy.prices import total_tokens
from simulation.surroundings import PRICES
from simulation.world import World

Ended = TaskCompleted | TaskFailed | TaskCancelled | TaskRejected
Rule = Callable[[World], Iterator[str]]


def every_task_has_ended(world: World) -> Iterator[str]:
    for id, known in world.truth.items():
        if (task := known.task).ended is None:
            yield f"{id} has not ended: it waits for {task.open}, held {task.held!r}"


def lanes_have_no_gaps(world: World) -> Iterator[str]:
    versions: Counter[tuple[str, str]] = Counter()
    for stored in world.log.events:
        lane = stored.event.producer, stored.event.id
        versions[lane] += 1
        if stored.event.version != versions[lane]:
            yield f"sequence {stored.sequence}: {lane} has version {stored.event.version}, not {versions[lane]}"


def nobody_says_what_is_not_theirs(world: World) -> Iterator[str]:
    for stored in world.log.events:
        for fact in stored.facts:
            if fact is None or not may_say(stored.event.producer, fact):
                yield f"sequence {stored.sequence}: {stored.event.producer} may not say {fact!r}"


def no_request_is_made_twice(world: World) -> Iterator[str]:
    asked: Counter[tuple[str, str]] = Counter()
    for stored in world.log.events:
        for fact in stored.facts:
            if isinstance(fact, Request):
                asked[stored.event.id, fact.request_id] += 1
    for (id, request_id), times in asked.items():
        if times > 1:
            yield f"{id} asks for {request_id} {times} times"


def nothing_is_asked_for_a_task_that_has_ended(world: World) -> Iterator[str]:
    for id in world.truth:
        over = 0
        for stored in world.log.of_id[id]:
            for fact in stored.facts:
                if isinstance(fact, Ended):
                    if over:
                        yield f"{id} ends twice, at {over} and {stored.sequence}"
                    over = stored.sequence
                elif isinstance(fact, Request) and over:
                    yield f"{id} asks for {fact.request_id} at {stored.sequence}, and ended at {over}"


def a_task_has_one_pull_request(world: World) -> Iterator[str]:
    for id in world.truth:
        there = world.outside.pull_requests.get(id, [])
        if len(there) > 1:
            yield f"{id} has {len(there)} pull requests"
        if world.truth[id].task.ended == TASK_STATE_COMPLETED and not there:
            yield f"{id} is completed without a pull request"


def every_call_was_asked_for(world: World) -> Iterator[str]:
    """A call starts only for a request that stands in the log before it."""
    asked: set[tuple[str, str]] = set()
    for stored in world.log.events:
        for fact in stored.facts:
            if isinstance(fact, Request):
                asked.add((stored.event.id, fact.request_id))
            elif isinstance(fact, ModelCallStarted) and (stored.event.id, fact.request_id) not in asked:
                yield f"sequence {stored.sequence}: {fact.call_id} was asked for by nobody"


def nothing_is_paid_for_again(world: World) -> Iterator[str]:
    """No call begins for a request whose recorded answer was usable."""
    usable: dict[tuple[str, str], str] = {}
    for stored in world.log.events:
        for fact in stored.facts:
            match fact:
                case ModelCallStarted() if earlier := usable.get((stored.event.id, fact.request_id)):
                    yield f"sequence {stored.sequence}: {fact.call_id} begins, and {earlier} was usable"
                case ModelCalled() if fact.outcome == CALL_OUTCOME_OK:
                    if world.outside.answers[fact.response.digest].is_usable:
                        usable[stored.event.id, fact.request_id] = fact.call_id
                case _:
                    continue


def the_ledger_is_the_bill(world: World) -> Iterator[str]:
    """Each line of the bill is one call of the log; what is known is equal, what is lost is bounded."""
    calls = calls_in(stored.event for stored in world.log.events)
    started = Counter(
        fact.call_id for stored in world.log.events for fact in stored.facts if isinstance(fact, ModelCallStarted)
    )
    billed: dict[str, int] = {}
    for line in world.outside.bill:
        if line.call_id in billed:
            yield f"{line.call_id} is on the bill twice"
        billed[line.call_id] = line.tokens
        if started[line.call_id] != 1:
            yield f"{line.call_id} is on the bill, and {started[line.call_id]} times in the ledger"
    for id, call in calls.items():
        yield from _differs(world, call, billed.get(id, 0))


def _differs(world: World, call: Call, billed: int) -> Iterator[str]:
    if call.started is None:
        yield f"{call.call_id} has an end and no start"
        return
    if (usage := final_usage(call.ended)) is not None:
        if total_tokens(usage) != billed:
            yield f"{call.call_id}: the ledger has {total_tokens(usage)} tokens, the bill {billed}"
        return
    most = reckon(call, PRICES).up_to_tokens
    world.counts["calls whose cost is an upper bound"] += 1
    if most is None or billed > most:
        yield f"{call.call_id}: the bill has {billed} tokens, the ledger at most {most}"
    if call.ended is None:
        world.counts["calls that never end in the log"] += 1
    elif call.ended.outcome == CALL_OUTCOME_NOT_SENT and billed:
        yield f"{call.call_id} was never sent, and is billed"


def budgets_are_kept(world: World) -> Iterator[str]:
    """Nothing is reserved beyond a limit, and in the end nothing is kept for anybody."""
    months: dict[str, Month] = {}
    for stored in world.log.events:
        id = stored.event.id
        if not id.startswith(LANE_PREFIX):
            continue
        month = months.setdefault(id, Month(*project_and_month(id)))
        month.evolve(stored.facts, stored.event.read_to)
        # What was under way already when the month's first limit was set is taken over, and asks for no room.
        taken_over = any(isinstance(fact, BudgetSet) and fact.carried_read_to for fact in stored.facts)
        for fact in stored.facts:
            if isinstance(fact, BudgetReserved) and not taken_over:
                world.counts["reservations"] += 1
                for model in ("", fact.model):
                    account = month.account(model)
                    if account.hard is not None and account.drawn > account.hard:
                        yield f"sequence {stored.sequence}: {id} has {account.drawn} drawn of {account.hard}"
    for id, month in months.items():
        if month.open:
            yield f"{id} keeps {month.whole.reserved} for {', '.join(name for name, _ in month.every_held())}"
        yield from _miscounted(world, month)


def _miscounted(world: World, month: Month) -> Iterator[str]:
    """What a request has cost is booked once, and never less than the bill says."""
    for id, known in world.truth.items():
        for request_id, draw in known.draws.items():
            if draw.lane != month.lane:
                continue
            cost, tally = month.cost(reservation_id(id, request_id, draw.model)), known.cost_of(request_id, PRICES)
            booked, most = cost.amount if cost else 0, tally.cost_pico_usd + tally.uncertain_cost_pico_usd
            # One that was made before there was a budget has no `calls_max`, and is not among the draws.
            if booked > draw.amount_pico_usd:
                yield f"{month.lane}: {request_id} of {id} has cost {booked}, and {draw.amount_pico_usd} were reserved"
            if booked < most or (request_id in known.answered and booked > max(most, draw.amount_pico_usd)):
                yield f"{month.lane} books {booked} for {request_id} of {id}, which cost {most}"


def the_conductors_agree(world: World) -> Iterator[str]:
    """Whoever has read the whole log knows the same, and so does one who reads it anew."""
    for id in world.truth:
        truth = world.parts.known()
        for stored in world.log.of_id[id]:
            truth.learn(stored)
        for conductor in world.conductors:
            conductor.watch(world.log.head)
            if conductor.kept[id] != truth:
                yield f"{conductor.name} knows another {id} than the log: {conductor.kept[id].task}, not {truth.task}"
    for conductor in world.conductors:
        if conductor.book.roster != world.book.roster:
            yield f"{conductor.name} knows another roster than the log"
        for id, lane in conductor.lanes.items():
            if lane.tip.sequence != world.log.last("conductor", id).sequence:
                yield f"{conductor.name} knows {id} up to {lane.tip.sequence} only"


RULES: Sequence[Rule] = (
    every_task_has_ended,
    lanes_have_no_gaps,
    nobody_says_what_is_not_theirs,
    no_request_is_made_twice,
    nothing_is_asked_for_a_task_that_has_ended,
    a_task_has_one_pull_request,
    every_call_was_asked_for,
    nothing_is_paid_for_again,
    the_ledger_is_the_bill,
    budgets_are_kept,
    the_conductors_agree,
)


def broken(world: World) -> list[str]:
    """Every rule that this world breaks."""
    return [*world.wrong, *(f"{rule.__name__.replace('_', ' ')}: {how}" for rule in RULES for how in rule(world))]
