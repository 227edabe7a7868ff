"""The words of a delivery: branch, commit message, title and body of the pull request. Pure.

Titles, notes and names are text of strangers. Here they become text again: no line of their own, no trailer, no link,
nobody who is called, no issue that is closed.
"""

import re
import unicodedata
from collections.abc import Sequence

AUTHOR = "AI Factory <factory@users.noreply.invalid>"
TITLE_CHARACTERS_MAX = 200
NOTE_CHARACTERS_MAX = 500
NOTES_MAX = 50
SLUG_CHARACTERS_MAX = 40
# GitHub takes 65,536 characters.
BODY_CHARACTERS_MAX = 60_000

# Between the sign and the name it stands for nobody.
_ZERO_WIDTH = "\u200b"
_CALLS = re.compile(r"@(?=\w)|#(?=\d)|(?<=\bGH)-(?=\d)", re.IGNORECASE)
_MARKUP = re.compile(r"[\\`*_\[\]()<>!|~]")


def branch_name(task_id: str, title: str) -> str:
    """`factory/<task id>-<slug>`: the same for the same task, whoever asks and however often."""
    ascii_title = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_title).strip("-")
    if len(slug) > SLUG_CHARACTERS_MAX:
        words = slug[: SLUG_CHARACTERS_MAX + 1].rpartition("-")[0]
        slug = words or slug[:SLUG_CHARACTERS_MAX]
    return f"factory/{task_id}-{slug}" if slug else f"factory/{task_id}"


def plain(text: str, most: int = TITLE_CHARACTERS_MAX) -> str:
    """One line that calls nobody and refers to no issue."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    cut = line if len(line) <= most else line[: most - 1].rstrip() + "…"
    return _CALLS.sub(lambda match: match.group() + _ZERO_WIDTH, cut)


def markdown(text: str, most: int = NOTE_CHARACTERS_MAX) -> str:
    """The same, and no markup either. A link would need its `://` to be found."""
    escaped = _MARKUP.sub(lambda match: "\\" + match.group(), plain(text, most))
    return escaped.replace("://", f":{_ZERO_WIDTH}//").replace("www.", f"www{_ZERO_WIDTH}.")


def commit_message(title: str, task_id: str, approved_by: str) -> str:
    """Subject and trailers; the title cannot bring trailers of its own."""
    trailers = [f"Task: {task_id}"]
    if approver := plain(approved_by):
        trailers.append(f"Approved-by: {approver}")
    return "\n".join([plain(title) or f"Task {task_id}", "", *trailers, ""])


def body(*, task_id: str, title: str, approved_by: str, tree: str, notes: Sequence[str]) -> str:
    """The pull request's description: who did it, what a reader must know, what it used."""
    known = [note for note in dict.fromkeys(notes) if note][:NOTES_MAX]
    approved = f" and approved by {markdown(approved_by)}" if approved_by else ""
    parts = [
        f"**{markdown(title, TITLE_CHARACTERS_MAX)}**",
        f"Written by models in AI Factory{approved}. Task `{task_id}`.",
    ]
    if known:
        parts.append("\n".join(["### To know before merging", "", *(f"- {markdown(note)}" for note in known)]))
    parts.append("\n".join(["### Tokens", "", fenced(tree)]))
    text = "\n\n".join(parts) + "\n"
    return text if len(text) <= BODY_CHARACTERS_MAX else text[:BODY_CHARACTERS_MAX] + "\n…\n"


def fenced(text: str) -> str:
    """A block of code that its content cannot end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def pretend_note(names: Sequence[str]) -> str:
    """That some of the models were played by a simulator; empty when none was."""
    if not names:
        return ""
    verb = "is" if len(names) == 1 else "are"
    return f"{', '.join(names)} {verb} pretend: a simulator answered, and nothing was billed"


def moved_note(base_branch: str) -> str:
    return f"{base_branch} has moved on since this work began; nothing was rebased, because nobody has reviewed that"
