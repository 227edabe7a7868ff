"""Who may do a phase, best first, and what rules the others out. Pure: the same inputs give the same order again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from factory.project.v1 import (
    PREFERENCE_MODE_COST,
    PREFERENCE_MODE_CUSTOM,
    PREFERENCE_MODE_QUALITY,
)
from factory.task.v1 import (
    PHASE_KIND_REVIEW,
    ROUTE_SOURCE_CUSTOM,
    ROUTE_SOURCE_DEFAULT,
    ROUTE_SOURCE_MODE,
    ROUTE_SOURCE_OVERRIDE,
    RULED_OUT_BY_CAPABILITY,
    RULED_OUT_BY_CONFIGURATION,
    RULED_OUT_BY_FAMILY,
    RULED_OUT_BY_PREFERENCE,
    RULED_OUT_BY_UNSPECIFIED,
    SCOPE_FEATURE,
    TASK_TYPE_ARCHITECTURE,
    Candidate,
    PhaseKind,
    RouteSource,
    RuledOutBy,
    Scope,
    TaskType,
)

from policy.models import Model
from policy.preferences import BALANCED, Preferences
from policy.routes import (
    ALTERNATIVES,
    ATTACHED_PHASES,
    CHEAPEST_FIRST,
    MAX_OUTPUT_TOKENS,
    PACK_TOKENS_MAX,
    PACK_TOKENS_WANTED,
    PREMIUM,
    PREMIUM_PHASES,
    PROMPT_OVERHEAD_TOKENS,
    phase_word,
    type_word,
)

# What an image takes at most: above every provider's documented figure for one that is scaled to its own limit.
IMAGE_TOKENS_MAX = 5_000
SCORE_STEP = 0.1

WhyNot = tuple[RuledOutBy, str]


@dataclass(frozen=True, slots=True)
class Needs:
    """What a model must be able to take in for a task."""

    pack_tokens: int = 0
    # of attached texts
    text_tokens: int = 0
    # names of attached images
    images: tuple[str, ...] = ()

    def tokens(self, phase: PhaseKind) -> int:
        """Input tokens of a phase, without its instructions."""
        return self.pack_tokens + self.attached(phase)

    def attached(self, phase: PhaseKind) -> int:
        """The part of them that is attached, as the executors bound it."""
        return self.text_tokens + IMAGE_TOKENS_MAX * len(self.images) if phase in ATTACHED_PHASES else 0


NOTHING_ATTACHED = Needs()
# Text has at least so many bytes for a token by the executors' bound, which worst cases are computed with.
BYTES_PER_TOKEN_LOW = 1


def text_tokens(size: int) -> int:
    """The most tokens that a text of so many bytes is estimated at."""
    return -(-size // BYTES_PER_TOKEN_LOW)


@dataclass(frozen=True, slots=True)
class Order:
    """Models for a phase, best first, and what has put them in this order."""

    names: tuple[str, ...]
    source: RouteSource
    because: str


def order_for(
    type: TaskType,
    scope: Scope,
    phase: PhaseKind,
    first_choice: str,
    models: Mapping[str, Model],
    preferences: Preferences = BALANCED,
    override: str = "",
) -> Order:
    """Every model in the order in which a phase of such a task asks them: override, rules, mode, table."""
    table = _table_order(phase, first_choice, models)
    names, source, because = table, ROUTE_SOURCE_DEFAULT, f"the routing table names {first_choice}"
    match preferences.mode:
        case mode if mode == PREFERENCE_MODE_QUALITY:
            names = _first(PREMIUM, table)
            source, because = ROUTE_SOURCE_MODE, "the project puts quality first"
        case mode if mode == PREFERENCE_MODE_COST and not _is_demanding(type, scope, phase):
            names = tuple(sorted(table, key=_expense))
            source, because = ROUTE_SOURCE_MODE, "the project puts cost first"
        case mode if mode == PREFERENCE_MODE_CUSTOM:
            rule = next((rule for rule in preferences.rules if rule.fits(type, phase)), None)
            if rule is not None:
                names = (*rule.models, *(name for name in table if name not in rule.models))
                what = f"{phase_word(phase)} of {type_word(type)} tasks"
                source, because = ROUTE_SOURCE_CUSTOM, f"a rule of the project names {rule.models[0]} for {what}"
    if override:
        names = (override, *(name for name in names if name != override))
        source, because = ROUTE_SOURCE_OVERRIDE, f"{override} was put in charge by hand"
    return Order(names, source, because)


def rank(
    phase: PhaseKind,
    order: Sequence[str],
    models: Mapping[str, Model],
    ruled_out: Mapping[str, str],
    *,
    needs: Needs = NOTHING_ATTACHED,
    author: str = "",
    excluded: Sequence[str] = (),
    more: Mapping[str, WhyNot] | None = None,
) -> list[Candidate]:
    """Every model for a phase: those that can serve first, each with its score, the others with what rules them out.

    `ruled_out` says why a model cannot serve at all, `more` what else speaks against one now.
    """
    found = []
    for place, name in enumerate(order):
        by, why = _why_not(phase, name, models, ruled_out, needs, author, excluded)
        if not why:
            by, why = (more or {}).get(name, (RULED_OUT_BY_UNSPECIFIED, ""))
        found.append(Candidate(model=name, score=round(1 - SCORE_STEP * place, 2), ruled_out=why, by=by))
    return sorted(found, key=lambda candidate: (bool(candidate.ruled_out), -candidate.score))


def pack_budget(models: Mapping[str, Model], ruled_out: Mapping[str, str]) -> int:
    """How large a pack may be, so that every model that can serve has room for it whatever the phase.

    A model with little room does not starve the others: it is ruled out for what does not fit it. Where all have
    little room, the roomiest counts.
    """
    rooms = [_room(model) for name, model in models.items() if not ruled_out.get(name)]
    enough = [room for room in rooms if room >= PACK_TOKENS_WANTED]
    budget = min(enough) if enough else max(rooms, default=PACK_TOKENS_MAX)
    return max(1, min(budget, PACK_TOKENS_MAX))


def same_family(models: Mapping[str, Model], one: str, other: str) -> bool:
    return one in models and other in models and models[one].family == models[other].family


def answer_tokens(phase: PhaseKind, model: Model) -> int:
    """Tokens that a model may answer with in a phase at most."""
    return min(MAX_OUTPUT_TOKENS[phase], model.max_output_tokens)


def _table_order(phase: PhaseKind, first_choice: str, models: Mapping[str, Model]) -> tuple[str, ...]:
    order = [first_choice, *(name for name in ALTERNATIVES[phase] if name != first_choice)]
    order += sorted(name for name in models if name not in order)
    return tuple(name for name in order if name in models)


def _first(preferred: Sequence[str], order: Sequence[str]) -> tuple[str, ...]:
    return (*(name for name in order if name in preferred), *(name for name in order if name not in preferred))


def _expense(name: str) -> int:
    """Place by list price; a model of one's own comes behind those that are known."""
    return CHEAPEST_FIRST.index(name) if name in CHEAPEST_FIRST else len(CHEAPEST_FIRST)


