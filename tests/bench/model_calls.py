"""What an executor adds to its SDK: calls per second of CPU, and time per call, beside the bare SDK in the same run.

A real log (synced on every write), real artifacts, the executor in a process of its own, the provider in another that
answers at once. The bare SDK sends the same prompts to the same provider, and keeps nothing.
"""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # where `stage` is
from artifacts import DirectoryArtifacts
from embedded.nats import running
from eventlog import EventLog, Recorded, Tip, connect, facts_of
from eventlog.bootstrap import bootstrap
from eventlog.work import publish_work
from factory.artifact.v1 import ArtifactRef, Pack, PackFile
from factory.call.v1 import ModelCalled, ModelCallStarted
from factory.context.v1 import ContextGathered
from factory.event.v1 import Event
from factory.phase.v1 import PhaseCompleted, PhaseFailed, PhaseRequested
from factory.task.v1 import PHASE_KIND_IMPLEMENT, PHASE_KIND_REVIEW, PhaseKind, TaskSubmitted
from nats.aio.client import Client
from policy.models import DEFAULT_MODELS, Model
from rich.console import Console
from rich.table import Table
from runtime import logs
from stage import providers, sample_remote
from worktree import checkout, record_change, snapshot

PREFIXES = {"claude": "", "gpt": "/v1", "gemini": "/v1beta/openai", "deepseek": ""}
PHASES = {"review": PHASE_KIND_REVIEW, "implement": PHASE_KIND_IMPLEMENT}
WARM_UP = 8
# What an answer of a child begins with, on a stdout that logs may share.
ANSWER = "answer "
ANSWER_TIMEOUT_S = 120


def cpu_s() -> float:
    """CPU of this process and of the children it has waited for: git counts."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


@dataclass
class Child:
    """A process that works, and tells on request how much CPU it has used."""

    process: subprocess.Popen[str]

    def ask(self, line: str) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        while answer := self.process.stdout.readline():
            if answer.startswith(ANSWER):
                return json.loads(answer.removeprefix(ANSWER))
        raise RuntimeError(f"the process ended with {self.process.wait()}")


@contextlib.contextmanager
def child(role: str, env: dict[str, str]):
    command = [sys.executable, __file__, "--role", role]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
    )
    try:
        yield Child(process)
    finally:
        process.terminate()
        process.wait()


@dataclass
class Bench:
    """The conductor's side: it asks for phases, and hears the answers."""

    nc: Client
    store: DirectoryArtifacts
    model: Model
    base_commit: str
    bundle: ArtifactRef
    pack: ArtifactRef
    change: str
    answers: dict[str, asyncio.Future[float]] = field(default_factory=dict)
    provider_s: list[float] = field(default_factory=list)
    asked: list[ArtifactRef] = field(default_factory=list)
    number: int = 0

    async def hear(self) -> None:
        await self.nc.subscribe(f"factory.evt.executor-{self.model.name}.>", cb=self._heard)

    async def _heard(self, message: Any) -> None:
        event = Event.FromString(message.data)
        for fact in facts_of(event):
            match fact:
                case ModelCallStarted():
                    self.asked.append(fact.request)
                case ModelCalled():
                    self.provider_s.append(fact.latency.ToNanoseconds() / 1e9)
                case PhaseCompleted():
                    self.answers[event.id].set_result(time.perf_counter())
                case PhaseFailed():
                    self.answers[event.id].set_exception(RuntimeError(str(fact)))
                case _:
                    continue

    async def written(self, phase: PhaseKind) -> tuple[Recorded, int]:
        """The facts of a task up to its request, and where they begin."""
        self.number += 1
        id = f"{self.number:026}"
        request = PhaseRequested(
            request_id=f"{PhaseKind.Name(phase).removeprefix('PHASE_KIND_').lower()}-1-1",
            phase=phase,
            round=1,
            attempt=1,
            model=self.model.name,
            snapshot=self.bundle,
            pack=self.pack,
            change_digest=self.change if phase == PHASE_KIND_REVIEW else "",
            max_output_tokens=8_000,
        )
        gathered = ContextGathered(request_id="context-1-1", base_commit=self.base_commit)
        conductor, context = (EventLog(self.nc, org="main", service=lane) for lane in ("conductor", "context"))
        first = await context.append(id, [gathered], after=Tip())
        facts = [TaskSubmitted(title="Add a GET /health endpoint"), request]
        return await conductor.append(id, facts, after=Tip()), first.sequence

    async def answered(self, recorded: Recorded, first: int) -> float:
        """Seconds from the offer of the work to the event with its result."""
        id = recorded.event.id
        request = recorded.facts[1]
        assert isinstance(request, PhaseRequested)
        self.answers[id] = asyncio.get_running_loop().create_future()
        begun = time.perf_counter()
        await publish_work(self.nc, recorded, request, places=(first, recorded.sequence))
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            return await self.answers[id] - begun


