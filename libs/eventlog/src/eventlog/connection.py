"""A connection to NATS that never gives up, and says aloud what the server refuses."""

from collections.abc import Awaitable, Callable

import nats
import structlog
from nats.aio.client import Client as Client

from eventlog.headers import quicken

log = structlog.get_logger()

CONNECT_TIMEOUT_S = 2
RECONNECT_WAIT_S = 0.25


async def connect(
    url: str,
    *,
    name: str,
    user: str = "",
    password: str = "",
    on_closed: Callable[[], Awaitable[None]] | None = None,
) -> Client:
    """Connects, waiting for the server as long as it takes. `url`: several, separated by commas, for a cluster.

    A permission error reaches only the error callback while the caller sees a timeout, so it is logged by name.
    """

    async def on_error(error: Exception) -> None:
        log.error("nats.error", service=name, error=str(error))

    nc = await nats.connect(
        url.split(","),
        name=name,
        user=user or None,
        password=password or None,
        inbox_prefix=f"_INBOX_{name}",
        connect_timeout=CONNECT_TIMEOUT_S,
        reconnect_time_wait=RECONNECT_WAIT_S,
        max_reconnect_attempts=-1,
        error_cb=on_error,
        closed_cb=on_closed,
    )
    return quicken(nc)
