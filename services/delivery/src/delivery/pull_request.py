"""A pull request as delivery wants it, and what it asks of the place where it is opened. Pure."""

from dataclasses import dataclass
from typing import Protocol

from factory.delivery.v1 import DeliveryFailure


@dataclass(frozen=True, slots=True)
class PullRequest:
    """What is to be opened. The branch is there already, at `commit`."""

    task_id: str
    title: str
    body: str
    branch: str
    base_branch: str
    commit: str
    approved_by: str
    # RFC 3339, the time of the approval: a retry writes the same.
    approved_at: str


class NotOpened(Exception):
    """The pull request could not be opened, for a reason that has a name."""

    def __init__(self, reason: DeliveryFailure, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class PullRequests(Protocol):
    """Somewhere pull requests are opened."""

    async def find_or_open(self, wanted: PullRequest) -> str:
        """The URL of the one pull request for this branch and commit; NotOpened says why there is none."""
        ...
