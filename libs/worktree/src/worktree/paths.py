"""Paths that come from outside (model answers, findings), kept inside the directory they are meant for.

Never follows a symbolic link and never creates anything.
"""

import unicodedata
from pathlib import Path

from worktree.errors import UnsafePath

PATH_BYTES_MAX = 1024
NAME_BYTES_MAX = 255
_SHOWN_CHARS_MAX = 120


def safe_path(root: Path, relative: str) -> Path:
    """Where `relative` lies under `root`; UnsafePath when it could lie anywhere else."""
    names = _names(relative)
    path = root
    for position, name in enumerate(names):
        path = path / name
        is_last = position == len(names) - 1
        if path.is_symlink():
            raise _unsafe(relative, f"{'/'.join(names[: position + 1])!r} is a symbolic link")
        if not is_last and path.exists() and not path.is_dir():
            raise _unsafe(relative, f"{'/'.join(names[: position + 1])!r} is a file, not a directory")
    return path


def _names(relative: str) -> list[str]:
    """The parts of a relative path, each one harmless in itself."""
    if not relative.strip():
        raise _unsafe(relative, "it is empty")
    try:
        encoded = relative.encode()
    except UnicodeEncodeError:
        raise _unsafe(relative, "it is not valid Unicode") from None
    if len(encoded) > PATH_BYTES_MAX:
        raise _unsafe(relative, f"it has {len(encoded)} bytes, at most {PATH_BYTES_MAX} are allowed")
    if any(unicodedata.category(character) == "Cc" for character in relative):
        raise _unsafe(relative, "it contains a control character")
    if "\\" in relative:
        raise _unsafe(relative, "it contains a backslash")
    if relative.startswith(("/", "~")):
        raise _unsafe(relative, "it is not relative to the repository")
    names = [name for name in relative.split("/") if name not in ("", ".")]
    if not names:
        raise _unsafe(relative, "it names the repository itself")
    for name in names:
        if name == "..":
            raise _unsafe(relative, "it leads upwards")
        if len(name.encode()) > NAME_BYTES_MAX:
            raise _unsafe(relative, f"one of its names has more than {NAME_BYTES_MAX} bytes")
        if _is_git_directory(name):
            raise _unsafe(relative, "it reaches into git's own directory")
    return names


def _is_git_directory(name: str) -> bool:
    """`.git` as any file system may read it: other case, ignored characters (HFS+), short name, final dots (NTFS)."""
    visible = "".join(character for character in name if unicodedata.category(character) != "Cf")
    plain = visible.casefold().split(":")[0].rstrip(". ")
    return plain in (".git", "git~1")


def _unsafe(relative: str, why: str) -> UnsafePath:
    shown = relative if len(relative) <= _SHOWN_CHARS_MAX else relative[:_SHOWN_CHARS_MAX] + "…"
    return UnsafePath(f"path {shown!r} is refused: {why}")
