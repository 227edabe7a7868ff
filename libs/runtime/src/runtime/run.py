"""Starts services in this process, one or all of them, and stops them without losing what they have in hand."""

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points

import grpc.aio
import structlog
from artifacts import DirectoryArtifacts
from eventlog import EventLog
from eventlog.headers import quicken
from faststream.nats import NatsBroker
from faststream.security import SASLPlaintext
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from runtime import logs
from runtime.health import Health, serve_health
from runtime.rpc import Gatekeeper, Tokens
from runtime.service import Runtime, Service
from runtime.settings import SettingsInvalid, settings_from

log = structlog.get_logger()

SERVICES = "factory.services"
RPC_BYTES_MAX = 32 * 1024 * 1024
CANCEL_AGAIN_S = 0.5
# Allocations between collections of the young, and how many of those between the older. Of the usual 700, 10, 10 a busy
# service had a tenth of its time less.
GC_THRESHOLDS = (50_000, 20, 100)


@dataclass(slots=True)
class House:
    """Services that run in this process."""

    runtimes: list[Runtime] = field(default_factory=list)
    grpc_address: str = ""
    http_address: str = ""
    health: Health = field(default_factory=Health)
    crashed: asyncio.Event = field(default_factory=asyncio.Event)
    crash: str = ""

    def fell(self, name: str, error: BaseException) -> None:
        self.crash = f"{name}: {error!r}"
        self.crashed.set()


@contextlib.asynccontextmanager
async def serve(services: Sequence[tuple[Service, Mapping[str, str]]]) -> AsyncIterator[House]:
    """Runs each service with its own environment, connection and rights; they share one gRPC server and health page."""
    house = House()
    async with contextlib.AsyncExitStack() as stack:
        beating = asyncio.create_task(house.health.beat())
        stack.callback(beating.cancel)
        for service, env in services:
            house.runtimes.append(await stack.enter_async_context(_started(service, env, house)))
        await stack.enter_async_context(_listening(house))
        await asyncio.gather(*(runtime.broker.start() for runtime in house.runtimes))
        for runtime in house.runtimes:
            runtime.start_pulling()
        _serve_http(house, stack)
        house.health.ready = True
        log.info("house.ready", services=[r.service.name for r in house.runtimes], grpc=house.grpc_address)
        warming = [asyncio.ensure_future(work()) for runtime in house.runtimes for work in runtime.after_ready]
        stack.callback(lambda: [task.cancel() for task in warming])
        yield house
        house.health.ready = False
        log.info("house.draining")


@contextlib.asynccontextmanager
async def _started(service: Service, env: Mapping[str, str], house: House) -> AsyncIterator[Runtime]:
    settings = settings_from(env)
    password = settings.nats_password.get_secret_value()

    async def on_error(error: Exception) -> None:
        # A permission error reaches only this callback, while the caller sees a timeout.
        log.error("nats.error", service=service.lane, error=str(error))

    async def on_closed() -> None:
        if house.health.ready:
            house.fell(service.lane, ConnectionError("the connection to NATS was closed"))

    broker = NatsBroker(
        settings.nats_url.split(","),
        name=service.lane,
        security=SASLPlaintext(username=service.lane, password=password) if password else None,
        inbox_prefix=f"_INBOX_{service.lane}",
        max_reconnect_attempts=-1,
        reconnect_time_wait=1,
        error_cb=on_error,
        closed_cb=on_closed,
        graceful_timeout=settings.drain_s,
        apply_types=False,
        logger=None,
    )
    nc = quicken(await broker.connect())
    runtime = Runtime(
        service=service,
        settings=settings,
        env=env,
        nc=nc,
        broker=broker,
        log=EventLog(nc, org=settings.org, service=service.lane),
        artifacts=DirectoryArtifacts(settings.artifacts),
        on_crash=house.fell,
    )
    await service.setup(runtime)
    try:
        yield runtime
    finally:
        await _cancelled(runtime.tasks)
        await runtime.stop_pulling()
        try:
            await broker.stop()  # work in hand ends here; only then may what it uses be closed
        except Exception as error:
            log.warning("nats.not_drained", service=service.lane, error=repr(error))
        for close in reversed(runtime.closers):
            await close()


