"""The factory apart: every service a process of its own over one nats-server, each of which can be killed and started
again where it was.
"""

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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from embedded.credentials import AUTHORIZATION_FILE, TOKEN_FILE, TOKENS_FILE
from embedded.nats import binary, configuration
from factory_client import Factory
from policy.models import DEFAULT_MODELS
from stage import until

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
    command: tuple[str, ...]
    env: Mapping[str, str]
    directory: Path
    log: Path
    grpc: str
    http: str
    ready_path: str = "/ready"
    child: "subprocess.Popen[bytes]" = field(init=False)

    def start(self) -> None:
        """Starts it, for the first time or again: at the same addresses, in the same directory."""
        with self.log.open("ab") as out:
            self.child = subprocess.Popen(
                self.command, env=dict(self.env), stdout=out, stderr=out, cwd=self.directory, start_new_session=True
            )

    def kill(self) -> None:
        """kill -9 of the process alone: what it had started (a push, a sandbox) goes on without it, as it would."""
        self.child.kill()
        self.child.wait()

    def end(self) -> None:
        """Leaves nothing running."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()

    def answers(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{self.http}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""
        except OSError:
            return 0, ""

    def is_ready(self) -> bool:
        return self.child.poll() is None and self.answers(self.ready_path)[0] == 200

    def ready(self) -> bool:
        """As `is_ready`, but one that has ended will never be."""
        end = self.log.read_text(errors="replace")[-3000:] if self.child.poll() is not None else ""
        assert self.child.returncode is None, f"{self.name} ended with {self.child.returncode}: {end}"
        return self.is_ready()

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


class Broker(Process):
    """A nats-server that comes back at the same port, on the same store."""

    def __init__(self, store: Path, *, authorization: str = "", sync: str = "always") -> None:
        self.port, monitor = free_port(), free_port()
        self.config = store / "nats-server.conf"
        store.mkdir(parents=True, exist_ok=True)
        self.config.touch(mode=0o600)
        self.config.write_text(
            configuration(store, authorization=authorization, sync=sync)
            .replace("port: -1", f"port: {self.port}")
            .replace("127.0.0.1:-1", f"127.0.0.1:{monitor}")
        )
        command = (binary(), "-c", str(self.config))
        path = {"PATH": os.environ["PATH"]}
        log = store / "nats-server.log"
        super().__init__("nats-server", command, path, store, log, "", f"127.0.0.1:{monitor}", "/healthz")

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def monitor_url(self) -> str:
        return f"http://{self.http}"


@dataclass
class Apart:
    """Every service, apart, over one nats-server."""

    directory: Path
    nats: Broker
    settings: dict[str, str]
    processes: dict[str, Process]

    @property
    def credentials(self) -> Path:
        return self.directory / "credentials"

    def add(self, name: str, lane: str) -> None:
        own = environment(self.credentials, lane)
        grpc, http = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        own |= {"FACTORY_GRPC_LISTEN": grpc, "FACTORY_HTTP_LISTEN": http, "FACTORY_DATA": str(self.directory / name)}
        # A provider's key is seen by its executor alone.
        own |= {
            key: value for key, value in self.settings.items() if KEYS.get(key) in (None, own.get("EXECUTOR_MODEL"))
        }
        directory = self.directory / name
        directory.mkdir()
        command = (sys.executable, "-m", lane.partition("-")[0])
        self.processes[name] = Process(
            name, command, own, directory, self.directory / f"{name}.log", grpc=grpc, http=http
        )
        self.processes[name].start()

    def conductor(self) -> str:
        """The address of a conductor that runs."""
        running = (name for name in ("conductor", "conductor-2") if self.processes[name].child.poll() is None)
        return self.processes[next(running, "conductor")].grpc

    def factory(self) -> Factory:
        token = (self.credentials / TOKEN_FILE).read_text()
        return Factory(self.conductor, token, audit_url=self.processes["audit"].grpc)


@contextlib.contextmanager
def apart(directory: Path, simulator_url: str, **more: str) -> Iterator[Apart]:
    """nats-server with everybody's rights, the operator's one step, and then the services; `more` are settings."""
    credentials = directory / "credentials"
    run_factory({"PATH": os.environ["PATH"]}, "credentials", str(credentials))
    server = Broker(directory / "nats", authorization=(credentials / AUTHORIZATION_FILE).read_text())
    settings = {
        "FACTORY_NATS_URL": server.url,
        "FACTORY_ACK_WAIT_S": str(ACK_WAIT_S),
        "FACTORY_HEARTBEAT_S": "1",
        "FACTORY_ARTIFACTS": str(directory / "artifacts"),
        "FACTORY_ALLOWED_ROOTS": str(directory),
        "FACTORY_TOKENS_FILE": str(credentials / TOKENS_FILE),
        "FACTORY_MODELS": MODELS,
        "FACTORY_PRETEND_MODELS": MODELS,
        **dict.fromkeys(KEYS, "simulated"),
        **base_urls(simulator_url),
        **more,
    }
    made = Apart(directory, server, settings, {})
    server.start()
    try:
        until(server.ready, "nats-server to be ready")
        operator = environment(credentials, "operator")
        reached = {"FACTORY_NATS_URL": server.url, "FACTORY_NATS_MONITOR_URL": server.monitor_url}
        run_factory(operator | reached, "bootstrap", "--ack-wait-s", str(ACK_WAIT_S))
        for name, lane in [("conductor", "conductor"), ("conductor-2", "conductor"), ("audit", "audit")]:
            made.add(name, lane)
        for lane in LANES:
            made.add(lane, lane)
        for process in made.processes.values():
            until(process.ready, f"{process.name} to be ready")
        yield made
    finally:
        for process in (*made.processes.values(), server):
            process.end()


def base_urls(simulator_url: str) -> dict[str, str]:
    """The wire of `anthropic` has its version in the path, the others in the base URL."""
    return {
        f"FACTORY_{name.upper()}_BASE_URL": simulator_url if model.wire == "anthropic" else f"{simulator_url}/v1"
        for name, model in DEFAULT_MODELS.items()
    }


def environment(credentials: Path, user: str) -> dict[str, str]:
    lines = (credentials / f"{user}.env").read_text().splitlines()
    return {"PATH": os.environ["PATH"], **dict(line.split("=", 1) for line in lines)}


def run_factory(env: Mapping[str, str], *words: str) -> None:
    """The `factory` command, which is expected to succeed."""
    command = [sys.executable, "-m", "factory_client", *words]
    done = subprocess.run(command, env=dict(env), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
