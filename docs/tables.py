"""The tables in the docs that are made from the code, so that they cannot lie. Called by cog."""

from typing import Any

from eventlog.facts import KINDS
from factory.options.v1 import heard_by, said_by
from policy.routes import routing_table as routing_table

SAID_BY: Any = said_by
HEARD_BY: Any = heard_by


def who_says_what() -> str:
    """Every fact: who may say it, who acts on it."""
    lines = ["| fact | said by | acted on by |", "|---|---|---|"]
    for kind in sorted(KINDS.values(), key=lambda kind: (list(kind.GetOptions().Extensions[SAID_BY]), kind.name)):
        options = kind.GetOptions()
        said = ", ".join(options.Extensions[SAID_BY])
        heard = ", ".join(options.Extensions[HEARD_BY]) or "–"
        lines.append(f"| `{kind.name}` | {said} | {heard} |")
    return "\n".join(lines)
