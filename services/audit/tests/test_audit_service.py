"""The audit as it runs: a real nats-server, a real database, real gRPC with tokens."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from audit.adapters.store import Store, connect
from audit.app import database, rebuild, remade, service
from embedded.nats import Nats
from eventlog import EventLog, Recorded
from factory.audit.v1 import (
    USAGE_DIMENSION_DAY,
    USAGE_DIMENSION_MODEL,
    USAGE_DIMENSION_PHASE,
    USAGE_DIMENSION_TASK_TYPE,
    AuditServiceStub,
    LedgerRequest,
    PendingReviewsRequest,
    PreviewRoutingRequest,
    ProjectsRequest,
    TaskReportRequest,
    TasksRequest,
    UsageRequest,
)
from factory.call.v1 import CALL_OUTCOME_OK, ModelCalled, ModelCallStarted, Usage
from factory.classification.v1 import TaskClassified
from factory.event.v1 import Event
from factory.log.v1 import LogPosition
from factory.model.v1 import ConfiguredModel, ModelsConfigured
from factory.price.v1 import PricePublished, PriceTier
from factory.project.v1 import PREFERENCE_MODE_QUALITY, Preferences, ProjectCreated
from factory.review.v1 import HumanReviewRequested
from factory.task.v1 import (
    PHASE_KIND_DESIGN,
    PHASE_KIND_REVIEW,
    SCOPE_FOCUSED,
    TASK_STATE_AWAITING_REVIEW,
    TASK_TYPE_ARCHITECTURE,
    TaskPlanned,
    TaskSubmitted,
)
from google.rpc import error_details_pb2, status_pb2
from nats.aio.client import Client
from policy.report import render_tree
from runtime import House, serve
from runtime.rpc import ROLES, token_entry

pytestmark = pytest.mark.slow  # real servers: left to `just test`

TASK = "01k9vh2b7c4m8q6x5z3w0t1r2s"


@dataclass
class Desk:
    """A running audit, and somebody who asks it."""

    house: House
    audit: Any
    events: "Lanes"


class Lanes:
    """The log, written by each service on its own lane."""

    def __init__(self, nc: Client) -> None:
        self._nc = nc

    def of(self, lane: str) -> EventLog:
        return EventLog(self._nc, org="main", service=lane)

    async def one_task(self, task: str = TASK) -> int:
        """A task that waits for review, after one design of 2,400 tokens. Answers the last sequence."""
        conductor, claude = self.of("conductor"), self.of("executor-claude")
        same = {"call_id": f"{task}.design-1-1-1", "request_id": "design-1-1", "phase": PHASE_KIND_DESIGN}
        same |= {"model": "claude", "provider": "anthropic", "provider_model": "claude-sonnet-4-5"}
        await conductor.report(task, [TaskSubmitted(title="Create user authentication endpoint", project="shop")])
        await self.of("classifier").report(task, [TaskClassified(type=TASK_TYPE_ARCHITECTURE, scope=SCOPE_FOCUSED)])
        await conductor.report(task, [TaskPlanned()])
        await claude.report(task, [ModelCallStarted(**same, max_output_tokens=1_000, input_tokens_estimate=3_000)])
        usage = Usage(input_tokens=2_000, output_tokens=400)
        await claude.report(task, [ModelCalled(**same, outcome=CALL_OUTCOME_OK, usage=usage)])
        last = await conductor.report(task, [HumanReviewRequested(change_digest="c1", notes=["gate: unknown"])])
        return last.sequence

    async def prices_and_project(self) -> int:
        tier = PriceTier(input_pico_usd=3_000_000, output_pico_usd=15_000_000)
        price = PricePublished(version="list 1", provider="anthropic", provider_model="claude-sonnet-4-5", tiers=[tier])
        await self.of("conductor").report("prices", [price])
        names = {"family": "anthropic", "provider": "anthropic", "provider_model": "claude-sonnet-4-5"}
        limits: dict[str, Any] = {"context_window_tokens": 200_000, "max_output_tokens": 64_000}
        models = ModelsConfigured(digest="d", models=[ConfiguredModel(model="claude", **names, **limits)])
        await self.of("conductor").report("models", [models])
        project = ProjectCreated(project="shop", repository="https://example.org/shop.git")
        return (await self.of("conductor").report("project-shop", [project])).sequence


def settings(nats_server: Nats, tmp_path: Path) -> dict[str, str]:
    tokens = tmp_path / "tokens.json"
    entries = [token_entry("all", "ann", ROLES), token_entry("few", "sam", ["submitter"])]
    tokens.write_text(json.dumps(entries))
    return {
        "FACTORY_NATS_URL": nats_server.url,
        "FACTORY_DATA": str(tmp_path / "data"),
        "FACTORY_ARTIFACTS": str(tmp_path / "artifacts"),
        "FACTORY_TOKENS_FILE": str(tokens),
    }


@asynccontextmanager
async def running_audit(nats_server: Nats, tmp_path: Path, nc: Client) -> AsyncIterator[Desk]:
    env = settings(nats_server, tmp_path)
    async with serve([(service(env), env)]) as house, grpc.aio.insecure_channel(house.grpc_address) as channel:
        yield Desk(house, AuditServiceStub(channel), Lanes(nc))


@pytest.fixture
async def desk(nats_server: Nats, tmp_path: Path, nc: Client) -> AsyncIterator[Desk]:
    async with running_audit(nats_server, tmp_path, nc) as running:
        yield running


def at_least(sequence: int) -> LogPosition:
    return LogPosition(stream="EVENTS", sequence=sequence)


async def ask(rpc: Any, request: Any, token: str = "all", timeout_s: float = 10) -> Any:
    return await rpc(request, metadata=(("authorization", f"Bearer {token}"),), timeout=timeout_s)


async def test_what_was_appended_can_be_asked_for_at_once_by_its_position(desk: Desk):
    await desk.events.prices_and_project()
    last = at_least(await desk.events.one_task())
    audit = desk.audit
    report = await ask(audit.TaskReport, TaskReportRequest(task_id=TASK, min_position=last))
    ledger = await ask(audit.Ledger, LedgerRequest(task_id=TASK, min_position=last))
    tasks = await ask(audit.Tasks, TasksRequest(state=TASK_STATE_AWAITING_REVIEW, min_position=last))
    pending = await ask(audit.PendingReviews, PendingReviewsRequest(min_position=last))
    projects = await ask(audit.Projects, ProjectsRequest(min_position=last))
    dimensions = [USAGE_DIMENSION_MODEL, USAGE_DIMENSION_TASK_TYPE, USAGE_DIMENSION_PHASE]
    usage = await ask(audit.Usage, UsageRequest(group_by=dimensions, min_position=last))

    assert render_tree(report) == (
        'Task: "Create user authentication endpoint"\n'
        "├── Claude 4.5: 2,400 tokens (Architecture design)\n"
        "└── Total: 2,400 tokens"
    )
    assert [(line.call_id, line.cost_pico_usd, line.price_version) for line in ledger.lines] == [
        (f"{TASK}.design-1-1-1", "12000000000", "list 1")
    ]
    assert [(row.task_id, row.amount.tokens) for row in tasks.tasks] == [(TASK, 2_400)]
    assert [(row.change_digest, list(row.notes)) for row in pending.reviews] == [("c1", ["gate: unknown"])]
    assert [(row.project, row.tasks) for row in projects.projects] == [("shop", 1)]
    assert [(list(row.key), row.amount.tokens) for row in usage.rows] == [(["claude", "architecture", "design"], 2_400)]
    assert usage.total == report.total == tasks.tasks[0].amount
    for answer in (report, ledger, tasks, pending, projects, usage):
        assert answer.position == last


async def test_other_preferences_can_be_tried_on_what_was_done(desk: Desk):
    await desk.events.prices_and_project()
    last = at_least(await desk.events.one_task())
    quality = Preferences(mode=PREFERENCE_MODE_QUALITY)
    request = PreviewRoutingRequest(project="shop", preferences=quality, min_position=last)
    answer = await ask(desk.audit.PreviewRouting, request)

    ((design, review),) = [task.phases for task in answer.tasks]
    assert (design.phase, design.preview_model, design.preview_cost_pico_usd) == (
        PHASE_KIND_DESIGN,
        "claude",
        "12000000000",
    )
    assert (review.phase, review.preview_model, review.unknown_because) == (
        PHASE_KIND_REVIEW,
        "",
        "no model could do it",
    )
    assert (answer.preview_cost_pico_usd, answer.unknown_phases, answer.position) == ("12000000000", 1, last)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await ask(desk.audit.PreviewRouting, request, token="few")
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


async def test_pages_follow_each_other_without_a_gap(desk: Desk):
    for task in ("a", "b", "c"):
        last = await desk.events.one_task(task)
    seen, token = [], ""
    for _ in range(3):
        request = TasksRequest(page_size=1, page_token=token, min_position=at_least(last))
        answer = await ask(desk.audit.Tasks, request)
        seen += [row.task_id for row in answer.tasks]
        token = answer.next_page_token

    assert (seen, token) == (["c", "b", "a"], "")
    first = await ask(desk.audit.Ledger, LedgerRequest(page_size=2))
    rest = await ask(desk.audit.Ledger, LedgerRequest(page_size=2, page_token=first.next_page_token))
    assert [line.task_id for line in [*first.lines, *rest.lines]] == ["a", "b", "c"]


async def test_a_position_that_is_not_reached_in_time_is_named_with_the_one_that_is(desk: Desk):
    last = await desk.events.one_task()
    await ask(desk.audit.Tasks, TasksRequest(min_position=at_least(last)))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await ask(desk.audit.Tasks, TasksRequest(min_position=at_least(last + 5)), timeout_s=1)

    assert refused.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert f"asked for EVENTS {last + 5}, the ledger stands at EVENTS {last}" in (refused.value.details() or "")


async def test_an_answer_waits_for_what_is_still_to_come(desk: Desk):
    waiting = asyncio.create_task(ask(desk.audit.Tasks, TasksRequest(min_position=at_least(6))))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    await desk.events.one_task()

    assert [row.task_id for row in (await waiting).tasks] == [TASK]


@pytest.mark.parametrize(
    ("rpc", "request_", "field"),
    [
        ("Tasks", TasksRequest(page_size=501), "page_size"),
        ("Tasks", TasksRequest(page_token="?"), "page_token"),
        ("Ledger", LedgerRequest(page_token="WzEsMl0="), "page_token"),
        ("Tasks", TasksRequest(search="x" * 201), "search"),
        ("Tasks", TasksRequest(state=99), "state"),  # type: ignore[arg-type]
        ("TaskReport", TaskReportRequest(), "task_id"),
        ("Usage", UsageRequest(group_by=[0, USAGE_DIMENSION_DAY]), "group_by"),  # type: ignore[list-item]
        ("Usage", UsageRequest(until={"seconds": 5}), "until"),
        ("PreviewRouting", PreviewRoutingRequest(project="shop", tasks=201), "tasks"),
        ("Projects", ProjectsRequest(min_position=LogPosition(stream="WORK", sequence=1)), "min_position.stream"),
    ],
)
async def test_a_request_that_cannot_be_answered_names_the_field(desk: Desk, rpc: str, request_: Any, field: str):
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await ask(getattr(desk.audit, rpc), request_)

    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    metadata = dict(refused.value.trailing_metadata() or ())
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])  # type: ignore[arg-type]
    bad = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(bad)
    assert [violation.field for violation in bad.field_violations] == [field]


async def test_a_task_that_nobody_submitted_is_not_found(desk: Desk):
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await ask(desk.audit.TaskReport, TaskReportRequest(task_id="nobody"))

    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


async def test_who_submits_sees_tasks_and_not_the_ledger(desk: Desk):
    await ask(desk.audit.Tasks, TasksRequest(), token="few")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await ask(desk.audit.Ledger, LedgerRequest(), token="few")

    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


async def test_a_restart_goes_on_from_the_checkpoint_and_a_rebuild_gives_the_same(
    nats_server: Nats, tmp_path: Path, nc: Client
):
    async with running_audit(nats_server, tmp_path, nc) as first:
        await first.events.prices_and_project()
        last = await first.events.one_task("a")
        await ask(first.audit.Tasks, TasksRequest(min_position=at_least(last)))
    last = await Lanes(nc).one_task("b")
    async with running_audit(nats_server, tmp_path, nc) as second:
        await ask(second.audit.Tasks, TasksRequest(min_position=at_least(last)))
    env = settings(nats_server, tmp_path)

    assert await remade(env)
    store = Store(database(tmp_path / "data"))
    assert store.position == last
    before = store.digest()
    assert await rebuild(Lanes(nc).of("audit"), store) == before
    store.close()


async def test_a_ledger_that_was_tampered_with_is_found_out_and_made_anew(
    nats_server: Nats, tmp_path: Path, nc: Client
):
    env = settings(nats_server, tmp_path)
    async with running_audit(nats_server, tmp_path, nc) as running:
        last = await running.events.one_task()
        await ask(running.audit.Tasks, TasksRequest(min_position=at_least(last)))
        assert await remade(env)
    with connect(database(tmp_path / "data")) as db:
        db.execute("update call set tokens = '1'")

    assert not await remade(env)
    assert not await remade(env, repair=True)
    assert await remade(env)


async def test_another_log_under_the_same_ledger_is_noticed_and_read_from_its_beginning(
    nats_server: Nats, tmp_path: Path, nc: Client
):
    data = tmp_path / "data"
    store = Store(database(data))
    foreign = [Event(event_id=f"other-{n}", id="old", producer="conductor", version=n) for n in (1, 2, 3)]
    store.apply([Recorded(event, event.version, b"") for event in foreign])
    store.close()
    last = await Lanes(nc).one_task()
    async with running_audit(nats_server, tmp_path, nc) as running:
        answer = await ask(running.audit.Tasks, TasksRequest(min_position=at_least(last)))

        assert [row.task_id for row in answer.tasks] == [TASK]
        assert answer.position.sequence == last


async def test_the_command_compares_the_running_ledger_with_a_bill(desk: Desk, tmp_path: Path):
    last = await desk.events.one_task()
    await ask(desk.audit.Tasks, TasksRequest(min_position=at_least(last)))
    bill, call = tmp_path / "bill.jsonl", f"{TASK}.design-1-1-1"
    (tmp_path / "factory.json").write_text(json.dumps({"url": desk.house.grpc_address, "token": "all"}))

    def reconcile(*lines: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        bill.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        command = [sys.executable, "-m", "factory_client", "reconcile", str(bill), "--json", "--data", str(tmp_path)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return ended.returncode, json.loads(ended.stdout)

    billed = {"client_request_id": call, "input": 2_000, "output": 400}
    code, equal = await asyncio.to_thread(reconcile, billed)
    assert (code, equal["agrees"], equal["billed_tokens"], equal["not_equal"]) == (0, True, 2_400, [])
    code, twice = await asyncio.to_thread(reconcile, billed, billed)
    assert (code, [call["class"] for call in twice["not_equal"]]) == (1, ["repeated"])
