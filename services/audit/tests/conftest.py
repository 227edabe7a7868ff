"""Events as the services would append them, numbered as the stream would."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from audit.adapters.store import Store
from eventlog import Recorded, to_fact
from factory.call.v1 import CALL_OUTCOME_OK, CallOutcome, ModelCalled, ModelCallStarted, Usage
from factory.event.v1 import AnyFact, Event
from factory.task.v1 import PHASE_KIND_IMPLEMENT

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


class Log:
    """A stream in memory: lanes with versions, one sequence over all, one second between events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def say(self, name: str, producer: str, *facts: AnyFact) -> "Log":
        version = 1 + sum((event.id, event.producer) == (name, producer) for event in self.events)
        event = Event(
            event_id=f"{producer}-{name}-{version}",
            id=name,
            producer=producer,
            version=version,
            facts=[to_fact(fact) for fact in facts],
        )
        event.occurred_at.FromDatetime(NOON + timedelta(seconds=len(self.events)))
        self.events.append(event)
        return self

    def start(self, task: str, request: str = "implement-1-1", n: int = 1, model: str = "gpt") -> "Log":
        return self.say(task, f"executor-{model}", started(task, request, n, model))

    def end(
        self,
        task: str,
        usage: Usage | None,
        outcome: CallOutcome = CALL_OUTCOME_OK,
        request: str = "implement-1-1",
        n: int = 1,
        model: str = "gpt",
        http_status: int = 200,
    ) -> "Log":
        return self.say(task, f"executor-{model}", called(task, usage, outcome, request, n, model, http_status))

    def recorded(self, after: int = 0) -> list[Recorded]:
        return numbered(self.events, after)


def started(task: str, request: str, n: int, model: str) -> ModelCallStarted:
    return ModelCallStarted(
        call_id=f"{task}.{request}-{n}",
        request_id=request,
        phase=PHASE_KIND_IMPLEMENT,
        model=model,
        provider="p",
        provider_model=f"{model}-1",
        max_output_tokens=1_000,
        input_tokens_estimate=3_000,
    )


def called(
    task: str, usage: Usage | None, outcome: CallOutcome, request: str, n: int, model: str, http_status: int
) -> ModelCalled:
    return ModelCalled(
        call_id=f"{task}.{request}-{n}",
        request_id=request,
        phase=PHASE_KIND_IMPLEMENT,
        model=model,
        provider="p",
        provider_model=f"{model}-1",
        outcome=outcome,
        usage=usage,
        http_status=http_status,
    )


def numbered(events: Iterable[Event], after: int = 0) -> list[Recorded]:
    return [
        Recorded(event, sequence, event.SerializeToString(deterministic=True))
        for sequence, event in enumerate(events, after + 1)
    ]


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def in_stream_order() -> Callable[..., list[Recorded]]:
    return numbered


@pytest.fixture
def store(tmp_path: Path) -> Iterable[Store]:
    opened = Store(tmp_path / "audit.sqlite3")
    yield opened
    opened.close()


def in_batches(events: Sequence[Recorded], size: int) -> Iterable[Sequence[Recorded]]:
    for first in range(0, len(events), size):
        yield events[first : first + size]
