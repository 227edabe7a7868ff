"""Words for people and for the contract's enums, money and times. Pure; the one place where they are spelled."""

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import cast

from factory.artifact.v1 import Severity
from factory.audit.v1 import UsageDimension
from factory.call.v1 import CallOutcome
from factory.gate.v1 import GateVerdict
from factory.phase.v1 import PhaseFailure, ReworkCause
from factory.task.v1 import PhaseKind, Scope, TaskState, TaskType
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


def state_word(value: int) -> str:
    return word(TaskState, value)


def type_word(value: int) -> str:
    return word(TaskType, value)


def scope_word(value: int) -> str:
    return word(Scope, value)


def phase_word(value: int) -> str:
    return word(PhaseKind, value)


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


def quoted(pico_per_token: int) -> str:
    """A model's price for a million tokens: "$3.00"."""
    return f"${usd(pico_per_token * TOKENS_PER_QUOTE):,.2f}"


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
