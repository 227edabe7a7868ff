"""A task on its way: a real repository, a real log, and a pretend provider, with one executor to be asked."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from artifacts import DirectoryArtifacts
from embedded.nats import Nats
from eventlog import EventLog, Past, Recorded
from eventlog.work import Work, publish_work
from executor.app import service
from factory.artifact.v1 import Pack, PackFile
from factory.classification.v1 import TaskClassified
from factory.context.v1 import ContextGathered
from factory.event.v1 import AnyFact
from factory.phase.v1 import PhaseCompleted, PhaseFailed, PhaseRequested
from factory.task.v1 import PHASE_KIND_IMPLEMENT, SCOPE_FOCUSED, TASK_TYPE_API, TaskSubmitted
from nats.aio.client import Client
from runtime import House, serve
from simulator import Misbehaviour, Simulator
from simulator import serve as serve_simulator
from worktree import Snapshot, snapshot

TASK = "01jd0000000000000000000000"
ENDS_WITHIN_S = 20
FILES = {"app.py": "import os\n\n\ndef run():\n    return os.name\n", "README.md": "# Shop\n"}


@dataclass
class Desk:
    """Plays the conductor and the services before the executor, and looks at what comes of it."""

    nc: Client
    store: DirectoryArtifacts
    conductor: EventLog
    env: Mapping[str, str]
    snapped: Snapshot
    provider: Simulator
    requests: dict[str, Recorded] = field(default_factory=dict)

    async def prepare(self, *, title: str = "Add a health endpoint") -> None:
        """A task that is classified and has its context."""
        self.bundle = await self.store.put(self.snapped.bundle)
        files = [
            PackFile(path=path, text=text, first_line=1, rank=n) for n, (path, text) in enumerate(FILES.items(), 1)
        ]
        self.pack = await self.store.put(Pack(files=files).SerializeToString(deterministic=True))
        body = await self.store.put(b"It answers 200.")
        await self.conductor.report(TASK, [TaskSubmitted(title=title, body=body)])
        gathered = ContextGathered(request_id="context-1-1", base_commit=self.snapped.base_commit)
        for lane, fact in (
            ("classifier", TaskClassified(type=TASK_TYPE_API, scope=SCOPE_FOCUSED)),
            ("context", gathered),
        ):
            await EventLog(self.nc, org="main", service=lane).report(TASK, [fact])

    async def request(self, model: str = "gpt", *, offered: bool = True, **fields) -> Work:
        """Asks for a phase."""
        known = {
            "request_id": "implement-1-1",
            "phase": PHASE_KIND_IMPLEMENT,
            "round": 1,
            "attempt": 1,
            "model": model,
            "snapshot": self.bundle,
            "pack": self.pack,
            "max_output_tokens": 8000,
        }
        request = PhaseRequested(**(known | fields))
        recorded = await self.conductor.report(TASK, [request])
        if offered:
            await publish_work(self.nc, recorded, request)
        return Work(recorded.event, recorded.sequence, request)

    def lane(self, model: str = "gpt") -> EventLog:
        return EventLog(self.nc, org="main", service=f"executor-{model}")

    async def past(self) -> Past:
        return await self.conductor.read(TASK)

    async def said(self, model: str = "gpt") -> list[list[AnyFact | None]]:
        """What the executor has said so far, event by event."""
        return [recorded.facts for recorded in (await self.past()).lane(f"executor-{model}")]

    async def result(self, model: str = "gpt", request_id: str = "implement-1-1") -> PhaseCompleted | PhaseFailed:
        """Waits for the result of a request."""
        async with asyncio.timeout(ENDS_WITHIN_S):
            while True:
                for facts in await self.said(model):
                    for fact in facts:
                        if isinstance(fact, PhaseCompleted | PhaseFailed) and fact.request_id == request_id:
                            return fact
                await asyncio.sleep(0.02)

    async def misbehave(self, **wish) -> None:
        body = Misbehaviour(**wish).model_dump_json().encode()
        reader, writer = await asyncio.open_connection(*self.provider.url.removeprefix("http://").split(":"))
        head = f"POST /_simulator/misbehave HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}"
        writer.write(head.encode() + b"\r\n\r\n" + body)
        assert b" 200 " in (await reader.read()).split(b"\r\n")[0]
        writer.close()

    def executor(self, model: str = "gpt", **env: str) -> AbstractAsyncContextManager[House]:
        """Runs the executor of one model."""
        environment = {**self.env, "EXECUTOR_MODEL": model, **env}
        return serve([(service(environment), environment)])


@pytest.fixture
def snapped(tmp_path: Path) -> Snapshot:
    repository = tmp_path / "repository"
    repository.mkdir()
    for path, text in FILES.items():
        (repository / path).write_text(text)
    git = ["git", "-C", str(repository), "-c", "user.name=A", "-c", "user.email=a@b.invalid"]
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    return snapshot(str(repository), "main", allowed_roots=(tmp_path,), mirror=tmp_path / "mirror")


@pytest.fixture
async def desk(nats_server: Nats, nc: Client, snapped: Snapshot, tmp_path: Path) -> AsyncIterator[Desk]:
    async with serve_simulator(tmp_path / "bill.jsonl") as provider:
        env = {
            "FACTORY_NATS_URL": nats_server.url,
            "FACTORY_ARTIFACTS": str(tmp_path / "artifacts"),
            "FACTORY_ACK_WAIT_S": "5",
            "FACTORY_HEARTBEAT_S": "1",
            "FACTORY_PRETEND_MODELS": "claude,gpt,gemini,deepseek",
            "FACTORY_CLAUDE_BASE_URL": provider.url,
            "FACTORY_GPT_BASE_URL": f"{provider.url}/v1",
            "FACTORY_GEMINI_BASE_URL": f"{provider.url}/v1beta/openai",
            "FACTORY_DEEPSEEK_BASE_URL": provider.url,
            "OPENAI_API_KEY": "sk-real-and-not-to-be-sent",
        }
        conductor = EventLog(nc, org="main", service="conductor")
        desk = Desk(nc, DirectoryArtifacts(tmp_path / "artifacts"), conductor, env, snapped, provider)
        await desk.prepare()
        yield desk
