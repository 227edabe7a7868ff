"""How things look in a terminal: progress, plans, changes, tables. Draws values; asks nobody anything."""

import os
import re
from collections.abc import Callable, Iterable
from time import time

from factory.artifact.v1 import SEVERITY_BLOCKING, SEVERITY_WARNING, Finding
from factory.gate.v1 import GATE_VERDICT_BLOCK, GATE_VERDICT_PASS, GateVerdict
from factory.review.v1 import GetChangeResponse
from factory.task.v1 import PlannedPhase
from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.spinner import Spinner
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from factory_client.plain import one_line, plain
from factory_client.progress import HUMAN, Progress, Stage, Step
from factory_client.words import phase_word, plural, seconds_text, severity_word, source_word, verdict_word

MARKS = {
    Stage.PLANNED: Text("·", "dim"),
    Stage.DONE: Text("✓", "green"),
    Stage.SKIPPED: Text("–", "yellow"),
    Stage.FAILED: Text("✗", "red"),
}
DIGEST_SHOWN = 12
SEVERITY_STYLES = {SEVERITY_BLOCKING: "bold red", SEVERITY_WARNING: "yellow"}
VERDICT_STYLES: dict[GateVerdict, str] = {GATE_VERDICT_PASS: "green", GATE_VERDICT_BLOCK: "bold red"}
# A line of a file begins with a blank, a plus or a minus, so this is one of git's own.
OBJECT_IDS = re.compile(r"index [0-9a-f]{7,64}\.\.[0-9a-f]{7,64}( \d+)?$")
# Wide enough for tables where nobody knows the width: a pipe, a log file.
WIDTH_UNKNOWN = 160


def console(stderr: bool = False) -> Console:
    """A console on stdout or stderr; wide where it is no terminal and COLUMNS says nothing: a pipe cuts nothing."""
    made = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not made.is_terminal and not os.environ.get("COLUMNS"):
        made.width = WIDTH_UNKNOWN
    return made


def folds(screen: Console) -> bool:
    """Whether long lines are to be folded: where somebody reads, and the width is known."""
    return screen.is_terminal or bool(os.environ.get("COLUMNS"))


def say(screen: Console, sentence: str, indent: int = 0, style: str = "") -> None:
    """One sentence, folded to the terminal with its indentation; a pipe gets it as one line."""
    text, margin = Text(one_line(sentence), style), Text(" " * indent)
    lines = text.wrap(screen, max(screen.width - indent, 1)) if folds(screen) else [text]
    for line in lines:
        line.rstrip()
        screen.print(margin + line, soft_wrap=True)


