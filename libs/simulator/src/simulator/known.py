"""Answers for tasks that are known beforehand: data files, chosen by what the prompt shows.

Never gives edits that would not apply to the files in the prompt, or that would change nothing: then it has no answer.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from simulator.edits import applied, edits_in
from simulator.prompt import Added, Prompt

# A feature is reviewed by a model after it is written; a focused task of these types too.
_REVIEWED_TYPES = {"ui"}


@dataclass(frozen=True, slots=True)
class Scenario:
    """One directory of answers: `scenario.toml` and the texts that it names."""

    about: Mapping[str, Any]
    texts: Mapping[str, str]

    def fits(self, prompt: Prompt) -> bool:
        """Whether this is the task and the repository that the answers were written for."""
        known_paths = set(self.about["paths"]) <= set(prompt.paths)
        return known_paths and re.search(self.about["title"], prompt.title) is not None


@cache
def scenarios() -> tuple[Scenario, ...]:
    """Every scenario that ships with the simulator."""
    root = resources.files("simulator") / "answers"
    return tuple(_scenario(entry) for entry in sorted(root.iterdir(), key=lambda e: e.name) if entry.is_dir())


def _scenario(directory: Traversable) -> Scenario:
    texts = {entry.name: entry.read_text("utf-8") for entry in directory.iterdir() if entry.name.endswith(".md")}
    return Scenario(tomllib.loads((directory / "scenario.toml").read_text("utf-8")), texts)


def known_answer(prompt: Prompt) -> str | None:
    """The answer of the scenario that fits; `None` where none does, or none of its edits apply any more."""
    for scenario in scenarios():
        if not scenario.fits(prompt):
            continue
        if prompt.phase == "review":
            return _review(scenario, prompt)
        return next((text for text in _candidates(scenario, prompt) if _changes_something(text, prompt)), None)
    return None


def _candidates(scenario: Scenario, prompt: Prompt) -> Iterator[str]:
    plan = scenario.about["rework" if prompt.findings else "phases"]
    for name in plan.get(prompt.phase, ()):
        text = scenario.texts[name]
        fold = scenario.about["fold"].get(prompt.phase)
        if fold and not _will_be_reviewed(prompt) and not prompt.findings:
            text = _folded(text, scenario.texts[fold])
        yield text


def _will_be_reviewed(prompt: Prompt) -> bool:
    return prompt.scope == "feature" or prompt.type in _REVIEWED_TYPES


def _folded(text: str, later: str) -> str:
    """The answer with a later rework already in it."""
    for edit in edits_in(later):
        text = text.replace(edit.search, edit.replace)
    return text


def _changes_something(text: str, prompt: Prompt) -> bool:
    edits = edits_in(text)
    unseen = {edit.path for edit in edits if edit.search} - set(prompt.files)
    # A file that was not sent, or only in part, cannot be checked; the repository is known, so it is believed.
    seen = [edit for edit in edits if edit.path not in unseen]
    if any(edit.search and edit.replace in prompt.files[edit.path] for edit in seen):
        return False  # Done before: a search that still matches would do it twice.
    after = applied(seen, prompt.files)
    return after is not None and (bool(unseen) or after != dict(prompt.files))


def _review(scenario: Scenario, prompt: Prompt) -> str:
    flaw = scenario.about["flaw"]
    there = [line for line in prompt.added if line.path == flaw["path"]]
    shown = [line for line in there if re.search(flaw["present"], line.text)]
    if shown and not any(re.search(flaw["fixed"], line.text) for line in there):
        return verdict("request_changes", flaw["summary"], [_finding(flaw, shown[0])])
    approval = scenario.about["approval"]
    return verdict("approve", approval["summary" if shown else "design"], [])


def _finding(flaw: Mapping[str, Any], line: Added) -> dict[str, Any]:
    return {key: flaw[key] for key in ("severity", "path", "rule", "message")} | {"line": line.line}


def verdict(word: str, summary: str, findings: list[dict[str, Any]]) -> str:
    """A reviewer's answer, in the form that reviewers are asked for."""
    marked = f"{summary} (Simulated by AI Factory's pretend provider.)"
    return json.dumps({"verdict": word, "summary": marked, "findings": findings}, indent=2)
