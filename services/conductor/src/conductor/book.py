"""What the whole log says besides the tasks themselves: preferences, prices, models, health, who has room.

Pure, and changed in place: it is fed every event once, in the order of the log. Every conductor that has read as far
knows the same, and a decision can be made again from the log alone.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median_low

from eventlog import Recorded, Tip
from factory.budget.v1 import BudgetReleased, BudgetSet, BudgetSettled
from factory.call.v1 import CALL_OUTCOME_OK, ModelCalled, Usage
from factory.model.v1 import ModelsConfigured
from factory.price.v1 import PricePublished
from factory.project.v1 import PreferencesSaved, ProjectCreated
from factory.task.v1 import PhaseKind
from policy.health import Health, State
from policy.models import Model
from policy.preferences import BALANCED, Preferences, saved
from policy.prices import Price, PriceBook, cost_pico_usd

from conductor.budget_room import LANE_PREFIX, Standing, project_and_month
from conductor.known import CONDUCTOR, Known
from conductor.next_step import spent
from conductor.roster import Roster
from conductor.rules import Rules
from conductor.state import Task
from conductor.world import SOMEBODY, Wellness, World

# What a phase by a model usually takes is told from its last calls, where there are at least so many.
TYPICAL_CALLS_MIN = 5
TYPICAL_CALLS_MAX = 50
# What may leave a budget with more room than before.
MAKES_ROOM = (BudgetSet, BudgetSettled, BudgetReleased)


@dataclass(slots=True)
class Book:
    """The log up to stream sequence `read_to`."""

    read_to: int = 0
    health: Health = field(default_factory=Health)
    roster: Roster = field(default_factory=Roster)
    prices: PriceBook = field(default_factory=PriceBook)
    preferences: dict[str, Preferences] = field(default_factory=dict)
    projects: dict[str, ProjectCreated] = field(default_factory=dict)
    catalogs: dict[str, ModelsConfigured] = field(default_factory=dict)
    # ends of the conductor's lanes about models: what an append there must follow
    tips: dict[str, Tip] = field(default_factory=dict)
    # projects in which tasks that wait may go on now; emptied by whoever sees to that
    freed: set[str] = field(default_factory=set)
    # projects with a new standing budget that a month has to take over; emptied likewise
    ordered: set[str] = field(default_factory=set)
    _usual: dict[tuple[str, PhaseKind], deque[Usage]] = field(default_factory=dict)

    def observe(self, recorded: Recorded) -> None:
        """Takes the next event of the log in."""
        event, facts = recorded.event, recorded.facts
        self.read_to = recorded.sequence
        self.health.observe(event, facts, recorded.sequence)
        if event.producer == CONDUCTOR:
            if freed := self.roster.observe(event.id, facts, recorded.sequence):
                self.freed.add(freed)
            if event.id.startswith("model-"):
                self.tips[event.id] = recorded.tip
            elif event.id.startswith(LANE_PREFIX) and any(isinstance(fact, MAKES_ROOM) for fact in facts):
                self.freed.add(project_and_month(event.id)[0])
        self.roster.seen(event.id, recorded.sequence)
        at = None
        for fact in facts:
            match fact:
                case ModelCalled() if fact.outcome == CALL_OUTCOME_OK and fact.HasField("usage"):
                    usual = self._usual.setdefault((fact.model, fact.phase), deque(maxlen=TYPICAL_CALLS_MAX))
                    usual.append(fact.usage)
                case PricePublished():
                    at = at or event.occurred_at.ToDatetime(tzinfo=UTC)
                    self.prices = PriceBook([*self.prices, Price(fact, at)])
                case PreferencesSaved() | ProjectCreated() | ModelsConfigured():
                    self._settle(fact)
                case BudgetSet() if not fact.month:
                    self.ordered.add(fact.project)
                case _:
                    continue

    def world(
        self,
        task_id: str,
        known: Known,
        rules: Rules,
        now: datetime,
        *,
        lane: str = "",
        budgets: Sequence[Standing] = (),
        reserved: Callable[[str, str], int] = lambda _request, _model: 0,
        entering: int = 0,
    ) -> World:
        """What deciding about a task needs; `budgets` are those of its project this month, on `lane`.

        `entering` tasks of the project are being submitted now, and stand in no roster yet.
        """
        task = known.task
        preferences = self.preferences.get(task.project, BALANCED)
        most = preferences.max_open_tasks or rules.open_tasks_max
        limited = task.max_cost_pico_usd is not None
        return World(
            models=rules.models,
            ruled_out=rules.ruled_out,
            prices=self.prices,
            now=now,
            spent_pico_usd=spent(known.calls.values(), self.prices) if limited else 0,
            preferences=preferences,
            health={} if rules.breakers_off else self._health(rules, task_id, task, now),
            budgets=tuple(budgets),
            budget_lane=lane,
            reserved=reserved,
            has_room=self.roster.has_room(task_id, task.project, most - entering) if task.project else True,
            open_tasks_max=most,
            patience=rules.patience,
            read_to=self.read_to,
            models_digest=rules.digest,
        )

    def typical_pico_usd(self, model: Model, phase: PhaseKind, now: datetime) -> int | None:
        """The median of what this model's last calls for such a phase would cost today; None with too few of them."""
        calls = self._usual.get((model.name, phase), ())
        price = self.prices.at(model.provider, model.provider_model, now)
        if len(calls) < TYPICAL_CALLS_MIN or price is None:
            return None
        costs = [cost_pico_usd(usage, price.tiers) for usage in calls]
        return median_low([cost for cost in costs if cost is not None]) if None not in costs else None

    def _health(self, rules: Rules, task_id: str, task: Task, now: datetime) -> dict[str, Wellness]:
        """Every model that is not well, as far as this task goes."""
        return {name: well for name in rules.models if (well := self._wellness(name, task_id, task, now))}

    def _wellness(self, model: str, task_id: str, task: Task, now: datetime) -> Wellness | None:
        """How well a model is for this task; None, for short, for one that is well."""
        status = self.health.status(model, task.type, now)
        if status.state is State.CLOSED:
            return None
        is_open = status.state is State.OPEN
        probe = status.probe_request if status.probe_task == task_id else SOMEBODY if status.probe_pending else ""
        return Wellness(is_open, not is_open, probe, status.why, status.badness, status.type)

    def _settle(self, fact: PreferencesSaved | ProjectCreated | ModelsConfigured) -> None:
        match fact:
            case PreferencesSaved():
                known = self.preferences.get(fact.project, BALANCED)
                if fact.version > known.version:
                    self.preferences[fact.project] = saved(fact)
                    self.freed.add(fact.project)
            case ProjectCreated():
                self.projects.setdefault(fact.project, fact)
            case ModelsConfigured():
                self.catalogs.setdefault(fact.digest, fact)
