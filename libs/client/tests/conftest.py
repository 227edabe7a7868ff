"""A factory in memory: the generated services over real gRPC."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from factory.artifact.v1 import SEVERITY_BLOCKING, Finding
from factory.audit.v1 import (
    Amount,
    AuditServiceServicer,
    LedgerLine,
    LedgerResponse,
    PendingReviewsResponse,
    PreviewedPhase,
    PreviewedTask,
    PreviewRoutingResponse,
    Project,
    ProjectsResponse,
    TaskReportResponse,
    TaskRow,
    TasksResponse,
    UsageResponse,
    add_AuditServiceServicer_to_server,
)
from factory.call.v1 import CALL_OUTCOME_LOST, CALL_OUTCOME_OK, ModelCalled, Usage
from factory.classification.v1 import TaskClassified
from factory.delivery.v1 import DeliveryRequested, PullRequestOpened
from factory.event.v1 import Event, Fact
from factory.gate.v1 import GATE_VERDICT_PASS, GateJudged, GateRequested, TestRun
from factory.log.v1 import LogPosition
from factory.model.v1 import (
    BREAKER_STATE_CLOSED,
    BREAKER_STATE_OPEN,
    TRIP_CAUSE_ERROR_RATE,
    TRIP_CAUSE_QUALITY,
    Breaker,
    Health,
    HealthEvidence,
    ListResponse,
    Model,
    ModelServiceServicer,
    RecoverResponse,
    TripResponse,
    add_ModelServiceServicer_to_server,
)
from factory.phase.v1 import (
    REWORK_CAUSE_MODEL_REVIEW,
    VERDICT_APPROVE,
    VERDICT_REQUEST_CHANGES,
    PhaseCompleted,
    PhaseRequested,
    ReworkRequested,
)
from factory.project.v1 import (
    PREFERENCE_MODE_BALANCED,
    Budget,
    CreateResponse,
    GetBudgetResponse,
    GetPreferencesResponse,
    Preferences,
    PreferencesVersion,
    ProjectServiceServicer,
    SavePreferencesResponse,
    SetBudgetResponse,
    add_ProjectServiceServicer_to_server,
)
from factory.review.v1 import (
    ApproveResponse,
    GetChangeResponse,
    HumanReviewRequested,
    RejectResponse,
    RequestChangesResponse,
    ReviewServiceServicer,
    TaskApproved,
    add_ReviewServiceServicer_to_server,
)
from factory.task.v1 import (
    PHASE_KIND_IMPLEMENT,
    PHASE_KIND_REVIEW,
    ROUTE_SOURCE_DEFAULT,
    ROUTE_SOURCE_MODE,
    SCOPE_FOCUSED,
    TASK_STATE_AWAITING_REVIEW,
    TASK_STATE_CLASSIFYING,
    TASK_STATE_COMPLETED,
    TASK_STATE_DELIVERING,
    TASK_STATE_GATING,
    TASK_STATE_RUNNING,
    TASK_TYPE_UI,
    CancelResponse,
    Candidate,
    ClassificationRequested,
    Decision,
    EraseResponse,
    ExplainResponse,
    GetResponse,
    OverrideResponse,
    PhaseKind,
    PlannedPhase,
    Receipt,
    ReleaseResponse,
    SubmitResponse,
    Task,
    TaskCompleted,
    TaskPlanned,
    TaskServiceServicer,
    TaskState,
    TaskSubmitted,
    WatchedFact,
    WatchResponse,
    add_TaskServiceServicer_to_server,
)
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

TASK = "01kb2x7mz4e9qhrv5w3n8d6t0c"
OTHER = "01kb2x7mz4zzzzzzzzzzzzzzzz"
CHANGE = "4fd0a1b2c3d4" + "0" * 52
TITLE = "Show the notes in a table"
TOKEN = "let-me-in"
START_S = 1_790_000_000
PLAN = [
    PlannedPhase(
        phase=PHASE_KIND_IMPLEMENT,
        model="gpt",
        candidates=[Candidate(model="claude", ruled_out="no key"), Candidate(model="gpt", score=2)],
        source=ROUTE_SOURCE_MODE,
    ),
    PlannedPhase(phase=PHASE_KIND_REVIEW, model="claude", source=ROUTE_SOURCE_DEFAULT),
]
USAGE = Usage(input_tokens=1000, cache_read_tokens=200, output_tokens=300)


def story() -> list[tuple[str, list, TaskState]]:
    """A task's life: who says what, and the state the task is in then. One review asks for a rework."""
    return [
        (
            "conductor",
            [TaskSubmitted(title=TITLE), ClassificationRequested(request_id="classification-1-1")],
            TASK_STATE_CLASSIFYING,
        ),
        (
            "classifier",
            [TaskClassified(request_id="classification-1-1", type=TASK_TYPE_UI, scope=SCOPE_FOCUSED)],
            TASK_STATE_CLASSIFYING,
        ),
        (
            "conductor",
            [TaskPlanned(phases=PLAN), _asked("implement-1-1", PHASE_KIND_IMPLEMENT, "gpt")],
            TASK_STATE_RUNNING,
        ),
        ("executor-gpt", [_called("implement-1-1"), PhaseCompleted(request_id="implement-1-1")], TASK_STATE_RUNNING),
        ("conductor", [_asked("review-1-1", PHASE_KIND_REVIEW, "claude")], TASK_STATE_RUNNING),
        (
            "executor-claude",
            [PhaseCompleted(request_id="review-1-1", verdict=VERDICT_REQUEST_CHANGES, blocking_findings=1)],
            TASK_STATE_RUNNING,
        ),
        (
            "conductor",
            [
                ReworkRequested(phase=PHASE_KIND_IMPLEMENT, round=2, cause=REWORK_CAUSE_MODEL_REVIEW),
                _asked("implement-2-1", PHASE_KIND_IMPLEMENT, "gpt"),
            ],
            TASK_STATE_RUNNING,
        ),
        ("executor-gpt", [PhaseCompleted(request_id="implement-2-1")], TASK_STATE_RUNNING),
        ("conductor", [_asked("review-2-1", PHASE_KIND_REVIEW, "claude")], TASK_STATE_RUNNING),
        ("executor-claude", [PhaseCompleted(request_id="review-2-1", verdict=VERDICT_APPROVE)], TASK_STATE_RUNNING),
        ("conductor", [GateRequested(request_id="gate-1-1")], TASK_STATE_GATING),
        (
            "quality_gate",
            [GateJudged(request_id="gate-1-1", verdict=GATE_VERDICT_PASS, tests=TestRun(passed=12))],
            TASK_STATE_GATING,
        ),
        ("conductor", [HumanReviewRequested(change_digest=CHANGE)], TASK_STATE_AWAITING_REVIEW),
        (
            "conductor",
            [TaskApproved(approved_by="ada"), DeliveryRequested(request_id="delivery-1-1")],
            TASK_STATE_DELIVERING,
        ),
        (
            "delivery",
            [PullRequestOpened(request_id="delivery-1-1", branch="factory/notes", url="file:///pr/1")],
            TASK_STATE_DELIVERING,
        ),
        ("conductor", [TaskCompleted(pull_request_url="file:///pr/1")], TASK_STATE_COMPLETED),
    ]


