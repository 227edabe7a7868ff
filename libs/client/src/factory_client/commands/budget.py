"""Budgets on the command line: what a project may spend in a month, has spent, and has reserved."""

import shlex
from typing import Annotated

import typer
from factory.project.v1 import Budget, GetBudgetResponse
from rich import box
from rich.table import Table
from rich.text import Text

from factory_client.as_json import as_json
from factory_client.drawing import console
from factory_client.factory import Factory
from factory_client.plain import one_line
from factory_client.session import USAGE, DataOption, JsonOption, ProjectArgument, emit, fail, talk
from factory_client.words import money, money_left, month_for, percent_of, pico_usd, plural, usd

NONE = "none"
WHOLE_PROJECT = "project"
FULL, NEARLY_FULL_PERCENT = 100, 80

budget = typer.Typer(
    help="Say what a project may spend in a month.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
)

LimitOption = Annotated[
    str, typer.Option(metavar="USD|none", help="No request is made that could exceed it.", show_default=False)
]
SoftOption = Annotated[
    str, typer.Option(metavar="USD|none", help="Above it cheaper models come first.", show_default=False)
]


@budget.command()
def show(
    project: ProjectArgument,
    month: Annotated[
        str, typer.Option(metavar="YYYY-MM", help="The current one if left out.", show_default=False)
    ] = "",
    as_json_lines: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Show a project's budgets for a month: what is spent, reserved and left.

    `reserved` is the worst case of the calls under way; what a lost call has cost counts as spent with its upper bound.

    Examples:
      factory budget show shop
      factory budget show shop --month 2026-11 --json | jq -r '.budgets[0].spent_usd'
    """
    try:
        month_for(month)
    except ValueError as error:
        fail(f"--month: {error}", USAGE)
    found = talk(data, lambda factory: factory.budget(project, month))
    if as_json_lines:
        emit(as_json(found))
        return
    name = shlex.quote(one_line(project))
    if found.budgets:
        typer.echo(f"{one_line(found.project)} in {one_line(found.month)} (UTC)")
        console().print(_budget_table(found))
    else:
        typer.echo(f"{one_line(project)} has no budget in {one_line(found.month)}; set one with:")
        typer.echo(f"factory budget set {name} --hard USD")
    for line in _held(found, name):
        typer.echo(line)


def _held(found: GetBudgetResponse, name: str) -> list[str]:
    if not found.held_tasks:
        return []
    one = found.held_tasks == 1
    waits, goes_on = ("waits", "it goes on by itself") if one else ("wait", "they go on by themselves")
    return [
        f"{plural(found.held_tasks, 'task')} {waits} for money: factory tasks --project {name} --state held",
        f"{goes_on} when there is room: factory budget set {name} --hard USD",
    ]


def _budget_table(found: GetBudgetResponse) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("for", overflow="fold")
    for heading in ("spent", "reserved", "hard", "soft", "left", "used"):
        table.add_column(heading, justify="right", overflow="fold")
    for one in found.budgets:
        hard, soft = _limit(one, "hard_pico_usd"), _limit(one, "soft_pico_usd")
        used = one.spent_pico_usd + one.reserved_pico_usd
        left = money_left(hard - used) if hard is not None else "no limit"
        table.add_row(
            Text(one_line(one.model) or WHOLE_PROJECT, "cyan"),
            _spent(one),
            money(one.reserved_pico_usd),
            money(hard) if hard is not None else NONE,
            money(soft) if soft is not None else NONE,
            left,
            _used(used, hard, soft),
        )
    return table


def _spent(one: Budget) -> str:
    up_to = f" (of it up to {money(one.uncertain_pico_usd)} uncertain)" if one.uncertain_pico_usd else ""
    return f"{money(one.spent_pico_usd)}{up_to}"


def _used(used: int, hard: int | None, soft: int | None) -> Text:
    """The share of the hard limit, else of the soft one."""
    limit = hard if hard is not None else soft
    if limit is None:
        return Text("")
    if used >= limit:
        style = "bold red"
    elif used * FULL >= limit * NEARLY_FULL_PERCENT or (soft is not None and used >= soft):
        style = "yellow"
    else:
        style = "green"
    return Text(percent_of(used, limit) + (" of soft" if hard is None else ""), style)


@budget.command("set")
def set_(
    project: ProjectArgument,
    model: Annotated[str, typer.Option(help="For this model only, within the project's.", show_default=False)] = "",
    hard: LimitOption = "",
    soft: SoftOption = "",
    reason: Annotated[str, typer.Option("--reason", "-m", help="Why, for the record.", show_default=False)] = "",
    as_json_lines: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Set a monthly budget, from this month on; the limit that is not named stays.

    Tasks that wait for money go on by themselves when there is room.

    Examples:
      factory budget set shop --hard 500 --soft 400
      factory budget set shop --model claude --hard 100 --reason "trial"
      factory budget set shop --hard none
    """
    if not hard and not soft:
        fail("name a limit: --hard USD or --soft USD, or none to take it away", USAGE)
    asked_hard, asked_soft = _asked(hard, "--hard"), _asked(soft, "--soft")

    async def conversation(factory: Factory) -> tuple[Budget, Budget]:
        found = await factory.budget(project)
        before = next((one for one in found.budgets if one.model == model), Budget(model=model))
        new_hard = asked_hard if hard else _limit(before, "hard_pico_usd")
        new_soft = asked_soft if soft else _limit(before, "soft_pico_usd")
        if new_hard is not None and new_soft is not None and new_soft > new_hard:
            fail(f"the soft limit {money(new_soft)} is above the hard limit {money(new_hard)}", USAGE)
        exact = {
            "hard_usd": None if new_hard is None else usd(new_hard),
            "soft_usd": None if new_soft is None else usd(new_soft),
        }
        return before, await factory.set_budget(project, model=model, reason=reason, **exact)

    before, after = talk(data, conversation)
    if as_json_lines:
        emit({"project": project, "budget": as_json(after)})
        return
    where = f"{one_line(project)}, {one_line(model)}" if model else one_line(project)
    for name in ("hard", "soft"):
        old, new = _limit_text(before, name), _limit_text(after, name)
        typer.echo(f"{where}: {name} limit {old} → {new}" if old != new else f"{where}: {name} limit {new}")


def _asked(text: str, option: str) -> int | None:
    if not text or text == NONE:
        return None
    try:
        return pico_usd(text)
    except ValueError as error:
        fail(f"{option}: {error}, or none", USAGE)


def _limit(one: Budget, name: str) -> int | None:
    return getattr(one, name) if one.HasField(name) else None


def _limit_text(one: Budget, name: str) -> str:
    limit = _limit(one, f"{name}_pico_usd")
    return NONE if limit is None else money(limit)
