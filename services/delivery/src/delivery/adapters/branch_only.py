"""A remote whose pull requests we cannot open: the branch is there, and that is what is said."""

from delivery.pull_request import PullRequest


class BranchOnlyRemote:
    """Any https or ssh remote that is not GitHub."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def find_or_open(self, wanted: PullRequest) -> str:
        """The remote and the branch; opening the pull request is left to people."""
        return f"{self._url}#{wanted.branch}"
