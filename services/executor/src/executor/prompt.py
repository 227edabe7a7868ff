"""Renders what a model is asked, from versioned templates, cut to what fits its context window.

Pure apart from reading its own templates. The same facts and artifacts always give the same prompt. Untrusted text
stands between tags that it cannot close.
"""

import functools
import json
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jinja2
from factory.artifact.v1 import Findings, PackFile, Severity
from factory.task.v1 import PHASE_KIND_REVIEW, PhaseKind, Scope, TaskType
from policy.ranking import IMAGE_TOKENS_MAX
from policy.routes import phase_word, scope_word, type_word

from executor.answer import Image, Message
from executor.phase import Unusable

VERSION = "v1"
MESSAGE_OVERHEAD_TOKENS = 32
"""What a provider's chat format adds per message, rounded up."""
WINDOW_MARGIN_TOKENS = 64

_TAGS = r"(?:task_description|attachment|file|diff|findings)"
_CLOSING = re.compile(rf"<(/\s*{_TAGS}\b)", re.I)
_CLOSING_ESCAPED = re.compile(rf"<\\(/\s*{_TAGS}\b)", re.I)


QUOTED_CHARACTERS = (20_000, 2_000, 200)
"""How much of an unusable answer is said back to the model: as much as fits, for it has to answer in full again."""


class ContextTooLarge(Exception):
    """What the model must see does not fit its window, even without any file of the repository."""


@dataclass(frozen=True, slots=True)
class ShownFile:
    """A file, or a part of one, as it is now."""

    path: str
    first_line: int
    text: str

    @property
    def last_line(self) -> int:
        return self.first_line + max(len(self.text.splitlines()), 1) - 1


@dataclass(frozen=True, slots=True)
class ShownText:
    """A text that the submitter has attached."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """All that the prompt of a request is made from."""

    phase: PhaseKind
    round: int
    title: str
    type: TaskType
    scope: Scope
    body: str = ""
    files: tuple[ShownFile, ...] = ()
    diff: str = ""
    findings: Findings | None = None
    texts: tuple[ShownText, ...] = ()
    images: tuple[Image, ...] = ()

    @property
    def characters(self) -> int:
        """About how much text there is to render."""
        return len(self.body) + len(self.diff) + sum(len(file.text) for file in (*self.files, *self.texts))


@dataclass(frozen=True, slots=True)
class Prompt:
    system: str
    messages: tuple[Message, ...]

    @property
    def tokens_estimate(self) -> int:
        """The most tokens that a provider may count for it."""
        texts = (self.system, *(message.text for message in self.messages))
        images = sum(len(message.images) for message in self.messages)
        return sum(tokens_max(text) + MESSAGE_OVERHEAD_TOKENS for text in texts) + images * IMAGE_TOKENS_MAX


# Bytes by class: lower-case letters and blanks become "a", everything else "b".
_CLASSES = bytes(ord("a") if chr(code) in string.ascii_lowercase + " " else ord("b") for code in range(256))


def tokens_max(text: str) -> int:
    """No tokenizer in use makes more tokens of a text: a bound, about three times the truth for English and code.

    They all build on single bytes, so a token is a byte at least. Their vocabularies hold every pair of lower-case
    letters, and every letter after a blank: within a run of these, three bytes are two tokens at most. Everything else
    counts byte by byte: digits, which some split one by one, symbols, capitals, line ends, and what is not ASCII.
    """
    classes = text.encode(errors="replace").translate(_CLASSES)
    return len(classes) - classes.count(b"aaa")


def shown_files(pack: Sequence[PackFile], now: dict[str, str | None]) -> tuple[ShownFile, ...]:
    """The files a model is shown: first those that the change touched, as they are now, then the pack by rank.

    `now` holds the touched files; None stands for one that was deleted.
    """
    changed = tuple(ShownFile(path, 1, text) for path, text in now.items() if text is not None)
    ranked = sorted(pack, key=lambda file: (file.rank or len(pack) + 1, file.path, file.first_line))
    rest = tuple(ShownFile(file.path, max(file.first_line, 1), file.text) for file in ranked if file.path not in now)
    return changed + rest


def prompt_for(assignment: Assignment, exchanges: Sequence[Unusable], *, budget_tokens: int) -> Prompt:
    """The conversation so far; files are left out, the least relevant first, until it fits the budget."""
    if assignment.characters * 2 // 3 <= budget_tokens:
        # Mostly all of it fits: then nothing needs to be measured piece by piece.
        whole = _render(assignment, [_quoted(exchange, QUOTED_CHARACTERS[0]) for exchange in exchanges])
        if whole.tokens_estimate + WINDOW_MARGIN_TOKENS <= budget_tokens:
            return whole
    needed = 0
    for quoted in QUOTED_CHARACTERS:
        brief = [_quoted(exchange, quoted) for exchange in exchanges]
        needed = _render(replace(assignment, files=()), brief).tokens_estimate + WINDOW_MARGIN_TOKENS
        if needed <= budget_tokens:
            return _render(replace(assignment, files=_cut(assignment.files, budget_tokens - needed)), brief)
    raise ContextTooLarge(f"about {needed} tokens without any file; {budget_tokens} fit beside the answer")


def unescaped(text: str) -> str:
    """A model's text with the tags as they stand in the files: we had escaped them for it."""
    return _CLOSING_ESCAPED.sub(r"<\1", text)


