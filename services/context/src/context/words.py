"""Words of prose and of code, so that "user store" finds `UserStore` and `user_store.py`. Pure."""

import re

_WORD = re.compile(r"[^\W_]+")
# UserStore → User Store, HTTPServer → HTTP Server, sha256 stays one word.
_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_LETTERS_MIN = 2
# Words that stand in every task and tell no file from another.
_EMPTY_IN_WORDS = (
    "a an and are as at be by can do for from has have if in into is it its me my new not of on or our "
    "please should so that the their there these this those to use used using want was we when which will "
    "with would you your"
)
_EMPTY = frozenset(_EMPTY_IN_WORDS.split())


def words(text: str) -> list[str]:
    """Lower-case words in order; of an identifier in humps its parts and the whole."""
    found: list[str] = []
    for match in _WORD.finditer(text):
        whole = match.group()
        parts = _HUMPS.split(whole)
        found.extend(_plain(part) for part in parts)
        if len(parts) > 1:
            found.append(_plain(whole))
    return [word for word in found if len(word) >= _LETTERS_MIN and word not in _EMPTY]


def _plain(word: str) -> str:
    """Without case and plural: "Tokens" and "token" are one word here."""
    lower = word.lower()
    return lower[:-1] if len(lower) > 3 and lower.endswith("s") and not lower.endswith("ss") else lower
