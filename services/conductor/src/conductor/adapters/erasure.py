"""Forgets a task's texts: its artifacts go, its facts and its ledger lines stay."""

from collections.abc import Iterator

from artifacts import Artifacts
from eventlog import EventLog, Past
from factory.artifact.v1 import ArtifactRef
from google.protobuf.message import Message


async def erase(
    events: EventLog, artifacts: Artifacts, past: Past, task_id: str
) -> tuple[list[str], list[ArtifactRef]]:
    """Erases every artifact that this task alone names; returns the digests erased, and what others still need.

    Artifacts go by content, so two tasks may share one (a snapshot of the same commit): the whole log is read for that.
    """
    wanted = {ref.digest: ref for fact in past.facts() for ref in references(fact)}
    shared = await _named_elsewhere(events, set(wanted), task_id, past.read_to)
    erased = [digest for digest in sorted(set(wanted) - shared) if await artifacts.erase(digest)]
    return erased, [wanted[digest] for digest in sorted(shared)]


def references(message: Message) -> Iterator[ArtifactRef]:
    """Every artifact that a fact points at, however deep."""
    for field, value in message.ListFields():
        if field.name == "change_digest" and value:
            yield ArtifactRef(digest=value)
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for part in value if field.is_repeated else [value]:
            if isinstance(part, ArtifactRef):
                yield part
            else:
                yield from references(part)


async def _named_elsewhere(events: EventLog, digests: set[str], task_id: str, until: int) -> set[str]:
    """Which of these digests stand in an event of another id, up to stream sequence `until`."""
    found: set[str] = set()
    async for batch in events.follow(after=0):
        for recorded in batch:
            if recorded.event.id != task_id:
                found |= {digest for digest in digests - found if digest.encode() in recorded.raw}
        if not batch or batch[-1].sequence >= until:
            break
    return found
