"""The demo's task through compose.yaml as it is: built, started, submitted to from outside, stopped, taken away."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from audit.reconcile import Kind
from factory.gate.v1 import GATE_VERDICT_PASS
from factory.task.v1 import TASK_STATE_AWAITING_REVIEW, TASK_STATE_COMPLETED
from factory_client import Factory
from stage import JWT, approve, compared, reaches

ROOT = Path(__file__).parents[2]
IMAGES = ("python:3.12-slim", "nats:2.12-alpine")
ONCE = {"credentials", "sample", "bootstrap"}
DOCKER_TIMEOUT_S = 10
BUILD_TIMEOUT_S = 600

pytestmark = [pytest.mark.slow, pytest.mark.docker, pytest.mark.timeout(900)]


def why_not() -> str:
    """Why containers are not tried here; empty where they are."""
    if os.environ.get("FACTORY_TEST_COMPOSE") != "1":
        return "minutes long: set FACTORY_TEST_COMPOSE=1"
    if not shutil.which("docker"):
        return "docker is not installed"
    try:
        asked = subprocess.run(
            ["docker", "image", "inspect", "--format", "{{.Id}}", *IMAGES],
            capture_output=True,
            text=True,
            timeout=DOCKER_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return f"docker did not answer within {DOCKER_TIMEOUT_S} s"
    return asked.stderr.strip() if asked.returncode else ""


@dataclass
class Composed:
    """A project of compose with a name and ports of its own."""

    env: dict[str, str]
    port: int
    audit_port: int

    def compose(self, *words: str, timeout_s: float = 120) -> str:
        done = subprocess.run(
            ["docker", "compose", *words],
            cwd=ROOT,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        assert done.returncode == 0, f"docker compose {' '.join(words)}: {done.stderr[-4000:]}"
        return done.stdout

    def factory(self) -> Factory:
        token = self.compose("exec", "-T", "conductor", "cat", "/credentials/token")
        return Factory(f"127.0.0.1:{self.port}", token, audit_url=f"127.0.0.1:{self.audit_port}")

    def containers(self) -> dict[str, dict[str, object]]:
        lines = self.compose("ps", "--all", "--format", "json").splitlines()
        return {found["Service"]: found for found in map(json.loads, lines)}


@pytest.fixture
def composed() -> Iterator[Composed]:
    if reason := why_not():
        pytest.skip(reason)
    port, audit_port = free_port(), free_port()
    own = {
        "COMPOSE_PROJECT_NAME": f"factory-test-{port}",
        "FACTORY_PORT": str(port),
        "FACTORY_AUDIT_PORT": str(audit_port),
    }
    made = Composed({**os.environ, **own}, port, audit_port)
    try:
        yield made
    finally:
        made.compose("down", "--volumes", "--timeout", "5")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


async def test_the_demo_runs_in_containers_and_the_gate_judges_in_its_sandbox(composed: Composed, tmp_path: Path):
    composed.compose("up", "--build", "--detach", "--wait", timeout_s=BUILD_TIMEOUT_S)
    async with composed.factory() as factory:
        task_id = (await factory.submit(JWT, repository="/repositories/sample.git")).task_id
        await reaches(factory, task_id, TASK_STATE_AWAITING_REVIEW)
        shown = await factory.get_change(task_id)
        await approve(factory, task_id)
        task = await reaches(factory, task_id, TASK_STATE_COMPLETED)
        bill = tmp_path / "bill.jsonl"
        bill.write_text(composed.compose("exec", "-T", "simulator", "cat", "/var/lib/factory/data/bill.jsonl"))
        comparison = await compared(factory, task_id, bill)
    git = ("git", "-C", "/repositories/sample.git", "branch", "--list", "factory/*", "--format=%(refname:short)")
    branches = composed.compose("exec", "-T", "--user", "factory", "delivery", *git).split()
    running = {name: found for name, found in composed.containers().items() if name not in ONCE}
    owners = {name: uid_of(composed, name) for name in running if name != "nats"}
    composed.compose("stop")
    ends = {name: found["ExitCode"] for name, found in composed.containers().items()}

    assert shown.verdict == GATE_VERDICT_PASS
    assert branches == [task.branch]
    assert comparison.wrong == []
    assert set(comparison.counts) == {Kind.EQUAL}
    assert {found["Health"] for found in running.values()} == {"healthy"}
    assert "0" not in owners.values(), "nobody runs as root"
    assert set(ends.values()) == {0}, ends


async def test_a_service_cannot_read_what_belongs_to_another(composed: Composed):
    composed.compose("up", "--build", "--detach", "--wait", "classifier", timeout_s=BUILD_TIMEOUT_S)
    look = 'for file in /credentials/*; do test -r "$file" && echo "$file"; done; true'
    readable = composed.compose("exec", "-T", "--user", "factory", "classifier", "sh", "-c", look).split()

    assert readable == ["/credentials/tokens.json"]


def uid_of(composed: Composed, service: str) -> str:
    """The user of a container's first process."""
    status = composed.compose("exec", "-T", service, "cat", "/proc/1/status")
    return next(line.split()[1] for line in status.splitlines() if line.startswith("Uid:"))
