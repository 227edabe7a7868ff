"""How models and their health look in a terminal. Draws values; asks nobody anything."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from factory.model.v1 import (
    BREAKER_STATE_CLOSED,
    BREAKER_STATE_HALF_OPEN,
    Breaker,
    Health,
    HealthEvidence,
    Model,
    TripCause,
)
from rich import box
from rich.table import Table
from rich.text import Text

from factory_client.plain import one_line
from factory_client.words import (
    age_text,
    breaker_word,
    clock_text,
    duration_text,
    money,
    plural,
    quoted,
    seconds_text,
    share_text,
    type_word,
    when,
)

# From here on there is room for what providers call their models, and for all of a figure.
WIDE_COLUMNS = 116
NO_DATA, NO_DATA_MARK = "not enough data", "–"
STATE_STYLES = {"closed": "green", "half open": "yellow"}


def drawn_models(found: Iterable[Model], width: int) -> Table:
    """Where there is little room, what the provider calls a model is left to --json."""
    narrow = width < WIDE_COLUMNS
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("model", "name", "asked as", "window", "price", "answers"):
        if not (narrow and heading in {"name", "asked as"}):
            table.add_column(heading, justify="right" if heading in {"window", "price"} else "left")
    for one in found:
        priced = one.HasField("input_pico_usd") and one.HasField("output_pico_usd")
        price = f"{quoted(one.input_pico_usd)} / {quoted(one.output_pico_usd)}" if priced else "unpriced"
        asked_as = one_line(f"{one.provider}: {one.provider_model}")
        known = () if narrow else (one_line(one.display_name), asked_as)
        table.add_row(Text(one_line(one.model), "cyan"), *known, f"{one.context_window_tokens:,}", price, _answers(one))
    return table


def _answers(one: Model) -> Text:
    if not one.configured:
        return Text(f"no: {one_line(one.ruled_out) or 'not configured'}", "yellow")
    return Text("yes, simulated", "magenta") if one.pretend else Text("yes", "green")


def with_health(found: Iterable[Model]) -> list[Model]:
    """Models that serve or have served lately."""
    return [one for one in found if one.HasField("health") and (one.configured or one.health.calls)]


def drawn_health(served: Iterable[Model], width: int) -> Table:
    """How the last 24 hours were. Where there is little room a mark stands for what is not known."""
    narrow = width < WIDE_COLUMNS
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("model")
    table.add_column("breaker", overflow="fold")
    for heading in ("in flight", "p50 / p95", "errors", "cost", "first pass"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in served:
        cells = _figures(one.health, narrow)
        shown = [cell or (NO_DATA_MARK if narrow else NO_DATA) for cell in cells]
        table.add_row(
            Text(one_line(one.model), "cyan"), _breakers(one.health.breakers), f"{one.health.in_flight:,}", *shown
        )
    return table


def shows_marks(served: Iterable[Model], width: int) -> bool:
    """Whether the table has a mark that must be explained."""
    return width < WIDE_COLUMNS and any("" in _figures(one.health, True) for one in served)


def _figures(health: Health, narrow: bool) -> tuple[str, str, str, str]:
    """Latency, errors, cost and first-pass yield; empty where there is not enough data."""
    has = health.HasField
    latency = errors = cost = passed = ""
    if has("latency_p50") and has("latency_p95"):
        latency = f"{duration_text(health.latency_p50)} / {duration_text(health.latency_p95)}"
    if has("error_rate"):
        errors = share_text(health.error_rate) + ("" if narrow else f" of {plural(health.calls, 'call')}")
    if has("pico_usd_per_1k_tokens"):
        cost = money(health.pico_usd_per_1k_tokens)
    if has("first_pass_yield"):
        passed = share_text(health.first_pass_yield)
        passed += "" if narrow else f" of {plural(health.judged_changes, 'change')}"
    return latency, errors, cost, passed


def _breakers(breakers: Sequence[Breaker]) -> Text:
    """The state for all tasks; then those of single types."""
    line = Text()
    for one in breakers:
        word = breaker_word(one.state) or "unknown"
        said = f"{word} for {type_word(one.type)}" if one.type else word
        line.append(", " if line else "").append(said, STATE_STYLES.get(word, "bold red"))
    return line or Text("unknown")


def sick_sentences(served: Iterable[Model], now: datetime) -> list[str]:
    """Why each breaker that is not closed is so, since when, and until when."""
    return [
        _sentence(one.model, breaker, now)
        for one in served
        for breaker in one.health.breakers
        if breaker.state != BREAKER_STATE_CLOSED
    ]


def _sentence(model: str, breaker: Breaker, now: datetime) -> str:
    kind = f" for {type_word(breaker.type)} tasks" if breaker.type else ""
    parts = [f"{model} is {breaker_word(breaker.state) or 'in an unknown state'}{kind}: {cause_text(breaker)}"]
    if breaker.HasField("since"):
        parts.append(f"since {clock_text(breaker.since)} ({age_text(breaker.since, now)} ago)")
    if breaker.state == BREAKER_STATE_HALF_OPEN:
        parts.append("the next request is the probe")
    elif breaker.HasField("open_until"):
        ahead_s = (when(breaker.open_until) - now).total_seconds()
        parts.append(
            f"until {clock_text(breaker.open_until)}" + (f" (in {seconds_text(ahead_s)})" if ahead_s > 0 else "")
        )
    return ", ".join(parts)


def cause_text(breaker: Breaker) -> str:
    """What a breaker was opened by, with the figures."""
    evidence = breaker.evidence
    share = f"{evidence.bad} of {evidence.observed}"
    match breaker.cause:
        case TripCause.TRIP_CAUSE_ERROR_RATE:
            return f"{share} calls failed{_reasons(evidence)}"
        case TripCause.TRIP_CAUSE_TIMEOUTS:
            return f"{share} calls were not answered in time"
        case TripCause.TRIP_CAUSE_PAYMENT_REQUIRED:
            return "its account is empty (402)"
        case TripCause.TRIP_CAUSE_RATE_LIMITED:
            return f"{share} calls were over its rate limit (429)"
        case TripCause.TRIP_CAUSE_LATENCY:
            usual = f", usually {duration_text(evidence.baseline)}" if evidence.HasField("baseline") else ""
            return f"answers take {duration_text(evidence.latency)}{usual}"
        case TripCause.TRIP_CAUSE_QUALITY:
            return f"{share} of its results did not pass{_reasons(evidence)}"
        case TripCause.TRIP_CAUSE_PROBE_FAILED:
            return f"the probe failed{_reasons(evidence)}"
        case TripCause.TRIP_CAUSE_OPERATOR:
            return "somebody paused it"
        case _:
            return "for a reason that this release does not know"


def _reasons(evidence: HealthEvidence) -> str:
    ordered = sorted(evidence.reasons.items(), key=lambda item: (-item[1], item[0]))
    return f" ({', '.join(f'{count} {reason}' for reason, count in ordered)})" if ordered else ""
