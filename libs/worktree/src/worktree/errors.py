"""What can go wrong between us and a repository, each under its own name and without credentials in the text."""


class GitFailed(Exception):
    """git ended otherwise than hoped; the message says what it was asked and what it answered."""


class RepositoryNotFound(GitFailed):
    """There is no repository where we were sent."""


class NoCommits(GitFailed):
    """The repository is there, and empty."""


class BranchNotFound(GitFailed):
    """The repository has commits, but not that branch."""


class NeedsCredentials(GitFailed):
    """The remote asks who we are, and we have no answer that it accepts."""


class Unreachable(GitFailed):
    """The remote cannot be reached, or did not answer in time."""


class TooLarge(GitFailed):
    """More bytes than the named limit."""


class TreeDiffers(GitFailed):
    """The patch does not apply, or gives another tree than the change says."""


class BranchTaken(GitFailed):
    """The branch exists on the remote with other content."""


class PushRejected(GitFailed):
    """The remote looked at the push and said no."""


class RefusedUrl(ValueError):
    """A repository we do not even try to reach."""


class UnsafePath(ValueError):
    """A path that could leave its root, or that git keeps for itself."""
