"""Fills a token budget with the files that matter most; of large ones, the lines around what the task speaks of.

Pure, given a way to count tokens. Never exceeds the budget, and never holds a line that was not redacted first.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from factory.artifact.v1 import Pack, PackFile
from factory.context.v1 import ManifestEntry

from context.ranking import QUERY_CHARS_MAX, Ranked, SourceFile
from context.redaction import redacted
from context.words import words

CountTokens = Callable[[str], int]

# What frames a file in a prompt: `<file path="…" lines="1-80">` and its end.
FRAME_TOKENS = 16
# No file takes more than this part of the budget, unless everything fits anyway.
SHARE_OF_BUDGET_MAX = 1 / 3
BYTES_PER_TOKEN_LOW = 2.5
# Less than this of a file says nothing.
EXCERPT_TOKENS_MIN = 120
LINES_AROUND = 12
HEAD_LINES = 15
# The manifest is a fact, and a fact has 256 KB.
PARTS_MAX = 400
# Files whose words say nothing about the task are shown only this many: enough to see the house style.
UNRELATED_FILES_MAX = 12


@dataclass(frozen=True, slots=True)
class Packed:
    pack: Pack
    manifest: tuple[ManifestEntry, ...]
    tokens: int
    redactions: int


@dataclass(frozen=True, slots=True)
class _Part:
    first_line: int
    last_line: int
    text: str
    tokens: int
    redactions: int


def packed(query: str, order: Sequence[Ranked], budget_tokens: int, count: CountTokens) -> Packed:
    """As much of the files as fits, best first, with a manifest of what was taken."""
    wanted = frozenset(words(query[:QUERY_CHARS_MAX]))
    everything_fits = sum(len(one.file.text) for one in order) / BYTES_PER_TOKEN_LOW <= budget_tokens
    share = budget_tokens if everything_fits else int(budget_tokens * SHARE_OF_BUDGET_MAX)
    pack, manifest = Pack(), list[ManifestEntry]()
    left, redactions, rank = budget_tokens, 0, 0
    for one in _worth_their_tokens(order, everything_fits):
        if (left < EXCERPT_TOKENS_MIN and not everything_fits) or len(manifest) >= PARTS_MAX:
            break
        parts = _parts_of(one.file, wanted, min(left, share), count)[: PARTS_MAX - len(manifest)]
        rank += bool(parts)
        for part in parts:
            pack.files.append(_pack_file(one.file, part, rank))
            manifest.append(_manifest_entry(one.file, part, rank))
            left -= part.tokens
            redactions += part.redactions
    return Packed(pack, tuple(manifest), budget_tokens - left, redactions)


def _worth_their_tokens(order: Sequence[Ranked], everything_fits: bool) -> Iterable[Ranked]:
    unrelated = 0
    for one in order:
        unrelated += one.score <= 0
        if everything_fits or unrelated <= UNRELATED_FILES_MAX:
            yield one


def _parts_of(file: SourceFile, wanted: frozenset[str], tokens_max: int, count: CountTokens) -> list[_Part]:
    """The whole file where it fits, else ranges of it, in the order of their lines."""
    clean = redacted(file.text)
    lines = clean.lines[:-1] if clean.lines[-1] == "" else clean.lines
    frame = FRAME_TOKENS + count(file.path)

    def part(first: int, last: int, text: str) -> _Part:
        return _Part(first, last, text, frame + count(text), sum(clean.found[first - 1 : last]))

    whole = part(1, len(lines), "\n".join(clean.lines))
    if whole.tokens <= tokens_max:
        return [whole]
    if tokens_max < EXCERPT_TOKENS_MIN:
        return []
    left = tokens_max
    chosen: list[tuple[int, int]] = []
    for first, last in _windows(lines, wanted):
        cost = frame + count("\n".join(lines[first - 1 : last]) + "\n")
        if cost <= left:
            chosen.append((first, last))
            left -= cost
    # Joined ranges need one frame instead of two, so they never cost more.
    return [part(first, last, "\n".join(lines[first - 1 : last]) + "\n") for first, last in _joined(chosen)]


def _windows(lines: Sequence[str], wanted: frozenset[str]) -> list[tuple[int, int]]:
    """Ranges of lines (from 1, both ends included, none twice), best first: where most of the task's words stand."""
    size = 2 * LINES_AROUND + 1
    blocks = [(first, min(first + size - 1, len(lines))) for first in range(1, len(lines) + 1, size)]
    hits = {
        block: len(wanted.intersection(word for line in lines[block[0] - 1 : block[1]] for word in words(line)))
        for block in blocks
    }
    head = blocks[0]
    # The head says what a file is and what it imports; it goes first among equals and before what has no match.
    best = sorted((block for block in blocks if hits[block]), key=lambda block: (-hits[block], block))
    rest = [block for block in blocks if not hits[block]] if not best else []
    shown_head = (1, min(HEAD_LINES, len(lines)))
    return [*([head] if head in best else [shown_head]), *(block for block in [*best, *rest] if block != head)]


def _joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


def _pack_file(file: SourceFile, part: _Part, rank: int) -> PackFile:
    return PackFile(
        path=file.path,
        blob=file.blob,
        first_line=part.first_line,
        last_line=part.last_line,
        text=part.text,
        rank=rank,
    )


def _manifest_entry(file: SourceFile, part: _Part, rank: int) -> ManifestEntry:
    return ManifestEntry(
        path=file.path,
        blob=file.blob,
        first_line=part.first_line,
        last_line=part.last_line,
        tokens=part.tokens,
        rank=rank,
    )
