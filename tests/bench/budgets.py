"""What a budget costs: one admission at an empty and at a full month, and how sixty-four at once share appends.

The state operation is a decision and its fact folded in, without any log. The whole admission is `Budgets.reserve` over
a real nats-server that syncs every write, one at a time; beside it, a bare append of an event of the same size.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from conductor.adapters.budget_lane import FACTS_PER_EVENT_MAX
from conductor.adapters.budgets import Budgets
from conductor.budget import Adopt, Command, Reserve, decide
from conductor.budget_month import NO_ORDERS, Carried, Month, Order, Orders
from conductor.budget_room import WHOLE, NeverMade, Outcome, month_of
from embedded.nats import running
from eventlog import Client, EventLog, Tip, connect
from eventlog.bootstrap import bootstrap
from factory.budget.v1 import BudgetReserved
from factory.project.v1 import SetBudgetRequest
from factory.task.v1 import TaskFailed

NOW = datetime.now(UTC)
MONTH = month_of(NOW)
HARD = 10**15
MODELS = ("claude", "gpt", "gemini", "deepseek")
AT_ONCE = 64


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50 and p99 in microseconds."""
    ordered = sorted(seconds)
    return {f"p{q}_us": round(ordered[min(len(ordered) * q // 100, len(ordered) - 1)] * 1e6, 1) for q in (50, 99)}


def asked(n: int) -> Reserve:
    task = f"{n:026d}"
    until = NOW + timedelta(hours=1)
    return Reserve(f"{task}.implement-1-1", task, "implement-1-1", MODELS[n % 4], 1_000_000, 3, until)


def begun() -> Month:
    month = Month("shop", MONTH)
    orders = Orders({model: Order(HARD, HARD // 2, "bench", "", MONTH) for model in (WHOLE, *MODELS)}, 1)
    month.evolve(decide(month, [Adopt()], orders, Carried()).facts, 1)
    return month


def state(reservations: int, operations: int) -> dict[str, Any]:
    """Deciding about one admission and folding it in, at a month that holds so many open reservations."""
    month = begun()

    def admit(commands: Sequence[Command]) -> None:
        month.evolve(decide(month, commands, NO_ORDERS, Carried()).facts, 1)

    for start in range(0, reservations, FACTS_PER_EVENT_MAX):
        admit([asked(n) for n in range(start, min(start + FACTS_PER_EVENT_MAX, reservations))])
    assert month.open == reservations
    commands = [asked(reservations + n) for n in range(operations)]
    return {"reservations": reservations, **quantiles([timed(lambda c=command: admit([c])) for command in commands])}


def timed(what: Callable[[], None]) -> float:
    start = time.perf_counter()
    what()
    return time.perf_counter() - start


async def never_made(task_id: str, request_id: str, model: str) -> Outcome:
    return NeverMade()


async def nothing_spent(project: str, month: str) -> Carried:
    return Carried()


async def over_jetstream(nc: Client, reservations: int, operations: int) -> dict[str, Any]:
    """A whole admission, one at a time, and sixty-four at once."""
    project = f"shop-{reservations}"
    log = EventLog(nc, org="main", service="conductor")
    budgets = Budgets(log, nc, never_made, nothing_spent, lease=timedelta(hours=1))
    await budgets.set(SetBudgetRequest(project=project, hard_pico_usd=HARD), "bench")

    async def reserve(n: int) -> None:
        one = asked(n)
        await budgets.reserve(project, MONTH, one.task_id, one.request_id, one.model, one.worst_case, one.calls_max)

    start = time.perf_counter()
    for first in range(0, reservations, 4_096):
        await asyncio.gather(*(reserve(n) for n in range(first, min(first + 4_096, reservations))))
    filled_s = time.perf_counter() - start
    alone = []
    for n in range(operations):
        start = time.perf_counter()
        await reserve(reservations + n)
        alone.append(time.perf_counter() - start)
    before = await appends(log, project)
    start = time.perf_counter()
    await asyncio.gather(*(reserve(reservations + operations + n) for n in range(AT_ONCE)))
    at_once_s = time.perf_counter() - start
    there = await budgets.standings(project, MONTH)
    assert there[0].open == reservations + operations + AT_ONCE, there
    late = Budgets(log, nc, never_made, nothing_spent)
    start = time.perf_counter()
    assert (await late.get(project, MONTH))[0].reserved == there[0].reserved
    read_s = time.perf_counter() - start
    return {
        "reservations": reservations,
        **quantiles(alone),
        "appends_for_64_at_once": await appends(log, project) - before,
        "ms_for_64_at_once": round(at_once_s * 1e3, 1),
        "admissions_per_s_while_filling": round(reservations / filled_s) if reservations else None,
        "ms_to_read_the_lane": round(read_s * 1e3, 1),
    }


async def two_conductors(nc: Client) -> dict[str, Any]:
    """Sixty-four admissions at once, shared by two conductors that race, at a limit that lets half of them through."""
    log = EventLog(nc, org="main", service="conductor")
    both = [Budgets(log, nc, never_made, nothing_spent) for _ in range(2)]
    limit = SetBudgetRequest(project="race", hard_pico_usd=AT_ONCE // 2 * 1_000_000)
    await both[0].set(limit, "bench")
    await both[1].get("race", MONTH)
    start = time.perf_counter()
    await asyncio.gather(
        *(both[n % 2].reserve("race", MONTH, f"t{n}", "implement-1-1", "gpt", 1_000_000, 1) for n in range(AT_ONCE))
    )
    took_s = time.perf_counter() - start
    whole = (await both[0].get("race", MONTH))[0]
    over = max(whole.reserved + whole.spent - limit.hard_pico_usd, 0)
    return {
        "admitted": whole.open,
        "overshoot": over,
        "appends": await appends(log, "race"),
        "ms": round(took_s * 1e3, 1),
    }


async def appends(log: EventLog, project: str) -> int:
    """Events with reservations on a project's lane."""
    past = await log.read(f"budget-{project}-{MONTH}")
    return sum(any(isinstance(fact, BudgetReserved) for fact in recorded.facts) for recorded in past.events)


async def floor(nc: Client, operations: int) -> dict[str, float]:
    """A bare append of about the same size, one at a time."""
    log = EventLog(nc, org="main", service="conductor")
    tip, times = Tip(), []
    for _ in range(operations):
        start = time.perf_counter()
        tip = (await log.append("floor", [TaskFailed(reason="x" * 150)], after=tip)).tip
        times.append(time.perf_counter() - start)
    return quantiles(times)


async def measured(reservations: int, operations: int) -> dict[str, Any]:
    found: dict[str, Any] = {"state": [state(n, 10 * operations) for n in (0, reservations)]}
    with tempfile.TemporaryDirectory() as directory, running(Path(directory) / "nats") as server:
        nc = await connect(server.url, name="bench")
        await bootstrap(nc, lanes=["classifier"])
        found["append"] = await floor(nc, operations)
        found["jetstream"] = [await over_jetstream(nc, n, operations) for n in (0, reservations)]
        found["two_conductors"] = await two_conductors(nc)
        await nc.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reservations", type=int, default=100_000)
    parser.add_argument("--operations", type=int, default=1_000)
    options = parser.parse_args()
    json.dump(asyncio.run(measured(options.reservations, options.operations)), sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
