"""How a project's tasks are routed, on the command line: show, set, look back, and look ahead."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from factory.audit.v1 import PreviewRoutingResponse
from factory.project.v1 import GetPreferencesResponse, Preferences

from factory_client.as_json import as_json
from factory_client.drawing import console, say
from factory_client.drawing_routing import drawn_history, drawn_preferences, drawn_preview, sum_of_preview
from factory_client.errors import FactoryError
from factory_client.factory import Factory
from factory_client.plain import one_line
from factory_client.preferences import Change, Written, changed, differences, rule_text, rules_that_never_count, written
from factory_client.session import USAGE, DataOption, JsonOption, ProjectArgument, emit, fail, talk

STDIN = "-"
# Far more than any preferences that the factory takes.
FILE_BYTES_MAX = 1024 * 1024
TASKS_MAX = 200

settings = typer.Typer(
    help="Say which models a project's tasks go to.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
)

ModeOption = Annotated[str, typer.Option(help="balanced, quality, cost or custom.", show_default=False)]
RuleOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TYPE.PHASE=MODEL,…",
        help="Mode custom: the models for it, best first; `any` fits all; no model takes the rule away. "
        "May be repeated.",
        show_default=False,
    ),
]
ExcludeOption = Annotated[
    list[str] | None, typer.Option(metavar="MODEL", help="Never use it; may be repeated.", show_default=False)
]
IncludeOption = Annotated[
    list[str] | None, typer.Option(metavar="MODEL", help="Use it again; may be repeated.", show_default=False)
]
OpenTasksOption = Annotated[
    str,
    typer.Option(
        metavar="N", help="How many tasks may be open at once; `default` for the factory's.", show_default=False
    ),
]
FileOption = Annotated[
    str,
    typer.Option(
        metavar="FILE", help="All preferences, as TOML or as `show --json` prints; - is stdin.", show_default=False
    ),
]
ReasonOption = Annotated[str, typer.Option("--reason", "-m", help="Why, for the record.", show_default=False)]


@settings.command()
def show(project: ProjectArgument, as_json_lines: JsonOption = False, data: DataOption = None) -> None:
    """Show how a project's tasks are routed.

    Examples:
      factory settings show shop
      factory settings show shop --json > shop.json     # edit, then: factory settings set shop --file shop.json
    """
    found = talk(data, lambda factory: factory.preferences(project))
    if as_json_lines:
        emit(as_json(found))
        return
    console().print(drawn_preferences(project, found))
    _warn(found.preferences)


@settings.command("set")
def set_(
    project: ProjectArgument,
    mode: ModeOption = "",
    rule: RuleOption = None,
    exclude: ExcludeOption = None,
    include: IncludeOption = None,
    max_open_tasks: OpenTasksOption = "",
    file: FileOption = "",
    reason: ReasonOption = "",
    expect_version: Annotated[
        int | None, typer.Option(metavar="N", help="Refuse if another version stands.", min=0, show_default=False)
    ] = None,
    as_json_lines: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Change how a project's tasks are routed; what is not named stays as it is.

    Tasks that are planned already keep their plan.
    Rules count in mode custom only, and go with it.
    A new rule is put before one that would hide it; a file sets the order.
    Somebody else's change meanwhile is never overwritten.

    A file holds mode, rules, excluded_models and max_open_tasks, as TOML or JSON:
      {"mode": "custom",
       "rules": [{"type": "ui", "phase": "implement", "models": ["gpt"]},
                 {"phase": "review", "models": ["claude"]}]}

    Examples:
      factory settings set shop --mode cost --reason "quarter's end"
      factory settings set shop --mode custom --rule logic.implement=deepseek,gpt
      factory settings set shop --rule logic.implement=     # takes that rule away
      factory settings set shop --exclude gemini --max-open-tasks 20
      factory settings set shop --file prefs.toml --expect-version 3
    """
    change = Change(mode, rule or (), exclude or (), include or (), max_open_tasks)
    from_file = _written(file)
    if from_file is None and change == Change():
        fail("name what to change: --mode, --rule, --exclude, --include, --max-open-tasks or --file", USAGE)
    if expect_version is None and from_file is not None:
        expect_version = from_file.version

    async def conversation(factory: Factory) -> tuple[GetPreferencesResponse, Preferences, int]:
        standing = await factory.preferences(project)
        if expect_version is not None and standing.version != expect_version:
            moved = f"the preferences of {project} are at version {standing.version}, not {expect_version}"
            raise FactoryError("ABORTED", f"{moved}; look at them again: factory settings show {project}")
        wanted = _wanted(standing.preferences, from_file, change)
        if not differences(standing.preferences, wanted):
            return standing, wanted, standing.version
        version = await factory.save_preferences(project, wanted, expected_version=standing.version, reason=reason)
        return standing, wanted, version

    standing, wanted, version = talk(data, conversation)
    lines = differences(standing.preferences, wanted)
    if as_json_lines:
        numbers = {"version": version, "previous_version": standing.version}
        emit({"project": project, **numbers, "changed": lines, "preferences": as_json(wanted)})
        return
    for line in lines:
        typer.echo(f"  {one_line(line)}")
    saved = f"version {version} is saved" if lines else f"nothing changes; version {version} stands"
    typer.echo(f"{one_line(project)}: {saved}")
    _warn(wanted)