def _asked(request: str, phase: PhaseKind, model: str) -> PhaseRequested:
    return PhaseRequested(request_id=request, phase=phase, model=model)


def _called(request: str) -> ModelCalled:
    return ModelCalled(call_id=f"{TASK}.{request}-1", request_id=request, usage=USAGE)


def responses() -> list[WatchResponse]:
    """The story as Watch tells it, one second per event, at every third sequence of the stream."""
    return [_response(index, *told) for index, told in enumerate(story())]


def _response(index: int, producer: str, facts: list, state: TaskState) -> WatchResponse:
    stored = [Fact(**{_arm(fact): fact}) for fact in facts]
    response = WatchResponse(
        sequence=10 + 3 * index,
        producer=producer,
        facts=[WatchedFact(type=fact.DESCRIPTOR.full_name, summary=f"{producer} said it") for fact in facts],
        event=Event(facts=stored).SerializeToString(),
        task=Task(task_id=TASK, title=TITLE, state=state, pull_request_url="file:///pr/1"),
    )
    response.occurred_at.FromSeconds(START_S + index)
    return response


def _arm(fact) -> str:
    fields = Fact.DESCRIPTOR.fields
    return next(one.name for one in fields if one.message_type is fact.DESCRIPTOR)


def decisions() -> list[Decision]:
    """What was decided about the task's phases: a plan, and a request with its receipt."""
    receipt = Receipt(policy_version="routing-2", inputs_digest="ab" * 32, world_read_to=1234, chosen="gpt")
    receipt.because, receipt.source = "the project puts quality first", ROUTE_SOURCE_MODE
    planned = [Decision(phase=one.phase, receipt=Receipt(chosen=one.model)) for one in PLAN]
    asked = Decision(sequence=16, phase=PHASE_KIND_IMPLEMENT, round=1, request_id="implement-1-1", receipt=receipt)
    asked.sentences[:] = [
        "implement-1-1 is asked of gpt: the project puts quality first.",
        "claude is ruled out: no \x1b[31mkey.",
    ]
    for one in planned:
        one.type, one.sentences[:] = "factory.task.v1.TaskPlanned", ["It is planned."]
    asked.type = "factory.phase.v1.PhaseRequested"
    for one in (*planned, asked):
        one.decided_at.FromSeconds(START_S + 2)
    return [*planned, asked]


