"""What other preferences would have chosen for tasks that have been planned, and what that would have cost.

Pure. The cost is a replay: the recorded usage of each call at the other model's price when the call began. What another
model would have answered nobody can know; so where it never did such work, its cost is unknown.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from factory.audit.v1 import PreviewedPhase, PreviewedTask, PreviewRoutingResponse
from factory.call.v1 import CALL_OUTCOME_OK
from factory.context.v1 import ContextGathered
from factory.event.v1 import AnyFact, Event
from factory.task.v1 import PhaseKind, PlannedPhase, RoutingOverridden, Scope, TaskSubmitted, TaskType
from policy.calls import final_usage
from policy.models import Model
from policy.planning import Plan, plan
from policy.preferences import Preferences
from policy.prices import PriceBook, cost_pico_usd, total_tokens
from policy.ranking import Needs, order_for, text_tokens
from policy.routes import ROUTES, phase_word, steps_for, type_word

from audit.ledger import Entry, day_of
from audit.task_row import TaskRow

NO_REVIEW = "no model review"

# Whether a model has ever done a phase for a type of task, anywhere in the log.
HasDone = Callable[[TaskType, PhaseKind, str], bool]


@dataclass(frozen=True, slots=True)
class Factory:
    """What a preview weighs besides the task: the models as they are now, and every price there was."""

    models: Mapping[str, Model]
    # why a model cannot serve at all; "" where it can
    ruled_out: Mapping[str, str]
    prices: PriceBook
    has_done: HasDone


@dataclass(frozen=True, slots=True)
class Routed:
    """A task that was routed: what it needed, what an architect said, and its calls by phase."""

    row: TaskRow
    needs: Needs
    overrides: Mapping[PhaseKind, str]
    calls: Mapping[PhaseKind, Sequence[Entry]]


@dataclass(frozen=True, slots=True)
class Cost:
    """Pico-dollars, or in words why nobody knows."""

    pico_usd: int | None = None
    unknown_because: str = ""


def routed(row: TaskRow, events: Iterable[Event], entries: Iterable[Entry]) -> Routed:
    """A task that has a plan, from the events of conductor and context, and its calls in the order of their start."""
    pack_tokens, texts, images = 0, 0, []
    overrides: dict[PhaseKind, str] = {}
    for fact in _facts(events):
        match fact:
            case TaskSubmitted():
                pictures = [one for one in fact.attached if one.media_type.startswith("image/")]
                images = [one.name for one in pictures]
                texts = sum(one.artifact.size for one in fact.attached) - sum(one.artifact.size for one in pictures)
            case ContextGathered():
                pack_tokens = fact.tokens
            case RoutingOverridden():
                overrides[fact.phase] = fact.model
            case _:
                pass
    calls: dict[PhaseKind, list[Entry]] = {}
    for entry in entries:
        calls.setdefault(entry.call.fact.phase, []).append(entry)
    return Routed(row, Needs(pack_tokens, text_tokens(texts), tuple(images)), overrides, calls)


def preview(tasks: Iterable[Routed], preferences: Preferences, factory: Factory) -> PreviewRoutingResponse:
    """Each task with what these preferences would have chosen, and sums over what is known on both sides."""
    answer = PreviewRoutingResponse(tasks=[previewed(task, preferences, factory) for task in tasks])
    was, would_be = 0, 0
    for phase in (phase for task in answer.tasks for phase in task.phases):
        answer.changed_phases += bool(phase.recorded_model) and phase.recorded_model != phase.preview_model
        answer.unknown_phases += not phase.HasField("preview_cost_pico_usd")
        if phase.HasField("recorded_cost_pico_usd") and phase.HasField("preview_cost_pico_usd"):
            was += int(phase.recorded_cost_pico_usd)
            would_be += int(phase.preview_cost_pico_usd)
    answer.recorded_cost_pico_usd, answer.preview_cost_pico_usd = str(was), str(would_be)
    return answer


def previewed(task: Routed, preferences: Preferences, factory: Factory) -> PreviewedTask:
    """One task under these preferences; without phases when its type is none of this release's."""
    row = task.row
    answer = PreviewedTask(task_id=row.task_id, title=row.title, type=row.task_type, scope=row.scope)
    if row.task_type not in ROUTES or row.scope not in Scope.values():
        return answer
    chosen = plan(
        row.task_type,
        row.scope,
        factory.models,
        factory.ruled_out,
        needs=task.needs,
        preferences=preferences,
        overrides=task.overrides,
    )
    planned = {phase.phase: phase for phase in chosen.phases}
    for phase, first_choice in steps_for(row.task_type, row.scope):
        order = order_for(
            row.task_type,
            row.scope,
            phase,
            first_choice,
            factory.models,
            preferences,
            task.overrides.get(phase, ""),
        )
        because = _because(planned.get(phase), order.because, chosen)
        answer.phases.append(_phase(task, phase, planned.get(phase), because, factory))
    return answer


