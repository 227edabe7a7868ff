"""A process of the simulation: some jobs at once, each a generator that stops before every effect, where it may die.

`yield "words"` is the point before an effect; `yield 500` sleeps for so many milliseconds. Whatever stands between two
of them happens as one.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eventlog import Conflict, Past, Stale, Tip
from eventlog.facts import fact_name
from factory.event.v1 import AnyFact, Event
from simulation.bus import Item, Queue, Stored

if TYPE_CHECKING:
    from simulation.world import World

Doing = Generator[str | int, None, Any]
Handler = Callable[[Item], Doing]

STALE_ATTEMPTS_MAX = 3
RETRY_MS = 500


class Refused(Exception):
    """The server did not take an append, and does not hold it."""


@dataclass(slots=True)
class Job:
    """One thing in hand, up to its next effect."""

    doing: Doing
    about: str
    queue: Queue | None = None
    item: Item | None = None
    wakes: int = 0
    next: str = "begins"


@dataclass
class Process:
    """What every service has: queues that it takes from, a lane that it writes, and nothing that outlives a crash."""

    world: "World"
    name: str
    service: str
    slots: int = 1
    jobs: list[Job] = field(default_factory=list)
    down_until: int | None = None

    def sources(self) -> Sequence[tuple[Queue, Handler]]:
        """The queues that it takes from, and what it does with what it takes."""
        return ()

    def begin(self) -> None:
        """What it does when it comes up again."""

    def forget(self) -> None:
        """Loses what it had in memory."""

    def take(self, queue: Queue, item: Item, handler: Handler) -> Job:
        queue.take(item, self.world.now)
        return self.spawn(handler(item), f"{queue.name} {' '.join(item.key)}", queue, item)

    def spawn(self, doing: Doing, about: str, queue: Queue | None = None, item: Item | None = None) -> Job:
        job = Job(doing, about, queue, item)
        self.jobs.append(job)
        return job

    def crash(self, down_until: int) -> None:
        for job in self.jobs:
            job.doing.close()
        self.jobs.clear()
        self.forget()
        self.down_until = down_until

    # What EventLog offers, each effect on its own.

    def read_newer(self, id: str, after: int, at_least: int) -> Generator[str | int, None, tuple[Stored, ...]]:
        """What is newer about one id, as some replica has it; raises Stale if that is not new enough."""
        log = self.world.log
        for _ in range(STALE_ATTEMPTS_MAX):
            yield f"reads {id}"
            newer = log.read(id, after, self.world.replica())
            if (newer[-1].sequence if newer else after) >= at_least:
                return newer
            self.world.counts["reads refused as stale"] += 1
        raise Stale(f"{id!r} was not read up to sequence {at_least}")

    def read(self, id: str, at_least: int, known: Past | None = None) -> Generator[str | int, None, Past]:
        past = known or Past()
        newer = yield from self.read_newer(id, past.read_to, at_least)
        return past + newer

    def last_own(self, id: str) -> Generator[str | int, None, Tip]:
        yield f"asks the leader for its lane of {id}"
        return self.world.log.last(self.service, id)

    def append(
        self, id: str, facts: Sequence[AnyFact], *, after: Tip, cause: Event | None, read_to: int = 0
    ) -> Generator[str | int, None, Stored]:
        world = self.world
        names = ", ".join(fact_name(fact).rpartition(".")[2] for fact in facts)
        yield f"appends {names} to {id}"
        if world.happens(world.weather.refused):
            world.counts["appends refused"] += 1
            raise Refused(f"no answer to an append about {id!r}")
        try:
            stored = world.log.append(self.service, id, facts, after=after, cause=cause, read_to=read_to, at=world.now)
        except Conflict:
            world.counts["conflicts"] += 1
            raise
        world.stored(stored, names)
        return stored

    def report(self, id: str, facts: Sequence[AnyFact], *, cause: Event) -> Generator[str | int, None, Stored]:
        """Appends what is true whatever the own lane says; what was paid for is kept until the log takes it."""
        while True:
            tip = yield from self.last_own(id)
            try:
                return (yield from self.append(id, facts, after=tip, cause=cause))
            except Conflict:
                continue
            except Refused:
                yield RETRY_MS

    def ack(self, queue: Queue, item: Item) -> Generator[str | int, None, None]:
        yield "acknowledges"
        queue.ack(item)

    def nak(self, queue: Queue, item: Item, delay_ms: int) -> None:
        self.world.counts["naks"] += 1
        queue.nak(item, self.world.now + delay_ms)
