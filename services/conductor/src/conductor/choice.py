"""Which model is asked to do the next phase, when, and why. Pure: every choice leaves a receipt.

Order comes from the plan and from an architect's word; who is ruled out is asked anew for every request, because
executors, breakers and budgets come and go while a task runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from factory.phase.v1 import (
    PHASE_FAILURE_ARTIFACT_MISSING,
    PHASE_FAILURE_BROKEN_STREAM,
    PHASE_FAILURE_CONTEXT_TOO_LARGE,
    PHASE_FAILURE_OVERLOADED,
    PHASE_FAILURE_RATE_LIMITED,
    PHASE_FAILURE_SERVER_ERROR,
    PHASE_FAILURE_TIMEOUT,
    PHASE_FAILURE_UNREACHABLE,
    PhaseFailure,
)
from factory.task.v1 import (
    HOLD_CAUSE_NO_MODEL,
    ROUTE_SOURCE_OVERRIDE,
    RULED_OUT_BY_BUDGET,
    RULED_OUT_BY_FAILURE,
    RULED_OUT_BY_HEALTH,
    RULED_OUT_BY_UNSPECIFIED,
    Candidate,
    HoldCause,
    PhaseKind,
    Receipt,
    RouteSource,
)
from policy.ranking import WhyNot, order_for, rank
from policy.receipts import receipt
from policy.routes import POLICY_VERSION, phase_word, steps_for

from conductor.funds import Funds, funds, is_soft_limit_passed, worst_case
from conductor.state import Failure, Step, Task
from conductor.world import World, weighed

TRIES_PER_MODEL_MAX = 2
RETRY_AFTER_MAX = timedelta(seconds=60)
RETRY_PAUSE = timedelta(seconds=1)

# Failures that the same model may get over by itself.
PASSING = frozenset(
    {
        PHASE_FAILURE_RATE_LIMITED,
        PHASE_FAILURE_OVERLOADED,
        PHASE_FAILURE_SERVER_ERROR,
        PHASE_FAILURE_TIMEOUT,
        PHASE_FAILURE_UNREACHABLE,
        PHASE_FAILURE_BROKEN_STREAM,
    }
)


@dataclass(frozen=True, slots=True)
class Choice:
    """The model to ask, or in `why_none` why there is none to ask."""

    receipt: Receipt
    model: str = ""
    funds: Funds | None = None
    not_before: datetime | None = None
    # this request is to show whether the model is well again
    probe: bool = False
    why_none: str = ""
    cause: HoldCause = HOLD_CAUSE_NO_MODEL
    budget: str = ""


def request_id_of(task: Task) -> str:
    """The id of the next request of this task's next phase."""
    phase = task.queue[0]
    return f"{phase_word(phase)}-{task.round_of(phase)}-{task.attempts + 1}"


def choose(task: Task, world: World) -> Choice:
    """The model to ask now for the task's next phase."""
    phase = task.queue[0]
    step, id = task.step(phase), request_id_of(task)
    names, source, first_because = _order(step, task, world)
    money = {name: funds(task, world, phase, world.models[name], id) for name in names if name in world.models}
    trusted = task.override(phase)
    candidates = rank(
        phase,
        names,
        world.models,
        world.ruled_out,
        needs=task.needs,
        author=task.author_model,
        excluded=tuple(name for name in step.excluded if name != trusted),
        more={name: _against(name, id, task, world, money) for name in names},
    )
    model, because, not_before = _pick(task, world, candidates, names, first_because, money)
    inputs = {
        "phase": int(phase),
        "request": id,
        "type": int(task.type),
        "scope": int(task.scope),
        "order": list(names),
        "source": int(source),
        "needs": [task.needs.pack_tokens, task.needs.text_tokens, list(task.needs.images), task.body_bytes],
        "author": task.author_model,
        "failures": [[f.model, int(f.reason), f.retry_after.total_seconds()] for f in task.failures],
        "limit": task.max_cost_pico_usd,
        "reserved": {name: held for name in names if (held := world.reserved(id, name))},
        **weighed(world),
    }
    told = receipt(
        POLICY_VERSION,
        inputs,
        because,
        world_read_to=world.read_to,
        models_digest=world.models_digest,
        candidates=candidates,
        chosen=model,
        source=source,
    )
    if not model:
        if is_gone(task):
            return Choice(told, why_none=because)  # no money brings an artifact back
        cause, budget = _cause(candidates, money)
        return Choice(told, why_none=_nearest(candidates, money) or because, cause=cause, budget=budget)
    well = world.wellness(model)
    # Who goes to a model in spite of its breaker (an architect's word, the last resort) is no second probe of it.
    return Choice(told, model, money[model], not_before, probe=well.is_half_open and well.lets_through(id))


def is_gone(task: Task) -> bool:
    """Whether what the phase works with is missing: no other model has it either."""
    return bool(task.failures) and task.failures[-1].reason == PHASE_FAILURE_ARTIFACT_MISSING


def failure_words(failure: Failure) -> str:
    word = PhaseFailure.Name(failure.reason).removeprefix("PHASE_FAILURE_").lower().replace("_", " ")
    return f"{word} ({failure.detail})" if failure.detail else word


