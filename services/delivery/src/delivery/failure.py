"""What went wrong, under the name that the contract has for it. Pure."""

from factory.delivery.v1 import DeliveryFailed, DeliveryFailure
from worktree import (
    BranchTaken,
    NeedsCredentials,
    NoCommits,
    RefusedUrl,
    RepositoryNotFound,
    TreeDiffers,
    Unreachable,
)

from delivery.pull_request import NotOpened

DETAIL_CHARACTERS_MAX = 500

# The first that fits; everything else that git says no to is a rejection.
REASONS: tuple[tuple[type[Exception], DeliveryFailure], ...] = (
    (RepositoryNotFound, DeliveryFailure.DELIVERY_FAILURE_REPOSITORY_NOT_FOUND),
    (NoCommits, DeliveryFailure.DELIVERY_FAILURE_REPOSITORY_NOT_FOUND),
    (NeedsCredentials, DeliveryFailure.DELIVERY_FAILURE_NEEDS_CREDENTIALS),
    (RefusedUrl, DeliveryFailure.DELIVERY_FAILURE_REFUSED_URL),
    (BranchTaken, DeliveryFailure.DELIVERY_FAILURE_BRANCH_TAKEN),
    (TreeDiffers, DeliveryFailure.DELIVERY_FAILURE_TREE_DIFFERS),
    (Unreachable, DeliveryFailure.DELIVERY_FAILURE_UNREACHABLE),
)


def failed(request_id: str, reason: DeliveryFailure, detail: str) -> DeliveryFailed:
    return DeliveryFailed(request_id=request_id, reason=reason, detail=detail[:DETAIL_CHARACTERS_MAX])


def failed_by(request_id: str, problem: Exception) -> DeliveryFailed:
    """The fact for a problem with the repository or with the place where pull requests are opened."""
    if isinstance(problem, NotOpened):
        return failed(request_id, problem.reason, problem.detail)
    for kind, reason in REASONS:
        if isinstance(problem, kind):
            return failed(request_id, reason, str(problem))
    return failed(request_id, DeliveryFailure.DELIVERY_FAILURE_REJECTED, str(problem))
