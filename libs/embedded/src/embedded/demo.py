"""`factory demo`: one task from submission to pull request on this machine, shown as it happens.

Talks to a factory of its own through the client alone, as any platform would. Decides nothing for a human who is there.
"""

import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn, TypeVar

import typer
from factory.review.v1 import GetChangeResponse
from factory.task.v1 import TASK_STATE_AWAITING_REVIEW, TASK_STATE_COMPLETED, TASK_STATE_HELD, TASK_STATE_PARKED
from factory_client import Factory, FactoryError
from factory_client.discovery import Address
from factory_client.drawing import console, drawn_change
from factory_client.following import Followed, follow
from factory_client.session import FAILED, INTERRUPTED, emit
from rich.console import Console
from rich.text import Text

from embedded.demo_factory import NotStarted, running_factory
from embedded.demo_outcome import Outcome, closing_words, opening_words, outcome_json, read_bill
from embedded.demo_repository import GitMissing, prepare_remote

# Where the demo has something to do, or nothing more to wait for.
STOPS = (TASK_STATE_AWAITING_REVIEW, TASK_STATE_HELD, TASK_STATE_PARKED)
TITLE = "Create user authentication with JWT tokens"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scene:
    """Where the demo plays: its data, its screen, and who decides."""

    data: Path
    # The data directory stays when the demo ends.
    kept: bool
    screen: Console
    # A human is there and wants to be asked.
    asks: bool

    def say(self, text: str, style: str = "") -> None:
        self.screen.print(Text(text, style), soft_wrap=True)


def demo(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Approve without asking.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One object at the end; progress goes to stderr.")] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Work here and keep it, instead of a temporary directory.", show_default=False
        ),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the temporary directory.")] = False,
    title: Annotated[str, typer.Option(help="Another task for the sample repository.")] = TITLE,
    models: Annotated[str, typer.Option(help="simulated, local, or real (keys from the environment).")] = "simulated",
) -> None:
    """Take one task from submission to pull request on this machine, without any key.

    Starts a factory of its own over a small web API with tests, submits a task, shows how it goes through the models,
    the quality gate and your review, and ends with a pull request and the token report.

    Examples:
      factory demo
      factory demo --yes --json | jq .report
      factory demo --data ./demo --title "Add a search endpoint for notes"
    """
    screen = console(stderr=as_json)
    asks = not yes and sys.stdin.isatty() and screen.is_terminal
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _interrupt)
    with _place(data, keep) as place:
        scene = Scene(place, bool(data or keep), screen, asks)
        try:
            outcome = _play(scene, title, models)
        except (KeyboardInterrupt, typer.Abort):
            _interrupted(scene)
        except (NotStarted, GitMissing, FactoryError) as error:
            scene.say(f"factory demo: {error}", "red")
            raise typer.Exit(FAILED) from None
        closing_words(outcome, scene.data, screen, kept=scene.kept)
    if as_json:
        emit(outcome_json(outcome))
    if outcome.task.state != TASK_STATE_COMPLETED:
        raise typer.Exit(FAILED)


def _play(scene: Scene, title: str, models: str) -> Outcome:
    began = time.monotonic()
    remote = prepare_remote(scene.data)
    scene.say("Starting the factory: nats-server, eight services, one process …")
    with running_factory(scene.data, models, scene.say) as running:
        address = running.address
        known = _ask(address, lambda factory: factory.models())
        opening_words(known, running.ready_after_s, title, scene.screen)
        submitted = _ask(address, lambda factory: factory.submit(title, repository=str(remote)))
        task = submitted.task_id
        followed = _shown(scene, address, task)

        async def ending(factory: Factory) -> Outcome:
            return Outcome(
                task=await factory.get(task),
                report=await factory.report(task),
                models=tuple(known),
                # read while the simulator still runs: it writes a line before it answers
                billed_tokens=read_bill(scene.data),
                seconds=time.monotonic() - began,
            )

        return _ask(address, ending, followed.sequence)


def _shown(scene: Scene, address: Address, task: str) -> Followed:
    """Follows the task to its end, and stops wherever a human has to decide."""

    def following(start: Followed | None) -> Followed:
        return _ask(address, lambda factory: follow(factory, task, scene.screen, start=start, stop_at=STOPS))

    followed = following(None)
    while followed.task.state == TASK_STATE_AWAITING_REVIEW:
        change = _ask(address, lambda factory: factory.get_change(task))
        scene.screen.print()
        scene.screen.print(drawn_change(change))
        scene.screen.print()
        _ask(address, _decision(scene, change))
        followed = following(followed)
    return followed


def _decision(scene: Scene, change: GetChangeResponse) -> Callable[[Factory], Awaitable[None]]:
    """What the human says; an approval where nobody is there to ask."""
    seen = change.task_id, change.change_digest, change.evidence_digest
    if not scene.asks:
        scene.say("Approved without asking (--yes, or no terminal).", "yellow")
        return lambda factory: factory.approve(*seen, remark="approved by the demo without asking")
    if typer.confirm("Approve this change?", default=True, err=True):
        return lambda factory: factory.approve(*seen)
    remark = typer.prompt(
        "What is wrong? The author reads it (empty: reject the task)", default="", show_default=False, err=True
    )
    if remark.strip():
        return lambda factory: factory.request_changes(*seen, remark=remark)
    return lambda factory: factory.reject(*seen, remark="rejected in the demo")


def _ask(address: Address, conversation: Callable[[Factory], Awaitable[T]], seen: int = 0) -> T:
    """One conversation with the factory; between two of them the terminal belongs to the human."""

    async def converse() -> T:
        async with Factory(address.url, address.token) as factory:
            factory.has_seen(seen)
            return await conversation(factory)

    return asyncio.run(converse())


@contextlib.contextmanager
def _place(data: Path | None, keep: bool) -> Iterator[Path]:
    """The data directory: the one asked for, or a temporary one that goes with the demo."""
    if data is not None:
        data.mkdir(parents=True, exist_ok=True)
        yield data.resolve()
    elif keep:
        yield Path(tempfile.mkdtemp(prefix="factory-demo-")).resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="factory-demo-", ignore_cleanup_errors=True) as made:
            yield Path(made).resolve()


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _interrupted(scene: Scene) -> NoReturn:
    if scene.kept:
        scene.say(f"\nStopped. The task goes on from where it was with: factory up --data {scene.data}", "yellow")
    else:
        scene.say("\nStopped, and cleaned up (with --keep or --data DIR the task can go on later).", "yellow")
    raise typer.Exit(INTERRUPTED)
