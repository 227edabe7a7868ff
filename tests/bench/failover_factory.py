"""`python failover_factory.py DIRECTORY NATS_URL SIMULATOR_URL`: the real factory in one process, but for its gate.

The gate passes every change without looking: the real one takes seconds of processor time for each, and has no part in
how a model is replaced. Classifier, context, conductor, executors and delivery are those of production.
"""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from factory.event.v1 import AnyFact
from factory.gate.v1 import GATE_VERDICT_PASS, GateJudged, GateRequested
from policy.models import DEFAULT_MODELS
from runtime import Runtime, Service, Work, logs, serve
from runtime.rpc import ROLES, token_entry
from runtime.run import installed

TOKEN = "bench"
GATE, LEFT_OUT = "quality_gate", ("quality_gate", "audit")
GATE_SLOTS = 8
ACK_WAIT_S = 5


def gate() -> Service:
    """Passes what it is asked about."""

    def passed(work: Work, _past: object) -> Sequence[AnyFact]:
        assert isinstance(work.request, GateRequested)
        change = work.request.change_digest
        return [GateJudged(request_id=work.request_id, change_digest=change, verdict=GATE_VERDICT_PASS)]

    async def handle(work: Work, past: object) -> Sequence[AnyFact]:
        return passed(work, past)

    async def setup(rt: Runtime) -> None:
        rt.worker(handle, passed, slots=GATE_SLOTS)

    return Service(GATE, GATE, setup)


def settings(directory: Path, nats_url: str, simulator_url: str) -> dict[str, str]:
    """The environment of every service; pretend providers take any key."""
    tokens = directory / "tokens.json"
    tokens.write_text(json.dumps([token_entry(TOKEN, "bench", ROLES)]))
    env = {
        "FACTORY_NATS_URL": nats_url,
        "FACTORY_ARTIFACTS": str(directory / "artifacts"),
        "FACTORY_TOKENS_FILE": str(tokens),
        "FACTORY_ALLOWED_ROOTS": str(directory),
        "FACTORY_MODELS": ",".join(DEFAULT_MODELS),
        "FACTORY_PRETEND_MODELS": ",".join(DEFAULT_MODELS),
        "FACTORY_DATA": str(directory),
        "FACTORY_ACK_WAIT_S": str(ACK_WAIT_S),
        "FACTORY_HEARTBEAT_S": "1",
        "FACTORY_DRAIN_S": "1",
        "FACTORY_HTTP_LISTEN": "127.0.0.1:0",
        "PATH": os.environ.get("PATH", os.defpath),
    }
    for name, model in DEFAULT_MODELS.items():
        env[f"FACTORY_{name.upper()}_BASE_URL"] = simulator_url if model.wire == "anthropic" else f"{simulator_url}/v1"
    return env


async def run(directory: Path, nats_url: str, simulator_url: str) -> None:
    env = settings(directory, nats_url, simulator_url)
    makers = {name: make for name, make in installed().items() if name not in (*LEFT_OUT, "executor")}
    services = [(make(env), env) for make in makers.values()]
    for name in DEFAULT_MODELS:
        own = env | {"EXECUTOR_MODEL": name}
        services.append((installed()["executor"](own), own))
    async with serve([*services, (gate(), env)]) as house:
        address = directory / "address"
        address.with_suffix(".new").write_text(house.grpc_address)
        address.with_suffix(".new").rename(address)
        await house.crashed.wait()
        sys.exit(house.crash)


if __name__ == "__main__":
    logs.configure("console", "error")
    asyncio.run(run(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