def _phase(
    task: Routed, phase: PhaseKind, planned: PlannedPhase | None, because: str, factory: Factory
) -> PreviewedPhase:
    calls = task.calls.get(phase, ())
    model = factory.models.get(planned.model) if planned else None
    recorded_cost = _recorded_cost(calls)
    preview_cost = _preview_cost(calls, task.row.task_type, phase, model, factory)
    return PreviewedPhase(
        phase=phase,
        recorded_model=_who_did(calls),
        preview_model=model.name if model else "",
        because=because,
        recorded_cost_pico_usd=_decimal(recorded_cost.pico_usd),
        preview_cost_pico_usd=_decimal(preview_cost.pico_usd),
        unknown_because=preview_cost.unknown_because or recorded_cost.unknown_because,
    )


def _who_did(calls: Sequence[Entry]) -> str:
    """The model whose answer came last; where none has answered, the one that was called last."""
    answered = [e for e in calls if e.call.ended is not None and e.call.ended.outcome == CALL_OUTCOME_OK]
    last = [*calls, *answered][-1:]
    return last[0].call.fact.model if last else ""


def _recorded_cost(calls: Sequence[Entry]) -> Cost:
    """What the phase has cost: every call of every round and attempt, whoever was asked."""
    if not calls:
        return Cost(unknown_because="this phase was not done")
    if unknown := _unknown_usage(calls):
        return Cost(unknown_because=unknown)
    if unpriced := {e.call.fact.model for e in calls if e.reckoning.cost_pico_usd is None}:
        return Cost(unknown_because=f"no price is known for what {', '.join(sorted(unpriced))} did")
    return Cost(sum(entry.reckoning.cost_pico_usd or 0 for entry in calls))


def _preview_cost(
    calls: Sequence[Entry], task_type: TaskType, phase: PhaseKind, model: Model | None, factory: Factory
) -> Cost:
    """The same usage at this model's price; its own calls cost what they have cost."""
    if model is None:
        return Cost(unknown_because="no model could do it")
    others = [entry for entry in calls if entry.call.fact.model != model.name]
    if calls and not others:
        return _recorded_cost(calls)
    if not calls:
        return Cost(unknown_because="this phase was not done")
    if unknown := _unknown_usage(calls):
        return Cost(unknown_because=unknown)
    if not factory.has_done(task_type, phase, model.name):
        what = f"{phase_word(phase)} of {type_word(task_type)} tasks"
        return Cost(unknown_because=f"{model.name} has never done {what}")
    total = 0
    for entry in calls:
        cost = _at(entry, model, factory.prices)
        if cost.pico_usd is None:
            return cost
        total += cost.pico_usd
    return Cost(total)


def _at(entry: Entry, model: Model, prices: PriceBook) -> Cost:
    """What one call would have cost at this model's price of that time."""
    call, usage = entry.call, final_usage(entry.call.ended)
    if call.fact.model == model.name:
        cost = entry.reckoning.cost_pico_usd
        return Cost(cost, "" if cost is not None else f"no price is known for what {model.name} did")
    if usage is None:
        return Cost(unknown_because=_unknown_usage([entry]))
    if not total_tokens(usage):
        return Cost(0)
    price = prices.at(model.provider, model.provider_model, call.began_at)
    if price is None:
        return Cost(unknown_because=f"{model.name} ({model.provider_model}) has no price for {day_of(call.began_at)}")
    cost = cost_pico_usd(usage, price.tiers)
    if cost is None:
        return Cost(unknown_because=f"{model.name} has no price for some of the tokens, such as those of a cache")
    return Cost(cost)


def _unknown_usage(calls: Sequence[Entry]) -> str:
    """Why the usage is not known for good; "" where it is."""
    unknown = sum(final_usage(entry.call.ended) is None for entry in calls)
    if not unknown:
        return ""
    flight = sum(entry.call.ended is None for entry in calls)
    if flight == unknown:
        return f"{flight} of {len(calls)} calls {'is' if flight == 1 else 'are'} in flight"
    return f"the usage of {unknown} of {len(calls)} calls is not known"


def _because(planned: PlannedPhase | None, words: str, chosen: Plan) -> str:
    """What put the model first, and what ruled out those before it; or what ruled out all."""
    if planned is None:
        return next((note for note in chosen.notes if note.startswith(NO_REVIEW)), NO_REVIEW)
    ranked = sorted(planned.candidates, key=lambda candidate: -candidate.score)
    before = []
    for candidate in ranked:
        if candidate.model == planned.model:
            break
        before.append(f"{candidate.model} ruled out: {candidate.ruled_out}")
    return "; ".join([words, *before]) if planned.model else "; ".join(before)


def _facts(events: Iterable[Event]) -> Iterable[AnyFact]:
    for event in events:
        for fact in event.facts:
            if arm := fact.WhichOneof("fact"):
                yield getattr(fact, arm)


def _decimal(pico_usd: int | None) -> str | None:
    return None if pico_usd is None else str(pico_usd)
