"""What the audit adds to the `factory` command. Reads a bill and asks the running factory for its ledger."""

from pathlib import Path
from typing import Annotated, Any

import typer
from factory.audit.v1 import LedgerLine
from factory_client import Factory
from factory_client.drawing import console
from factory_client.plain import one_line
from factory_client.session import FAILED, USAGE, DataOption, JsonOption, emit, fail, resolve, talk
from rich import box
from rich.table import Table

from audit.reconcile import BillUnreadable, Compared, Comparison, Kind, bill_from, compare


def reconcile(
    bill: Annotated[
        Path, typer.Argument(metavar="BILL", help="JSON lines that name our call ids.", show_default=False)
    ],
    task: Annotated[str, typer.Option(help="Only this task's calls.", show_default=False)] = "",
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Compare the ledger with a provider's bill, call by call, and name every difference.

    Exit code 1 when a billed call is missing from the ledger, was billed twice, or differs in tokens.

    Examples:
      factory reconcile bill.jsonl
      factory reconcile bill.jsonl --task 01kb2x7mz4e9 --json | jq .counts
    """
    try:
        text = bill.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"cannot read the bill {str(bill)!r}: {error}", USAGE)

    async def conversation(factory: Factory) -> tuple[str, list[LedgerLine]]:
        whole = await resolve(factory, task) if task else ""
        return whole, [line async for line in factory.ledger(whole)]

    task_id, lines = talk(data, conversation)
    try:
        comparison = compare(lines, bill_from(text, task_id))
    except BillUnreadable as error:
        fail(f"{bill}: {error}", USAGE)
    if as_json:
        emit(comparison_as_json(comparison))
    else:
        _show(comparison)
    if comparison.wrong:
        raise typer.Exit(FAILED)


def comparison_as_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison for programs: totals, counts by class, and every call that is not equal."""
    counts = comparison.counts
    return {
        "ledger_tokens": comparison.ledger_tokens,
        "up_to_tokens": comparison.up_to_tokens,
        "billed_tokens": comparison.billed_tokens,
        "calls": len(comparison.calls),
        "counts": {kind.value: counts[kind] for kind in Kind},
        "agrees": not comparison.wrong,
        "not_equal": [_call_as_json(call) for call in comparison.calls if call.kind != Kind.EQUAL],
    }


def _call_as_json(call: Compared) -> dict[str, Any]:
    return {
        "call_id": call.call_id,
        "class": call.kind.value,
        "ledger_tokens": call.ledger_tokens,
        "up_to_tokens": call.up_to_tokens,
        "billed_tokens": call.billed_tokens,
        "detail": call.detail,
    }


def _show(comparison: Comparison) -> None:
    unequal = [call for call in comparison.calls if call.kind != Kind.EQUAL]
    if unequal:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("call", overflow="fold")
        table.add_column("class")
        for heading in ("ledger", "up to", "billed"):
            table.add_column(heading, justify="right")
        table.add_column("detail", overflow="fold")
        for call in unequal:
            numbers = (call.ledger_tokens, call.up_to_tokens, call.billed_tokens)
            shown = ("" if number is None else f"{number:,}" for number in numbers)
            table.add_row(one_line(call.call_id), call.kind.value, *shown, one_line(call.detail))
        console().print(table)
    counts = ", ".join(f"{count} {kind.value}" for kind, count in sorted(comparison.counts.items())) or "no calls"
    up_to = f" (up to {comparison.up_to_tokens:,} more)" if comparison.up_to_tokens else ""
    ledger = f"ledger {comparison.ledger_tokens:,} tokens{up_to}"
    typer.echo(f"{ledger}, bill {comparison.billed_tokens:,} tokens: {counts}")
