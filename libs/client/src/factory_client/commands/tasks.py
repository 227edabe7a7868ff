"""Commands about tasks that are there already. They ask and show; submitting is another module's."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from factory.audit.v1 import TaskReportResponse, TaskRow
from factory.task.v1 import TASK_STATE_COMPLETED, TASK_STATE_HELD, Task
from policy.report import render_tree
from rich import box
from rich.table import Table
from rich.text import Text

from factory_client.as_json import as_json
from factory_client.drawing import console
from factory_client.factory import Factory
from factory_client.following import Followed, follow, follow_as_json
from factory_client.plain import one_line
from factory_client.session import FAILED, USAGE, DataOption, JsonOption, TaskArgument, emit, fail, resolve, talk
from factory_client.words import age_text, held_word, money, pico_usd, plural, scope_word, state_word, type_word, usd

# From here on there is room for every column of the list of tasks.
WIDE_COLUMNS = 132
LEFT_OUT_WHERE_NARROW = frozenset({"type", "age"})
# Enough of an id to be the only one that begins so, and any command takes it.
TASK_ID_SHOWN = 14


def watch(task: TaskArgument, as_json_lines: JsonOption = False, data: DataOption = None) -> None:
    """Show a task's progress as it happens, until it ends.

    Ctrl-C leaves the task running; watch it again at any time. Exit code 1 when the task fails.
    With --json each line is one event: sequence, occurred_at, producer, facts, task.

    Examples:
      factory watch 01kb2x7mz4e9
      factory watch 01kb2x7mz4e9 --json | jq -r '.facts[].summary'
    """

    async def conversation(factory: Factory) -> Followed:
        whole = await resolve(factory, task)
        if as_json_lines:
            return await follow_as_json(factory, whole, emit)
        return await follow(factory, whole, console())

    followed = talk(data, conversation, task)
    end_of(followed.task, quiet=as_json_lines)


def end_of(task: Task, quiet: bool = False) -> None:
    """Says how a watched task has ended, and ends with the exit code for it."""
    if task.state == TASK_STATE_COMPLETED:
        if not quiet:
            typer.echo(f"\npull request: {one_line(task.pull_request_url)}\nreport: factory report {task.task_id}")
        return
    if quiet:
        raise typer.Exit(FAILED)
    fail(f"{task.task_id} {state_word(task.state)}: {task.reason or 'no reason given'}", FAILED)


def tasks(
    project: Annotated[str, typer.Option(help="Only this project's.", show_default=False)] = "",
    state: Annotated[
        str, typer.Option(help="Only in this state: running, awaiting_review, …", show_default=False)
    ] = "",
    search: Annotated[str, typer.Option(help="Words in the title.", show_default=False)] = "",
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=5000)] = 50,
    as_json_lines: JsonOption = False,
    data: DataOption = None,
) -> None:
    """List tasks, newest first, with their tokens and cost.

    Examples:
      factory tasks
      factory tasks --state awaiting_review
      factory tasks --search jwt --json | jq -r '.tasks[].task_id'
    """
    rows = talk(data, lambda factory: factory.tasks(project, state, search, limit))
    if as_json_lines:
        emit({"tasks": [as_json(row) for row in rows]})
    elif rows:
        screen = console()
        screen.print(_task_table(rows, screen.width))
    else:
        typer.echo("no tasks; submit one with: factory submit 'Title' --repo .")


def _task_table(rows: list[TaskRow], width: int) -> Table:
    """Where there is little room, what identifies a task and says how it stands is kept, and the title is cut."""
    narrow = width < WIDE_COLUMNS
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("task", "title", "type", "state", "tokens", "cost", "age"):
        if narrow and heading in LEFT_OUT_WHERE_NARROW:
            continue
        number = heading in {"tokens", "cost", "age"}
        table.add_column(heading, no_wrap=heading != "title", justify="right" if number else "left")
    now = datetime.now(UTC)
    for row in rows:
        kind = " · ".join(part for part in (type_word(row.type), scope_word(row.scope)) if part)
        cells = {
            "task": row.task_id[:TASK_ID_SHOWN] if narrow else row.task_id,
            "title": Text(one_line(row.title), no_wrap=True, overflow="ellipsis"),
            "type": kind,
            "state": Text(_state(row)),
            "tokens": f"{row.amount.tokens:,}",
            "cost": money(row.amount.cost_pico_usd),
            "age": age_text(row.submitted_at, now),
        }
        table.add_row(*(cells[str(column.header)] for column in table.columns))
    return table


def _state(row: TaskRow) -> str:
    """How a task stands; for a held one with what it waits for."""
    state, cause = state_word(row.state), held_word(row.hold_cause)
    return f"{state}: {cause}" if row.state == TASK_STATE_HELD and cause else state


def report(
    task: TaskArgument,
    long: Annotated[bool, typer.Option("--long", help="With cost, time and reason beside each line.")] = False,
    as_json_lines: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Show which model used how many tokens for what.

    Examples:
      factory report 01kb2x7mz4e9
      factory report 01kb2x7mz4e9 --long
      factory report 01kb2x7mz4e9 --json | jq .total.tokens
    """

    async def conversation(factory: Factory) -> TaskReportResponse:
        return await factory.report(await resolve(factory, task))

    answer = talk(data, conversation)
    if as_json_lines:
        emit(as_json(answer))
    else:
        typer.echo(render_tree(answer, long=long))