async def bounded(jobs: Sequence[Callable[[], Awaitable[float]]], at_once: int) -> tuple[list[float], float]:
    """Runs all, so many at once: the time of each, and of all."""
    gate = asyncio.Semaphore(at_once)

    async def one(job: Callable[[], Awaitable[float]]) -> float:
        async with gate:
            return await job()

    begun = time.perf_counter()
    times = await asyncio.gather(*map(one, jobs))
    return times, time.perf_counter() - begun


async def measure_executor(bench: Bench, child: Child, phase: PhaseKind, options: argparse.Namespace) -> dict[str, Any]:
    """One at a time, then many at once."""
    total = WARM_UP + options.alone + options.calls
    recorded = [await bench.written(phase) for _ in range(total)]
    jobs = [lambda one=one: bench.answered(*one) for one in recorded]
    await bounded(jobs[:WARM_UP], 4)
    bench.provider_s.clear()
    alone, _ = await bounded(jobs[WARM_UP : WARM_UP + options.alone], 1)
    provider = list(bench.provider_s)
    before = child.ask("cpu")
    _, took_s = await bounded(jobs[WARM_UP + options.alone :], options.in_flight)
    used_s = child.ask("cpu") - before
    return {
        "calls_per_s_per_core": round(options.calls / used_s, 1),
        "cpu_ms_per_call": round(1000 * used_s / options.calls, 2),
        "calls_per_s": round(options.calls / took_s, 1),
        "ms_p50": round(1000 * statistics.median(alone), 2),
        "ms_p50_on_the_wire": round(1000 * statistics.median(provider), 2),
    }


def measure_sdk(child: Child, question: bytes, options: argparse.Namespace) -> dict[str, Any]:
    return child.ask(
        json.dumps(
            {
                "question": json.loads(question),
                "alone": options.alone,
                "calls": options.calls,
                "in_flight": options.in_flight,
            }
        )
    )


async def floor_ms(nc: Client, name: str, times: int) -> float:
    """What the log alone takes of it: a start and an end, each acknowledged after its sync."""
    log = EventLog(nc, org="main", service="conductor")
    found: list[float] = []
    for number in range(times):
        begun = time.perf_counter()
        start = await log.append(f"floor-{name}-{number}", [TaskSubmitted(title="x" * 180)], after=Tip())
        await log.append(f"floor-{name}-{number}", [TaskSubmitted(title="x" * 180)], after=start.tip)
        found.append(time.perf_counter() - begun)
    return round(1000 * statistics.median(found), 2)


@contextlib.asynccontextmanager
async def prepared(directory: Path, nats_url: str, model: Model) -> AsyncIterator[Bench]:
    remote = sample_remote(directory / "remote")
    snapped = snapshot(str(remote), "", allowed_roots=(directory,), mirror=directory / "mirror")
    store = DirectoryArtifacts(directory / "artifacts")
    root = directory / "tree"
    checkout(snapped.bundle, snapped.base_commit, root)
    texts = {str(path.relative_to(root)): path for path in sorted(root.rglob("*.py")) if ".git" not in path.parts}
    files = [
        PackFile(path=name, text=path.read_text(), first_line=1, rank=n)
        for n, (name, path) in enumerate(texts.items(), 1)
    ]
    (root / "health.py").write_text("def health() -> str:\n    return 'ok'\n")
    change = record_change(root, snapped.base_commit, "")
    nc = await connect(nats_url, name="operator")
    await bootstrap(nc, lanes=[f"executor-{model.name}"], ack_wait_s=60, slots={f"executor-{model.name}": 64})
    bench = Bench(
        nc,
        store,
        model,
        snapped.base_commit,
        await store.put(snapped.bundle),
        await store.put(Pack(files=files).SerializeToString(deterministic=True)),
        (await store.put(change.SerializeToString(deterministic=True))).digest,
    )
    await bench.hear()
    yield bench
    await nc.close()


async def measure(name: str, options: argparse.Namespace, directory: Path) -> list[dict[str, Any]]:
    model = DEFAULT_MODELS[name]
    found: list[dict[str, Any]] = []
    with running(directory / "nats") as server, providers(directory / "providers") as made:
        env = {
            "FACTORY_NATS_URL": server.url,
            "FACTORY_ARTIFACTS": str(directory / "artifacts"),
            "FACTORY_PRETEND_MODELS": name,
            f"FACTORY_{name.upper()}_BASE_URL": made.url + PREFIXES[name],
            "EXECUTOR_MODEL": name,
            "FACTORY_EXECUTOR_SLOTS": str(options.in_flight),
        }
        async with prepared(directory, server.url, model) as bench:
            with child("executor", env) as executor, child("sdk", env) as sdk:
                for phase in options.phases:
                    ours = await measure_executor(bench, executor, PHASES[phase], options)
                    bare = measure_sdk(sdk, await bench.store.get(bench.asked[-1].digest), options)
                    found.append(
                        {
                            "model": name,
                            "wire": model.wire,
                            "phase": phase,
                            "executor": ours,
                            "sdk": bare,
                            "added_ms_p50": round(ours["ms_p50"] - bare["ms_p50"], 2),
                            "floor_ms_p50": await floor_ms(bench.nc, phase, options.alone),
                            "ratio": round(ours["calls_per_s_per_core"] / bare["calls_per_s_per_core"], 3),
                        }
                    )
    return found


