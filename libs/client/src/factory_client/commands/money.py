"""Commands about tokens and money. Shows what the audit says; computes nothing of its own."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from factory.audit.v1 import Amount, LedgerLine, UsageResponse
from rich import box
from rich.table import Table

from factory_client.as_json import as_json
from factory_client.drawing import console
from factory_client.factory import Factory
from factory_client.plain import one_line
from factory_client.session import USAGE, DataOption, JsonOption, emit, fail, resolve, talk
from factory_client.words import clock_text, money, outcome_word, phase_word

DIMENSIONS = "model, type, phase, project or day"
# From here on there is room for every column of the ledger.
WIDE_COLUMNS = 128
LEFT_OUT_WHERE_NARROW = frozenset({"started", "phase"})
TASK_ID_SHOWN = 14
NUMBERS = ("calls", "tokens", "cost", "uncertain", "unpriced")


def usage(
    by: Annotated[list[str] | None, typer.Option(help=f"Group by {DIMENSIONS}; may be repeated.")] = None,
    project: Annotated[str, typer.Option(help="Only this project's.", show_default=False)] = "",
    since: Annotated[datetime | None, typer.Option(help="From this time on (UTC).", show_default=False)] = None,
    until: Annotated[datetime | None, typer.Option(help="Until before this time (UTC).", show_default=False)] = None,
    as_json_lines: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Sum tokens and cost, by model or whatever else is asked.

    Examples:
      factory usage
      factory usage --by project --by model --since 2026-11-01
      factory usage --by day --json | jq -r '.rows[] | [.key[0], .amount.cost_usd] | @csv'
    """
    dimensions = by or ["model"]
    if since and until and since >= until:
        fail("--since must be before --until", USAGE)

    async def conversation(factory: Factory) -> UsageResponse:
        return await factory.usage(dimensions, project=project, since=_utc(since), until=_utc(until))

    answer = talk(data, conversation)
    if as_json_lines:
        emit(as_json(answer) | {"group_by": dimensions})
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True)
    for index, heading in enumerate(dimensions):
        table.add_column(heading, footer="total" if index == 0 else "")
    for heading, total in zip(NUMBERS, _numbers(answer.total), strict=True):
        table.add_column(heading, justify="right", footer=total)
    for row in answer.rows:
        table.add_row(*map(one_line, row.key), *_numbers(row.amount))
    console().print(table)


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment else None


def _numbers(amount: Amount) -> tuple[str, str, str, str, str]:
    uncertain = ""
    if amount.uncertain_tokens:
        uncertain = f"up to {amount.uncertain_tokens:,} ({money(amount.uncertain_cost_pico_usd)})"
    if amount.unknown_calls:
        uncertain = " + ".join(part for part in (uncertain, f"{amount.unknown_calls} calls unknown") if part)
    unpriced = f"{amount.unpriced_tokens:,}" if amount.unpriced_tokens else ""
    return f"{amount.calls:,}", f"{amount.tokens:,}", money(amount.cost_pico_usd), uncertain, unpriced


def ledger(
    task: Annotated[str, typer.Option(help="Only this task's.", show_default=False)] = "",
    project: Annotated[str, typer.Option(help="Only this project's.", show_default=False)] = "",
    limit: Annotated[int, typer.Option(help="At most so many lines; 0 for all.", min=0)] = 0,
    as_json_lines: JsonOption = False,
    data: DataOption = None,
) -> None:
    """List every call to a provider: tokens, cost, and how it ended.

    With --json each line is one call.

    Examples:
      factory ledger --task 01kb2x7mz4e9
      factory ledger --json | jq -s 'map(select(.outcome != "ok"))'
    """

    async def conversation(factory: Factory) -> list[LedgerLine]:
        whole = await resolve(factory, task) if task else ""
        lines: list[LedgerLine] = []
        async for line in factory.ledger(whole, project, limit):
            if as_json_lines:
                emit(as_json(line))
            else:
                lines.append(line)
        return lines

    lines = talk(data, conversation)
    if as_json_lines:
        return
    if not lines:
        typer.echo("no calls yet")
        return
    screen = console()
    screen.print(_ledger_table(lines, screen.width))


def _ledger_table(lines: list[LedgerLine], width: int) -> Table:
    """Where there is little room the call's id, which names its phase, is cut in the middle."""
    narrow = width < WIDE_COLUMNS
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("call", "started", "model", "phase", "outcome", "tokens", "cost"):
        if not (narrow and heading in LEFT_OUT_WHERE_NARROW):
            number = heading in {"tokens", "cost"}
            table.add_column(heading, overflow="fold", no_wrap=heading == "call", justify="right" if number else "left")
    for line in lines:
        task, _, request = line.call_id.partition(".")
        cells = {
            "call": f"{task[:TASK_ID_SHOWN]}….{request}" if narrow else line.call_id,
            "started": clock_text(line.started_at) if line.HasField("started_at") else "",
            "model": line.model,
            "phase": phase_word(line.phase),
            "outcome": outcome_word(line.outcome),
            "tokens": _line_tokens(line),
            "cost": _line_cost(line),
        }
        table.add_row(*(cells[str(column.header)] for column in table.columns))
    return table


def _line_tokens(line: LedgerLine) -> str:
    if line.HasField("up_to_tokens"):
        return f"up to {line.up_to_tokens:,}"
    if not line.HasField("usage"):
        return "unknown"
    return f"{sum(value for _, value in line.usage.ListFields()):,}"


def _line_cost(line: LedgerLine) -> str:
    if line.HasField("cost_pico_usd"):
        return money(line.cost_pico_usd)
    if line.HasField("up_to_cost_pico_usd"):
        return f"up to {money(line.up_to_cost_pico_usd)}"
    return "unpriced" if line.HasField("usage") else "unknown"
