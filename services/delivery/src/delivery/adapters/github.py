"""Pull requests on GitHub, by its REST API. Finds before it opens, and again where opening says there is one.

Never merges, closes or edits one, and sends the token to the configured API only.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import httpx
import structlog
from factory.delivery.v1 import DeliveryFailure

from delivery.github_answers import WAIT_MAX_S, Answer, already_exists, found_in, next_page, refusal, wait_s
from delivery.pull_request import NotOpened, PullRequest
from delivery.target import GitHub

log = structlog.get_logger()

API_VERSION = "2022-11-28"
TIMEOUT_S = 30.0
ATTEMPTS_MAX = 4
PAGES_MAX = 20
PER_PAGE = 100
UNREACHABLE_PAUSE_S = 1.0


class GitHubPullRequests:
    """The pull requests of one repository on GitHub."""

    def __init__(
        self,
        repository: GitHub,
        *,
        api_url: str,
        token: str,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self._repository = repository
        self._api_url = api_url.rstrip("/")
        self._sleep = sleep
        self._client = httpx.AsyncClient(
            timeout=TIMEOUT_S,
            # A renamed repository answers with its new place; httpx drops the token where the host changes.
            follow_redirects=True,
            trust_env=False,
            headers={
                "Accept": "application/vnd.github+json",
                "Authorization": f"Bearer {token}",
                "User-Agent": "ai-factory",
                "X-GitHub-Api-Version": API_VERSION,
            },
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def find_or_open(self, wanted: PullRequest) -> str:
        if found := await self._find(wanted):
            return found
        answer = await self._ask("POST", self._pulls(), json=_body_of(wanted))
        if already_exists(answer) and (found := await self._find(wanted)):
            return found
        if answer.status != 201:
            raise refusal(answer)
        return str(_opened(answer))

    async def _find(self, wanted: PullRequest) -> str | None:
        url: str | None = self._pulls()
        params: dict[str, Any] | None = {
            "head": f"{self._repository.owner}:{wanted.branch}",
            "state": "all",
            "per_page": PER_PAGE,
        }
        for _ in range(PAGES_MAX):
            answer = await self._ask("GET", url, params=params)
            if answer.status != 200:
                raise refusal(answer)
            try:
                if found := found_in(answer.json(), wanted):
                    return found
            except (KeyError, TypeError) as error:
                raise _odd(f"a pull request without {error}") from error
            url, params = next_page(answer, self._api_url), None
            if url is None:
                return None
        raise _odd(f"more than {PAGES_MAX} pages of pull requests for one branch")

    async def _ask(self, method: str, url: str, **arguments: Any) -> Answer:
        """One answer, after as many tries as waiting may help. Asking twice is safe: GitHub has one per branch."""
        problem = ""
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                raw = await self._client.request(method, url, **arguments)
            except httpx.HTTPError as error:
                problem = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                pause_s: float | None = UNREACHABLE_PAUSE_S
            else:
                answer = Answer(raw.status_code, {key.lower(): value for key, value in raw.headers.items()}, raw.text)
                pause_s = wait_s(answer, time.time())
                if pause_s is None or pause_s > WAIT_MAX_S or attempt == ATTEMPTS_MAX:
                    return answer
            log.warning("github.again", method=method, attempt=attempt, pause_s=pause_s, problem=problem)
            if attempt < ATTEMPTS_MAX:
                await self._sleep(pause_s)
        raise NotOpened(DeliveryFailure.DELIVERY_FAILURE_UNREACHABLE, f"GitHub's API cannot be reached: {problem}")

    def _pulls(self) -> str:
        return f"{self._api_url}/repos/{self._repository.owner}/{self._repository.name}/pulls"


def _body_of(wanted: PullRequest) -> dict[str, Any]:
    return {
        "title": wanted.title,
        "body": wanted.body,
        "head": wanted.branch,
        "base": wanted.base_branch,
        "maintainer_can_modify": True,
    }


def _opened(answer: Answer) -> str:
    try:
        return str(answer.json()["html_url"])
    except (KeyError, TypeError) as error:
        raise _odd("a new pull request without a URL") from error


def _odd(what: str) -> NotOpened:
    return NotOpened(DeliveryFailure.DELIVERY_FAILURE_UNREACHABLE, f"GitHub's API answered oddly: {what}")
