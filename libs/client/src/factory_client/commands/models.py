"""Models on the command line: what they can do and cost, how well they are, and a hand on the breaker."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from factory_client.as_json import as_json
from factory_client.drawing import console, say
from factory_client.drawing_models import (
    NO_DATA,
    NO_DATA_MARK,
    drawn_health,
    drawn_models,
    shows_marks,
    sick_sentences,
    with_health,
)
from factory_client.plain import one_line
from factory_client.session import USAGE, DataOption, JsonOption, emit, fail, talk
from factory_client.words import seconds_text, span_for

PAUSE_MIN, PAUSE_MAX = timedelta(minutes=1), timedelta(days=1)

models = typer.Typer(
    help="""List the models this factory may ask: prices, health, and why one cannot serve.

Health is of the last 24 hours. `trip` keeps tasks away from a model, `recover` lets them come back.

Examples:
  factory models
  factory models --json | jq -r '.models[] | select(.configured) | .model'
  factory models trip gpt --for 1h
""",
    add_completion=False,
    invoke_without_command=True,
    rich_markup_mode="rich",
)

ModelArgument = Annotated[str, typer.Argument(metavar="NAME", help="As `factory models` calls it.", show_default=False)]


@models.callback()
def list_(context: typer.Context, as_json_lines: JsonOption = False, data: DataOption = None) -> None:
    if context.invoked_subcommand is not None:
        return
    found = talk(data, lambda factory: factory.models())
    if as_json_lines:
        emit({"models": [as_json(one) for one in found]})
        return
    screen = console()
    screen.print(drawn_models(found, screen.width))
    typer.echo("prices in US dollars for a million tokens, input / output")
    served = with_health(found)
    if not served:
        return
    screen.print(drawn_health(served, screen.width))
    say(screen, "the last 24 hours; cost: for 1,000 tokens; first pass: changes that needed no rework")
    if shows_marks(served, screen.width):
        typer.echo(f"{NO_DATA_MARK} {NO_DATA}")
    for sentence in sick_sentences(served, datetime.now(UTC)):
        say(screen, sentence, style="yellow")


@models.command()
def trip(
    name: ModelArgument,
    pause: Annotated[
        str, typer.Option("--for", metavar="SPAN", help="1m to 24h; 15m if left out.", show_default=False)
    ] = "",
    as_json_lines: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Route nothing to a model for a while; calls that run go on.

    After that one request is let through to see how it does.

    Examples:
      factory models trip gpt
      factory models trip gpt --for 1h
    """
    span = _span(pause) if pause else None
    talk(data, lambda factory: factory.trip_model(name, span))
    if as_json_lines:
        emit({"model": name, "tripped": True, "for_s": None if span is None else span.total_seconds()})
        return
    until = f" for {seconds_text(span.total_seconds())}" if span else " for a while"
    typer.echo(f"nothing is routed to {one_line(name)}{until}")
    typer.echo(f"let it serve again with: factory models recover {one_line(name)}")


@models.command()
def recover(name: ModelArgument, as_json_lines: JsonOption = False, data: DataOption = None) -> None:
    """Route to a model again, without waiting for a probe.

    Examples:
      factory models recover gpt
    """
    talk(data, lambda factory: factory.recover_model(name))
    if as_json_lines:
        emit({"model": name, "recovered": True})
    else:
        typer.echo(f"{one_line(name)} serves again")


def _span(text: str) -> timedelta:
    try:
        span = span_for(text)
    except ValueError as error:
        fail(f"--for: {error}", USAGE)
    if not PAUSE_MIN <= span <= PAUSE_MAX:
        fail(f"--for: expected 1m to 24h, found {text!r}", USAGE)
    return span
