"""Starts the simulator inside another process, in a thread and on an event loop of its own.

It never installs signal handlers and never logs to the process it lives in.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from simulator.app import create_app
from simulator.bill import BillFile, BillRead, read_bill
from simulator.misbehaviour import Misbehaviour, Misbehaviours
from simulator.pace import INSTANT, Pace

LOOPBACK = "127.0.0.1"
CONNECTIONS_WAITING_MAX = 2048
SHUTDOWN_S_MAX = 1
STOP_S_MAX = 10.0


def listen(host: str, port: int) -> socket.socket:
    """A listening socket: from here on callers can connect, they wait until the server has started."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named: only then does asyncio turn off Nagle's delay, 40 ms for every answer.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    listening.listen(CONNECTIONS_WAITING_MAX)
    return listening


def url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def server_for(bill: BillFile, pace: Pace, wishes: Misbehaviours) -> uvicorn.Server:
    """The server, quiet: what it cuts off on purpose is no error worth a line."""
    config = uvicorn.Config(
        create_app(bill, pace, wishes),
        log_level="critical",
        access_log=False,
        log_config=None,
        lifespan="off",
        timeout_graceful_shutdown=SHUTDOWN_S_MAX,
        backlog=CONNECTIONS_WAITING_MAX,
    )
    return uvicorn.Server(config)


@dataclass(frozen=True, slots=True)
class Simulator:
    """A running simulator."""

    url: str
    bill_path: Path
    _server: uvicorn.Server
    _thread: threading.Thread

    @property
    def bill(self) -> BillRead:
        """The bill as it stands on the disk."""
        return read_bill(self.bill_path)

    def stop(self) -> None:
        """Ends it; calls under way are broken off after a moment. A second time does nothing."""
        self._server.should_exit = True
        self._thread.join(STOP_S_MAX)


def start(
    bill: Path | str,
    *,
    pace: Pace = INSTANT,
    misbehaviours: Iterable[Misbehaviour] = (),
    host: str = LOOPBACK,
    port: int = 0,
) -> Simulator:
    """Starts a simulator in a daemon thread; it can be called at once."""
    listening = listen(host, port)
    try:
        bill_file = BillFile(Path(bill))
        server = server_for(bill_file, pace, Misbehaviours(tuple(misbehaviours)))
    except BaseException:
        listening.close()
        raise

    async def run() -> None:
        await server.serve(sockets=[listening])
        await bill_file.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="simulator", daemon=True)
    thread.start()
    return Simulator(url_of(listening), Path(bill), server, thread)


@asynccontextmanager
async def serve(
    bill: Path | str,
    *,
    pace: Pace = INSTANT,
    misbehaviours: Iterable[Misbehaviour] = (),
    host: str = LOOPBACK,
    port: int = 0,
) -> AsyncIterator[Simulator]:
    """A simulator for as long as the block runs."""
    simulator = start(bill, pace=pace, misbehaviours=misbehaviours, host=host, port=port)
    try:
        yield simulator
    finally:
        await asyncio.to_thread(simulator.stop)
