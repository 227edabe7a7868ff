"""Submissions over NATS: a protobuf `SubmitRequest`, or a CloudEvent in JSON with the same fields as `data`.

The answer goes to the subject that the header `Factory-Reply` names, below `factory.reply.<org>.`; a refusal is a fact
besides. A message that cannot be read is set aside, and stops nothing.
"""

import hashlib
import json
from typing import Any

import grpc
import structlog
from factory.task.v1 import Scope, SubmitRequest, TaskRefused, TaskType
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from runtime import Caller, Problem, Runtime
from ulid import ULID

from conductor.adapters.submissions import Submissions
from conductor.submission import KEY_CHARACTERS_MAX

log = structlog.get_logger()

REPLY_HEADER = "Factory-Reply"
TRIES_MAX = 20
CLOUDEVENT_TYPE = "factory.task.v1.SubmitRequest"
# Whoever may publish on the intake may submit; that is for the server's permissions to say.
PLATFORM = Caller("platform", frozenset({"submitter"}))


class Unreadable(Exception):
    """The message is neither a SubmitRequest nor a CloudEvent with one."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class Intake:
    """Makes tasks of messages, and tells the sender."""

    def __init__(self, rt: Runtime, submissions: Submissions) -> None:
        self._rt = rt
        self._submissions = submissions

    async def heard(self, message: Any) -> None:
        raw = message.raw_message
        headers = raw.headers or {}
        try:
            request = read(raw.data)
            if request.dry_run:
                raise Unreadable("a dry run stores nothing, so it is asked over gRPC", "dry_run")
            if not request.idempotency_key:
                # Delivered again after a crash, it must be the same task. The time tells two streams' sequences apart.
                stored = raw.metadata
                request.idempotency_key = f"intake-{stored.sequence.stream}-{stored.timestamp.isoformat()}"
            accepted = await self._submissions.submit(request, PLATFORM)
            answer = {"task_id": accepted.task_id, "existed": accepted.existed}
        except Unreadable as error:
            answer = await self._refuse(raw.data, str(error), error.field)
        except Problem as problem:
            field = problem.violations[0][0] if problem.violations else ""
            answer = await self._refuse(raw.data, str(problem), field, problem.code)
        except Exception as error:
            tries = raw.metadata.num_delivered
            log.warning("intake.not_served", error=repr(error), tries=tries)
            if tries <= TRIES_MAX:
                await raw.nak(delay=min(2**tries, 30))
                return
            what = f"it could not be served in {TRIES_MAX} tries ({type(error).__name__})"
            answer = await self._refuse(raw.data, what, "", grpc.StatusCode.INTERNAL)
        await self._reply(headers.get(REPLY_HEADER, ""), answer)
        await raw.ack()

    async def _refuse(
        self, data: bytes, reason: str, field: str, code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT
    ) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        refused = TaskRefused(
            reason=reason[:500], field=field[:100], submitted_by=PLATFORM.subject, message_digest=digest
        )
        # The same message refused twice, because its ack was lost, is two refusals of one digest.
        await self._rt.log.report(f"refused-{ULID()!s}".lower(), [refused])
        return {"error": {"code": code.name, "message": reason, "field": field}}

    async def _reply(self, subject: str, answer: dict[str, Any]) -> None:
        prefix = f"factory.reply.{self._rt.settings.org}."
        if not subject:
            return
        if not subject.startswith(prefix) or any(character in subject for character in " *>\t\r\n"):
            log.warning("intake.reply_refused", subject=subject[:100], expected=prefix)
            return
        await self._rt.nc.publish(subject, json.dumps(answer).encode())


def read(data: bytes) -> SubmitRequest:
    """The request that a message holds; Unreadable says what is wrong with it."""
    if data.lstrip()[:1] == b"{":
        return _cloudevent(data)
    try:
        request = SubmitRequest.FromString(data)
    except DecodeError as error:
        raise Unreadable("expected a protobuf SubmitRequest or a CloudEvent in JSON, found neither") from error
    if not request.ListFields():
        raise Unreadable("expected a protobuf SubmitRequest or a CloudEvent in JSON, found an empty message")
    return request


def _cloudevent(data: bytes) -> SubmitRequest:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not JSON: {error}") from error
    if event.get("specversion") != "1.0":
        raise Unreadable(
            f"expected CloudEvents specversion '1.0', found {str(event.get('specversion'))[:20]!r}", "specversion"
        )
    if event.get("type") != CLOUDEVENT_TYPE:
        raise Unreadable(f"expected type {CLOUDEVENT_TYPE!r}, found {str(event.get('type'))[:60]!r}", "type")
    fields = event.get("data")
    if not isinstance(fields, dict):
        raise Unreadable(f"expected an object in data, found {type(fields).__name__}", "data")
    fields = dict(fields)
    for name, enum, prefix in (("type", TaskType, "TASK_TYPE_"), ("scope", Scope, "SCOPE_")):
        if isinstance(word := fields.get(name), str) and not word.startswith(prefix):
            fields[name] = f"{prefix}{word.upper()}"
            if fields[name] not in set(enum.keys()):
                known = ", ".join(key.removeprefix(prefix).lower() for key in enum.keys()[1:])
                raise Unreadable(f"expected one of {known}, found {word[:40]!r}", f"data.{name}")
    try:
        request = json_format.ParseDict(fields, SubmitRequest())
    except json_format.ParseError as error:
        raise Unreadable(f"data: {str(error)[:300]}", "data") from error
    if not request.idempotency_key and event.get("id"):
        # CloudEvents: source and id together name the event, so a redelivery is the same task.
        request.idempotency_key = _key(str(event.get("source", "")), str(event["id"]))
    return request


def _key(source: str, id: str) -> str:
    """The key of a CloudEvent. Cut short, two long ones could be the same; half a surrogate is no text at all."""
    try:
        key = f"{source}#{id}".encode().decode()
    except UnicodeError as error:
        raise Unreadable("expected text in source and id, found half a surrogate pair", "id") from error
    return key if len(key) <= KEY_CHARACTERS_MAX else f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
