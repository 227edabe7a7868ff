"""The sample repository as a remote of its own: a bare git repository in the demo's data directory."""

import os
import shutil
import subprocess
import tempfile
from importlib.resources import as_file, files
from pathlib import Path

REMOTE = "sample.git"
BRANCH = "main"
GIT_TIMEOUT_S = 30
# Fixed, so that the sample has the same commit everywhere.
AUTHOR, EMAIL, DATE = "AI Factory", "factory@example.org", "2026-01-01T00:00:00Z"


class GitMissing(Exception):
    """git is not installed, or does not work here; the message says what it said."""


def prepare_remote(data: Path) -> Path:
    """The bare repository with the sample in it; the one that is there already if there is one."""
    remote = data / REMOTE
    if remote.exists():
        return remote
    with tempfile.TemporaryDirectory(dir=data, prefix="sample-") as made:
        work, bare = Path(made) / "work", Path(made) / REMOTE
        with as_file(files("embedded") / "sample") as sample:
            shutil.copytree(sample, work, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
        git("init", "--quiet", f"--initial-branch={BRANCH}", str(work))
        git("-C", str(work), "add", "--all")
        git("-C", str(work), "commit", "--quiet", "--message", "A small web API for notes")
        git("clone", "--quiet", "--bare", "--no-hardlinks", str(work), str(bare))
        bare.rename(remote)
    return remote


def changed_files(remote: Path, branch: str) -> str:
    """What a branch changes, file by file."""
    return git("-C", str(remote), "diff", "--stat=78", f"{BRANCH}...{branch}", "--")


def git(*words: str) -> str:
    """One git command, without the settings and hooks of whoever runs the demo."""
    env = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.devnull,
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        **{f"GIT_{role}_{part}": value for role in ("AUTHOR", "COMMITTER") for part, value in _IDENTITY.items()},
    }
    try:
        done = subprocess.run(
            ["git", *words], env=env, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=True
        )
    except FileNotFoundError:
        raise GitMissing("git is not installed; the demo needs it for the sample repository") from None
    except subprocess.CalledProcessError as error:
        raise GitMissing(f"git {words[0]} failed: {error.stderr.strip()}") from None
    return done.stdout


_IDENTITY = {"NAME": AUTHOR, "EMAIL": EMAIL, "DATE": DATE}
