"""A task for every row of the routing table, and the feature flow, from submission to pull request."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from audit.reconcile import Kind
from factory.task.v1 import TASK_STATE_COMPLETED, PhaseKind, TaskType
from factory_client import Factory
from stage import JWT, Providers, Up, approve, compared, providers, pull_requests, reaches, sample_remote

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

ROWS = {
    "architecture": ("Design the architecture of a plugin system", ["design:claude", "review:gemini"]),
    "logic": ("Implement a function that computes the median", ["implement:gpt", "write_tests:gpt"]),
    "refactoring": ("Refactor the note store: remove duplication", ["refactor:deepseek", "write_tests:gpt"]),
    # The pretend author leaves a flaw in its first try wherever somebody reviews code.
    "ui": (
        "Add a login form component with validation",
        ["implement:gpt", "review:claude", "implement:gpt", "review:claude", "write_tests:gpt"],
    ),
    "api": ("Add a GET /health endpoint", ["implement:gpt", "write_tests:gpt"]),
    "tests": ("Write unit tests for the router", ["write_tests:gpt"]),
    "documentation": ("Document the configuration options in the README", ["document:claude"]),
}
FEATURE = [
    "design:claude",
    "implement:gpt",
    "review:gemini",
    "implement:gpt",
    "review:gemini",
    "refactor:deepseek",
    "write_tests:gpt",
]


class Stage:
    def __init__(self, factory: Factory, made: Providers, directory: Path) -> None:
        self.factory, self.providers, self.directory = factory, made, directory
        self.tasks: dict[str, str] = {}

    def remote(self, name: str) -> Path:
        return sample_remote(self.directory / "remotes" / name)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One factory, and all the tasks at once."""
    directory = tmp_path_factory.mktemp("journeys")
    with providers(directory / "providers") as made:
        up = Up(directory / "data", made.url)
        try:
            up.start()
            async with up.factory() as factory:
                stage = Stage(factory, made, directory)
                titles = {"feature": JWT, **{name: title for name, (title, _) in ROWS.items()}}
                for name, title in titles.items():
                    stage.tasks[name] = (await factory.submit(title, repository=str(stage.remote(name)))).task_id
                yield stage
        finally:
            up.stop()
            up.end()


async def delivered(stage: Stage, name: str) -> list[str]:
    """Sees a task through; answers with who did which phase, in order."""
    task_id = stage.tasks[name]
    await approve(stage.factory, task_id)
    task = await reaches(stage.factory, task_id, TASK_STATE_COMPLETED)
    report = await stage.factory.report(task_id)
    comparison = await compared(stage.factory, task_id, stage.providers.bill)

    assert pull_requests(stage.remote(name)) == [task.branch]
    assert comparison.wrong == []
    assert set(comparison.counts) == {Kind.EQUAL}
    assert report.total.tokens == comparison.billed_tokens > 0
    return [f"{PhaseKind.Name(line.phase).removeprefix('PHASE_KIND_').lower()}:{line.model}" for line in report.lines]


@pytest.mark.parametrize("name", ROWS)
async def test_a_task_of_each_type_goes_the_way_of_its_row(stage: Stage, name: str):
    _, expected = ROWS[name]

    assert await delivered(stage, name) == expected
    task = await stage.factory.get(stage.tasks[name])
    assert TaskType.Name(task.type) == f"TASK_TYPE_{name.upper()}"


async def test_a_feature_is_designed_implemented_sent_back_once_refactored_and_tested(stage: Stage):
    assert await delivered(stage, "feature") == FEATURE


async def test_the_same_key_a_thousand_times_is_one_task(stage: Stage):
    repository = str(stage.remote("key"))

    async def submit() -> str:
        return (await stage.factory.submit("Add a GET /health endpoint", repository=repository, key="K")).task_id

    ids = [task for _ in range(10) for task in await asyncio.gather(*(submit() for _ in range(100)))]

    assert len(set(ids)) == 1
