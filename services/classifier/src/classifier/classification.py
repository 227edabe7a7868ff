"""Weighs a task's text by the rules: a score for every type, and what decided.

Pure and total: any text gives an answer, the same text always the same.
"""

import math
import unicodedata
from dataclasses import dataclass

from factory.task.v1 import Scope, TaskType

from classifier.rules import PRIOR, RULES, TYPES, VERSION
from classifier.scope import is_feature

TEXT_CHARS_MAX = 20_000
# The title says what is wanted; the body also says what is not.
BODY_WEIGHT = 0.35
# How much louder one type must be for how much more certainty.
TEMPERATURE = 1.4
# Below this the runner-up is about as likely: a better judge should be asked where there is one.
ABSTAIN_BELOW = 0.35
REASONS_MAX = 8
_QUOTED_CHARS_MAX = 40

_NAMES = {
    type: TaskType.Name(type).removeprefix("TASK_TYPE_").lower() for type in (*TYPES, TaskType.TASK_TYPE_UNSPECIFIED)
}


@dataclass(frozen=True, slots=True)
class Classification:
    type: TaskType
    scope: Scope
    # In the order of the routing table, adding up to 1.
    scores: tuple[tuple[TaskType, float], ...]
    confidence: float
    # "submitter", "rules" or "fallback".
    method: str
    reasons: tuple[str, ...]
    version: str = VERSION

    @property
    def abstained(self) -> bool:
        return self.method == "fallback"


def classify(
    title: str,
    body: str = "",
    *,
    asked_type: TaskType = TaskType.TASK_TYPE_UNSPECIFIED,
    asked_scope: Scope = Scope.SCOPE_UNSPECIFIED,
) -> Classification:
    """What the text says, unless the submitter has said it: who names a type wants that row of the routing table."""
    title, body = normalised(title), normalised(body)
    feature, spoke = is_feature(title, body)
    scope = Scope.SCOPE_FEATURE if feature else Scope.SCOPE_FOCUSED
    if asked_type != TaskType.TASK_TYPE_UNSPECIFIED and asked_type in TYPES:
        return Classification(
            type=asked_type,
            scope=asked_scope or Scope.SCOPE_FOCUSED,
            scores=tuple((type, float(type == asked_type)) for type in TYPES),
            confidence=1.0,
            method="submitter",
            reasons=("asked for by the submitter",),
        )
    points, reasons = _points(title, body)
    scores = _scores(points)
    winner = max(TYPES, key=scores.__getitem__)
    sure = bool(reasons) and scores[winner] >= ABSTAIN_BELOW
    said = [*(f"{word} → {name_of(winner)}" for word in reasons.get(winner, ())), *_scope_reasons(feature, spoke)]
    return Classification(
        type=winner,
        scope=asked_scope or scope,
        scores=tuple((type, scores[type]) for type in TYPES),
        confidence=scores[winner],
        method="rules" if sure else "fallback",
        reasons=tuple(said[:REASONS_MAX]),
    )


def name_of(type: TaskType) -> str:
    return _NAMES[type]


def normalised(text: str) -> str:
    """One form for equal-looking text (NFKC), without control characters, and no longer than anybody writes."""
    plain = unicodedata.normalize("NFKC", text[:TEXT_CHARS_MAX].encode(errors="replace").decode())
    kept = "".join(c if c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs") else " " for c in plain)
    return kept[:TEXT_CHARS_MAX].strip()


def _points(title: str, body: str) -> tuple[dict[TaskType, float], dict[TaskType, list[str]]]:
    points = {type: PRIOR.get(type, 0.0) for type in TYPES}
    reasons: dict[TaskType, list[str]] = {}
    for rule in RULES:
        for part, weight in ((title, 1.0), (body, BODY_WEIGHT)):
            if part and (match := rule.words.search(part)):
                points[rule.type] += rule.weight * weight
                word = " ".join(match.group().split()).lower()[:_QUOTED_CHARS_MAX]
                if word not in reasons.setdefault(rule.type, []):
                    reasons[rule.type].append(word)
    return points, reasons


def _scores(points: dict[TaskType, float]) -> dict[TaskType, float]:
    """Softmax: comparable, positive, and 1 together."""
    loudest = max(points.values())
    powers = {type: math.exp((value - loudest) / TEMPERATURE) for type, value in points.items()}
    total = math.fsum(powers.values())
    return {type: power / total for type, power in powers.items()}


def _scope_reasons(feature: bool, spoke: list[str]) -> list[str]:
    return [f"{word} → feature" for word in spoke] if feature else []
