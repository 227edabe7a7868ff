"""How preferences, their history and a preview look in a terminal. Draws values; asks nobody anything."""

from collections.abc import Iterator, Sequence

from factory.audit.v1 import PreviewedPhase, PreviewRoutingResponse
from factory.project.v1 import GetPreferencesResponse, Preferences, PreferencesVersion
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from factory_client.plain import one_line
from factory_client.preferences import differences, open_tasks_text, rule_text
from factory_client.words import clock_text, mode_word, money, percent_of, phase_word, plural, type_word

TASK_ID_SHOWN = 14
# From here on there is room for the titles of tasks and the reasons.
PREVIEW_WIDE_COLUMNS = 120
UNKNOWN = "unknown"


def drawn_preferences(project: str, found: GetPreferencesResponse) -> RenderableType:
    """What stands, and since when."""
    preferences = found.preferences
    head = Text.assemble((one_line(project), "bold"), f"  {_since(found)}")
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("mode", Text(mode_word(preferences.mode), "cyan"))
    for index, rule in enumerate(preferences.rules):
        table.add_row("rules, the first that fits counts" if index == 0 else "", one_line(rule_text(rule)))
    table.add_row("never used", one_line(", ".join(preferences.excluded_models)) or "none")
    table.add_row("open tasks at most", open_tasks_text(preferences))
    return Group(head, table)


def _since(found: GetPreferencesResponse) -> str:
    newest = next((one for one in found.history if one.version == found.version), None)
    if newest is None:
        return "nobody has changed anything"
    why = f": {one_line(newest.reason)}" if newest.reason else ""
    return f"version {newest.version} by {one_line(newest.saved_by)} at {clock_text(newest.saved_at)}{why}"


def drawn_history(history: Sequence[PreferencesVersion]) -> RenderableType:
    """Versions, newest first, each with what it changed."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("version", justify="right", no_wrap=True)
    table.add_column("when", no_wrap=True)
    table.add_column("who", overflow="fold")
    table.add_column("what", overflow="fold")
    table.add_column("why", overflow="fold")
    befores = [one.preferences for one in history[1:]] + [Preferences()]
    for one, before in zip(history, befores, strict=True):
        what = "\n".join(one_line(line) for line in differences(before, one.preferences)) or "nothing"
        table.add_row(str(one.version), clock_text(one.saved_at), one_line(one.saved_by), what, one_line(one.reason))
    return table


def drawn_preview(found: PreviewRoutingResponse, width: int) -> RenderableType:
    """One row for each phase: what was chosen and what would be, and what both cost."""
    narrow = width < PREVIEW_WIDE_COLUMNS
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("task", "type", "phase", "was", "would be", "cost was", "would be ", "because"):
        if not (narrow and heading in {"type", "because"}):
            number = heading in {"cost was", "would be "}
            table.add_column(heading, justify="right" if number else "left", overflow="fold")
    for task in found.tasks:
        for index, phase in enumerate(task.phases):
            first = index == 0
            other = phase.preview_model != phase.recorded_model
            cells = {
                "task": task.task_id[:TASK_ID_SHOWN] if first else "",
                "type": type_word(task.type) if first else "",
                "phase": phase_word(phase.phase),
                "was": one_line(phase.recorded_model),
                "would be": Text(one_line(phase.preview_model) or "nobody", "cyan" if other else "dim"),
                "cost was": _cost(phase, "recorded_cost_pico_usd"),
                "would be ": _cost(phase, "preview_cost_pico_usd"),
                "because": Text(one_line(phase.because), "dim"),
            }
            table.add_row(*(cells[str(column.header)] for column in table.columns))
    return table


def _cost(phase: PreviewedPhase, name: str) -> str:
    return money(getattr(phase, name)) if phase.HasField(name) else UNKNOWN


def sum_of_preview(found: PreviewRoutingResponse) -> Iterator[str]:
    """The totals, of what can be compared only, and what is left out of them."""
    phases = sum(len(task.phases) for task in found.tasks)
    asked = f"{plural(len(found.tasks), 'task')}, {plural(phases, 'phase')}"
    yield f"{asked}: {plural(found.changed_phases, 'phase')} would go to another model"
    before, after = int(found.recorded_cost_pico_usd or 0), int(found.preview_cost_pico_usd or 0)
    if before == after:
        less = "the same"
    else:
        word = "less" if after < before else "more"
        share = f" ({percent_of(abs(before - after), before)})" if before else ""
        less = f"{money(abs(before - after))} {word}{share}"
    yield f"cost where both are known: {money(before)} was, {money(after)} would be, {less}"
    if found.unknown_phases:
        yield f"left out of the sum: {plural(found.unknown_phases, 'phase')} of unknown cost"
        reasons = {p.unknown_because for task in found.tasks for p in task.phases if p.unknown_because}
        yield from (f"  {one_line(reason)}" for reason in sorted(reasons))