async def _cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancels until every task has ended: on Python 3.11 `asyncio.wait_for`, which nats-py reads with, may lose the
    cancellation when an answer comes at the same moment, and the stop would wait for ever."""
    going_on = set(tasks)
    while going_on:
        for task in going_on:
            task.cancel()
        _, going_on = await asyncio.wait(going_on, timeout=CANCEL_AGAIN_S)


@contextlib.asynccontextmanager
async def _listening(house: House) -> AsyncIterator[None]:
    """One gRPC server for every rpc in the house, with health and reflection; none where no service has one."""
    rpcs = [rpc for runtime in house.runtimes for rpc in runtime.rpcs]
    if not rpcs:
        yield
        return
    settings = next(runtime.settings for runtime in house.runtimes if runtime.rpcs)
    server = grpc.aio.server(
        interceptors=[Gatekeeper(Tokens.from_file(settings.tokens_file))],
        options=[("grpc.max_receive_message_length", RPC_BYTES_MAX), ("grpc.max_send_message_length", RPC_BYTES_MAX)],
    )
    healthy = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    names = []
    for add_to_server, servicer, full_name in rpcs:
        add_to_server(servicer, server)
        names.append(full_name)
    for name in ["", *names]:
        await healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection([*names, reflection.SERVICE_NAME, "grpc.health.v1.Health"], server)
    port = server.add_insecure_port(settings.grpc_listen)
    await server.start()
    house.grpc_address = f"{settings.grpc_listen.rpartition(':')[0]}:{port}"
    try:
        yield
    finally:
        await healthy.enter_graceful_shutdown()
        await server.stop(grace=min(settings.drain_s, 2))


def _serve_http(house: House, stack: contextlib.AsyncExitStack) -> None:
    listen = next((runtime.settings.http_listen for runtime in house.runtimes if runtime.settings.http_listen), "")
    if listen:
        server = serve_health(house.health, listen)
        house.http_address = f"http://{listen.rpartition(':')[0]}:{server.server_address[1]}"
        stack.callback(server.shutdown)


def installed(names: Sequence[str] = ()) -> dict[str, Callable[[Mapping[str, str]], Service]]:
    """The services that are installed, by entry point; only those named, where some are."""
    found = {point.name: point for point in entry_points(group=SERVICES)}
    if missing := set(names) - set(found):
        raise SettingsInvalid(
            f"no service {', '.join(sorted(missing))!r} is installed; there are {', '.join(sorted(found))}"
        )
    return {name: point.load() for name, point in sorted(found.items()) if not names or name in names}


async def until_stopped(house: House) -> None:
    """Waits for SIGTERM, SIGINT or a crash; raises SystemExit for a crash, so that a supervisor starts it again."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    waiting = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(house.crashed.wait())]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for future in waiting:
        future.cancel()
    if house.crash:
        raise SystemExit(f"stopped, because {house.crash}")


def run_loop(work: Awaitable[None]) -> None:
    """Runs `work` on uvloop."""
    import uvloop

    # What has been imported stays, and need not be gone through again and again; of the rest, little is cyclic.
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)

    async def wrapped() -> None:
        await work

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(wrapped())


def main(name: str, env: Mapping[str, str] | None = None) -> None:
    """Runs one service from environment variables until it is told to stop: `python -m <service>`."""
    environment = dict(env or os.environ)
    try:
        settings = settings_from(environment)
        service = installed([name])[name](environment)
    except (SettingsInvalid, ValueError) as error:
        sys.exit(f"{name}: {error}")
    logs.configure(settings.log_format, settings.log_level)

    async def run_it() -> None:
        async with serve([(service, environment)]) as house:
            await until_stopped(house)

    run_loop(run_it())
