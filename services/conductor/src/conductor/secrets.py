"""Finds credentials in text before it enters the log, which cannot forget. Says what kind and where, never what.

The patterns of well-known credentials are detect-secrets' own, besides a few that it does not know yet. Entropy is not
looked at: a title may be as odd as it likes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

# Some of the patterns take the square of a line's length, and a match holds the whole process: longer lines are read in
# overlapping pieces.
PIECE_CHARACTERS = 1_000
OVERLAP_CHARACTERS = 300
# "://a:b@"
CREDENTIAL_CHARACTERS_MIN = 7

# Formats that providers document and detect-secrets 1.5 does not have.
_MORE = {
    "Anthropic API key": re.compile(r"sk-ant-[A-Za-z0-9_-]{16,}"),
    # a long run with a digit in it: sk-learn-compatible-estimators is none
    "OpenAI API key": re.compile(r"\bsk-(?:[A-Za-z0-9_]{1,64}-){0,6}(?=[A-Za-z_]*[0-9])[A-Za-z0-9_]{16,}"),
    "GitHub fine-grained token": re.compile(r"\bgithub_pat_[A-Za-z0-9_]{22,}"),
    "Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{30,}"),
    # detect-secrets' own takes any word of capitals that begins with AP and A to F
    "Artifactory API key": re.compile(r"\bAKC[A-Za-z0-9]{40,}"),
    "Google API key": re.compile(r"\bAIza[A-Za-z0-9_-]{35}"),
}
_DETECTORS = (
    "AWSKeyDetector",
    "AzureStorageKeyDetector",
    "BasicAuthDetector",
    "DiscordBotTokenDetector",
    "GitHubTokenDetector",
    "GitLabTokenDetector",
    "JwtTokenDetector",
    "MailchimpDetector",
    "NpmDetector",
    "OpenAIDetector",
    "PrivateKeyDetector",
    "PypiTokenDetector",
    "SendGridDetector",
    "SlackDetector",
    "SquareOAuthDetector",
    "StripeDetector",
    "TelegramBotTokenDetector",
    "TwilioKeyDetector",
)


@dataclass(frozen=True, slots=True)
class Secret:
    kind: str
    # 1-based
    line: int


def secrets_in(text: str) -> Iterator[Secret]:
    """Every credential in a text, by kind and line."""
    for number, line in enumerate(text.splitlines(), start=1):
        kinds = {kind for piece in _pieces(line) for kind in _kinds_in(piece)}
        yield from (Secret(kind, number) for kind in sorted(kinds))


def _pieces(line: str) -> Iterator[str]:
    if len(line) < CREDENTIAL_CHARACTERS_MIN:
        return
    for start in range(0, max(len(line) - OVERLAP_CHARACTERS, 1), PIECE_CHARACTERS - OVERLAP_CHARACTERS):
        yield line[start : start + PIECE_CHARACTERS]


def _kinds_in(piece: str) -> Iterator[str]:
    yield from (kind for kind, pattern in _MORE.items() if pattern.search(piece))
    yield from (plugin.secret_type for plugin in _plugins() if any(plugin.analyze_string(piece)))


@cache
def _plugins() -> tuple:  # type: ignore[type-arg]  # detect-secrets' plugin classes have no common public type
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    found = get_mapping_from_secret_type_to_class().values()
    return tuple(plugin() for plugin in found if plugin.__name__ in _DETECTORS)
