"""One world, made from one number: its actors, and the scheduler that decides who acts next and what strikes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from conductor.budget import Command, Decision
from conductor.budget import decide as decide_about_money
from conductor.budget_month import Carried, Month, Orders
from conductor.known import Known
from conductor.next_step import decide
from conductor.state import Task
from conductor.world import World as ToDecideIn
from factory.event.v1 import AnyFact
from factory.task.v1 import TaskState
from policy.models import DEFAULT_MODELS
from simulation import people
from simulation.bus import Item, Log, Queue
from simulation.conductors import Conductor
from simulation.executors import Executor
from simulation.process import Handler, Job, Process
from simulation.provider import Outside
from simulation.surroundings import Surroundings
from simulation.weather import CALM, CIVIL
from simulation.workers import Delivery, Worker

TASKS = 3
STEPS_MAX = 200
# So many turns before the trouble begins; they are no steps, for nothing can go wrong in them.
EARLY_TURNS = (0, 0, 0, 60, 150, 300)
# A step lets one actor go on by up to so many effects, until somebody else has the turn: now few, now many.
BURSTS_MAX = (2, 8, 40)
SETTLE_STEPS_MAX = 6_000
ROUNDS_MAX = 40
DOWN_MS_MAX = 20_000
LULLS_MS = (1_000, 5_000, 30_000, 30_000, 120_000, 600_000, 3_600_000, 3 * 3_600_000)
EFFECT_MS_MAX = 40


class Stuck(Exception):
    """The world goes on and on, and comes to no rest; or it rests, and nobody knows what it waits for."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the world is made of. The tests with mistakes put a broken part in the place of one of these."""

    decide: Callable[[Task, ToDecideIn], list[AnyFact]] = decide
    budget: Callable[[Month, Sequence[Command], Orders, Carried], Decision] = decide_about_money
    known: Callable[[], Known] = Known
    log: type[Log] = Log
    conductor: type[Conductor] = Conductor
    executor: type[Executor] = Executor
    worker: type[Worker] = Worker
    delivery: type[Delivery] = Delivery
    outside: type[Outside] = Outside


WHOLE = Parts()


