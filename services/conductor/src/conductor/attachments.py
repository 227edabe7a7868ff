"""What may come with a task: images and text. Pure: the kind is told from the content, not by what it is called."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from factory.task.v1 import Upload

from conductor.secrets import secrets_in

ATTACHMENTS_MAX = 8
ATTACHMENTS_BYTES_MAX = 16 * 1024 * 1024
IMAGE_BYTES_MAX = 5 * 1024 * 1024
# A text goes into prompts whole.
TEXT_BYTES_MAX = 256 * 1024
NAME_CHARACTERS_MAX = 100
TEXT = "text/plain"

# How images begin, as their formats define it.
PNG, JPEG, GIFS = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", (b"GIF87a", b"GIF89a")

Violation = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Kind:
    """What an upload is; `why_not` says why it cannot be taken."""

    media_type: str = ""
    why_not: str = ""


def violations_of(uploads: Sequence[Upload]) -> Iterable[Violation]:
    """Everything that is wrong with what is attached: (field, what was expected and found)."""
    if len(uploads) > ATTACHMENTS_MAX:
        yield "attachments", f"at most {ATTACHMENTS_MAX}, found {len(uploads)}"
        return
    size = sum(len(upload.content) for upload in uploads)
    if size > ATTACHMENTS_BYTES_MAX:
        yield "attachments", f"at most {ATTACHMENTS_BYTES_MAX:,} bytes together, found {size:,}"
        return
    names = [upload.name for upload in uploads]
    for index, upload in enumerate(uploads):
        field = f"attachments[{index}]"
        yield from _name(field, upload.name, names)
        kind = kind_of(upload)
        if kind.why_not:
            yield f"{field}.content", kind.why_not
        elif kind.media_type == TEXT and (found := next(iter(secrets_in(upload.content.decode())), None)):
            yield f"{field}.content", f"no credentials, found what looks like a {found.kind} in line {found.line}"


def kind_of(upload: Upload) -> Kind:
    """What an upload is by its content; what it says of itself has to agree."""
    media_type = _media_type(upload.content)
    if not media_type:
        return Kind(why_not="a PNG, JPEG, GIF or WebP image, or UTF-8 text, found something else")
    most = TEXT_BYTES_MAX if media_type == TEXT else IMAGE_BYTES_MAX
    if len(upload.content) > most:
        return Kind(why_not=f"at most {most:,} bytes of {media_type}, found {len(upload.content):,}")
    said = upload.media_type.partition(";")[0].strip().lower()
    if said and said != media_type and not (media_type == TEXT and not said.startswith("image/")):
        return Kind(why_not=f"{said[:40]}, as it is called, found {media_type}")
    return Kind(media_type)


def _media_type(content: bytes) -> str:
    if content.startswith(PNG):
        return "image/png"
    if content.startswith(JPEG):
        return "image/jpeg"
    if content.startswith(GIFS):
        return "image/gif"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return ""
    return TEXT if text.strip() and "\0" not in text else ""


def _name(field: str, name: str, names: Sequence[str]) -> Iterable[Violation]:
    if not 1 <= len(name) <= NAME_CHARACTERS_MAX:
        yield f"{field}.name", f"1 to {NAME_CHARACTERS_MAX} characters, found {len(name)}"
    elif "/" in name or "\\" in name or name in (".", ".."):
        yield f"{field}.name", "a file name without a path"
    elif any(unicodedata.category(character)[0] == "C" for character in name):
        yield f"{field}.name", "printable characters"
    elif names.count(name) > 1:
        yield f"{field}.name", f"each name once, found {name!r} {names.count(name)} times"
    if any(secrets_in(name[:NAME_CHARACTERS_MAX])):
        yield f"{field}.name", "no credentials; the log cannot forget it"
