"""Projects on the command line: a name for a repository, so that tasks need not repeat it."""

from typing import Annotated

import typer
from rich import box
from rich.table import Table

from factory_client.as_json import as_json
from factory_client.commands.submit import local_or_url
from factory_client.drawing import console
from factory_client.plain import one_line
from factory_client.session import DataOption, JsonOption, emit, talk

project = typer.Typer(
    help="Name the repositories that tasks work on.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@project.command()
def add(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Lower-case letters, digits and hyphens.", show_default=False)
    ],
    repo: Annotated[str, typer.Option(metavar="PATH_OR_URL", help="Its repository.", show_default=False)],
    base_branch: Annotated[str, typer.Option(help="Branch to start from; the default one if left out.")] = "",
    as_json_lines: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Create a project; the same one again changes nothing.

    Examples:
      factory project add shop --repo https://github.com/acme/shop
      factory project add here --repo .
    """
    existed = talk(data, lambda factory: factory.create_project(name, local_or_url(repo), base_branch))
    if as_json_lines:
        emit({"project": name, "existed": existed})
    else:
        typer.echo(f"project {name}" + (" was there already" if existed else " is created"))


@project.command("list")
def list_(as_json_lines: JsonOption = False, data: DataOption = None) -> None:
    """List projects by name.

    Examples:
      factory project list
    """
    found = talk(data, lambda factory: factory.projects())
    if as_json_lines:
        emit({"projects": [as_json(one) for one in found]})
        return
    if not found:
        typer.echo("no projects; create one with: factory project add NAME --repo PATH_OR_URL")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("project", "repository", "base branch"):
        table.add_column(heading, overflow="fold")
    table.add_column("tasks", justify="right")
    for one in found:
        table.add_row(one.project, one_line(one.repository), one.base_branch or "default", f"{one.tasks:,}")
    console().print(table)
