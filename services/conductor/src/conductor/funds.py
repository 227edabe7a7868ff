"""Whether there is money for a request: the task's own limit, and the budgets of its project. Pure.

A request is let through only if the worst case of every call that it may make fits all limits at once.
"""

from dataclasses import dataclass

from factory.phase.v1 import PHASE_FAILURE_CONTEXT_TOO_LARGE
from factory.task.v1 import (
    HOLD_CAUSE_BUDGET,
    HOLD_CAUSE_TASK_BUDGET,
    HOLD_CAUSE_UNSPECIFIED,
    HoldCause,
    PhaseKind,
)
from policy.models import Model
from policy.prices import rounded_dollars, upper_bound
from policy.ranking import answer_tokens, text_tokens
from policy.routes import PROMPT_OVERHEAD_TOKENS

from conductor.budget_room import CALLS_MAX, calls_within
from conductor.state import Task
from conductor.world import World

# A pack is counted by a real tokenizer. An executor's estimate is a bound for every tokenizer, and so this much more of
# code and English.
ESTIMATE_OVER_TOKENS = 4
# What the change so far may take of the prompt; where it takes more, the request is made again with the whole window.
DIFF_TOKENS_MAX = 24_000


@dataclass(frozen=True, slots=True)
class Funds:
    """What a request may cost, and what stands against it."""

    max_output_tokens: int
    # 0 where no limit applies: the window is the bound
    max_input_tokens: int
    price_version: str
    # of one call; None for a model without a price
    worst_case_pico_usd: int | None
    # 0 where no limit applies: the executor's own is the bound
    calls_max: int
    why_not: str = ""
    cause: HoldCause = HOLD_CAUSE_UNSPECIFIED
    # the budget that refuses
    budget: str = ""

    @property
    def reserved_pico_usd(self) -> int:
        """What is to be reserved."""
        return self.calls_max * (self.worst_case_pico_usd or 0)


@dataclass(frozen=True, slots=True)
class _Limit:
    left: int
    whole: int
    cause: HoldCause
    budget: str = ""

    @property
    def words(self) -> str:
        whose = f"of budget {self.budget}" if self.budget else "of the task's limit"
        return f"{rounded_dollars(max(self.left, 0))} {whose} ({rounded_dollars(self.whole)}) are left"


def funds(task: Task, world: World, phase: PhaseKind, model: Model, request_id: str) -> Funds:
    """What this request may cost by this model, and why it may not be made; `why_not` is "" where it may."""
    max_output = min(task.step(phase).max_output_tokens, answer_tokens(phase, model))
    limits = _limits(task, world, model.name, request_id)
    bound = _input_bound(task, phase, model, max_output)
    price = world.prices.at(model.provider, model.provider_model, world.now)
    worst = upper_bound(price.tiers, bound, max_output) if price else None
    version = price.version if price else ""
    if not limits:
        return Funds(max_output, 0, version, worst, 0)
    if worst is None:
        tightest = limits[0]
        what = f"budget {tightest.budget}" if tightest.budget else "the task's limit"
        why = f"has no price, so {what} cannot be kept"
        return Funds(max_output, bound, version, None, 0, why, tightest.cause, tightest.budget)
    tightest = min(limits, key=lambda limit: limit.left)
    calls = calls_within(tightest.left, worst, CALLS_MAX)
    if calls >= 1:
        return Funds(max_output, bound, version, worst, calls)
    why = f"may cost up to {rounded_dollars(worst)}, and {tightest.words}"
    return Funds(max_output, bound, version, worst, 0, why, tightest.cause, tightest.budget)


def is_soft_limit_passed(world: World) -> bool:
    """Whether cheaper models come first now."""
    return any(budget.is_soft_limit_reached for budget in world.budgets if not budget.model)


def worst_case(task: Task, world: World, phase: PhaseKind, model: Model) -> int | None:
    """The most that one call of a phase can cost by this model; None for a model without a price."""
    return funds(task, world, phase, model, "").worst_case_pico_usd


def _limits(task: Task, world: World, model: str, request_id: str) -> list[_Limit]:
    found = []
    if task.max_cost_pico_usd is not None:
        left = task.max_cost_pico_usd - world.spent_pico_usd
        found.append(_Limit(left, task.max_cost_pico_usd, HOLD_CAUSE_TASK_BUDGET))
    # What was reserved for this very request is its own to spend.
    own = world.reserved(request_id, model)
    for budget in world.budgets:
        if budget.hard is not None and budget.model in ("", model):
            left = budget.hard - budget.spent - budget.reserved + own
            found.append(_Limit(left, budget.hard, HOLD_CAUSE_BUDGET, budget.budget))
    return found


def _input_bound(task: Task, phase: PhaseKind, model: Model, max_output: int) -> int:
    """Tokens that the prompt of a call may have at most, by the executor's upper estimate."""
    window = max(model.context_window_tokens - max_output, 1)
    told = [failure for failure in task.failures if failure.model == model.name]
    if any(f.reason == PHASE_FAILURE_CONTEXT_TOO_LARGE and f.max_input_tokens for f in told):
        return window
    texts = task.body_bytes + (task.findings.size if task.findings else 0)
    needed = ESTIMATE_OVER_TOKENS * task.needs.pack_tokens + task.needs.attached(phase) + 2 * PROMPT_OVERHEAD_TOKENS
    needed += text_tokens(texts)
    return min(needed + (DIFF_TOKENS_MAX if task.change else 0), window)
