"""Words for people and for the contract's enums, money and times. Pure; the one place where they are spelled."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import cast

from factory.artifact.v1 import Severity
from factory.audit.v1 import UsageDimension
from factory.call.v1 import CallOutcome
from factory.gate.v1 import GateVerdict
from factory.model.v1 import BreakerState
from factory.phase.v1 import PhaseFailure, ReworkCause
from factory.project.v1 import PreferenceMode
from factory.task.v1 import HoldCause, PhaseKind, RouteSource, Scope, TaskState, TaskType
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

PICO_PER_USD = 10**12
# Prices of models are quoted for a million tokens.
TOKENS_PER_QUOTE = 10**6

SYNONYMS = {
    "design": "architecture",
    "algorithm": "logic",
    "refactor": "refactoring",
    "cleanup": "refactoring",
    "test": "tests",
    "docs": "documentation",
    "endpoint": "api",
}
PHASE_SYNONYMS = {"test": "write_tests", "tests": "write_tests", "documentation": "document", "docs": "document"}

# A word that fits every type or phase; the star is what shells like to take for themselves.
ANY = frozenset({"any", "*"})
UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
SPAN = re.compile(r"([0-9]{1,9}[smhd])+")
SPAN_MAX = timedelta(days=366)
MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")


class UnknownWord(ValueError):
    """A word that the contract does not have; names those it has."""


def word(enum, value: int) -> str:
    """The word of an enum value: "awaiting review"; empty for unspecified."""
    return code_word(enum, value).replace("_", " ")


def code_word(enum, value: int) -> str:
    """The word of an enum value as programs write it: "awaiting_review"."""
    if value == 0:
        return ""
    try:
        name: str = enum.Name(value)
    except ValueError:  # said by a newer release
        return f"unknown_{value}"
    prefix: str = enum.Name(0).removesuffix("UNSPECIFIED")
    return name.removeprefix(prefix).lower()


def words(enum) -> list[str]:
    """Every word of an enum, in the contract's order."""
    return [code_word(enum, value) for value in enum.values() if value]


def value_of(enum, text: str, what: str) -> int:
    """The enum value of a word; 0 for an empty one."""
    asked = text.strip().lower().replace("-", "_").replace(" ", "_")
    if not asked:
        return 0
    for value in enum.values():
        if value and code_word(enum, value) == asked:
            return value
    raise UnknownWord(f"unknown {what} {text!r}; known are {', '.join(words(enum))}")


def task_type_for(text: str) -> TaskType:
    """The task type of a word: "api", "refactoring", …"""
    return cast("TaskType", value_of(TaskType, SYNONYMS.get(text.strip().lower(), text), "task type"))


def scope_for(text: str) -> Scope:
    """The scope of a word: "focused" or "feature"."""
    return cast("Scope", value_of(Scope, text, "scope"))


def state_for(text: str) -> TaskState:
    """The task state of a word: "running", "awaiting_review", …"""
    return cast("TaskState", value_of(TaskState, text, "task state"))


def dimension_for(text: str) -> UsageDimension:
    """The usage dimension of a word: "model", "type", "phase", "project" or "day"."""
    asked = "task_type" if text == "type" else text
    return cast("UsageDimension", value_of(UsageDimension, asked, "dimension"))


def phase_for(text: str) -> PhaseKind:
    """The phase of a word: "implement", "write_tests", …"""
    return cast("PhaseKind", value_of(PhaseKind, PHASE_SYNONYMS.get(text.strip().lower(), text), "phase"))


def mode_for(text: str) -> PreferenceMode:
    """The mode of a word: "balanced", "quality", "cost" or "custom"."""
    return cast("PreferenceMode", value_of(PreferenceMode, text, "mode"))


def state_word(value: int) -> str:
    return word(TaskState, value)


def type_word(value: int) -> str:
    return word(TaskType, value)


def scope_word(value: int) -> str:
    return word(Scope, value)


def phase_word(value: int) -> str:
    return word(PhaseKind, value)


def mode_word(value: int) -> str:
    return word(PreferenceMode, value) or "balanced"


def source_word(value: int) -> str:
    """What put a model first, in words."""
    match code_word(RouteSource, value):
        case "":
            return ""
        case "default":
            return "the routing table"
        case "mode":
            return "the project's mode"
        case "custom":
            return "a rule of the project"
        case "override":
            return "an architect"
        case newer:
            return newer


def held_word(value: int) -> str:
    """What a held task waits for: "budget", "capacity", "no model"; empty where that is not told."""
    return word(HoldCause, value)


def breaker_word(value: int) -> str:
    return word(BreakerState, value)


def severity_word(value: int) -> str:
    return word(Severity, value)


