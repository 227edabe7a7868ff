"""The `factory` command. Holds only its root: each command is a module of its own, loaded when run."""

from importlib.metadata import version
from typing import Annotated

import typer

from factory_client.lazy import FactoryGroup

DISTRIBUTION = "ai-factory-client"

app = typer.Typer(
    cls=FactoryGroup,
    name="factory",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\
New here? `factory demo` takes one task from submission to pull request on this machine, without any key.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 factory not reached, 130 interrupted.
""",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"factory {version(DISTRIBUTION)}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Every software task in, one reviewed pull request out, and a ledger that equals the provider's bill."""


def main() -> None:
    """Console script."""
    app(prog_name="factory")