async def run_executor() -> None:
    """The executor's process: the service as it is, and its CPU on request."""
    from executor.app import service
    from runtime import serve

    env = dict(os.environ)
    async with serve([(service(env), env)]):
        while await asyncio.to_thread(sys.stdin.readline):
            print(ANSWER + json.dumps(cpu_s()), flush=True)


async def run_sdk() -> None:
    """The bare SDK's process: for each line, so many calls with the same question."""
    import anthropic
    import openai

    model = DEFAULT_MODELS[os.environ["EXECUTOR_MODEL"]]
    url = os.environ[f"FACTORY_{model.name.upper()}_BASE_URL"]
    claude = anthropic.AsyncAnthropic(base_url=url, api_key="pretend", max_retries=0)
    gpt = openai.AsyncOpenAI(base_url=url, api_key="pretend", max_retries=0)

    async def one(question: dict[str, Any]) -> float:
        said: Any = [{"role": turn["role"], "content": turn["text"]} for turn in question["messages"]]
        begun = time.perf_counter()
        match model.wire:
            case "anthropic":
                known: Any = {"model": question["provider_model"], "system": question["system"]}
                stream: Any = await claude.messages.create(
                    **known, messages=said, max_tokens=question["max_output_tokens"], stream=True
                )
            case "openai-chat":
                messages: Any = [{"role": "system", "content": question["system"]}, *said]
                stream = await gpt.chat.completions.create(
                    model=question["provider_model"],
                    messages=messages,
                    max_tokens=question["max_output_tokens"],
                    stream=True,
                    stream_options={"include_usage": True},
                )
            case "openai-responses":
                stream = await gpt.responses.create(
                    model=question["provider_model"],
                    instructions=question["system"],
                    input=said,
                    max_output_tokens=question["max_output_tokens"],
                    store=False,
                    stream=True,
                )
        async for _ in stream:
            pass
        return time.perf_counter() - begun

    while line := await asyncio.to_thread(sys.stdin.readline):
        wanted = json.loads(line)
        calls = [lambda: one(wanted["question"])]  # noqa: B023  awaited before the next line is read
        await bounded(calls * WARM_UP, 4)
        alone, _ = await bounded(calls * wanted["alone"], 1)
        before = cpu_s()
        _, took_s = await bounded(calls * wanted["calls"], wanted["in_flight"])
        used_s = cpu_s() - before
        told = {
            "calls_per_s_per_core": round(wanted["calls"] / used_s, 1),
            "cpu_ms_per_call": round(1000 * used_s / wanted["calls"], 2),
            "calls_per_s": round(wanted["calls"] / took_s, 1),
            "ms_p50": round(1000 * statistics.median(alone), 2),
        }
        print(ANSWER + json.dumps(told), flush=True)


def shown(results: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="A call through an executor, beside the bare SDK")
    columns = ("model, phase", "calls/s/core", "bare SDK", "ratio", "p50 ms", "bare SDK", "added", "two appends")
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right")
    for one in results:
        ours, bare = one["executor"], one["sdk"]
        table.add_row(
            f"{one['model']} ({one['wire']}), {one['phase']}",
            *(str(side["calls_per_s_per_core"]) for side in (ours, bare)),
            str(one["ratio"]),
            *(str(side["ms_p50"]) for side in (ours, bare)),
            str(one["added_ms_p50"]),
            str(one["floor_ms_p50"]),
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=sorted(PREFIXES), default=["claude", "gpt"])
    parser.add_argument("--phases", nargs="+", choices=sorted(PHASES), default=["review", "implement"])
    parser.add_argument("--calls", type=int, default=200, help="many at once, for calls per second")
    parser.add_argument("--alone", type=int, default=40, help="one at a time, for the time per call")
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--json", action="store_true", help="one object")
    parser.add_argument("--role", choices=["bench", "executor", "sdk"], default="bench", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logs.configure("console", "error")
    if options.role != "bench":
        import uvloop

        with contextlib.suppress(KeyboardInterrupt), Path(os.devnull).open("w") as nowhere:
            logs.configure("json", "info", nowhere)  # as in production, and read by nobody
            uvloop.run(run_executor() if options.role == "executor" else run_sdk())
        return
    results: list[dict[str, Any]] = []
    for name in options.models:
        with tempfile.TemporaryDirectory(prefix="factory-bench-") as directory:
            results += asyncio.run(measure(name, options, Path(directory)))
    if options.json:
        print(json.dumps({"runs": results}))
    else:
        Console().print(shown(results))


if __name__ == "__main__":
    main()
