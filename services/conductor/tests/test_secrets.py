"""What looks like a credential, and what only sounds like one."""

import time

import pytest
from conductor.secrets import secrets_in


@pytest.mark.parametrize(
    "text",
    [
        "Rotate the sk-learn-compatible-estimators-package everywhere",
        "Create user authentication with JWT tokens",
        "Move to APACHEKAFKASTREAMS",
        "Use https://registry.example.org:443/@types/node",
    ],
)
def test_words_that_sound_like_credentials_are_none(text: str):
    assert list(secrets_in(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "sk-proj-abcdefghijklmnop1234567890qrst",
        "sk-" + "0123456789abcdef" * 2,
        "sk-or-v1-" + "0a" * 32,
        "github_pat_11ABCDEFG0" + "a1" * 30,
        "hf_" + "aB3" * 12,
        "x" * 5_000 + " ghp_" + "a1B2" * 9 + " " + "y" * 5_000,
    ],
)
def test_credentials_are_found_wherever_they_stand(text: str):
    assert len(list(secrets_in(text))) == 1


def test_a_line_made_to_be_slow_is_read_in_seconds():
    """In one piece it takes minutes, and a match holds the whole process."""
    began = time.monotonic()

    assert list(secrets_in("sk-" * 80_000)) == []
    assert time.monotonic() - began < 10
