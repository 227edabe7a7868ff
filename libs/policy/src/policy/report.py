"""The token report of one task: which model spent how much, on what, and why it was asked.

Pure. Built from a task's events and the prices; nothing that cost money is hidden: rework, retried, failed and lost
calls are lines or notes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

from factory.audit.v1 import ReportLine, TaskReportResponse
from factory.call.v1 import (
    CALL_OUTCOME_ABANDONED,
    CALL_OUTCOME_ERROR,
    CALL_OUTCOME_LOST,
    CALL_OUTCOME_NOT_SENT,
    CALL_OUTCOME_OK,
)
from factory.event.v1 import Event
from factory.phase.v1 import ReworkCause
from factory.task.v1 import (
    PHASE_KIND_CLASSIFY,
    PHASE_KIND_DESIGN,
    PHASE_KIND_DOCUMENT,
    PHASE_KIND_IMPLEMENT,
    PHASE_KIND_REFACTOR,
    PHASE_KIND_REVIEW,
    PHASE_KIND_WRITE_TESTS,
    SCOPE_FEATURE,
    TASK_TYPE_ARCHITECTURE,
    PhaseKind,
    Scope,
    TaskType,
)

from policy.calls import Call, Tally, calls_in, reckon
from policy.causes import Key, attempt_notes, hold_notes, key_of, reason_of_choice, words
from policy.models import DEFAULT_MODELS
from policy.prices import PriceBook
from policy.story import Story, story_of
from policy.tree import REWORK_MARK, render_tree, tokens_text

__all__ = ["phase_label", "render_tree", "report", "report_from"]

LABELS = {
    PHASE_KIND_DESIGN: "Architecture design",
    PHASE_KIND_IMPLEMENT: "Code implementation",
    PHASE_KIND_REFACTOR: "Code refactoring",
    PHASE_KIND_DOCUMENT: "Documentation",
    PHASE_KIND_WRITE_TESTS: "Test generation",
    PHASE_KIND_CLASSIFY: "Classification",
}
OUTCOME_WORDS = {
    CALL_OUTCOME_OK: "answered",
    CALL_OUTCOME_ERROR: "failed",
    CALL_OUTCOME_ABANDONED: "abandoned",
    CALL_OUTCOME_LOST: "lost",
    CALL_OUTCOME_NOT_SENT: "never sent",
}
IN_FLIGHT = "in flight"
DISPLAY_NAMES = {model.name: model.display_name for model in DEFAULT_MODELS.values()}


def report(events: Iterable[Event], prices: PriceBook, names: Mapping[str, str] | None = None) -> TaskReportResponse:
    """The report of the task that these events are about, whatever their order.

    `names` says how models are shown; without it, as the default models are.
    """
    known = tuple(events)
    return report_from(story_of(known), calls_in(known).values(), prices, names)


def report_from(
    story: Story, calls: Iterable[Call], prices: PriceBook, names: Mapping[str, str] | None = None
) -> TaskReportResponse:
    """The report, for one who has the task's story and its calls apart."""
    shown = DISPLAY_NAMES if names is None else names
    groups: dict[Key, list[Call]] = {}
    for call in sorted(calls, key=lambda call: (_turn(call, story), call.began_at, call.call_id)):
        groups.setdefault(_key_of(call), []).append(call)
    lines = [_line(key, group, story, prices, shown) for key, group in groups.items()]
    total = sum((reckon(call, prices).tally for group in groups.values() for call in group), Tally())
    answer = TaskReportResponse(
        task_id=story.task_id,
        title=story.title,
        state=story.standing.shown,
        lines=lines,
        total=total.amount(),
        notes=_notes(story, lines, shown),
    )
    if story.submitted_at:
        answer.submitted_at.FromDatetime(story.submitted_at)
    if story.ended_at:
        answer.ended_at.FromDatetime(story.ended_at)
    return answer


