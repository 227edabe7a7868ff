"""What every test may use: a real nats-server, with streams, on an empty store."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from embedded.nats import Nats, running
from eventlog import connect
from eventlog.bootstrap import bootstrap
from hypothesis import settings
from nats.aio.client import Client

LANES = (
    "classifier",
    "context",
    "executor-claude",
    "executor-gpt",
    "executor-gemini",
    "executor-deepseek",
    "quality_gate",
    "delivery",
)

settings.register_profile("default", deadline=None, derandomize=True)
settings.load_profile("default")


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[Nats]:
    """A nats-server of its own, synced as in production, no authorization."""
    with running(tmp_path / "nats") as server:
        yield server


@pytest.fixture
async def nc(nats_server: Nats) -> AsyncIterator[Client]:
    """A connection with operator rights; streams and consumers are there."""
    client = await connect(nats_server.url, name="operator")
    await bootstrap(client, lanes=LANES, ack_wait_s=5)
    yield client
    await client.close()
