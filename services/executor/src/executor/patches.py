"""Puts the patch of a recorded change on the files of its base, without starting git.

Pure. It vouches for what it returns: each file is checked against the blob ids that the patch names. What it cannot
vouch for (binary content, links, quoted paths, files that git converts on checkout) it refuses, and git does it.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

_HUNK = re.compile(rb"@@ -(?P<at>\d+)(?:,(?P<old>\d+))? \+\d+(?:,(?P<new>\d+))? @@")
_SECTION = b"diff --git "
_MODES = (b"100644", b"100755")


class NotPlain(Exception):
    """The patch has something that only git can be trusted with."""


@dataclass(frozen=True, slots=True)
class Patched:
    """A file that a patch touches, as it is afterwards; None for one that it deletes."""

    path: str
    content: bytes | None
    # None where the patch does not change the mode
    is_executable: bool | None = None


def patched(patch: bytes, base: Callable[[str], bytes | None]) -> tuple[Patched, ...]:
    """Every file that the patch touches; `base` gives the bytes of a file before it, None where there is none."""
    return tuple(_patched(section, base) for section in _sections(patch.split(b"\n")))


@dataclass(slots=True)
class _Section:
    """What the patch says of one file."""

    path: str
    old_id: bytes = b""
    new_id: bytes = b""
    mode: bytes = b""
    is_deleted: bool = False
    rows: list[bytes] = field(default_factory=list)


def _sections(rows: Sequence[bytes]) -> Iterator[_Section]:
    section: _Section | None = None
    for row in rows:
        if row.startswith(_SECTION):
            if section is not None:
                yield section
            section = _Section(_path(row[len(_SECTION) :]))
        elif section is None:
            if row:
                raise NotPlain("it begins with something else than a file")
        elif section.rows or row.startswith(b"@@ "):
            section.rows.append(row)
        else:
            _read_header(section, row)
    if section is not None:
        yield section


def _path(sides: bytes) -> str:
    """The path of both sides, which are alike because renames are off."""
    middle = (len(sides) - len(b" b/") - len(b"a/")) // 2 + len(b"a/")
    if not sides.startswith(b"a/") or sides[middle : middle + 3] != b" b/" or sides[2:middle] != sides[middle + 3 :]:
        raise NotPlain(f"a path that git has quoted: {sides[:100]!r}")
    return sides[2:middle].decode()


def _read_header(section: _Section, row: bytes) -> None:
    words = row.split(b" ")
    match words:
        case [b"index", ids, *_]:
            section.old_id, _, section.new_id = ids.partition(b"..")
        case [b"old", b"mode", _] | [b"---", *_] | [b"+++", *_] | [b""]:
            pass
        case [b"new", b"mode", mode] | [b"new", b"file", b"mode", mode]:
            section.mode = mode
        case [b"deleted", b"file", b"mode", mode]:
            section.is_deleted, section.mode = True, mode
        case _:
            raise NotPlain(f"a header {row[:100]!r}")
    if section.mode and section.mode not in _MODES:
        raise NotPlain(f"{section.path!r} has mode {section.mode!r}")
    if words[0] == b"index" and len(words) > 2 and words[2] not in _MODES:
        raise NotPlain(f"{section.path!r} has mode {words[2]!r}")


def _patched(section: _Section, base: Callable[[str], bytes | None]) -> Patched:
    before = base(section.path)
    if section.old_id and not _is_blob(before, section.old_id):
        raise NotPlain(f"{section.path!r} is not the file that the patch was made from")
    content = _applied(before or b"", section.rows)
    if section.is_deleted:
        if content:
            raise NotPlain(f"{section.path!r} is deleted, but not all of it")
        return Patched(section.path, None)
    if section.new_id and not _is_blob(content, section.new_id):
        raise NotPlain(f"{section.path!r} does not become what the patch says")
    return Patched(section.path, content, section.mode == _MODES[1] if section.mode else None)


def _applied(before: bytes, rows: Sequence[bytes]) -> bytes:
    """The hunks put on the file's lines; NotPlain where a line is not as the patch has it."""
    lines = list(_lines(before))
    out: list[bytes] = []
    at = number = 0
    while number < len(rows) and (hunk := _HUNK.match(rows[number])):
        old, new = int(hunk["old"] or 1), int(hunk["new"] or 1)
        start = int(hunk["at"]) - (1 if old else 0)
        out += lines[at:start]
        at, number = start, number + 1
        while (old or new) and number < len(rows):
            sign, text = rows[number][:1], rows[number][1:]
            number += 1
            if number < len(rows) and rows[number].startswith(b"\\"):
                number += 1
            else:
                text += b"\n"
            if sign in (b" ", b"-"):
                if lines[at : at + 1] != [text]:
                    raise NotPlain("a line is not as the patch has it")
                at, old = at + 1, old - 1
            if sign in (b" ", b"+"):
                out.append(text)
                new -= 1
            if sign not in (b" ", b"-", b"+"):
                raise NotPlain(f"a row begins with {sign!r}")
    if any(rows[number:]):
        raise NotPlain("something follows the hunks")
    return b"".join([*out, *lines[at:]])


def _lines(content: bytes) -> Iterator[bytes]:
    """Lines as git counts them: a carriage return ends none."""
    *whole, rest = content.split(b"\n")
    yield from (line + b"\n" for line in whole)
    if rest:
        yield rest


def _is_blob(content: bytes | None, id: bytes) -> bool:
    """Whether git knows this content by this id; an id of zeros is that of no file."""
    if content is None or not id.strip(b"0"):
        return content is None and not id.strip(b"0")
    digest = hashlib.sha1 if len(id) == 40 else hashlib.sha256
    return digest(b"blob %d\0" % len(content) + content).hexdigest().encode() == id
