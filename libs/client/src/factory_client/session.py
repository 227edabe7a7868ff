"""From a command line to a factory and back: finds the address, runs one conversation, turns errors into exit codes."""

import asyncio
import contextlib
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from factory_client.discovery import Address, NoAddress, find_address
from factory_client.errors import FactoryError
from factory_client.factory import Factory
from factory_client.plain import one_line
from factory_client.words import UnknownWord

OK, FAILED, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130

TASK_ID_LENGTH = 26
PREFIX_LENGTH_MIN = 6
# How far back a prefix is looked for.
PREFIX_TASKS_MAX = 5_000

T = TypeVar("T")

DataOption = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="The factory's data directory, else FACTORY_DATA.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs: JSON on stdout.")]
TaskArgument = Annotated[
    str, typer.Argument(metavar="TASK", help="Task id, or the first six or more characters of it.", show_default=False)
]

PhaseArgument = Annotated[
    str, typer.Argument(metavar="PHASE", help="design, implement, review, refactor, …", show_default=False)
]
ProjectArgument = Annotated[str, typer.Argument(metavar="PROJECT", help="Name of the project.", show_default=False)]


def fail(message: str, code: int = FAILED) -> NoReturn:
    """One line on stderr, and the end."""
    typer.echo(f"factory: {one_line(message)}", err=True)
    raise typer.Exit(code)


def emit(thing: Any) -> None:
    """One JSON value on one line of stdout."""
    typer.echo(json.dumps(thing, ensure_ascii=False))
    sys.stdout.flush()


def talk(data: Path | None, conversation: Callable[[Factory], Awaitable[T]], task: str = "") -> T:
    """Runs one conversation with the factory that `data` or the environment names.

    `task` is what Ctrl-C leaves running, for the line that says how to come back.
    """
    try:
        address = find_address(data)
    except NoAddress as error:
        fail(str(error), UNREACHABLE)
    try:
        return asyncio.run(_converse(address, data, conversation))
    except FactoryError as error:
        _refused(error, address)
    except UnicodeEncodeError:
        fail("the command line holds bytes that are not UTF-8 text", USAGE)
    except UnknownWord as error:
        fail(str(error), USAGE)
    except KeyboardInterrupt:
        if task:
            typer.echo(f"\n{task} goes on without you; come back with: factory watch {task}", err=True)
        raise typer.Exit(INTERRUPTED) from None


async def _converse(address: Address, data: Path | None, conversation: Callable[[Factory], Awaitable[T]]) -> T:
    known = address.url

    def current() -> str:
        """Where it listens now: elsewhere after another start, and the last place known while it is down."""
        nonlocal known
        with contextlib.suppress(NoAddress):
            known = find_address(data).url
        return known

    async with Factory(current, address.token, audit_url=address.audit_url) as factory:
        return await conversation(factory)


def _refused(error: FactoryError, address: Address) -> NoReturn:
    if error.code == "UNAVAILABLE":
        fail(f"cannot reach the factory at {address.url} (from {address.source}): {error.message}", UNREACHABLE)
    if error.unreachable:
        fail(f"the factory at {address.url} did not answer in time: {error.message}", UNREACHABLE)
    fail(str(error), FAILED)


async def resolve(factory: Factory, task: str) -> str:
    """The whole id of a task from its first characters; the only task it can mean, or a refusal."""
    asked = task.strip().lower()
    if len(asked) >= TASK_ID_LENGTH:
        return asked
    if len(asked) < PREFIX_LENGTH_MIN:
        fail(f"{task!r} is too short for a task; give its id or at least {PREFIX_LENGTH_MIN} characters of it", USAGE)
    rows = await factory.tasks(limit=PREFIX_TASKS_MAX)
    found = [row.task_id for row in rows if row.task_id.startswith(asked)]
    match found:
        case [only]:
            return only
        case []:
            fail(f"no task begins with {task!r}; `factory tasks` lists them", FAILED)
        case _:
            some = ", ".join(found[:4]) + (", …" if len(found) > 4 else "")
            fail(f"{task!r} may mean {len(found)} tasks: {some}", USAGE)