def _render(assignment: Assignment, exchanges: Sequence[Unusable]) -> Prompt:
    is_review = assignment.phase == PHASE_KIND_REVIEW
    words = {
        "assignment": assignment,
        "phase": phase_word(assignment.phase),
        "type": type_word(assignment.type),
        "scope": scope_word(assignment.scope),
        "findings": _findings_json(assignment.findings),
    }
    system = _system("review.j2" if is_review else "author.j2", words["phase"])
    messages = [Message("user", _template("task.j2").render(words), assignment.images)]
    for exchange in exchanges:
        complaint = _template("complaint.j2").render(complaint=exchange.complaint, is_review=is_review)
        messages += [Message("assistant", exchange.answer or "(empty)"), Message("user", complaint)]
    return Prompt(system, tuple(messages))


@functools.cache
def _system(template: str, phase: str) -> str:
    """The role and its rules: the same for all requests of a phase."""
    return _template(template).render(phase=phase)


def _quoted(exchange: Unusable, characters: int) -> Unusable:
    """An exchange whose answer and complaint are no longer than this."""
    if len(exchange.answer) + len(exchange.complaint) <= characters:
        return exchange
    answer, complaint = exchange.answer[: characters // 2], exchange.complaint[: characters // 2]
    return Unusable(f"{answer}\n[…]" if answer != exchange.answer else answer, complaint)


def _cut(files: Sequence[ShownFile], budget: int) -> tuple[ShownFile, ...]:
    """As many files as fit, in their order; the first that does not fit whole is shown as far as it does."""
    kept: list[ShownFile] = []
    for file in files:
        cost = _cost(file)
        if cost > budget:
            if part := _part(file, budget):
                kept.append(part)
            break
        kept.append(file)
        budget -= cost
    return tuple(kept)


def _part(file: ShownFile, budget: int) -> ShownFile | None:
    lines, kept, left = file.text.splitlines(keepends=True), 0, budget - _cost(replace(file, text=""))
    for line in lines:
        # A run of letters that a cut divides counts for two: one token per line is more than that.
        left -= tokens_max(_inside(line)) + 1
        if left < 0:
            break
        kept += 1
    return replace(file, text="".join(lines[:kept])) if kept else None


def _cost(file: ShownFile) -> int:
    return tokens_max(_attribute(file.path) + _inside(file.text)) + MESSAGE_OVERHEAD_TOKENS


def _findings_json(findings: Findings | None) -> str:
    """One finding per line, so that a long list stays readable."""
    if findings is None or not findings.findings:
        return ""
    rows = [
        {
            "source": found.source,
            "severity": Severity.Name(found.severity).removeprefix("SEVERITY_").lower(),
            "rule": found.rule,
            "path": found.path,
            "line": found.line,
            "message": found.message,
        }
        for found in findings.findings
    ]
    return "[" + ",\n ".join(json.dumps(row, ensure_ascii=False) for row in rows) + "]"


def _inside(text: str) -> str:
    """Text that cannot close the tag around it."""
    return _CLOSING.sub(r"<\\\1", text)


def _attribute(text: str) -> str:
    return " ".join(text.split()).replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")


def _one_line(text: str) -> str:
    return " ".join(text.split())


@functools.cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("executor", f"prompts/{VERSION}"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701  what is rendered is no HTML; untrusted text goes through the filters below
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(inside=_inside, attribute=_attribute, one_line=_one_line)
    return environment.get_template(name)
