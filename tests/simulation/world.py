"""One world, made from one number: its actors, its bus, its time, and the scheduler that decides who acts next.

Everything that happens follows from the seed: one source of chance, no clock but its own, no order but that of lists.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random

from conductor.known import Known
from conductor.next_step import decide, spent
from conductor.state import Task
from conductor.world import World as ToDecideIn
from eventlog import Recorded, Tip
from eventlog.work import Request, Result, lane_for
from factory.event.v1 import AnyFact
from factory.price.v1 import PricePublished, PriceTier
from factory.task.v1 import ClassificationRequested, RequestExpired
from policy.models import DEFAULT_MODELS
from policy.prices import PriceBook
from simulation import people
from simulation.bus import Item, Log, Queue, Stored, Timers
from simulation.conductors import Conductor
from simulation.executors import Executor
from simulation.process import Handler, Job, Process
from simulation.provider import Outside
from simulation.weather import CALM, drawn
from simulation.workers import Delivery, Worker

TASKS = 3
STEPS_MAX = 200
# A step lets one actor go on by up to so many effects, until somebody else has the turn: now few, now many.
BURSTS_MAX = (2, 8, 40)
SETTLE_STEPS_MAX = 5_000
ROUNDS_MAX = 40
DOWN_MS_MAX = 20_000
LULLS_MS = (1_000, 5_000, 30_000, 30_000, 120_000, 600_000, 3_600_000, 3 * 3_600_000)
EFFECT_MS_MAX = 40
# In the calm everything that is wanted is being worked on, and takes less than this.
PATIENCE_MS = 20 * 60_000
BASE = datetime(2026, 11, 23, 12, tzinfo=UTC)
BASE_MS = int(BASE.timestamp() * 1000)
ORG = "acme"

PRICES = PriceBook(
    (
        PricePublished(
            provider=model.provider,
            provider_model=model.provider_model,
            version="1",
            tiers=[PriceTier(input_pico_usd=3_000_000, output_pico_usd=15_000_000)],
        ),
        BASE - timedelta(days=1),
    )
    for model in DEFAULT_MODELS.values()
)


class Stuck(Exception):
    """The world goes on and on, and comes to no rest."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the world is made of. The teeth tests put a broken part in the place of one of these."""

    decide: Callable[[Task, ToDecideIn], list[AnyFact]] = decide
    known: Callable[[], Known] = Known
    log: type[Log] = Log
    conductor: type[Conductor] = Conductor
    executor: type[Executor] = Executor
    worker: type[Worker] = Worker
    delivery: type[Delivery] = Delivery
    outside: type[Outside] = Outside


WHOLE = Parts()


