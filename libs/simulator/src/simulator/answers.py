"""What a pretend model answers: a known scenario's text, else something that fits the files it was sent.

Pure, and the same prompt always gets the same answer.
"""

from __future__ import annotations

from simulator.anything import any_answer
from simulator.edits import block
from simulator.known import known_answer
from simulator.prompt import Prompt, read_prompt

HUGE_FILE_BYTES = 4 * 1024 * 1024


def answer_to(message: str) -> str:
    """The answer to the first user message of a conversation."""
    prompt = read_prompt(message)
    return known_answer(prompt) or any_answer(prompt)


def bad_edit(prompt: Prompt) -> str:
    """An edit whose SEARCH is nowhere in the repository."""
    path = next(iter(prompt.files), "README.md")
    wrong = block(path, "these lines stand nowhere in this repository\n", "and so cannot be replaced\n")
    return f"A change that will not apply.\n\n{wrong}"


def bad_path() -> str:
    """An edit that wants out of the repository."""
    return f"A change outside the repository.\n\n{block('../../etc/passwd', '', 'nobody::0:0::/:/bin/sh' + chr(10))}"


def malformed() -> str:
    """An answer that keeps to no form: neither edits nor a verdict."""
    return 'Sure! Here is what I would do: {"verdict": "approve", "findings": [\n<<<<<<< SEARCH\nand then some'


def huge_file() -> str:
    """One file, far larger than any change."""
    return f"A very large file.\n\n{block('simulated_huge.txt', '', ('x' * 127 + chr(10)) * (HUGE_FILE_BYTES // 128))}"
