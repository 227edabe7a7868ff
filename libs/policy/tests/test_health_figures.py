"""What `factory models` shows of the last 24 hours, and that it says so where there is not enough data."""

from datetime import timedelta

from factory.call.v1 import CALL_OUTCOME_ABANDONED, CALL_OUTCOME_NOT_SENT
from factory.gate.v1 import GATE_VERDICT_BLOCK, GATE_VERDICT_PASS
from factory.phase.v1 import (
    PHASE_FAILURE_SERVER_ERROR,
    PHASE_FAILURE_STOPPED,
    VERDICT_APPROVE,
    VERDICT_REQUEST_CHANGES,
)
from factory.price.v1 import PricePublished, PriceTier
from factory.task.v1 import TASK_TYPE_API, RoutingOverridden, TaskCancelled
from policy.health import MODELS_MAX, Figures
from policy.health_memory import REQUESTS_MAX, REQUESTS_PER_TASK_MAX, TASKS_MAX, Memory, Request
from policy.prices import PriceBook

from tests.health_log import NOON, HealthLog, failed

# One dollar for a million tokens of input, two for output.
GPT = PricePublished(version="list 1", provider="openai", provider_model="gpt-5")
GPT.tiers.append(PriceTier(input_pico_usd=1_000_000, output_pico_usd=2_000_000))
PRICES = PriceBook([(GPT, NOON)])


def figures(log: HealthLog) -> Figures:
    return log.health.figures("gpt", log.now, PRICES)


def test_of_a_model_that_was_never_asked_there_are_no_figures():
    assert figures(HealthLog()) == Figures()


def test_below_the_minimum_there_is_not_enough_data():
    log = HealthLog()
    for _ in range(4):
        log.answers("gpt")

    assert figures(log) == Figures(calls=4, tokens=6_000)


def test_error_rate_latency_and_price_of_the_last_24_hours():
    log = HealthLog()
    for took_s in range(1, 21):
        log.answers("gpt", took_s=took_s)
    for _ in range(5):
        log.fails("gpt", PHASE_FAILURE_SERVER_ERROR)

    shown = figures(log)

    assert (shown.calls, shown.tokens, shown.error_rate) == (25, 30_000, 0.2)
    assert (shown.latency_p50, shown.latency_p95) == (timedelta(seconds=10), timedelta(seconds=19))
    # 1,000 tokens of input and 500 of output: 0.2 cents for 1,500
    assert shown.pico_usd_per_1k_tokens == 1_333_333_333


def test_without_a_price_there_is_no_price():
    log = HealthLog()
    for _ in range(10):
        log.answers("gpt")

    assert log.health.figures("gpt", log.now).pico_usd_per_1k_tokens is None


def test_yesterday_is_forgotten():
    log = HealthLog()
    for _ in range(10):
        log.answers("gpt")
    log.wait(24 * 3600 + 900)

    assert figures(log) == Figures()


def test_a_busy_day_is_counted_whole():
    log = HealthLog()
    for _ in range(3_000):
        log.answers("gpt")

    assert figures(log).calls == 3_000


def test_in_flight_is_what_was_asked_and_has_not_ended_in_any_way():
    log = HealthLog()
    answered, stopped, overridden, cancelled, _ = [log.ask("gpt") for _ in range(5)]
    assert figures(log).in_flight == 5

    log.call("gpt", *answered, ending=(failed(answered[1], PHASE_FAILURE_SERVER_ERROR),))
    log.call("gpt", *stopped, outcome=CALL_OUTCOME_ABANDONED, ending=(failed(stopped[1], PHASE_FAILURE_STOPPED),))
    log.say(overridden[0], "conductor", RoutingOverridden(request_id=overridden[1]))
    log.say(cancelled[0], "conductor", TaskCancelled())
    log.say(cancelled[0], "executor-gpt", failed(cancelled[1], PHASE_FAILURE_STOPPED))

    assert figures(log).in_flight == 1


