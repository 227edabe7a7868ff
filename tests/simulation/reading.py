"""How a conductor reads the whole log, as `conductor/adapters/watcher.py` has it, and what it does about what it reads."""

from collections.abc import Callable
from dataclasses import dataclass, field

from conductor.book import Book
from conductor.known import Known
from conductor.roster import Place
from eventlog import Conflict, Recorded, Stale, Tip
from factory.model.v1 import ModelRecovered, ModelTripped
from policy.preferences import BALANCED
from simulation.process import Doing, Process, Refused

TROUBLES = (Stale, Conflict, Refused)
TRIED_FOR_MONEY_MAX = 8


@dataclass
class Reader(Process):
    """Reads the log in its order, and remembers."""

    book: Book = field(default_factory=Book)
    kept: dict[str, Known] = field(default_factory=dict)
    # what lies before this was over when it came: it is only read
    history_to: int | None = None
    reacting: set[str] = field(default_factory=set)

    @property
    def is_ready(self) -> bool:
        return self.history_to is not None and self.book.read_to >= self.history_to

    def forget(self) -> None:
        self.book = Book()
        self.history_to = None
        self.kept.clear()
        self.reacting.clear()

    def watch(self, position: int) -> None:
        """Reads on in the log, up to what some replica has of it."""
        for stored in self.world.log.events[self.book.read_to : position]:
            self.book.observe(stored)
            self.observe_money(stored)
            if stored.event.id.startswith("task-"):
                self.task(stored.event.id).learn(stored)
        if self.is_ready:
            self.react()

    def reach(self, sequence: int) -> Doing:
        """Waits until the log has been read so far."""
        while self.book.read_to < sequence:
            self.world.counts["waits for what another has read already"] += 1
            yield f"reads on to {sequence}"
            self.watch(self.world.replica())

    def task(self, id: str) -> Known:
        if (known := self.kept.get(id)) is None:
            known = self.kept[id] = self.world.parts.known()
        return known

    def observe_money(self, stored: Recorded) -> None:
        raise NotImplementedError

    def react(self) -> None:
        for fact in self.book.health.due():
            self.beside(f"{fact.model} {fact.type}", lambda fact=fact: self.say(fact))
        for project in sorted(self.book.ordered):
            if self.beside(f"{project} orders", lambda project=project: self.taken_over(project)):
                self.book.ordered.discard(project)
        for project in sorted(self.book.freed):
            if self.beside(project, lambda project=project: self.wake(project)):
                self.book.freed.discard(project)

    def beside(self, what: str, work: Callable[[], Doing]) -> bool:
        """Does something beside the reading, unless it is being done already."""
        if what in self.reacting:
            return False
        self.reacting.add(what)
        self.spawn(self.reaction(what, work()), what)
        return True

    def reaction(self, what: str, work: Doing) -> Doing:
        yield f"sees to {what}"
        try:
            yield from work
        except TROUBLES as trouble:
            self.world.tell(self.name, f"could not see to {what}: {trouble!r}")
        self.reacting.discard(what)

    def say(self, fact: ModelTripped | ModelRecovered) -> Doing:
        """Says what has become of a model's health; another may have been faster, and has said the same."""
        id = f"model-{fact.model}"
        try:
            after = self.book.tips.get(id, Tip())
            stored = yield from self.append(id, [fact], after=after, cause=None, read_to=self.book.read_to)
            yield from self.reach(stored.sequence)
        except Conflict:
            newest = yield from self.last_own(id)
            yield from self.reach(newest.sequence)

    def wake(self, project: str) -> Doing:
        """Lets tasks go on that waited for room or for money: as many as may, the oldest first."""
        roster = self.book.roster
        preferences = self.book.preferences.get(project, BALANCED)
        room = (preferences.max_open_tasks or self.world.rules.open_tasks_max) - roster.open_tasks(project)
        waiting = [
            *roster.waiting(project, Place.FOR_ROOM, room),
            *roster.waiting(project, Place.FOR_MONEY, TRIED_FOR_MONEY_MAX),
        ]
        for id in waiting:
            self.world.counts["tasks woken"] += 1
            try:
                yield from self.go_on_with(id, roster.last_seen(id))
            except TROUBLES as trouble:
                self.world.tell(self.name, f"could not wake {id}: {trouble!r}")

    def taken_over(self, project: str) -> Doing:
        raise NotImplementedError

    def go_on_with(self, id: str, at_least: int) -> Doing:
        raise NotImplementedError
