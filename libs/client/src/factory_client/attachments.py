"""What is attached to a task: read, and judged as far as it can be before anything is sent."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from factory.task.v1 import Upload

ATTACHMENTS_MAX = 8
ATTACHMENTS_BYTES_MAX = 16 * 1024 * 1024
NAME_CHARACTERS_MAX = 100

# How images begin, as their formats define it.
IMAGE_MARKS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")


def read_attachments(paths: Sequence[Path]) -> dict[str, bytes]:
    """The content of files by their names; a path is never sent. ValueError names the file at fault."""
    if len(paths) > ATTACHMENTS_MAX:
        raise ValueError(f"at most {ATTACHMENTS_MAX} files, found {len(paths)}")
    contents: dict[str, bytes] = {}
    for path in paths:
        if path.name in contents:
            raise ValueError(f"two files are called {path.name!r}; each name once")
        room = ATTACHMENTS_BYTES_MAX - sum(map(len, contents.values()))
        contents[path.name] = _read(path, room)
    return contents


def uploads(contents: Mapping[str, bytes]) -> list[Upload]:
    """What is sent; ValueError for what the factory would refuse whatever the task."""
    if len(contents) > ATTACHMENTS_MAX:
        raise ValueError(f"at most {ATTACHMENTS_MAX} attachments, found {len(contents)}")
    size = sum(map(len, contents.values()))
    if size > ATTACHMENTS_BYTES_MAX:
        raise ValueError(f"attachments: at most {ATTACHMENTS_BYTES_MAX:,} bytes together, found {size:,}")
    for name, content in contents.items():
        if not 1 <= len(name) <= NAME_CHARACTERS_MAX or "/" in name or "\\" in name:
            expected = f"a file name without a path, of 1 to {NAME_CHARACTERS_MAX} characters"
            raise ValueError(f"attachments: expected {expected}, found {name!r}")
        if why_not := _why_not(content):
            raise ValueError(f"{name!r} {why_not}")
    return [Upload(name=name, content=content) for name, content in contents.items()]


def _read(path: Path, room: int) -> bytes:
    try:
        with path.open("rb") as opened:
            content = opened.read(room + 1)
    except OSError as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error.strerror}") from None
    if len(content) > room:
        raise ValueError(f"at most {ATTACHMENTS_BYTES_MAX:,} bytes together, and {str(path)!r} exceeds that")
    return content


def _why_not(content: bytes) -> str:
    if content.startswith(IMAGE_MARKS) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP"):
        return ""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = "\0"
    if not content.strip():
        return "is empty"
    return "is neither a PNG, JPEG, GIF or WebP image nor UTF-8 text" if "\0" in text else ""
