"""Edit blocks as the factory's authors write them: read, and tried on the files of a prompt.

Pure, and strict on purpose: an answer given here must apply word for word, so there is no tolerance to hide a mistake.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_BLOCK = re.compile(r"^<{7} SEARCH\n(?P<search>.*?)^={7}\n(?P<replace>.*?)^>{7} REPLACE$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"^FILE: (?P<path>\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Edit:
    path: str
    search: str
    replace: str


def edits_in(answer: str) -> list[Edit]:
    """The edit blocks of an answer, in order."""
    edits: list[Edit] = []
    sections = list(_FILE.finditer(answer))
    ends = [section.start() for section in sections[1:]] + [len(answer)]
    for section, end in zip(sections, ends, strict=True):
        for block in _BLOCK.finditer(answer, section.end(), end):
            edits.append(Edit(section["path"], block["search"], block["replace"]))
    return edits


def applied(edits: list[Edit], files: Mapping[str, str]) -> dict[str, str] | None:
    """The files after these edits; `None` if one of them does not match exactly once."""
    after = dict(files)
    for edit in edits:
        if not edit.search:
            after[edit.path] = edit.replace
            continue
        if edit.path not in after or after[edit.path].count(edit.search) != 1:
            return None
        after[edit.path] = after[edit.path].replace(edit.search, edit.replace)
    return after


def block(path: str, search: str, replace: str) -> str:
    """One edit block; an empty `search` creates or replaces the whole file."""
    return f"FILE: {path}\n<<<<<<< SEARCH\n{search}=======\n{replace}>>>>>>> REPLACE\n"
