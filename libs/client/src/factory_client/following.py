"""Follows a task on the screen: live steps in a terminal, one line per fact elsewhere, JSON for programs.

Only shows; whoever calls it decides what the end means.
"""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from factory.event.v1 import Event
from factory.task.v1 import TASK_STATE_AWAITING_REVIEW, TASK_STATE_HELD, Task, WatchResponse
from rich.console import Console
from rich.live import Live
from rich.text import Text

from factory_client.as_json import as_json
from factory_client.drawing import ProgressDrawing
from factory_client.factory import Factory
from factory_client.plain import one_line
from factory_client.progress import Progress, advance
from factory_client.waiting import held_hint
from factory_client.words import seconds_text, when

REDRAWS_PER_S = 8
# Bookkeeping that says little to somebody who watches.
QUIET = frozenset({"factory.call.v1.ModelCallStarted"})


@dataclass(frozen=True, slots=True)
class Followed:
    """How far a task was followed."""

    progress: Progress
    task: Task
    # Pass it on to follow from here.
    sequence: int = 0


async def follow(
    factory: Factory,
    task_id: str,
    screen: Console,
    *,
    start: Followed | None = None,
    stop_at: Collection[int] = (),
) -> Followed:
    """Shows a task's progress until it has ended, or has come to a state to `stop_at`."""
    followed = start or Followed(Progress(), Task(task_id=task_id))
    drawing = ProgressDrawing(skip=_settled(followed.progress))
    drawing.progress = followed.progress
    live = screen.is_terminal and not screen.is_dumb_terminal
    with _shown(drawing, screen) if live else nullcontext():
        async for response in factory.watch(task_id, followed.sequence):
            drawing.progress = advance(drawing.progress, response)
            followed = Followed(drawing.progress, response.task, response.sequence)
            if not live:
                _print_lines(response, drawing.progress, screen)
            if response.task.state in stop_at:
                break
            if hint := _hint(response):
                screen.print(Text(hint), soft_wrap=True)
    return followed


async def follow_as_json(factory: Factory, task_id: str, emit: Callable[[object], None]) -> Followed:
    """One object per event, until the task has ended."""
    followed = Followed(Progress(), Task(task_id=task_id))
    async for response in factory.watch(task_id):
        emit(event_json(response))
        followed = Followed(followed.progress, response.task, response.sequence)
    return followed


def event_json(response: WatchResponse) -> dict[str, object]:
    """One event for programs; each fact with its type, a sentence, and its content."""
    contents: list[object] = []
    for fact in Event.FromString(response.event).facts if response.event else ():
        arm = fact.WhichOneof("fact")
        contents.append(as_json(getattr(fact, arm)) if arm else None)
    contents += [None] * (len(response.facts) - len(contents))
    facts = [
        {"type": fact.type, "summary": fact.summary, "content": content}
        for fact, content in zip(response.facts, contents, strict=False)
    ]
    return {
        "sequence": response.sequence,
        "occurred_at": response.occurred_at.ToJsonString(),
        "producer": response.producer,
        "facts": facts,
        "task": as_json(response.task),
    }


def _hint(response: WatchResponse) -> str:
    """What somebody must do before anything more happens; "" while the factory has the turn."""
    task_id = response.task.task_id
    match response.task.state:
        case value if value == TASK_STATE_AWAITING_REVIEW:
            return f"waiting for an architect: factory review show {task_id}, then factory review approve {task_id}"
        case value if value == TASK_STATE_HELD:
            return f"held. {one_line(held_hint(response.task))}; or end it with: factory cancel {task_id}"
        case _:
            return ""


def _shown(drawing: ProgressDrawing, screen: Console) -> AbstractContextManager[object]:
    return Live(drawing, console=screen, refresh_per_second=REDRAWS_PER_S)


def _settled(progress: Progress) -> int:
    """Steps that stand on the screen already and will not change."""
    ended = [bool(step.ended_s) for step in progress.steps]
    return ended.index(False) if False in ended else len(ended)


def _print_lines(response: WatchResponse, progress: Progress, screen: Console) -> None:
    since = seconds_text(when(response.occurred_at).timestamp() - progress.began_s)
    for fact in response.facts:
        if fact.type in QUIET:
            continue
        said = fact.summary or fact.type.rpartition(".")[2]
        screen.print(Text(f"{since:>12}  {response.producer:<18} {one_line(said)}"), soft_wrap=True)
