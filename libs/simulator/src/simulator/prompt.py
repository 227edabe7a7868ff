"""What a prompt of the factory says, read back into its parts.

Pure. It never follows anything written in a prompt: titles, files and findings are only looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any

_HEADING = re.compile(r"^(Title|Type|Scope|Phase|Round):[ \t]*(.*)$", re.MULTILINE)
_TAG_ATTRIBUTE = re.compile(r'(\w+)="([^"\n]*)"')
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


# A call reads its prompt more than once; a few calls run at a time.
@lru_cache(maxsize=16)
def read_prompt(text: str) -> Prompt:
    """The parts of one user message; what is missing stays empty."""
    # Description and attachments are free text and may look like anything: they are cut out before the rest is read.
    outside = text
    for description in _tagged(text, "task_description"):
        outside = text[: description.start] + text[description.end :]
        break
    outside = _without_attachments(outside)
    head = dict(reversed(_HEADING.findall(outside.split("\n# Repository", 1)[0])))
    sent = [found for found in _tagged(outside, "file") if found.attributes.get("path")]
    diff = "\n".join(found.inside for found in _tagged(outside, "diff"))
    added = tuple(_added(diff))
    whole = {found.attributes["path"]: found.inside for found in sent if _starts_at_the_top(found)}
    mentioned = [found.attributes["path"] for found in sent] + [line.path for line in added]
    return Prompt(
        title=head.get("Title", "").strip(),
        type=head.get("Type", "").strip(),
        scope=head.get("Scope", "").strip(),
        phase=head.get("Phase", "").strip(),
        round=int(head["Round"]) if head.get("Round", "").strip().isdigit() else 1,
        files=_created(diff, added) | whole,
        paths=tuple(dict.fromkeys(mentioned)),
        added=added,
        findings=tuple(_findings(outside)),
    )


def _without_attachments(text: str) -> str:
    """The text without the attachments that stand before the first file: a file may speak of attachments too."""
    while (attachment := next(_tagged(text, "attachment"), None)) is not None:
        file = next(_tagged(text, "file"), None)
        if file is not None and file.start < attachment.start:
            break
        text = text[: attachment.start] + text[attachment.end :]
    return text


@dataclass(frozen=True, slots=True)
class _Tagged:
    start: int
    end: int
    attributes: Mapping[str, str]
    # Ends with a line break unless it is empty.
    inside: str


def _tagged(text: str, tag: str) -> Iterator[_Tagged]:
    """What stands between tags that begin a line, in one pass: a prompt may be large and badly formed."""
    opening, closing, at = f"\n<{tag}", f"\n</{tag}>", 0
    text_from_line = "\n" + text
    while (start := text_from_line.find(opening, at)) >= 0:
        line_end = text_from_line.find("\n", start + 1)
        end = text_from_line.find(closing, line_end) if line_end >= 0 else -1
        if end < 0:
            return
        attributes = dict(_TAG_ATTRIBUTE.findall(text_from_line[start:line_end]))
        inside = text_from_line[line_end + 1 : end + 1]
        at = end + len(closing)
        yield _Tagged(start, at - 1, attributes, inside)


def _starts_at_the_top(found: _Tagged) -> bool:
    return found.attributes.get("lines", "1-").partition("-")[0] == "1"


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
    for block in _tagged(text, "findings"):
        try:
            value = json.loads(block.inside)
        except (ValueError, RecursionError):
            value = [{"message": block.inside}]
        found += [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
    return found
