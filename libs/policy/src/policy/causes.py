"""Why a model was asked, how what it was asked for ended, and what a task was held for: in words, for reports.

Pure. It repeats what the facts say; where an old fact carries no receipt, the plan tells as much as it knew.
"""

from factory.phase.v1 import (
    PHASE_FAILURE_CALLS_SPENT,
    PHASE_FAILURE_DEADLINE,
    PHASE_FAILURE_STOPPED,
    PhaseFailure,
    PhaseRequested,
)
from factory.task.v1 import (
    ROUTE_SOURCE_CUSTOM,
    ROUTE_SOURCE_DEFAULT,
    ROUTE_SOURCE_MODE,
    ROUTE_SOURCE_OVERRIDE,
    RULED_OUT_BY_BUDGET,
    RULED_OUT_BY_HEALTH,
    Candidate,
    PhaseKind,
    Receipt,
    RoutingOverridden,
    TaskCancelled,
    TaskFailed,
)

from policy.story import Story

# What a line of a report is about: phase, round, model.
Key = tuple[PhaseKind, int, str]

SOURCE_WORDS = {
    ROUTE_SOURCE_DEFAULT: "the routing table names it",
    ROUTE_SOURCE_MODE: "the project's mode puts it first",
    ROUTE_SOURCE_CUSTOM: "a rule of the project names it",
    ROUTE_SOURCE_OVERRIDE: "put in charge by hand",
}
LATE = "no answer by its deadline"
FAILURE_WORDS = {
    PHASE_FAILURE_CALLS_SPENT: "the calls reserved for it are spent",
    PHASE_FAILURE_DEADLINE: LATE,
}
# These come and go while a task runs, and leave no other trace in its report.
PASSING_CAUSES = (RULED_OUT_BY_HEALTH, RULED_OUT_BY_BUDGET)


def key_of(asked: PhaseRequested) -> Key:
    return asked.phase, asked.round, asked.model


def reason_of_choice(key: Key, story: Story) -> str:
    """Why this model: as the receipt says; without one, by its reroute, or by what the plan ruled out before it."""
    asked = next((asked for asked, _ in story.requests if key_of(asked) == key), None)
    if asked is not None and (told := _receipt_words(asked)):
        return told
    phase, round_, model = key
    rounds = {asked.request_id: (asked.phase, asked.round) for asked, _ in story.requests}
    for rerouted in story.reroutes:
        if rerouted.to_model == model and rounds.get(rerouted.request_id) == (phase, round_):
            return f"rerouted from {rerouted.from_model}: {failure_words(rerouted.reason)}"
    for planned in story.plan.phases if story.plan else ():
        if planned.phase == phase and planned.model == model and planned.candidates:
            before = [candidate for candidate in planned.candidates if candidate.model != model and candidate.ruled_out]
            if planned.candidates[0].model == model:
                return "first choice of the table"
            return "; ".join(_why_not(candidate) for candidate in before)
    return ""


def attempt_notes(key: Key, story: Story) -> list[str]:
    """What is to be told of this line's requests, in the order in which they were asked."""
    notes = []
    for asked, _ in story.requests:
        if key_of(asked) == key:
            said = (_unusual(asked), _end_without_result(asked, story))
            notes += [f"attempt {asked.attempt} {what}" for what in said if what]
    return notes


def hold_notes(story: Story) -> list[str]:
    """Every time that the task was held, and what let it go on."""
    notes = []
    for held, released in story.holds:
        note = f"held: {held.reason}"
        if released is not None:
            note += f"; released by {released.released_by or 'somebody'}{_because(released.reason)}"
        notes.append(note)
    return notes


def failure_words(reason: PhaseFailure) -> str:
    if reason not in PhaseFailure.values():
        return "unknown reason"
    return FAILURE_WORDS.get(reason) or words(PhaseFailure.Name(reason), "PHASE_FAILURE_")


def words(name: str, prefix: str) -> str:
    """The name of an enum's value for people: "rate limited"."""
    return name.removeprefix(prefix).replace("_", " ").lower()


def _receipt_words(asked: PhaseRequested) -> str:
    receipt = asked.receipt
    told = receipt.because or SOURCE_WORDS.get(receipt.source, "")
    best = _best(receipt)
    if best is None or best.model == asked.model or not best.ruled_out or best.ruled_out in told:
        return told
    return f"{told}; {_why_not(best)}" if told else _why_not(best)


def _unusual(asked: PhaseRequested) -> str:
    """Whether this model was asked although it is unwell, or because what comes before it could not serve then."""
    if asked.probe:
        return "was to show whether the model is well again"
    mine = next((candidate for candidate in asked.receipt.candidates if candidate.model == asked.model), None)
    if mine is not None and mine.ruled_out and mine.by == RULED_OUT_BY_HEALTH:
        return f"was a last resort: {mine.ruled_out}"
    best = _best(asked.receipt)
    if best is not None and best.model != asked.model and best.ruled_out and best.by in PASSING_CAUSES:
        return f"went to {asked.model} instead of {best.model}: {best.ruled_out}"
    return ""


def _end_without_result(asked: PhaseRequested, story: Story) -> str:
    """How a request ended that gave no result; "" for one that was answered in time, or is open."""
    id = asked.request_id
    if id not in story.completed or _was_asked_again(asked, story):
        if override := next((one for one in story.overrides if one.request_id == id), None):
            return f"stopped: {_override_words(override)}"
        if id in story.expired:
            return f"expired: {LATE}"
    failure = next((failed.reason for failed in story.failures if failed.request_id == id), None)
    if failure == PHASE_FAILURE_STOPPED:
        return f"stopped: {_ending_words(story)}"
    if failure is not None:
        return f"failed: {failure_words(failure)}"
    is_last = asked is story.requests[-1][0]
    was_open = is_last and id not in story.completed and isinstance(story.ending, TaskCancelled)
    return f"stopped: {_ending_words(story)}" if was_open else ""


def _was_asked_again(asked: PhaseRequested, story: Story) -> bool:
    """Whether the same round of the phase was asked for once more: then an answer to this request came too late."""
    return any(
        (other.phase, other.round) == (asked.phase, asked.round) and other.attempt > asked.attempt
        for other, _ in story.requests
    )


def _override_words(override: RoutingOverridden) -> str:
    if override.model:
        return f"given to {override.model} by {override.overridden_by}{_because(override.reason)}"
    return f"{override.overridden_by} took an override back{_because(override.reason)}"


def _ending_words(story: Story) -> str:
    match story.ending:
        case TaskCancelled(cancelled_by=who):
            return f"cancelled by {who}"
        case TaskFailed(reason=reason):
            return f"the task had failed{_because(reason)}"
        case _:
            return "the task did not want it any more"


def _best(receipt: Receipt) -> Candidate | None:
    """Who would have come first, whether or not it could serve."""
    return max(receipt.candidates, key=lambda candidate: candidate.score, default=None)


def _why_not(candidate: Candidate) -> str:
    return f"{candidate.model} ruled out: {candidate.ruled_out}"


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""