def cancel(task: TaskArgument, as_json_lines: JsonOption = False, data: DataOption = None) -> None:
    """End a task; what it has cost so far stays in the ledger.

    Examples:
      factory cancel 01kb2x7mz4e9
    """

    async def conversation(factory: Factory) -> str:
        whole = await resolve(factory, task)
        await factory.cancel(whole)
        return whole

    whole = talk(data, conversation)
    if as_json_lines:
        emit({"task_id": whole, "cancelled": True})
    else:
        typer.echo(f"{whole} is cancelled")


def release(
    task: TaskArgument,
    max_cost: Annotated[
        str, typer.Option(metavar="USD", help="A new limit for the task, such as 2.50.", show_default=False)
    ] = "",
    reason: Annotated[str, typer.Option("--reason", "-m", help="Why, for the record.", show_default=False)] = "",
    as_json_lines: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Let a held task go on; `factory why` says what holds it.

    Examples:
      factory release 01kb2x7mz4e9
      factory release 01kb2x7mz4e9 --max-cost 2.50 --reason "worth it"
    """
    try:
        limit = usd(pico_usd(max_cost)) if max_cost else None
    except ValueError as error:
        fail(f"--max-cost: {error}", USAGE)

    async def conversation(factory: Factory) -> str:
        whole = await resolve(factory, task)
        await factory.release(whole, reason, max_cost_usd=limit)
        return whole

    whole = talk(data, conversation)
    if as_json_lines:
        emit({"task_id": whole, "released": True})
    else:
        typer.echo(f"{whole} goes on\nwatch it with: factory watch {whole}")


def erase(
    task: TaskArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json_lines: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Erase the prompts, answers, changes and texts of a task that has ended.

    Its facts, costs and proofs stay: the ledger never forgets what was spent.

    Examples:
      factory erase 01kb2x7mz4e9
      factory erase 01kb2x7mz4e9 --yes --json
    """
    if as_json_lines and not yes:
        fail("--json asks nothing, and this cannot be undone: say --yes, too", USAGE)
    if not yes and not typer.confirm(f"Erase the texts of {task}? This cannot be undone."):
        raise typer.Exit(FAILED)

    async def conversation(factory: Factory) -> tuple[str, int]:
        whole = await resolve(factory, task)
        return whole, await factory.erase(whole)

    whole, erased = talk(data, conversation)
    if as_json_lines:
        emit({"task_id": whole, "erased": erased})
    else:
        typer.echo(f"erased {plural(erased, 'text')} of {whole}; its facts and its ledger lines stay")
