"""Finds credentials in text before it enters the log, which cannot forget. Says what kind and where, never what.

The patterns of well-known credentials are detect-secrets' own, besides a few that it does not know yet. Entropy is not
looked at: a title may be as odd as it likes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

LINES_MAX = 5_000

# Formats that providers document and detect-secrets 1.5 does not have.
_MORE = {
    "Anthropic API key": re.compile(r"sk-ant-[A-Za-z0-9_-]{16,}"),
    "OpenAI API key": re.compile(r"\bsk-(?:proj-|svcacct-)?[A-Za-z0-9_-]{20,}"),
    "Google API key": re.compile(r"\bAIza[A-Za-z0-9_-]{35}"),
}
_DETECTORS = (
    "ArtifactoryDetector",
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
    for number, line in enumerate(text.splitlines()[:LINES_MAX], start=1):
        kinds = {kind for kind, pattern in _MORE.items() if pattern.search(line)}
        kinds |= {plugin.secret_type for plugin in _plugins() if any(plugin.analyze_string(line))}
        yield from (Secret(kind, number) for kind in sorted(kinds))


@cache
def _plugins() -> tuple:  # type: ignore[type-arg]  # detect-secrets' plugin classes have no common public type
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    found = get_mapping_from_secret_type_to_class().values()
    return tuple(plugin() for plugin in found if plugin.__name__ in _DETECTORS)
