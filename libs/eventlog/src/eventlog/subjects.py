"""Subjects, built in one place: optimistic concurrency holds only among writers that use the same literal subject."""

import re

EVENTS, WORK, INTAKE, TIMERS, DLQ = "EVENTS", "WORK", "INTAKE", "TIMERS", "DLQ"
ALL_EVENTS = "factory.evt.>"
# Where the stream says again, on core NATS, what it has stored: with its sequence, after it can be read.
STORED = "factory.stored.>"

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}")


def token(text: str) -> str:
    """`text`, if it can stand as one token of a subject; ValueError if it cannot."""
    if not _TOKEN.fullmatch(text):
        raise ValueError(f"{text[:40]!r} cannot be part of a subject: letters, digits, - and _, 1 to 128 of them")
    return text


def lane(service: str, org: str, id: str) -> str:
    """The subject of one service's events about one id."""
    return f"factory.evt.{token(service)}.{token(org)}.{token(id)}"


def every_lane(org: str, id: str) -> str:
    """Matches every service's events about one id."""
    return f"factory.evt.*.{token(org)}.{token(id)}"


def stored(events: str) -> str:
    """Where the stream says again what it has stored of these event subjects."""
    return STORED.removesuffix(">") + events.removeprefix(ALL_EVENTS.removesuffix(">"))


def work(service: str, org: str, id: str, request: str) -> str:
    return f"factory.work.{token(service)}.{token(org)}.{token(id)}.{token(request)}"


def submit(org: str) -> str:
    return f"factory.submit.{token(org)}"


def timer_schedule(org: str, id: str, name: str) -> str:
    return f"factory.timer.sched.{token(org)}.{token(id)}.{token(name)}"


def timer_fire(org: str, id: str, name: str) -> str:
    return f"factory.timer.fire.{token(org)}.{token(id)}.{token(name)}"


def dead_letter(stream: str, consumer: str) -> str:
    return f"factory.dlq.{token(stream)}.{token(consumer)}"


def live(org: str, id: str) -> str:
    """Where a model's words are published as they come; nobody stores them."""
    return f"factory.live.{token(org)}.{token(id)}"


def stop(org: str, id: str) -> str:
    """Where a task's workers are told that some of its requests are wanted no more; a hint, nobody stores it."""
    return f"factory.stop.{token(org)}.{token(id)}"


def every_stop(org: str) -> str:
    """Matches the hints about every task."""
    return f"factory.stop.{token(org)}.*"
