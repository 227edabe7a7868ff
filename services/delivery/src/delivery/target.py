"""Which kind of place a repository is, by its URL alone. Pure: contacts nothing."""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

_SCP_LIKE = re.compile(r"(?:[\w.-]+@)(?P<host>[A-Za-z0-9.-]+):(?P<path>[^:].*)")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")


@dataclass(frozen=True, slots=True)
class GitHub:
    """A repository on GitHub, or on the GitHub server that is configured."""

    owner: str
    name: str
    # The remote is reached by https, so our token goes with it.
    by_token: bool


@dataclass(frozen=True, slots=True)
class Local:
    """A repository on this machine."""

    path: str


@dataclass(frozen=True, slots=True)
class BranchOnly:
    """A remote on which we know how to push, and not how to open a pull request."""

    url: str


Target = GitHub | Local | BranchOnly


def target_of(repository: str, github_host: str) -> Target:
    """Where a pull request for this repository belongs."""
    if "://" in repository:
        parts = urlsplit(repository)
        if parts.scheme.lower() == "file":
            return Local(unquote(parts.path))
        host = parts.netloc.rpartition("@")[2].lower()
        if parts.scheme.lower() == "ssh":
            host = host.partition(":")[0]
        path, by_token = parts.path, parts.scheme.lower() in ("https", "http")
    elif match := _SCP_LIKE.fullmatch(repository):
        host, path, by_token = match["host"].lower(), match["path"], False
    else:
        return Local(repository)
    names = path.strip("/").removesuffix(".git").split("/")
    if host == github_host.lower() and len(names) == 2 and all(_is_name(name) for name in names):
        return GitHub(names[0], names[1], by_token)
    return BranchOnly(repository)


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None and text not in (".", "..")
