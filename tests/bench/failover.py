"""What it costs when a model is down: time until another answers, tasks lost, money and time beside an untroubled run.

Three runs of the same tasks, whose first choice is claude: nobody fails; single calls of claude fail here and there, so
that its breaker stays closed; claude answers nothing but 500 from beginning to end. Everything is real but the
providers, which are simulated and answer at once, and the gate, which passes every change without looking.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from conductor.submission import task_id_for
from embedded.credentials import ORG
from embedded.nats import running
from eventlog import EventLog, Recorded, connect
from eventlog.bootstrap import bootstrap
from factory.model.v1 import TripCause
from factory.task.v1 import TASK_STATE_AWAITING_REVIEW
from factory_client import Factory
from failover_factory import ACK_WAIT_S, TOKEN
from failover_log import Told, quantiles, told
from policy.models import DEFAULT_MODELS
from rich.console import Console
from rich.table import Table
from runtime import logs
from stage import Providers, providers, sample_remote, until

DOWN, DOWN_MODELS = "claude", "claude*"
TYPE, TITLE = "documentation", "Describe the notes API, part"
PROJECT = "bench"
LANES = ("classifier", "context", "quality_gate", "delivery", *(f"executor-{model}" for model in DEFAULT_MODELS))
TASK_TIMEOUT_S = 300
# Every fifth task meets a failing claude: a server error, which is tried once more after a second, and every second
# time an empty account, which is not. Rarer than what trips a breaker.
TROUBLED_EVERY = 5
UNTROUBLED, HERE_AND_THERE, THROUGHOUT = "none", "here and there", "throughout"


def task_id(number: int) -> str:
    return task_id_for(ORG, PROJECT, str(number))


def trouble(outage: str, tasks: int) -> list[dict[str, object]]:
    """What the simulated providers are to do wrong."""
    match outage:
        case "throughout":
            return [{"model": DOWN_MODELS, "mode": "500", "times": 0}]
        case "here and there":
            return [
                {
                    "model": DOWN_MODELS,
                    "mode": "402" if number % 2 else "500",
                    "times": 0,
                    "client_request_id": f"{task_id(number)}.*",
                }
                for number in range(TROUBLED_EVERY - 1, tasks, TROUBLED_EVERY)
            ]
        case _:
            return []


async def one_task(factory: Factory, number: int) -> None:
    """From submission to pull request."""
    submitted = await factory.submit(f"{TITLE} {number}", project=PROJECT, type=TYPE, scope="focused", key=str(number))
    assert submitted.task_id == task_id(number), "the key tells the task's id"
    async for answer in factory.watch(submitted.task_id):
        if answer.task.state == TASK_STATE_AWAITING_REVIEW:
            shown = await factory.get_change(submitted.task_id)
            await factory.approve(submitted.task_id, shown.change_digest, shown.evidence_digest)


async def driven(address: str, remote: Path, tasks: int, in_flight: int) -> None:
    """Every task to its end, so many at once; one that does not end is counted, and told of by its log."""
    async with Factory(address, TOKEN) as factory:
        await factory.create_project(PROJECT, str(remote))
        gate = asyncio.Semaphore(in_flight)

        async def flown(number: int) -> None:
            async with gate:
                try:
                    await asyncio.wait_for(one_task(factory, number), TASK_TIMEOUT_S)
                except TimeoutError:
                    print(f"task {number} did not end within {TASK_TIMEOUT_S} s", file=sys.stderr)

        await asyncio.gather(*(flown(number) for number in range(tasks)))


async def whole_log(nats_url: str) -> list[Recorded]:
    nc = await connect(nats_url, name="reader")
    try:
        found: list[Recorded] = []
        async with contextlib.aclosing(EventLog(nc, org=ORG, service="reader").follow(after=0)) as batches:
            async for batch in batches:
                if not batch:
                    break
                found += batch
        return found
    finally:
        await nc.close()


async def measured(directory: Path, made: Providers, outage: str, tasks: int, in_flight: int) -> Told:
    """One run on a nats-server and a factory of its own."""
    directory.mkdir(parents=True)
    remote = sample_remote(directory)
    made.misbehave(model="*", mode="none")
    for wish in trouble(outage, tasks):
        made.misbehave(**wish)
    with running(directory / "nats") as server:
        nc = await connect(server.url, name="operator")
        await bootstrap(nc, lanes=LANES, ack_wait_s=ACK_WAIT_S)
        await nc.close()
        log = directory / "factory.log"
        # -P: beside it lies a benchmark with the name of a service
        here = str(Path(__file__).with_name("failover_factory.py"))
        with log.open("wb") as out:
            child = subprocess.Popen([sys.executable, "-P", here, str(directory), server.url, made.url], stderr=out)
        try:
            address = directory / "address"
            await asyncio.to_thread(until, address.exists, "the factory to be ready")
            await driven(address.read_text(), remote, tasks, in_flight)
            return told(await whole_log(server.url))
        finally:
            child.terminate()
            child.wait(30)


def figures(run: Told, tasks: int) -> dict[str, Any]:
    """A run in numbers."""
    failovers, tally = run.failovers(), run.tally
    latencies = run.latencies_s()
    return {
        "completed_percent": round(100 * len(run.completed) / tasks, 2),
        "not_completed": dict(run.others),
        "calls": len(run.calls),
        "failed_calls": run.failed_calls,
        "failed_calls_cost_usd": round(run.failed_tally.cost_pico_usd / 1e12, 6),
        "cost_usd": round(tally.cost_pico_usd / 1e12, 6),
        "uncertain_cost_usd": round(tally.uncertain_cost_pico_usd / 1e12, 6),
        "took_s": round(run.took_s, 1),
        "task_p50_s": round(statistics.median(latencies), 3),
        "failover": {
            "retried_then_rerouted": quantiles([f.took_s for f in failovers if f.failed_calls > 1]),
            "rerouted_at_once": quantiles([f.took_s for f in failovers if f.failed_calls == 1]),
            "before_trip": quantiles([f.took_s for f in failovers if not f.after_trip]),
            "after_trip": quantiles([f.took_s for f in failovers if f.after_trip]),
        },
        "pack_to_first_token": {model: quantiles(run.straight_s(model)) for model in (DOWN, "gpt")},
        "first_asked": dict(Counter(asked[0] for asked in run.asked.values())),
        "reroutes": run.reroutes,
        "breaker": {
            "trips": len(run.trips),
            "causes": [TripCause.Name(cause).removeprefix("TRIP_CAUSE_").lower() for _, cause, _ in run.trips],
            "probes": run.probes,
            "recoveries": run.recoveries,
        },
    }


async def all_of(directory: Path, tasks: int, in_flight: int) -> dict[str, Any]:
    result: dict[str, Any] = {"tasks": tasks, "in_flight": in_flight, "down": DOWN, "gate": "played", "runs": {}}
    with providers(directory / "providers") as made:
        for outage in (UNTROUBLED, HERE_AND_THERE, THROUGHOUT):
            run = await measured(directory / outage.replace(" ", "-"), made, outage, tasks, in_flight)
            result["runs"][outage] = figures(run, tasks)
    calm, worst = result["runs"][UNTROUBLED], result["runs"][THROUGHOUT]
    result["extra"] = {
        "cost_usd": round(worst["cost_usd"] - calm["cost_usd"], 6),
        "cost_percent": round(100 * (worst["cost_usd"] / calm["cost_usd"] - 1), 1),
        "took_s": round(worst["took_s"] - calm["took_s"], 1),
        "task_p50_s": round(worst["task_p50_s"] - calm["task_p50_s"], 3),
        "failed_calls": worst["failed_calls"],
    }
    return result


ROWS = (
    ("tasks with a pull request", lambda run: f"{run['completed_percent']:g} %"),
    ("calls, of them failed", lambda run: f"{run['calls']}, {run['failed_calls']}"),
    ("cost, of it failed calls", lambda run: f"${run['cost_usd']:.4f}, ${run['failed_calls_cost_usd']:.4f}"),
    ("all tasks", lambda run: f"{run['took_s']} s"),
    ("one task, p50", lambda run: f"{run['task_p50_s']} s"),
    ("breaker: trips, probes, recoveries", lambda run: "{trips}, {probes}, {recoveries}".format(**run["breaker"])),
    ("first failure → other's first token", lambda _: ""),
    ("  retried, then rerouted", lambda run: spread(run["failover"]["retried_then_rerouted"])),
    ("  rerouted at once", lambda run: spread(run["failover"]["rerouted_at_once"])),
    ("  before the breaker trips", lambda run: spread(run["failover"]["before_trip"])),
    ("  after it has tripped", lambda run: spread(run["failover"]["after_trip"])),
    ("pack → first token, nothing failed", lambda _: ""),
    ("  claude is asked first", lambda run: spread(run["pack_to_first_token"][DOWN])),
    ("  gpt is asked first: claude is tripped", lambda run: spread(run["pack_to_first_token"]["gpt"])),
)


def spread(found: dict[str, float]) -> str:
    return f"{found['p50_s']:.3f} / {found['p99_s']:.3f} s ({found['n']})" if found["n"] else "—"


def shown(result: dict[str, Any]) -> Table:
    extra = result["extra"]
    table = Table(
        title=f"{result['tasks']} tasks whose first choice is {DOWN}, {result['in_flight']} in flight; "
        "p50 / p99 (how many)",
        caption=f"{DOWN} down throughout costs {extra['cost_percent']:+g} % money ({extra['cost_usd']:+.4f} $), "
        f"{extra['took_s']:+g} s for all tasks, {extra['task_p50_s']:+g} s for one. "
        "Providers are simulated and answer at once; the gate is played, everything else is real.",
    )
    table.add_column(f"failures of {DOWN}")
    for outage in result["runs"]:
        table.add_column(outage, justify="right")
    for what, cell in ROWS:
        table.add_row(what, *(cell(run) for run in result["runs"].values()))
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="just bench-failover", description=__doc__)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--in-flight", type=int, default=4, help="an executor has 4 slots: more would wait there")
    parser.add_argument("--quick", action="store_true", help="40 tasks")
    parser.add_argument("--json", action="store_true", help="one object")
    options = parser.parse_args(arguments)
    logs.configure("console", "error")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="factory-bench-") as directory:
        tasks = min(options.tasks, 40) if options.quick else options.tasks
        result = asyncio.run(all_of(Path(directory), tasks, options.in_flight))
    result["took_s"] = round(time.monotonic() - started, 1)
    if options.json:
        print(json.dumps(result))
    else:
        Console(width=130 if not sys.stdout.isatty() else None).print(shown(result))
    if any(run["completed_percent"] < 100 for run in result["runs"].values()):
        sys.exit("not every task was completed")


if __name__ == "__main__":
    main()
