"""Secrets that the context service took out of the pack stay out of what a model sees later.

Pure. It looks for no secrets of its own: it compares the files as they were with the pack, learns which lines were
redacted, hides those lines wherever they come up again, and puts them back where a model's edit names them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Redactions:
    """Lines that were redacted, by file, both ways."""

    hidden: dict[str, str] = field(default_factory=dict)
    original: dict[str, dict[str, str | None]] = field(default_factory=dict)

    def learn(self, path: str, text: str, packed: str, first_line: int) -> None:
        """Compares a file at the base commit with what the pack shows of it from `first_line` on."""
        if text == packed and first_line <= 1:
            return
        at = max(first_line, 1) - 1
        packed_lines = packed.splitlines()
        for line, shown in zip(text.splitlines()[at : at + len(packed_lines)], packed_lines, strict=False):
            if line != shown:
                self.hidden[line] = shown
                known = self.original.setdefault(path, {})
                # Two secrets behind one and the same line cannot be told apart, so neither is put back.
                known[shown] = line if known.get(shown, line) == line else None

    def hide(self, text: str) -> str:
        """The text, a file or a diff, without the lines that were redacted."""
        if not self.hidden:
            return text
        return "\n".join(self._hide_line(line) for line in text.split("\n"))

    def restore(self, path: str, lines: Iterable[str]) -> tuple[str, ...]:
        """A model's lines for a file, with what it could not see put back."""
        known = self.original.get(path, {})
        return tuple(known.get(line) or line for line in lines)

    def hide_shown(self, complaint: str) -> str:
        """A complaint that quotes lines of a file after their numbers, without those that were redacted."""
        shown = (line.partition(" | ") for line in complaint.split("\n"))
        return "\n".join(f"{number}{bar}{self.hidden.get(text, text)}" for number, bar, text in shown)

    def _hide_line(self, line: str) -> str:
        if line in self.hidden:
            return self.hidden[line]
        if line[:1] in ("+", "-", " ") and line[1:] in self.hidden:
            return line[0] + self.hidden[line[1:]]
        return line
