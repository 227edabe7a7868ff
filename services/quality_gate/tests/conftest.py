"""A small real repository, and changes on it."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from factory.artifact.v1 import Change
from worktree import checkout, record_change, snapshot

FILES = {
    "src/shop/__init__.py": "",
    "src/shop/prices.py": "def total(prices):\n    return sum(prices)\n",
    "tests/test_prices.py": "from shop.prices import total\n\n\ndef test_adds():\n    assert total([1, 2]) == 3\n",
    "pyproject.toml": '[project]\nname = "shop"\nversion = "1"\ndependencies = ["declared-thing"]\n',
}


@dataclass(frozen=True)
class Shop:
    """One repository on disk and its snapshot."""

    directory: Path
    scratch: Path
    bundle: bytes
    base_commit: str

    def change(self, files: dict[str, str | None], edit: Callable[[Path], None] = lambda tree: None) -> Change:
        """A change that writes files (None removes one), and whatever `edit` does to the tree."""
        tree = self.scratch / f"tree-{len(list(self.scratch.iterdir()))}"
        checkout(self.bundle, self.base_commit, tree)
        for path, text in files.items():
            if text is None:
                (tree / path).unlink()
                continue
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(text)
        edit(tree)
        return record_change(tree, self.base_commit, "")


def make_shop(root: Path, files: dict[str, str]) -> Shop:
    directory, scratch = root / "shop", root / "scratch"
    scratch.mkdir(parents=True)
    for path, text in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text)
    for arguments in (
        ["init", "-q", "-b", "main"],
        ["add", "-A"],
        ["-c", "user.name=A", "-c", "user.email=a@b.invalid", "commit", "-qm", "start"],
    ):
        subprocess.run(["git", *arguments], cwd=directory, check=True)
    taken = snapshot(str(directory), "main", allowed_roots=(root,), mirror=root / "mirror")
    return Shop(directory, scratch, taken.bundle, taken.base_commit)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return make_shop(tmp_path, FILES)


@pytest.fixture
def shop_with(tmp_path: Path) -> Callable[[dict[str, str | None]], Shop]:
    """The shop with other files at its base commit."""

    def make(files: dict[str, str | None]) -> Shop:
        return make_shop(tmp_path, {path: text for path, text in {**FILES, **files}.items() if text is not None})

    return make
