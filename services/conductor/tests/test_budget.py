"""What a project may spend in a month, told in facts."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from conductor.budget import (
    Adopt,
    Command,
    Decision,
    Extend,
    NoRoom,
    Release,
    Reserve,
    Reserved,
    Settle,
    Swept,
    decide,
)
from conductor.budget_month import Carried, Month, Order, Orders
from conductor.budget_room import (
    Standing,
    dashed,
    lane_id,
    month_of,
    project_and_month,
    room,
    undashed,
    violations_of,
)
from factory.budget.v1 import (
    BUDGET_LIMIT_HARD,
    BUDGET_LIMIT_SOFT,
    BudgetExtended,
    BudgetReached,
    BudgetReleased,
    BudgetReserved,
    BudgetSet,
    BudgetSettled,
)
from factory.project.v1 import SetBudgetRequest

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
MONTH = "202611"


def orders(read_to: int = 1, since: str = MONTH, **limits: tuple[int | None, int | None]) -> Orders:
    """Standing limits by model: (hard, soft); `whole` is the project's."""
    named = {"" if model == "whole" else model: both for model, both in limits.items()}
    return Orders({model: Order(hard, soft, "olga", "", since) for model, (hard, soft) in named.items()}, read_to)


def said(
    month: Month, *commands: Command, by: Orders | None = None, carried: Mapping[str, int] | None = None
) -> Decision:
    """Decides, and lets it happen."""
    decision = decide(month, commands, by or Orders({}), Carried(carried or {}, 4 if carried else 0))
    month.evolve(decision.facts, by.read_to if by else 0)
    return decision


def month_with(**limits: tuple[int | None, int | None]) -> Month:
    month = Month("shop", MONTH)
    said(month, Adopt(), by=orders(1, MONTH, **limits))
    return month


def reserve(task: str, worst_case: int, *, model: str = "gpt", calls_max: int = 1, until: datetime = LATER) -> Reserve:
    return Reserve(f"{task}.implement-1-1", task, "implement-1-1", model, worst_case, calls_max, until)


def kinds(decision: Decision) -> list[str]:
    return [type(fact).__name__ for fact in decision.facts]


def test_a_month_begins_with_a_copy_of_every_standing_limit_and_what_was_spent_before():
    month = Month("shop", MONTH)

    decision = said(month, Adopt(), by=orders(whole=(100, 50), gpt=(30, None)), carried={"gpt": 7, "claude": 2})

    assert decision.facts == (
        BudgetSet(
            project="shop",
            month="2026-11",
            hard_pico_usd=100,
            soft_pico_usd=50,
            set_by="olga",
            carried_pico_usd=9,
            carried_read_to=4,
        ),
        BudgetSet(project="shop", month="2026-11", model="claude", carried_pico_usd=2, carried_read_to=4),
        BudgetSet(
            project="shop",
            month="2026-11",
            model="gpt",
            hard_pico_usd=30,
            set_by="olga",
            carried_pico_usd=7,
            carried_read_to=4,
        ),
    )
    assert month.standings() == (
        Standing("shop-202611", "", 100, 50, spent=9),
        Standing("shop-202611/gpt", "gpt", 30, None, spent=7),
    )


def test_a_project_without_a_budget_has_no_facts_and_no_reservations():
    month = Month("shop", MONTH)

    decision = said(month, reserve("t1", 10), Settle("t1.implement-1-1", "gpt", 5, 0))

    assert decision == Decision((), (Reserved("", 0, 1), None), wants_timer=False)


def test_what_is_set_in_december_says_nothing_about_november():
    month = Month("shop", MONTH)

    decision = said(month, reserve("t1", 10), by=orders(since="202612", whole=(5, None)))

    assert decision.facts == ()


def test_limits_that_are_only_heard_of_late_do_not_undo_newer_ones():
    month = Month("shop", MONTH)
    said(month, Adopt(), by=orders(read_to=5, whole=(100, None)))
    said(month, Adopt(), by=orders(read_to=9, whole=(200, None)))

    late = said(month, Adopt(), by=orders(read_to=5, whole=(100, None)))

    assert late.facts == ()
    assert month.whole.hard == 200


