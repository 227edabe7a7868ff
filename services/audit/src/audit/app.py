"""Wires the audit up: one writer that follows the log, many readers that answer.

The writer never waits for a reader, and the event loop never waits for the disk.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import structlog
from eventlog import Recorded
from factory.audit.v1 import add_AuditServiceServicer_to_server
from factory.event.v1 import Fact
from policy.models import models_from
from runtime import Runtime, Service

from audit.adapters.queries import Reader
from audit.adapters.store import Store
from audit.rpc import Audit, Seen

log = structlog.get_logger()

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
    async for batch in events.follow(after=seen.sequence, batch=EVENTS_PER_TRANSACTION_MAX):
        if batch:
            changes = await loop.run_in_executor(writer, store.apply, batch)
            if changes.skipped:
                log.warning("fact.unknown", arms=dict(changes.skipped), upto=changes.sequence)
            await seen.move(changes.sequence)


async def rebuild(events: Log, store: Store) -> str:
    """Makes every row anew from the log's first event to its present end; answers the digest of what came of it."""
    await asyncio.to_thread(store.empty)
    async for batch in events.follow(after=0, batch=EVENTS_PER_TRANSACTION_MAX):
        if not batch:
            break
        await asyncio.to_thread(store.apply, batch)
    return await asyncio.to_thread(store.digest)


def learned_since(store: Store) -> set[int]:
    """Kinds of facts that were skipped by an older release and that this one knows."""
    return set(store.skipped()) & set(Fact.DESCRIPTOR.fields_by_number)


def database(data: Path) -> Path:
    """Where the ledger lies, in the service's own directory."""
    return data / DATABASE


def service(env: Mapping[str, str]) -> Service:  # noqa: ARG001 (every service is made from an environment)
    return Service(name="audit", lane="audit", setup=setup)
