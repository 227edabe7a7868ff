"""What every test may use: a real nats-server, with streams, on an empty store."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
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


NATS_IMAGE = "nats:2.12-alpine"


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[Nats]:
    """A nats-server of its own, synced as in production, no authorization: the wheel's, or one in a container."""
    start = in_container if os.environ.get("FACTORY_TEST_NATS") == "container" else running
    with start(tmp_path / "nats") as server:
        yield server


@contextmanager
def in_container(directory: Path) -> Iterator[Nats]:
    """The same server as the image that production uses; skips, and says so, where Docker or the image is missing."""
    if why_not := no_docker(NATS_IMAGE):
        pytest.skip(why_not)
    # We end the container ourselves, and reach it by the port that a local engine publishes.
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    os.environ.setdefault("TESTCONTAINERS_CONNECTION_MODE", "docker_host")
    os.environ.setdefault("TC_HOST", "127.0.0.1")
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    directory.mkdir(parents=True)
    config = directory / "nats.conf"
    config.write_text("port: 4222\nhttp: 8222\njetstream { store_dir: /data, sync_interval: always }\n")
    container = (
        DockerContainer(NATS_IMAGE)
        .with_command("-c /etc/nats/nats.conf")
        .with_volume_mapping(str(config), "/etc/nats/nats.conf")
        .with_exposed_ports(4222, 8222)
        .waiting_for(LogMessageWaitStrategy("Server is ready"))
    )
    with container:
        host = container.get_container_host_ip()
        client, monitor = container.get_exposed_port(4222), container.get_exposed_port(8222)
        yield Nats(f"nats://{host}:{client}", f"http://{host}:{monitor}", 0)


def no_docker(image: str) -> str:
    """Why a test cannot have its container; "" where it can."""
    if not shutil.which("docker"):
        return "Docker is not installed"
    found = subprocess.run(["docker", "image", "inspect", image], capture_output=True, text=True, check=False)
    if found.returncode == 0:
        return ""
    return "Docker does not answer" if "connect" in found.stderr else f"the image {image} is not here"


@pytest.fixture
async def nc(nats_server: Nats) -> AsyncIterator[Client]:
    """A connection with operator rights; streams and consumers are there."""
    client = await connect(nats_server.url, name="operator")
    await bootstrap(client, lanes=LANES, ack_wait_s=5)
    yield client
    await client.close()