class ProgressDrawing:
    """The steps of a task as a table that counts the seconds of what runs; Rich draws it several times a second."""

    def __init__(self, clock: Callable[[], float] = time, skip: int = 0) -> None:
        self.progress = Progress()
        self._clock = clock
        # Steps that were drawn before and stay where they are on the screen.
        self._skip = skip
        # One spinner for the whole life of the drawing, else it would begin its turn with every redraw.
        self._spinner = Spinner("dots", style="cyan")

    def __rich__(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        table.add_column(width=1)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(overflow="fold")
        for step in self.progress.steps[self._skip :]:
            table.add_row(*self._row(step))
        remark = Text(one_line(self.progress.remark), "yellow")
        return Padding(Group(table, remark) if remark else table, (0, 0, 0, 2))

    def _row(self, step: Step) -> tuple[RenderableType, ...]:
        style = "dim" if step.stage is Stage.PLANNED else ""
        waits = step.label == HUMAN and step.stage is Stage.RUNNING
        mark = Text("●", "yellow") if waits else MARKS.get(step.stage, self._spinner)
        return (
            mark,
            Text(step.label, style),
            Text(step.who, style or "cyan"),
            Text(f"{step.tokens:,} tokens" if step.tokens else "", style),
            Text(_span(step, self._clock()), "dim"),
            Text("waits for a decision" if waits else one_line(step.note), "dim"),
        )


def _span(step: Step, now_s: float) -> str:
    if step.stage in (Stage.PLANNED, Stage.SKIPPED):
        return ""
    return seconds_text((step.ended_s or now_s) - step.began_s)


def drawn_plan(plan: Iterable[PlannedPhase]) -> RenderableType:
    """Phases and models: what put each first, who comes next, and what ruled the others out."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("phase", "model", "by", "next in line", "ruled out"):
        table.add_column(heading, overflow="fold")
    for phase in plan:
        others = [one for one in phase.candidates if one.model != phase.model]
        able = ", ".join(one.model for one in others if not one.ruled_out)
        ruled_out = "\n".join(one_line(f"{one.model} ({one.ruled_out})") for one in others if one.ruled_out)
        model, by = Text(one_line(phase.model) or "nobody", "cyan"), source_word(phase.source)
        table.add_row(phase_word(phase.phase), model, by, Text(one_line(able), "dim"), Text(ruled_out, "yellow"))
    return table


def drawn_change(change: GetChangeResponse) -> RenderableType:
    """A change as an architect reads it: the diff, and below it, where the eye is then, what gate and reviewers say."""
    head = Text.assemble((one_line(change.title), "bold"), f"\n{change.task_id}")
    head.append(f"  change {change.change_digest[:DIGEST_SHOWN]} on {change.base_commit[:DIGEST_SHOWN]}", "dim")
    parts: list[RenderableType] = [head, Text()]
    if change.diff:
        parts += [drawn_diff(change.diff), Text()]
    parts += [_drawn_size(change.diff), _drawn_gate(change)]
    parts += [Text(f"note: {one_line(note)}", "yellow") for note in change.notes]
    parts += [Text(f"cannot be shown: {one_line(part)}", "yellow") for part in change.missing]
    parts += [drawn_findings(change.findings)]
    return Group(*parts)


def _drawn_size(diff: str) -> Text:
    lines = diff.splitlines()
    files = sum(line.startswith("diff --git ") for line in lines)
    added = sum(line.startswith("+") and not line.startswith("+++") for line in lines)
    removed = sum(line.startswith("-") and not line.startswith("---") for line in lines)
    return Text.assemble("change: ", plural(files, "file"), ", ", (f"+{added}", "green"), " ", (f"-{removed}", "red"))


def _drawn_gate(change: GetChangeResponse) -> Text:
    verdict = verdict_word(change.verdict) or "not judged"
    line = Text.assemble("quality gate: ", (verdict, VERDICT_STYLES.get(change.verdict, "yellow")))
    if not change.HasField("tests"):
        return line.append(" · the tests did not run")
    tests = change.tests
    line.append(f" · {plural(tests.passed, 'test')} passed")
    if tests.failed or tests.errors:
        line.append(f", {tests.failed} failed, {plural(tests.errors, 'error')}", "bold red")
    return line.append(f", {tests.skipped} skipped" if tests.skipped else "")


def drawn_findings(findings: Iterable[Finding]) -> RenderableType:
    """What tools and model reviewers have found, worst first."""
    found = sorted(findings, key=lambda one: -one.severity)
    if not found:
        return Text("no findings", "green")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=plural(len(found), "finding"), title_justify="left")
    for heading in ("", "found by", "where", "what"):
        table.add_column(heading, overflow="fold")
    for one in found:
        where = f"{one.path}:{one.line}" if one.line else one.path
        what = f"{one.message} ({one.rule})" if one.rule else one.message
        severity = Text(severity_word(one.severity), SEVERITY_STYLES.get(one.severity, "dim"))
        table.add_row(severity, one_line(one.source), one_line(where), one_line(what))
    return table


def drawn_diff(diff: str) -> RenderableType:
    """A unified diff in colours, without the object ids that only git reads."""
    shown = "\n".join(line for line in plain(diff).split("\n") if not OBJECT_IDS.match(line)).rstrip("\n")
    return Syntax(shown, "diff", theme="ansi_dark", background_color="default", word_wrap=True)
