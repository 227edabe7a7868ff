"""The executor on a real log, with real artifacts, real git and real SDKs: what it says, and what it costs."""

import asyncio
import json
from pathlib import Path

import pytest
from eventlog import Tip, subjects
from eventlog.work import Work
from executor.answer import Answer
from executor.app import Executor, service
from executor.phase import call_id
from executor.settings import settings_from
from executor.transcript import response_json
from executor.usage import total
from factory.artifact.v1 import Change, Findings
from factory.call.v1 import CALL_OUTCOME_LOST, CALL_OUTCOME_OK, ModelCalled, ModelCallStarted
from factory.event.v1 import AnyFact
from factory.phase.v1 import (
    VERDICT_APPROVE,
    VERDICT_REQUEST_CHANGES,
    PhaseCompleted,
    PhaseFailed,
    PhaseFailure,
)
from factory.task.v1 import PHASE_KIND_REVIEW
from policy.models import models_from
from runtime.settings import SettingsWrong
from simulator import Mode
from worktree import apply_change, checkout

pytestmark = pytest.mark.slow  # real servers: left to `just test`

TASK = "01jd0000000000000000000000"
CALL = f"{TASK}.implement-1-1"
NEW_FILE = "I add it.\n\nFILE: new.py\n<<<<<<< SEARCH\n=======\nx = 1\n>>>>>>> REPLACE\n"


def kinds(events: list[list[AnyFact | None]]) -> list[list[str]]:
    return [[type(fact).__name__ for fact in facts] for facts in events]


def ends(events: list[list[AnyFact | None]]) -> list[ModelCalled]:
    return [fact for facts in events for fact in facts if isinstance(fact, ModelCalled)]


@pytest.mark.parametrize("model", ["claude", "gpt", "gemini", "deepseek"])
async def test_a_phase_is_done_in_one_call_and_two_events_and_the_ledger_equals_the_bill(desk, tmp_path, model):
    async with desk.executor(model):
        await desk.request(model)
        result = await desk.result(model)
    events = await desk.said(model)

    assert kinds(events) == [["ModelCallStarted"], ["ModelCalled", "PhaseCompleted"]]
    assert isinstance(result, PhaseCompleted)
    [start], [end, _] = events
    [line] = desk.provider.bill.lines
    assert start.call_id == end.call_id == line.client_request_id == f"{CALL}-1"
    assert end.outcome == CALL_OUTCOME_OK
    assert total(end.usage) == line.total
    assert json.loads(end.raw_usage)
    # What it may have cost, had the answer been lost, is more than what it did cost.
    assert start.input_tokens_estimate >= total(end.usage) - end.usage.output_tokens - end.usage.reasoning_tokens
    change = Change.FromString(await desk.store.get(result.change_digest))
    checkout(desk.snapped.bundle, desk.snapped.base_commit, tmp_path / "tree")
    await asyncio.to_thread(apply_change, tmp_path / "tree", change)
    assert change.base_commit == desk.snapped.base_commit
    assert await desk.store.get(result.summary.digest)
    assert "text" in json.loads(await desk.store.get(end.response.digest))
    sent = (await desk.store.get(start.request.digest)).decode()
    assert "It answers 200." in sent
    assert "sk-real" not in sent


async def test_a_reviewer_says_its_verdict_on_the_change_it_was_given(desk):
    async with desk.executor("gpt"), desk.executor("gemini"):
        await desk.request("gpt")
        written = await desk.result("gpt")
        await desk.request(
            "gemini", request_id="review-1-1", phase=PHASE_KIND_REVIEW, change_digest=written.change_digest
        )
        result = await desk.result("gemini", "review-1-1")

    assert isinstance(result, PhaseCompleted)
    assert result.change_digest == written.change_digest
    assert result.verdict in (VERDICT_APPROVE, VERDICT_REQUEST_CHANGES)
    if result.HasField("findings"):
        findings = Findings.FromString(await desk.store.get(result.findings.digest)).findings
        assert {found.source for found in findings} == {"gemini"}
        assert result.blocking_findings <= len(findings)
    start = (await desk.said("gemini"))[0][0]
    assert isinstance(start, ModelCallStarted)
    assert "# Change so far" in (await desk.store.get(start.request.digest)).decode()


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        (Mode.RATE_LIMITED, "RATE_LIMITED"),
        (Mode.UNPAID, "PAYMENT_REQUIRED"),
        (Mode.BROKEN, "SERVER_ERROR"),
        (Mode.OVERLOADED, "OVERLOADED"),
        (Mode.CUT, "BROKEN_STREAM"),
        (Mode.REFUSAL, "REFUSED"),
        (Mode.TRUNCATED, "TRUNCATED"),
    ],
)
async def test_a_provider_that_fails_is_a_fact_for_the_conductor_and_is_not_asked_again(desk, mode, reason):
    await desk.misbehave(mode=mode, retry_after_s=3 if mode == Mode.RATE_LIMITED else None)
    async with desk.executor():
        await desk.request()
        result = await desk.result()
    events = await desk.said()

    assert kinds(events) == [["ModelCallStarted"], ["ModelCalled", "PhaseFailed"]]
    assert isinstance(result, PhaseFailed)
    assert PhaseFailure.Name(result.reason) == f"PHASE_FAILURE_{reason}"
    assert len(desk.provider.bill.lines) == 1
    if mode == Mode.RATE_LIMITED:
        assert result.retry_after.seconds == 3