def test_a_call_that_was_stopped_is_a_call_and_no_error():
    log = HealthLog()
    for _ in range(5):
        log.answers("gpt")
        task, request = log.ask("gpt")
        log.call("gpt", task, request, outcome=CALL_OUTCOME_NOT_SENT, ending=(failed(request, PHASE_FAILURE_STOPPED),))

    assert (figures(log).calls, figures(log).error_rate) == (10, 0.0)


def test_first_pass_yield_is_the_share_of_changes_that_passed_review_and_gate_without_rework():
    log = HealthLog()
    for _ in range(3):
        log.writes("gpt", TASK_TYPE_API, review=VERDICT_APPROVE, gate=GATE_VERDICT_PASS)
    blocked = log.writes("gpt", TASK_TYPE_API, review=VERDICT_APPROVE, gate=GATE_VERDICT_BLOCK)
    log.writes("gpt", TASK_TYPE_API, gate=GATE_VERDICT_PASS, task=blocked, round_=2)
    assert (figures(log).judged_changes, figures(log).first_pass_yield) == (4, None)
    log.writes("gpt", TASK_TYPE_API, review=VERDICT_APPROVE)
    assert figures(log).judged_changes == 4, "reviewed, and not through the gate"

    log.writes("gpt", TASK_TYPE_API, review=VERDICT_REQUEST_CHANGES, gate=GATE_VERDICT_PASS)

    assert (figures(log).judged_changes, figures(log).first_pass_yield) == (5, 0.6)


def test_who_wrote_a_part_that_was_approved_passes_with_the_whole():
    log = HealthLog()
    task = log.writes("deepseek", TASK_TYPE_API, review=VERDICT_APPROVE)
    log.writes("gpt", TASK_TYPE_API, gate=GATE_VERDICT_PASS, task=task, round_=2)
    log.writes("gpt", TASK_TYPE_API, gate=GATE_VERDICT_PASS, task=task, round_=3)

    assert [log.health.figures(model, log.now).judged_changes for model in ("deepseek", "gpt")] == [1, 1]


def test_what_is_remembered_is_bounded():
    log = HealthLog()
    for _ in range(TASKS_MAX + 50):
        log.ask("gpt")

    assert figures(log).in_flight == TASKS_MAX


def test_a_factory_that_runs_for_years_forgets_no_task_that_goes_on():
    memory = Memory()
    memory.ask(Request("slow", "implement-1-1", "gpt", 1))
    for n in range(REQUESTS_MAX + 1):
        memory.ask(Request(f"quick-{n}", "implement-1-1", "gpt", n))
        memory.end_task(f"quick-{n}")

    assert memory.known("slow", "implement-1-1") is not None


def test_a_task_that_asks_without_end_is_not_followed_without_end():
    log = HealthLog()
    for round_ in range(1, 200):
        log.ask("gpt", task="one", round_=round_)

    assert figures(log).in_flight == REQUESTS_PER_TASK_MAX


def test_models_without_end_are_not_followed():
    log = HealthLog()
    for n in range(MODELS_MAX + 5):
        log.ask(f"model-{n}")

    assert [log.health.figures(f"model-{n}", log.now).in_flight for n in (0, 99, 100)] == [1, 1, 0]


def test_the_figures_travel_as_the_service_tells_them():
    log = HealthLog()
    for _ in range(6):
        log.answers("gpt", took_s=3)

    told = log.health.message("gpt", log.now, PRICES)

    assert (told.calls, told.error_rate, told.latency_p50.seconds) == (6, 0.0, 3)
    assert told.pico_usd_per_1k_tokens == 1_333_333_333
    assert not told.HasField("first_pass_yield")
    assert len(told.breakers) == 1
    unknown = log.health.message("claude", log.now, PRICES)
    assert not unknown.HasField("error_rate")
    assert not unknown.HasField("latency_p95")