def models() -> list[Model]:
    """One model with figures and an open breaker, one without a key, one of which little is known."""
    failing = HealthEvidence(observed=10, bad=7, reasons={"timeout": 2, "overloaded": 5})
    tripped = Breaker(state=BREAKER_STATE_OPEN, cause=TRIP_CAUSE_ERROR_RATE, evidence=failing)
    tripped.since.FromSeconds(START_S)
    tripped.open_until.FromSeconds(START_S + 900)
    bad_work = HealthEvidence(observed=5, bad=4, reasons={"gate block": 4})
    of_type = Breaker(type=TASK_TYPE_UI, state=BREAKER_STATE_OPEN, cause=TRIP_CAUSE_QUALITY, evidence=bad_work)
    health = Health(breakers=[tripped, of_type], in_flight=3, calls=48, error_rate=0.021, judged_changes=12)
    health.latency_p50.FromMilliseconds(800)
    health.latency_p95.FromMilliseconds(12_500)
    health.pico_usd_per_1k_tokens, health.first_pass_yield = 4_200_000_000, 0.83
    gpt = Model(model="gpt", display_name="GPT-5", configured=True, pretend=True, provider="openai", health=health)
    gpt.input_pico_usd, gpt.output_pico_usd = 1_250_000, 10_000_000
    new = Model(model="gemini", configured=True, health=Health(breakers=[Breaker(state=BREAKER_STATE_CLOSED)]))
    return [gpt, Model(model="claude", ruled_out="ANTHROPIC_API_KEY is not set"), new]


def preview() -> PreviewRoutingResponse:
    """Two phases of one task: one that would be cheaper elsewhere, one whose cost is not known."""
    cheaper = PreviewedPhase(
        phase=PHASE_KIND_IMPLEMENT, recorded_model="gpt", preview_model="deepseek", because="the project's mode"
    )
    cheaper.recorded_cost_pico_usd, cheaper.preview_cost_pico_usd = "120000000000", "90000000000"
    unknown = PreviewedPhase(phase=PHASE_KIND_REVIEW, recorded_model="claude", preview_model="gemini")
    unknown.recorded_cost_pico_usd, unknown.unknown_because = "50000000000", "gemini has never reviewed a ui task"
    task = PreviewedTask(task_id=TASK, title=TITLE, type=TASK_TYPE_UI, phases=[cheaper, unknown])
    return PreviewRoutingResponse(
        tasks=[task],
        recorded_cost_pico_usd="120000000000",
        preview_cost_pico_usd="90000000000",
        changed_phases=2,
        unknown_phases=1,
    )


