"""Replaces secrets in a text by their kind, line by line, so that line numbers stay what they were.

Pure. Detectors are those of detect-secrets. Hexadecimal digests are not taken for secrets: a model must be able to
quote the lines that it wants to change, and most of them are commit ids and checksums.
"""

import math
import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detect_secrets.plugins.base import BasePlugin

# `password = "test"` in a test is no secret; what a generator made is.
KEYWORD_VALUE_CHARS_MIN = 12
KEYWORD_VALUE_BITS_PER_CHAR_MIN = 3.0
BASE64_BITS_PER_CHAR_MIN = 4.5
# Keys that detect-secrets 1.5 does not know: newer ones of model providers and of GitHub.
_API_KEY = re.compile(r"\bsk-(?:ant|proj|svcacct|or)-[\w-]{20,}|\bAIza[\w-]{35}|\bgithub_pat_\w{22,}")
# Some detectors report only the first part of what they found ("ghp" of a GitHub token).
_CUT_SHORT = r"[\w.+/-]*{}[\w.+/=-]*"
_WHOLE_KINDS = frozenset(["Secret Keyword", "Basic Auth Credentials"])
_KEY_BEGINS, _KEY_ENDS, _KEY = "-----BEGIN ", "-----END ", "Private Key"


@dataclass(frozen=True, slots=True)
class Redacted:
    """A text's lines without their secrets, and how many secrets were found on each."""

    lines: tuple[str, ...]
    found: tuple[int, ...]


def redacted(text: str) -> Redacted:
    """The text with `[REDACTED:<kind>]` in the place of each secret."""
    lines: list[str] = []
    found: list[int] = []
    inside_key = False
    for line in text.split("\n"):
        if inside_key:
            inside_key = _KEY_ENDS not in line
            shown, count = f"[REDACTED:{_KEY}]", 0
        else:
            shown, count = _redacted_line(line) if line.strip() else (line, 0)
            inside_key = shown == f"[REDACTED:{_KEY}]" and _KEY_BEGINS in line and _KEY_ENDS not in line
        lines.append(shown)
        found.append(count)
    return Redacted(tuple(lines), tuple(found))


def _redacted_line(line: str) -> tuple[str, int]:
    shown, found = _API_KEY.subn("[REDACTED:API Key]", line)
    for secret, kind in _secrets_in(shown):
        if kind == _KEY:
            return f"[REDACTED:{_KEY}]", found + 1
        pattern = re.escape(secret) if kind in _WHOLE_KINDS else _CUT_SHORT.format(re.escape(secret))
        shown, count = re.subn(pattern, f"[REDACTED:{kind}]", shown)
        found += min(count, 1)
    return shown, found


def _secrets_in(line: str) -> list[tuple[str, str]]:
    """(secret, kind), longest first, so that a part is not replaced before the whole."""
    found: dict[str, str] = {}
    for plugin in _plugins():
        for secret in plugin.analyze_line(filename="", line=line, line_number=1):
            value = secret.secret_value
            if value and "[REDACTED:" not in value and _is_meant(value, secret.type):
                found.setdefault(value, secret.type)
    return sorted(found.items(), key=lambda item: (item[1] != _KEY, -len(item[0]), item[0]))


def _is_meant(value: str, kind: str) -> bool:
    if kind != "Secret Keyword":
        return True
    return len(value) >= KEYWORD_VALUE_CHARS_MIN and _bits_per_char(value) >= KEYWORD_VALUE_BITS_PER_CHAR_MIN


def _bits_per_char(value: str) -> float:
    counts = Counter(value).values()
    return -sum(count / len(value) * math.log2(count / len(value)) for count in counts)


@lru_cache(maxsize=1)
def _plugins() -> "tuple[BasePlugin, ...]":
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    from detect_secrets.plugins.high_entropy_strings import Base64HighEntropyString

    left_out = {"Hex High Entropy String", "Public IP (ipv4)", "Base64 High Entropy String"}
    classes = get_mapping_from_secret_type_to_class()
    made = tuple(detector() for kind, detector in sorted(classes.items()) if kind not in left_out)
    return (*made, Base64HighEntropyString(limit=BASE64_BITS_PER_CHAR_MIN))
