"""A model of the bus by the rules that `libs/eventlog` and the server keep: one log, queues, timers. No I/O.

The log has one order, and each lane its own optimistic concurrency. Readers may be behind it. Queues deliver at least
once, in any order; what was taken and not acknowledged comes back when the time for it is over.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from eventlog import Conflict, Recorded, Tip
from eventlog.facts import facts_of, to_fact
from factory.event.v1 import AnyFact, Event
from google.protobuf.timestamp_pb2 import Timestamp

ACK_WAIT_MS = 60_000
# So many deliveries of a queue are open to be taken in any order.
WINDOW = 8


class Stored(Recorded):
    """An event as the stream holds it, its facts unwrapped once."""

    __slots__ = ("_facts",)
    _facts: list[AnyFact | None]

    def __init__(self, event: Event, sequence: int) -> None:
        super().__init__(event, sequence, b"")
        object.__setattr__(self, "_facts", facts_of(event))

    @property
    def facts(self) -> list[AnyFact | None]:
        return self._facts

    @property
    def tip(self) -> Tip:
        return Tip(self.event.version, self.sequence)


@dataclass(slots=True)
class Log:
    """The stream EVENTS."""

    events: list[Stored] = field(default_factory=list)
    of_id: dict[str, list[Stored]] = field(default_factory=dict)
    lanes: dict[tuple[str, str], Tip] = field(default_factory=dict)

    @property
    def head(self) -> int:
        return len(self.events)

    def last(self, service: str, id: str) -> Tip:
        """The end of a lane as the leader knows it."""
        return self.lanes.get((service, id), Tip())

    def append(
        self, service: str, id: str, facts: Sequence[AnyFact], *, after: Tip, cause: Event | None, read_to: int, at: int
    ) -> Stored:
        """Stores one event behind `after`; raises Conflict if the lane has grown since."""
        if self.is_taken(service, id, after):
            raise Conflict(f"{id!r}: the lane of {service!r} is past version {after.version}")
        sequence = self.head + 1
        event = Event(
            event_id=f"{sequence:026d}",
            org="acme",
            id=id,
            version=after.version + 1,
            correlation_id=cause.correlation_id if cause else id,
            causation_id=cause.event_id if cause else "",
            occurred_at=Timestamp(seconds=at // 1000, nanos=at % 1000 * 1_000_000),
            producer=service,
            read_to=read_to,
            facts=[to_fact(fact) for fact in facts],
        )
        stored = Stored(event, sequence)
        self.events.append(stored)
        self.of_id.setdefault(id, []).append(stored)
        self.lanes[service, id] = stored.tip
        return stored

    def is_taken(self, service: str, id: str, after: Tip) -> bool:
        return self.last(service, id).sequence != after.sequence

    def read(self, id: str, after: int, position: int) -> tuple[Stored, ...]:
        """What a replica at `position` has about one id behind sequence `after`."""
        return tuple(stored for stored in self.of_id.get(id, ()) if after < stored.sequence <= position)


@dataclass(slots=True)
class Item:
    """One message of a queue."""

    key: tuple[str, ...]
    body: Any
    # from then on it may be handed out
    at: int
    deliveries: int = 0
    # somebody has it in hand, and has not been given up
    taken: bool = False
    is_done: bool = False


@dataclass(slots=True)
class Queue:
    """A durable consumer's messages: handed out at least once each, until they are acknowledged."""

    name: str
    items: dict[tuple[str, ...], Item] = field(default_factory=dict)

    def offer(self, key: tuple[str, ...], body: Any, at: int) -> bool:
        """Takes a message in, unless one of its key is there already."""
        if key in self.items:
            return False
        self.items[key] = Item(key, body, at)
        return True

    def ready(self, now: int) -> Iterator[Item]:
        """The messages that may be handed out now."""
        found = 0
        for item in self.items.values():
            if item.at <= now:
                yield item
                if (found := found + 1) == WINDOW:
                    return

    def take(self, item: Item, now: int) -> None:
        item.deliveries += 1
        item.taken = True
        item.at = now + ACK_WAIT_MS

    def ack(self, item: Item) -> None:
        """The message is done with; a late word from somebody who was given up counts as well."""
        item.is_done = True
        if self.items.get(item.key) is item:
            del self.items[item.key]

    def nak(self, item: Item, at: int) -> None:
        item.at = at

    def in_progress(self, item: Item, now: int) -> None:
        item.at = max(item.at, now + ACK_WAIT_MS)


@dataclass(slots=True)
class Timers:
    """The stream TIMERS: what is to be said again at a time. Set again, the later word counts."""

    due: dict[tuple[str, str], int] = field(default_factory=dict)
    fired: Queue = field(default_factory=lambda: Queue("timers"))
    count: int = 0

    def set(self, id: str, name: str, at: int) -> None:
        self.due[id, name] = at

    def next(self) -> int | None:
        return min(self.due.values(), default=None)

    def fire(self, now: int, twice: bool) -> int:
        """Delivers what is due; late where nobody came to it earlier."""
        over = [name for name, at in self.due.items() if at <= now]
        for id, name in over:
            del self.due[id, name]
            for _ in range(1 + twice):
                self.count += 1
                self.fired.offer((id, name, str(self.count)), (id, name), now)
        return len(over)
