"""Answers for a repository and a task never seen before: a small module with tests, marked as simulated.

Never touches a path it was not shown, or did not write itself; never puts a title into code other than as plain text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import PurePosixPath
from string import Template

from simulator.edits import block
from simulator.known import verdict
from simulator.prompt import Prompt
from simulator.tidying import tidied

MARK = "Simulated by AI Factory's pretend provider"
_SLUG_WORDS_MAX = 5
_TITLE_CHARACTERS_MAX = 90
_NAMES_TRIED_MAX = 100
_NO_PACKAGES = {"tests", "test", "docs", "doc", "examples", "scripts", "benchmarks", "bench"}


@dataclass(frozen=True, slots=True)
class Places:
    """Where this task's own files are, or would be."""

    module: str
    tests: str
    design: str
    document: str


def any_answer(prompt: Prompt) -> str:
    """An answer to this phase that applies to the files in the prompt."""
    places = places_for(prompt)
    match prompt.phase:
        case "review":
            return verdict("approve", "The change does what its title says and touches nothing else.", [])
        case "design":
            return _page(prompt, places, places.design, "design.md")
        case "document":
            return _page(prompt, places, places.document, "document.md")
        case "implement":
            return _implement(prompt, places)
        case "refactor":
            return _refactor(prompt, places)
        case "write_tests":
            return _write_tests(prompt, places)
        case _:
            return f"{MARK}: it answers the phases of a factory's task, and this prompt names none."


def places_for(prompt: Prompt) -> Places:
    """Own files where the task has them already, else free names that fit the repository."""
    slug = _slug(prompt.title)
    folder = _package(prompt.paths)
    return Places(
        module=_own_or_free(prompt, folder, slug, ".py"),
        tests=_own_or_free(prompt, "tests", f"test_{slug}", ".py"),
        design=_own_or_free(prompt, "docs/design", slug.replace("_", "-"), ".md"),
        document=_own_or_free(prompt, "docs", slug.replace("_", "-"), ".md"),
    )


def _implement(prompt: Prompt, places: Places) -> str:
    if places.module in prompt.files:
        return _reworked(prompt, places.module)
    text = _filled("module.py.txt", prompt, places)
    return _answer("A small module of its own, beside what is there.", block(places.module, "", text))


def _reworked(prompt: Prompt, path: str) -> str:
    """Something real in the own module: first a guard, then one more revision each time."""
    text = prompt.files[path]
    start = '    line = " ".join(text.split())\n'
    revision = re.search(r"^REVISION = (\d+)\n", text, re.MULTILINE)
    edits: list[str] = []
    if revision:
        edits.append(block(path, revision[0], f"REVISION = {int(revision[1]) + 1}\n"))
    if text.count(start) == 1 and "raise ValueError" not in text:
        guard = '    if longest < 1:\n        raise ValueError(f"longest must be at least 1, not {longest}")\n'
        edits.append(block(path, start, guard + start))
    if not edits:
        return _answer("The module is written anew.", block(path, "", text + f"\n\nREVISED = {prompt.round}\n"))
    said = "; ".join(str(finding.get("message", ""))[:200] for finding in prompt.findings) or "the request"
    # Findings are other people's text: on one line of prose, where no edit block can begin.
    return _answer(f"Resolved: {' '.join(said.split())}", *edits)


def _refactor(prompt: Prompt, places: Places) -> str:
    others = [path for path in prompt.files if path != places.module and not _is_test(path)]
    own = [places.module] if places.module in prompt.files else []
    # Code before prose; among equals what was sent first, as the prompt ranks it.
    for path in own + sorted(others, key=lambda path: not path.endswith(".py")):
        if (edit := tidied(path, prompt.files[path])) is not None:
            return _answer("A small clarification; nothing behaves differently.", block(path, *edit))
    return _implement(prompt, places)


