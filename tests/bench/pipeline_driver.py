"""Starts tasks, plays everybody who is no model, and holds the watch. The same for the real services and the floor.

Played: classifier, context, gate and delivery take their work from its queue and answer at once, with one fact each, as
in production; the human's approval is appended to the conductor's lane, without gRPC.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from eventlog import EventLog, Recorded, Tip, subjects
from eventlog.jetstream import leader_last
from eventlog.past import recorded
from eventlog.pull import Puller
from eventlog.work import Work, work_of
from factory.artifact.v1 import ArtifactRef
from factory.classification.v1 import TaskClassified
from factory.context.v1 import ContextGathered
from factory.delivery.v1 import PullRequestOpened
from factory.event.v1 import AnyFact
from factory.gate.v1 import GATE_VERDICT_PASS, GateJudged
from factory.review.v1 import HumanReviewRequested, TaskApproved
from factory.task.v1 import SCOPE_FEATURE, TASK_TYPE_API, ClassificationRequested, TaskCompleted, TaskSubmitted
from nats.aio.client import Client
from nats.aio.msg import Msg
from pipeline_floor import ANSWERED, DECIDED, Mover, Step
from pipeline_stand import PLAYED
from ulid import ULID

PREPARED_AT_ONCE = 64
RUN_TIMEOUT_S = 60
PLAYED_AT_ONCE = 256
COUNTED = ("EVENTS", "WORK", "TIMERS")
BLOB = ArtifactRef(digest="0" * 64, size=20_000)


class Stuck(Exception):
    """A run that did not end."""


class Players(Protocol):
    """What the played ones say, in facts or in bytes of the same size."""

    async def submitted(self, id: str) -> None: ...
    async def answered(self, lane: str, id: str, message: Msg) -> None: ...
    async def gathered(self, id: str) -> None: ...
    async def approved_or_ended(self, message: Msg) -> str: ...


class RealPlayers:
    """Says facts, for the real services to decide about."""

    def __init__(self, nc: Client) -> None:
        self._nc = nc
        self._logs = {lane: EventLog(nc, org="main", service=lane) for lane in ("conductor", *PLAYED)}

    async def submitted(self, id: str) -> None:
        task = TaskSubmitted(title="Add a GET /health endpoint", project="bench", repository="bench.git")
        await self._logs["conductor"].append(
            id, [task, ClassificationRequested(request_id="classification-1-1")], after=Tip()
        )

    async def answered(self, lane: str, id: str, message: Msg) -> None:
        work = work_of(message.data, message.headers or {}, message.subject, 1)
        await self._logs[lane].append(id, [_answer(lane, work)], after=Tip(), cause=work.event)

    async def gathered(self, id: str) -> None:
        await self._logs["context"].append(id, [_answer("context", None)], after=Tip())

    async def approved_or_ended(self, message: Msg) -> str:
        names = (message.headers or {}).get("ce-facts", "")
        if TaskCompleted.DESCRIPTOR.full_name in names:
            return message.subject.rsplit(".", 1)[-1]
        if HumanReviewRequested.DESCRIPTOR.full_name in names:
            event = recorded(message.data, 0, message.subject).event
            asked = next(f.human_review_requested for f in event.facts if f.HasField("human_review_requested"))
            last = await _stored(self._nc, message)
            approval = TaskApproved(approved_by="bench", change_digest=asked.change_digest)
            await self._logs["conductor"].append(event.id, [approval], after=last.tip, cause=last.event)
        return ""


async def _stored(nc: Client, message: Msg) -> Recorded:
    """A message as the stream holds it: a subscriber hears of it before it is stored."""
    while True:
        last = await leader_last(nc, subjects.EVENTS, message.subject)
        if last is not None and last.raw == message.data:
            return last


def _answer(lane: str, work: Work | None) -> AnyFact:
    match lane:
        case "classifier":
            return TaskClassified(request_id="classification-1-1", type=TASK_TYPE_API, scope=SCOPE_FEATURE)
        case "context":
            return ContextGathered(
                request_id="context-1-1",
                base_commit="0" * 40,
                base_branch="main",
                snapshot=BLOB,
                pack=BLOB,
                tokens=9_000,
            )
        case "quality_gate":
            return GateJudged(request_id=work.request_id if work else "", verdict=GATE_VERDICT_PASS, evidence=BLOB)
        case _:
            request_id = work.request_id if work else ""
            return PullRequestOpened(
                request_id=request_id, url="https://host.example/pr/1", branch="factory/x", commit="0" * 40
            )


class RawPlayers:
    """Says bytes, for the floor to move."""

    def __init__(self, nc: Client, shape: Sequence[Step]) -> None:
        self._nc = nc
        self._mover = Mover(nc, shape)
        self._shape = shape
        self._context = next(n for n, step in enumerate(shape) if step.lane == "context")

    async def submitted(self, id: str) -> None:
        await self._mover.say("conductor", id, DECIDED, 0, self._shape[0].request_bytes)

    async def answered(self, lane: str, id: str, message: Msg) -> None:
        number = message.data[1]
        await self._mover.say(lane, id, ANSWERED, number, self._shape[number].answers_bytes[0])

    async def gathered(self, id: str) -> None:
        await self._mover.say("context", id, ANSWERED, self._context, self._shape[self._context].answers_bytes[0])

    async def approved_or_ended(self, message: Msg) -> str:
        id, number = message.subject.rsplit(".", 1)[-1], message.data[1]
        if message.data[:1] != DECIDED or self._shape[number].lane:
            return ""
        if number == len(self._shape) - 1:
            return id
        self._mover.ends[message.subject] = (await _stored(self._nc, message)).sequence
        await self._mover.say("conductor", id, ANSWERED, number, self._shape[number].answers_bytes[0])
        return ""


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: so many pipelines, each from its start to its end."""

    took_s: float
    latencies_s: tuple[float, ...]
    messages: int

    @property
    def per_s(self) -> float:
        return len(self.latencies_s) / self.took_s

    @property
    def median_s(self) -> float:
        return statistics.median(self.latencies_s)


