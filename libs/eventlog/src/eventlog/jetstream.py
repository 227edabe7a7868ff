"""The JetStream requests that nats-py does not offer: reading from the leader, plain API calls."""

import json
from collections.abc import Mapping
from typing import Any

from nats.aio.client import Client

from eventlog.past import Recorded, stored

API_TIMEOUT_S = 5.0

WRONG_LAST_SEQUENCE = 10071
# What a cluster says while another message is on its way to its replicas: one of the same id, or of the same subject.
# That message may be our own first try, and it may yet fail: no answer to the question who was faster.
STILL_IN_PROCESS = frozenset({10158, 10164})
INSUFFICIENT_STORAGE = 10047
MESSAGES_PER_SUBJECT_EXCEEDED = 10077
NO_MESSAGE = 10037
STREAM_NOT_FOUND = 10059
CONSUMER_NOT_FOUND = 10014


class ApiError(Exception):
    """JetStream answered a request with an error."""

    def __init__(self, subject: str, error: Mapping[str, Any]) -> None:
        self.code = int(error.get("err_code", 0))
        super().__init__(f"{subject}: {error.get('description', 'error')} ({self.code})")


async def api(nc: Client, subject: str, request: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One `$JS.API` request; raises ApiError, or nats.errors.TimeoutError."""
    reply = await nc.request(f"$JS.API.{subject}", json.dumps(request or {}).encode(), timeout=API_TIMEOUT_S)
    answer = json.loads(reply.data)
    if "error" in answer:
        raise ApiError(subject, answer["error"])
    return answer


async def leader_next(nc: Client, stream: str, subject: str, *, start: int) -> Recorded | None:
    """The first message at or after `start` that matches, from the stream's leader, so never stale."""
    try:
        answer = await api(nc, f"STREAM.MSG.GET.{stream}", {"seq": max(start, 1), "next_by_subj": subject})
    except ApiError as error:
        if error.code == NO_MESSAGE:
            return None
        raise
    return _stored(answer)


async def leader_last(nc: Client, stream: str, subject: str) -> Recorded | None:
    """The last message on `subject`, from the stream's leader, so never stale."""
    try:
        answer = await api(nc, f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
    except ApiError as error:
        if error.code == NO_MESSAGE:
            return None
        raise
    return _stored(answer)


def _stored(answer: Mapping[str, Any]) -> Recorded:
    from base64 import b64decode

    message = answer["message"]
    return stored(b64decode(message.get("data", "")), int(message["seq"]), message["subject"])