class World:
    """All there is."""

    def __init__(self, seed: int, parts: Parts = WHOLE) -> None:
        self.seed = seed
        self.parts = parts
        self.chance = Random(seed)
        self.weather = drawn(self.chance)
        self.now = BASE_MS
        self.steps = 0
        self.log = parts.log()
        self.heard = Queue("event")
        self.timers = Timers()
        self.outside = parts.outside()
        self.counts: Counter[str] = Counter()
        self.story: list[tuple[int, int, str, str]] = []
        # every task as the whole log has it
        self.truth: dict[str, Known] = {}
        self.wrong: list[str] = []
        self.calm_since: int | None = None
        self.conductors = [parts.conductor(self, f"conductor-{n}", "conductor", slots=3) for n in (1, 2)]
        workers: list[Process] = [
            parts.worker(self, f"{lane}-{n}", lane, slots=2)
            for lane in ("classifier", "context", "quality_gate")
            for n in (1,)
        ]
        workers += [parts.delivery(self, f"delivery-{n}", "delivery") for n in (1, 2)]
        workers += [
            parts.executor(self, f"executor-{name}-{n}", f"executor-{name}", slots=2)
            for name in DEFAULT_MODELS
            for n in (1, 2)
        ]
        self.queues = {process.service: Queue("work") for process in workers}
        self.processes: list[Process] = [*self.conductors, *workers]
        for process in self.processes:
            process.begin()

    # What actors ask of the world.

    @property
    def moment(self) -> datetime:
        return BASE + timedelta(milliseconds=self.now - BASE_MS)

    def happens(self, probability: float) -> bool:
        return probability > 0 and self.chance.random() < probability

    def replica(self) -> int:
        """How far the replica is that answers a read."""
        head = self.log.head
        if self.happens(self.weather.stale):
            self.counts["stale reads"] += 1
            return self.chance.randint(max(head - 12, 0), head)
        return head

    def tell(self, who: str, what: str) -> None:
        self.story.append((self.steps, self.now, who, what))

    def stored(self, stored: Stored, names: str) -> None:
        """An event is in the log: the conductors will hear of it."""
        self.tell(stored.event.producer, f"said {names} about {stored.event.id} (sequence {stored.sequence})")
        self.heard.offer((str(stored.sequence),), stored, self.now)
        known = self.truth.setdefault(stored.event.id, self.parts.known())
        before = known.task
        known.learn(stored)
        if (late := late_result(before, stored)) and known.task is not before:
            self.wrong.append(f"what comes late changes nothing: {late} has changed {stored.event.id}")
        self.counts["late results"] += bool(late)
        if self.calm_since is not None:
            self.wrong += [
                f"no work is lost: {fact.request_id} of {stored.event.id} expires, and nobody is working on it"
                for fact in stored.facts
                if isinstance(fact, RequestExpired) and fact.deadline.ToMilliseconds() > self.calm_since + PATIENCE_MS
            ]

    def offer(self, asked: Recorded, request: Request) -> None:
        """A work item; one that is there already stays as it is."""
        queue = self.queues[lane_for(request)]
        if not queue.offer((asked.event.id, request.request_id), (asked, request), self.now):
            self.counts["offers of what was offered already"] += 1

    def as_seen_by(self, conductor: Conductor, id: str, known: Known) -> ToDecideIn:
        """What deciding about a task needs, as far as this conductor has read."""
        limited = known.task.max_cost_pico_usd is not None
        return ToDecideIn(
            DEFAULT_MODELS,
            {},
            PRICES,
            self.moment,
            spent_pico_usd=spent(known.calls.values(), PRICES) if limited else 0,
            read_to=conductor.position,
        )

    # The scheduler.

    def run(self) -> None:
        """A seed: trouble for some steps, then calm until everything that can end has ended."""
        for number in range(1, TASKS + 1):
            self.submit(f"task-{number}")
        for _ in range(STEPS_MAX):
            self.steps += 1
            self.step()
        self.counts["tasks that ended in the trouble"] = TASKS - len(self.going_on)
        self.settle()

    def submit(self, id: str) -> None:
        submitted = people.submission(self.chance, f"Do {id}")
        facts = [submitted, ClassificationRequested(request_id="classification-1-1")]
        stored = self.log.append("conductor", id, facts, after=Tip(), cause=None, read_to=0, at=self.now)
        self.stored(stored, "TaskSubmitted, ClassificationRequested")

    @property
    def going_on(self) -> list[str]:
        return [id for id, known in self.truth.items() if known.task.ended is None]

    def step(self) -> None:
        """What strikes, if anything does; else somebody goes on."""
        weather, dice = self.weather, self.chance.random()
        for probability, strike in (
            (weather.crash, self.crash),
            (weather.duplicate, self.duplicate),
            (weather.wiped, self.wipe),
            (weather.person, self.person),
            (weather.lull, self.lull),
        ):
            if dice < probability:
                if strike():
                    return
                break
            dice -= probability
        while not self.work():
            if not self.pass_time():
                return

    def work(self) -> bool:
        """Lets somebody who can go on do so; False if nobody can."""
        self.fire()
        now = self.now
        able: list[tuple[Process, Job | None, Queue | None, Item | None, Handler | None]] = []
        for process in self.processes:
            if process.down_until is not None:
                if process.down_until <= now:
                    process.down_until = None
                    self.tell(process.name, "is up again")
                    process.begin()
                else:
                    continue
            if process.jobs:
                able += [(process, job, None, None, None) for job in process.jobs if job.wakes <= now]
            if len(process.jobs) < process.slots:
                for queue, handler in process.sources():
                    if queue.items:
                        able += [(process, None, queue, item, handler) for item in queue.ready(now)]
        if not able:
            return False
        process, job, queue, item, handler = self.chance.choice(able)
        if job is None:
            assert queue is not None
            assert item is not None
            assert handler is not None
            if item.deliveries:
                self.counts["redeliveries"] += 1
            job = process.take(queue, item, handler)
        self.go_on(process, job)
        return True

    def go_on(self, process: Process, job: Job) -> None:
        """One actor's turn: some effects, one after another."""
        for _ in range(self.chance.randint(1, self.chance.choice(BURSTS_MAX))):
            self.now += self.chance.randint(1, EFFECT_MS_MAX)
            try:
                told = next(job.doing)
            except StopIteration:
                process.jobs.remove(job)
                return
            if isinstance(told, int):
                job.wakes = self.now + told
                if job.queue is not None and job.item is not None:
                    job.queue.in_progress(job.item, job.wakes)
                return
            job.next = told
            self.counts["effects"] += 1

    def fire(self) -> None:
        due = self.timers.next()
        if due is not None and due <= self.now:
            twice = self.happens(self.weather.timer_twice)
            self.counts["timers fired"] += self.timers.fire(self.now, twice)
            self.counts["timers fired twice"] += twice

    def pass_time(self) -> bool:
        """Nobody can do anything now: on to the moment when somebody can. False if there is none."""
        moments = [job.wakes for process in self.processes for job in process.jobs]
        moments += [process.down_until for process in self.processes if process.down_until is not None]
        moments += [
            item.at for queue in (*self.queues.values(), self.heard, self.timers.fired) for item in queue.items.values()
        ]
        if (due := self.timers.next()) is not None:
            moments.append(due)
        later = [moment for moment in moments if moment > self.now]
        if not later:
            return False
        self.now = min(later)
        return True

    # What strikes.

    def crash(self) -> bool:
        busy = [process for process in self.processes if process.jobs]
        if not busy:
            return False
        process = self.chance.choice(busy)
        self.counts["crashes"] += 1
        self.counts[f"crashes of {process.service.partition('-')[0]}"] += 1
        before = "; ".join(f"{job.about}: {job.next}" for job in process.jobs)
        self.tell(process.name, f"is killed before it {before}")
        process.crash(self.now + self.chance.randint(1, DOWN_MS_MAX))
        return True

    def duplicate(self) -> bool:
        """An item whose taker lives is handed to somebody else as well: its taker was too slow to say that it lives."""
        held = [(p, job) for p in self.processes for job in p.jobs if job.item is not None and not job.item.is_done]
        if not held:
            return False
        holder, job = self.chance.choice(held)
        assert job.queue is not None
        assert job.item is not None
        takers = [
            (process, handler)
            for process in self.processes
            if process.service == holder.service and process.down_until is None and len(process.jobs) < process.slots
            for queue, handler in process.sources()
            if queue is job.queue
        ]
        if not takers:
            return False
        process, handler = self.chance.choice(takers)
        self.counts["duplicates"] += 1
        self.tell(process.name, f"gets {job.about} too, which {holder.name} has in hand")
        self.go_on(process, process.take(job.queue, job.item, handler))
        return True

    def wipe(self) -> bool:
        """The work queue and the timers are lost; the conductors are started again, as operators do then."""
        self.counts["queues and timers lost"] += 1
        self.tell("operator", "has lost the work queue and the timers, and starts the conductors again")
        for queue in self.queues.values():
            queue.items.clear()
        self.timers.due.clear()
        for conductor in self.conductors:
            conductor.crash(self.now + self.chance.randint(1, DOWN_MS_MAX))
        return True

    def person(self) -> bool:
        id = self.chance.choice([*self.truth])
        up = [conductor for conductor in self.conductors if conductor.is_ready]
        if not up:
            return False
        seen = self.chance.choice(up).kept.get(id)
        word = people.word(self.chance, id, seen.task) if seen else None
        if word is None:
            return False
        who, judge = word
        conductor = self.chance.choice(up)
        self.counts["words of people"] += 1
        self.tell("people", f"{conductor.name} hears {who}")
        self.go_on(conductor, conductor.spawn(conductor.command(id, who, judge), f"the word of {who}"))
        return True

    def lull(self) -> bool:
        """Nobody gets anything done for a while."""
        self.now += self.chance.choice(LULLS_MS)
        self.counts["lulls"] += 1
        return True

    # The calm.

    def settle(self) -> None:
        """Runs until nothing moves any more; people then say what tasks wait for, until all have ended."""
        self.weather = CALM
        self.calm_since = self.now
        for process in self.processes:
            process.down_until = self.now if process.down_until is not None else None
        for _ in range(ROUNDS_MAX):
            self.rest()
            if not (waiting := self.going_on):
                return
            words = [word for id in waiting if (word := self.wanted(id, self.truth[id].task))]
            if not words:
                raise Stuck(f"{', '.join(waiting)}: nothing moves, and nobody is waited for")
            for id, who, judge in words:
                conductor = self.chance.choice(self.conductors)
                conductor.spawn(conductor.command(id, who, judge), who)
        raise Stuck(f"after {ROUNDS_MAX} rounds of words, tasks have not ended: {', '.join(self.going_on)}")

    def rest(self) -> None:
        for _ in range(SETTLE_STEPS_MAX):
            if not self.work() and not self.pass_time():
                return
            self.steps += 1
        raise Stuck(f"after {SETTLE_STEPS_MAX} steps of calm, something still moves")

    def wanted(self, id: str, task: Task) -> tuple[str, str, people.Judge] | None:
        """What a task at rest waits for somebody to say; None if it waits for nobody."""
        if task.held:
            limits = people.Limits(max_cost_pico_usd=people.RAISED)
            return id, "ada, who releases it", people.releasing(id, "ada", limits)
        if task.awaiting_review:
            seen = people.Seen(task.change, task.evidence)
            return id, "ada, who approves it", people.approving(id, "ada", seen)
        return None


def late_result(before: Task, stored: Stored) -> str:
    """The answer in this event to a request that was not open any more; "" where there is none."""
    open_id = before.open.request_id if before.open else ""
    results = [fact.request_id for fact in stored.facts if isinstance(fact, Result)]
    return results[0] if results and open_id not in results else ""
