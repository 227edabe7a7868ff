"""Whole worlds by the thousand: the deciders and a model of the bus, under a scheduler that follows from one number.

A seed is three tasks and 200 steps of trouble, then calm until everything has ended. A seed that fails prints its story
and the command that plays it again.
"""

import argparse
import json
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from simulation.invariants import broken
from simulation.world import TASKS, WHOLE, Parts, World

SEEDS = 1_000
STORY_LINES_MAX = 2_000


@dataclass(slots=True)
class Outcome:
    """What came of one seed."""

    seed: int
    world: World
    broken: list[str]

    def told(self) -> str:
        """Its story, in order, and what was broken at the end."""
        lines = [f"seed {self.seed}: {self.world.weather}"]
        lines += [
            f"{step:>5} {_clock(now - self.world.began)}  {who:<20} {what}" for step, now, who, what in self.world.story
        ]
        if len(lines) > STORY_LINES_MAX:
            lines = [
                *lines[:50],
                f"  … {len(lines) - STORY_LINES_MAX} lines left out …",
                *lines[50 - STORY_LINES_MAX :],
            ]
        return "\n".join([*lines, "", *self.broken])


def play(seed: int, parts: Parts = WHOLE) -> Outcome:
    """Plays one seed from its first step to its end."""
    world = World(seed, parts)
    weather = world.weather
    trouble = []
    try:
        world.run()
    except Exception as error:
        # Whatever an actor trips over, the product would: the seed has found it.
        at = traceback.extract_tb(error.__traceback__)[-1]
        trouble = [f"{type(error).__name__}: {error} ({Path(at.filename).name}:{at.lineno})"]
    wrong = broken(world)
    world.weather = weather
    return Outcome(seed, world, [*trouble, *wrong])


def _clock(now: int) -> str:
    seconds, millis = divmod(now, 1000)
    return f"{seconds // 3600:>3}:{seconds // 60 % 60:02}:{seconds % 60:02}.{millis:03}"


@dataclass(slots=True)
class Totals:
    """What all seeds together came to."""

    seeds: int = 0
    failed: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    took_s: float = 0.0

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.counts += outcome.world.counts
        self.counts["events"] += outcome.world.log.head
        if outcome.broken:
            self.failed.append(outcome.seed)

    def as_json(self) -> str:
        return json.dumps(
            {
                "seeds": self.seeds,
                "tasks": self.seeds * TASKS,
                "failed": self.failed,
                "took_s": round(self.took_s, 2),
                "seeds_per_s": round(self.seeds / self.took_s, 1),
                "counts": dict(sorted(self.counts.items())),
            },
            indent=1,
        )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="just simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help=f"how many seeds, from 1 on ({SEEDS})")
    parser.add_argument("--seed", type=int, metavar="K", help="one seed, with its story")
    parser.add_argument("--from", type=int, default=1, dest="first", metavar="K", help="the first seed (1)")
    parser.add_argument("--json", action="store_true", help="figures for machines")
    chosen = parser.parse_args(arguments)
    if chosen.seeds < 1:
        parser.error(f"--seeds: at least 1, found {chosen.seeds}")
    seeds = [chosen.seed] if chosen.seed is not None else range(chosen.first, chosen.first + chosen.seeds)
    totals, began = Totals(), time.process_time()
    for seed in seeds:
        outcome = play(seed)
        totals.add(outcome)
        if outcome.broken or chosen.seed is not None:
            print(outcome.told(), file=sys.stderr if chosen.json else sys.stdout)
        if outcome.broken:
            print(f"play it again: just simulate --seed {seed}\n", file=sys.stderr)
        if sys.stderr.isatty() and totals.seeds % 10 == 0:
            print(f"\r{totals.seeds} of {len(seeds)} seeds, {len(totals.failed)} failed", end="", file=sys.stderr)
    totals.took_s = time.process_time() - began
    print(totals.as_json() if chosen.json else _summary(totals))
    return 1 if totals.failed else 0


def _summary(totals: Totals) -> str:
    lines = [f"{count:>9,}  {what}" for what, count in sorted(totals.counts.items())]
    rate = totals.seeds / totals.took_s
    verdict = f"failed: {', '.join(map(str, totals.failed))}" if totals.failed else "all rules hold"
    return "\n".join([*lines, "", f"{totals.seeds:,} seeds in {totals.took_s:.1f} s ({rate:.0f}/s): {verdict}"])


if __name__ == "__main__":
    sys.exit(main())
