"""Which repositories we are willing to reach, and what git may use to reach them.

Never contacts anything; a local path is resolved, so that a link cannot lead out of the allowed roots.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from worktree.errors import RefusedUrl

URL_CHARS_MAX = 2000
# Plain http carries our token in the clear; on the loopback there is nobody to read it.
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SCP_LIKE = re.compile(r"(?P<user>[A-Za-z0-9_][\w.-]*)@(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*):(?P<path>[^:\-].*)")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9a-f:]+")
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://")
_REMOTE_HELPER = re.compile(r"[A-Za-z0-9+.-]*::")
_USER = re.compile(r"[A-Za-z0-9_][\w.-]*")


@dataclass(frozen=True, slots=True)
class Remote:
    """A repository we agreed to reach."""

    # What git is given, after `--`.
    location: str
    # The one protocol that git may speak, for GIT_ALLOW_PROTOCOL.
    protocol: str
    # Scheme, host and port of a web remote, to which a token is bound; empty for others.
    origin: str = ""

    @property
    def is_local(self) -> bool:
        return self.protocol == "file"


def check_url(url: str, allowed_roots: tuple[Path, ...]) -> None:
    """Passes https, ssh, `git@host:path`, and paths inside the allowed roots; RefusedUrl says why for all others."""
    remote_for(url, allowed_roots)


def remote_for(url: str, allowed_roots: tuple[Path, ...]) -> Remote:
    if not url.strip():
        raise RefusedUrl("the repository is empty; expected a URL or a path")
    if len(url) > URL_CHARS_MAX:
        raise RefusedUrl(f"the repository has {len(url)} characters; at most {URL_CHARS_MAX} are allowed")
    if url != url.strip() or not url.isprintable():
        raise RefusedUrl("the repository contains control characters, or spaces at its ends")
    if url.startswith("-"):
        raise RefusedUrl("the repository starts with '-', as an option of git would")
    if _REMOTE_HELPER.match(url):
        raise RefusedUrl("the repository names a remote helper ('…::'), which could run a command")
    if match := _SCHEME.match(url):
        return _by_scheme(match["scheme"].lower(), url, allowed_roots)
    if match := _SCP_LIKE.fullmatch(url):
        return Remote(url, "ssh")
    return _local(url, allowed_roots)


def host_of(url: str) -> str:
    """The host that a web URL names, so that a token goes to nobody else; empty for everything that is none."""
    try:
        parts = urlsplit(url)
        return (parts.hostname or "") if parts.scheme in ("https", "http") else ""
    except ValueError:
        return ""


def _by_scheme(scheme: str, url: str, allowed_roots: tuple[Path, ...]) -> Remote:
    parts = _split(url)
    match scheme:
        case "file":
            if parts.netloc not in ("", "localhost"):
                raise RefusedUrl("a file:// repository names a host; expected file:///path")
            return _local(unquote(parts.path), allowed_roots)
        case "ssh":
            _check_host(parts)
            if parts.password is not None:
                raise RefusedUrl(
                    "the repository's URL carries a password; credentials come from the service's settings"
                )
            if parts.username is not None and not _USER.fullmatch(parts.username):
                raise RefusedUrl("the user in the repository's URL is not a plain name")
            return Remote(url, "ssh")
        case "https" | "http":
            return _web(scheme, url, parts)
        case _:
            raise RefusedUrl(f"repositories are not read by {scheme!r}; expected https, ssh or a local path")


def _web(scheme: str, url: str, parts: SplitResult) -> Remote:
    _check_host(parts)
    if "@" in parts.netloc:
        raise RefusedUrl("the repository's URL carries credentials; they come from the service's settings")
    if parts.query or parts.fragment:
        raise RefusedUrl("the repository's URL has a query or a fragment, where a token could hide")
    if scheme == "http" and parts.hostname not in _LOOPBACK:
        raise RefusedUrl("the repository's URL is plain http; expected https")
    return Remote(url, scheme, origin=f"{scheme}://{parts.netloc}/")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # a port that is no number shows only when asked for
    except ValueError:
        raise RefusedUrl("the repository is not a well-formed URL") from None
    return parts


def _check_host(parts: SplitResult) -> None:
    if not _HOST.fullmatch(parts.hostname or ""):
        raise RefusedUrl("the host in the repository's URL is missing or malformed")


def _local(text: str, allowed_roots: tuple[Path, ...]) -> Remote:
    path = Path(text)
    if "\0" in text or not path.is_absolute():
        raise RefusedUrl(f"{text!r} is neither an https or ssh URL nor an absolute path")
    try:
        real = path.resolve()
    except (OSError, RuntimeError):  # a loop of links
        raise RefusedUrl(f"the path {text!r} cannot be resolved") from None
    if not any(real.is_relative_to(root.resolve()) for root in allowed_roots):
        raise RefusedUrl(f"the path {text!r} is outside the directories that repositories may be read from")
    if (inner := real / ".git").is_file() or inner.is_symlink():
        # git would follow it, out of the allowed roots if need be.
        raise RefusedUrl(f"the .git of {text!r} leads to another place; name the repository that it belongs to")
    return Remote(str(real), "file")
