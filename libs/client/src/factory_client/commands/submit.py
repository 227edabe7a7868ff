"""Handing in a task from the command line: options become one SubmitRequest, an answer becomes a few lines."""

import sys
from collections.abc import Sequence
from decimal import Decimal
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Protocol

import typer
from factory.task.v1 import Scope, TaskType

from factory_client.as_json import as_json
from factory_client.attachments import read_attachments, uploads
from factory_client.commands.tasks import end_of
from factory_client.drawing import console, drawn_plan
from factory_client.factory import Factory, Submitted
from factory_client.following import Followed, follow, follow_as_json
from factory_client.plain import one_line
from factory_client.session import USAGE, DataOption, JsonOption, emit, fail, talk
from factory_client.words import code_word, cost_text, pico_usd, scope_for, span_for, task_type_for, usd, usd_text

# The classifier contributes its function here: `classify(title, body) -> Classified`.
CLASSIFY = "factory.classify"
# What the factory takes at most; read a little more, so that it is the factory that refuses.
BODY_BYTES_MAX = 256 * 1024
STDIN = "-"

Repository = Annotated[
    str,
    typer.Option(
        "--repo", metavar="PATH_OR_URL", help="A repository, where it belongs to no project.", show_default=False
    ),
]
BodyFile = Annotated[
    str, typer.Option(metavar="FILE", help="The long description; - reads it from stdin.", show_default=False)
]
TypeOption = Annotated[
    str,
    typer.Option(
        "--type", help="architecture, logic, refactoring, ui, api, tests or documentation.", show_default=False
    ),
]
MaxCost = Annotated[
    str, typer.Option(metavar="USD", help="Hold the task before it costs more, such as 0.50.", show_default=False)
]
DeadlineOption = Annotated[
    str,
    typer.Option(
        metavar="SPAN", help="It fails if it has no pull request by then: 90m, 2h, 1d from now.", show_default=False
    ),
]
AttachOption = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE", help="An image or a text that belongs to it; may be repeated, up to 8.", show_default=False
    ),
]


class Classified(Protocol):
    """What this command needs of a classifier's answer."""

    @property
    def type(self) -> int: ...
    @property
    def scope(self) -> int: ...
    @property
    def method(self) -> str: ...
    @property
    def reasons(self) -> Sequence[str]: ...


