"""What has been read of one id: its events of all lanes, in the order of the stream."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from factory.event.v1 import AnyFact, Event, Fact
from google.protobuf.message import DecodeError

from eventlog import subjects
from eventlog.facts import facts_of, may_say


@dataclass(frozen=True, slots=True)
class Tip:
    """The end of a lane: what an append must follow. The default is an empty lane."""

    version: int = 0
    sequence: int = 0
    hash: bytes = b""


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event as the stream holds it."""

    event: Event
    sequence: int
    raw: bytes
    # its facts, once somebody has asked for them; None until then
    _facts: list[AnyFact | None] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def facts(self) -> list[AnyFact | None]:
        """Its facts in order; None for a kind that this release does not know, or that its lane has no right to say."""
        if (facts := self._facts) is None:
            facts = facts_of(self.event)
            object.__setattr__(self, "_facts", facts)
        return facts

    @property
    def tip(self) -> Tip:
        return Tip(self.event.version, self.sequence, hashlib.sha256(self.raw).digest())


@dataclass(frozen=True, slots=True)
class Past:
    """All that the log said of one id when it was read, up to stream sequence `read_to`."""

    events: tuple[Recorded, ...] = ()
    read_to: int = 0

    def lane(self, service: str) -> tuple[Recorded, ...]:
        return tuple(recorded for recorded in self.events if recorded.event.producer == service)

    def tip(self, service: str) -> Tip:
        for recorded in reversed(self.events):
            if recorded.event.producer == service:
                return recorded.tip
        return Tip()

    def facts(self) -> Iterator[AnyFact]:
        """Every known fact, in stream order."""
        for recorded in self.events:
            yield from (fact for fact in recorded.facts if fact is not None)

    def __add__(self, newer: tuple[Recorded, ...]) -> "Past":
        if not newer:
            return self
        return Past(self.events + newer, newer[-1].sequence)


def recorded(raw: bytes, sequence: int, subject: str) -> Recorded:
    """Reads a stored event; raises `google.protobuf.message.DecodeError` for bytes that are none, or not of this lane.

    The subject is what the server has checked the sender's rights against; what the envelope says has to agree.
    """
    event = Event.FromString(raw)
    said = f"factory.evt.{event.producer}.{event.org}.{event.id}"
    if said != subject:
        raise DecodeError(f"an event of {said[:200]!r} on {subject!r}")
    for fact, told in zip(event.facts, facts_of(event), strict=True):
        # The server's permissions are per lane, not per fact: that nobody but the conductor decides, and nobody but an
        # executor calls, is seen to here, for whoever reads the event. The bytes stay as they are.
        if told is not None and not may_say(event.producer, told):
            fact.Clear()
    return Recorded(event, sequence, raw)


def stored(raw: bytes, sequence: int, subject: str) -> Recorded:
    """As `recorded`, but bytes that are no event of this lane stand as one that says something unknown.

    One unreadable message must stop neither a follower of the whole log nor the readers of another id.
    """
    try:
        return recorded(raw, sequence, subject)
    except DecodeError:
        producer, org, id = subject.removeprefix(subjects.ALL_EVENTS.removesuffix(">")).split(".", 2)
        return Recorded(Event(producer=producer, org=org, id=id, facts=[Fact()]), sequence, raw)
