"""A conductor as `conductor/app.py` has it, one effect after another: what it hears, and what it offers."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from conductor.budget_room import LANE_PREFIX
from conductor.commands import Refused as CommandRefused
from conductor.known import Known
from conductor.next_step import next_due
from conductor.task import NEW, happened
from eventlog import Conflict, Recorded, Tip
from eventlog.work import Request, lane_for
from factory.budget.v1 import BudgetSet
from factory.call.v1 import ModelCalled, ModelCallStarted
from factory.event.v1 import AnyFact
from factory.phase.v1 import PhaseCompleted, PhaseFailed, PhaseRequested
from factory.task.v1 import HOLD_CAUSE_BUDGET, TaskHeld, TaskSubmitted
from simulation.bus import Item, Queue, Stored
from simulation.deciding import Decider
from simulation.process import Doing, Handler
from simulation.reading import TROUBLES

OFFERS_ATTEMPTS_MAX = 5
NAK_DELAY_MAX_S = 60
MONTH_TIMER = "month"


@dataclass
class Conductor(Decider):
    """One of several; they share the durable consumers, and each reads the whole log for itself."""

    armed: dict[tuple[str, str], datetime] = field(default_factory=dict)

    def sources(self) -> Sequence[tuple[Queue, Handler]]:
        return ((self.world.heard, self.hear), (self.world.timers.fired, self.timer)) if self.is_ready else ()

    def begin(self) -> None:
        self.spawn(self.start(), "its start")

    def forget(self) -> None:
        super().forget()
        self.armed.clear()

    def start(self) -> Doing:
        """Nothing is decided before everything that is known has been read; then what was left undone is taken up."""
        yield "asks how long the log is"
        self.history_to = self.world.log.head
        yield from self.reach(self.history_to)
        yield from self.offer_again()

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
        id, facts = stored.event.id, stored.facts
        if not id.startswith("task-") or all(isinstance(fact, ModelCallStarted) for fact in facts):
            return
        known = yield from self.advance(id, stored.sequence, stored.event)
        if any(isinstance(fact, TaskHeld) and fact.cause == HOLD_CAUSE_BUDGET for fact in facts):
            yield f"sets a timer for the next month of {id}"
            self.world.set_timer(id, MONTH_TIMER, next_month(self.world.moment))
        if (asked := known.waited_for()) and asked[0].sequence == stored.sequence:
            yield from self.publish(*asked)
            yield from self.arm(known)
        told = {f.request_id for f in facts if isinstance(f, PhaseCompleted | PhaseFailed | ModelCalled)}
        yield from self.settle(id, known, told)

    def timer(self, item: Item) -> Doing:
        """A time has come: whatever is due is decided, and the work that waited for it is offered if still wanted."""
        queue = self.world.timers.fired
        id, name = item.body
        try:
            if id.startswith(LANE_PREFIX):
                yield from self.lease_timer(id)
            else:
                yield from self.due(id, name)
            yield from self.ack(queue, item)
        except TROUBLES:
            self.nak(queue, item, 1000)

    def due(self, id: str, name: str) -> Doing:
        known = yield from self.fresh(id)
        if known.last is None:
            return
        self.armed.pop((id, name), None)
        known = yield from self.advance(id, known.read_to, None)
        asked = known.waited_for()
        if asked and asked[1].request_id == name:
            yield from self.offer(*asked)
        else:
            self.world.counts["timers for something no longer open"] += 1
        yield from self.arm(known)

    def offer_again(self) -> Doing:
        """Whatever the queue or the timers have lost is made again from the log; what was left alone is decided on."""
        yield from self.watch_again()
        left = sorted(self.book.roster.entries)
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
            yield from self.settle(id, known, set(known.requested))
            yield from self.arm(known)
        except TROUBLES:
            return False
        return True

    # What people ask of it.

    def command(self, id: str, who: str, judge: Callable[[Known], Sequence[AnyFact]]) -> Doing:
        """What somebody asks of a task, judged against the newest state."""
        try:
            yield from self.judge(id, judge)
            yield f"hints that something of {id} may be wanted no more"
            self.world.hint(id)
        except CommandRefused as refused:
            self.world.tell(self.name, f"refuses {who}: {refused}")
            self.world.counts["commands refused"] += 1
        except TROUBLES as trouble:
            self.world.tell(self.name, f"tells {who} of trouble: {trouble!r}")

    def hear_budget(self, fact: BudgetSet) -> Doing:
        try:
            yield from self.set_budget(fact)
        except TROUBLES as trouble:
            self.world.tell(self.name, f"tells {fact.set_by} of trouble: {trouble!r}")

    def submit(self, id: str, fact: TaskSubmitted) -> Doing:
        """A submission becomes a task, once, however often it comes."""
        try:
            world = yield from self.view(id, Known(happened(NEW, fact, self.world.moment)))
            follows = self.world.parts.decide(happened(NEW, fact, world.now), world)
            stored = yield from self.append(id, [fact, *follows], after=Tip(), cause=None)
            yield from self.reach(stored.sequence)
        except Conflict:
            self.world.counts["submissions that were there already"] += 1
        except TROUBLES as trouble:
            self.world.tell(self.name, f"tells the platform of trouble: {trouble!r}")

    # From a request that has come back from the log to a work item, and from deadlines to timers.

    def publish(self, asked: Recorded, request: Request) -> Doing:
        if isinstance(request, PhaseRequested) and request.HasField("not_before"):
            yield f"sets a timer for {request.request_id} of {asked.event.id}"
            self.world.timers.set(asked.event.id, request.request_id, request.not_before.ToMilliseconds())
        else:
            yield from self.offer(asked, request)

    def offer(self, asked: Recorded, request: Request) -> Doing:
        """Offers a request for work; one that draws on a budget only while its money is kept for it."""
        id = asked.event.id
        if isinstance(request, PhaseRequested) and request.budget:
            known = yield from self.known(id, asked.sequence)
            if not (yield from self.confirmed(id, known, request)):
                yield from self.withdraw(id, request.request_id)
                return
        yield f"offers {request.request_id} of {id} to {lane_for(request)}"
        self.world.offer(asked, request)

    def arm(self, known: Known) -> Doing:
        """Sees to it that the task is looked at when its next deadline has passed."""
        due, last, now = next_due(known.task), known.last, self.world.moment
        if due is None or last is None:
            return
        at, name = due
        armed = self.armed.get((last.id, name))
        if armed is not None and now < armed <= at:
            return
        yield f"sets a timer for the deadline of {last.id}"
        self.world.set_timer(last.id, name, at)
        self.armed[last.id, name] = at


def next_month(now: datetime) -> datetime:
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=32)).replace(day=1)
