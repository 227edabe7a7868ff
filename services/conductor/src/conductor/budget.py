"""What may be said about a project's money next: limits taken over, reservations made, settled, released, extended.

Pure: the same commands on the same month give the same facts again. No facts is the right answer to a repetition.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from factory.budget.v1 import (
    BUDGET_LIMIT_HARD,
    BUDGET_LIMIT_SOFT,
    BudgetExtended,
    BudgetLimit,
    BudgetReached,
    BudgetReleased,
    BudgetReserved,
    BudgetSet,
    BudgetSettled,
)
from factory.event.v1 import AnyFact
from google.protobuf.timestamp_pb2 import Timestamp

from conductor.budget_month import Carried, Draft, Held, Month, Open, Order, Orders
from conductor.budget_room import WHOLE, budget_id, calls_within, dashed, reservation_id

POLICY_VERSION = "budget-1"
REASON_CHARACTERS_MAX = 200
# (limit, percent of it) that people are told of
SHARES: tuple[tuple[BudgetLimit, int], ...] = (
    (BUDGET_LIMIT_SOFT, 100),
    (BUDGET_LIMIT_HARD, 80),
    (BUDGET_LIMIT_HARD, 100),
)


@dataclass(frozen=True, slots=True)
class Reserve:
    """Keep money for up to `calls_max` calls, each at its worst case."""

    reservation: str
    task_id: str
    request_id: str
    model: str
    worst_case: int
    calls_max: int
    lease_until: datetime


@dataclass(frozen=True, slots=True)
class Settle:
    """The request has ended and has cost this."""

    reservation: str
    model: str
    amount: int
    uncertain: int
    read_to: int = 0


@dataclass(frozen=True, slots=True)
class Release:
    """Nothing was spent, nor will be."""

    reservation: str
    reason: str


@dataclass(frozen=True, slots=True)
class Extend:
    """The request is still under way."""

    reservation: str
    lease_until: datetime


@dataclass(frozen=True, slots=True)
class Expire:
    """The reservation is no longer needed, as far as one conductor knows: its lease ends now, and is swept."""

    reservation: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Swept:
    """What was found out when a lease had ended: void if the reservation has changed since it was looked at."""

    lease_until: datetime
    then: Settle | Release | Extend


@dataclass(frozen=True, slots=True)
class Adopt:
    """Take over the standing limits, whatever else there is to do."""


Command = Reserve | Settle | Release | Extend | Expire | Swept | Adopt


@dataclass(frozen=True, slots=True)
class Reserved:
    """There is room: the request may make `calls_max` calls."""

    # "" where the project has no budget in this month: nothing is reserved then
    lane: str
    amount: int
    calls_max: int


@dataclass(frozen=True, slots=True)
class NoRoom:
    """Not even one call fits."""

    # "shop-202611", or "shop-202611/gpt" for one model's
    budget: str
    left: int
    needed: int


Answer = Reserved | NoRoom | None


@dataclass(frozen=True, slots=True)
class Decision:
    """The facts of one event, and an answer to each command."""

    facts: tuple[AnyFact, ...]
    answers: tuple[Answer, ...]
    # Whether these facts make the first open reservation: a timer has to watch over them.
    wants_timer: bool
    # Requests that cost more than was reserved for them; there should be none.
    dearer: int = 0


def decide(month: Month, commands: Sequence[Command], orders: Orders, carried: Carried) -> Decision:
    """Decides about commands one after another, as if each had come alone, in one event."""
    draft = Draft(month)
    facts: list[AnyFact] = list(adopted(month, orders, carried))
    for fact in facts:
        draft.apply(fact)
    if facts and not month.began:
        for request in carried.open:
            fact = _taken_over(draft, request, carried.lease_until)
            draft.apply(fact)
            facts.append(fact)
    answers: list[Answer] = []
    for command in commands:
        said, answer = _obey(draft, command)
        for fact in said:
            draft.apply(fact)
        facts += said
        answers.append(answer)
    facts += reached(draft)
    wants_timer = bool(facts) and not month.open and bool(draft.open)
    return Decision(tuple(facts), tuple(answers), wants_timer, draft.whole.dearer - month.whole.dearer)


def _obey(month: Month, command: Command) -> tuple[list[AnyFact], Answer]:
    match command:
        case Adopt():
            return [], None
        case Reserve():
            return _reserve(month, command)
        case Settle():
            return _settle(month, command), None
        case Release(reservation, reason):
            if month.held(reservation) is None:
                return [], None
            return [BudgetReleased(reservation=reservation, reason=reason[:REASON_CHARACTERS_MAX])], None
        case Extend(reservation, lease_until):
            held = month.held(reservation)
            if held is None or held.lease_until >= lease_until:
                return [], None
            return [BudgetExtended(reservation=reservation, lease_until=_stamp(lease_until))], None
        case Expire(reservation, at):
            held = month.held(reservation)
            if held is None or held.lease_until <= at:
                return [], None
            return [BudgetExtended(reservation=reservation, lease_until=_stamp(at))], None
        case Swept(lease_until, then):
            held = month.held(then.reservation)
            return _obey(month, then) if held and held.lease_until == lease_until else ([], None)
        case _:
            assert_never(command)


def _reserve(month: Month, asked: Reserve) -> tuple[list[AnyFact], Answer]:
    if not month.began:
        return [], Reserved("", 0, asked.calls_max)
    if cost := month.cost(asked.reservation):
        return [], Reserved(
            month.lane, cost.amount, asked.calls_max
        )  # it has ended: asked by one who has not heard yet
    held = month.held(asked.reservation)
    kept = _calls_in(held, asked)
    calls, tightest, left = _fitting(month, held, asked)
    if held and kept and kept >= calls:
        return [], Reserved(month.lane, held.amount, kept)
    if not calls:
        return [], NoRoom(budget_id(month.project, month.month, tightest), left, asked.worst_case)
    whole = month.whole
    fact = BudgetReserved(
        reservation=asked.reservation,
        task_id=asked.task_id,
        request_id=asked.request_id,
        model=asked.model,
        amount_pico_usd=calls * asked.worst_case,
        lease_until=_stamp(asked.lease_until),
        policy_version=POLICY_VERSION,
        spent_pico_usd=whole.spent,
        reserved_pico_usd=whole.reserved,
        hard_pico_usd=whole.hard,
    )
    return [fact], Reserved(month.lane, fact.amount_pico_usd, calls)


def _taken_over(month: Month, request: Open, lease_until: datetime | None) -> BudgetReserved:
    """Keeps money for a request that was made before there was a budget, whether there is so much or not."""
    whole = month.whole
    return BudgetReserved(
        reservation=reservation_id(request.task_id, request.request_id, request.model),
        task_id=request.task_id,
        request_id=request.request_id,
        model=request.model,
        amount_pico_usd=request.amount,
        lease_until=_stamp(lease_until) if lease_until else None,
        policy_version=POLICY_VERSION,
        spent_pico_usd=whole.spent,
        reserved_pico_usd=whole.reserved,
        hard_pico_usd=whole.hard,
    )


def _calls_in(held: Held | None, asked: Reserve) -> int:
    """How many of these calls an open reservation covers already."""
    if held is None or held.model != asked.model:
        return 0
    return calls_within(held.amount, asked.worst_case, asked.calls_max)


def _fitting(month: Month, held: Held | None, asked: Reserve) -> tuple[int, str, int]:
    """How many calls fit, whose budget is the tightest, and what is left in it; what is held already counts as left."""
    calls, tightest, room = asked.calls_max, WHOLE, 0
    for model in (WHOLE, asked.model):
        account = month.account(model)
        if account.hard is None:
            continue
        own = held.amount if held and model in (WHOLE, held.model) else 0
        left = max(account.hard - account.drawn + own, 0)
        fit = calls_within(left, asked.worst_case, asked.calls_max)
        if fit < calls:
            calls, tightest, room = fit, model, left
    return calls, tightest, room


def _settle(month: Month, told: Settle) -> list[AnyFact]:
    before = month.cost(told.reservation)
    if before:
        says_the_same = (before.model, before.amount, before.uncertain) == (told.model, told.amount, told.uncertain)
        if says_the_same or 0 < told.read_to < before.read_to:
            return []
    elif not month.began or not (month.held(told.reservation) or told.amount):
        return []
    return [
        BudgetSettled(
            reservation=told.reservation,
            model=told.model,
            amount_pico_usd=told.amount,
            uncertain_pico_usd=told.uncertain,
            read_to=told.read_to,
        )
    ]


def reached(month: Month) -> list[BudgetReached]:
    """The shares of limits that spent and reserved money has come to, and that nobody was told of yet."""
    found = []
    for model, account in sorted(month.accounts.items()):
        for limit, percent in SHARES:
            amount = account.limit(limit)
            if amount is None or (limit, percent) in account.reached or account.drawn * 100 < amount * percent:
                continue
            found.append(
                BudgetReached(
                    project=month.project,
                    month=dashed(month.month),
                    model=model,
                    limit=limit,
                    percent=percent,
                    spent_pico_usd=account.drawn,
                    limit_pico_usd=amount,
                )
            )
    return found


def adopted(month: Month, orders: Orders, carried: Carried) -> list[BudgetSet]:
    """The standing limits that this month goes by from now on; nothing where it does already."""
    if month.began and orders.read_to <= month.orders_read_to:
        return []  # limits that this conductor has only heard of late must not undo newer ones
    wanted = orders.of(month.month)
    if wanted and not month.began:
        wanted = {model: Order(None, None, "", "", month.month) for model in (WHOLE, *carried.by_model)} | wanted
    found = []
    for model, order in sorted(wanted.items()):
        account = month.accounts.get(model)
        if account is None or (account.hard, account.soft) != (order.hard, order.soft):
            spent = carried.whole if model == WHOLE else carried.by_model.get(model, 0)
            found.append(
                BudgetSet(
                    project=month.project,
                    month=dashed(month.month),
                    model=model,
                    hard_pico_usd=order.hard,
                    soft_pico_usd=order.soft,
                    set_by=order.set_by,
                    reason=order.reason,
                    carried_pico_usd=0 if month.began else spent,
                    carried_read_to=0 if month.began else carried.read_to,
                )
            )
    return found


def _stamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
