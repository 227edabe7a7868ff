"""`factory up` as a child of the demo: started, waited for, and ended whatever happens to the demo."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from factory_client.discovery import ADDRESS_FILE, Address, NoAddress, find_address

LOG_FILE = "up.log"
READY_TIMEOUT_S = 60.0
# From then on whoever waits is told what for.
PATIENCE_S = 3.0
END_TIMEOUT_S = 15.0
PAUSE_S = 0.05
LOG_LINES_SHOWN = 15


class NotStarted(Exception):
    """The factory did not become ready; the message ends with its last log lines."""


@dataclass(frozen=True, slots=True)
class Running:
    """A factory that is ready."""

    address: Address
    ready_after_s: float


@contextlib.contextmanager
def running_factory(data: Path, models: str, say: Callable[[str], None]) -> Iterator[Running]:
    """A factory over `data` for the length of the block."""
    began = time.monotonic()
    with (data / LOG_FILE).open("ab") as log:
        # A session of its own: Ctrl-C reaches the demo alone, which then ends the factory in order.
        child = subprocess.Popen(
            [sys.executable, "-m", "embedded.while_parent_lives", "up", "--data", str(data), "--models", models],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        address = _ready(child, data, began, say)
        yield Running(address, time.monotonic() - began)
    finally:
        _end(child)


def _ready(child: subprocess.Popen[bytes], data: Path, began: float, say: Callable[[str], None]) -> Address:
    told = ""
    while True:
        waited = time.monotonic() - began
        if child.poll() is not None:
            raise NotStarted(
                f"the factory ended with status {child.returncode} before it was ready\n{_end_of_log(data)}"
            )
        if _is_written_by(child.pid, data):
            with contextlib.suppress(NoAddress):
                return find_address(data)
        if waited > READY_TIMEOUT_S:
            raise NotStarted(f"the factory was not ready within {READY_TIMEOUT_S:.0f} s\n{_end_of_log(data)}")
        last = _end_of_log(data, 1)
        if waited > PATIENCE_S and last != told:
            told = last
            say(f"still starting: {last}" if last else "still starting")
        time.sleep(PAUSE_S)


def _is_written_by(pid: int, data: Path) -> bool:
    """The address is this child's, not one that a killed factory left behind."""
    try:
        return json.loads((data / ADDRESS_FILE).read_text()).get("pid") == pid
    except (OSError, ValueError):
        return False


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
    try:
        child.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        # its nats-server is in the same group and must not be left behind
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait(END_TIMEOUT_S)


def _end_of_log(data: Path, lines: int = LOG_LINES_SHOWN) -> str:
    try:
        text = (data / LOG_FILE).read_text(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
