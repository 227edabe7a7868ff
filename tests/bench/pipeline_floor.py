"""The floor: two processes that do nothing but move the messages of a task, with nats-py alone.

Same streams, consumers and headers, same number and sizes of messages, same order of effects: decide, see it come back,
offer the work, take it, say that it began, say how it ended, acknowledge. No fact is made, folded or decided.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import uvloop
from eventlog import Recorded, connect, facts_of, subjects
from eventlog.pull import Puller
from eventlog.work import lane_for, requests_in
from factory.review.v1 import HumanReviewRequested, TaskApproved
from factory.task.v1 import TaskCompleted
from nats.aio.client import Client
from nats.aio.msg import Msg
from pipeline_stand import MODELS, SLOTS
from ulid import ULID

DECIDED, BEGUN, ANSWERED = b"D", b"B", b"A"
PUBLISH_TIMEOUT_S = 30.0
# What the conductor's consumer may have in hand, as bootstrap makes it.
EVENTS_AT_ONCE = 1024
TIMER_AT = "@at 2099-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Step:
    """One request and its answers, as sizes. Without a lane nothing is offered: somebody acts by himself."""

    lane: str
    request_bytes: int
    answers_bytes: tuple[int, ...]
    timers: int = 0


def shape_of(events: Sequence[Recorded], timers: int) -> list[Step]:
    """The messages of a whole task, as the real services wrote them; its timers go to its first steps."""
    steps: list[Step] = []
    for recorded in events:
        facts = facts_of(recorded.event)
        request = next(iter(requests_in(recorded.event)), None)
        size = len(recorded.raw)
        if request is not None:
            steps.append(Step(lane_for(request), size, ()))
        elif any(isinstance(fact, HumanReviewRequested | TaskCompleted) for fact in facts):
            steps.append(Step("", size, ()))
        elif recorded.event.producer != "conductor" or any(isinstance(fact, TaskApproved) for fact in facts):
            last = steps[-1]
            steps[-1] = Step(last.lane, last.request_bytes, (*last.answers_bytes, size))
        else:
            raise ValueError(f"the floor does not know the event {[type(fact).__name__ for fact in facts]}")
    offered = [n for n, step in enumerate(steps) if step.lane]
    for n in range(timers):
        at = offered[n % len(offered)]
        step = steps[at]
        steps[at] = Step(step.lane, step.request_bytes, step.answers_bytes, step.timers + 1)
    return steps


def to_json(shape: Sequence[Step]) -> str:
    return json.dumps([asdict(step) for step in shape])


def from_json(text: str) -> list[Step]:
    return [Step(**{**step, "answers_bytes": tuple(step["answers_bytes"])}) for step in json.loads(text)]


class Mover:
    """One process: it knows the end of each lane that it writes, so it reads nothing."""

    def __init__(self, nc: Client, shape: Sequence[Step]) -> None:
        self.js = nc.jetstream(timeout=PUBLISH_TIMEOUT_S)
        self.shape = shape
        self.ends: dict[str, int] = {}

    async def say(self, lane: str, id: str, kind: bytes, step: int, size: int) -> None:
        """One event of the size that the real one has, behind the lane's end."""
        subject = subjects.lane(lane, "main", id)
        body = kind + bytes([step])
        ack = await self.js.publish(subject, body.ljust(size, b"-"), headers=self._headers(subject, id))
        self.ends[subject] = ack.seq

    def _headers(self, subject: str, id: str) -> dict[str, str]:
        event_id = str(ULID())
        return {
            "Nats-Expected-Last-Subject-Sequence": str(self.ends.get(subject, 0)),
            "Nats-Msg-Id": event_id,
            "ce-specversion": "1.0",
            "ce-id": event_id,
            "ce-source": "/main/executor-claude",
            "ce-type": "factory.phase.v1.PhaseRequested",
            "ce-subject": id,
            "ce-time": "2026-01-01T00:00:00.000000Z",
            "ce-datacontenttype": "application/protobuf",
            "ce-facts": "factory.phase.v1.PhaseRequested",
            "traceparent": f"00-{'0' * 32}-{'0' * 16}-01",
        }

    async def heard(self, message: Msg) -> None:
        """The conductor's part: what is decided is offered when it comes back, what is answered is followed up."""
        id = message.subject.rsplit(".", 1)[-1]
        kind, number = message.data[:1], message.data[1]
        if message.subject == subjects.lane("conductor", "main", id):
            self.ends[message.subject] = message.metadata.sequence.stream
        if kind == DECIDED:
            await self._offer(id, number, message.data)
        elif kind == ANSWERED and number + 1 < len(self.shape):
            await self.say("conductor", id, DECIDED, number + 1, self.shape[number + 1].request_bytes)
        await message.ack()

    async def _offer(self, id: str, number: int, body: bytes) -> None:
        step = self.shape[number]
        sent: list[Awaitable[Any]] = []
        if step.lane:
            subject = subjects.work(step.lane, "main", id, f"step-{number}-1")
            sent.append(self.js.publish(subject, body, headers={"Factory-Sequence": "1"}))
        for n in range(step.timers):
            fire = subjects.timer_fire("main", id, f"step-{number}-{n}")
            headers = {"Nats-Schedule": TIMER_AT, "Nats-Schedule-Target": fire}
            subject = subjects.timer_schedule("main", id, f"step-{number}-{n}")
            sent.append(self.js.publish(subject, b"-", headers=headers))
        await asyncio.gather(*sent)

    async def worked(self, message: Msg) -> None:
        """The worker's part: it says that it began, and how it ended."""
        lane, id = message.subject.split(".")[2], message.subject.split(".")[4]
        number = message.data[1]
        *begun, answer = self.shape[number].answers_bytes
        for size in begun:
            await self.say(lane, id, BEGUN, number, size)
        await self.say(lane, id, ANSWERED, number, answer)
        await message.ack()


async def move(role: str, url: str, shape: Sequence[Step]) -> None:
    nc = await connect(url, name=role)
    mover = Mover(nc, shape)
    if role == "conductor":
        loops = [Puller(nc, subjects.EVENTS, "conductor", mover.heard, at_once=EVENTS_AT_ONCE).run()]
    else:
        loops = [Puller(nc, subjects.WORK, f"executor-{m}", mover.worked, at_once=SLOTS).run() for m in MODELS]
    print("house.ready", file=sys.stderr, flush=True)
    await asyncio.gather(*loops)


if __name__ == "__main__":
    uvloop.run(move(sys.argv[1], sys.argv[2], from_json(sys.argv[3])))
