"""Reads search/replace blocks out of a model's answer.

Pure, and about the form only: whether a block applies is decided in `edits.py`. Whatever stands outside the blocks is
the model's prose.
"""

import re
from dataclasses import dataclass, field

BLOCKS_MAX = 400

_FILE = re.compile(r"^[\s>*#`-]*FILE:\s*(?P<path>.+?)\s*$")
_DELETE = re.compile(r"^[\s>*#`-]*DELETE:\s*(?P<path>.+?)\s*$")
_SEARCH = re.compile(r"^\s{0,3}<{5,9}\s*SEARCH\s*$", re.I)
_DIVIDER = re.compile(r"^={5,9}\s*$")
_REPLACE = re.compile(r"^\s{0,3}>{5,9}\s*REPLACE\s*$", re.I)
_FENCE = re.compile(r"^\s{0,3}(`{3,}|~{3,})[\w.+-]*\s*$")


class BadBlocks(Exception):
    """The answer's blocks cannot be read; the message is the complaint to the model."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Lines to find in a file and lines to put there; nothing to find means the whole file.

    A line of equals signs may belong to the text (a heading in reStructuredText), so there can be more than one way to
    split a block; the longest SEARCH part that stands in the file is meant.
    """

    path: str
    number: int
    splits: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]

    @property
    def is_whole_file(self) -> bool:
        return not self.splits[0][0]


@dataclass(frozen=True, slots=True)
class Deletion:
    path: str
    number: int


@dataclass(frozen=True, slots=True)
class Blocks:
    """An answer, taken apart."""

    summary: str
    edits: tuple[Edit | Deletion, ...]


@dataclass(slots=True)
class _Reading:
    """How far the reader has come."""

    path: str = ""
    prose: list[str] = field(default_factory=list)
    edits: list[Edit | Deletion] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def number(self, path: str) -> int:
        self.counts[path] = self.counts.get(path, 0) + 1
        return self.counts[path]


def read_blocks(text: str) -> Blocks:
    """The blocks of an answer in their order, and its prose; raises BadBlocks with a complaint."""
    lines, reading, position = text.replace("\r\n", "\n").split("\n"), _Reading(), 0
    while position < len(lines):
        line = lines[position]
        if _SEARCH.match(line):
            position = _read_block(lines, position, reading)
        elif found := _DELETE.match(line):
            path = _plain(found["path"])
            reading.edits.append(Deletion(path, reading.number(path)))
        elif found := _FILE.match(line):
            reading.path = _plain(found["path"])
        elif not _FENCE.match(line):
            reading.prose.append(line)
        position += 1
        if len(reading.edits) > BLOCKS_MAX:
            raise BadBlocks(f"There are more than {BLOCKS_MAX} blocks; send fewer, larger ones.")
    return Blocks("\n".join(reading.prose).strip(), tuple(reading.edits))


def _read_block(lines: list[str], start: int, reading: _Reading) -> int:
    """Reads one block that opens at `start`; returns the position of its last line."""
    if not reading.path:
        raise BadBlocks("A SEARCH block stands before any line `FILE: path`, so it is not known which file it is for.")
    number = reading.number(reading.path)
    dividers: list[int] = []
    for position in range(start + 1, len(lines)):
        line = lines[position]
        if _DIVIDER.match(line):
            dividers.append(position)
        elif _REPLACE.match(line) and dividers:
            splits = tuple((tuple(lines[start + 1 : at]), tuple(lines[at + 1 : position])) for at in dividers)
            reading.edits.append(Edit(reading.path, number, splits))
            return position
        elif _SEARCH.match(line):
            break
    missing = ">>>>>>> REPLACE" if dividers else "======="
    raise BadBlocks(f"Block {number} of {reading.path} does not end: there is no line `{missing}` where one is needed.")


def _plain(path: str) -> str:
    """The path without the marks that models put around it."""
    return path.strip().strip("`*\"'").strip()
