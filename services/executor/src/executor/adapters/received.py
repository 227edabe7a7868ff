"""What has arrived of an answer so far, and how a stream is read to its end whatever happens to it.

Never retries and never raises for what a provider does: a call that was sent has to be put on record.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from executor.answer import ANSWER_BYTES_MAX, Answer, Fault, FaultKind, Question

log = structlog.get_logger()

CONNECT_TIMEOUT_S = 10.0
CALL_ID_HEADER = "X-Client-Request-Id"

OnText = Callable[[str], None]


class Stopping:
    """How somebody else ends a call that is running: the stream is closed, and what has arrived is the answer."""

    def __init__(self) -> None:
        self.why = ""
        self._patience: asyncio.Timeout | None = None

    def stop(self, why: str) -> None:
        """Ends the call at once, or as soon as it begins; one that has ended stays as it is."""
        self.why = why
        if self._patience is not None:
            self._patience.reschedule(0)

    @contextlib.asynccontextmanager
    async def within(self, timeout_s: float) -> AsyncIterator[None]:
        """Raises TimeoutError in the block when its time is over, or when it is stopped."""
        async with asyncio.timeout(timeout_s) as patience:
            self._patience = patience
            if self.why:
                patience.reschedule(0)
            try:
                yield
            finally:
                self._patience = None


class Wire(Protocol):
    """A provider, as the executor needs it."""

    async def ask(self, question: Question, on_text: OnText, stopping: Stopping | None = None) -> Answer:
        """Makes one call: one attempt on the wire, read to its end, unless it is stopped."""
        ...

    async def close(self) -> None: ...


class StreamFault(Exception):
    """The provider said within the stream that it has failed."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


@dataclass(slots=True)
class Received:
    """Grows as the stream is read."""

    on_text: OnText
    begun_at: float = field(default_factory=time.monotonic)
    parts: list[str] = field(default_factory=list)
    size: int = 0
    refusal: str = ""
    finish_reason: str = ""
    raw_usage: dict[str, Any] | None = None
    provider_model: str = ""
    provider_request_id: str = ""
    service_tier: str = ""
    http_status: int = 0
    first_token_s: float | None = None
    is_final: bool = False
    """Nothing that matters can follow, so a connection that breaks now does no harm."""

    def text(self, piece: str | None) -> None:
        if not piece:
            return
        if self.first_token_s is None:
            self.first_token_s = time.monotonic() - self.begun_at
        self.size += len(piece)
        if self.size > ANSWER_BYTES_MAX:
            raise StreamFault(Fault(FaultKind.BROKEN, message=f"the answer has more than {ANSWER_BYTES_MAX} bytes"))
        self.parts.append(piece)
        self.on_text(piece)

    def opened(self, response: Any) -> None:
        """Notes what the response's head says."""
        self.http_status = response.status_code
        headers = response.headers
        self.provider_request_id = headers.get("x-request-id") or headers.get("request-id") or ""

    def answer(self, fault: Fault | None) -> Answer:
        return Answer(
            text=_whole("".join(self.parts)),
            refusal=_whole(self.refusal),
            finish_reason=self.finish_reason,
            raw_usage=self.raw_usage,
            provider_model=self.provider_model,
            provider_request_id=self.provider_request_id,
            service_tier=self.service_tier,
            http_status=(fault.http_status if fault else 0) or self.http_status,
            time_to_first_token_s=self.first_token_s,
            fault=fault,
        )


def _whole(text: str) -> str:
    """Joins characters that were cut in half between two events; what has no other half becomes a question mark."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


async def read_to_the_end(
    read: Callable[[Received], Awaitable[None]],
    fault_of: Callable[[Exception], Fault],
    *,
    timeout_s: float,
    on_text: OnText,
    stopping: Stopping | None = None,
) -> Answer:
    """Runs `read`, and makes an answer of what it has received, whole or not."""
    received, stopping = Received(on_text), stopping or Stopping()
    fault: Fault | None = None
    try:
        async with stopping.within(timeout_s):
            await read(received)
        if not received.finish_reason:
            fault = Fault(FaultKind.BROKEN, message="the stream ended without a finish reason")
    except TimeoutError:
        fault = Fault(FaultKind.TIMEOUT, message=f"not finished within {timeout_s:g} s")
        if stopping.why:
            fault = Fault(FaultKind.STOPPED, message=stopping.why)
    except StreamFault as told:
        fault = told.fault
    except Exception as error:
        fault = fault_of(error)
        told = {"kind": fault.kind.value, "status": fault.http_status, "error": type(error).__name__}
        log.warning("call.faulted", **told, exc_info=fault.message == type(error).__name__)
    return received.answer(None if received.is_final else fault)
