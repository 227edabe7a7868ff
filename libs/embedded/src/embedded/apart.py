"""The same factory as separate processes: the one step with operator rights, before the services start.

Never starts a service, and never deletes what is there.
"""

import asyncio
from collections.abc import Mapping

from eventlog import connect
from eventlog.bootstrap import bootstrap
from eventlog.permissions import OPERATOR
from eventlog.preflight import Unsafe, check

from embedded.credentials import working_lanes

NATS_TIMEOUT_S = 60
NATS_URL_DEFAULT = "nats://127.0.0.1:4222"


class Unreachable(Exception):
    """No nats-server let the operator in within the time that a start may take."""


async def bootstrap_apart(
    env: Mapping[str, str], *, replicas: int, ack_wait_s: float, timeout_s: float = NATS_TIMEOUT_S
) -> None:
    """Waits for the server, checks that it syncs, and creates or updates streams and consumers."""
    monitor = env.get("FACTORY_NATS_MONITOR_URL", "")
    if not monitor:
        raise Unsafe("FACTORY_NATS_MONITOR_URL is not set; it tells whether the server syncs what it acknowledges")
    url, password = env.get("FACTORY_NATS_URL", NATS_URL_DEFAULT), env.get("FACTORY_NATS_PASSWORD", "")
    try:
        async with asyncio.timeout(timeout_s):
            # It tries for ever, a wrong password included; the log says what the server answers.
            nc = await connect(url, name=OPERATOR, user=OPERATOR if password else "", password=password)
    except TimeoutError:
        said = f"{url} let no operator in within {timeout_s:g} s; is FACTORY_NATS_PASSWORD the operator's?"
        raise Unreachable(said) from None
    try:
        await asyncio.to_thread(check, monitor, allow_unsynced=env.get("FACTORY_ALLOW_UNSYNCED") == "bench")
        await bootstrap(nc, lanes=working_lanes(env), replicas=replicas, ack_wait_s=ack_wait_s)
    finally:
        await nc.close()