def _is_demanding(type: TaskType, scope: Scope, phase: PhaseKind) -> bool:
    """Whether cost does not come before quality here: design, review, and what is of high complexity."""
    return phase in PREMIUM_PHASES or scope == SCOPE_FEATURE or type == TASK_TYPE_ARCHITECTURE


def _why_not(
    phase: PhaseKind,
    name: str,
    models: Mapping[str, Model],
    ruled_out: Mapping[str, str],
    needs: Needs,
    author: str,
    excluded: Sequence[str],
) -> WhyNot:
    if name not in models:
        return RULED_OUT_BY_CONFIGURATION, "not configured any more"
    if why := ruled_out.get(name, ""):
        return RULED_OUT_BY_CONFIGURATION, why
    if name in excluded:
        return RULED_OUT_BY_PREFERENCE, "the project never uses it"
    model = models[name]
    if phase == PHASE_KIND_REVIEW and same_family(models, name, author):
        return RULED_OUT_BY_FAMILY, f"same family as the author ({model.family})"
    if needs.images and phase in ATTACHED_PHASES and not model.image_input:
        return RULED_OUT_BY_CAPABILITY, f"cannot read images, and {needs.images[0]} is attached"
    needed = needs.tokens(phase) + PROMPT_OVERHEAD_TOKENS + answer_tokens(phase, model)
    if needed > model.context_window_tokens:
        what = f"context window of {model.context_window_tokens:,} tokens is less than the {needed:,} needed"
        return RULED_OUT_BY_CAPABILITY, what
    return RULED_OUT_BY_UNSPECIFIED, ""


def _room(model: Model) -> int:
    """What the window holds besides the instructions and the longest answer."""
    longest = max(answer_tokens(phase, model) for phase in MAX_OUTPUT_TOKENS)
    return model.context_window_tokens - PROMPT_OVERHEAD_TOKENS - longest
