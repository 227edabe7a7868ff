"""The library, against a real gRPC server."""

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest
from factory.project.v1 import PREFERENCE_MODE_COST, Preferences
from factory.task.v1 import TASK_STATE_COMPLETED, TASK_TYPE_API
from factory_client import Factory, FactoryError, FieldViolation

TASK = "01kb2x7mz4e9qhrv5w3n8d6t0c"


async def test_one_line_submits_a_task_without_opening_or_closing_anything(house):
    submitted = await Factory(house.url, "let-me-in").submit("Add a health endpoint", project="shop", type="api")

    assert (submitted.task_id, submitted.existed, submitted.position) == (TASK, False, 10)
    assert house.tokens == ["Bearer let-me-in"]
    assert house.seen[0].type == TASK_TYPE_API


async def test_money_reaches_the_wire_to_the_last_pico_dollar(house):
    async with Factory(house.url) as factory:
        await factory.submit("Add a health endpoint", project="shop", max_cost_usd=Decimal("0.123456789012"))

    assert house.seen[0].limits.max_cost_pico_usd == 123_456_789_012


async def test_a_dry_run_answers_with_the_plan_and_its_price(house):
    async with Factory(house.url) as factory:
        planned = await factory.submit("Add a table", project="shop", dry_run=True)

    assert [phase.model for phase in planned.plan] == ["gpt", "claude"]
    assert planned.max_cost_usd == Decimal("0.42")
    assert planned.task_id == ""


async def test_a_refusal_names_each_field_at_fault(house):
    async with Factory(house.url) as factory:
        with pytest.raises(FactoryError) as refused:
            await factory.submit("", project="shop")

    assert refused.value.code == "INVALID_ARGUMENT"
    assert refused.value.violations == (FieldViolation("title", "expected 1 to 200 characters"),)
    assert str(refused.value) == "the task is refused (title: expected 1 to 200 characters)"


async def test_a_refusal_without_fields_is_its_message(house):
    async with Factory(house.url) as factory:
        await factory.submit("One title", project="shop", key="k")
        with pytest.raises(FactoryError, match="key 'k' has another title: 'One title'") as refused:
            await factory.submit("Another", project="shop", key="k")

    assert refused.value.code == "ALREADY_EXISTS"
    assert refused.value.violations == ()


async def test_nobody_at_the_address_is_an_error_that_says_so():
    with pytest.raises(FactoryError) as refused:
        await Factory("127.0.0.1:1").get(TASK)

    assert refused.value.unreachable


async def test_an_unknown_word_is_refused_before_anything_is_sent(house):
    async with Factory(house.url) as factory:
        with pytest.raises(ValueError, match="unknown task type 'poem'; known are architecture, logic"):
            await factory.submit("Write a poem", project="shop", type="poem")

    assert house.seen == []


async def test_watching_shows_every_event_once_although_the_connection_breaks(house):
    house.breaks = [2, 0, 5]

    async with Factory(house.url) as factory:
        seen = [response.sequence async for response in factory.watch(TASK)]

    assert seen == [response.sequence for response in house.told]
    assert [request.after_sequence for request in house.seen] == [0, 13, 13, 28]


async def test_watching_follows_a_factory_that_was_started_again_elsewhere(house):
    house.breaks = [2]
    asked = iter(["127.0.0.1:1", "127.0.0.1:1"])

    def where() -> str:
        return next(asked, house.url) if len(house.seen) == 1 else house.url

    async with Factory(where) as factory:
        seen = [response.sequence async for response in factory.watch(TASK)]

    assert seen == [response.sequence for response in house.told]
    assert next(asked, None) is None


async def test_watching_goes_on_from_where_one_left(house):
    async with Factory(house.url) as factory:
        seen = [response.sequence async for response in factory.watch(TASK, after=49)]

    assert seen == [52, 55]


async def test_watching_a_task_that_ended_long_ago_just_ends(house):
    house.state = TASK_STATE_COMPLETED

    async with Factory(house.url) as factory:
        seen = [response async for response in factory.watch(TASK, after=1_000)]

    assert seen == []


async def test_waiting_gives_the_task_as_it_ended(house):
    house.state = TASK_STATE_COMPLETED

    async with Factory(house.url) as factory:
        task = await asyncio.wait_for(factory.wait(TASK), 10)

    assert task.state == TASK_STATE_COMPLETED


