"""What a task would do and cost, before it is submitted. Pure."""

from dataclasses import replace

from factory.task.v1 import SubmitResponse, TaskFailed, TaskPlanned
from policy.prices import rounded_dollars
from policy.routes import phase_word

from conductor.book import Book
from conductor.funds import funds, is_soft_limit_passed
from conductor.next_step import next_step
from conductor.state import Task
from conductor.task import happened
from conductor.world import World


def foreseen(task: Task, world: World, book: Book) -> SubmitResponse:
    """The plan of a classified task with its context, what it usually costs, and the most that it can cost.

    Neither figure counts rework; each is absent where it is not known for every phase.
    """
    [planned] = next_step(task, world)
    if isinstance(planned, TaskFailed):
        return SubmitResponse(notes=[planned.reason])
    assert isinstance(planned, TaskPlanned), f"{type(planned).__name__} follows for a task with its context"
    task = happened(task, planned, world.now)
    answer = SubmitResponse(plan=planned.phases, notes=[*planned.notes, *_notes(task, world)])
    most: list[int | None] = []
    usual: list[int | None] = []
    for phase in planned.phases:
        model = world.models[phase.model]
        # Every change but the first is shown to whoever comes next.
        shown = replace(task, change="-") if most else task
        most.append(funds(shown, world, phase.phase, model, "").worst_case_pico_usd)
        usual.append(book.typical_pico_usd(model, phase.phase, world.now))
    if None not in most:
        answer.max_cost_pico_usd = sum(one or 0 for one in most)
    if None not in usual:
        answer.typical_cost_pico_usd = sum(one or 0 for one in usual)
    return answer


def _notes(task: Task, world: World) -> list[str]:
    """What would come in its way now."""
    notes = []
    if not world.has_room:
        notes.append(f"the project has {world.open_tasks_max} open tasks already; this one would wait for its turn")
    for name, well in sorted(world.health.items()):
        notes.append(f"{name} is not well now: {well.why}")
    first = task.queue[0]
    chosen = next((name for name, why in task.step(first).candidates if not why), "")
    money = funds(task, world, first, world.models[chosen], "") if chosen else None
    if money is not None and money.why_not:
        notes.append(f"{phase_word(first)} by {chosen} {money.why_not}")
    if is_soft_limit_passed(world):
        soft = next(budget for budget in world.budgets if budget.is_soft_limit_reached)
        notes.append(
            f"the soft limit of budget {soft.budget} ({rounded_dollars(soft.soft or 0)}) is passed: cheapest first"
        )
    return notes
