"""Delivery as a service: a real nats-server, real git, a real HTTP server."""

import asyncio
import json
import subprocess
from pathlib import Path

import pytest
from artifacts import DirectoryArtifacts
from delivery.app import service
from eventlog import EventLog, Tip
from eventlog.work import publish_work, requests_in
from factory.call.v1 import CallOutcome, ModelCalled, ModelCallStarted, Usage
from factory.delivery.v1 import DeliveryFailed, DeliveryFailure, DeliveryRequested, PullRequestOpened
from factory.review.v1 import TaskApproved
from factory.task.v1 import PhaseKind, TaskSubmitted
from runtime import serve

pytestmark = pytest.mark.slow  # real servers: left to `just test`

TASK = "01jdeliverytask00000000000"
TITLE = "Add two @everyone"
BRANCH = f"factory/{TASK}-add-two-everyone"
DELIVERED_S = 20.0


@pytest.fixture
async def factory(nc, nats_server, tmp_path: Path, remote):
    """A task that was approved, and a way to have it delivered, as often as one likes."""
    store = DirectoryArtifacts(tmp_path / "artifacts")
    conductor = EventLog(nc, org="main", service="conductor")
    executor = EventLog(nc, org="main", service="executor-claude")
    change = remote.change.SerializeToString(deterministic=True)
    digest, snapshot = (await store.put(change)).digest, await store.put(remote.bundle)
    started = ModelCallStarted(
        call_id=f"{TASK}.implement-1-1-1",
        request_id="implement-1-1",
        model="claude",
        phase=PhaseKind.PHASE_KIND_IMPLEMENT,
    )
    ended = ModelCalled(
        call_id=started.call_id,
        request_id=started.request_id,
        model="claude",
        phase=PhaseKind.PHASE_KIND_IMPLEMENT,
        outcome=CallOutcome.CALL_OUTCOME_OK,
        usage=Usage(input_tokens=1000, output_tokens=234),
    )
    submitted = TaskSubmitted(title=TITLE, repository=str(remote.path))
    tip = (await conductor.append(TASK, [submitted], after=Tip())).tip
    await executor.append(TASK, [started, ended], after=Tip())
    tip = (await conductor.append(TASK, [TaskApproved(approved_by="alice", change_digest=digest)], after=tip)).tip
    env = {
        "FACTORY_NATS_URL": nats_server.url,
        "FACTORY_ARTIFACTS": str(tmp_path / "artifacts"),
        "FACTORY_DATA": str(tmp_path / "data"),
        "FACTORY_ALLOWED_ROOTS": str(tmp_path),
        "FACTORY_PRETEND_MODELS": "claude",
        "FACTORY_HEARTBEAT_S": "1",
    }

    async def deliver(number: int = 1, /, *, environment: dict[str, str] | None = None, **fields):
        nonlocal tip
        request = DeliveryRequested(
            request_id=f"delivery-1-{number}",
            repository=str(remote.path),
            base_branch="main",
            base_commit=remote.base_commit,
            change_digest=digest,
            snapshot=snapshot,
            approved_by="alice",
            notes=["no model review: one family is configured"],
        )
        for name, value in fields.items():
            setattr(request, name, value)
        recorded = await conductor.append(TASK, [request], after=tip)
        tip = recorded.tip
        for wanted in requests_in(recorded.event):
            await publish_work(nc, recorded, wanted)
        environment = env | (environment or {})
        async with serve([(service(environment), environment)]), asyncio.timeout(DELIVERED_S):
            while True:
                for fact in (await conductor.read(TASK, at_least=recorded.sequence)).facts():
                    if isinstance(fact, PullRequestOpened | DeliveryFailed) and fact.request_id == request.request_id:
                        return fact
                await asyncio.sleep(0.05)

    return deliver


def git(path: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=path, check=True, capture_output=True, text=True).stdout.strip()


async def test_an_approved_change_becomes_a_pull_request_with_its_report(factory, remote):
    opened = await factory()

    assert isinstance(opened, PullRequestOpened), opened
    assert (opened.branch, opened.base_moved) == (BRANCH, False)
    assert git(remote.path, "rev-parse", BRANCH) == opened.commit
    assert git(remote.path, "rev-parse", f"{BRANCH}^{{tree}}") == remote.change.tree
    assert git(remote.path, "log", "-1", "--format=%an|%B", BRANCH) == (
        f"AI Factory|Add two @\u200beveryone\n\nTask: {TASK}\nApproved-by: alice"
    )
    record = json.loads(next((remote.path / "factory/pull-requests").glob("*.json")).read_text())
    assert record["url"] == opened.url
    assert "Claude 4.5: 1,234 tokens (Code implementation)" in record["body"]
    assert "no model review: one family is configured" in record["body"]
    assert "Claude 4.5 is pretend" in record["body"]


