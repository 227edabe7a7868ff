"""What actors stand in: the bus, the world outside, time, chance, and the truth that no actor sees whole.

Everything that happens follows from the seed: one source of chance, no clock but its own, no order but that of lists.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from random import Random

from conductor.book import Book
from conductor.known import Known
from conductor.rules import Rules
from conductor.state import Task
from eventlog import Recorded
from eventlog.work import Request, Result, lane_for
from factory.budget.v1 import BudgetSet
from factory.event.v1 import AnyFact
from factory.model.v1 import ModelProbed
from factory.price.v1 import PricePublished, PriceTier
from factory.project.v1 import PreferenceMode, Preferences, PreferencesSaved, ProjectCreated
from factory.task.v1 import RequestExpired
from policy.health import tripped_by_hand
from policy.models import DEFAULT_MODELS
from policy.prices import PriceBook
from simulation.bus import Log, Queue, Stored, Timers
from simulation.provider import Outside
from simulation.weather import drawn

PROJECT = "shop"
# In the calm everything that is wanted is being worked on, and takes less than this.
PATIENCE_MS = 20 * 60_000
# One of these is when a seed begins; the second sees a month end.
BEGINNINGS = (datetime(2026, 11, 23, 12, tzinfo=UTC), datetime(2026, 11, 30, 23, 40, tzinfo=UTC))
BEHIND_MAX = 12

PRICED = [
    PricePublished(
        provider=model.provider,
        provider_model=model.provider_model,
        version="1",
        tiers=[PriceTier(input_pico_usd=3_000_000, output_pico_usd=15_000_000)],
    )
    for model in DEFAULT_MODELS.values()
]
PRICES = PriceBook((fact, BEGINNINGS[0] - timedelta(days=1)) for fact in PRICED)
# Of a month, in pico-dollars: from what one phase needs to what all need; None is no budget at all.
BUDGETS = (None, 2 * 10**12, 4 * 10**12, 10**13, 10**15)
OPEN_TASKS = (0, 0, 1, 2)
# How often a model's breaker is open when the seed begins, and for how long.
TRIPPED = 0.25
PAUSES_S = (1, 60, 900)
MODES = (
    PreferenceMode.PREFERENCE_MODE_BALANCED,
    PreferenceMode.PREFERENCE_MODE_QUALITY,
    PreferenceMode.PREFERENCE_MODE_COST,
)


class Surroundings:
    """What every actor has around it."""

    def __init__(self, seed: int, log: type[Log], outside: type[Outside], known: Callable[[], Known]) -> None:
        self.seed = seed
        self.chance = Random(seed)
        self.weather = drawn(self.chance)
        self.began = int(self.chance.choice(BEGINNINGS).timestamp() * 1000)
        self.now = self.began
        self.steps = 0
        self.log = log()
        self.heard = Queue("event")
        self.queues: dict[str, Queue] = {}
        self.timers = Timers()
        self.outside = outside()
        self.rules = Rules(DEFAULT_MODELS, {})
        self.counts: Counter[str] = Counter()
        self.story: list[tuple[int, int, str, str]] = []
        self.calm_since: int | None = None
        # every task, and everything else, as the whole log has it
        self.truth: dict[str, Known] = {}
        self.book = Book()
        self.wrong: list[str] = []
        self._known = known
        self._settings()

    @property
    def moment(self) -> datetime:
        return BEGINNINGS[0] + timedelta(milliseconds=self.now - int(BEGINNINGS[0].timestamp() * 1000))

    @property
    def going_on(self) -> list[str]:
        return [id for id, known in self.truth.items() if known.task.ended is None]

    def happens(self, probability: float) -> bool:
        return probability > 0 and self.chance.random() < probability

    def replica(self) -> int:
        """How far the replica is that answers a read."""
        head = self.log.head
        if self.happens(self.weather.stale):
            self.counts["stale reads"] += 1
            return self.chance.randint(max(head - BEHIND_MAX, 0), head)
        return head

    def tell(self, who: str, what: str) -> None:
        self.story.append((self.steps, self.now, who, what))

    def offer(self, asked: Recorded, request: Request) -> None:
        """A work item; one that is there already stays as it is."""
        queue = self.queues[lane_for(request)]
        if not queue.offer((asked.event.id, request.request_id), (asked, request), self.now):
            self.counts["offers of what was offered already"] += 1

    def hint(self, id: str) -> None:
        """Whoever works on a task looks up; nobody stores this, and it may be lost."""
        raise NotImplementedError

    def set_timer(self, id: str, name: str, at: datetime) -> None:
        self.timers.set(id, name, int(at.timestamp() * 1000))

    def stored(self, stored: Stored, names: str) -> None:
        """An event is in the log: the conductors will hear of it."""
        self.tell(stored.event.producer, f"said {names} about {stored.event.id} (sequence {stored.sequence})")
        self.heard.offer((str(stored.sequence),), stored, self.now)
        self.wrong += self._probed_twice(stored)
        self.book.observe(stored)
        if not stored.event.id.startswith("task-"):
            return
        known = self.truth.setdefault(stored.event.id, self._known())
        before = known.task
        known.learn(stored)
        if late := late_result(before, stored):
            self.counts["late results"] += 1
            if known.task is not before:
                self.wrong.append(f"what comes late changes nothing: {late} has changed {stored.event.id}")
        self.wrong += self._lost(stored)

    def _lost(self, stored: Stored) -> Iterator[str]:
        """In the calm nothing waits for its deadline: somebody is working on it, or it is lost."""
        for fact in stored.facts:
            if isinstance(fact, RequestExpired):
                self.counts["requests expired"] += 1
                late = fact.deadline.ToMilliseconds() if fact.HasField("deadline") else 0
                if self.calm_since is not None and late > self.calm_since + PATIENCE_MS:
                    yield f"no work is lost: {fact.request_id} of {stored.event.id} expires, nobody is working on it"

    def _probed_twice(self, stored: Stored) -> Iterator[str]:
        for fact in stored.facts:
            if isinstance(fact, ModelProbed):
                status = self.book.health.status(fact.model, fact.type, self.moment)
                if status.probe_pending:
                    under_way = f"{status.probe_task}.{status.probe_request}"
                    yield f"one probe at a time: {fact.model} by {fact.request_id}, and by {under_way} already"

    def _settings(self) -> None:
        """What stands in the log before the first task: prices, a project, its budget and preferences."""
        facts: list[tuple[str, list[AnyFact]]] = [
            ("prices", [*PRICED]),
            (f"project-{PROJECT}", [ProjectCreated(project=PROJECT, repository="https://example.com/shop")]),
        ]
        if hard := self.chance.choice(BUDGETS):
            facts.append((f"project-{PROJECT}", [budget(hard)]))
        mode, most = self.chance.choice(MODES), self.chance.choice(OPEN_TASKS)
        wanted = Preferences(mode=mode, max_open_tasks=most or None)
        facts.append((f"project-{PROJECT}", [PreferencesSaved(project=PROJECT, version=1, preferences=wanted)]))
        for name in DEFAULT_MODELS:
            if self.happens(TRIPPED):
                pause = timedelta(seconds=self.chance.choice(PAUSES_S))
                facts.append((f"model-{name}", [tripped_by_hand(name, "ada", self.moment, pause)]))
        for id, said in facts:
            after = self.log.last("conductor", id)
            self.stored(
                self.log.append("conductor", id, said, after=after, cause=None, read_to=0, at=self.now),
                ", ".join(type(fact).__name__ for fact in said[:1]),
            )


def budget(hard: int) -> BudgetSet:
    """A standing order; cheaper models come first from half of it on."""
    return BudgetSet(project=PROJECT, hard_pico_usd=hard, soft_pico_usd=hard // 2, set_by="ada")


def late_result(before: Task, stored: Stored) -> str:
    """The answer in this event to a request that was not open any more; "" where there is none."""
    open_id = before.open.request_id if before.open else ""
    results = [fact.request_id for fact in stored.facts if isinstance(fact, Result)]
    return results[0] if results and open_id not in results else ""
