"""Where pull requests are opened: a local repository, and a GitHub over real HTTP."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from delivery.adapters.branch_only import BranchOnlyRemote
from delivery.adapters.github import GitHubPullRequests
from delivery.adapters.local_remote import LocalPullRequests
from delivery.pull_request import NotOpened, PullRequest
from delivery.target import GitHub
from factory.delivery.v1 import DeliveryFailure

pytestmark = pytest.mark.slow  # real servers: left to `just test`

TOKEN = "ghp-of-the-test"
COMMIT = "c" * 40
WANTED = PullRequest("t1", "Add", "The body", "factory/t1-add", "main", COMMIT, "alice", "2026-01-02T03:04:05+00:00")


@pytest.fixture
def branch(remote):
    """The wanted branch is pushed; the pull request that is wanted for it."""
    (remote.path / "refs/heads/factory").mkdir(parents=True)
    (remote.path / "refs/heads/factory/t1-add").write_text(f"{remote.base_commit}\n")
    return replace(WANTED, commit=remote.base_commit)


@pytest.fixture
async def place(github):
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    api = f"{github.url}/api/v3"
    async with GitHubPullRequests(GitHub("acme", "shop", True), api_url=api, token=TOKEN, sleep=sleep) as opened:
        opened.slept = slept  # type: ignore[attr-defined]
        yield opened


async def test_a_local_pull_request_is_a_record_and_a_page_in_the_repository(remote):
    url = await LocalPullRequests(remote.path).find_or_open(WANTED)

    record = json.loads((remote.path / "factory/pull-requests/factory-t1-add.json").read_text())
    assert (record["title"], record["body"], record["url"], record["state"]) == ("Add", "The body", url, "open")
    assert "The body" in Path(unquote(urlsplit(url).path)).read_text()


async def test_a_second_local_pull_request_finds_the_first(remote):
    place = LocalPullRequests(remote.path)

    urls = await asyncio.gather(*(place.find_or_open(replace(WANTED, body=str(n))) for n in range(5)))

    assert len(set(urls)) == 1
    assert len(list((remote.path / "factory/pull-requests").glob("*.json"))) == 1
    with pytest.raises(NotOpened) as refused:
        await place.find_or_open(replace(WANTED, commit="d" * 40))
    assert refused.value.reason == DeliveryFailure.DELIVERY_FAILURE_BRANCH_TAKEN


async def test_a_link_in_a_local_repository_is_not_followed(remote, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (remote.path / "factory").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(NotOpened, match="symbolic link"):
        await LocalPullRequests(remote.path).find_or_open(WANTED)
    assert list((tmp_path / "elsewhere").iterdir()) == []


async def test_a_directory_that_is_no_repository_is_said(tmp_path):
    with pytest.raises(NotOpened) as refused:
        await LocalPullRequests(tmp_path).find_or_open(WANTED)
    assert refused.value.reason == DeliveryFailure.DELIVERY_FAILURE_REPOSITORY_NOT_FOUND


async def test_a_remote_without_pull_requests_names_the_branch():
    assert (
        await BranchOnlyRemote("https://gitlab.com/a/b").find_or_open(WANTED) == "https://gitlab.com/a/b#factory/t1-add"
    )


async def test_a_pull_request_is_opened_on_github_once(github, place, branch):
    first, second = await place.find_or_open(branch), await place.find_or_open(branch)

    assert first == second == f"{github.url}/acme/shop/pull/1"
    assert (github.pulls[0]["title"], github.pulls[0]["body"]) == ("Add", "The body")
    assert [asked.split()[0] for asked in github.asked] == ["GET", "POST", "GET"]


async def test_somebody_who_was_faster_is_found(github, place, branch):
    github.before_post = lambda: github.pull(branch.branch, branch.commit)

    assert await place.find_or_open(branch) == f"{github.url}/acme/shop/pull/1"
    assert len(github.pulls) == 1


async def test_a_pull_request_that_was_merged_meanwhile_is_still_ours(github, place, branch):
    github.pull(branch.branch, branch.commit, state="closed")

    assert await place.find_or_open(branch) == f"{github.url}/acme/shop/pull/1"
    assert len(github.pulls) == 1


async def test_the_second_page_is_read_too(github, place, branch):
    github.ignores_head, github.page_size = True, 10
    for number in range(25):
        github.pull(f"other-{number}", "a" * 40)
    github.pull(branch.branch, branch.commit)

    assert await place.find_or_open(branch) == f"{github.url}/acme/shop/pull/26"
    assert [asked.split()[0] for asked in github.asked] == ["GET"] * 3


@pytest.mark.parametrize(
    ("answers", "pauses"),
    [
        ([(429, {"Retry-After": "7"}, {"message": "slow down"})], [7.0]),
        ([(403, {"Retry-After": "3"}, {"message": "You have exceeded a secondary rate limit."})], [3.0]),
        ([(502, {}, b"<html>"), (503, {}, b"")], [2.0, 2.0]),
    ],
)
async def test_what_waiting_can_mend_is_waited_for(github, place, branch, answers, pauses):
    github.instead = answers

    assert await place.find_or_open(branch) == f"{github.url}/acme/shop/pull/1"
    assert place.slept == pauses


@pytest.mark.parametrize(
    ("answer", "reason", "words"),
    [
        ((401, {}, {"message": "Bad credentials"}), "NEEDS_CREDENTIALS", "Bad credentials"),
        ((403, {}, {"message": "Resource not accessible by personal access token"}), "NEEDS_CREDENTIALS", "may not"),
        ((404, {}, {"message": "Not Found"}), "REPOSITORY_NOT_FOUND", "no such repository"),
        (
            (422, {}, {"message": "Validation Failed", "errors": [{"message": "No commits between main and x"}]}),
            "REJECTED",
            "No commits",
        ),
        ((429, {"Retry-After": "3600"}, {"message": "slow down"}), "UNREACHABLE", "rate limit"),
        (
            (
                403,
                {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "99999999999"},
                {"message": "API rate limit exceeded"},
            ),
            "UNREACHABLE",
            "rate limit",
        ),
        ((200, {}, b"<html>a login page</html>"), "UNREACHABLE", "not JSON"),
        ((200, {}, {"message": "odd"}), "UNREACHABLE", "no list"),
        ((200, {}, [{"head": {}}]), "UNREACHABLE", "oddly"),
    ],
)
async def test_what_github_refuses_has_a_name(github, place, branch, answer, reason, words):
    github.instead = [answer]

    with pytest.raises(NotOpened, match=words) as refused:
        await place.find_or_open(branch)
    assert refused.value.reason == DeliveryFailure.Value(f"DELIVERY_FAILURE_{reason}")
    assert github.pulls == []


async def test_a_branch_that_is_not_there_is_rejected(place):
    with pytest.raises(NotOpened, match="invalid") as refused:
        await place.find_or_open(WANTED)
    assert refused.value.reason == DeliveryFailure.DELIVERY_FAILURE_REJECTED


async def test_a_github_that_cannot_be_reached_is_said_without_the_token():
    async def sleep(seconds: float) -> None:
        pass

    async with GitHubPullRequests(
        GitHub("a", "b", True), api_url="http://127.0.0.1:9", token=TOKEN, sleep=sleep
    ) as place:
        with pytest.raises(NotOpened, match="cannot be reached") as refused:
            await place.find_or_open(WANTED)
    assert refused.value.reason == DeliveryFailure.DELIVERY_FAILURE_UNREACHABLE
    assert TOKEN not in refused.value.detail
