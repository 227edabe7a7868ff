"""Makes text that others wrote safe to show. Pure: a title or a diff may never steer the reader's terminal."""

import unicodedata

# Marks that reorder what a reader sees without changing what a machine reads.
BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
CONTROL_PICTURES = 0x2400
DELETE, DELETE_PICTURE = "\x7f", "\u2421"


def plain(text: str) -> str:
    """The text with every control character (but tab and newline) and every reordering mark made visible."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(character) for character in text)


def one_line(text: str) -> str:
    """The text on one line."""
    return " ".join(plain(text).split())


def _visible(character: str) -> str:
    if character in "\n\t":
        return character
    if character < " ":
        return chr(CONTROL_PICTURES + ord(character))
    if character == DELETE:
        return DELETE_PICTURE
    if character in BIDI or unicodedata.category(character) == "Cc":
        return f"<U+{ord(character):04X}>"
    return character