async def test_a_question_never_gets_an_answer_older_than_ones_own_last_command(house):
    async with Factory(house.url) as factory:
        await factory.approve(TASK, "4fd0")
        await factory.report(TASK)

    assert house.seen[-1].min_position.sequence == 60
    assert house.seen[-1].min_position.stream == "EVENTS"


async def test_what_was_watched_counts_as_seen(house):
    async with Factory(house.url) as factory:
        async for _ in factory.watch(TASK):
            pass
        await factory.usage()

    assert house.seen[-1].min_position.sequence == 55


async def test_lists_turn_their_pages_themselves(house):
    async with Factory(house.url) as factory:
        rows = await factory.tasks()

    assert [row.task_id for row in rows] == house.task_ids


async def test_a_list_stops_at_its_limit(house):
    async with Factory(house.url) as factory:
        rows = await factory.tasks(limit=1)

    assert len(rows) == 1
    assert len(house.seen) == 1


async def test_the_ledger_comes_line_by_line(house):
    async with Factory(house.url) as factory:
        calls = [line.call_id async for line in factory.ledger(TASK)]

    assert calls == [f"{TASK}.implement-1-1-1", f"{TASK}.implement-1-1-2"]


async def test_preferences_are_saved_over_the_version_that_was_seen(house):
    async with Factory(house.url) as factory:
        stands = await factory.preferences("shop")
        stands.preferences.excluded_models.append("gemini")
        version = await factory.save_preferences("shop", stands.preferences, expected_version=stands.version)
        with pytest.raises(FactoryError) as refused:
            await factory.save_preferences("shop", stands.preferences, expected_version=stands.version)

    assert (version, refused.value.code) == (1, "ABORTED")


async def test_a_preview_is_never_older_than_ones_own_last_command(house):
    async with Factory(house.url) as factory:
        version = await factory.save_preferences("shop", Preferences(mode=PREFERENCE_MODE_COST))
        found = await factory.preview_routing("shop", Preferences(mode=PREFERENCE_MODE_COST), tasks=5)

    assert (version, len(found.tasks)) == (1, 1)
    assert house.seen[-1].min_position.sequence == 80


async def test_a_budget_without_limits_has_none(house):
    async with Factory(house.url) as factory:
        budget = await factory.set_budget("shop", model="gpt", hard_usd=Decimal("0.000000000001"))

    assert (budget.model, budget.hard_pico_usd, budget.HasField("soft_pico_usd")) == ("gpt", 1, False)


async def test_a_phase_is_given_away_taken_back_and_explained(house):
    async with Factory(house.url) as factory:
        await factory.override(TASK, "implement", "claude", "it knows")
        await factory.override(TASK, "implement", "")
        explained = await factory.explain(TASK, "implement")

    assert [request.model for request in house.seen[:2]] == ["claude", ""]
    assert explained.decisions[-1].receipt.chosen == "gpt"


async def test_a_deadline_and_attachments_reach_the_wire(house):
    async with Factory(house.url) as factory:
        await factory.submit("Fix it", project="shop", deadline=timedelta(hours=2), attachments={"log.txt": b"x"})

    assert house.seen[0].limits.timeout.ToTimedelta() == timedelta(hours=2)
    assert [one.name for one in house.seen[0].attachments] == ["log.txt"]


@pytest.mark.parametrize("name", ["", "a/b.txt", "..\\b.txt", "x" * 101])
async def test_an_attachment_is_called_by_a_name_and_no_path(house, name):
    async with Factory(house.url) as factory:
        with pytest.raises(ValueError, match="a file name without a path"):
            await factory.submit("Fix it", project="shop", attachments={name: b"x"})

    assert house.seen == []


async def test_audit_may_live_at_another_address(house):
    async with Factory("127.0.0.1:1", audit_url=house.url) as factory:
        report = await factory.report(TASK)

    assert report.total.tokens == 1500


def test_a_refusal_names_each_field_once():
    both = (FieldViolation("title", "none found"), FieldViolation("body", "too long"))

    assert str(FactoryError("INVALID_ARGUMENT", "title: none found (and 1 more)", both)) == (
        "title: none found (and 1 more) (body: too long)"
    )
    assert str(FactoryError("NOT_FOUND", "there is no project 'x'", (FieldViolation("project", "another"),))) == (
        "there is no project 'x'"
    )
