"""What a service is, and what it is given to work with."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from artifacts import Artifacts
from eventlog import EventLog, subjects
from eventlog.pull import Handle as HandleMessage
from eventlog.pull import Puller
from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, PullSub
from nats.aio.client import Client

from runtime.settings import Settings
from runtime.worker import Closed, Handle, Poison, take

log = structlog.get_logger()

PULL_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Service:
    """One service: its package, its lane, and the function that wires it up."""

    name: str
    lane: str
    setup: "Callable[[Runtime], Awaitable[None]]"


@dataclass(slots=True)
class Runtime:
    """What a service is handed at its start."""

    service: Service
    settings: Settings
    env: Mapping[str, str]
    nc: Client
    broker: NatsBroker
    log: EventLog
    artifacts: Artifacts
    rpcs: list[tuple[Callable[..., None], Any, str]] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    closers: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    after_ready: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    pullers: list[Puller] = field(default_factory=list)
    pulling: list[asyncio.Task[None]] = field(default_factory=list)
    on_crash: Callable[[str, BaseException], None] | None = None

    @property
    def lane(self) -> str:
        return self.service.lane

    def worker(self, handle: Handle, poison: Poison, *, slots: int = 1, closed: Closed | None = None) -> None:
        """Takes work offered to this lane, `slots` items at once.

        `closed` says what a request that nobody wants any more leaves behind.
        """

        async def deliver(message: Any) -> None:
            await take(
                message,
                events=self.log,
                handle=handle,
                poison=poison,
                heartbeat_s=self.settings.heartbeat_s,
                closed=closed,
            )

        self.pull(subjects.WORK, self.lane, deliver, at_once=slots)

    def pull(self, stream: str, durable: str, deliver: HandleMessage, *, at_once: int) -> None:
        """Takes messages from a durable consumer as they come, each in a task of its own, `at_once` in hand at most.

        `deliver` gets nats-py's message and must ack, nak or term it. For what is hot: FastStream waits until a whole
        batch is done, and nats-py's fetch holds what has come until its batch is full.
        """
        self.pullers.append(Puller(self.nc, stream, durable, deliver, at_once=at_once))

    def subscribe(
        self,
        stream: str,
        durable: str,
        subject: str,
        deliver: Callable[[Any], Awaitable[None]],
        *,
        batch: int = 1,
    ) -> None:
        """Pulls from a durable consumer; `deliver` gets FastStream's message and must ack, nak or term it."""
        subscriber = self.broker.subscriber(
            subject,
            durable=durable,
            stream=JStream(stream, declare=False),
            pull_sub=PullSub(batch_size=batch, timeout=PULL_TIMEOUT_S),
            ack_policy=AckPolicy.MANUAL,
            decoder=_as_it_is,
            inbox_prefix=f"_INBOX_{self.lane}.".encode(),
        )
        subscriber(deliver)

    def add_rpc(self, add_to_server: Callable[..., None], servicer: object, full_name: str) -> None:
        """Serves a gRPC service; `full_name` is what health and reflection call it."""
        self.rpcs.append((add_to_server, servicer, full_name))

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Runs something for as long as the service runs; if it dies, so does the process, and is started again."""
        task = asyncio.create_task(work, name=f"{self.service.name}.{name}")
        task.add_done_callback(self._ended)
        self.tasks.append(task)

    def on_ready(self, work: Callable[[], Awaitable[None]]) -> None:
        """Runs once, when the process has said that it is ready."""
        self.after_ready.append(work)

    def on_stop(self, close: Callable[[], Awaitable[None]]) -> None:
        self.closers.append(close)

    def start_pulling(self) -> None:
        """Called once, when everything that may be asked for is there to answer."""
        for number, puller in enumerate(self.pullers):
            task = asyncio.create_task(
                puller.run(drain_s=self.settings.drain_s), name=f"{self.service.name}.pull-{number}"
            )
            task.add_done_callback(self._ended)
            self.pulling.append(task)

    async def stop_pulling(self) -> None:
        """Takes nothing new; what is in hand has the drain time to end, and is then given back."""
        for task in self.pulling:
            task.cancel()
        await asyncio.gather(*self.pulling, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            log.error("service.task_died", task=task.get_name(), error=repr(error))
            if self.on_crash:
                self.on_crash(task.get_name(), error)


async def _as_it_is(message: Any) -> Any:
    """Handlers read the stored bytes themselves."""
    return message
