"""What the demo says before and after: which models are pretend, where the pull request is, what it cost.

Reads the simulator's bill and the remote; starts and changes nothing.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.audit.v1 import TaskReportResponse
from factory.model.v1 import Model
from factory.task.v1 import TASK_STATE_COMPLETED, Task, TaskState
from factory_client.plain import one_line, plain
from factory_client.words import code_word, money, seconds_text, state_word
from policy.report import render_tree
from rich.console import Console
from rich.text import Text

from embedded.demo_repository import GitMissing, changed_files

BILL = Path("simulator") / "bill.jsonl"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the demo's task ended."""

    task: Task
    report: TaskReportResponse
    models: tuple[Model, ...]
    # What the simulator says it would bill; None where real models answered.
    billed_tokens: int | None
    seconds: float


def read_bill(data: Path) -> int | None:
    """All tokens on the simulator's own bill; None where it has none."""
    try:
        lines = (data / BILL).read_text().splitlines()
    except FileNotFoundError:
        return None
    return sum(json.loads(line)["total"] for line in lines if line.strip())


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """The one object that `factory demo --json` prints last."""
    task, report = outcome.task, outcome.report
    return {
        "task": task.task_id,
        "state": code_word(TaskState, task.state),
        "pull_request": {"url": task.pull_request_url, "branch": task.branch, "commit": task.commit},
        "report": {
            "lines": [
                {"model": line.model_name, "phase": line.label, "tokens": line.amount.tokens} for line in report.lines
            ],
            "total_tokens": report.total.tokens,
        },
        "billed_tokens": outcome.billed_tokens,
        "seconds": round(outcome.seconds, 1),
    }


def opening_words(models: list[Model], ready_after_s: float, title: str, screen: Console) -> None:
    """What runs now, who only pretends, and what is asked."""
    screen.print(Text(f"Ready after {seconds_text(ready_after_s)}.", "dim"))
    pretend = [one.display_name for one in models if one.configured and one.pretend]
    if pretend:
        line = f"No key is used: {', '.join(pretend)} are played by a simulator on this machine."
        screen.print(Text(line, "magenta"), soft_wrap=True)
    screen.print(Text.assemble("\nTask: ", (f'"{one_line(title)}"', "bold"), " for a small web API with tests\n"))


def closing_words(outcome: Outcome, data: Path, screen: Console, *, kept: bool) -> None:
    """The pull request, the report, what it would have cost, and how to go on."""
    screen.print()
    if outcome.task.state == TASK_STATE_COMPLETED:
        _pull_request(outcome.task, data, screen, kept)
    else:
        screen.print(Text(f"The task is {state_word(outcome.task.state)}: {one_line(outcome.task.reason)}", "red"))
    screen.print()
    screen.print(Text(render_tree(outcome.report)))
    screen.print()
    for line in (_cost(outcome), _bill(outcome)):
        if line:
            screen.print(Text(line), soft_wrap=True)
    screen.print(Text(f"The whole demo took {seconds_text(outcome.seconds)}.", "dim"))
    screen.print(Text(_how_to_go_on(outcome, data, kept)), soft_wrap=True)


def _pull_request(task: Task, data: Path, screen: Console, kept: bool) -> None:
    """Where it is; and what is in it, because a temporary directory is gone in a moment."""
    screen.print(Text.assemble(("Pull request ", "bold green"), (task.pull_request_url, "underline")), soft_wrap=True)
    screen.print(Text(f"  branch {task.branch}, commit {task.commit[:12]}, in {data / 'sample.git'}"), soft_wrap=True)
    try:
        changed = changed_files(data / "sample.git", task.branch)
    except GitMissing as error:
        changed = str(error)
    screen.print(Text(plain(changed).rstrip("\n"), "dim"), soft_wrap=True)
    if kept:
        screen.print(Text(f"  read it: git -C {data / 'sample.git'} show {task.branch}"), soft_wrap=True)
    else:
        screen.print(Text("  a temporary directory, removed when this ends; `factory demo --keep` keeps it", "dim"))


def _cost(outcome: Outcome) -> str:
    total = outcome.report.total
    unpriced = f", {total.unpriced_tokens:,} of them unpriced" if total.unpriced_tokens else ""
    verb = "It would have cost" if _pretend(outcome) else "It cost"
    return f"{verb} {money(total.cost_pico_usd)} at list prices ({total.tokens:,} tokens{unpriced})."


def _bill(outcome: Outcome) -> str:
    billed, booked = outcome.billed_tokens, outcome.report.total.tokens
    if billed is None:
        return ""
    if billed == booked:
        return f"The simulator's own bill says {billed:,} tokens, too."
    return f"The simulator's own bill says {billed:,} tokens, which differs by {billed - booked:+,}."


def _how_to_go_on(outcome: Outcome, data: Path, kept: bool) -> str:
    lines = ["", "Your own repository next:"]
    if _pretend(outcome):
        lines += [
            "  export ANTHROPIC_API_KEY=…         # real models; or OPENAI_API_KEY, GEMINI_API_KEY, DEEPSEEK_API_KEY",
            "                                     # one key is enough, more give each phase its best model",
        ]
    lines += [
        "  factory up                         # and in another terminal, in your repository:",
        '  factory submit "What you want" --repo . --watch',
    ]
    if kept:
        lines += [f"This one again: factory up --data {data}"]
    return "\n".join(lines)


def _pretend(outcome: Outcome) -> bool:
    return any(one.pretend for one in outcome.models if one.configured)
