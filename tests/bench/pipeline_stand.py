"""Where the pipelines run: nats-servers as children, one or three, and the processes that work on them."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from embedded.nats import binary, running

READY_TIMEOUT_S = 30
PAUSE_S = 0.05
MODELS = ("claude", "gpt", "gemini", "deepseek")
PLAYED = ("classifier", "context", "quality_gate", "delivery")
"""The lanes that the harness plays."""
LANES = (*PLAYED, *(f"executor-{model}" for model in MODELS))
SLOTS = 32
"""Items in hand per executor: two of the five phases are gpt's, so 64 pipelines have about 26 there at once."""
HERE = Path(__file__).parent


class NotReady(Exception):
    """A process or a cluster did not come up; the message has the end of its log."""


@contextlib.contextmanager
def servers(directory: Path, *, sync: str, replicas: int) -> Iterator[str]:
    """A nats-server, or a cluster of them; gives the URL to connect to."""
    if replicas == 1:
        interval = "always" if sync == "always" else "2m"
        with running(directory / "nats", sync=interval) as server:
            yield server.url
        return
    with _cluster(directory, replicas) as url:
        yield url


@contextlib.contextmanager
def _cluster(directory: Path, nodes: int) -> Iterator[str]:
    directory.mkdir(parents=True, exist_ok=True)
    ports = _free_ports(nodes * 3)
    clients, routes, monitors = ports[:nodes], ports[nodes : 2 * nodes], ports[2 * nodes :]
    others = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
    children = []
    for n in range(nodes):
        config = directory / f"n{n}.conf"
        config.write_text(
            f'server_name: n{n}\nhost: "127.0.0.1"\nport: {clients[n]}\nhttp: "127.0.0.1:{monitors[n]}"\n'
            f'jetstream {{ store_dir: "{directory}/n{n}", sync_interval: always }}\n'
            f'cluster {{ name: c, host: "127.0.0.1", port: {routes[n]}, routes: [{others}] }}\n'
        )
        children.append(subprocess.Popen([binary(), "-c", str(config)], stderr=subprocess.DEVNULL))
    try:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not all(_has_leader(port) for port in monitors):
            if time.monotonic() > deadline:
                raise NotReady(f"no leader among {nodes} nodes after {READY_TIMEOUT_S} s")
            time.sleep(PAUSE_S)
        yield ",".join(f"nats://127.0.0.1:{port}" for port in clients)
    finally:
        for child in children:
            child.kill()
            child.wait()


@contextlib.contextmanager
def processes(directory: Path, commands: Mapping[str, list[str]], env: Mapping[str, str]) -> Iterator[dict[str, int]]:
    """Runs each command in a process of its own until the block ends; gives their ids once all are ready."""
    directory.mkdir(parents=True, exist_ok=True)
    children: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            with (directory / f"{name}.log").open("wb") as out:
                children[name] = subprocess.Popen([sys.executable, *command], env={**os.environ, **env}, stderr=out)
        deadline = time.monotonic() + READY_TIMEOUT_S
        for name, child in children.items():
            log = directory / f"{name}.log"
            while b"house.ready" not in log.read_bytes():
                if child.poll() is not None or time.monotonic() > deadline:
                    raise NotReady(f"{name}: {log.read_text(errors='replace')[-2000:]}")
                time.sleep(PAUSE_S)
        yield {name: child.pid for name, child in children.items()}
    finally:
        for child in children.values():
            child.terminate()
        for child in children.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(10)
            child.kill()
            child.wait()


def real(directory: Path, url: str) -> contextlib.AbstractContextManager[dict[str, int]]:
    """The conductor as it is in production, and an executor per model with an instant provider."""
    commands = {"conductor": ["-m", "conductor"]}
    commands |= {f"executor-{model}": [str(HERE / "pipeline_executor.py"), model] for model in MODELS}
    env = {
        "FACTORY_NATS_URL": url,
        "FACTORY_ARTIFACTS": str(directory / "artifacts"),
        "FACTORY_MODELS": ",".join(MODELS),
        "FACTORY_PRETEND_MODELS": ",".join(MODELS),
        "FACTORY_EXECUTOR_SLOTS": str(SLOTS),
        "FACTORY_DRAIN_S": "1",
    }
    return processes(directory, commands, env)


def raw(directory: Path, url: str, shape: str) -> contextlib.AbstractContextManager[dict[str, int]]:
    """Two processes that move the same messages with nats-py alone."""
    floor = str(HERE / "pipeline_floor.py")
    commands = {role: [floor, role, url, shape] for role in ("conductor", "worker")}
    return processes(directory, commands, {})


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _has_leader(monitor: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{monitor}/jsz", timeout=1) as answer:
            return bool(json.load(answer).get("meta_cluster", {}).get("leader"))
    except OSError:
        return False