def phase_label(phase: PhaseKind, task_type: TaskType, scope: Scope) -> str:
    """What a phase is called in reports."""
    if phase == PHASE_KIND_REVIEW:
        of_architecture = task_type == TASK_TYPE_ARCHITECTURE or scope == SCOPE_FEATURE
        return "Architecture review" if of_architecture else "Code review"
    return LABELS.get(phase, "Unknown phase")


def _key_of(call: Call) -> Key:
    return call.fact.phase, call.request[0], call.fact.model


def _turn(call: Call, story: Story) -> float:
    """When its line's turn is: by the order of the conductor's requests, which no clock can confuse."""
    for turn, (asked, _) in enumerate(story.requests):
        if key_of(asked) == _key_of(call):
            return turn
    return sum(at <= call.began_at for _, at in story.requests) - 0.5


def _line(key: Key, calls: Sequence[Call], story: Story, prices: PriceBook, names: Mapping[str, str]) -> ReportLine:
    phase, round_, model = key
    tally = sum((reckon(call, prices).tally for call in calls), Tally())
    line = ReportLine(
        model=model,
        model_name=names.get(model, model),
        phase=phase,
        round=round_,
        label=_label(phase, round_, story),
        amount=tally.amount(),
        reason=reason_of_choice(key, story),
        notes=[*attempt_notes(key, story), *_call_notes(calls), *_amount_notes(tally)],
    )
    line.model_time.FromTimedelta(
        sum((call.ended.latency.ToTimedelta() for call in calls if call.ended is not None), timedelta())
    )
    return line


def _label(phase: PhaseKind, round_: int, story: Story) -> str:
    label = phase_label(phase, story.task_type, story.scope)
    if round_ <= 1:
        return label
    cause = next((f", after {_cause(r.cause)}" for r in story.reworks if (r.phase, r.round) == (phase, round_)), "")
    return f"{label}{REWORK_MARK}{round_ - 1}{cause})"


def _cause(cause: ReworkCause) -> str:
    return words(ReworkCause.Name(cause), "REWORK_CAUSE_") if cause in ReworkCause.values() else "an unknown cause"


def _call_notes(calls: Sequence[Call]) -> list[str]:
    """How its calls ended, unless it was one call that was answered."""
    ends = Counter(_end(call) for call in calls)
    if ends == Counter([OUTCOME_WORDS[CALL_OUTCOME_OK]]):
        return []
    said = ", ".join(f"{count} {end}" for end, count in ends.items())
    return [f"{len(calls)} call{'s' if len(calls) > 1 else ''}: {said}"]


def _end(call: Call) -> str:
    if call.ended is None:
        return IN_FLIGHT
    word = OUTCOME_WORDS.get(call.ended.outcome, "ended in an unknown way")
    status = call.ended.http_status
    return f"{word} (HTTP {status})" if call.ended.outcome == CALL_OUTCOME_ERROR and status else word


def _amount_notes(tally: Tally) -> list[str]:
    notes = []
    if tally.uncertain_tokens:
        notes.append(f"up to {tally.uncertain_tokens:,} tokens more may be billed")
    if tally.unknown_calls:
        notes.append(f"{tally.unknown_calls} call{'s' if tally.unknown_calls > 1 else ''} of unknown usage")
    if tally.unpriced_tokens:
        notes.append(f"{tokens_text(tally.unpriced_tokens)} unpriced")
    return notes


def _notes(story: Story, lines: Sequence[ReportLine], names: Mapping[str, str]) -> list[str]:
    """What the plan, the lines (with their name before it), requests without a call, skips and holds have to tell."""
    notes = list(story.plan.notes) if story.plan else []
    notes += [f"{line.model_name}, {line.label}: {note}" for line in lines for note in line.notes]
    with_line = {(line.phase, line.round, line.model) for line in lines}
    without: dict[Key, None] = {key_of(asked): None for asked, _ in story.requests if key_of(asked) not in with_line}
    for key in without:
        label = _label(key[0], key[1], story)
        notes += [f"{names.get(key[2], key[2])}, {label}: {note}" for note in attempt_notes(key, story)]
    notes += [f"{_label(skip.phase, skip.round, story)} left out: {skip.reason}" for skip in story.skips]
    return notes + hold_notes(story)
