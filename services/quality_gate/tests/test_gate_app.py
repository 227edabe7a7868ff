"""The gate as a service: a real nats-server, real artifacts, a real sandbox."""

import asyncio
from pathlib import Path

import pytest
from artifacts import DirectoryArtifacts
from eventlog import EventLog, Tip
from eventlog.work import publish_work, requests_in
from factory.artifact.v1 import Findings
from factory.gate.v1 import GateJudged, GateRequested, GateVerdict
from google.protobuf.message import Message
from quality_gate.adapters.sandbox import sandbox_available
from quality_gate.app import service
from runtime import serve

pytestmark = pytest.mark.slow  # real servers: left to `just test`

TASK = "01jgatetaskaaaaaaaaaaaaaaa"
JUDGED_S = 20.0


@pytest.fixture
async def asked(nc, nats_server, tmp_path: Path, shop):
    """Asks a running gate about a change, and gives its answer."""
    store = DirectoryArtifacts(tmp_path / "artifacts")
    env = {
        "FACTORY_NATS_URL": nats_server.url,
        "FACTORY_ARTIFACTS": str(tmp_path / "artifacts"),
        "FACTORY_HEARTBEAT_S": "1",
    }
    conductor = EventLog(nc, org="main", service="conductor")

    async def ask(change: Message | bytes, snapshot: bytes) -> GateJudged:
        data = change if isinstance(change, bytes) else change.SerializeToString(deterministic=True)
        digest = (await store.put(data)).digest if data else "0" * 64
        request = GateRequested(request_id="gate-1-1", change_digest=digest, snapshot=await store.put(snapshot))
        recorded = await conductor.append(TASK, [request], after=Tip(), cause=None, read_to=0)
        for wanted in requests_in(recorded.event):
            await publish_work(nc, recorded, wanted)
        async with asyncio.timeout(JUDGED_S):
            while True:
                past = await conductor.read(TASK, at_least=recorded.sequence)
                for fact in past.facts():
                    if isinstance(fact, GateJudged):
                        return fact
                await asyncio.sleep(0.05)

    async with serve([(service(env), env)]):
        yield ask, store


@pytest.mark.skipif(sandbox_available() is not None, reason=f"{sandbox_available()}")
async def test_a_change_is_judged_with_findings_and_evidence(asked, shop):
    ask, store = asked

    judged = await ask(shop.change({"src/shop/prices.py": "def total(prices):\n    return undefined\n"}), shop.bundle)

    assert judged.verdict == GateVerdict.GATE_VERDICT_BLOCK
    found = Findings.FromString(await store.get(judged.findings.digest)).findings
    assert judged.blocking_findings == len(found) == 2
    assert b"undefined" in await store.get(judged.evidence.digest)
    assert (judged.request_id, judged.tests.failed) == ("gate-1-1", 1)
    assert judged.took.ToTimedelta().total_seconds() > 0


async def test_a_missing_change_is_unknown_and_says_so(asked, shop):
    ask, _ = asked

    judged = await ask(b"", shop.bundle)

    assert judged.verdict == GateVerdict.GATE_VERDICT_UNKNOWN
    assert judged.unknown_because == f"artifact {'0' * 64!r} is not in the store"


async def test_an_artifact_that_is_no_change_is_unknown(asked, shop):
    ask, _ = asked

    judged = await ask(b"\xff\xff not a change", shop.bundle)

    assert judged.verdict == GateVerdict.GATE_VERDICT_UNKNOWN
    assert "is not a change" in judged.unknown_because
