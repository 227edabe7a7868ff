"""What a storm came to: gathered from the log, the audit, the bill and the repositories, and shown as a matrix."""

import asyncio
import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.reconcile import Comparison, Kind, bill_from, compare
from chaos.points import TARGETS, TASK_KINDS, Point, all_points
from chaos.storm import AGAIN_S, Kill, Storm
from chaos.verdict import (
    Repaid,
    booked_otherwise,
    broken_lanes,
    duplicate_pull_requests,
    ended,
    lost_calls,
    open_calls,
    repaid,
    unexplained,
)
from eventlog import Recorded
from factory_client import FactoryError
from rich.box import SIMPLE_HEAD
from rich.table import Table
from stage import pull_requests

LEDGER_TIMEOUT_S = 120.0
SHORT = {"both conductors": "both", "quality_gate": "gate", "nats-server": "nats"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that must hold, and what was seen."""

    tasks: int
    ended: dict[str, str]
    kills: list[Kill]
    comparison: Comparison
    repaid: list[Repaid]
    duplicates: list[str]
    missing: list[str]
    broken_lanes: list[str]
    open_calls: list[str]
    # reservations that nobody gives back, and by how much the budget differs from what the calls have cost
    leaked: int
    booked_otherwise_pico_usd: int
    fell: list[tuple[str, int]]
    # recorded answers that were read again after a kill, by the executors' own account
    replayed: int
    # which kill a lost call is the work of
    lost: dict[Point, int]
    wanted: frozenset[Point]
    took_s: float

    @property
    def unexplained(self) -> dict[str, int]:
        return unexplained(self.comparison)

    @property
    def faults(self) -> list[str]:
        """What must not be; empty after a storm that was weathered."""
        left = self.tasks - len(self.ended)
        return [
            *([f"{left} tasks have not ended"] if left else []),
            *(f"call {call}: {tokens} tokens unexplained" for call, tokens in self.unexplained.items()),
            *(f"call {one.call_id} pays again for {one.answered_by}: {one.tokens} tokens" for one in self.repaid),
            *(f"task {task}: a pull request too many" for task in self.duplicates),
            *(f"task {task}: a pull request too few" for task in self.missing),
            *(f"lane {lane}: broken" for lane in self.broken_lanes),
            *(f"call {call}: nobody has said how it ended" for call in self.open_calls),
            *([f"{self.leaked} reservations have leaked"] if self.leaked else []),
            *(
                [f"the budget differs from what was spent by {self.booked_otherwise_pico_usd} pico-dollars"]
                if self.booked_otherwise_pico_usd
                else []
            ),
        ]


async def outcome_of(storm: Storm, wanted: Sequence[Point], took_s: float) -> Outcome:
    """Judges a storm that has settled."""
    events = [recorded for recorded in storm.events if recorded.event.id in storm.tasks]
    budget = storm.budget
    assert budget is not None, "a storm that has settled knows its budget"
    comparison = await _comparison(storm)
    billed = {call.call_id: call.billed_tokens or 0 for call in comparison.calls}
    artifacts = storm.house.directory / "artifacts"
    branches = [branch for remote in storm.remotes for branch in pull_requests(remote)]
    records = [json.loads(path.read_text())["task_id"] for remote in storm.remotes for path in _records(remote)]
    duplicates, missing = duplicate_pull_requests(events, branches, records)
    replayed = (line for name in storm.house.processes for line in storm.house.processes[name].lines())
    return Outcome(
        tasks=len(storm.tasks),
        ended=ended(events),
        kills=storm.kills,
        comparison=comparison,
        repaid=repaid(events, billed, lambda digest: _artifact(artifacts, digest)),
        duplicates=duplicates,
        missing=missing,
        broken_lanes=broken_lanes(storm.events),
        open_calls=open_calls(events),
        leaked=budget.open_reservations,
        booked_otherwise_pico_usd=booked_otherwise(storm.events, budget.spent_pico_usd),
        fell=storm.fell,
        replayed=sum(line.get("event") == "call.replayed" for line in replayed),
        lost=_blamed(events, storm.kills),
        wanted=frozenset(wanted),
        took_s=took_s,
    )


async def _comparison(storm: Storm) -> Comparison:
    """The ledger, as the audit tells it once it has seen everything, beside the bill."""
    async with storm.house.factory() as factory, asyncio.timeout(LEDGER_TIMEOUT_S):
        factory.has_seen(storm.last_sequence)
        while True:
            try:
                lines = [line async for line in factory.ledger()]
                return compare(lines, bill_from(storm.providers.bill.read_text()))
            except FactoryError:
                await asyncio.sleep(AGAIN_S)


def _records(remote: Path) -> list[Path]:
    return sorted((remote / "factory" / "pull-requests").glob("*.json"))


def _artifact(root: Path, digest: str) -> dict[str, Any]:
    return json.loads((root / digest[:2] / digest).read_bytes())


def _blamed(events: Sequence[Recorded], kills: Sequence[Kill]) -> dict[Point, int]:
    """For each lost call the last kill of its executor, or of nats-server, before it was given up."""
    found: Counter[Point] = Counter()
    for lane, sequence in lost_calls(events).values():
        guilty = [kill for kill in kills if kill.point.target in (lane, "nats-server") and kill.sequence < sequence]
        own = [kill for kill in guilty if kill.point.target == lane]
        if guilty:
            found[(own or guilty)[-1].point] += 1
    return dict(found)


def as_json(outcome: Outcome) -> dict[str, Any]:
    """One object: the figures first, then the matrix."""
    counts = outcome.comparison.counts
    ends = Counter(outcome.ended.values())
    matrix: dict[str, dict[str, dict[str, int]]] = defaultdict(dict)
    hits = Counter(kill.point for kill in outcome.kills)
    for point in sorted(outcome.wanted | set(hits)):
        matrix[point.target][point.kind] = {"kills": hits[point], "calls_lost": outcome.lost.get(point, 0)}
    return {
        "tasks": outcome.tasks,
        "ended": len(outcome.ended),
        "completed": ends["TaskCompleted"],
        "kills": len(outcome.kills),
        "duplicate_pull_requests": len(outcome.duplicates),
        "missing_pull_requests": len(outcome.missing),
        "unexplained_tokens": sum(outcome.unexplained.values()),
        "repaid_tokens": sum(one.tokens for one in outcome.repaid),
        "repaid_calls": len(outcome.repaid),
        "leaked_reservations": outcome.leaked,
        "budget_differs_pico_usd": outcome.booked_otherwise_pico_usd,
        "billed_tokens": outcome.comparison.billed_tokens,
        "ledger_tokens": outcome.comparison.ledger_tokens,
        "calls": {kind.value: counts[kind] for kind in Kind if counts[kind]},
        "lost": _named(outcome, Kind.LOST),
        "abandoned": _named(outcome, Kind.ABANDONED),
        "answers_read_again": outcome.replayed,
        "points": len(outcome.wanted),
        "points_hit": len(outcome.wanted & set(hits)),
        "services_that_ended_by_themselves": len(outcome.fell),
        "took_s": round(outcome.took_s, 1),
        "faults": outcome.faults,
        "matrix": matrix,
    }


def _named(outcome: Outcome, kind: Kind) -> dict[str, int]:
    """What is billed and not in the ledger, call by call."""
    return {call.call_id: call.billed_tokens or 0 for call in outcome.comparison.calls if call.kind == kind}


def matrix(outcome: Outcome) -> Table:
    """Kill points by services: how often each was killed there, and how many calls were lost by it."""
    hits = Counter(kill.point for kill in outcome.kills)
    points = set(all_points())
    table = Table(
        title="kill -9 as soon as … stands in the log (calls lost by it)", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column("fact")
    for target in TARGETS:
        table.add_column(SHORT.get(target, target.removeprefix("executor-")), justify="right")
    for kind in TASK_KINDS:
        cells = []
        for target in TARGETS:
            point = Point(target, kind)
            lost = f" ({outcome.lost[point]})" if outcome.lost.get(point) else ""
            wanted = point in outcome.wanted
            cells.append(f"{hits[point] or ('0' if wanted else '–')}{lost}" if point in points else "")
        table.add_row(kind, *cells)
    back = [f"{statistics.median(took):.1f} s" if (took := _back(outcome, target)) else "" for target in TARGETS]
    table.add_section()
    table.add_row("ready again, median", *back)
    return table


def _back(outcome: Outcome, target: str) -> list[float]:
    return [kill.ready_after_s for kill in outcome.kills if kill.point.target == target and kill.ready_after_s]


def summary(outcome: Outcome) -> list[str]:
    """What came of it, in sentences."""
    told = as_json(outcome)
    ends = ", ".join(f"{count} {name}" for name, count in Counter(outcome.ended.values()).items())
    lost, abandoned = told["lost"], told["abandoned"]
    return [
        f"{told['tasks']} tasks, {told['ended']} ended ({ends}); {told['kills']} kills in {told['took_s']} s",
        f"{told['points_hit']} of {told['points']} points hit; {len(outcome.fell)} services ended by themselves",
        f"pull requests: {len(outcome.duplicates)} too many, {len(outcome.missing)} too few",
        f"billed {told['billed_tokens']:,} tokens, in the ledger {told['ledger_tokens']:,}: {sum(lost.values()):,} lost"
        f" in {len(lost)} calls, {sum(abandoned.values()):,} abandoned in {len(abandoned)}",
        f"unexplained: {told['unexplained_tokens']} tokens; paid again after a recorded answer: "
        f"{told['repaid_tokens']} tokens ({outcome.replayed} recorded answers read again)",
        f"budget: {outcome.leaked} reservations leaked, booked otherwise than spent: "
        f"{outcome.booked_otherwise_pico_usd} pico-dollars",
        *(f"FAULT {fault}" for fault in outcome.faults),
    ]
