"""The provider's own bill: a file of JSON lines, one per request received, that outlives any kill.

A line is on the disk before the first byte of its answer leaves, so what anybody has recorded stands here too. It never
forgets or changes a line.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from simulator.tokens import Buckets


@dataclass(frozen=True, slots=True)
class BillLine:
    """What one request cost, in disjoint buckets."""

    at: str
    client_request_id: str
    request_id: str
    provider: str
    model: str
    wire: str
    stream: bool
    # "ok", or the misbehaviour that was asked for, or the error that was answered.
    status: str
    http_status: int
    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0

    @property
    def buckets(self) -> Buckets:
        return Buckets(**{field.name: getattr(self, field.name) for field in fields(Buckets)})

    @property
    def total(self) -> int:
        return self.buckets.total


@dataclass(frozen=True, slots=True)
class BillRead:
    """A bill as it stands."""

    lines: tuple[BillLine, ...]

    @property
    def total(self) -> int:
        return sum(line.total for line in self.lines)

    def of(self, client_request_id: str) -> tuple[BillLine, ...]:
        """The lines of one client request id: more than one where it was sent again."""
        return tuple(line for line in self.lines if line.client_request_id == client_request_id)


def read_bill(path: Path | str) -> BillRead:
    """The bill in a file; empty if there is none yet. Half a last line is left out: its answer never began."""
    try:
        raw = Path(path).read_bytes()
    except FileNotFoundError:
        return BillRead(())
    whole = raw[: raw.rfind(b"\n") + 1]
    return BillRead(tuple(_line(json.loads(row)) for row in whole.splitlines() if row))


def summed(bill: BillRead) -> dict[str, Any]:
    """A bill as JSON: sums, then lines."""
    models = sorted({line.model for line in bill.lines})
    return {
        "requests": len(bill.lines),
        "total": bill.total,
        "buckets": _sums(bill.lines),
        "models": {model: _sums([line for line in bill.lines if line.model == model]) for model in models},
        "lines": [as_json(line) for line in bill.lines],
    }


def as_json(line: BillLine) -> dict[str, Any]:
    return {**asdict(line), "total": line.total}


class BillFile:
    """Appends lines, durably. Lines that arrive while the disk is busy go out together, with one sync."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        _drop_half_a_line(self._file)
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._flushing: asyncio.Task[None] | None = None

    async def append(self, line: BillLine) -> None:
        """Returns when the line is on the disk, whatever happens to who asked."""
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        row = json.dumps(as_json(line), separators=(",", ":")).encode() + b"\n"
        self._waiting.append((row, stored))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        await asyncio.shield(stored)

    async def _flush(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(self._write, b"".join(row for row, _ in batch))
            except OSError as error:
                for _, stored in batch:
                    if not stored.done():
                        stored.set_exception(error)
                continue
            for _, stored in batch:
                if not stored.done():
                    stored.set_result(None)

    def _write(self, rows: bytes) -> None:
        while rows:
            rows = rows[os.write(self._file, rows) :]
        os.fsync(self._file)

    async def close(self) -> None:
        """Waits for what is under way."""
        if self._flushing is not None:
            await self._flushing
        os.close(self._file)


def _drop_half_a_line(file: int) -> None:
    size = os.fstat(file).st_size
    raw = os.pread(file, size, 0)
    if size and not raw.endswith(b"\n"):
        os.ftruncate(file, raw.rfind(b"\n") + 1)


def _line(row: dict[str, Any]) -> BillLine:
    return BillLine(**{field.name: row[field.name] for field in fields(BillLine)})


def _sums(lines: Iterable[BillLine]) -> dict[str, int]:
    listed = list(lines)
    sums = {field.name: sum(getattr(line, field.name) for line in listed) for field in fields(Buckets)}
    return sums | {"total": sum(sums.values())}
