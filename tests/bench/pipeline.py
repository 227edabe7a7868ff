"""What a step costs between services: five phases through the real conductor and executors, beside their floor.

Conductor and executors are processes of their own and write the same facts as in production. The provider is inside the
executors and answers at once, AND SO IS THE DESK: no checkout, no edits, no artifact on disk (see
`pipeline_executor.py`; `tests/bench/model_calls.py` measures the real desk). The floor is two processes that move the same
number of messages of the same sizes in the same shape with nats-py alone, in turns with the real ones.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from eventlog import EventLog, connect
from eventlog.bootstrap import bootstrap
from pipeline_driver import Driver, Measured, RawPlayers, RealPlayers
from pipeline_floor import Step, shape_of, to_json
from pipeline_stand import LANES, SLOTS, raw, real, servers
from rich.console import Console
from rich.table import Table
from runtime import logs

STEPS = 5
SETTINGS = (("always", 1, (1, 16, 64)), ("default", 1, (1, 16, 64)), ("always", 3, (64,)))
# Pipelines per run: enough for a second or two, and for in-flight to be reached.
PIPELINES = {1: 30, 16: 128, 64: 192}
PIPELINES_QUICK = {1: 10, 16: 64, 64: 128}
TURNS, TURNS_QUICK = 5, 2
TASKS, TASKS_QUICK = 15, 5
ACK_WAIT_S = 60


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    pipelines: dict[int, int]
    turns: int
    tasks: int


@contextlib.asynccontextmanager
async def driving(url: str, replicas: int, shape: Sequence[Step] | None, *, whole: bool) -> AsyncIterator[Driver]:
    """A harness on one server; `whole`: it plays tasks to their end, else it stops the watch at the gate."""
    nc = await connect(url, name="operator")
    await bootstrap(
        nc, lanes=LANES, replicas=replicas, ack_wait_s=ACK_WAIT_S, slots={lane: _room(lane) for lane in LANES}
    )
    players = RealPlayers(nc) if shape is None else RawPlayers(nc, shape)
    driver = Driver(nc, players) if whole else Driver(nc, players, stops_at="quality_gate", keeps="context")
    playing = await driver.play()
    try:
        yield driver
    finally:
        for task in playing:
            task.cancel()
        await asyncio.gather(*playing, return_exceptions=True)
        await nc.close()


def _room(lane: str) -> int:
    return SLOTS if lane.startswith("executor") else 256


async def learned(driver: Driver) -> list[Step]:
    """Runs a real task, and tells its messages."""
    await driver.tasks(1)  # the first one opens what is opened once
    before = await _timers(driver)
    await driver.tasks(1)
    timers = await _timers(driver) - before
    stream = await driver.nc.jetstream().stream_info("EVENTS")
    last = await driver.nc.jetstream().get_msg("EVENTS", stream.state.last_seq)
    log = EventLog(driver.nc, org="main", service="conductor")
    past = await log.read((last.subject or "").rsplit(".", 1)[-1], at_least=stream.state.last_seq)
    return shape_of(past.events, timers)


async def _timers(driver: Driver) -> int:
    return (await driver.nc.jetstream().stream_info("TIMERS")).state.last_seq


async def measured(directory: Path, sync: str, replicas: int, in_flight: Sequence[int], size: Size) -> dict[str, Any]:
    """Real and floor in turns, each on servers of its own; medians over the turns."""
    where: dict[str, Any] = {"sync": sync, "replicas": replicas}
    async with contextlib.AsyncExitStack() as stack:
        real_url = stack.enter_context(servers(directory / "real", sync=sync, replicas=replicas))
        raw_url = stack.enter_context(servers(directory / "raw", sync=sync, replicas=replicas))
        async with driving(real_url, replicas, None, whole=True) as on_real:
            stack.enter_context(real(directory / "real", real_url))
            shape = await learned(on_real)
            async with driving(raw_url, replicas, shape, whole=True) as on_raw:
                stack.enter_context(raw(directory / "raw", raw_url, to_json(shape)))
                task = where | await _whole_tasks(on_real, on_raw, size)
        async with (
            driving(real_url, replicas, None, whole=False) as on_real,
            driving(raw_url, replicas, shape, whole=False) as on_raw,
        ):
            runs = [where | await _in_turns(on_real, on_raw, n, size) for n in in_flight]
    return {"runs": runs, "feature_task": task}


async def _in_turns(on_real: Driver, on_raw: Driver, in_flight: int, size: Size) -> dict[str, Any]:
    found: tuple[list[Measured], list[Measured]] = ([], [])
    for turn in range(size.turns + 1):
        for driver, kept in zip((on_real, on_raw), found, strict=True):
            count = size.pipelines[in_flight] if turn else min(in_flight * 2, 16)  # the first turn warms up
            ids = await driver.prepared(count)
            run = await driver.pipelines(ids, in_flight)
            if turn:
                kept.append(run)
    reals, raws = found
    per_s, floor_per_s = (statistics.median(run.per_s for run in runs) for runs in found)
    ms, floor_ms = (statistics.median(run.median_s for run in runs) * 1000 / STEPS for runs in found)
    return {
        "in_flight": in_flight,
        "pipelines_per_s": round(per_s, 2),
        "floor_pipelines_per_s": round(floor_per_s, 2),
        "ratio": round(per_s / floor_per_s, 3),
        "ms_per_step": round(ms, 2),
        "floor_ms_per_step": round(floor_ms, 2),
        "time_ratio": round(ms / floor_ms, 2),
        "messages_per_pipeline": _messages(reals),
        "floor_messages_per_pipeline": _messages(raws),
        "pipelines_per_s_by_turn": [[round(run.per_s, 1) for run in runs] for runs in found],
    }


def _messages(runs: Sequence[Measured]) -> float:
    return round(sum(run.messages for run in runs) / sum(len(run.latencies_s) for run in runs), 2)


async def _whole_tasks(on_real: Driver, on_raw: Driver, size: Size) -> dict[str, Any]:
    reals, raws = [], []
    for turn in range(size.turns + 1):
        for driver, kept in ((on_real, reals), (on_raw, raws)):
            run = await driver.tasks(size.tasks if turn else 2)
            if turn:
                kept.append(run)
    p50, floor_p50 = (statistics.median(run.median_s for run in runs) * 1000 for runs in (reals, raws))
    return {
        "p50_ms": round(p50, 1),
        "floor_p50_ms": round(floor_p50, 1),
        "time_ratio": round(p50 / floor_p50, 2),
        "messages_per_task": _messages(reals),
        "floor_messages_per_task": _messages(raws),
    }


def shown(result: dict[str, Any]) -> Table:
    table = Table(
        title="Five phases through the real conductor and executors, beside raw nats-py moving the same messages",
        caption="Instant provider AND IN-PROCESS DESK in the executors: no git, no edits, no artifact on disk; "
        "tests/bench/model_calls.py measures the real desk.",
    )
    for column in ("sync", "nodes", "in flight", "pipelines/s", "floor", "ratio", "ms/step", "floor", "×", "messages"):
        table.add_column(column, justify="left" if column == "sync" else "right")
    for run in result["runs"]:
        cells = ("sync", "replicas", "in_flight", "pipelines_per_s", "floor_pipelines_per_s", "ratio")
        cells += ("ms_per_step", "floor_ms_per_step", "time_ratio", "messages_per_pipeline")
        table.add_row(*(str(run[cell]) for cell in cells))
    for task in result["feature_task"]:
        took = (f"{task['p50_ms']} ms", f"{task['floor_p50_ms']} ms", f"{task['time_ratio']}×")
        table.add_row(task["sync"], str(task["replicas"]), "1 task", *took, "", "", "", str(task["messages_per_task"]))
    return table


async def all_of(settings: Sequence[tuple[str, int, Sequence[int]]], size: Size) -> dict[str, Any]:
    result: dict[str, Any] = {"runs": [], "feature_task": [], "desk": "in-process", "provider": "in-process, instant"}
    with tempfile.TemporaryDirectory(prefix="factory-bench-") as directory:
        for number, (sync, replicas, in_flight) in enumerate(settings):
            found = await measured(Path(directory) / str(number), sync, replicas, in_flight, size)
            result["runs"] += found["runs"]
            result["feature_task"].append(found["feature_task"])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(prog="just bench-pipeline", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one object")
    parser.add_argument("--quick", action="store_true", help="fewer pipelines per run: ratios are rougher")
    parser.add_argument("--sync", choices=("always", "default"), help="only this one")
    parser.add_argument("--replicas", type=int, choices=(1, 3), help="only on so many nodes")
    parser.add_argument("--in-flight", type=int, choices=(1, 16, 64), help="only so many at once")
    options = parser.parse_args()
    logs.configure("console", "error")
    size = Size(PIPELINES_QUICK, TURNS_QUICK, TASKS_QUICK) if options.quick else Size(PIPELINES, TURNS, TASKS)
    settings = [
        (sync, replicas, [n for n in in_flight if options.in_flight in (None, n)])
        for sync, replicas, in_flight in SETTINGS
        if options.sync in (None, sync) and options.replicas in (None, replicas)
    ]
    started = time.monotonic()
    result = uvloop.run(all_of(settings, size))
    result["took_s"] = round(time.monotonic() - started, 1)
    if options.json:
        print(json.dumps(result))
    else:
        Console(width=120 if not sys.stdout.isatty() else None).print(shown(result))


if __name__ == "__main__":
    main()
