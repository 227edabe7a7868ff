"""The demo's task through all services as separate processes, each with its own environment, user and password."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from audit.reconcile import Kind
from embedded.credentials import AUTHORIZATION_FILE, TOKEN_FILE, TOKENS_FILE
from embedded.nats import Nats, running
from factory.gate.v1 import GATE_VERDICT_PASS, GATE_VERDICT_UNKNOWN
from factory.task.v1 import TASK_STATE_AWAITING_REVIEW, TASK_STATE_COMPLETED
from factory_client import Factory
from policy.models import DEFAULT_MODELS
from stage import JWT, approve, compared, providers, pull_requests, reaches, sample_remote, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

MODELS = ",".join(DEFAULT_MODELS)
KEYS = {model.key_env: name for name, model in DEFAULT_MODELS.items()}
# The user of each process is the first word; there are two conductors.
LANES = ("classifier", "context", "quality_gate", "delivery", *(f"executor-{model}" for model in DEFAULT_MODELS))
STOP_TIMEOUT_S = 8.0
ACK_WAIT_S = 5


@dataclass
class Process:
    """One service as a process of its own; it has its environment and nothing else from us."""

    name: str
    child: subprocess.Popen[bytes]
    log: Path
    grpc: str
    http: str

    def answers(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{self.http}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""
        except OSError:
            return 0, ""

    def ready(self) -> bool:
        assert self.child.poll() is None, f"{self.name} ended with {self.child.returncode}: {self.log.read_text()}"
        return self.answers("/ready")[0] == 200

    def lines(self) -> list[dict[str, object]]:
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def stop(self) -> float:
        """Sends SIGTERM, and says how many seconds the process took over its end."""
        began = time.monotonic()
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            end = self.log.read_text(errors="replace")[-3000:]
            raise AssertionError(f"{self.name} did not stop within {STOP_TIMEOUT_S} s; its log ends: {end}") from None
        return time.monotonic() - began


@dataclass
class Apart:
    """Every service, apart, over one nats-server."""

    directory: Path
    nats: Nats
    settings: dict[str, str]
    processes: dict[str, Process]

    @property
    def credentials(self) -> Path:
        return self.directory / "credentials"

    def start(self, name: str, lane: str) -> Process:
        own = environment(self.credentials, lane)
        grpc, http = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        own |= {"FACTORY_GRPC_LISTEN": grpc, "FACTORY_HTTP_LISTEN": http, "FACTORY_DATA": str(self.directory / name)}
        # A provider's key is seen by its executor alone.
        own |= {
            key: value for key, value in self.settings.items() if KEYS.get(key) in (None, own.get("EXECUTOR_MODEL"))
        }
        (self.directory / name).mkdir()
        log = self.directory / f"{name}.log"
        command = [sys.executable, "-m", lane.partition("-")[0]]
        with log.open("wb") as out:
            child = subprocess.Popen(command, env=own, stdout=out, stderr=out, cwd=self.directory / name)
        self.processes[name] = Process(name, child, log, grpc, http)
        return self.processes[name]

    def factory(self) -> Factory:
        token = (self.credentials / TOKEN_FILE).read_text()
        return Factory(self.processes["conductor"].grpc, token, audit_url=self.processes["audit"].grpc)


@contextlib.contextmanager
def apart(directory: Path, simulator_url: str) -> Iterator[Apart]:
    """nats-server with everybody's rights, the operator's one step, and then the services."""
    credentials = directory / "credentials"
    path = {"PATH": os.environ["PATH"]}
    factory(path, "credentials", str(credentials))
    with running(directory / "nats", authorization=(credentials / AUTHORIZATION_FILE).read_text()) as server:
        reached = {"FACTORY_NATS_URL": server.url}
        operator = {**environment(credentials, "operator"), **reached, "FACTORY_NATS_MONITOR_URL": server.monitor_url}
        factory(operator, "bootstrap", "--ack-wait-s", str(ACK_WAIT_S))
        settings = reached | {
            "FACTORY_ACK_WAIT_S": str(ACK_WAIT_S),
            "FACTORY_HEARTBEAT_S": "1",
            "FACTORY_ARTIFACTS": str(directory / "artifacts"),
            "FACTORY_ALLOWED_ROOTS": str(directory),
            "FACTORY_TOKENS_FILE": str(credentials / TOKENS_FILE),
            "FACTORY_MODELS": MODELS,
            "FACTORY_PRETEND_MODELS": MODELS,
            **dict.fromkeys(KEYS, "simulated"),
            **base_urls(simulator_url),
        }
        made = Apart(directory, server, settings, {})
        try:
            for name, lane in [("conductor", "conductor"), ("conductor-2", "conductor"), ("audit", "audit")]:
                made.start(name, lane)
            for lane in LANES:
                made.start(lane, lane)
            for process in made.processes.values():
                until(process.ready, f"{process.name} to be ready")
            yield made
        finally:
            for process in made.processes.values():
                process.child.kill()
                process.child.wait()


def base_urls(simulator_url: str) -> dict[str, str]:
    """The wire of `anthropic` has its version in the path, the others in the base URL."""
    return {
        f"FACTORY_{name.upper()}_BASE_URL": simulator_url if model.wire == "anthropic" else f"{simulator_url}/v1"
        for name, model in DEFAULT_MODELS.items()
    }


def environment(credentials: Path, user: str) -> dict[str, str]:
    lines = (credentials / f"{user}.env").read_text().splitlines()
    return {"PATH": os.environ["PATH"], **dict(line.split("=", 1) for line in lines)}


def factory(env: dict[str, str], *words: str) -> None:
    command = [sys.executable, "-m", "factory_client", *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


async def test_the_demo_runs_through_services_that_share_nothing_but_the_log(tmp_path: Path):
    remote = sample_remote(tmp_path / "remotes")
    with providers(tmp_path / "providers") as made, apart(tmp_path, made.url) as house:
        async with house.factory() as factory:
            task_id = (await factory.submit(JWT, repository=str(remote))).task_id
            await reaches(factory, task_id, TASK_STATE_AWAITING_REVIEW)
            # A conductor may be taken away at any time: the other goes on.
            house.processes["conductor-2"].stop()
            shown = await factory.get_change(task_id)
            await approve(factory, task_id)
            task = await reaches(factory, task_id, TASK_STATE_COMPLETED)
            comparison = await compared(factory, task_id, made.bill)
            report = await factory.report(task_id)
        health = {path: house.processes["audit"].answers(path) for path in ("/live", "/ready", "/metrics", "/other")}
        took_s = {name: process.stop() for name, process in house.processes.items() if process.child.poll() is None}
        ends = {name: process.child.returncode for name, process in house.processes.items()}
        refused = [
            (name, line)
            for name, process in house.processes.items()
            for line in process.lines()
            if line.get("event") == "nats.error" and "violation" in str(line.get("error")).lower()
        ]

    assert pull_requests(remote) == [task.branch]
    assert shown.verdict in (GATE_VERDICT_PASS, GATE_VERDICT_UNKNOWN)
    assert comparison.wrong == []
    assert set(comparison.counts) == {Kind.EQUAL}
    assert report.total.tokens == comparison.billed_tokens > 0
    assert [health[path][0] for path in health] == [200, 200, 200, 404]
    assert "# HELP " in health["/metrics"][1]
    assert set(ends.values()) == {0}, ends
    assert len(took_s) == len(house.processes) - 1
    assert refused == [], "nobody asks for what it may not do"
