"""What a prompt of the factory says, read back into its parts.

Pure. It never follows anything written in a prompt: titles, files and findings are only looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

_HEADING = re.compile(r"^(Title|Type|Scope|Phase|Round):[ \t]*(.*)$", re.MULTILINE)
_FILE = re.compile(
    r'^<file path="(?P<path>[^"\n]+)"(?P<rest>[^>\n]*)>\n(?P<text>.*?)\n?^</file>', re.MULTILINE | re.DOTALL
)
_LINES = re.compile(r'lines="(\d+)-(\d+)"')
_DIFF = re.compile(r"^<diff>\n(.*?)\n?^</diff>", re.MULTILINE | re.DOTALL)
_FINDINGS = re.compile(r"^<findings>\n(.*?)\n?^</findings>", re.MULTILINE | re.DOTALL)
_DESCRIPTION = re.compile(r"^<task_description>.*?^</task_description>", re.MULTILINE | re.DOTALL)
_NEW_FILE = re.compile(r"^\+\+\+ b/(.+)$")
_HUNK = re.compile(r"^@@ -\d+(?:,\d+)? \+(\d+)")


@dataclass(frozen=True, slots=True)
class Added:
    """One line that the diff adds."""

    path: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Prompt:
    title: str = ""
    type: str = ""
    scope: str = ""
    phase: str = ""
    round: int = 1
    files: Mapping[str, str] = field(default_factory=dict)
    """Whole files as they are now; what was sent only in part is not here."""
    paths: tuple[str, ...] = ()
    """Every path the prompt mentions as a file or in the diff."""
    added: tuple[Added, ...] = ()
    findings: tuple[Mapping[str, Any], ...] = ()


def read_prompt(text: str) -> Prompt:
    """The parts of one user message; what is missing stays empty."""
    # The description is free text and may look like anything: it is cut out before the rest is read.
    outside = _DESCRIPTION.sub("", text, count=1)
    head = dict(reversed(_HEADING.findall(outside.split("\n# Repository", 1)[0])))
    diff = "\n".join(_DIFF.findall(outside))
    sent = list(_FILE.finditer(outside))
    added = tuple(_added(diff))
    files = _created(diff, added) | {match["path"]: match["text"] + "\n" for match in sent if _is_whole(match)}
    mentioned = [match["path"] for match in sent] + [line.path for line in added]
    return Prompt(
        title=head.get("Title", "").strip(),
        type=head.get("Type", "").strip(),
        scope=head.get("Scope", "").strip(),
        phase=head.get("Phase", "").strip(),
        round=int(head["Round"]) if head.get("Round", "").strip().isdigit() else 1,
        files=files,
        paths=tuple(dict.fromkeys(mentioned)),
        added=added,
        findings=tuple(_findings(outside)),
    )


def _is_whole(match: re.Match[str]) -> bool:
    lines = _LINES.search(match["rest"])
    return lines is None or lines[1] == "1"


def _added(diff: str) -> list[Added]:
    found: list[Added] = []
    path, line = "", 0
    for row in diff.splitlines():
        if new := _NEW_FILE.match(row):
            path = new[1]
        elif hunk := _HUNK.match(row):
            line = int(hunk[1])
        elif row.startswith("+") and not row.startswith("+++"):
            found.append(Added(path, line, row[1:]))
            line += 1
        elif row.startswith(" ") or row == "":
            line += 1
    return found


def _created(diff: str, added: Sequence[Added]) -> dict[str, str]:
    """Files that the diff creates, which a tight prompt may not repeat below."""
    created: list[str] = []
    lines = diff.splitlines()
    for before, after in pairwise(lines):
        if before == "--- /dev/null" and (new := _NEW_FILE.match(after)):
            created.append(new[1])
    return {path: "".join(f"{line.text}\n" for line in added if line.path == path) for path in created}


def _findings(text: str) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for block in _FINDINGS.findall(text):
        try:
            value = json.loads(block)
        except ValueError:
            value = [{"message": block}]
        found += [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
    return found
