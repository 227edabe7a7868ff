"""What a repository's refusal means for the task, in the words of the contract. Pure."""

from factory.context.v1 import ContextFailed, ContextFailure
from worktree import (
    BranchNotFound,
    GitFailed,
    NeedsCredentials,
    NoCommits,
    RefusedUrl,
    RepositoryNotFound,
    TooLarge,
)

DETAIL_CHARS_MAX = 600
REMEDY = "; FACTORY_CONTEXT_READ_TOKEN holds a token to read with, FACTORY_CONTEXT_READ_HOST names its host"


def failed(request_id: str, problem: GitFailed | RefusedUrl) -> ContextFailed:
    detail = str(problem)
    if isinstance(problem, NeedsCredentials):
        detail = f"{detail[: DETAIL_CHARS_MAX - len(REMEDY)]}{REMEDY}"
    return ContextFailed(request_id=request_id, reason=_reason(problem), detail=detail[:DETAIL_CHARS_MAX])


def _reason(problem: GitFailed | RefusedUrl) -> ContextFailure:
    match problem:
        case RefusedUrl():
            return ContextFailure.CONTEXT_FAILURE_REFUSED_URL
        case RepositoryNotFound():
            return ContextFailure.CONTEXT_FAILURE_REPOSITORY_NOT_FOUND
        case NoCommits():
            return ContextFailure.CONTEXT_FAILURE_NO_COMMITS
        case BranchNotFound():
            return ContextFailure.CONTEXT_FAILURE_BRANCH_NOT_FOUND
        case NeedsCredentials():
            return ContextFailure.CONTEXT_FAILURE_NEEDS_CREDENTIALS
        case TooLarge():
            return ContextFailure.CONTEXT_FAILURE_TOO_LARGE
        case GitFailed():
            return ContextFailure.CONTEXT_FAILURE_UNREACHABLE