def verdict_word(value: int) -> str:
    return word(GateVerdict, value)


def failure_word(value: int) -> str:
    return word(PhaseFailure, value)


def cause_word(value: int) -> str:
    return word(ReworkCause, value)


def outcome_word(value: int) -> str:
    return word(CallOutcome, value) or "in flight"


def pico_usd(amount: Decimal | str | float) -> int:
    """US dollars as whole pico-dollars; refuses what is no amount of money."""
    try:
        exact = Decimal(str(amount)) * PICO_PER_USD
        whole = int(exact)
    except (InvalidOperation, ValueError, OverflowError):
        raise ValueError(f"{amount!r} is not an amount in US dollars, such as 0.50") from None
    if whole != exact or not 0 <= whole < 2**63:
        raise ValueError(f"{amount!r} is not an amount in US dollars, such as 0.50")
    return whole


def usd(pico: int | str) -> Decimal:
    """Pico-dollars (a number, or the decimal string of the contract) as exact US dollars."""
    return Decimal(f"{int(pico or 0)}E-12")  # made from text, because arithmetic would round to 28 digits


def usd_text(pico: int | str) -> str:
    """Exact US dollars as a plain decimal string, for programs: "0.0123"."""
    text = format(usd(pico), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def money(pico: int | str) -> str:
    """US dollars for people: "$0.0123", "$12.34"."""
    amount = usd(pico)
    return f"${amount:,.2f}" if amount >= 1 or amount == 0 else f"${amount:,.4f}"


def money_left(pico: int) -> str:
    """What is left of a limit, for people, rounded down: never more than there is."""
    left = max(pico, 0)
    return money(left - left % (PICO_PER_USD // (100 if left >= PICO_PER_USD else 10_000)))


def quoted(pico_per_token: int) -> str:
    """A model's price for a million tokens: "$3.00"."""
    return f"${usd(pico_per_token * TOKENS_PER_QUOTE):,.2f}"


def cost_text(typical: int | None, most: int | None) -> str:
    """What something will cost, as far as it is known: "about $0.08, at most $0.61"."""
    known = [f"{said} {money(pico)}" for said, pico in (("about", typical), ("at most", most)) if pico is not None]
    return ", ".join(known)


def share_text(share: float) -> str:
    """A share of 1 in percent: "83%", "2.1%"; exact enough for a table."""
    percent = share * 100
    return f"{percent:.0f}%" if percent >= 10 or percent == 0 else f"{percent:.1f}%"


def percent_of(part: int, whole: int) -> str:
    """A part of an amount of money in percent, rounded down: what is not all is never 100%, what is some never 0%."""
    if whole <= 0:
        return "100%"
    tenths = part * 1000 // whole
    if tenths == 0 and part > 0:
        return "<0.1%"
    return f"{tenths // 10}%" if tenths >= 100 or tenths == 0 else f"{tenths // 10}.{tenths % 10}%"


def span_for(text: str) -> timedelta:
    """The span of time that is written as "90m", "2h", "1d" or "1h30m"."""
    asked = text.strip().lower().replace(" ", "")
    if not SPAN.fullmatch(asked):
        raise ValueError(f"{text!r} is not a span of time, such as 90m, 2h or 1d")
    seconds = sum(int(count) * UNIT_S[unit] for count, unit in re.findall(r"([0-9]+)([smhd])", asked))
    if not 0 < seconds <= SPAN_MAX.total_seconds():
        raise ValueError(f"{text!r} is not a span of time of at most {SPAN_MAX.days} days")
    return timedelta(seconds=seconds)


def month_for(text: str) -> str:
    """A month as "2026-11"; empty for the current one."""
    if text and not MONTH.fullmatch(text):
        raise ValueError(f"{text!r} is not a month, such as 2026-11")
    return text


def duration_text(duration: Duration) -> str:
    """A duration of the contract as one would say it."""
    return seconds_text(duration.ToTimedelta().total_seconds())


def seconds_text(seconds: float) -> str:
    """A span of time: "0.4 s", "12 s", "3 min 12 s", "2 h 5 min", "3 days"."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} days"


def when(stamp: Timestamp) -> datetime:
    """A timestamp as an aware datetime."""
    return stamp.ToDatetime(tzinfo=UTC)


def clock_text(stamp: Timestamp) -> str:
    """A timestamp on the reader's clock: "14:02:11" today, with the date else."""
    return when(stamp).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def age_text(stamp: Timestamp, now: datetime) -> str:
    """How long ago: "3 min 12 s"."""
    return seconds_text((now - when(stamp)).total_seconds())


def plural(count: int, noun: str) -> str:
    """ "1 finding", "2 findings"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
