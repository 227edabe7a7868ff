"""Real repositories, made by real git."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Repository:
    path: Path

    def git(self, *arguments: str) -> str:
        run = subprocess.run(
            ["git", "-c", "user.name=Ann", "-c", "user.email=ann@example.org", *arguments],
            cwd=self.path,
            check=True,
            capture_output=True,
            text=True,
        )
        return run.stdout.strip()

    def commit(self, files: dict[str, str | bytes], message: str = "more") -> str:
        for name, content in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def bare(self) -> "Repository":
        bare = self.path.with_name(self.path.name + "-bare.git")
        self.git("clone", "-q", "--bare", str(self.path), str(bare))
        return Repository(bare)


@pytest.fixture
def make_repository(tmp_path: Path) -> Callable[..., Repository]:
    def make(files: dict[str, str | bytes] | None = None, name: str = "origin") -> Repository:
        path = tmp_path / "repositories" / name
        path.mkdir(parents=True)
        repository = Repository(path)
        repository.git("init", "-q", "-b", "main")
        if files:
            repository.commit(files, "first")
        return repository

    return make