@pytest.mark.parametrize("mode", [Mode.BAD_PATH, Mode.BAD_EDIT, Mode.MALFORMED, Mode.HUGE_FILE])
async def test_an_answer_that_cannot_be_used_is_complained_about_and_the_next_one_counts(desk, mode):
    await desk.misbehave(mode=mode)
    async with desk.executor():
        await desk.request()
        result = await desk.result()
    events = await desk.said()

    assert kinds(events) == [
        ["ModelCallStarted"],
        ["ModelCalled"],
        ["ModelCallStarted"],
        ["ModelCalled", "PhaseCompleted"],
    ]
    assert isinstance(result, PhaseCompleted)
    assert [total(end.usage) for end in ends(events)] == [line.total for line in desk.provider.bill.lines]
    second = events[2][0]
    assert isinstance(second, ModelCallStarted)
    messages = json.loads(await desk.store.get(second.request.digest))["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[2]["text"].startswith("Your answer could not be used: ")


async def test_a_model_that_will_not_leave_the_repository_alone_has_failed(desk):
    await desk.misbehave(mode=Mode.BAD_PATH, times=3)
    async with desk.executor():
        await desk.request()
        result = await desk.result()

    assert isinstance(result, PhaseFailed)
    assert PhaseFailure.Name(result.reason) == "PHASE_FAILURE_MALFORMED"
    assert "is refused" in result.detail
    assert len(desk.provider.bill.lines) == 3
    assert not Path("/etc/passwd.py").exists()


async def test_a_call_whose_executor_died_is_booked_lost_and_the_phase_is_done_by_the_next(desk):
    await desk.misbehave(mode=Mode.HANG)
    async with desk.executor(FACTORY_DRAIN_S="0.1"):
        await desk.request()
        async with asyncio.timeout(10):
            while not desk.provider.bill.lines:
                await asyncio.sleep(0.02)
    async with desk.executor():
        result = await desk.result()
    events = await desk.said()

    assert isinstance(result, PhaseCompleted)
    assert kinds(events) == [
        ["ModelCallStarted"],
        ["ModelCalled", "ModelCallStarted"],
        ["ModelCalled", "PhaseCompleted"],
    ]
    lost, answered = ends(events)
    assert (lost.call_id, lost.outcome, lost.HasField("usage")) == (f"{CALL}-1", CALL_OUTCOME_LOST, False)
    assert answered.call_id == f"{CALL}-2"
    assert [line.client_request_id for line in desk.provider.bill.lines] == [f"{CALL}-1", f"{CALL}-2"]
    assert total(answered.usage) == desk.provider.bill.lines[1].total


async def test_a_request_that_is_given_up_as_poison_leaves_no_call_without_an_end(desk):
    async with desk.executor() as house:
        [runtime] = house.runtimes
        executor = Executor(runtime, settings_from({**desk.env, "EXECUTOR_MODEL": "gpt"}, models_from(desk.env)))
        work = await desk.request(offered=False)
        begun = ModelCallStarted(call_id=f"{CALL}-1", request_id="implement-1-1", model="gpt", max_output_tokens=100)
        await desk.lane().report(TASK, [begun])

        facts = executor.poison(Work(work.event, work.sequence, work.request, deliveries=6), await desk.past())

    lost, failed = facts
    assert isinstance(lost, ModelCalled)
    assert (lost.call_id, lost.outcome) == (f"{CALL}-1", CALL_OUTCOME_LOST)
    assert isinstance(failed, PhaseFailed)
    assert PhaseFailure.Name(failed.reason) == "PHASE_FAILURE_POISON"


async def test_an_answer_on_record_is_used_and_nothing_is_paid(desk):
    stored = await desk.store.put(response_json(Answer(text=NEW_FILE, finish_reason="completed", http_status=200)))
    await desk.request(offered=False)
    start = ModelCallStarted(call_id=f"{CALL}-1", request_id="implement-1-1", model="gpt")
    end = ModelCalled(call_id=f"{CALL}-1", request_id="implement-1-1", outcome=CALL_OUTCOME_OK, response=stored)
    await desk.lane().append(TASK, [start, end], after=Tip())
    async with desk.executor() as house:
        [runtime] = house.runtimes
        work = await desk.request(offered=False)
        settings = settings_from({**desk.env, "EXECUTOR_MODEL": "gpt"}, models_from(desk.env))
        facts = await Executor(runtime, settings).handle(work, await desk.past())

    [result] = facts
    assert isinstance(result, PhaseCompleted)
    assert b"+x = 1" in Change.FromString(await desk.store.get(result.change_digest)).patch
    assert desk.provider.bill.lines == ()


async def test_two_workers_in_one_house_on_one_request_pay_once(desk):
    async with desk.executor() as house:
        [runtime] = house.runtimes
        settings = settings_from({**desk.env, "EXECUTOR_MODEL": "gpt"}, models_from(desk.env))
        executor, other = Executor(runtime, settings), Executor(runtime, settings)
        work = await desk.request(offered=False)

        async def deliver(to: Executor) -> list[AnyFact]:
            facts = list(await to.handle(work, past))
            if facts:
                await desk.lane().report(TASK, facts)
            return facts

        past = await desk.past()
        said = await asyncio.gather(deliver(executor), deliver(other), deliver(executor))

    results = [fact for facts in said for fact in facts if isinstance(fact, PhaseCompleted)]
    assert len(desk.provider.bill.lines) == 1
    assert len(results) == 1


async def test_an_artifact_that_is_gone_is_a_named_failure(desk):
    await desk.store.erase(desk.bundle.digest)
    async with desk.executor():
        await desk.request()
        result = await desk.result()

    assert isinstance(result, PhaseFailed)
    assert PhaseFailure.Name(result.reason) == "PHASE_FAILURE_ARTIFACT_MISSING"
    assert desk.bundle.digest in result.detail
    assert desk.provider.bill.lines == ()


async def test_a_model_whose_window_is_too_small_says_so_before_anything_is_sent(desk, tmp_path):
    (tmp_path / "models.toml").write_text("[gpt]\ncontext_window_tokens = 600\nmax_output_tokens = 100\n")
    async with desk.executor(FACTORY_MODELS_FILE=str(tmp_path / "models.toml")):
        await desk.request()
        result = await desk.result()

    assert isinstance(result, PhaseFailed)
    assert PhaseFailure.Name(result.reason) == "PHASE_FAILURE_CONTEXT_TOO_LARGE"
    assert desk.provider.bill.lines == ()


async def test_a_model_without_a_key_says_so_before_anything_is_sent(desk):
    real = {"FACTORY_PRETEND_MODELS": "", "OPENAI_API_KEY": "", "FACTORY_GPT_BASE_URL": "https://api.openai.com/v1"}
    async with desk.executor(**real):
        await desk.request()
        result = await desk.result()

    assert isinstance(result, PhaseFailed)
    assert PhaseFailure.Name(result.reason) == "PHASE_FAILURE_UNAUTHENTICATED"
    assert result.detail == "no key for 'gpt': OPENAI_API_KEY is not set"


async def test_a_provider_that_is_down_costs_nothing_and_says_so(desk):
    async with desk.executor(FACTORY_GPT_BASE_URL="http://127.0.0.1:9/v1"):
        await desk.request()
        result = await desk.result()

    assert isinstance(result, PhaseFailed)
    assert PhaseFailure.Name(result.reason) == "PHASE_FAILURE_UNREACHABLE"
    assert len(ends(await desk.said())) == 1


async def test_a_request_that_hangs_is_left_after_its_own_timeout(desk):
    await desk.misbehave(mode=Mode.HANG)
    async with desk.executor():
        work = await desk.request(timeout={"seconds": 1})
        result = await desk.result()

    assert work.request_id == "implement-1-1"
    assert isinstance(result, PhaseFailed)
    assert PhaseFailure.Name(result.reason) == "PHASE_FAILURE_TIMEOUT"


async def test_whoever_listens_hears_the_words_as_they_come(desk):
    heard: list[dict[str, str]] = []

    async def listen(message) -> None:
        heard.append(json.loads(message.data))

    await desk.nc.subscribe(subjects.live("main", TASK), cb=listen)
    async with desk.executor():
        await desk.request()
        await desk.result()

    assert {word["call_id"] for word in heard} == {call_id(TASK, "implement-1-1", 1)}
    assert "FILE: " in "".join(word["text"] for word in heard)


@pytest.mark.parametrize(
    ("env", "complaint"),
    [
        ({}, "EXECUTOR_MODEL is not set; it names one of claude, deepseek, gemini, gpt"),
        ({"EXECUTOR_MODEL": "gtp"}, "EXECUTOR_MODEL is 'gtp'"),
        ({"EXECUTOR_MODEL": "gpt", "FACTORY_EXECUTOR_SLOTS": "0"}, "FACTORY_EXECUTOR_SLOTS is '0'; expected a number"),
        ({"EXECUTOR_MODEL": "gpt", "FACTORY_EXECUTOR_CALL_TIMEOUT_S": "soon"}, "is 'soon'"),
    ],
)
def test_a_setting_that_is_wrong_is_named(env, complaint):
    with pytest.raises(SettingsWrong, match="EXECUTOR") as wrong:
        service(env)

    assert complaint in str(wrong.value)


def test_a_key_never_reaches_a_pretend_provider_nor_a_log():
    pretend = {"FACTORY_EXECUTOR_MODEL": "gpt", "OPENAI_API_KEY": "sk-real", "FACTORY_PRETEND_MODELS": "gpt"}
    real = {"FACTORY_EXECUTOR_MODEL": "gpt", "OPENAI_API_KEY": "sk-real"}

    assert settings_from(pretend, models_from(pretend)).api_key == "pretend"
    assert settings_from(real, models_from(real)).api_key == "sk-real"
    assert "sk-real" not in repr(settings_from(real, models_from(real)))
