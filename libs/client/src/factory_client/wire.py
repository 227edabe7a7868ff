"""The connection to a factory: channels, token, deadlines, errors, and the last log position that was heard of.

Knows how to ask, and nothing of what is asked.
"""

import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc
from factory.audit.v1 import AuditServiceStub
from factory.log.v1 import LogPosition
from factory.model.v1 import ModelServiceStub
from factory.project.v1 import ProjectServiceStub
from factory.review.v1 import ReviewServiceStub
from factory.task.v1 import TaskServiceStub

from factory_client.errors import error_from

# A diff of a large change is one message.
MESSAGE_BYTES_MAX = 64 * 1024 * 1024
TLS_SCHEMES = ("https://", "grpcs://")
PLAIN_SCHEMES = ("http://", "grpc://")

Answer = TypeVar("Answer")


class Wire:
    """Channels to one factory, opened when first used, because a channel belongs to the running event loop."""

    def __init__(self, url: Callable[[], str], audit_url: Callable[[], str], token: str, timeout_s: float) -> None:
        self._url, self._audit_url, self._timeout_s = url, audit_url, timeout_s
        self.metadata = (("authorization", f"Bearer {token}"),) if token else ()
        # Questions to the audit wait until it has seen this.
        self.seen = LogPosition()
        self._channels: dict[str, grpc.aio.Channel] = {}

    @property
    def tasks(self):
        return TaskServiceStub(self._channel(self._url()))

    @property
    def reviews(self):
        return ReviewServiceStub(self._channel(self._url()))

    @property
    def projects(self):
        return ProjectServiceStub(self._channel(self._url()))

    @property
    def models(self):
        return ModelServiceStub(self._channel(self._url()))

    @property
    def audit(self):
        return AuditServiceStub(self._channel(self._audit_url()))

    async def call(
        self, method: Callable[..., Awaitable[Answer]], request: object, timeout_s: float | None = None
    ) -> Answer:
        """One question, one answer, or a `FactoryError`."""
        try:
            answer = await method(request, metadata=self.metadata, timeout=timeout_s or self._timeout_s)
        except grpc.aio.AioRpcError as error:
            raise error_from(error) from None
        position = getattr(answer, "position", None)
        if isinstance(position, LogPosition):
            self.saw(position)
        return answer

    async def pages(
        self, method: Callable[..., Awaitable[Any]], request: Any, rows: str, limit: int
    ) -> AsyncIterator[Any]:
        """The rows of page after page; all of them unless limited."""
        given = 0
        while True:
            answer = await self.call(method, request)
            for row in getattr(answer, rows):
                yield row
                given += 1
                if limit and given >= limit:
                    return
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    def saw(self, position: LogPosition) -> None:
        """Remembers the furthest position heard of."""
        if position.sequence > self.seen.sequence:
            self.seen = position

    async def close(self) -> None:
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close()

    def _channel(self, url: str) -> grpc.aio.Channel:
        if url not in self._channels:
            self._channels[url] = open_channel(url)
        return self._channels[url]


def open_channel(url: str) -> grpc.aio.Channel:
    """A channel to "host:port"; with TLS where the url begins with https:// or grpcs://."""
    options: list[tuple[str, int]] = [("grpc.max_receive_message_length", MESSAGE_BYTES_MAX)]
    for scheme in TLS_SCHEMES:
        if url.startswith(scheme):
            target = url.removeprefix(scheme).rstrip("/")
            return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(), options)
    target = url
    for scheme in PLAIN_SCHEMES:
        target = target.removeprefix(scheme)
    target = target.rstrip("/")
    if _is_loopback(target):
        # HTTP_PROXY is meant for the world, not for a factory on this machine
        options.append(("grpc.enable_http_proxy", 0))
    return grpc.aio.insecure_channel(target, options)


def _is_loopback(target: str) -> bool:
    host = target.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
