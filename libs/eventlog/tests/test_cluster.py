"""The log on three nodes, as in production: an answer from a replica that is behind is never taken for the whole."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from embedded.nats import binary
from eventlog import Conflict, EventLog, Past, Tip, connect
from eventlog.bootstrap import bootstrap
from factory.task.v1 import TaskSubmitted

pytestmark = pytest.mark.slow

NODES = 3
READY_TIMEOUT_S = 20


@dataclass
class Cluster:
    url: str
    pids: list[int]


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    ports = free_ports(NODES * 3)
    clients, routes, monitors = ports[:NODES], ports[NODES : 2 * NODES], ports[2 * NODES :]
    others = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
    children = []
    for n in range(NODES):
        config = tmp_path / f"n{n}.conf"
        config.write_text(
            f'server_name: n{n}\nhost: "127.0.0.1"\nport: {clients[n]}\nhttp: "127.0.0.1:{monitors[n]}"\n'
            f'jetstream {{ store_dir: "{tmp_path}/n{n}", sync_interval: always }}\n'
            f'cluster {{ name: c, host: "127.0.0.1", port: {routes[n]}, routes: [{others}] }}\n'
        )
        children.append(subprocess.Popen([binary(), "-c", str(config)], stderr=subprocess.DEVNULL))
    try:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not all(has_leader(port) for port in monitors):
            assert time.monotonic() < deadline, "the cluster has no leader"
            time.sleep(0.1)
        yield Cluster(",".join(f"nats://127.0.0.1:{port}" for port in clients), [child.pid for child in children])
    finally:
        for child in children:
            child.kill()
            child.wait()


def has_leader(monitor: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{monitor}/jsz", timeout=1) as answer:
            return bool(json.load(answer).get("meta_cluster", {}).get("leader"))
    except OSError:
        return False


async def logs(cluster: Cluster, count: int) -> list[EventLog]:
    clients = [await connect(cluster.url.split(",")[n % NODES], name="operator") for n in range(count)]
    await bootstrap(clients[0], lanes=["context"], replicas=3)
    return [EventLog(nc, org="main", service="conductor") for nc in clients]


async def test_whoever_reads_sees_at_least_what_it_was_told_of(cluster: Cluster):
    writers = await logs(cluster, NODES)

    async def tell_and_read(n: int) -> int:
        task, tip, past = f"t{n}", Tip(), Past()
        for version in range(1, 9):
            stored = await writers[n % NODES].append(task, [TaskSubmitted(title=str(version))], after=tip)
            tip = stored.tip
            past = await writers[(n + 1) % NODES].read(task, at_least=stored.sequence)
            assert len(past.events) == version
        return len(past.events)

    assert await asyncio.gather(*(tell_and_read(n) for n in range(24))) == [8] * 24


async def test_two_writers_on_three_nodes_never_both_win(cluster: Cluster):
    one, other, third = await logs(cluster, NODES)

    for n in range(40):
        results = await asyncio.gather(
            *(log.append(f"t{n}", [TaskSubmitted()], after=Tip()) for log in (one, other, third)),
            return_exceptions=True,
        )
        assert sum(isinstance(result, Conflict) for result in results) == 2
        assert len((await one.read(f"t{n}", at_least=await one.last_own(f"t{n}"))).events) == 1


async def test_an_append_survives_the_death_of_a_node_once_and_only_once(cluster: Cluster):
    log, *_ = await logs(cluster, NODES)
    tip, stop = Tip(), asyncio.Event()

    async def kill_one() -> None:
        await asyncio.sleep(0.3)
        os.kill(cluster.pids[0], signal.SIGKILL)  # the node that the writer is connected to
        stop.set()

    killing = asyncio.create_task(kill_one())
    written = 0
    while not (stop.is_set() and written >= 60):
        tip = (await log.append("t", [TaskSubmitted(title=str(written))], after=tip)).tip
        written += 1
    await killing

    past: Past = await log.read("t", at_least=tip.sequence)
    assert [recorded.event.version for recorded in past.events] == list(range(1, written + 1))
