"""The world outside: providers that answer, fail and write bills; a store of answers; the remote with its pull requests."""

from dataclasses import dataclass, field
from random import Random

from factory.artifact.v1 import ArtifactRef
from factory.call.v1 import (
    CALL_OUTCOME_ABANDONED,
    CALL_OUTCOME_ERROR,
    CALL_OUTCOME_NOT_SENT,
    CALL_OUTCOME_OK,
    CallOutcome,
    Usage,
)
from factory.phase.v1 import PhaseFailure

RETRY_AFTER_S = (None, 0, 2, 30, 60, 61, 600)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one call, as the wire tells it."""

    outcome: CallOutcome
    # unspecified: the answer can be read on
    failure: PhaseFailure = PhaseFailure.PHASE_FAILURE_UNSPECIFIED
    http_status: int = 0
    usage: Usage | None = None
    response: str = ""
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A stored response: what it is worth when it is read, by whoever reads it."""

    is_usable: bool
    failure: PhaseFailure
    unique: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the provider's bill."""

    call_id: str
    model: str
    input_tokens: int
    output_tokens: int

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


# outcome, failure, HTTP status: every way in which a call can go wrong on the wire.
WIRE_FAILURES: tuple[tuple[CallOutcome, PhaseFailure, int], ...] = (
    (CALL_OUTCOME_ABANDONED, PhaseFailure.PHASE_FAILURE_TIMEOUT, 0),
    (CALL_OUTCOME_ABANDONED, PhaseFailure.PHASE_FAILURE_BROKEN_STREAM, 200),
    (CALL_OUTCOME_ABANDONED, PhaseFailure.PHASE_FAILURE_OVERLOADED, 200),
    (CALL_OUTCOME_ERROR, PhaseFailure.PHASE_FAILURE_RATE_LIMITED, 429),
    (CALL_OUTCOME_ERROR, PhaseFailure.PHASE_FAILURE_PAYMENT_REQUIRED, 402),
    (CALL_OUTCOME_ERROR, PhaseFailure.PHASE_FAILURE_SERVER_ERROR, 500),
    (CALL_OUTCOME_ERROR, PhaseFailure.PHASE_FAILURE_OVERLOADED, 529),
    (CALL_OUTCOME_ERROR, PhaseFailure.PHASE_FAILURE_CONTEXT_TOO_LARGE, 413),
    (CALL_OUTCOME_ERROR, PhaseFailure.PHASE_FAILURE_UNAUTHENTICATED, 401),
    (CALL_OUTCOME_ERROR, PhaseFailure.PHASE_FAILURE_INVALID_REQUEST, 400),
    (CALL_OUTCOME_NOT_SENT, PhaseFailure.PHASE_FAILURE_UNREACHABLE, 0),
)
# Answers that arrive whole, are billed whole, and end the request all the same.
ANSWERED_FAILURES = (PhaseFailure.PHASE_FAILURE_TRUNCATED, PhaseFailure.PHASE_FAILURE_REFUSED)


@dataclass(slots=True)
class Outside:
    """What no crash of ours undoes."""

    bill: list[Line] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)
    # task → pull requests that exist for it
    pull_requests: dict[str, list[str]] = field(default_factory=dict)

    def call(self, chance: Random, failure: float, call_id: str, model: str, input_max: int, output_max: int) -> Reply:
        """A request has arrived: from now on it is on the bill, whoever hears of it."""
        if chance.random() < failure:
            kind = chance.randrange(len(WIRE_FAILURES) + 4)
            if kind < len(WIRE_FAILURES):
                return self._failed(chance, WIRE_FAILURES[kind], call_id, model, input_max, output_max)
            if kind < len(WIRE_FAILURES) + 2:
                why = ANSWERED_FAILURES[kind - len(WIRE_FAILURES)]
                return self._answered(chance, call_id, model, input_max, output_max, False, why)
            # An answer that can be read and not be used: the model is told so, and asked again.
            nothing = PhaseFailure.PHASE_FAILURE_UNSPECIFIED
            return self._answered(chance, call_id, model, input_max, output_max, False, nothing)
        return self._answered(
            chance, call_id, model, input_max, output_max, True, PhaseFailure.PHASE_FAILURE_UNSPECIFIED
        )

    def _answered(
        self,
        chance: Random,
        call_id: str,
        model: str,
        input_max: int,
        output_max: int,
        is_usable: bool,
        failure: PhaseFailure,
    ) -> Reply:
        line = self.billed(chance, call_id, model, input_max, output_max)
        digest = f"answer-{len(self.bill)}"
        self.answers[digest] = Answer(is_usable, failure, str(len(self.bill)))
        usage = Usage(input_tokens=line.input_tokens, output_tokens=line.output_tokens)
        return Reply(CALL_OUTCOME_OK, failure, 200, usage, digest)

    def _failed(
        self,
        chance: Random,
        kind: tuple[CallOutcome, PhaseFailure, int],
        call_id: str,
        model: str,
        input_max: int,
        output_max: int,
    ) -> Reply:
        outcome, failure, status = kind
        usage = None
        if outcome == CALL_OUTCOME_ABANDONED:
            line = self.billed(chance, call_id, model, input_max, output_max)
            if chance.random() < 0.5:
                usage = Usage(input_tokens=line.input_tokens, output_tokens=line.output_tokens // 2)
        wait = chance.choice(RETRY_AFTER_S) if outcome == CALL_OUTCOME_ERROR else None
        return Reply(outcome, failure, status, usage, "", wait)

    def billed(self, chance: Random, call_id: str, model: str, input_max: int, output_max: int) -> Line:
        line = Line(call_id, model, chance.randint(1, input_max), chance.randint(1, output_max))
        self.bill.append(line)
        return line

    def open_pull_request(self, task_id: str) -> str:
        """The pull request of a task: found, or opened."""
        there = self.pull_requests.setdefault(task_id, [])
        if not there:
            there.append(f"https://example.com/{task_id}/pull/1")
        return there[0]


def blob(digest: str) -> ArtifactRef:
    return ArtifactRef(digest=digest, size=1)
