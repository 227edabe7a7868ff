"""What the factory says when it refuses, as one exception. Never shows a raw gRPC error to the caller."""

import re
from dataclasses import dataclass
from typing import cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_status import rpc_status


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that is at fault, and what is wrong with it."""

    field: str
    description: str


class FactoryError(Exception):
    """The factory refused, or could not be reached.

    `code` is the gRPC status code by name ("INVALID_ARGUMENT"), `violations` names every field at fault.
    """

    def __init__(self, code: str, message: str, violations: tuple[FieldViolation, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.violations = violations

    @property
    def unreachable(self) -> bool:
        """Nobody answered; trying again later may help."""
        return self.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}

    def __str__(self) -> str:
        """One line that says what is wrong and names the fields at fault."""
        unnamed = [one for one in self.violations if not re.search(rf"\b{re.escape(one.field)}\b", self.message)]
        fields = "; ".join(f"{one.field}: {one.description}" for one in unnamed)
        return f"{self.message} ({fields})" if fields else self.message

    def __repr__(self) -> str:
        return f"FactoryError({self.code!r}, {self.message!r}, {self.violations!r})"


def error_from(error: grpc.aio.AioRpcError) -> FactoryError:
    """The rich status (google.rpc) behind a gRPC error; its plain code and details where there is none."""
    code = error.code().name
    plain = error.details() or code
    try:
        status = rpc_status.from_call(cast(grpc.Call, error))  # has what it reads: code, details, metadata
    except (ValueError, DecodeError):  # a proxy on the way rewrote one half of the status
        status = None
    if status is None:
        return FactoryError(code, plain)
    return FactoryError(code, status.message or plain, _violations(status.details))


def _violations(details) -> tuple[FieldViolation, ...]:
    found: list[FieldViolation] = []
    for detail in details:
        bad_request = error_details_pb2.BadRequest()
        precondition = error_details_pb2.PreconditionFailure()
        if detail.Unpack(bad_request):
            found += [FieldViolation(one.field, one.description) for one in bad_request.field_violations]
        elif detail.Unpack(precondition):
            found += [FieldViolation(one.subject or one.type, one.description) for one in precondition.violations]
    return tuple(found)