def test_a_reservation_says_what_it_weighed():
    month = month_with(whole=(100, None))
    said(month, reserve("t1", 10))
    said(month, Settle("t1.implement-1-1", "gpt", 4, 0))
    said(month, reserve("t2", 20))

    (fact,) = said(month, reserve("t3", 30)).facts

    assert isinstance(fact, BudgetReserved)
    assert (fact.spent_pico_usd, fact.reserved_pico_usd, fact.hard_pico_usd) == (4, 20, 100)
    assert (fact.amount_pico_usd, fact.policy_version) == (30, "budget-1")
    assert fact.lease_until.ToDatetime(tzinfo=UTC) == LATER


def test_a_request_gets_as_many_calls_as_fit_and_at_least_one():
    month = month_with(whole=(75, None))

    decision = said(
        month, reserve("t1", 20, calls_max=3), reserve("t2", 10, calls_max=3), reserve("t3", 10, calls_max=3)
    )

    assert decision.answers == (
        Reserved("budget-shop-202611", 60, 3),
        Reserved("budget-shop-202611", 10, 1),
        NoRoom("shop-202611", 5, 10),
    )


def test_a_models_own_budget_refuses_although_the_project_has_room():
    month = month_with(whole=(1000, None), gpt=(15, None))
    said(month, reserve("t1", 10))

    refused = said(month, reserve("t2", 10))
    other = said(month, reserve("t2", 10, model="claude"))

    assert refused.answers == (NoRoom("shop-202611/gpt", 5, 10),)
    assert refused.facts == ()
    assert other.answers == (Reserved("budget-shop-202611", 10, 1),)


def test_a_reservation_made_again_stays_one():
    month = month_with(whole=(100, None))
    first = said(month, reserve("t1", 40))

    again = said(month, reserve("t1", 40, until=LATER + timedelta(hours=1)))

    assert again.facts == ()
    assert again.answers == first.answers
    assert month.whole.reserved == 40


def test_a_larger_amount_tops_a_reservation_up_as_far_as_there_is_room():
    month = month_with(whole=(100, None))
    said(month, reserve("t1", 40))

    more = said(month, reserve("t1", 40, calls_max=3))
    too_dear = said(month, reserve("t1", 101))

    assert more.answers == (Reserved("budget-shop-202611", 80, 2),)
    assert too_dear.answers == (NoRoom("shop-202611", 100, 101),)
    assert (month.whole.reserved, month.open) == (80, 1)


def test_a_request_that_moves_to_another_model_moves_its_money():
    month = month_with(whole=(100, None), gpt=(50, None))
    said(month, reserve("t1", 50))

    moved = said(month, reserve("t1", 90, model="claude"))

    assert moved.answers == (Reserved("budget-shop-202611", 90, 1),)
    assert (month.account("gpt").reserved, month.account("claude").reserved, month.whole.reserved) == (0, 90, 90)


def test_a_settlement_gives_back_what_was_not_used():
    month = month_with(whole=(100, None))
    said(month, reserve("t1", 90))

    settled = said(month, Settle("t1.implement-1-1", "gpt", 30, 10, read_to=8))
    again = said(month, Settle("t1.implement-1-1", "gpt", 30, 10, read_to=8))

    assert settled.facts == (
        BudgetSettled(
            reservation="t1.implement-1-1", model="gpt", amount_pico_usd=30, uncertain_pico_usd=10, read_to=8
        ),
    )
    assert again.facts == ()
    assert month.standings() == (Standing("shop-202611", "", 100, None, spent=30, uncertain=10),)


def test_of_two_settlements_the_last_one_counts():
    month = month_with(whole=(100, None))
    said(month, reserve("t1", 90))
    said(month, Settle("t1.implement-1-1", "gpt", 90, 90))

    said(month, Settle("t1.implement-1-1", "gpt", 25, 0))

    assert (month.whole.spent, month.whole.uncertain) == (25, 0)


def test_a_settlement_that_had_seen_less_does_not_undo_one_that_had_seen_more():
    month = month_with(whole=(100, None))
    said(month, reserve("t1", 90), Settle("t1.implement-1-1", "gpt", 25, 0, read_to=9))

    late = said(month, Settle("t1.implement-1-1", "gpt", 90, 90, read_to=7))

    assert late.facts == ()


