"""Between a fact and the arm of the envelope it travels in."""

from collections.abc import Iterable
from functools import cache
from typing import Any

from factory.event.v1 import AnyFact, Event, Fact
from factory.options.v1 import said_by
from google.protobuf.message import Message

KINDS: dict[str, Any] = {
    field.name: field.message_type for field in Fact.DESCRIPTOR.fields if field.message_type is not None
}
_ARM_OF_TYPE = {kind.full_name: arm for arm, kind in KINDS.items()}


def to_fact(message: AnyFact) -> Fact:
    """Wraps a fact in the arm that its type has in `Fact`."""
    return Fact(**{_ARM_OF_TYPE[message.DESCRIPTOR.full_name]: message})  # type: ignore[arg-type]


def facts_of(event: Event) -> list[AnyFact | None]:
    """The facts of an event in order; None stands for a fact of a kind that this release does not know."""
    return [_unwrap(fact) for fact in event.facts]


def known_facts(events: Iterable[Event]) -> list[AnyFact]:
    """Every fact that this release knows, in order."""
    return [fact for event in events for fact in facts_of(event) if fact is not None]


def fact_name(fact: Message) -> str:
    """The full name of a fact's type: "factory.task.v1.TaskSubmitted"."""
    return fact.DESCRIPTOR.full_name


def may_say(producer: str, fact: AnyFact) -> bool:
    """Whether the contract lets the service of this lane say such a fact."""
    return producer.split("-")[0] in _speakers(fact.DESCRIPTOR.full_name)


@cache
def _speakers(name: str) -> frozenset[str]:
    option: Any = said_by
    return frozenset(KINDS[_ARM_OF_TYPE[name]].GetOptions().Extensions[option])


def _unwrap(fact: Fact) -> AnyFact | None:
    arm = fact.WhichOneof("fact")
    return None if arm is None else getattr(fact, arm)
