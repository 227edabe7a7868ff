"""Runs git with nothing inherited: no configuration but ours, no hooks, no prompts, no protocol that was not named.

Values reach git as arguments in a list, never through a shell; a token reaches it through its environment only.
"""

import base64
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from worktree.errors import GitFailed, NeedsCredentials, RepositoryNotFound, Unreachable
from worktree.urls import Remote

LOCAL_TIMEOUT_S = 120
NETWORK_TIMEOUT_S = 300
DETAIL_CHARS_MAX = 500
_POLL_S = 0.2

# What a network needs from its surroundings. Nothing here can name a command.
_INHERITED = (
    "PATH",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
)

_ENVIRONMENT = {
    "LC_ALL": "C",  # we read what git says
    "HOME": "/nonexistent",  # neither .netrc nor an attributes file
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "true",
    "SSH_ASKPASS": "true",
    "SSH_ASKPASS_REQUIRE": "never",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oConnectTimeout=20",
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",  # a repository that lacks objects may name a command to get them with
    "GIT_AUTHOR_NAME": "AI Factory",
    "GIT_AUTHOR_EMAIL": "factory@localhost",
    "GIT_COMMITTER_NAME": "AI Factory",
    "GIT_COMMITTER_EMAIL": "factory@localhost",
}

_SETTINGS = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.autocrlf": "false",
    "core.attributesFile": os.devnull,
    "core.excludesFile": os.devnull,
    "credential.helper": "",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "init.defaultBranch": "main",
    "submodule.recurse": "false",
    "advice.detachedHead": "false",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "30",
    # With more threads the same objects give other bytes from run to run.
    "pack.threads": "1",
}

# How a local repository is served: its owner is none of our business, and nothing that its own settings name is run,
# neither hooks nor the commands that git takes from a configuration. We count on nobody having vetted it.
SERVE_LOCAL = (
    "-c safe.directory=* -c core.hooksPath=/dev/null -c core.fsmonitor=false"
    " -c core.alternateRefsCommand=true -c receive.autogc=false"
)

_MEANING: tuple[tuple[type[GitFailed], re.Pattern[str]], ...] = (
    (
        NeedsCredentials,
        re.compile(
            r"could not read (Username|Password)|terminal prompts disabled|Authentication failed|Permission denied"
            r"|returned error: 40[13]|Invalid username or password|access denied|HTTP Basic: Access",
            re.I,
        ),
    ),
    (
        RepositoryNotFound,
        re.compile(r"repository .*not found|does not appear to be a git repository|not a git repository", re.I),
    ),
    (
        Unreachable,
        re.compile(
            r"could not resolve host|connection (refused|timed out|reset)|failed to connect|couldn't connect"
            r"|network is unreachable|no route to host|operation timed out|host key verification failed|SSL"
            r"|returned error: [45]\d\d|the remote end hung up|early EOF|operation too slow",
            re.I,
        ),
    ),
)

_IN_WORDS: dict[type[GitFailed], str] = {
    NeedsCredentials: "the repository asks for credentials, and does not accept ours if we have any",
    RepositoryNotFound: "there is no repository where we were sent",
    Unreachable: "the repository cannot be reached",
}

# It speaks to somebody at a terminal, and our submitter is none.
_ADVICE = re.compile(
    r"Could not read from remote|Please make sure you have the correct|and the repository exists", re.I
)


def git(
    *arguments: str,
    directory: Path,
    git_dir: Path | None = None,
    given: bytes = b"",
    remote: Remote | None = None,
    token: str | None = None,
    extra: Mapping[str, str] | None = None,
    while_running: Callable[[], None] | None = None,
) -> bytes:
    """What git prints for these arguments; GitFailed, or a more telling kind of it, when it does not succeed."""
    environment = _environment(directory, git_dir, remote, token, extra or {})
    timeout_s = NETWORK_TIMEOUT_S if remote else LOCAL_TIMEOUT_S
    try:
        process = subprocess.Popen(
            ["git", *arguments],
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # no terminal to ask at, and its children end with it
        )
    except FileNotFoundError as problem:
        raise GitFailed(f"git cannot be started: {problem}") from problem
    try:
        out, err = _conversation(process, given, timeout_s, while_running, arguments[0])
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode != 0:
        raise _failure(arguments[0], process.returncode, err.decode(errors="replace"), remote)
    return out


def _conversation(
    process: subprocess.Popen[bytes],
    given: bytes,
    timeout_s: float,
    while_running: Callable[[], None] | None,
    verb: str,
) -> tuple[bytes, bytes]:
    ends = time.monotonic() + timeout_s
    rest: bytes | None = given
    while True:
        try:
            return process.communicate(rest, timeout=_POLL_S if while_running else timeout_s)
        except subprocess.TimeoutExpired:
            rest = None
            if while_running:
                while_running()
            if time.monotonic() > ends:
                raise Unreachable(f"git {verb} was stopped: it took longer than {timeout_s} s") from None


def _environment(
    directory: Path, git_dir: Path | None, remote: Remote | None, token: str | None, extra: Mapping[str, str]
) -> dict[str, str]:
    settings = dict(_SETTINGS)
    if remote and remote.origin and token:
        user = base64.b64encode(f"x-access-token:{token}".encode()).decode()
        settings[f"http.{remote.origin}.extraHeader"] = f"Authorization: Basic {user}"
        # git would carry the header along to wherever the remote sends it.
        settings["http.followRedirects"] = "false"
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ} | _ENVIRONMENT
    if git_dir:
        environment["GIT_DIR"] = str(git_dir)
        if git_dir.parent == directory:
            environment["GIT_WORK_TREE"] = str(directory)
    if remote:
        environment["GIT_ALLOW_PROTOCOL"] = remote.protocol
    environment["GIT_CONFIG_COUNT"] = str(len(settings))
    for number, (key, value) in enumerate(settings.items()):
        environment[f"GIT_CONFIG_KEY_{number}"] = key
        environment[f"GIT_CONFIG_VALUE_{number}"] = value
    return environment | dict(extra)


def _failure(verb: str, code: int, said: str, remote: Remote | None) -> GitFailed:
    if remote:
        for kind, pattern in _MEANING:
            if pattern.search(said):
                return kind(f"{_IN_WORDS[kind]} (git: {_detail(said)})")
    return GitFailed(f"git {verb} ended with {code}: {_detail(said)}")


def _detail(said: str) -> str:
    """What git said without its advice, on one line. A remote has a say in it, so nothing may steer a terminal."""
    lines = (line.strip().removeprefix("fatal: ") for line in said.splitlines())
    words = " ".join(line for line in lines if line and not _ADVICE.match(line))
    return "".join(c if c.isprintable() else " " for c in words)[-DETAIL_CHARS_MAX:].strip() or "no explanation"
