"""What an answer is worth to its request, as far as its text alone can say.

Pure. Whether an author's edits apply is found out on disk, in `adapters/tree.py`.
"""

from dataclasses import dataclass

from factory.artifact.v1 import SEVERITY_BLOCKING, Findings
from factory.phase.v1 import Verdict

from executor.blocks import BadBlocks, Blocks, read_blocks
from executor.phase import Unusable
from executor.prompt import unescaped
from executor.verdict import Unreadable, read_review

SUMMARY_CHARACTERS_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Reviewed:
    verdict: Verdict
    findings: Findings
    summary: str

    @property
    def blocking(self) -> int:
        return sum(found.severity == SEVERITY_BLOCKING for found in self.findings.findings)


def reviewed(text: str, source: str) -> Reviewed | Unusable:
    """A reviewer's answer."""
    try:
        review = read_review(text)
    except Unreadable as complaint:
        return Unusable(text, str(complaint))
    return Reviewed(review.as_verdict, review.as_findings(source), review.summary)


def authored(text: str) -> Blocks | Unusable:
    """An author's answer."""
    try:
        return read_blocks(unescaped(text))
    except BadBlocks as complaint:
        return Unusable(text, str(complaint))


def summary_of(text: str) -> bytes:
    return text[:SUMMARY_CHARACTERS_MAX].encode(errors="replace")
