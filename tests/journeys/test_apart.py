"""The demo's task through all services as separate processes, each with its own environment, user and password."""

from pathlib import Path

import pytest
from audit.reconcile import Kind
from factory.gate.v1 import GATE_VERDICT_PASS, GATE_VERDICT_UNKNOWN
from factory.task.v1 import TASK_STATE_AWAITING_REVIEW, TASK_STATE_COMPLETED
from stage import JWT, approve, compared, providers, pull_requests, reaches, sample_remote
from stage_apart import apart

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


async def test_the_demo_runs_through_services_that_share_nothing_but_the_log(tmp_path: Path):
    remote = sample_remote(tmp_path / "remotes")
    with providers(tmp_path / "providers") as made, apart(tmp_path, made.url) as house:
        async with house.factory() as factory:
            task_id = (await factory.submit(JWT, repository=str(remote))).task_id
            await reaches(factory, task_id, TASK_STATE_AWAITING_REVIEW)
            # A conductor may be taken away at any time: the other goes on.
            house.processes["conductor-2"].stop()
            shown = await factory.get_change(task_id)
            await approve(factory, task_id)
            task = await reaches(factory, task_id, TASK_STATE_COMPLETED)
            comparison = await compared(factory, task_id, made.bill)
            report = await factory.report(task_id)
        health = {path: house.processes["audit"].answers(path) for path in ("/live", "/ready", "/metrics", "/other")}
        took_s = {name: process.stop() for name, process in house.processes.items() if process.child.poll() is None}
        ends = {name: process.child.returncode for name, process in house.processes.items()}
        refused = [
            (name, line)
            for name, process in house.processes.items()
            for line in process.lines()
            if line.get("event") == "nats.error" and "violation" in str(line.get("error")).lower()
        ]

    assert pull_requests(remote) == [task.branch]
    assert shown.verdict in (GATE_VERDICT_PASS, GATE_VERDICT_UNKNOWN)
    assert comparison.wrong == []
    assert set(comparison.counts) == {Kind.EQUAL}
    assert report.total.tokens == comparison.billed_tokens > 0
    assert [health[path][0] for path in health] == [200, 200, 200, 404]
    assert "# HELP " in health["/metrics"][1]
    assert set(ends.values()) == {0}, ends
    assert len(took_s) == len(house.processes) - 1
    assert refused == [], "nobody asks for what it may not do"