class World(Surroundings):
    """All there is."""

    def __init__(self, seed: int, parts: Parts = WHOLE) -> None:
        super().__init__(seed, parts.log, parts.outside, parts.known)
        self.parts = parts
        self.submissions = {f"task-{n}": people.submission(self.chance, f"Do task {n}") for n in range(1, TASKS + 1)}
        self.conductors = [parts.conductor(self, f"conductor-{n}", "conductor", slots=3) for n in (1, 2)]
        workers: list[Process] = [
            parts.worker(self, f"{lane}-1", lane, slots=2) for lane in ("classifier", "context", "quality_gate")
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

    def run(self) -> None:
        """A seed: trouble for some steps, then calm until everything that can end has ended."""
        for id in self.submissions:
            self.submit(id)
        self.before_the_trouble()
        for _ in range(STEPS_MAX):
            self.steps += 1
            self.step()
        self.counts["tasks that ended in the trouble"] = len(self.truth) - len(self.going_on)
        self.settle()
        for known in self.truth.values():
            ended = TaskState.Name(known.task.ended or TaskState.TASK_STATE_UNSPECIFIED)
            self.counts[f"tasks {ended.removeprefix('TASK_STATE_').lower()}"] += 1

    def before_the_trouble(self) -> None:
        """In some seeds the trouble begins when the tasks have come a long way."""
        trouble, self.weather = self.weather, CIVIL
        for _ in range(self.chance.choice(EARLY_TURNS)):
            if self.happens(self.weather.person) and self.person():
                continue
            if not self.work():
                self.pass_time()
        self.weather = trouble

    def submit(self, id: str) -> None:
        conductor = self.chance.choice(self.conductors)
        conductor.spawn(conductor.submit(id, self.submissions[id]), f"the submission of {id}")

    def hint(self, id: str) -> None:
        if self.happens(self.weather.hint_lost):
            self.counts["hints lost"] += 1
            return
        for process in self.processes:
            for job in process.jobs:
                if job.item is not None and isinstance(process, Executor) and job.item.key[0] == id:
                    self.counts["hints heard"] += 1
                    job.wakes = min(job.wakes, self.now)

    # The scheduler.

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
                if process.down_until > now:
                    continue
                process.down_until = None
                self.tell(process.name, "is up again")
                process.begin()
            if process.jobs:
                able += [(process, job, None, None, None) for job in process.jobs if job.wakes <= now]
            if len(process.jobs) < process.slots:
                for queue, handler in process.sources():
                    if queue.items:
                        able += [(process, None, queue, item, handler) for item in queue.ready(now)]
        reading = [one for one in self.conductors if one.is_ready and one.book.read_to < self.log.head]
        if not able and not reading:
            return False
        chosen = self.chance.randrange(len(able) + len(reading))
        if chosen >= len(able):
            reading[chosen - len(able)].watch(self.replica())
            return True
        process, job, queue, item, handler = able[chosen]
        if job is None:
            assert queue is not None
            assert item is not None
            assert handler is not None
            self.counts["redeliveries"] += bool(item.deliveries)
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
        for queue in (*self.queues.values(), self.heard, self.timers.fired):
            moments += [item.at for item in queue.items.values()]
        if (due := self.timers.next()) is not None:
            moments.append(due)
        later = [moment for moment in moments if moment > self.now]
        if not later:
            return False
        self.now = min(later)
        return True

    # What strikes; False where there is nothing to strike.

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
        """Somebody says something to a conductor, by what they have seen; what they saw may be old."""
        up = [conductor for conductor in self.conductors if conductor.is_ready]
        if not up:
            return False
        conductor = self.chance.choice(up)
        id = self.chance.choice([*self.submissions])
        seen = self.chance.choice(up).kept.get(id)
        if seen is None or self.happens(0.02):
            self.tell("the platform", f"submits {id} to {conductor.name}")
            job = conductor.spawn(conductor.submit(id, self.submissions[id]), f"the submission of {id}")
        elif self.happens(0.05):
            job = conductor.spawn(conductor.hear_budget(people.new_budget(self.chance)), "a new budget")
            self.tell("people", f"{conductor.name} hears ada, who sets a budget")
        elif word := people.word(self.chance, id, seen.task, self.rules):
            who, judge = word
            self.tell("people", f"{conductor.name} hears {who}")
            job = conductor.spawn(conductor.command(id, who, judge), f"the word of {who}")
        else:
            return False
        self.counts["words of people"] += 1
        self.go_on(conductor, job)
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
        is_raised = False
        for _ in range(ROUNDS_MAX):
            self.rest()
            missing = [id for id in self.submissions if id not in self.truth]
            for id in missing:
                self.submit(id)
            if not self.going_on and not missing:
                return
            words = [word for id in self.going_on if (word := people.wanted(id, self.truth[id].task))]
            if not words and not missing:
                raise Stuck(f"{', '.join(self.going_on)}: nothing moves, and nobody is waited for")
            conductor = self.chance.choice(self.conductors)
            if not is_raised and any(self.truth[id].task.hold_budget for id in self.going_on):
                is_raised = True
                self.tell("people", f"{conductor.name} hears ada, who raises the budget")
                conductor.spawn(conductor.hear_budget(people.raised()), "a higher budget")
            else:
                for id, who, judge in words:
                    conductor.spawn(conductor.command(id, who, judge), who)
        raise Stuck(f"after {ROUNDS_MAX} rounds of words, tasks have not ended: {', '.join(self.going_on)}")

    def rest(self) -> None:
        for _ in range(SETTLE_STEPS_MAX):
            if not self.work() and not self.pass_time():
                return
            self.steps += 1
        raise Stuck(f"after {SETTLE_STEPS_MAX} steps of calm, something still moves")
