"""What is known of one task, as plain values: the state that facts are folded into.

Pure data. `task.py` says how facts change it, `next_step.py` what follows from it.
"""

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from factory.artifact.v1 import ArtifactRef, Attachment
from factory.gate.v1 import GATE_VERDICT_UNSPECIFIED, GateVerdict
from factory.phase.v1 import VERDICT_UNSPECIFIED, PhaseFailure, Verdict
from factory.task.v1 import (
    HOLD_CAUSE_UNSPECIFIED,
    PHASE_KIND_REVIEW,
    PHASE_KIND_UNSPECIFIED,
    PHASE_KIND_WRITE_TESTS,
    ROUTE_SOURCE_DEFAULT,
    SCOPE_UNSPECIFIED,
    TASK_TYPE_UNSPECIFIED,
    HoldCause,
    PhaseKind,
    RouteSource,
    Scope,
    TaskState,
    TaskType,
)
from policy.ranking import Needs, text_tokens


class Kind(Enum):
    """What sort of answer is awaited."""

    CLASSIFICATION = "classification"
    CONTEXT = "context"
    PHASE = "phase"
    GATE = "gate"
    DELIVERY = "delivery"


@dataclass(frozen=True, slots=True)
class Blob:
    """An artifact, as a plain value."""

    digest: str
    size: int

    @property
    def ref(self) -> ArtifactRef:
        return ArtifactRef(digest=self.digest, size=self.size)


@dataclass(frozen=True, slots=True)
class Attached:
    """What came with a task, as a plain value."""

    name: str
    media_type: str
    blob: Blob

    @property
    def is_image(self) -> bool:
        return self.media_type.startswith("image/")

    @property
    def message(self) -> Attachment:
        return Attachment(artifact=self.blob.ref, name=self.name, media_type=self.media_type)


@dataclass(frozen=True, slots=True)
class Override:
    """An architect's word on who does a phase."""

    phase: PhaseKind
    model: str
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Open:
    """The one request that the task waits for."""

    request_id: str
    kind: Kind
    asked_of: str
    phase: PhaseKind = PHASE_KIND_UNSPECIFIED
    round: int = 1
    not_before: datetime | None = None
    deadline: datetime | None = None
    max_input_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """A phase of the plan: who may do it, best first, and what ruled the others out when it was made."""

    phase: PhaseKind
    candidates: tuple[tuple[str, str], ...]
    max_output_tokens: int
    # models that the project never uses, by the preferences of the plan
    excluded: tuple[str, ...] = ()
    source: RouteSource = ROUTE_SOURCE_DEFAULT


@dataclass(frozen=True, slots=True)
class Failure:
    """A phase request that gave no result."""

    request_id: str
    model: str
    reason: PhaseFailure
    detail: str
    retry_after: timedelta
    # what the prompt was allowed to have; 0 where it was all that the window holds
    max_input_tokens: int = 0


@dataclass(frozen=True)
class Task:
    """All that deciding needs, and no more. Anything for display belongs to audit.

    Without slots: `changed` copies it as one dictionary.
    """

    title: str = ""
    project: str = ""
    repository: str = ""
    base_branch: str = ""
    submitted_by: str = ""
    submitted_at: datetime | None = None
    max_cost_pico_usd: int | None = None
    deadline: datetime | None = None
    body_bytes: int = 0
    attached: tuple[Attached, ...] = ()
    # a classification was asked for: the task is one of the project's open ones
    admitted: bool = False
    type: TaskType = TASK_TYPE_UNSPECIFIED
    scope: Scope = SCOPE_UNSPECIFIED
    base_commit: str = ""
    snapshot: Blob | None = None
    pack: Blob | None = None
    pack_tokens: int = 0
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    # phases still to do, the next one first
    queue: tuple[PhaseKind, ...] = ()
    done: tuple[PhaseKind, ...] = ()
    open: Open | None = None
    # attempts that have failed at what is to be done now
    attempts: int = 0
    # of those, the ones that count against a model; a release forgives them
    failures: tuple[Failure, ...] = ()
    rerouted_to: str = ""
    overrides: tuple[Override, ...] = ()
    # an answer of context or delivery that ends or holds the task
    trouble: tuple[str, bool] | None = None
    change: str = ""
    author_phase: PhaseKind = PHASE_KIND_UNSPECIFIED
    author_model: str = ""
    # who did each authoring phase last
    wrote: tuple[tuple[PhaseKind, str], ...] = ()
    findings: Blob | None = None
    verdict: Verdict = VERDICT_UNSPECIFIED
    reviewed_by: str = ""
    review_findings: Blob | None = None
    reworks: int = 0
    judged: str = ""
    gate: GateVerdict = GATE_VERDICT_UNSPECIFIED
    gate_findings: Blob | None = None
    gate_blocking: int = 0
    gate_unknown_because: str = ""
    gates: int = 0
    evidence: str = ""
    awaiting_review: bool = False
    approved_by: str = ""
    held: str = ""
    hold_cause: HoldCause = HOLD_CAUSE_UNSPECIFIED
    # the budget that has no room
    hold_budget: str = ""
    pull_request: tuple[str, str, str] = ("", "", "")
    ended: TaskState | None = None
    reason: str = ""
    # a fact of a kind that this release does not know stands in its log
    parked: bool = False
    since: datetime | None = None
    last_fact: str = ""

    def round_of(self, phase: PhaseKind) -> int:
        """1 until the phase has been done once."""
        return 1 + self.done.count(phase)

    def step(self, phase: PhaseKind) -> Step:
        return next(step for step in self.steps if step.phase == phase)

    def override(self, phase: PhaseKind) -> str:
        """The model that an architect has put in charge of a phase; "" where nobody has."""
        return next((one.model for one in self.overrides if one.phase == phase), "")

    @property
    def needs(self) -> Needs:
        """What a model must be able to take in."""
        texts = sum(one.blob.size for one in self.attached if not one.is_image)
        images = tuple(one.name for one in self.attached if one.is_image)
        return Needs(self.pack_tokens, text_tokens(texts), images)

    @property
    def answering_phase(self) -> PhaseKind:
        """The phase that answers for the change as a whole: the last that wrote something other than tests."""
        authors = [p for p in self.done if p not in (PHASE_KIND_REVIEW, PHASE_KIND_WRITE_TESTS)]
        return authors[-1] if authors else self.author_phase

    @property
    def answering_model(self) -> str:
        """Who did that phase."""
        return dict(self.wrote).get(self.answering_phase, self.author_model)


_FIELDS = frozenset(field.name for field in fields(Task))


def changed(task: Task, **changes: Any) -> Task:
    """The task with some fields changed; as `dataclasses.replace`, but each of many events does it several times."""
    if not changes.keys() <= _FIELDS:
        raise TypeError(f"a task has no {sorted(changes.keys() - _FIELDS)}")
    other = object.__new__(Task)
    other.__dict__.update(task.__dict__, **changes)
    return other
