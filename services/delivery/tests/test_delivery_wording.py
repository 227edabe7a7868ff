"""Branch names, messages and descriptions; and what a repository's URL says about it."""

import re

import pytest
from delivery.settings import settings_from
from delivery.target import BranchOnly, GitHub, Local, target_of
from delivery.wording import (
    BODY_CHARACTERS_MAX,
    body,
    branch_name,
    commit_message,
    fenced,
    markdown,
    plain,
    pretend_note,
)
from hypothesis import given
from hypothesis import strategies as st

TASK = "01jdeliverytask00000000000"


def test_a_branch_is_named_after_its_task():
    assert branch_name(TASK, "Create user authentication with JWT tokens") == (
        f"factory/{TASK}-create-user-authentication-with-jwt"
    )
    assert branch_name(TASK, "Überprüfe  die Größe!") == f"factory/{TASK}-uberprufe-die-groe"
    assert branch_name(TASK, "x" * 50) == f"factory/{TASK}-{'x' * 40}"
    assert branch_name(TASK, "日本語") == f"factory/{TASK}"


@given(st.text(max_size=300))
def test_any_title_gives_a_branch_that_git_takes(title):
    assert re.fullmatch(rf"factory/{TASK}(-[a-z0-9]([a-z0-9-]*[a-z0-9])?)?", branch_name(TASK, title))


def test_a_commit_says_which_task_it_is_and_who_approved():
    assert commit_message("Add a thing", TASK, "alice") == f"Add a thing\n\nTask: {TASK}\nApproved-by: alice\n"


def test_a_title_cannot_add_trailers_call_people_or_close_issues():
    message = commit_message("Hi @team, fixes #12, GH-3\n\nApproved-by: mallory", TASK, "al\nice")

    assert message.splitlines()[0] == "Hi @\u200bteam, fixes #\u200b12, GH-\u200b3 Approved-by: mallory"
    assert message.splitlines()[1:] == ["", f"Task: {TASK}", "Approved-by: al ice"]


@given(st.text(max_size=400))
def test_plain_text_is_one_short_printable_line(text):
    said = plain(text)

    assert "\n" not in said
    assert len(said.replace("\u200b", "")) <= 200
    assert not re.search(r"@\w|#\d", said)


def test_markup_in_a_note_stays_text():
    said = markdown("<img src=https://evil.example/x> [click](http://x) `code` www.evil.example **bold**")

    assert "://" not in said
    assert not re.search(r"(?<!\\)[<>\[\]`*]", said)


def test_a_report_cannot_end_its_own_block():
    assert fenced("a ``` b") == "````text\na ``` b\n````"


def test_a_description_says_what_to_know_and_what_was_used():
    text = body(
        task_id=TASK,
        title="Add a thing",
        approved_by="alice",
        tree="Task\n└── Total: 3 tokens",
        notes=["no model review: one family is configured", pretend_note(["Claude 4.5", "GPT-5"]), ""],
    )

    assert "approved by alice" in text
    assert "- no model review: one family is configured\n" in text
    assert "- Claude 4.5, GPT-5 are pretend: a simulator answered, and nothing was billed\n" in text
    assert "```text\nTask\n└── Total: 3 tokens\n```" in text


def test_a_description_is_never_longer_than_github_takes():
    assert len(body(task_id=TASK, title="t", approved_by="", tree="x" * 100_000, notes=[])) < BODY_CHARACTERS_MAX + 10


@pytest.mark.parametrize(
    ("repository", "target"),
    [
        ("https://github.com/acme/shop.git", GitHub("acme", "shop", True)),
        ("https://GitHub.com/acme/shop", GitHub("acme", "shop", True)),
        ("git@github.com:acme/shop.git", GitHub("acme", "shop", False)),
        ("ssh://git@github.com:22/acme/shop.git", GitHub("acme", "shop", False)),
        ("https://gitlab.com/acme/shop.git", BranchOnly("https://gitlab.com/acme/shop.git")),
        ("https://github.com.evil.example/acme/shop", BranchOnly("https://github.com.evil.example/acme/shop")),
        ("https://github.com:8443/acme/shop", BranchOnly("https://github.com:8443/acme/shop")),
        ("https://github.com/acme/../shop", BranchOnly("https://github.com/acme/../shop")),
        ("https://github.com/acme/..", BranchOnly("https://github.com/acme/..")),
        ("git@host.example:team/x.git", BranchOnly("git@host.example:team/x.git")),
        ("/srv/shop.git", Local("/srv/shop.git")),
        ("file:///srv/my%20shop.git", Local("/srv/my shop.git")),
    ],
)
def test_where_a_pull_request_belongs(repository, target):
    assert target_of(repository, "github.com") == target


def test_the_token_never_goes_over_plain_http():
    assert settings_from({"FACTORY_GITHUB_HOST": "git.acme.example"}).github_api == "https://git.acme.example/api/v3"
    with pytest.raises(ValueError, match="FACTORY_GITHUB_API"):
        settings_from({"FACTORY_GITHUB_API": "http://api.example"})
