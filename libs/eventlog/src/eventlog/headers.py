"""Reads the headers of NATS messages when they are asked for, and then only those; an event has sixteen of them.

What is not plainly written is left to nats-py, so that nothing is read otherwise than it would be.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from nats.aio.client import Client

SERVERS_OWN = "Nats-"

Parse = Callable[[bytes], dict[str, str]]


def plain_headers(raw: bytes) -> dict[str, str] | None:
    """The headers of a block of `Name: value` lines; None if any line is not plainly that."""
    found: dict[str, str] = {}
    try:
        lines = raw.decode().split("\r\n")
    except UnicodeDecodeError:
        return None
    for line in lines:
        name, colon, value = line.partition(":")
        if colon and name.isascii() and name.replace("-", "").isalnum():
            found[name] = value.strip()
        elif line:
            return None
    return found


class Headers(Mapping[str, str]):
    """The headers of one message: what the server has added is looked for, all are read when others are wanted."""

    __slots__ = ("_found", "_raw", "_theirs")

    def __init__(self, raw: bytes, theirs: Parse) -> None:
        self._raw = b"\r\n" + raw
        self._theirs = theirs
        self._found: dict[str, str] | None = None

    def __getitem__(self, name: str) -> str:
        if self._found is None:
            line = _line(name)
            # The server's own lines come last, and of a header that comes twice the last one counts.
            if name.startswith(SERVERS_OWN) and (at := self._raw.rfind(line)) >= 0:
                begin = at + len(line)
                return self._raw[begin : self._raw.index(b"\r\n", begin)].decode().strip()
            if line[2:-2] not in self._raw:
                raise KeyError(name)
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __bool__(self) -> bool:
        return len(self._raw) > len(b"\r\n\r\n") or bool(self._all())

    def _all(self) -> dict[str, str]:
        if self._found is None:
            raw = self._raw[2:]
            found = plain_headers(raw)
            self._found = self._theirs(raw) if found is None else found
        return self._found


@cache
def _line(name: str) -> bytes:
    """What a line with this header begins with, behind the end of the line before."""
    return f"\r\n{name}: ".encode()


def quicken(nc: Client) -> Client:
    """Has a connection read headers as `Headers`; a nats-py that reads them elsewhere stays as it is."""
    theirs: Parse | None = getattr(nc, "_parse_header_lines", None)
    if theirs is None:
        return nc
    connection: Any = nc
    connection._parse_header_lines = lambda raw: Headers(bytes(raw), theirs)
    return nc
