"""Hears GateRequested, says GateJudged. Never passes a change that it could not look at, and holds no key."""

import asyncio
import time
from collections.abc import Mapping, Sequence

import structlog
from artifacts import ArtifactDamaged, ArtifactMissing
from factory.artifact.v1 import Change, Findings
from factory.event.v1 import AnyFact
from factory.gate.v1 import GateJudged, GateRequested
from google.protobuf.message import DecodeError
from runtime import Runtime, Service, Work

from quality_gate.adapters.checks import TESTS_S, Judgement, judge
from quality_gate.adapters.sandbox import sandbox_available
from quality_gate.adapters.trees import sweep
from quality_gate.verdict import unknown

log = structlog.get_logger()

TESTS_S_SETTING = "FACTORY_GATE_TESTS_S"
REASON_CHARACTERS_MAX = 1000


def service(env: Mapping[str, str]) -> Service:
    """The quality gate, as `factory.services` knows it."""
    tests_s = float(env.get(TESTS_S_SETTING) or TESTS_S)
    if not 0 < tests_s <= 3600:
        raise ValueError(f"{TESTS_S_SETTING}: expected seconds up to an hour, found {tests_s}")

    async def setup(rt: Runtime) -> None:
        async def handle(work: Work, _past: object) -> Sequence[AnyFact]:
            assert isinstance(work.request, GateRequested)
            return [await judged(rt, work.request, tests_s)]

        rt.worker(handle, poison)
        rt.on_ready(make_ready)

    return Service("quality_gate", "quality_gate", setup)


async def judged(rt: Runtime, request: GateRequested, tests_s: float) -> GateJudged:
    """The gate's word on one change, with its findings and its evidence stored."""
    started = time.monotonic()
    judgement = await _judgement(rt, request, tests_s)
    verdict = judgement.verdict
    fact = GateJudged(
        request_id=request.request_id,
        change_digest=request.change_digest,
        verdict=verdict.verdict,
        blocking_findings=verdict.blocking,
        tools=judgement.tools,
        unknown_because="; ".join(verdict.unknown_because)[:REASON_CHARACTERS_MAX],
    )
    if verdict.findings:
        found = Findings(findings=verdict.findings)
        fact.findings.CopyFrom(await rt.artifacts.put(found.SerializeToString(deterministic=True)))
    if verdict.tests is not None:
        fact.tests.CopyFrom(verdict.tests)
    fact.evidence.CopyFrom(await rt.artifacts.put(judgement.evidence.encode(errors="replace")))
    fact.took.FromMicroseconds(int((time.monotonic() - started) * 1e6))
    log.info("gate.judged", change=request.change_digest, verdict=verdict.verdict, blocking=verdict.blocking)
    return fact


async def _judgement(rt: Runtime, request: GateRequested, tests_s: float) -> Judgement:
    try:
        change = Change.FromString(await rt.artifacts.get(request.change_digest))
        bundle = await rt.artifacts.get(request.snapshot.digest)
    except (ArtifactMissing, ArtifactDamaged) as error:
        return Judgement(unknown(str(error)), f"{error}\n")
    except DecodeError:
        said = f"artifact {request.change_digest!r} is not a change"
        return Judgement(unknown(said), f"{said}\n")
    return await asyncio.to_thread(judge, bundle, change, tests_s=tests_s)


def poison(work: Work, _past: object) -> Sequence[AnyFact]:
    """The gate has fallen over this change too often: nobody knows, and a human is told so."""
    assert isinstance(work.request, GateRequested)
    said = unknown(f"the gate broke {work.deliveries} times over this change")
    return [
        GateJudged(
            request_id=work.request_id,
            change_digest=work.request.change_digest,
            verdict=said.verdict,
            unknown_because="; ".join(said.unknown_because),
        )
    ]


async def make_ready() -> None:
    """Tries the sandbox once, so that the first change does not wait for it, and clears away what a kill has left."""
    await asyncio.to_thread(sweep)
    if reason := await asyncio.to_thread(sandbox_available):
        log.warning("sandbox.unavailable", reason=reason)
