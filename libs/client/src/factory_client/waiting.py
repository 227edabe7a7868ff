"""Why a task is where it is, in sentences. Pure: the time is an argument."""

from datetime import datetime

from factory.task.v1 import (
    TASK_STATE_AWAITING_REVIEW,
    TASK_STATE_CANCELLED,
    TASK_STATE_COMPLETED,
    TASK_STATE_FAILED,
    TASK_STATE_HELD,
    TASK_STATE_PARKED,
    TASK_STATE_REJECTED,
    Task,
)

from factory_client.words import age_text, clock_text, seconds_text, state_word, when

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
        sentences.append(f"Let it go on with: factory release {task.task_id}")
    if task.last_fact:
        sentences.append(f"The last thing that happened: {task.last_fact.rpartition('.')[2]}.")
    if task.HasField("next_timer"):
        ahead_s = (when(task.next_timer) - now).total_seconds()
        ahead = f"in {seconds_text(ahead_s)}" if ahead_s > 0 else "due now"
        sentences.append(f"The next timer fires at {clock_text(task.next_timer)} ({ahead}).")
    return sentences + [f"Note: {note}" for note in task.notes]


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