@settings.command()
def history(project: ProjectArgument, as_json_lines: JsonOption = False, data: DataOption = None) -> None:
    """Show who has changed a project's preferences, when, why, and what.

    Examples:
      factory settings history shop
      factory settings history shop --json | jq -r '.history[].saved_by'
    """
    found = talk(data, lambda factory: factory.preferences(project))
    if as_json_lines:
        emit({"project": project, "history": [as_json(one) for one in found.history]})
    elif found.history:
        console().print(drawn_history(list(found.history)))
    else:
        typer.echo(f"nobody has changed the preferences of {one_line(project)}; they are the factory's own")


@settings.command()
def preview(
    project: ProjectArgument,
    mode: ModeOption = "",
    rule: RuleOption = None,
    exclude: ExcludeOption = None,
    include: IncludeOption = None,
    max_open_tasks: OpenTasksOption = "",
    file: FileOption = "",
    last: Annotated[int, typer.Option(metavar="N", help="Of how many tasks.", min=1, max=TASKS_MAX)] = 20,
    as_json_lines: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Show what other preferences would have chosen for the last tasks, and cost; nothing is changed.

    The tokens that were used, at the other model's price; `unknown` where that model never did such work here. Takes
    the same options as `set`; without any it shows what stands now.

    Examples:
      factory settings preview shop --mode cost
      factory settings preview shop --mode custom --rule logic.implement=deepseek --last 100
      factory settings preview shop --mode quality --json | jq -r '.recorded_cost_usd, .preview_cost_usd'
    """
    change = Change(mode, rule or (), exclude or (), include or (), max_open_tasks)
    from_file = _written(file)

    async def conversation(factory: Factory) -> PreviewRoutingResponse:
        standing = await factory.preferences(project)
        return await factory.preview_routing(project, _wanted(standing.preferences, from_file, change), last)

    found = talk(data, conversation)
    if as_json_lines:
        emit(as_json(found))
        return
    if not found.tasks:
        typer.echo(f"no task of {one_line(project)} has been planned yet")
        return
    screen = console()
    screen.print(drawn_preview(found, screen.width))
    for line in sum_of_preview(found):
        say(screen, line.strip(), len(line) - len(line.lstrip()))


def _wanted(standing: Preferences, from_file: Written | None, change: Change) -> Preferences:
    try:
        return changed(from_file.preferences if from_file else standing, change)
    except ValueError as error:
        fail(str(error), USAGE)


def _written(file: str) -> Written | None:
    if not file:
        return None
    try:
        raw = sys.stdin.buffer.read(FILE_BYTES_MAX) if file == STDIN else _read(Path(file))
        return written(raw.decode())
    except OSError as error:
        fail(f"--file: {file!r} cannot be read: {error.strerror}", USAGE)
    except UnicodeDecodeError:
        fail(f"--file: {file!r} is not UTF-8 text", USAGE)
    except ValueError as error:
        fail(f"--file: {file!r}: {error}", USAGE)


def _read(path: Path) -> bytes:
    with path.open("rb") as opened:
        return opened.read(FILE_BYTES_MAX)


def _warn(preferences: Preferences) -> None:
    for rule, before in rules_that_never_count(preferences.rules):
        typer.echo(f"note: {one_line(rule_text(rule))} never counts, because {one_line(rule_text(before))} comes first")
