"""What a call means for the ledger: its line, and the sum it belongs to.

Pure. A line is made anew from all that is known of the call, its task and the prices; so facts may come in any order,
and twice.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from factory.audit.v1 import LedgerLine
from factory.task.v1 import TASK_TYPE_UNSPECIFIED, PhaseKind, TaskType
from policy.calls import Call, Reckoning, final_usage, reckon
from policy.prices import PriceBook


class Bucket(NamedTuple):
    """What usage is summed by. The day is the UTC day in which the call began, in the log's time."""

    day: str
    project: str
    task_type: TaskType
    phase: PhaseKind
    model: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One call in the ledger: what it is, whose it is, and what it amounts to."""

    call: Call
    project: str
    task_type: TaskType
    reckoning: Reckoning

    @property
    def bucket(self) -> Bucket:
        fact = self.call.fact
        return Bucket(day_of(self.call.began_at), self.project, self.task_type, fact.phase, fact.model)


def entry(call: Call, prices: PriceBook, project: str = "", task_type: TaskType = TASK_TYPE_UNSPECIFIED) -> Entry:
    """The ledger's entry for a call of a task with this project and type."""
    return Entry(call, project, task_type, reckon(call, prices))


def day_of(moment: datetime) -> str:
    """The UTC day of a moment: "2026-11-23"."""
    return moment.date().isoformat()


def line(entry: Entry) -> LedgerLine:
    """The entry as it is told to others."""
    call, fact, reckoning = entry.call, entry.call.fact, entry.reckoning
    round_, attempt = call.request
    told = LedgerLine(
        call_id=call.call_id,
        task_id=call.task_id,
        project=entry.project,
        type=entry.task_type,
        phase=fact.phase,
        round=round_,
        attempt=attempt,
        model=fact.model,
        provider=fact.provider,
        provider_model=fact.provider_model,
        usage=final_usage(call.ended),
        cost_pico_usd=_decimal(reckoning.cost_pico_usd),
        up_to_cost_pico_usd=_decimal(reckoning.up_to_cost_pico_usd),
        up_to_tokens=reckoning.up_to_tokens,
        price_version=reckoning.price_version,
    )
    if call.started_at is not None:
        told.started_at.FromDatetime(call.started_at)
    if call.ended is not None:
        told.outcome = call.ended.outcome
        told.http_status = call.ended.http_status
        told.latency.CopyFrom(call.ended.latency)
        if call.ended.HasField("time_to_first_token"):
            told.time_to_first_token.CopyFrom(call.ended.time_to_first_token)
    return told


def _decimal(pico_usd: int | None) -> str | None:
    return None if pico_usd is None else str(pico_usd)
