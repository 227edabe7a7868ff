"""Wires the audit up: one writer that follows the log, many readers that answer.

The writer never waits for a reader, and the event loop never waits for the disk.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import structlog
from eventlog import EventLog, Recorded, connect
from factory.audit.v1 import add_AuditServiceServicer_to_server
from factory.event.v1 import Fact
from policy.models import models_from
from runtime import Runtime, Service
from runtime.settings import settings_from

from audit.adapters.queries import Reader
from audit.adapters.store import Store
from audit.rpc import Audit, Seen

log = structlog.get_logger()

LANE = "audit"
DATABASE = "audit.sqlite3"
# One transaction takes what is there, up to this many events: one when the log is quiet, many after a pause.
EVENTS_PER_TRANSACTION_MAX = 1000
READERS = 4


class Log(Protocol):
    """What the projection needs of the log."""

    def follow(self, *, after: int, batch: int = ...) -> AsyncIterator[Sequence[Recorded]]: ...


async def setup(rt: Runtime) -> None:
    """Opens the ledger, follows the log, serves questions."""
    writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="audit.writer")
    readers = ThreadPoolExecutor(max_workers=READERS, thread_name_prefix="audit.reader")
    loop = asyncio.get_running_loop()
    path = database(rt.settings.data)
    store = await loop.run_in_executor(writer, Store, path)
    if store.migrated:
        log.info("audit.migrated", files=store.migrated)
    if known := await loop.run_in_executor(writer, learned_since, store):
        log.info("audit.rebuilding", because="facts that were skipped are known to this release", arms=sorted(known))
        await loop.run_in_executor(writer, store.empty)
    seen = Seen(await loop.run_in_executor(writer, lambda: store.position))
    names = {name: model.display_name for name, model in models_from(rt.env).items()}
    reader = Reader(path)

    async def close() -> None:
        await asyncio.to_thread(writer.shutdown)
        await asyncio.to_thread(readers.shutdown)
        reader.close()
        store.close()

    rt.on_stop(close)
    rt.spawn(project(rt.log, store, writer, seen), "projection")
    rt.add_rpc(add_AuditServiceServicer_to_server, Audit(reader, readers, seen, names), "factory.audit.v1.AuditService")


async def project(events: Log, store: Store, writer: ThreadPoolExecutor, seen: Seen) -> None:
    """Takes every event from the checkpoint on into the ledger, for ever; a gap in the log ends it."""
    loop = asyncio.get_running_loop()
    while not await _follow(events, store, writer, seen):
        log.warning("audit.rebuilding", because="the log is another one than the one that was read")
        await loop.run_in_executor(writer, store.empty)
        await seen.move(0)


async def _follow(events: Log, store: Store, writer: ThreadPoolExecutor, seen: Seen) -> bool:
    """Follows the log; False when the event at the checkpoint is not the one that was read there."""
    loop = asyncio.get_running_loop()
    # The last event that was read comes once more, to be recognised.
    known = seen.sequence == 0
    async for batch in events.follow(after=max(seen.sequence - 1, 0), batch=EVENTS_PER_TRANSACTION_MAX):
        if batch and not known:
            if not await loop.run_in_executor(writer, store.continues, batch[0]):
                return False
            known, batch = True, batch[1:]
        if batch:
            changes = await loop.run_in_executor(writer, store.apply, batch)
            if changes.skipped:
                log.warning("fact.unknown", arms=dict(changes.skipped), upto=changes.sequence)
            await seen.move(changes.sequence)
    return True


async def rebuild(events: Log, store: Store, until: int | None = None) -> str:
    """Makes every row anew from the log's first event to `until`, or to its end; the digest of what came of it."""
    await asyncio.to_thread(store.empty)
    done = 0
    async for batch in events.follow(after=0, batch=EVENTS_PER_TRANSACTION_MAX):
        wanted = [recorded for recorded in batch if until is None or recorded.sequence <= until]
        if wanted:
            await asyncio.to_thread(store.apply, wanted)
            done = wanted[-1].sequence
        if not batch or done == until:
            break
    return await asyncio.to_thread(store.digest)


async def remade(env: Mapping[str, str], *, repair: bool = False) -> bool:
    """Whether the ledger as it lies equals one that is made anew beside it from the same part of the log.

    `repair` makes it anew where it lies if it differs, which only a stopped service allows.
    """
    settings = settings_from(env)
    password = settings.nats_password.get_secret_value()
    path = database(settings.data)
    nc = await connect(settings.nats_url, name=LANE, user=LANE if password else "", password=password)
    events = EventLog(nc, org=settings.org, service=LANE)
    live, fresh = Store(path), Store(path.with_suffix(".remade"))
    try:
        until, digest = live.sealed()
        again = await rebuild(events, fresh, until) if until else digest
        log.info("audit.remade", until=until, equal=again == digest, digest=digest, remade=again)
        if repair and again != digest:
            await rebuild(events, live)
        return again == digest
    finally:
        live.close()
        fresh.close()
        fresh.path.unlink()
        await nc.close()


def learned_since(store: Store) -> set[int]:
    """Kinds of facts that were skipped by an older release and that this one knows."""
    return set(store.skipped()) & set(Fact.DESCRIPTOR.fields_by_number)


def database(data: Path) -> Path:
    """Where the ledger lies, in the service's own directory."""
    return data / DATABASE


def service(env: Mapping[str, str]) -> Service:  # noqa: ARG001 (every service is made from an environment)
    return Service(name="audit", lane=LANE, setup=setup)
