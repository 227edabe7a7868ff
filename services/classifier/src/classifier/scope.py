"""Whether a task is one row of the routing table, or a feature that spans several.

Pure. A feature is something new that a user would name ("user authentication"), not one part of it (a form, a
function) and not work on what is there (fix, refactor, document, test).
"""

import re
from dataclasses import dataclass

FEATURE_POINTS_MIN = 3.0
LAYERS_MIN = 3


@dataclass(frozen=True, slots=True)
class ScopeRule:
    points: float
    words: re.Pattern[str]


def _rule(points: float, words: str) -> ScopeRule:
    return ScopeRule(points, re.compile(rf"(?<![\w-])(?:{words})(?!\w)", re.I))


_CREATE = r"create|build|implement|introduce|add|support|develop|set up|enable|provide|allow|let|integrate"
TITLE_RULES: tuple[ScopeRule, ...] = (
    ScopeRule(1, re.compile(rf"^(?:please |feat(?:\([\w./-]*\))?!?: ?)?(?:{_CREATE})\b", re.I)),
    ScopeRule(
        -4,
        re.compile(
            r"^(?:fix\w*|refactor\w*|document\w*|docs?\b|tests?\b|rename|remove|update|improve|design|clean|simplif\w+"
            r"|extract|split|move|describe|explain|clarify|write|plan|propose|optimi[sz]e|bump|revert|replace)",
            re.I,
        ),
    ),
    _rule(3, r"authentication|authorization|auth|log-?in|sign-?up|sign-?in|registration|sso|oauth2?|two[- ]factor|2fa"),
    _rule(
        3, r"payments?|checkout|billing|subscriptions?|invoicing|shopping cart|multi-?tenan\w+|internationali[sz]ation"
    ),
    _rule(3, r"onboarding|password reset|role[- ]based access(?: control)?|rbac|audit (?:log|trail)|chat|messaging"),
    _rule(3, r"notifications?|admin (?:panel|area|dashboard)|user management|recommendations?|full[- ]text search"),
    _rule(3, r"end[- ]to[- ]end|full[- ]stack|from scratch|feature|whole|complete|entire"),
    _rule(2, r"search|dashboard|file uploads?|import|export|reporting|comments|permissions|roles|profiles?|workflow"),
    _rule(2, r"system|flow|integration|portal|marketplace|wizard|service|app|application"),
    _rule(-1, r"end-?points?|routes?|fields?|columns?|options?|flags?|parameters?|headers?|links?"),
    _rule(
        -3, r"functions?|methods?|forms?|components?|buttons?|icons?|dialogs?|modals?|styles?|css|tool-?tips?|labels?"
    ),
    _rule(-3, r"unit tests?|tests?|docs?|documentation|readme|algorithm|helper|regex|query|type hints?|typos?|bugs?"),
)
# Different floors of one building: a task that names several of them spans types.
LAYERS: tuple[re.Pattern[str], ...] = (
    re.compile(r"\b(?:front-?end|ui|pages?|screens?|forms?)\b", re.I),
    re.compile(r"\b(?:back-?end|end-?points?|api|server)\b", re.I),
    re.compile(r"\b(?:database|migrations?|schema|tables?|stor(?:e|age)|persist\w*)\b", re.I),
    re.compile(r"\b(?:e-?mails?|notifications?|jobs?|queue|webhooks?)\b", re.I),
    re.compile(r"\b(?:tests?|docs?|documentation)\b", re.I),
)


def is_feature(title: str, body: str) -> tuple[bool, list[str]]:
    """The answer, and the words that spoke for it."""
    points = 0.0
    spoke: list[str] = []
    for rule in TITLE_RULES:
        if match := rule.words.search(title):
            points += rule.points
            if rule.points > 1:
                spoke.append(match.group().strip().lower())
    layers = [match.group().lower() for layer in LAYERS if (match := layer.search(f"{title}\n{body}"))]
    if len(layers) >= LAYERS_MIN:
        points += 1
        spoke.extend(layers)
    return points >= FEATURE_POINTS_MIN, spoke
