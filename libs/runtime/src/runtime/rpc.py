"""The gRPC edge: who calls, whether they may, and errors that say what is wrong.

Roles are enforced from the `callers` option of each rpc, so no servicer can forget to ask.
"""

import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import structlog
from factory.options.v1 import callers
from google.protobuf import any_pb2, descriptor_pool
from google.rpc import code_pb2, error_details_pb2, status_pb2

log = structlog.get_logger()

_OPEN = ("/grpc.health.v1.Health/", "/grpc.reflection.")


class Problem(Exception):
    """An error for the caller: a status code, a sentence, and the fields at fault."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        violations: Sequence[tuple[str, str]] = (),
        reason: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.violations = tuple(violations)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Caller:
    """Who holds the token."""

    subject: str
    roles: frozenset[str]


_caller: ContextVar[Caller] = ContextVar("caller")


def caller() -> Caller:
    """Who makes the call that is being served."""
    return _caller.get()


class Tokens:
    """The tokens that are let in, by the SHA-256 of each; the tokens themselves are never stored."""

    def __init__(self, entries: Sequence[dict[str, Any]] = ()) -> None:
        self._entries = [(str(e["sha256"]), Caller(str(e["subject"]), frozenset(e["roles"]))) for e in entries]

    @classmethod
    def from_file(cls, path: Path | None) -> "Tokens":
        return cls(json.loads(path.read_text()) if path else ())

    def holder(self, token: str) -> Caller | None:
        digest = hashlib.sha256(token.encode()).hexdigest()
        found = None
        for known, who in self._entries:
            if hmac.compare_digest(known, digest):
                found = who
        return found


def token_entry(token: str, subject: str, roles: Sequence[str]) -> dict[str, Any]:
    """A line of the tokens file."""
    return {"subject": subject, "roles": list(roles), "sha256": hashlib.sha256(token.encode()).hexdigest()}


ROLES = ("submitter", "architect", "auditor", "operator")


class Gatekeeper(grpc.aio.ServerInterceptor):
    """Lets in who may, turns Problems into rich statuses, and never shows a stack trace to a caller."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        if handler is None or method.startswith(_OPEN):
            return handler
        headers = {str(key): value for key, value in handler_call_details.invocation_metadata or ()}
        authorization = str(headers.get("authorization", ""))
        who = self._tokens.holder(authorization.removeprefix("Bearer ")) if authorization else None
        return _guarded(handler, method, who, bool(authorization))


def _guarded(handler: Any, method: str, who: Caller | None, sent: bool) -> grpc.RpcMethodHandler:
    codec = {
        "request_deserializer": handler.request_deserializer,
        "response_serializer": handler.response_serializer,
    }

    if handler.response_streaming:

        async def stream(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
            try:
                _let_in(who, method, sent)
                async for answer in handler.unary_stream(request, context):
                    yield answer
            except Problem as problem:
                await _abort(context, problem)
            except Exception as error:
                if isinstance(error, grpc.aio.AbortError):
                    raise
                log.exception("rpc.failed", method=method)
                await _abort(context, _internal(method, error))

        return grpc.unary_stream_rpc_method_handler(stream, **codec)

    async def unary(request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            _let_in(who, method, sent)
            return await handler.unary_unary(request, context)
        except Problem as problem:
            await _abort(context, problem)
        except Exception as error:
            if isinstance(error, grpc.aio.AbortError):
                raise
            log.exception("rpc.failed", method=method)
            await _abort(context, _internal(method, error))

    return grpc.unary_unary_rpc_method_handler(unary, **codec)


def _internal(method: str, error: Exception) -> Problem:
    return Problem(grpc.StatusCode.INTERNAL, f"{method} failed ({type(error).__name__}); the service's log says why")


def _let_in(who: Caller | None, method: str, sent: bool) -> None:
    if who is None:
        what = "the token is not known here" if sent else "no token was sent: metadata `authorization: Bearer <token>`"
        raise Problem(grpc.StatusCode.UNAUTHENTICATED, what, reason="TOKEN_UNKNOWN" if sent else "TOKEN_MISSING")
    allowed = set(roles_for(method))
    if not allowed & who.roles:
        have = ", ".join(sorted(who.roles)) or "no role"
        raise Problem(
            grpc.StatusCode.PERMISSION_DENIED,
            f"{method.rsplit('/', 1)[-1]} is for {' or '.join(sorted(allowed))}; {who.subject!r} has {have}",
            reason="ROLE_MISSING",
        )
    _caller.set(who)


def roles_for(method: str) -> list[str]:
    """The roles that the contract names for "/factory.task.v1.TaskService/Submit"."""
    descriptor = descriptor_pool.Default().FindMethodByName(method.lstrip("/").replace("/", "."))
    option: Any = callers
    return list(descriptor.GetOptions().Extensions[option])


async def _abort(context: grpc.aio.ServicerContext, problem: Problem) -> None:
    await context.abort(
        problem.code, str(problem), trailing_metadata=(("grpc-status-details-bin", rich_status(problem)),)
    )


def rich_status(problem: Problem) -> bytes:
    """The problem as a serialised `google.rpc.Status`."""
    details = []
    if problem.violations:
        bad = error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(field=field, description=what)
                for field, what in problem.violations
            ]
        )
        details.append(bad)
    if problem.reason:
        details.append(error_details_pb2.ErrorInfo(reason=problem.reason, domain="ai-factory"))
    packed = []
    for detail in details:
        wrapped = any_pb2.Any()
        wrapped.Pack(detail)
        packed.append(wrapped)
    code = code_pb2.Code.Value(problem.code.name)
    return status_pb2.Status(code=code, message=str(problem), details=packed).SerializeToString()
