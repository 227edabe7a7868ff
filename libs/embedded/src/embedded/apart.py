"""The same factory as separate processes: what one step with operator rights prepares for the services."""

import asyncio
from collections.abc import Mapping

from eventlog import connect
from eventlog.bootstrap import bootstrap
from eventlog.permissions import OPERATOR
from eventlog.preflight import check
from policy.models import models_from

WORKERS = ("classifier", "context", "quality_gate", "delivery")


def working_lanes(env: Mapping[str, str]) -> list[str]:
    """Every lane that takes work."""
    return [*WORKERS, *(f"executor-{model}" for model in models_from(env))]


async def bootstrap_apart(env: Mapping[str, str], *, replicas: int, ack_wait_s: float) -> None:
    """Checks the server, then creates or updates streams and consumers."""
    if monitor := env.get("FACTORY_NATS_MONITOR_URL"):
        await asyncio.to_thread(check, monitor, allow_unsynced=env.get("FACTORY_ALLOW_UNSYNCED") == "bench")
    nc = await connect(
        env.get("FACTORY_NATS_URL", "nats://127.0.0.1:4222"),
        name=OPERATOR,
        user=OPERATOR if env.get("FACTORY_NATS_PASSWORD") else "",
        password=env.get("FACTORY_NATS_PASSWORD", ""),
    )
    try:
        await bootstrap(nc, lanes=working_lanes(env), replicas=replicas, ack_wait_s=ack_wait_s)
    finally:
        await nc.close()