def submit(
    title: Annotated[str, typer.Argument(metavar="TITLE", help="What is wanted, in one line.", show_default=False)],
    project: Annotated[str, typer.Option(help="The project it belongs to.", show_default=False)] = "",
    repo: Repository = "",
    body_file: BodyFile = "",
    kind: TypeOption = "",
    scope: Annotated[str, typer.Option(help="focused (one phase) or feature (all of them).", show_default=False)] = "",
    key: Annotated[str, typer.Option(help="The same key finds the same task, for ever.", show_default=False)] = "",
    label: Annotated[list[str] | None, typer.Option(metavar="K=V", help="For chargeback; may be repeated.")] = None,
    base_branch: Annotated[str, typer.Option(help="Branch to start from.", show_default=False)] = "",
    max_cost: MaxCost = "",
    deadline: DeadlineOption = "",
    attach: AttachOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan and what it can cost.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show its progress until it ends.")] = False,
    as_json_lines: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Hand in a task.

    Examples:
      factory submit "Fix the rounding in invoice totals" --repo . --watch
      factory submit "Create user authentication" --project shop --body-file task.md
      factory submit "Add a health endpoint" --project shop --key ticket-4711 --label team=core
      factory submit "Fix the misplaced button" --project shop --attach screenshot.png --deadline 2h
      factory submit "Rename the user module" --repo . --dry-run
    """
    body = _body(body_file)
    try:
        kind, scope = code_word(TaskType, task_type_for(kind)), code_word(Scope, scope_for(scope))
        limit = usd(pico_usd(max_cost)) if max_cost else None
        span = span_for(deadline) if deadline else None
        labels = dict(_label(one) for one in label or ())
        attachments = _attached(attach or [])
    except ValueError as error:  # an unknown word is one, too
        fail(str(error), USAGE)
    if bool(project) == bool(repo):
        fail("name the code to work on: either --project NAME or --repo PATH_OR_URL (`--repo .` is here)", USAGE)
    decided = ""
    if dry_run and not kind:
        kind, scope, decided = _classified(title, body, scope)

    async def conversation(factory: Factory) -> Submitted:
        return await factory.submit(
            title,
            project=project,
            repository=local_or_url(repo),
            body=body,
            type=kind,
            scope=scope,
            key=key,
            labels=labels,
            base_branch=base_branch,
            max_cost_usd=limit,
            deadline=span,
            attachments=attachments,
            dry_run=dry_run,
        )

    submitted = talk(data, conversation)
    if dry_run:
        _show_plan(submitted, kind, scope, decided, as_json_lines)
        return
    _show_submitted(submitted, title, as_json_lines, watch)
    if watch:
        _watch(submitted.task_id, as_json_lines, data)


def _watch(task_id: str, as_json_lines: bool, data: Path | None) -> None:
    async def conversation(factory: Factory) -> Followed:
        if as_json_lines:
            return await follow_as_json(factory, task_id, emit)
        return await follow(factory, task_id, console())

    end_of(talk(data, conversation, task_id).task, quiet=as_json_lines)


def _show_submitted(submitted: Submitted, title: str, as_json_lines: bool, watch: bool) -> None:
    task = submitted.task_id
    if as_json_lines:
        emit({"task_id": task, "existed": submitted.existed, "position": submitted.position})
        return
    typer.echo(f"{task}  {one_line(title)}" + ("  (was submitted before)" if submitted.existed else ""))
    if not watch:
        typer.echo(f"watch it with: factory watch {task}")


def _show_plan(submitted: Submitted, kind: str, scope: str, decided: str, as_json_lines: bool) -> None:
    if as_json_lines:
        emit(
            {
                "type": kind,
                "scope": scope,
                "plan": [as_json(phase) for phase in submitted.plan],
                "notes": list(submitted.notes),
                "max_cost_usd": _exact(submitted.max_cost_usd),
                "typical_cost_usd": _exact(submitted.typical_cost_usd),
            }
        )
        return
    if decided:
        typer.echo(f"classified as {kind}, {scope}: {one_line(decided)}")
    console().print(drawn_plan(submitted.plan))
    for note in submitted.notes:
        typer.echo(f"note: {one_line(note)}")
    typer.echo(f"cost: {_cost(submitted)}; nothing was submitted")


def _cost(submitted: Submitted) -> str:
    typical, most = submitted.typical_cost_usd, submitted.max_cost_usd
    known = cost_text(*(None if one is None else pico_usd(one) for one in (typical, most)))
    if most is None:
        return ", ".join(part for part in (known, "at most unknown, because a model has no price") if part)
    return f"{known} without rework" + ("" if typical is not None else "; usual cost: not enough data")


def _exact(amount: Decimal | None) -> str | None:
    return None if amount is None else usd_text(pico_usd(amount))


def _attached(files: list[Path]) -> dict[str, bytes]:
    """What is attached, judged before anything is sent."""
    try:
        contents = read_attachments(files)
        uploads(contents)
    except ValueError as error:
        raise ValueError(f"--attach: {error}") from None
    return contents


def _classified(title: str, body: str, scope: str) -> tuple[str, str, str]:
    """Type and scope by the installed classifier, offline, and what spoke for them."""
    found = next(iter(entry_points(group=CLASSIFY)), None)
    if found is None:
        fail("--dry-run needs --type, because no classifier is installed here", USAGE)
    said: Classified = found.load()(title, body)
    return code_word(TaskType, said.type), scope or code_word(Scope, said.scope), "; ".join(said.reasons) or said.method


def _body(file: str) -> str:
    if not file:
        return ""
    try:
        raw = sys.stdin.buffer.read(BODY_BYTES_MAX + 1) if file == STDIN else _read(Path(file))
        return raw.decode()
    except OSError as error:
        fail(f"--body-file: {file!r} cannot be read: {error.strerror}", USAGE)
    except UnicodeDecodeError:
        fail(f"--body-file: {file!r} is not UTF-8 text", USAGE)


def _read(path: Path) -> bytes:
    with path.open("rb") as opened:
        return opened.read(BODY_BYTES_MAX + 1)


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"--label: expected key=value, found {text!r}")
    return key, value


def local_or_url(repo: str) -> str:
    """A path as the factory must see it, wherever it was started; a URL as it is."""
    path = Path(repo).expanduser()
    return str(path.resolve()) if repo and "://" not in repo and path.exists() else repo
