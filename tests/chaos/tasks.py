"""The tasks of a storm, the repository that they are about, and how the providers misbehave for each. Pure but for the
making of the repository.
"""

import random
from dataclasses import dataclass
from pathlib import Path

from conductor.submission import task_id_for
from embedded.demo_repository import git

# Titles that the classifier's rules take for these types; most plans are short, because the gate is real and takes
# seconds of this machine for each change.
PLANS = (
    ("Document the configuration options, part {n}", ("document",)),
    ("Design the architecture of plugin system {n}", ("design", "review")),
    ("Write unit tests for helper number {n}", ("write_tests",)),
    ("Implement a function that computes the median of list {n}", ("implement", "write_tests")),
    ("Refactor the greeting of caller {n} without changing behaviour", ("refactor", "write_tests")),
    ("Create user authentication with JWT tokens, variant {n}", ("design", "implement", "review", "refactor")),
)
# Short plans come more often.
DEAL = (0, 1, 2, 0, 3, 1, 4, 2, 0, 5)
# How a provider misbehaves, and for how many calls of one phase; None: it behaves.
MOODS: tuple[dict | None, ...] = (
    {"mode": "malformed"},
    {"mode": "500"},
    None,
    {"mode": "429", "retry_after_s": 1},
    {"mode": "bad_edit"},
    {"mode": "cut"},
    {"mode": "slow", "tokens_per_second": 300},
    {"mode": "529", "times": 2},
    {"mode": "truncated"},
    {"mode": "402", "times": 4},
    {"mode": "malformed", "times": 3},
    {"mode": "stream_error"},
    {"mode": "402", "times": 4},
    {"mode": "malformed_wire"},
    {"mode": "refusal"},
    {"mode": "hang"},
)
# Every other task gets an answer besides that is recorded and cannot be used: what could be paid for again.
UNUSABLE = ({"mode": "malformed"}, {"mode": "bad_edit"}, {"mode": "bad_edit"})
REMOTES = 5

FILES = {
    "README.md": "# Tiny\n\nGreets people.\n",
    "pyproject.toml": '[project]\nname = "tiny"\nversion = "0.1.0"\n\n[tool.pytest.ini_options]\npythonpath = ["src"]\n',
    "src/tiny/__init__.py": "def greeting(name):\n    return f'Hello, {name}!'\n",
    "tests/test_tiny.py": "from tiny import greeting\n\n\ndef test_it_greets():\n    assert greeting('Ann') == 'Hello, Ann!'\n",
}


@dataclass(frozen=True, slots=True)
class Given:
    """One task as it is handed in."""

    number: int
    title: str
    key: str
    # the architect asks for changes once before they approve
    changes_wanted: bool
    # what its providers do, as wishes to the simulator
    wishes: tuple[dict, ...]

    @property
    def task_id(self) -> str:
        return task_id_for("main", "adhoc", self.key)


def given(number: int, chance: random.Random) -> Given:
    """The task of a number; `chance` says which of its phases goes wrong."""
    title, phases = PLANS[DEAL[number % len(DEAL)]]
    key = f"storm-{number}"
    task_id, mood = task_id_for("main", "adhoc", key), MOODS[number % len(MOODS)]
    moods = [mood, UNUSABLE[number % len(UNUSABLE)] if number % 2 else None]
    wishes = tuple(
        {"client_request_id": f"{task_id}.{chance.choice(phases)}-*", **mood} for mood in moods if mood is not None
    )
    return Given(number, title.format(n=number), key, number % 8 == 3, wishes)


def tiny_remote(directory: Path) -> Path:
    """A repository so small that the gate is done with it in a moment, as a bare remote."""
    work, bare = directory / "work", directory / "tiny.git"
    for name, text in FILES.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(text)
    git("init", "--quiet", "--initial-branch=main", str(work))
    git("-C", str(work), "add", "--all")
    git("-C", str(work), "commit", "--quiet", "--message", "A greeting")
    git("clone", "--quiet", "--bare", "--no-hardlinks", str(work), str(bare))
    return bare
