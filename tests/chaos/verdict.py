"""What a storm came to, read from the log, the bill and the repositories afterwards. Pure: it excuses nothing."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from audit.reconcile import Comparison, Kind
from eventlog import Recorded
from factory.call.v1 import CALL_OUTCOME_LOST, CALL_OUTCOME_OK, ModelCalled, ModelCallStarted
from factory.delivery.v1 import PullRequestOpened
from factory.phase.v1 import PhaseCompleted, PhaseFailed
from factory.review.v1 import TaskRejected
from factory.task.v1 import RequestExpired, RoutingOverridden, TaskCancelled, TaskCompleted, TaskFailed
from policy.calls import calls_in, reckon
from policy.prices import prices_in

# The only ways in which a call may stand otherwise in the ledger than on the bill.
EXPLAINED = frozenset((Kind.EQUAL, Kind.LOST, Kind.ABANDONED, Kind.NEVER_SENT))
CUT_MARK = "\n[…]"
EMPTY = "(empty)"

About = ModelCallStarted | ModelCalled | PhaseFailed | RequestExpired | RoutingOverridden | PhaseCompleted
Ended = TaskCompleted | TaskFailed | TaskCancelled | TaskRejected
# A stored request or response, by its digest.
Read = Callable[[str], dict]


@dataclass(frozen=True, slots=True)
class Repaid:
    """A call that was billed although the answer to the same question stood in the log already."""

    call_id: str
    answered_by: str
    tokens: int


@dataclass(slots=True)
class Round:
    """One phase of one task in one round: what is to be paid for once."""

    answers: list[ModelCalled]
    failed: set[str]
    completed: str = ""


def repaid(events: Iterable[Recorded], billed: Mapping[str, int], read: Read) -> list[Repaid]:
    """Every call that begins after the log holds an answer to the same phase and round, and has no right to.

    It has where that answer could not be used: within the same request the new call then holds the old answer and the
    complaint about it; from another request, the request that was answered has failed or was closed.
    """
    rounds: dict[tuple[str, str], Round] = defaultdict(lambda: Round([], set()))
    found: list[Repaid] = []
    for recorded in events:
        for fact in recorded.facts:
            if not isinstance(fact, About):
                continue
            of = rounds[recorded.event.id, fact.request_id.rpartition("-")[0]]
            match fact:
                case ModelCallStarted():
                    if earlier := _answer_left_unused(of, fact, read):
                        found.append(Repaid(fact.call_id, earlier, billed.get(fact.call_id, 0)))
                case ModelCalled() if fact.outcome == CALL_OUTCOME_OK and fact.HasField("response"):
                    of.answers.append(fact)
                case PhaseFailed() | RequestExpired() | RoutingOverridden():
                    of.failed.add(fact.request_id)
                case PhaseCompleted():
                    of.completed = fact.request_id
    return found


def _answer_left_unused(of: Round, start: ModelCallStarted, read: Read) -> str:
    """The call whose recorded answer should have served; "" where there is none."""
    for answer in of.answers:
        if of.completed == answer.request_id:
            return answer.call_id
        if answer.request_id != start.request_id:
            if answer.request_id not in of.failed:
                return answer.call_id
        elif not quotes(read(start.request.digest), read(answer.response.digest)):
            return answer.call_id
    return ""


def quotes(request: dict, response: dict) -> bool:
    """Whether a request says an earlier answer back to the model, whole or as much of it as there was room for."""
    said = [message["text"] for message in request["messages"] if message["role"] == "assistant"]
    answer = response["text"]
    return any(
        text == (answer or EMPTY) or (text.endswith(CUT_MARK) and answer.startswith(text.removesuffix(CUT_MARK)))
        for text in said
    )


def unexplained(comparison: Comparison) -> dict[str, int]:
    """Calls that stand otherwise in the ledger than on the bill, without being lost or abandoned; by how many tokens."""
    return {
        call.call_id: max(abs((call.billed_tokens or 0) - (call.ledger_tokens or 0)), 1)
        for call in comparison.calls
        if call.kind not in EXPLAINED
    }


def duplicate_pull_requests(
    events: Iterable[Recorded], branches: Sequence[str], records: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Branches and records that a repository has too many or too few of; `records` are the tasks that they name."""
    opened = {
        recorded.event.id for recorded in events for fact in recorded.facts if isinstance(fact, PullRequestOpened)
    }
    by_task = Counter(branch.removeprefix("factory/")[:26] for branch in branches)
    recorded_for = Counter(records)
    too_many = [task for task in sorted({*by_task, *recorded_for}) if max(by_task[task], recorded_for[task]) > 1]
    of_nobody = sorted({*by_task, *recorded_for} - opened)
    too_few = [task for task in sorted(opened) if not (by_task[task] and recorded_for[task])]
    return too_many + of_nobody, too_few


def ended(events: Iterable[Recorded]) -> dict[str, str]:
    """How each task ended: the name of the fact that says so."""
    return {
        recorded.event.id: fact.DESCRIPTOR.name
        for recorded in events
        for fact in recorded.facts
        if isinstance(fact, Ended)
    }


def broken_lanes(events: Iterable[Recorded]) -> list[str]:
    """Lanes with a gap, a fork, or a link that does not hold."""
    tips: dict[tuple[str, str], tuple[int, bytes]] = {}
    found = []
    for recorded in events:
        lane = recorded.event.producer, recorded.event.id
        if (recorded.event.version - 1, recorded.event.prev_hash) != tips.get(lane, (0, b"")):
            found.append(f"{lane[0]}/{lane[1]} at version {recorded.event.version}")
        tips[lane] = recorded.tip.version, recorded.tip.hash
    return found


def booked_otherwise(events: Iterable[Recorded], booked_pico_usd: int) -> int:
    """By how much the budget differs from what the calls have cost, worst case where nobody knows, in pico-dollars."""
    known = [recorded.event for recorded in events]
    prices = prices_in(known)
    tallies = [reckon(call, prices).tally for call in calls_in(known).values()]
    return booked_pico_usd - sum(tally.cost_pico_usd + tally.uncertain_cost_pico_usd for tally in tallies)


def open_calls(events: Iterable[Recorded]) -> list[str]:
    """Calls whose end the log does not know, not even that it is lost."""
    left: dict[str, None] = {}
    for recorded in events:
        for fact in recorded.facts:
            match fact:
                case ModelCallStarted():
                    left[fact.call_id] = None
                case ModelCalled():
                    left.pop(fact.call_id, None)
    return list(left)


def lost_calls(events: Iterable[Recorded]) -> dict[str, tuple[str, int]]:
    """Each call that was booked lost: the executor that made it, and the position at which it was given up."""
    return {
        fact.call_id: (recorded.event.producer, recorded.sequence)
        for recorded in events
        for fact in recorded.facts
        if isinstance(fact, ModelCalled) and fact.outcome == CALL_OUTCOME_LOST
    }