def test_money_that_was_spent_without_a_reservation_is_spent():
    month = month_with(whole=(100, None))
    said(month, reserve("t1", 10), Release("t1.implement-1-1", "the request was never made"))

    unknown = said(month, Settle("t1.implement-1-1", "gpt", 120, 0), Settle("t2.implement-1-1", "gpt", 0, 0))

    assert kinds(unknown) == ["BudgetSettled", "BudgetReached", "BudgetReached"]
    assert month.whole.spent == 120


def test_a_request_dearer_than_its_reservation_is_counted_where_all_can_see_it():
    month = month_with(whole=(100, None))
    said(month, reserve("t1", 10))

    decision = said(month, Settle("t1.implement-1-1", "gpt", 11, 0))

    assert decision.dearer == 1
    assert month.standings()[0].dearer == 1


def test_a_release_gives_everything_back_and_a_second_one_nothing():
    month = month_with(whole=(100, None))
    said(month, reserve("t1", 90))

    first = said(month, Release("t1.implement-1-1", "the task was cancelled"))
    second = said(month, Release("t1.implement-1-1", "the task was cancelled"))

    assert first.facts == (BudgetReleased(reservation="t1.implement-1-1", reason="the task was cancelled"),)
    assert second.facts == ()
    assert (month.whole.drawn, month.open) == (0, 0)


def test_a_settled_request_is_neither_released_nor_reserved_again():
    month = month_with(whole=(100, None))
    said(month, reserve("t1", 90), Settle("t1.implement-1-1", "gpt", 30, 0))

    late = said(month, Release("t1.implement-1-1", "late"), reserve("t1", 90))

    assert late.facts == ()
    assert month.whole.spent == 30


def test_a_lease_is_extended_while_the_request_is_under_way():
    month = month_with(whole=(100, None))
    said(month, reserve("t1", 90))
    until = LATER + timedelta(minutes=5)

    decision = said(month, Extend("t1.implement-1-1", until), Extend("t1.implement-1-1", LATER))

    assert kinds(decision) == ["BudgetExtended"]
    held = month.held("t1.implement-1-1")
    assert held is not None and held.lease_until == until


def test_what_a_sweep_found_out_is_void_once_the_reservation_has_changed():
    month = month_with(whole=(100, None))
    said(month, reserve("t1", 90), Extend("t1.implement-1-1", LATER + timedelta(minutes=5)))

    decision = said(month, Swept(LATER, Release("t1.implement-1-1", "the request was never made")))

    assert decision.facts == ()
    assert month.whole.reserved == 90


def test_the_first_open_reservation_wants_a_timer_and_the_next_ones_do_not():
    month = month_with(whole=(100, None))

    first, second = said(month, reserve("t1", 10)), said(month, reserve("t2", 10))
    said(month, Release("t1.implement-1-1", ""), Release("t2.implement-1-1", ""))
    third = said(month, reserve("t3", 10))

    assert [first.wants_timer, second.wants_timer, third.wants_timer] == [True, False, True]


def test_people_are_told_once_when_a_limit_comes_near_and_again_after_it_was_raised():
    month = month_with(whole=(100, 50))
    at_soft = said(month, reserve("t1", 50))
    quiet = said(month, Release("t1.implement-1-1", ""), reserve("t2", 60))
    at_80 = said(month, reserve("t3", 20))
    raised = said(month, Adopt(), by=orders(read_to=2, whole=(1000, 50)))
    again = said(month, reserve("t4", 720))

    told = {"project": "shop", "month": "2026-11"}
    assert at_soft.facts[-1] == BudgetReached(
        limit=BUDGET_LIMIT_SOFT, percent=100, spent_pico_usd=50, limit_pico_usd=50, **told
    )
    assert kinds(quiet) == ["BudgetReleased", "BudgetReserved"]
    assert at_80.facts[-1] == BudgetReached(
        limit=BUDGET_LIMIT_HARD, percent=80, spent_pico_usd=80, limit_pico_usd=100, **told
    )
    assert kinds(raised) == ["BudgetSet"]
    assert again.facts[-1] == BudgetReached(
        limit=BUDGET_LIMIT_HARD, percent=80, spent_pico_usd=800, limit_pico_usd=1000, **told
    )