@dataclass
class House(
    TaskServiceServicer, ReviewServiceServicer, AuditServiceServicer, ModelServiceServicer, ProjectServiceServicer
):
    """What a test looks into: the requests that came, and the switches it may turn."""

    url: str = ""
    seen: list = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)
    told: list[WatchResponse] = field(default_factory=responses)
    # How many events a stream gives before its connection breaks; each entry serves one stream.
    breaks: list[int] = field(default_factory=list)
    task_ids: list[str] = field(default_factory=lambda: [TASK, OTHER])
    state: TaskState = TASK_STATE_RUNNING
    # What Get answers besides; what it does not name is as always.
    known: Task = field(default_factory=Task)
    versions: list[PreferencesVersion] = field(default_factory=list)
    budgets: list[Budget] = field(default_factory=list)
    held_tasks: int = 0
    models: list[Model] = field(default_factory=models)
    previewed: PreviewRoutingResponse = field(default_factory=preview)
    typical_cost_pico_usd: int | None = None

    def _note(self, request, context) -> None:
        self.seen.append(request)
        self.tokens.append(dict(context.invocation_metadata()).get("authorization", ""))

    def Submit(self, request, context):
        self._note(request, context)
        if not request.title:
            refuse(context, code_pb2.INVALID_ARGUMENT, "the task is refused", title="expected 1 to 200 characters")
        if request.dry_run:
            return SubmitResponse(
                plan=PLAN,
                notes=["one family only"],
                max_cost_pico_usd=420_000_000_000,
                typical_cost_pico_usd=self.typical_cost_pico_usd,
            )
        known = self.keys.setdefault(request.idempotency_key or "-", request.title)
        if known != request.title:
            refuse(context, code_pb2.ALREADY_EXISTS, f"key {request.idempotency_key!r} has another title: {known!r}")
        return SubmitResponse(task_id=TASK, position=LogPosition(stream="EVENTS", sequence=10))

    def Get(self, request, context):
        self._note(request, context)
        if request.task_id not in self.task_ids:
            refuse(context, code_pb2.NOT_FOUND, f"no task {request.task_id!r}")
        task = Task(task_id=request.task_id, title=TITLE, state=self.state, waiting_for="executor-gpt")
        task.doing, task.last_fact = "implement (round 2), asked of gpt", "factory.phase.v1.PhaseRequested"
        task.since.FromSeconds(START_S)
        task.plan.extend(PLAN)
        task.MergeFrom(self.known)
        return GetResponse(task=task, position=LogPosition(stream="EVENTS", sequence=50))

    def Watch(self, request, context):
        self._note(request, context)
        stop = self.breaks.pop(0) if self.breaks else None
        for index, response in enumerate(one for one in self.told if one.sequence > request.after_sequence):
            if index == stop:
                context.abort(grpc.StatusCode.UNAVAILABLE, "going down")
            yield response

    def Cancel(self, request, context):
        self._note(request, context)
        return CancelResponse(position=LogPosition(stream="EVENTS", sequence=99))

    def Release(self, request, context):
        self._note(request, context)
        return ReleaseResponse(position=LogPosition(stream="EVENTS", sequence=98))

    def Erase(self, request, context):
        self._note(request, context)
        return EraseResponse(erased=7)

    def GetChange(self, request, context):
        self._note(request, context)
        finding = Finding(source="gemini", rule="missing-expiry", severity=SEVERITY_BLOCKING, path="a.py", line=3)
        finding.message = "tokens never expire\x1b[31m"
        return GetChangeResponse(
            task_id=TASK,
            title=TITLE,
            change_digest=CHANGE,
            evidence_digest="e" * 64,
            diff="--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-old\n+new\n",
            findings=[finding],
            verdict=GATE_VERDICT_PASS,
            tests=TestRun(passed=12),
            notes=["no model review"],
        )

    def Approve(self, request, context):
        self._note(request, context)
        return ApproveResponse(position=LogPosition(stream="EVENTS", sequence=60))

    def RequestChanges(self, request, context):
        self._note(request, context)
        return RequestChangesResponse()

    def Reject(self, request, context):
        self._note(request, context)
        return RejectResponse()

    def Tasks(self, request, context):
        self._note(request, context)
        # two pages, so that paging is seen
        first, rest = self.task_ids[:1], self.task_ids[1:]
        ids, token = (rest, "") if request.page_token else (first, "2" if rest else "")
        rows = [
            TaskRow(task_id=one, title=TITLE, amount=Amount(tokens=1500, cost_pico_usd="12300000000")) for one in ids
        ]
        for row in rows:
            row.state, row.hold_cause = self.state, self.known.hold_cause
        return TasksResponse(tasks=rows, next_page_token=token)

    def PendingReviews(self, request, context):
        self._note(request, context)
        return PendingReviewsResponse()

    def TaskReport(self, request, context):
        self._note(request, context)
        report = TaskReportResponse(task_id=TASK, title=TITLE, total=Amount(tokens=1500, cost_pico_usd="12300000000"))
        report.lines.add(model="gpt", model_name="GPT-5", label="Code implementation").amount.tokens = 1500
        return report

    def Usage(self, request, context):
        self._note(request, context)
        answer = UsageResponse(total=Amount(tokens=1500, calls=1, cost_pico_usd="12300000000"))
        answer.rows.add(key=["gpt"]).amount.CopyFrom(answer.total)
        return answer

    def Ledger(self, request, context):
        self._note(request, context)
        done = LedgerLine(call_id=f"{TASK}.implement-1-1-1", model="gpt", outcome=CALL_OUTCOME_OK, usage=USAGE)
        done.cost_pico_usd = "12300000000"
        lost = LedgerLine(call_id=f"{TASK}.implement-1-1-2", model="gpt", outcome=CALL_OUTCOME_LOST, up_to_tokens=9000)
        return LedgerResponse(lines=[done, lost])

    def Projects(self, request, context):
        self._note(request, context)
        return ProjectsResponse(projects=[Project(project="shop", repository="https://example.org/shop", tasks=3)])

    def List(self, request, context):
        self._note(request, context)
        return ListResponse(models=self.models)

    def Trip(self, request, context):
        self._note(request, context)
        return TripResponse(position=LogPosition(stream="EVENTS", sequence=70))

    def Recover(self, request, context):
        self._note(request, context)
        if request.model != "gpt":
            refuse(context, code_pb2.FAILED_PRECONDITION, f"no breaker of {request.model} is open")
        return RecoverResponse(position=LogPosition(stream="EVENTS", sequence=71))

    def Override(self, request, context):
        self._note(request, context)
        return OverrideResponse(position=LogPosition(stream="EVENTS", sequence=72))

    def Explain(self, request, context):
        self._note(request, context)
        return ExplainResponse(decisions=[one for one in decisions() if request.phase in (0, one.phase)])

    def GetPreferences(self, request, context):
        self._note(request, context)
        if request.project != "shop":
            refuse(context, code_pb2.NOT_FOUND, f"there is no project {request.project!r}")
        stands = PreferencesVersion(preferences=Preferences(mode=PREFERENCE_MODE_BALANCED))
        if self.versions:
            stands = self.versions[-1]
        return GetPreferencesResponse(
            version=stands.version, preferences=stands.preferences, history=reversed(self.versions)
        )

    def SavePreferences(self, request, context):
        self._note(request, context)
        if request.HasField("expected_version") and request.expected_version != len(self.versions):
            refuse(context, code_pb2.ABORTED, f"version {len(self.versions)} stands")
        saved = PreferencesVersion(version=len(self.versions) + 1, saved_by="ada", reason=request.reason)
        saved.preferences.CopyFrom(request.preferences)
        saved.saved_at.FromSeconds(START_S)
        self.versions.append(saved)
        return SavePreferencesResponse(version=saved.version, position=LogPosition(stream="EVENTS", sequence=80))

    def PreviewRouting(self, request, context):
        self._note(request, context)
        return self.previewed

    def GetBudget(self, request, context):
        self._note(request, context)
        return GetBudgetResponse(
            project=request.project,
            month=request.month or "2026-11",
            budgets=self.budgets,
            held_tasks=self.held_tasks,
        )

    def SetBudget(self, request, context):
        self._note(request, context)
        budget = Budget(model=request.model)
        for name in ("hard_pico_usd", "soft_pico_usd"):
            if request.HasField(name):
                setattr(budget, name, getattr(request, name))
        return SetBudgetResponse(budget=budget, position=LogPosition(stream="EVENTS", sequence=90))

    def Create(self, request, context):
        self._note(request, context)
        return CreateResponse(existed=request.project == "old")


def refuse(context, code: int, message: str, **fields: str) -> None:
    """Aborts as the factory does: a google.rpc.Status with the fields at fault."""
    status = status_pb2.Status(code=code, message=message)
    if fields:
        bad = error_details_pb2.BadRequest()
        for name, description in fields.items():
            bad.field_violations.add(field=name, description=description)
        packed = any_pb2.Any()
        packed.Pack(bad)
        status.details.append(packed)
    context.abort_with_status(rpc_status.to_status(status))


@pytest.fixture
def house() -> Iterator[House]:
    """A factory that listens on a free port."""
    served = House()
    server = grpc.server(ThreadPoolExecutor(max_workers=4))
    add_TaskServiceServicer_to_server(served, server)
    add_ReviewServiceServicer_to_server(served, server)
    add_AuditServiceServicer_to_server(served, server)
    add_ModelServiceServicer_to_server(served, server)
    add_ProjectServiceServicer_to_server(served, server)
    served.url = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield served
    server.stop(0).wait()


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which no factory has ever run."""
    for name in ("FACTORY_URL", "FACTORY_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FACTORY_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def told() -> list[WatchResponse]:
    """The events of one task's whole life."""
    return responses()
