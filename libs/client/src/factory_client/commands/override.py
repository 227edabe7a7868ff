"""An architect's word on the command line: which model does a phase of one task."""

from typing import Annotated

import typer
from factory.task.v1 import PhaseKind

from factory_client.factory import Factory
from factory_client.plain import one_line
from factory_client.session import (
    USAGE,
    DataOption,
    JsonOption,
    PhaseArgument,
    TaskArgument,
    emit,
    fail,
    resolve,
    talk,
)
from factory_client.words import UnknownWord, code_word, phase_for, phase_word


def override(
    task: TaskArgument,
    phase: PhaseArgument,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="As `factory models` calls it.", show_default=False)
    ] = "",
    clear: Annotated[bool, typer.Option("--clear", help="Take an earlier override back.")] = False,
    reason: Annotated[str, typer.Option("--reason", "-m", help="Why, for the record.", show_default=False)] = "",
    as_json_lines: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Give a phase of a task to a model, before it begins or while it runs.

    A call that another model is making for it is stopped; what it has cost stays in the ledger.

    Examples:
      factory override 01kb2x7mz4e9 review claude -m "it knows this code"
      factory override 01kb2x7mz4e9 review --clear
    """
    if clear == bool(model):
        fail("say which model does it, or --clear to take an override back; one of them", USAGE)
    try:
        kind = phase_for(phase)
    except UnknownWord as error:
        fail(str(error), USAGE)
    wanted = code_word(PhaseKind, kind)

    async def conversation(factory: Factory) -> str:
        whole = await resolve(factory, task)
        await factory.override(whole, wanted, model, reason)
        return whole

    whole = talk(data, conversation)
    if as_json_lines:
        emit({"task_id": whole, "phase": wanted, "model": model or None, "overridden": not clear})
    elif clear:
        typer.echo(f"{phase_word(kind)} of {whole} goes by its route again")
    else:
        typer.echo(f"{phase_word(kind)} of {whole} is done by {one_line(model)}\nwhy: factory why {whole} {wanted}")