def _order(step: Step, task: Task, world: World) -> tuple[tuple[str, ...], RouteSource, str]:
    """The plan's order, with what has come to outweigh it since."""
    planned = tuple(name for name, _ in step.candidates)
    override = task.override(step.phase)
    if override:
        by = next(one.by for one in task.overrides if one.phase == step.phase)
        names = (override, *(name for name in planned if name != override))
        return names, ROUTE_SOURCE_OVERRIDE, f"{by} has put {override} in charge of this phase"
    if step.source == ROUTE_SOURCE_OVERRIDE:
        # The plan was made under an architect's word that was taken back since.
        first = dict(steps_for(task.type, task.scope))[step.phase]
        order = order_for(task.type, task.scope, step.phase, first, world.models, world.preferences)
        planned, source, because = order.names, order.source, order.because
    else:
        source, because = step.source, _because_of(step, task, world, planned)
    if is_soft_limit_passed(world):
        cost = {name: _worst(task, world, step.phase, name) for name in planned}
        cheapest = tuple(sorted(planned, key=lambda name: (cost[name] is None, cost[name] or 0)))
        if cheapest != planned:
            return cheapest, source, "a soft limit of the project's budget is passed, so the cheapest come first"
    return planned, source, because


def _because_of(step: Step, task: Task, world: World, planned: Sequence[str]) -> str:
    """Why the plan put its first model first, in the words of whoever made the order."""
    first = planned[0] if planned else ""
    order = order_for(task.type, task.scope, step.phase, first, world.models, world.preferences)
    if order.source == step.source and order.names[:1] == (first,):
        return order.because
    return {
        RouteSource.ROUTE_SOURCE_MODE: "the project's mode put it first when this was planned",
        RouteSource.ROUTE_SOURCE_CUSTOM: "a rule of the project put it first when this was planned",
    }.get(step.source, f"the routing table names {first}")


def _worst(task: Task, world: World, phase: PhaseKind, name: str) -> int | None:
    return worst_case(task, world, phase, world.models[name]) if name in world.models else None


def _against(name: str, request_id: str, task: Task, world: World, money: Mapping[str, Funds]) -> WhyNot:
    """What speaks against a model now, besides what it is. An architect's word outweighs a breaker."""
    failed = [failure for failure in task.failures if failure.model == name]
    if failed and not _again(task, name):
        return RULED_OUT_BY_FAILURE, failure_words(failed[-1])
    well = world.wellness(name)
    if not well.lets_through(request_id) and name != task.override(task.queue[0]):
        return RULED_OUT_BY_HEALTH, well.why
    if name in money and money[name].why_not:
        return RULED_OUT_BY_BUDGET, money[name].why_not
    return RULED_OUT_BY_UNSPECIFIED, ""


def _again(task: Task, name: str) -> bool:
    """Whether the model that failed last may be asked once more."""
    last = task.failures[-1]
    if last.model != name:
        return False
    if last.reason == PHASE_FAILURE_CONTEXT_TOO_LARGE:
        return last.max_input_tokens > 0  # the prompt was kept small for the sake of a budget; the window holds more
    tries = sum(failure.model == name for failure in task.failures)
    return last.reason in PASSING and tries < TRIES_PER_MODEL_MAX and last.retry_after <= RETRY_AFTER_MAX


def _pick(
    task: Task,
    world: World,
    candidates: Sequence[Candidate],
    names: Sequence[str],
    first_because: str,
    money: Mapping[str, Funds],
) -> tuple[str, str, datetime | None]:
    """The model, the sentence that says why, and when to ask it; no model where none is left."""
    able = [candidate.model for candidate in candidates if not candidate.ruled_out]
    last = task.failures[-1] if task.failures else None
    if last is not None and is_gone(task):
        return "", last.detail, None
    if last is not None and last.model in able:
        pause = max(last.retry_after, RETRY_PAUSE)
        at = None if last.reason == PHASE_FAILURE_CONTEXT_TOO_LARGE else world.now + pause
        return last.model, f"{last.model} may get over it: {failure_words(last)}", at
    if able:
        return able[0], _sentence(able[0], world, candidates, names, first_because), None
    unwell = [c for c in candidates if c.by == RULED_OUT_BY_HEALTH and not money[c.model].why_not]
    if unwell:
        least = min(unwell, key=lambda c: (world.wellness(c.model).badness, names.index(c.model))).model
        return least, f"no model that could do this is well; {least} is the least bad", None
    return "", "; ".join(f"{c.model}: {c.ruled_out}" for c in candidates), None


def _sentence(
    model: str, world: World, candidates: Sequence[Candidate], names: Sequence[str], first_because: str
) -> str:
    words = first_because
    if model != names[0]:
        reasons = {candidate.model: candidate.ruled_out for candidate in candidates}
        passed = [f"{name}: {reasons[name]}" for name in names[: names.index(model)] if reasons.get(name)]
        words = f"{first_because}, but {'; '.join(passed)}; so {model}"
    return f"{words}; this request shows whether {model} is well again" if world.wellness(model).is_half_open else words


def _nearest(candidates: Sequence[Candidate], money: Mapping[str, Funds]) -> str:
    """Of the models that only money rules out, what the cheapest needs; the receipt has the others."""
    poor = [c for c in candidates if c.by in (RULED_OUT_BY_BUDGET, RULED_OUT_BY_HEALTH) and money[c.model].why_not]
    if not poor:
        return ""
    nearest = min(poor, key=lambda c: (money[c.model].worst_case_pico_usd is None, money[c.model].worst_case_pico_usd))
    return f"{nearest.model} {money[nearest.model].why_not}"


def _cause(candidates: Sequence[Candidate], money: Mapping[str, Funds]) -> tuple[HoldCause, str]:
    """What a task without a model waits for: money, where money alone stands in the way of some model."""
    for candidate in candidates:
        if candidate.by in (RULED_OUT_BY_BUDGET, RULED_OUT_BY_HEALTH) and money[candidate.model].why_not:
            return money[candidate.model].cause, money[candidate.model].budget
    return HOLD_CAUSE_NO_MODEL, ""
