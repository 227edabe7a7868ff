"""A short storm: kill -9 of services and of nats-server at points of the log, and everything is still true afterwards.

The long one is `just chaos`.
"""

from pathlib import Path

import pytest
from chaos.outcome import as_json
from chaos.points import all_points
from chaos.run import SHORT_POINTS, SHORT_TASKS, weather

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


async def test_whoever_is_killed_every_task_ends_once_and_nothing_recorded_is_paid_for_again(tmp_path: Path):
    outcome = await weather(
        tmp_path, tasks=SHORT_TASKS, tasks_max=2 * SHORT_TASKS, points=SHORT_POINTS, times=1, seed=7, say=print
    )

    told = as_json(outcome)
    assert outcome.faults == []
    assert set(outcome.ended.values()) == {"TaskCompleted"}
    assert told["kills"] >= len(SHORT_POINTS) - 2, "a storm without wind"
    assert told["duplicate_pull_requests"] == told["unexplained_tokens"] == told["repaid_tokens"] == 0
    assert told["billed_tokens"] > told["ledger_tokens"] > 0
    assert set(told["calls"]) <= {"equal", "lost", "abandoned", "never_sent"}


def test_every_service_has_its_points():
    targets = {point.target for point in all_points()}

    assert {"conductor", "classifier", "context", "quality_gate", "delivery", "audit", "nats-server"} <= targets
    assert len({target for target in targets if target.startswith("executor-")}) == 4