def _write_tests(prompt: Prompt, places: Places) -> str:
    if places.tests in prompt.files:
        text = prompt.files[places.tests]
        more = f"\n\ndef test_an_empty_text_has_no_words_{prompt.round}():\n    assert load().words('') == []\n"
        if "def load():" in text and more.strip() not in text:
            return _answer("One more case.", block(places.tests, "", text.rstrip("\n") + "\n" + more))
    if places.module in prompt.files:
        text = _filled("tests.py.txt", prompt, places)
        return _answer("Tests of the new module.", block(places.tests, "", text))
    # Nothing of our own to test (the code was written by another model): the module comes with its tests.
    module = block(places.module, "", _filled("module.py.txt", prompt, places))
    return _answer(
        "A small module and its tests.", module, block(places.tests, "", _filled("tests.py.txt", prompt, places))
    )


def _page(prompt: Prompt, places: Places, path: str, template: str) -> str:
    if path in prompt.files:
        text = prompt.files[path].rstrip("\n") + f"\n\n## Round {prompt.round}\n\nRevised after what was found.\n"
        return _answer("The page is revised.", block(path, "", text))
    return _answer("One page.", block(path, "", _filled(template, prompt, places)))


def _answer(said: str, *blocks: str) -> str:
    return f"{said} ({MARK}.)\n\n" + "\n".join(blocks)


def _filled(template: str, prompt: Prompt, places: Places) -> str:
    text = (resources.files("simulator") / "templates" / template).read_text("utf-8")
    title = _plain(prompt.title)
    looked_at = "\n".join(f"- `{path}`" for path in prompt.paths[:8] if "`" not in path)
    up = ".parent" * len(PurePosixPath(places.tests).parent.parts)
    return Template(text).substitute(
        title=title,
        title_literal=_literal(title),
        module=places.module,
        module_literal=_literal(places.module),
        name_literal=_literal(PurePosixPath(places.module).stem),
        looked_at=looked_at or "- nothing was sent along",
        up=up,
    )


def _literal(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _plain(title: str) -> str:
    """A title that can stand in a docstring, a string and a heading without becoming code."""
    kept = re.sub(r"[^\w .,:;()/+-]", "", title, flags=re.ASCII)
    return " ".join(kept.split())[:_TITLE_CHARACTERS_MAX].strip() or "A task without a title"


def _slug(title: str) -> str:
    words = re.findall(r"[a-z0-9]+", title.lower())[:_SLUG_WORDS_MAX]
    slug = "_".join(words) or "task"
    return f"simulated_{slug}"


def _own_or_free(prompt: Prompt, folder: str, name: str, suffix: str) -> str:
    """The own file of this name if it is there; else the first name that nobody has."""
    for number in range(1, _NAMES_TRIED_MAX):
        stem = name if number == 1 else f"{name}_{number}"
        path = f"{folder}/{stem}{suffix}" if folder else f"{stem}{suffix}"
        if path not in prompt.paths or "pretend provider" in prompt.files.get(path, ""):
            return path
    raise ValueError(f"{name!r} to {name}_{_NAMES_TRIED_MAX} are all taken in {folder!r}")


def _package(paths: Sequence[str]) -> str:
    """The folder where a module of this repository would be put: `src/x`, `x`, or the root."""
    python = [path for path in paths if path.endswith(".py") and not _is_test(path)]
    for path in python:
        parts = PurePosixPath(path).parts
        if len(parts) >= 3 and parts[0] == "src":
            return f"src/{parts[1]}"
    for path in python:
        parts = PurePosixPath(path).parts
        if len(parts) >= 2 and parts[0] not in _NO_PACKAGES and _is_package(parts[0], python):
            return parts[0]
    return ""


def _is_package(folder: str, paths: Iterable[str]) -> bool:
    return folder.isidentifier() and f"{folder}/__init__.py" in paths


def _is_test(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool({"tests", "test"} & set(parts[:-1])) or parts[-1].startswith("test_") or parts[-1] == "conftest.py"
