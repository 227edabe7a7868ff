"""Messages as JSON for programs: the keys are the contract's field names, in words a program likes.

Rules: enums are lower-case words ("awaiting_review", "" where unspecified); times are RFC 3339 in UTC; durations are
seconds under `<name>_s`; amounts are exact decimal strings in US dollars, and `pico_usd` in a name is `usd` then;
a log position is its sequence. What is absent is null, never 0. Bytes are left out.
"""

from collections.abc import Callable
from typing import Any

from factory.log.v1 import LogPosition
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from factory_client.words import usd_text

# Everywhere in a name: `max_cost_pico_usd`, `pico_usd_per_1k_tokens`.
MONEY, DOLLARS = "pico_usd", "usd"
NANO = 10**9


def as_json(message: Message) -> dict[str, Any]:
    """One message as a JSON object; every field is present."""
    shown: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.type == FieldDescriptor.TYPE_BYTES:
            continue
        key, value = _pair(message, field)
        shown[key] = value
    return shown


def _pair(message: Message, field: Any) -> tuple[str, Any]:
    value = getattr(message, field.name)
    if _is_map(field):
        return field.name, dict(value)
    if field.is_repeated:
        one = _one(field)
        return field.name, [one(item) for item in value]
    absent = field.has_presence and not message.HasField(field.name)
    if MONEY in field.name:
        return field.name.replace(MONEY, DOLLARS), None if absent else usd_text(value)
    if field.message_type is Duration.DESCRIPTOR:
        return f"{field.name}_s", None if absent else value.ToNanoseconds() / NANO
    return field.name, None if absent else _one(field)(value)


def _one(field: Any) -> Callable[[Any], Any]:
    if field.enum_type is not None:
        kind = field.enum_type
        return lambda value: _enum_word(kind, value)
    if field.message_type is Timestamp.DESCRIPTOR:
        return lambda value: value.ToJsonString()
    if field.message_type is LogPosition.DESCRIPTOR:
        return lambda value: value.sequence
    if field.message_type is not None:
        return as_json
    return lambda value: value


def _enum_word(kind: Any, value: int) -> str:
    if value == 0:
        return ""
    known = kind.values_by_number.get(value)
    prefix = kind.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return known.name.removeprefix(prefix).lower() if known else f"unknown_{value}"


def _is_map(field: Any) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry
