"""Files in the order in which they matter to a task: BM25 over the words of their paths and texts.

Pure: the same task and files give the same order. Never looks at who asked, or at anything outside its arguments.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from context.selection import prior
from context.words import words

# A path says what a file is about in few words; each counts as much as several in the text.
PATH_WEIGHT = 4
QUERY_CHARS_MAX = 20_000
_SCORE_DIGITS = 4


@dataclass(frozen=True, slots=True)
class SourceFile:
    path: str
    blob: str
    text: str


@dataclass(frozen=True, slots=True)
class Ranked:
    file: SourceFile
    score: float


def ranked(query: str, files: Sequence[SourceFile]) -> list[Ranked]:
    """Most relevant first; where the task's words say nothing, what explains the repository goes first."""
    wanted = sorted(set(words(query[:QUERY_CHARS_MAX])))
    scores = _scores(wanted, files)
    both = [Ranked(file, round(score, _SCORE_DIGITS)) for file, score in zip(files, scores, strict=True)]
    return sorted(both, key=lambda one: (-one.score, prior(one.file.path), one.file.path))


def _scores(wanted: list[str], files: Sequence[SourceFile]) -> list[float]:
    documents = [words(file.path) * PATH_WEIGHT + words(file.text) for file in files]
    known = {word for document in documents for word in document}
    asked = [word for word in wanted if word in known]
    if not asked:
        return [0.0] * len(files)
    # Imported here: numpy costs a quarter of a second, and a service should be ready before it.
    from bm25s import BM25

    index = BM25()
    index.index(documents, show_progress=False)
    return [float(score) for score in index.get_scores(asked)]
