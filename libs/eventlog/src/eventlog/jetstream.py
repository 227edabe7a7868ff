"""The JetStream requests that nats-py does not offer: batched direct get, reading from the leader, plain API calls."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nats.aio.client import Client

from eventlog.past import Recorded, stored

API_TIMEOUT_S = 5.0
DIRECT_BATCH = 256

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


class ReadFailed(Exception):
    """A read was not answered, or answered with a status other than "that is all"."""


async def api(nc: Client, subject: str, request: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One `$JS.API` request; raises ApiError, or nats.errors.TimeoutError."""
    reply = await nc.request(f"$JS.API.{subject}", json.dumps(request or {}).encode(), timeout=API_TIMEOUT_S)
    answer = json.loads(reply.data)
    if "error" in answer:
        raise ApiError(subject, answer["error"])
    return answer


@dataclass(frozen=True, slots=True)
class Batch:
    """Some messages of a stream, in order; `pending` more follow."""

    messages: tuple[Recorded, ...]
    pending: int


async def direct_batch(nc: Client, stream: str, subject: str, *, start: int, batch: int = DIRECT_BATCH) -> Batch:
    """Up to `batch` messages that match `subject`, from `start` on. Any replica may answer, and may be behind."""
    inbox = nc.new_inbox()
    subscription = await nc.subscribe(inbox)
    request = {"seq": max(start, 1), "batch": batch, "next_by_subj": subject}
    found: list[Recorded] = []
    try:
        await nc.publish(f"$JS.API.DIRECT.GET.{stream}", json.dumps(request).encode(), reply=inbox)
        while True:
            try:
                message = await subscription.next_msg(timeout=API_TIMEOUT_S)
            except TimeoutError as silence:
                raise ReadFailed(f"no answer to a direct get of {subject!r} within {API_TIMEOUT_S} s") from silence
            headers = message.headers or {}
            match headers.get("Status", ""):
                case "":
                    # Of messages lost on the way, by a reconnect say, nothing else tells: the end still arrives.
                    before, there = int(headers.get("Nats-Last-Sequence", "0")), found[-1].sequence if found else 0
                    if before != there:
                        raise ReadFailed(f"direct get of {subject!r}: {before} came after {there}, some were lost")
                    found.append(stored(message.data, int(headers["Nats-Sequence"]), headers["Nats-Subject"]))
                case "204":
                    return Batch(tuple(found), int(headers.get("Nats-Num-Pending", "0")))
                case "404":
                    return Batch((), 0)
                case status:
                    raise ReadFailed(f"direct get of {subject!r}: {status} {headers.get('Description', '')}")
    finally:
        await subscription.unsubscribe()


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
