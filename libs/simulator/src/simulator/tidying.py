"""One small true edit to a file nobody here has seen before.

Pure. Python is only changed where the parsed program stays the same but for a docstring; other text only gains a line.
"""

from __future__ import annotations

import ast
import re
from pathlib import PurePosixPath

_NOTE = "Simulated by AI Factory's pretend provider"
# One line, nothing after the colon; the body is indented on the next line.
_FUNCTION = re.compile(
    r"^(?P<indent>[ ]*)(?:async )?def (?P<name>\w+)\([^\n]*\)[^\n]*:\n(?P<body>[ ]+)(?P<first>\S[^\n]*)\n", re.MULTILINE
)
_CONSTANT = re.compile(r"^REVISION = \d+\n", re.MULTILINE)


def tidied(path: str, text: str) -> tuple[str, str] | None:
    """What to search for and what to put there; `None` where nothing can be done with certainty."""
    if not text.strip() or "\r" in text or re.search(r"^(<{7}|={7}|>{7})", text, re.MULTILINE):
        return None
    if path.endswith(".py"):
        return _with_docstring(text) or _with_comment(text)
    if PurePosixPath(path).suffix in {".md", ".markdown"}:
        return _with_line(text, f"<!-- {_NOTE}. -->\n")
    return None


def _with_docstring(text: str) -> tuple[str, str] | None:
    for found in _FUNCTION.finditer(text):
        search = found[0]
        if found["first"][:1] in "\"'" or found["first"][:2] in ('r"', "r'") or text.count(search) != 1:
            continue
        says = found["name"].strip("_").replace("_", " ") or "This"
        docstring = f'{found["body"]}"""{says[0].upper()}{says[1:]}. ({_NOTE}.)"""\n'
        head, body = search[: found.start("body") - found.start()], search[found.start("body") - found.start() :]
        replace = head + docstring + body
        if _same_program(text, text.replace(search, replace)):
            return search, replace
    return None


def _with_comment(text: str) -> tuple[str, str] | None:
    """For the own module, whose functions all say what they do: its constant gets a reason."""
    constant = _CONSTANT.search(text)
    note = "# Raised by one whenever this module is revised.\n"
    if constant is None or note in text:
        return None
    return constant[0], note + constant[0]


def _with_line(text: str, line: str) -> tuple[str, str] | None:
    first = text.splitlines(keepends=True)[0]
    if not first.strip() or text.count(first) != 1 or line in text:
        return None
    return first, first + "\n" + line


def _same_program(before: str, after: str) -> bool:
    try:
        return _without_docstrings(before) == _without_docstrings(after)
    except (SyntaxError, ValueError, RecursionError):
        return False


def _without_docstrings(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)