@dataclass
class Driver:
    """One nats-server, and the tasks that run over it."""

    nc: Client
    players: Players
    # the lane whose work item ends the watch, and the one whose work item is kept for later; else both are answered
    stops_at: str = ""
    keeps: str = ""
    ended: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    kept: dict[str, asyncio.Future[None]] = field(default_factory=dict)

    async def play(self) -> list[asyncio.Task[None]]:
        """Plays until the tasks that it returns are cancelled."""

        def playing(lane: str) -> Awaitable[None]:
            async def take(message: Msg) -> None:
                id = message.subject.split(".")[4]
                if lane == self.stops_at:
                    self._resolve(self.ended, id)
                elif lane == self.keeps:
                    self._resolve(self.kept, id)
                else:
                    await self.players.answered(lane, id, message)
                await message.ack()

            return Puller(self.nc, subjects.WORK, lane, take, at_once=PLAYED_AT_ONCE).run()

        async def seen(message: Msg) -> None:
            if id := await self.players.approved_or_ended(message):
                self._resolve(self.ended, id)

        if not self.stops_at:
            await self.nc.subscribe(subjects.lane("conductor", "main", "x")[:-1] + "*", cb=seen)
        return [asyncio.ensure_future(playing(lane)) for lane in PLAYED]

    def _resolve(self, waiting: dict[str, asyncio.Future[None]], id: str) -> None:
        if (future := waiting.pop(id, None)) and not future.done():
            future.set_result(None)

    async def prepared(self, count: int) -> list[str]:
        """Tasks that wait for nothing but their context."""

        async def one(id: str) -> str:
            waiting = self.kept[id] = asyncio.get_running_loop().create_future()
            await self.players.submitted(id)
            await waiting
            return id

        return await _all([lambda: one(_new_id()) for _ in range(count)], PREPARED_AT_ONCE)

    async def pipelines(self, ids: Sequence[str], in_flight: int) -> Measured:
        """From ContextGathered to the gate's work item: five phases, each by a model."""
        return await self._measured(ids, self.players.gathered, in_flight)

    async def tasks(self, count: int) -> Measured:
        """From TaskSubmitted to TaskCompleted, one at a time."""
        return await self._measured([_new_id() for _ in range(count)], self.players.submitted, 1)

    async def _measured(self, ids: Sequence[str], start: Callable[[str], Awaitable[None]], in_flight: int) -> Measured:
        async def one(id: str) -> float:
            waiting = self.ended[id] = asyncio.get_running_loop().create_future()
            begun = time.perf_counter()
            await start(id)
            await waiting
            return time.perf_counter() - begun

        before = await self.counted()
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(RUN_TIMEOUT_S):
                latencies = await _all([partial(one, id) for id in ids], in_flight)
        except TimeoutError:
            raise Stuck(
                f"{len(self.ended)} of {len(ids)} did not end in {RUN_TIMEOUT_S} s: {list(self.ended)[:5]}"
            ) from None
        took = time.perf_counter() - begun
        return Measured(took, tuple(latencies), await self.counted() - before)

    async def counted(self) -> int:
        """Every message that the streams have taken so far, by their own state."""
        infos = [await self.nc.jetstream().stream_info(name) for name in COUNTED]
        return sum(info.state.last_seq for info in infos)


def _new_id() -> str:
    return str(ULID()).lower()


async def _all(jobs: Sequence[Callable[[], Awaitable]], at_once: int) -> list:
    room = asyncio.Semaphore(at_once)

    async def one(job: Callable[[], Awaitable]) -> object:
        async with room:
            return await job()

    return await asyncio.gather(*(one(job) for job in jobs))
