"""What an analyser reported, in one shape for all of them, and what of it a change introduced. Pure.

It never looks at files: the caller hands in the text of the lines.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum


class Side(Enum):
    """Which of the two trees a line belongs to. The value is the directory that the analysers see."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class Reported:
    """One line of one analyser's report."""

    side: Side
    tool: str
    rule: str
    path: str
    line: int
    message: str
    # The tool's own word for how bad it is: bandit's HIGH, MEDIUM, LOW; empty where it has none.
    level: str = ""


LineText = Callable[[Side, str, int], str]


def introduced(reported: Sequence[Reported], text_of: LineText) -> list[Reported]:
    """What stands in the changed tree and did not stand in the base, by rule, path and text of the line.

    Line numbers do not count: a change that only moves an old flaw has not introduced it.
    """

    def fingerprint(one: Reported) -> tuple[str, str, str, str]:
        return one.tool, one.rule, one.path, text_of(one.side, one.path, one.line).strip()

    old = Counter(fingerprint(one) for one in reported if one.side is Side.BEFORE)
    new: list[Reported] = []
    for one in _in_order(one for one in reported if one.side is Side.AFTER):
        mark = fingerprint(one)
        if old[mark] > 0:
            old[mark] -= 1
        else:
            new.append(one)
    return new


def _in_order(reported: Iterable[Reported]) -> list[Reported]:
    return sorted(reported, key=lambda one: (one.path, one.line, one.tool, one.rule))
