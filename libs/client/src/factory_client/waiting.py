"""Why a task is where it is, in sentences. Pure: the time is an argument."""

from datetime import datetime

from factory.task.v1 import (
    HOLD_CAUSE_BUDGET,
    HOLD_CAUSE_CAPACITY,
    HOLD_CAUSE_NO_MODEL,
    HOLD_CAUSE_TASK_BUDGET,
    TASK_STATE_AWAITING_REVIEW,
    TASK_STATE_CANCELLED,
    TASK_STATE_COMPLETED,
    TASK_STATE_FAILED,
    TASK_STATE_HELD,
    TASK_STATE_PARKED,
    TASK_STATE_REJECTED,
    OverriddenPhase,
    Task,
)

from factory_client.watching import has_ended
from factory_client.words import age_text, clock_text, phase_word, seconds_text, state_word, when

NOBODY = frozenset({"", "nobody"})


def why_sentences(task: Task, now: datetime) -> list[str]:
    """Whose turn it is, since when, the last fact, the next timer; one sentence each."""
    sentences = [_state_sentence(task)]
    if task.HasField("since"):
        turn = "Nobody needs to act" if task.waiting_for in NOBODY else f"It is the turn of {task.waiting_for}"
        sentences.append(f"{turn}, since {clock_text(task.since)} ({age_text(task.since, now)} ago).")
    elif task.waiting_for not in NOBODY:
        sentences.append(f"It is the turn of {task.waiting_for}.")
    if task.state == TASK_STATE_AWAITING_REVIEW:
        sentences.append(f"Look at the change with: factory review show {task.task_id}")
    if task.state == TASK_STATE_HELD:
        sentences.append(held_hint(task))
    if task.last_fact:
        sentences.append(f"The last thing that happened: {task.last_fact.rpartition('.')[2]}.")
    if task.HasField("next_timer") and task.next_timer != task.deadline:
        ahead_s = (when(task.next_timer) - now).total_seconds()
        ahead = f"in {seconds_text(ahead_s)}" if ahead_s > 0 else "due now"
        sentences.append(f"The next timer fires at {clock_text(task.next_timer)} ({ahead}).")
    if task.HasField("deadline") and not has_ended(task.state):
        ahead_s = (when(task.deadline) - now).total_seconds()
        ahead = f" (in {seconds_text(ahead_s)})" if ahead_s > 0 else ""
        sentences.append(f"It fails if it has no pull request by {clock_text(task.deadline)}{ahead}.")
    sentences += [_override_sentence(one) for one in task.overrides]
    return sentences + [f"Note: {note}" for note in task.notes]


def held_hint(task: Task) -> str:
    """What a held task waits for, and the command that helps."""
    match task.hold_cause:
        case value if value == HOLD_CAUSE_TASK_BUDGET:
            return f"Raise the task's own limit with: factory release {task.task_id} --max-cost USD"
        case value if value == HOLD_CAUSE_BUDGET:
            return (
                "It goes on by itself when the budget has room; raise it with: "
                f"factory budget set {task.project} --hard USD (with --model NAME for one model's)"
            )
        case value if value == HOLD_CAUSE_CAPACITY:
            return (
                f"It goes on by itself when another task of {task.project} has ended; let more be open with: "
                f"factory settings set {task.project} --max-open-tasks N"
            )
        case value if value == HOLD_CAUSE_NO_MODEL:
            return (
                "No model is left to ask; `factory models` says why. Name one with: factory override "
                f"{task.task_id} PHASE MODEL, or try again with: factory release {task.task_id}"
            )
        case _:
            return f"Let it go on with: factory release {task.task_id}"


def _override_sentence(one: OverriddenPhase) -> str:
    why = f": {one.reason}" if one.reason else ""
    return f"{phase_word(one.phase)} was given to {one.model} by {one.overridden_by}{why}"


def _state_sentence(task: Task) -> str:
    named = f"{task.title!r} ({task.task_id})"
    match task.state:
        case value if value == TASK_STATE_COMPLETED:
            return f"{named} is completed; the pull request is {task.pull_request_url}"
        case value if value in (TASK_STATE_FAILED, TASK_STATE_CANCELLED, TASK_STATE_REJECTED):
            return f"{named} {_ended_word(value)}" + (f": {task.reason}" if task.reason else ".")
        case value if value == TASK_STATE_HELD:
            return f"{named} is held: {task.reason}"
        case value if value == TASK_STATE_PARKED:
            return f"{named} is parked: a newer release of the factory must take it up. {task.reason}".rstrip()
        case value:
            doing = f": {task.doing}" if task.doing else ""
            return f"{named} is {state_word(value) or 'in an unknown state'}{doing}."


def _ended_word(state: int) -> str:
    return "has failed" if state == TASK_STATE_FAILED else f"was {state_word(state)}"
