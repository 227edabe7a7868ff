"""kill -9 of each service, and of nats-server, at every kind of fact, under tasks in flight and providers that misbehave.

It settles, and then: every task has ended, with one pull request each; the ledger equals the bill but for calls that
are named as lost or abandoned; and nothing was paid for again after its answer stood in the log. The gate is the real
one, so the repository is tiny and most plans are short.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from chaos.outcome import Outcome, as_json, matrix, outcome_of, summary
from chaos.points import Point, all_points
from chaos.storm import Say, Storm
from chaos.tasks import REMOTES, tiny_remote
from rich.console import Console
from runtime import logs
from stage import providers
from stage_apart import apart

TASKS, TASKS_MAX = 50, 110
SHORT_TASKS = 6
# The ends of what costs money, and of what people see.
SHORT_POINTS = (
    Point("both conductors", "PhaseRequested"),
    Point("conductor", "BudgetReserved"),
    Point("executor-claude", "ModelCallStarted"),
    Point("executor-gpt", "ModelCalled"),
    Point("nats-server", "PhaseCompleted"),
    Point("quality_gate", "GateRequested"),
    Point("conductor", "TaskApproved"),
    Point("delivery", "DeliveryRequested"),
)
# A call takes some tenths of a second: long enough to be killed in the middle of it.
PACE = ("--tokens-per-second", "1500", "--first-token-delay", "0.1")
# Of the matrix, where nobody says how wide the screen is.
WIDTH = 130
# Whoever hangs is given up after it.
CALL_TIMEOUT_S = 12
# A reservation whose conductor has died is looked up after it.
LEASE_S = 20


async def weather(
    directory: Path, *, tasks: int, tasks_max: int, points: Sequence[Point], times: int, seed: int, say: Say
) -> Outcome:
    """One storm from its beginning to its verdict."""
    remotes = [tiny_remote(directory / "remotes" / str(number)) for number in range(REMOTES)]
    with (
        providers(directory / "providers", *PACE) as made,
        apart(
            directory,
            made.url,
            FACTORY_EXECUTOR_CALL_TIMEOUT_S=str(CALL_TIMEOUT_S),
            FACTORY_BUDGET_LEASE_S=str(LEASE_S),
        ) as house,
    ):
        wanted = Counter(dict.fromkeys(points, times))
        storm = Storm(house, made, remotes, random.Random(seed), wanted, tasks_max, say)
        began = time.monotonic()
        await storm.run(tasks)
        return await outcome_of(storm, points, time.monotonic() - began)


def main() -> None:
    parser = argparse.ArgumentParser(prog="just chaos", description=__doc__)
    parser.add_argument("--short", action="store_true", help=f"{SHORT_TASKS} tasks and {len(SHORT_POINTS)} kills")
    parser.add_argument("--json", action="store_true", help="one object")
    parser.add_argument(
        "--tasks", type=int, default=TASKS, help="in flight at the start; more follow while points are left"
    )
    parser.add_argument("--times", type=int, default=1, help="kills per point")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="an empty directory that is to be kept, with all logs")
    options = parser.parse_args()
    logs.configure("console", "critical")
    with tempfile.TemporaryDirectory(prefix="factory-chaos-") as scratch:
        directory = options.keep or Path(scratch)
        directory.mkdir(parents=True, exist_ok=True)
        tasks = SHORT_TASKS if options.short else options.tasks
        outcome = asyncio.run(
            weather(
                directory.resolve(),
                tasks=tasks,
                tasks_max=tasks if options.short else max(TASKS_MAX, tasks),
                points=SHORT_POINTS if options.short else all_points(),
                times=options.times,
                seed=options.seed,
                say=lambda line: print(line, file=sys.stderr, flush=True),
            )
        )
    if options.json:
        print(json.dumps(as_json(outcome)))
    else:
        console = Console(soft_wrap=True)
        console.width = max(console.width, WIDTH)
        console.print(matrix(outcome))
        for line in summary(outcome):
            console.print(line, highlight=False)
    sys.exit(1 if outcome.faults else 0)


if __name__ == "__main__":
    main()
