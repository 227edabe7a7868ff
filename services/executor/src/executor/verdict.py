"""A reviewer's answer: one JSON object, somewhere in what it wrote.

Pure. Tolerant of fences and prose around it, strict about what it says; a complaint tells the model what to mend.
"""

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from factory.artifact.v1 import (
    SEVERITY_BLOCKING,
    SEVERITY_INFO,
    SEVERITY_WARNING,
    Finding,
    Findings,
    Severity,
)
from factory.phase.v1 import VERDICT_APPROVE, VERDICT_REQUEST_CHANGES, Verdict
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

FINDINGS_MAX = 200
MESSAGE_CHARACTERS_MAX = 4000
OBJECTS_TRIED_MAX = 100
COMPLAINTS_SHOWN_MAX = 5

_SEVERITIES: dict[str, Severity] = {
    "blocking": SEVERITY_BLOCKING,
    "warning": SEVERITY_WARNING,
    "info": SEVERITY_INFO,
}
# What models write instead of the three words they were given.
_SAME = {
    "blocker": "blocking", "critical": "blocking", "error": "blocking", "high": "blocking", "major": "blocking",
    "medium": "warning", "minor": "warning", "moderate": "warning", "warn": "warning",
    "low": "info", "nit": "info", "note": "info", "suggestion": "info",
}  # fmt: skip


class Unreadable(Exception):
    """The answer holds no review; the message is the complaint to the model."""


def _word(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    word = value.strip().lower().replace("-", "_").replace(" ", "_")
    return _SAME.get(word, word)


def _line(value: Any) -> Any:
    """12, "12" and "12-15" all mean line 12; nothing means the whole file."""
    if isinstance(value, str):
        digits = re.search(r"\d{1,9}", value)
        return int(digits.group()) if digits else 0
    if isinstance(value, int | float):
        return max(int(value), 0) if value == value and abs(value) < 2**31 else 0
    return 0 if value is None else value


def _text(limit: int) -> BeforeValidator:
    def shortened(value: Any) -> Any:
        if isinstance(value, str):
            # JSON may escape half a character, which no fact can hold.
            return value[:limit].encode(errors="replace").decode()
        return "" if value is None else value

    return BeforeValidator(shortened)


class ReviewFinding(BaseModel):
    model_config = ConfigDict(extra="ignore")

    severity: Annotated[Literal["blocking", "warning", "info"], BeforeValidator(_word)]
    message: Annotated[str, _text(MESSAGE_CHARACTERS_MAX), Field(min_length=1)]
    path: Annotated[str, _text(300)] = ""
    line: Annotated[int, BeforeValidator(_line)] = 0
    rule: Annotated[str, _text(80)] = ""


class Review(BaseModel):
    """What a reviewer says of a change."""

    model_config = ConfigDict(extra="ignore")

    verdict: Annotated[Literal["approve", "request_changes"], BeforeValidator(_word)]
    summary: Annotated[str, _text(MESSAGE_CHARACTERS_MAX)] = ""
    findings: Annotated[list[ReviewFinding], Field(max_length=FINDINGS_MAX)] = []

    @model_validator(mode="after")
    def _changes_need_a_reason(self) -> "Review":
        if self.verdict == "request_changes" and not self.findings:
            if not self.summary:
                raise ValueError("the verdict is request_changes, and no finding says why")
            self.findings = [ReviewFinding(severity="blocking", message=self.summary)]
        return self

    @property
    def as_verdict(self) -> Verdict:
        return VERDICT_APPROVE if self.verdict == "approve" else VERDICT_REQUEST_CHANGES

    def as_findings(self, source: str) -> Findings:
        """The findings as the rest of the factory knows them."""
        return Findings(
            findings=[
                Finding(
                    source=source,
                    rule=found.rule,
                    severity=_SEVERITIES[found.severity],
                    path=found.path,
                    line=found.line,
                    message=found.message,
                )
                for found in self.findings
            ]
        )


def read_review(text: str) -> Review:
    """The review that an answer holds; raises Unreadable with a complaint that the model can act on."""
    complaint = "It holds no JSON object."
    for candidate in _objects(text):
        try:
            return Review.model_validate(candidate)
        except ValidationError as error:
            # An object that was meant as the review explains more than a stray one before it.
            if "verdict" in candidate or complaint.startswith("It holds no"):
                complaint = _explain(error)
    raise Unreadable(complaint)


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Every JSON object that starts somewhere in the text, outermost first."""
    decoder, position = json.JSONDecoder(strict=False), 0
    for _ in range(OBJECTS_TRIED_MAX):
        position = text.find("{", position)
        if position < 0:
            return
        try:
            found, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            position += 1
            continue
        yield found


def _explain(error: ValidationError) -> str:
    lines = [
        f"- {'.'.join(str(part) for part in problem['loc']) or 'review'}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_input=False)[:COMPLAINTS_SHOWN_MAX]
    ]
    return "The JSON object is not a review:\n" + "\n".join(lines)
