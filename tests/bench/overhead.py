"""What the factory itself costs: time per phase beside the provider's, and tasks per second, beside a floor.

Real services, real gate, real log (synced on every write), simulated providers that answer at once. The floor is raw
JetStream: every event and every work item of the task published once, of the same size, one after another, on a server
of the same kind in the same run.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from embedded.nats import running
from eventlog import connect, facts_of
from eventlog.bootstrap import bootstrap
from eventlog.work import requests_in
from factory.call.v1 import ModelCalled
from factory.event.v1 import Event
from factory.task.v1 import TASK_STATE_AWAITING_REVIEW
from factory_client import Factory
from rich.console import Console
from rich.table import Table
from runtime import logs
from stage import Up, providers, sample_remote

TITLE = "Add a GET /health endpoint"
ANSWERS = {
    "TaskClassified": "classification",
    "ContextGathered": "context",
    "PhaseCompleted": "phase",
    "GateJudged": "gate",
    "PullRequestOpened": "delivery",
}


async def one_task(factory: Factory, repository: Path) -> list[Event]:
    """A task from submission to pull request; every event of it, in order."""
    task_id = (await factory.submit(TITLE, repository=str(repository))).task_id
    events: list[Event] = []
    async for answer in factory.watch(task_id):
        events.append(Event.FromString(answer.event))
        if answer.task.state == TASK_STATE_AWAITING_REVIEW:
            shown = await factory.get_change(task_id)
            await factory.approve(task_id, shown.change_digest, shown.evidence_digest)
    return events


def stages(events: Sequence[Event]) -> dict[str, list[float]]:
    """Milliseconds between each request and its answer, less the provider's own time."""
    asked: dict[str, float] = {}
    provider_ms: dict[str, float] = defaultdict(float)
    found: dict[str, list[float]] = defaultdict(list)
    for event in events:
        at = event.occurred_at.ToNanoseconds() / 1e6
        for fact in facts_of(event):
            if fact is None:
                continue
            name, request_id = fact.DESCRIPTOR.name, getattr(fact, "request_id", "")
            if name.endswith("Requested") and request_id:
                asked[request_id] = at
            elif isinstance(fact, ModelCalled):
                provider_ms[request_id] += fact.latency.ToNanoseconds() / 1e6
            if name in ANSWERS:
                found[ANSWERS[name]].append(at - asked[request_id] - provider_ms[request_id])
    return found


async def floor_ms(events: Sequence[Event], directory: Path) -> float:
    """The time that raw JetStream takes to store as many messages of the same sizes, one after another."""
    with running(directory) as server:
        nc = await connect(server.url, name="floor")
        await bootstrap(nc, lanes=["context"])
        js = nc.jetstream()
        payloads = [event.SerializeToString() for event in events]
        work = [event.SerializeToString() for event in events if any(requests_in(event))]
        started = time.perf_counter()
        for number, payload in enumerate([*payloads, *work]):
            await js.publish(f"factory.evt.conductor.main.floor{number % 8}", payload)
        took_ms = (time.perf_counter() - started) * 1000
        await nc.close()
    return took_ms


async def measure(tasks: int, in_flight: int, directory: Path) -> dict[str, Any]:
    with providers(directory / "providers") as made:
        up = Up(directory / "data", made.url)
        try:
            up.start()
            async with up.factory() as factory:
                remotes = [sample_remote(directory / "remotes" / str(number)) for number in range(tasks + 1)]
                await one_task(factory, remotes[-1])  # the first one imports the SDKs
                alone = [await one_task(factory, sample_remote(directory / "alone" / str(n))) for n in range(3)]
                gate = asyncio.Semaphore(in_flight)

                async def flown(remote: Path) -> None:
                    async with gate:
                        await one_task(factory, remote)

                started = time.perf_counter()
                await asyncio.gather(*(flown(remote) for remote in remotes[:tasks]))
                took_s = time.perf_counter() - started
        finally:
            up.stop()
            up.end()
    floor = await floor_ms(alone[0], directory / "floor")
    by_stage: dict[str, list[float]] = defaultdict(list)
    for events in alone:
        for stage, times in stages(events).items():
            by_stage[stage] += times
    totals = [(e[-1].occurred_at.ToNanoseconds() - e[0].occurred_at.ToNanoseconds()) / 1e6 for e in alone]
    return {
        "events_per_task": len(alone[0]),
        "floor_ms_per_task": round(floor, 2),
        "overhead_ms_per_task_p50": round(statistics.median(totals), 1),
        "overhead_ms_p50": {stage: round(statistics.median(times), 1) for stage, times in by_stage.items()},
        "in_flight": in_flight,
        "tasks": tasks,
        "tasks_per_s": round(tasks / took_s, 3),
        "floor_tasks_per_s": round(1000 / floor, 1),
    }


def shown(result: dict[str, Any]) -> Table:
    table = Table(title=f"{TITLE!r}: submission to pull request, {result['events_per_task']} events a task")
    for column in ("what", "measured", "floor", "ratio"):
        table.add_column(column, justify="left" if column == "what" else "right")
    floor = result["floor_ms_per_task"]
    per_event = floor / result["events_per_task"]
    for stage, took in result["overhead_ms_p50"].items():
        table.add_row(
            f"{stage}, without the provider, p50",
            f"{took} ms",
            f"{2 * per_event:.1f} ms",
            f"{took / per_event / 2:.0f}×",
        )
    took = result["overhead_ms_per_task_p50"]
    table.add_row("whole task, one at a time, p50", f"{took} ms", f"{floor} ms", f"{took / floor:.0f}×")
    rate, most = result["tasks_per_s"], result["floor_tasks_per_s"]
    table.add_row(f"tasks per second, {result['in_flight']} in flight", f"{rate}", f"{most}", f"{rate / most:.3f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(prog="just bench", description=__doc__)
    parser.add_argument("--tasks", type=int, default=32)
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--json", action="store_true", help="one object")
    options = parser.parse_args()
    logs.configure("console", "error")
    with tempfile.TemporaryDirectory(prefix="factory-bench-") as directory:
        result = asyncio.run(measure(options.tasks, options.in_flight, Path(directory)))
    if options.json:
        print(json.dumps(result))
    else:
        Console().print(shown(result))


if __name__ == "__main__":
    main()
