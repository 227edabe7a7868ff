"""The corpus: one stored event for every kind of fact that was ever shipped, as bytes. It only grows.

`python tests/contracts/corpus.py` adds an event for each kind that has none yet. What is there is never written again:
those bytes stand for logs in the field.
"""

from pathlib import Path
from typing import Any

from eventlog.facts import KINDS
from factory.event.v1 import Event, Fact
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

CORPUS = Path(__file__).parent / "corpus"
DEPTH_MAX = 4
NUMBERS = {FieldDescriptor.CPPTYPE_DOUBLE: 0.5, FieldDescriptor.CPPTYPE_FLOAT: 0.5, FieldDescriptor.CPPTYPE_BOOL: True}


def missing() -> list[str]:
    """The kinds of fact that have no event in the corpus."""
    return [arm for arm in KINDS if not (CORPUS / f"{arm}.binpb").exists()]


def example(arm: str) -> Event:
    """An event with one fact of a kind, every field of it filled."""
    fact = Fact()
    fill(getattr(fact, arm), 0)
    event = Event(
        event_id="01KAR7J0000000000000000000", org="main", id="t" * 26, version=1, producer="conductor", facts=[fact]
    )
    event.occurred_at.FromJsonString("2026-11-23T12:00:00Z")
    return event


def fill(message: Message, depth: int) -> None:
    """Gives every field a value that is not its default."""
    message.SetInParent()
    for field in message.DESCRIPTOR.fields:
        if field.message_type and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)["key"] = value_of(field.message_type.fields_by_name["value"])
        elif field.message_type:
            if depth < DEPTH_MAX:
                fill(
                    getattr(message, field.name).add() if field.is_repeated else getattr(message, field.name), depth + 1
                )
        elif field.is_repeated:
            getattr(message, field.name).append(value_of(field))
        else:
            setattr(message, field.name, value_of(field))


def value_of(field: Any) -> Any:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return b"x" if field.type == FieldDescriptor.TYPE_BYTES else f"a {field.name}"
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return field.enum_type.values[-1].number
    return NUMBERS.get(field.cpp_type, 7)


if __name__ == "__main__":
    CORPUS.mkdir(exist_ok=True)
    for name in missing():
        (CORPUS / f"{name}.binpb").write_bytes(example(name).SerializeToString(deterministic=True))
        print(f"added {name}")
