"""Why a task is where it is, and why it went the way it went."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from factory.task.v1 import ExplainResponse, PhaseKind, Task
from rich.console import Console

from factory_client.as_json import as_json
from factory_client.drawing import console, say
from factory_client.explaining import Told, phase_lines, told
from factory_client.factory import Factory
from factory_client.plain import one_line
from factory_client.session import USAGE, DataOption, JsonOption, TaskArgument, emit, fail, resolve, talk
from factory_client.waiting import why_sentences
from factory_client.words import UnknownWord, code_word, phase_for, phase_word

INDENT = 2


def why(
    task: TaskArgument,
    phase: Annotated[
        str,
        typer.Argument(
            metavar="PHASE", help="Every decision about one phase: implement, review, …", show_default=False
        ),
    ] = "",
    as_json_lines: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Say whose turn it is, since when, what happens next, and why each phase went to its model.

    With a phase: every decision about it, what ruled the other models out, and the rules that decided. Programs get
    the receipts, too: --json gives the task and its decisions.

    Examples:
      factory why 01kb2x7mz4e9
      factory why 01kb2x7mz4e9 implement
      factory why 01kb2x7mz4e9 --json | jq -r .waiting_for
      factory why 01kb2x7mz4e9 review --json | jq '.decisions[].receipt.candidates'
    """
    try:
        wanted = code_word(PhaseKind, phase_for(phase))
    except UnknownWord as error:
        fail(str(error), USAGE)

    async def conversation(factory: Factory) -> tuple[Task, ExplainResponse]:
        whole = await resolve(factory, task)
        return await factory.get(whole), await factory.explain(whole, wanted)

    found, explained = talk(data, conversation)
    if as_json_lines:
        emit(as_json(found) | as_json(explained))
        return
    screen = console()
    if wanted:
        _show(screen, [told(one) for one in explained.decisions], wanted)
        return
    for sentence in why_sentences(found, datetime.now(UTC)):
        typer.echo(one_line(sentence))  # not folded: it may hold a command that somebody copies
    lines = phase_lines(found.plan, explained.decisions)
    if lines:
        typer.echo("Who does what:")
        for line in lines:
            say(screen, line, INDENT)
        typer.echo(f"Every decision about a phase: factory why {found.task_id} PHASE")


def _show(screen: Console, decisions: list[Told], phase: str) -> None:
    if not decisions:
        say(screen, f"nothing has been decided about {phase_word(phase_for(phase))} yet")
    for decision in decisions:
        say(screen, decision.heading, style="bold")
        for sentence in decision.sentences:
            say(screen, sentence, INDENT)
        if decision.receipt:
            say(screen, decision.receipt, INDENT, "dim")
