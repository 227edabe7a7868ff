"""What a journey plays on: a factory that can be killed, providers that survive it, and a repository of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from audit.reconcile import Comparison, bill_from, compare
from embedded.demo_repository import git, prepare_remote
from factory.task.v1 import TASK_STATE_AWAITING_REVIEW, Task, TaskState
from factory_client import Factory

READY_TIMEOUT_S = 60
STEP_TIMEOUT_S = 120
PAUSE_S = 0.05
JWT = "Create user authentication with JWT tokens"


@dataclass
class Providers:
    """Simulated providers in a process of their own, with their bill."""

    url: str
    bill: Path

    def misbehave(self, **wish: object) -> None:
        request = urllib.request.Request(
            f"{self.url}/_simulator/misbehave", json.dumps(wish).encode(), {"content-type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=5).close()


@contextlib.contextmanager
def providers(directory: Path, *options: str) -> Iterator[Providers]:
    directory.mkdir(parents=True, exist_ok=True)
    ready, bill = directory / "ready.json", directory / "bill.jsonl"
    command = [
        sys.executable,
        "-m",
        "simulator",
        "--bill",
        str(bill),
        "--ready-file",
        str(ready),
        *(options or ["--instant"]),
    ]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        until(ready.exists, "the simulator to be ready")
        yield Providers(json.loads(ready.read_text())["url"], bill)
    finally:
        child.kill()
        child.wait()


class Up:
    """`factory up` as a child process, in a process group of its own."""

    def __init__(self, data: Path, simulator_url: str, **env: str) -> None:
        data.mkdir(parents=True, exist_ok=True)
        self.data = data
        self._env = {**os.environ, "FACTORY_SIMULATOR_URL": simulator_url, "FACTORY_MODELS": "", **env}
        self._env.pop("FACTORY_MODELS")
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> "Up":
        log = (self.data / "up.log").open("ab")
        command = [
            sys.executable,
            "-m",
            "factory_client",
            "up",
            "--data",
            str(self.data),
            "--models",
            "simulated",
            "--allow-root",
            str(self.data.parent),
        ]
        self.child = subprocess.Popen(command, stdout=log, stderr=log, env=self._env, start_new_session=True)
        until(self._ready, f"the factory to be ready; {self.data}/up.log ends: {self.log_end()}")
        return self

    def _ready(self) -> bool:
        assert self.child is not None
        if self.child.poll() is not None:
            raise AssertionError(f"the factory ended with {self.child.returncode}: {self.log_end()}")
        path = self.data / "factory.json"
        with contextlib.suppress(OSError, ValueError):
            return json.loads(path.read_text())["pid"] == self.child.pid
        return False

    def kill(self, *, with_nats: bool = False) -> None:
        """kill -9; its nats-server is orphaned, or killed with it."""
        assert self.child is not None
        if with_nats:
            os.killpg(self.child.pid, signal.SIGKILL)
        else:
            self.child.kill()
        self.child.wait()

    def stop(self) -> None:
        if self.child is not None and self.child.poll() is None:
            self.child.terminate()
            self.child.wait(30)

    def end(self) -> None:
        """Leaves nothing running, whatever state the test has left."""
        if self.child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()

    def factory(self) -> Factory:
        known = json.loads((self.data / "factory.json").read_text())
        return Factory(known["url"], known["token"])

    def address(self) -> dict[str, str]:
        return json.loads((self.data / "factory.json").read_text())

    def log_end(self) -> str:
        with contextlib.suppress(OSError):
            return (self.data / "up.log").read_text(errors="replace")[-2000:]
        return ""


def until(condition, what: str, timeout_s: float = READY_TIMEOUT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s} s for {what}")
        time.sleep(PAUSE_S)


def sample_remote(directory: Path) -> Path:
    """The sample repository as a bare remote of its own."""
    directory.mkdir(parents=True, exist_ok=True)
    return prepare_remote(directory)


async def reaches(factory: Factory, task_id: str, state: TaskState, timeout_s: float = STEP_TIMEOUT_S) -> Task:
    """The task, once it is in a state; an AssertionError says where it stands instead."""
    import asyncio

    deadline = time.monotonic() + timeout_s
    while True:
        task = await factory.get(task_id)
        if task.state == state:
            return task
        if time.monotonic() > deadline:
            raise AssertionError(f"{task.title!r} is {TaskState.Name(task.state)}: {task.doing} ({task.reason})")
        await asyncio.sleep(PAUSE_S)


async def approve(factory: Factory, task_id: str) -> None:
    await reaches(factory, task_id, TASK_STATE_AWAITING_REVIEW)
    shown = await factory.get_change(task_id)
    await factory.approve(task_id, shown.change_digest, shown.evidence_digest)


async def compared(factory: Factory, task_id: str, bill: Path) -> Comparison:
    """The task's ledger lines beside the providers' bill."""
    lines = [line async for line in factory.ledger(task_id)]
    return compare(lines, bill_from(bill.read_text(), task_id))


def pull_requests(remote: Path) -> list[str]:
    """The branches that the factory has pushed."""
    return git("-C", str(remote), "branch", "--list", "factory/*", "--format=%(refname:short)").split()
