"""The architect's desk on the command line: see what waits, look at it, decide."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from factory.artifact.v1 import SEVERITY_BLOCKING, Finding
from factory.audit.v1 import PendingReview
from factory.review.v1 import GetChangeResponse
from rich import box
from rich.table import Table

from factory_client.as_json import as_json
from factory_client.drawing import DIGEST_SHOWN, console, drawn_change
from factory_client.errors import FactoryError
from factory_client.factory import Factory
from factory_client.plain import one_line
from factory_client.session import USAGE, DataOption, JsonOption, TaskArgument, emit, fail, resolve, talk
from factory_client.words import age_text, money

REJECTED = "rejected"

review = typer.Typer(
    help="See the changes that wait for a decision, and decide.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
)

ChangeOption = Annotated[
    str,
    typer.Option(
        metavar="DIGEST",
        help="The change that was looked at, as `review show` prints it; the one that waits now if left out.",
        show_default=False,
    ),
]
RemarkOption = Annotated[str, typer.Option("--remark", "-m", help="Why, for the record.", show_default=False)]


@review.command("list")
def list_(
    project: Annotated[str, typer.Option(help="Only this project's.", show_default=False)] = "",
    as_json_lines: JsonOption = False,
    data: DataOption = None,
) -> None:
    """List the changes that wait, longest waiting first.

    Examples:
      factory review list
      factory review list --json | jq -r '.reviews[].task_id'
    """
    waiting = talk(data, lambda factory: factory.pending_reviews(project))
    if as_json_lines:
        emit({"reviews": [as_json(one) for one in waiting]})
    elif waiting:
        console().print(_pending_table(waiting))
        typer.echo("look at one with: factory review show TASK")
    else:
        typer.echo("nothing waits for a decision")


def _pending_table(waiting: list[PendingReview]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("task", no_wrap=True)
    table.add_column("title", overflow="fold")
    for heading in ("project", "change", "waiting"):
        table.add_column(heading, no_wrap=True)
    for heading in ("tokens", "cost"):
        table.add_column(heading, no_wrap=True, justify="right")
    now = datetime.now(UTC)
    for one in waiting:
        table.add_row(
            one.task_id,
            one_line(one.title),
            one_line(one.project),
            one.change_digest[:DIGEST_SHOWN],
            age_text(one.waiting_since, now),
            f"{one.amount.tokens:,}",
            money(one.amount.cost_pico_usd),
        )
    return table


@review.command()
def show(task: TaskArgument, as_json_lines: JsonOption = False, data: DataOption = None) -> None:
    """Show the change that waits: what the gate says, what was found, and the diff.

    Examples:
      factory review show 01kb2x7mz4e9
      factory review show 01kb2x7mz4e9 --json | jq -r .diff | git apply
    """

    async def conversation(factory: Factory) -> GetChangeResponse:
        return await factory.get_change(await resolve(factory, task))

    change = talk(data, conversation)
    if as_json_lines:
        emit(as_json(change))
        return
    screen = console()
    screen.print(drawn_change(change))
    digest = change.change_digest[:DIGEST_SHOWN]
    typer.echo(f"\ndecide with: factory review approve {change.task_id} --change {digest}")
    typer.echo('             factory review request-changes … -m "what is wrong" · factory review reject …')


@review.command()
def approve(
    task: TaskArgument,
    change: ChangeOption = "",
    remark: RemarkOption = "",
    as_json_lines: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Let the change pass; the pull request follows.

    Give the digest that you looked at: if the change has moved on since, the approval is refused.

    Examples:
      factory review approve 01kb2x7mz4e9 --change 4fd0a1b2c3d4
      factory review approve 01kb2x7mz4e9 --remark "expiry is checked now"
    """

    async def decide(factory: Factory, waiting: GetChangeResponse) -> None:
        await factory.approve(waiting.task_id, waiting.change_digest, waiting.evidence_digest, remark)

    _decide("approved", task, change, decide, as_json_lines, data)


@review.command("request-changes")
def request_changes(
    task: TaskArgument,
    change: ChangeOption = "",
    remark: RemarkOption = "",
    comment: Annotated[
        list[str] | None, typer.Option(metavar="PATH:LINE:TEXT", help="At a line of the change; may be repeated.")
    ] = None,
    as_json_lines: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Send the change back to its author, saying what is wrong.

    Examples:
      factory review request-changes 01kb2x7mz4e9 -m "tokens must expire"
      factory review request-changes 01kb2x7mz4e9 --comment "src/auth.py:12:check exp here"
    """
    if not remark and not comment:
        fail("--remark: say what is wrong (or --comment PATH:LINE:TEXT), the author reads it", USAGE)
    comments = [_comment(one) for one in comment or ()]

    async def decide(factory: Factory, waiting: GetChangeResponse) -> None:
        seen = waiting.change_digest, waiting.evidence_digest
        await factory.request_changes(waiting.task_id, *seen, remark=remark, comments=comments)

    _decide("sent back", task, change, decide, as_json_lines, data)


@review.command()
def reject(
    task: TaskArgument,
    change: ChangeOption = "",
    remark: RemarkOption = "",
    as_json_lines: JsonOption = False,
    data: DataOption = None,
) -> None:
    """End the task without a pull request.

    Examples:
      factory review reject 01kb2x7mz4e9 --remark "solved elsewhere"
    """

    async def decide(factory: Factory, waiting: GetChangeResponse) -> None:
        await factory.reject(waiting.task_id, waiting.change_digest, waiting.evidence_digest, remark)

    _decide(REJECTED, task, change, decide, as_json_lines, data)


def _decide(decision: str, task: str, change: str, decide, as_json_lines: bool, data: Path | None) -> None:
    """Decides on the change that was looked at, or (where none is named) on the one that waits now."""

    async def conversation(factory: Factory) -> GetChangeResponse:
        waiting = await factory.get_change(await resolve(factory, task))
        if change and not waiting.change_digest.startswith(change.lower()):
            now = waiting.change_digest[:DIGEST_SHOWN]
            raise FactoryError("FAILED_PRECONDITION", f"change {change[:DIGEST_SHOWN]} has moved on; {now} waits now")
        await decide(factory, waiting)
        return waiting

    decided = talk(data, conversation)
    if as_json_lines:
        emit(
            {"task_id": decided.task_id, "decision": decision.replace(" ", "_"), "change_digest": decided.change_digest}
        )
        return
    typer.echo(
        f"{decision}: change {decided.change_digest[:DIGEST_SHOWN]} of {decided.task_id} {one_line(decided.title)}"
    )
    if decision != REJECTED:
        typer.echo(f"watch it with: factory watch {decided.task_id}")


def _comment(text: str) -> Finding:
    path, _, rest = text.partition(":")
    line, _, message = rest.partition(":")
    if not (path and line.isdigit() and message.strip()):
        fail(f"--comment: expected PATH:LINE:TEXT, found {text!r}", USAGE)
    return Finding(source="human", severity=SEVERITY_BLOCKING, path=path, line=int(line), message=message.strip())