async def test_delivered_again_it_is_the_same_commit_and_the_same_pull_request(factory, remote):
    first = await factory()
    await asyncio.sleep(1.1)
    second = await factory(2)

    assert (first.url, first.commit) == (second.url, second.commit)
    assert len(list((remote.path / "factory/pull-requests").glob("*.json"))) == 1


async def test_dying_between_push_and_pull_request_leaves_one_of_each(factory, remote):
    first = await factory()
    for record in (remote.path / "factory/pull-requests").iterdir():
        record.unlink()

    second = await factory(2)

    assert (first.url, first.commit) == (second.url, second.commit)


async def test_a_base_branch_that_moved_on_is_said(factory, remote):
    tree = git(remote.path, "rev-parse", "main^{tree}")
    identity = ("-c", "user.name=B", "-c", "user.email=b@b.invalid")
    newer = git(remote.path, *identity, "commit-tree", tree, "-p", "main", "-m", "newer")
    git(remote.path, "update-ref", "refs/heads/main", newer)

    opened = await factory()

    assert opened.base_moved
    record = json.loads(next((remote.path / "factory/pull-requests").glob("*.json")).read_text())
    assert "main has moved on since this work began" in record["body"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"repository": "ext::sh -c touch% /tmp/x"}, "REFUSED_URL"),
        ({"repository": "/etc"}, "REFUSED_URL"),
        ({"change_digest": "0" * 64}, "ARTIFACT_MISSING"),
        ({"base_commit": "0" * 40}, "TREE_DIFFERS"),
        ({"repository": "https://github.com/acme/shop"}, "NEEDS_CREDENTIALS"),
    ],
)
async def test_what_cannot_be_delivered_has_a_name(factory, fields, reason):
    said = await factory(**fields)

    assert isinstance(said, DeliveryFailed)
    assert said.reason == DeliveryFailure.Value(f"DELIVERY_FAILURE_{reason}")
    assert said.detail


async def test_a_repository_that_is_gone_is_said(factory, tmp_path):
    said = await factory(repository=str(tmp_path / "gone.git"))

    assert said.reason == DeliveryFailure.DELIVERY_FAILURE_REPOSITORY_NOT_FOUND


async def test_a_branch_with_other_content_is_not_touched(factory, remote):
    git(remote.path, "branch", BRANCH, "main")

    said = await factory()

    assert said.reason == DeliveryFailure.DELIVERY_FAILURE_BRANCH_TAKEN
    assert git(remote.path, "rev-parse", BRANCH) == remote.base_commit


async def test_on_github_the_branch_is_pushed_by_token_and_the_pull_request_opened_once(factory, github, remote):
    host = github.url.removeprefix("http://")
    environment = {
        "FACTORY_GITHUB_HOST": host,
        "FACTORY_GITHUB_API": f"{github.url}/api/v3",
        "FACTORY_GITHUB_TOKEN": "ghp-of-the-test",
    }
    repository = f"{github.url}/acme/shop.git"

    first = await factory(1, environment=environment, repository=repository)
    second = await factory(2, environment=environment, repository=repository)

    assert isinstance(first, PullRequestOpened), first
    assert first.url == second.url == f"{github.url}/acme/shop/pull/1"
    assert git(remote.path, "rev-parse", BRANCH) == first.commit
    assert len(github.pulls) == 1
    assert "Claude 4.5: 1,234 tokens" in github.pulls[0]["body"]


async def test_a_token_that_github_refuses_is_said_and_not_shown(factory, github):
    environment = {
        "FACTORY_GITHUB_HOST": github.url.removeprefix("http://"),
        "FACTORY_GITHUB_API": f"{github.url}/api/v3",
        "FACTORY_GITHUB_TOKEN": "wrong-token",
    }

    said = await factory(environment=environment, repository=f"{github.url}/acme/shop.git")

    assert said.reason == DeliveryFailure.DELIVERY_FAILURE_NEEDS_CREDENTIALS
    assert "wrong-token" not in said.detail
