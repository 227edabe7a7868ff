"""A conductor as `conductor/app.py` and its adapters have it, one effect after another.

What it folds and decides is the product's own code; what stands here is only the order in which it reads, decides,
appends, offers and acknowledges.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from conductor.commands import Refused as CommandRefused
from conductor.known import Known
from conductor.world import World
from eventlog import Conflict, Recorded, Stale
from eventlog.work import Ended, Request, lane_for
from factory.call.v1 import ModelCallStarted
from factory.event.v1 import AnyFact, Event
from factory.phase.v1 import PhaseRequested
from simulation.bus import Item, Queue, Stored
from simulation.process import Doing, Handler, Process, Refused

ATTEMPTS_MAX = 12
OFFERS_ATTEMPTS_MAX = 5
NAK_DELAY_MAX_S = 60
LOCKED_MS = 20
DEADLINE_TIMER = "deadline"
TROUBLES = (Stale, Conflict, Refused)

Judge = Callable[[Known, World], Sequence[AnyFact]]


@dataclass
class Conductor(Process):
    """One of several; they share the durable consumers, and each reads the whole log for itself."""

    # how far it has read the log, and every task up to there
    position: int = 0
    kept: dict[str, Known] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    deciding: set[str] = field(default_factory=set)
    armed: dict[str, datetime] = field(default_factory=dict)
    is_ready: bool = False

    def sources(self) -> Sequence[tuple[Queue, Handler]]:
        return ((self.world.heard, self.hear), (self.world.timers.fired, self.timer)) if self.is_ready else ()

    def begin(self) -> None:
        self.spawn(self.start(), "its start")

    def forget(self) -> None:
        self.position = 0
        self.is_ready = False
        for memory in (self.kept, self.ended, self.deciding, self.armed):
            memory.clear()

    def start(self) -> Doing:
        """Nothing is decided before everything that is known has been read; then what was left undone is taken up."""
        yield "asks how long the log is"
        yield from self.reach(self.world.log.head)
        self.is_ready = True
        yield from self.offer_again()

    def watch(self, position: int) -> None:
        """Reads on in the log, up to what some replica has of it."""
        for stored in self.world.log.events[self.position : position]:
            id = stored.event.id
            if (known := self.kept.get(id)) is None:
                known = self.kept[id] = self.world.parts.known()
            known.learn(stored)
            if any(isinstance(fact, Ended) for fact in stored.facts):
                self.ended.add(id)
        self.position = max(self.position, position)

    def reach(self, sequence: int) -> Doing:
        while self.position < sequence:
            self.world.counts["waits for what another has read already"] += 1
            yield f"reads on to {sequence}"
            self.watch(self.world.replica())

    # What it hears.

    def hear(self, item: Item) -> Doing:
        """Something happened: start what follows from it, if anything does."""
        queue = self.world.heard
        try:
            yield from self.follow(item.body)
            yield from self.ack(queue, item)
        except TROUBLES:
            self.nak(queue, item, min(1000 * 2 ** (item.deliveries - 1), NAK_DELAY_MAX_S * 1000))

    def follow(self, stored: Stored) -> Doing:
        if all(isinstance(fact, ModelCallStarted) for fact in stored.facts):
            return
        known = yield from self.advance(stored.event.id, stored.sequence, stored.event)
        if (asked := known.waited_for()) and asked[0].sequence == stored.sequence:
            yield from self.publish(*asked)
            yield from self.arm(known)

    def timer(self, item: Item) -> Doing:
        """A time has come: whatever is due is decided, and the work that waited for it is offered if still wanted."""
        queue = self.world.timers.fired
        try:
            yield from self.due(*item.body)
            yield from self.ack(queue, item)
        except TROUBLES:
            self.nak(queue, item, 1000)

    def due(self, id: str, name: str) -> Doing:
        known = yield from self.fresh(id)
        if name == DEADLINE_TIMER:
            self.armed.pop(id, None)
        if known.last is None:
            return
        known = yield from self.advance(id, known.read_to, None)
        asked = known.waited_for()
        if asked and asked[1].request_id == name:
            yield from self.offer(*asked)
        else:
            self.world.counts["timers for something no longer open"] += 1
        yield from self.arm(known)

    def offer_again(self) -> Doing:
        """Whatever the queue or the timers have lost is made again from the log; what was left alone is decided on."""
        left = [id for id in self.kept if id not in self.ended]
        for attempt in range(OFFERS_ATTEMPTS_MAX):
            failed = []
            for id in left:
                if not (yield from self.taken_up(id)):
                    failed.append(id)
            if not (left := failed):
                return
            yield 1000 * 2**attempt

    def taken_up(self, id: str) -> Generator[str | int, None, bool]:
        try:
            known = yield from self.fresh(id)
            known = yield from self.advance(id, known.read_to, None)
            if asked := known.waited_for():
                yield from self.publish(*asked)
            yield from self.arm(known)
        except TROUBLES:
            return False
        return True

    def command(self, id: str, who: str, judge: Callable[[Known], Sequence[AnyFact]]) -> Doing:
        """What somebody asks of a task, judged against the newest state."""
        try:
            tip = yield from self.last_own(id)
            yield from self.decide(id, lambda known, _: judge(known), tip.sequence, None)
        except CommandRefused as refused:
            self.world.tell(self.name, f"refuses {who}: {refused}")
            self.world.counts["commands refused"] += 1
        except TROUBLES as trouble:
            self.world.tell(self.name, f"tells {who} of trouble: {trouble!r}")

    # From a task to a decision.

    def advance(self, id: str, at_least: int, cause: Event | None) -> Generator[str | int, None, Known]:
        decide = self.world.parts.decide
        return (yield from self.decide(id, lambda known, world: decide(known.task, world), at_least, cause))

    def decide(self, id: str, judge: Judge, at_least: int, cause: Event | None) -> Generator[str | int, None, Known]:
        while id in self.deciding:
            yield LOCKED_MS
        self.deciding.add(id)
        try:
            for _ in range(ATTEMPTS_MAX):
                known = yield from self.known(id, at_least)
                yield f"decides about {id}"
                facts = judge(known, self.world.as_seen_by(self, id, known))
                tip, read_to, last = known.tip, known.read_to, known.last
                if not facts:
                    return known
                try:
                    yield from self.append(id, facts, after=tip, cause=cause or last, read_to=read_to)
                except Conflict:
                    newest = yield from self.last_own(id)
                    at_least = max(at_least, newest.sequence)
                    continue
                return known
        finally:
            self.deciding.discard(id)
        raise Conflict(f"{id!r} changed {ATTEMPTS_MAX} times while it was being decided about")

    def known(self, id: str, at_least: int) -> Generator[str | int, None, Known]:
        """The task as the log has it, including the event at `at_least`."""
        yield from self.reach(at_least)
        return self.kept.setdefault(id, self.world.parts.known())

    def fresh(self, id: str) -> Generator[str | int, None, Known]:
        """The task with everything that any conductor has decided."""
        tip = yield from self.last_own(id)
        return (yield from self.known(id, tip.sequence))

    # From a request that has come back from the log to a work item, and from deadlines to timers.

    def publish(self, asked: Recorded, request: Request) -> Doing:
        if isinstance(request, PhaseRequested) and request.HasField("not_before"):
            yield f"sets a timer for {request.request_id} of {asked.event.id}"
            self.world.timers.set(asked.event.id, request.request_id, request.not_before.ToMilliseconds())
        else:
            yield from self.offer(asked, request)

    def offer(self, asked: Recorded, request: Request) -> Doing:
        yield f"offers {request.request_id} of {asked.event.id} to {lane_for(request)}"
        self.world.offer(asked, request)

    def arm(self, known: Known) -> Doing:
        """Sees to it that the task is looked at when its next deadline has passed."""
        task, last = known.task, known.last
        due = [at for at in (task.deadline, task.open.deadline if task.open else None) if at is not None]
        if task.ended is not None or not due or last is None:
            return
        at, now = min(due), self.world.moment
        armed = self.armed.get(last.id)
        if armed is not None and now < armed <= at:
            return
        yield f"sets a timer for the deadline of {last.id}"
        self.world.timers.set(last.id, DEADLINE_TIMER, int(at.astimezone(UTC).timestamp() * 1000))
        self.armed[last.id] = at