def test_a_limit_lowered_below_what_is_spent_takes_nothing_back_and_admits_nothing():
    month = month_with(whole=(100, None))
    said(month, reserve("t1", 60))

    lowered = said(month, Adopt(), by=orders(read_to=2, whole=(40, None)))
    refused = said(month, reserve("t2", 1))
    kept = said(month, reserve("t1", 60))

    assert kinds(lowered) == ["BudgetSet", "BudgetReached", "BudgetReached"]
    assert refused.answers == (NoRoom("shop-202611", 0, 1),)
    assert kept.answers == (Reserved("budget-shop-202611", 60, 1),)


def test_taking_a_limit_away_lets_everything_through():
    month = month_with(whole=(10, None))
    said(month, Adopt(), by=orders(read_to=2, whole=(None, None)))

    assert said(month, reserve("t1", 10**15)).answers == (Reserved("budget-shop-202611", 10**15, 1),)


def test_a_model_that_costs_nothing_fits_into_an_exhausted_budget():
    month = month_with(whole=(0, None))

    assert said(month, reserve("t1", 0, calls_max=3)).answers == (Reserved("budget-shop-202611", 0, 3),)


def test_an_extension_of_an_unknown_reservation_says_nothing():
    month = month_with(whole=(10, None))
    month.evolve([BudgetExtended(reservation="gone")], 0)

    assert said(month, Extend("gone", LATER)).facts == ()
    assert month.open == 0


WHOLE_100 = Standing("shop-202611", "", 100, 60, spent=30, reserved=20)
GPT_25 = Standing("shop-202611/gpt", "gpt", 25, None, spent=5)


@pytest.mark.parametrize(
    ("model", "worst_case", "calls", "refused_by"),
    [
        ("claude", 10, 3, None),
        ("claude", 20, 2, None),
        ("claude", 51, 0, WHOLE_100),
        ("gpt", 10, 2, None),
        ("gpt", 21, 0, GPT_25),
        ("gpt", 0, 3, None),
        ("gpt", None, 0, WHOLE_100),
    ],
)
def test_room_is_what_every_budget_of_a_model_has_left(model, worst_case, calls, refused_by):
    found = room((WHOLE_100, GPT_25), model, worst_case)

    assert (found.calls, found.refused_by, found.over_soft) == (calls, refused_by, None)


def test_above_the_soft_limit_calls_still_fit_and_cheaper_models_come_first():
    standing = Standing("shop-202611", "", None, 60, spent=60)

    assert room((standing,), "gpt", 10).over_soft == standing
    assert room((standing,), "gpt", 10).calls == 3
    assert room((), "gpt", None).calls == 3


def test_names_of_months_and_lanes_lead_back_to_what_they_name():
    assert month_of(datetime.fromisoformat("2026-12-01T00:30:00+02:00")) == "202611"
    assert (dashed("202611"), undashed("2026-11")) == ("2026-11", "202611")
    assert project_and_month(lane_id("my-shop-2", "202611")) == ("my-shop-2", "202611")


@pytest.mark.parametrize("text", ["", "2026", "202611", "2026-13", "2026-1", "2026-00", "abcd-ef"])
def test_what_is_no_month_is_refused_by_name(text):
    with pytest.raises(ValueError, match="no month"):
        undashed(text)


@pytest.mark.parametrize("id", ["task", "budget-202611", "budget-shop-2026", "project-shop-202611"])
def test_what_is_no_lane_of_a_budget_is_refused_by_name(id):
    with pytest.raises(ValueError, match="no lane of a budget"):
        project_and_month(id)


def test_limits_that_make_no_sense_are_refused_field_by_field():
    faults = violations_of(SetBudgetRequest(hard_pico_usd=5, soft_pico_usd=6, reason="x" * 501))

    assert [field for field, _ in faults] == ["soft_pico_usd", "reason"]
    assert [field for field, _ in violations_of(SetBudgetRequest(hard_pico_usd=-1))] == ["hard_pico_usd"]
    assert violations_of(SetBudgetRequest()) == []
