"""The HTTP side: reads a request, puts it on the bill, answers as its provider would, or as badly as was asked for.

It never answers before the bill's line is on the disk, and keeps nothing else.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime

import structlog
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulator.bill import BillFile, BillLine, read_bill, summed
from simulator.call import Asked, BadRequest, Speaks, Wire, provider_of
from simulator.misbehaviour import Misbehaviour, Misbehaviours
from simulator.pace import Pace
from simulator.pretend import Planned, error_status, planned
from simulator.prompt import read_prompt
from simulator.streaming import Streamed, Whole
from simulator.tokens import Buckets, PromptCache
from simulator.wires import anthropic_messages, openai_chat, openai_responses
from simulator.wires.errors import error_body
from simulator.wires.reading import body_of

log = structlog.get_logger()

CLIENT_REQUEST_ID = "x-client-request-id"
BODY_BYTES_MAX = 64 * 1024 * 1024
RETRY_AFTER_S = 1.0
MODELS = ("claude-opus-4-5", "gpt-5", "gemini-3-pro-preview", "deepseek-chat", "deepseek-reasoner")

_WIRES: dict[Wire, Speaks] = {
    Wire.ANTHROPIC: anthropic_messages,
    Wire.CHAT: openai_chat,
    Wire.RESPONSES: openai_responses,
}
_ID_PREFIXES = {Wire.ANTHROPIC: "msg_", Wire.CHAT: "chatcmpl-", Wire.RESPONSES: "resp_"}
# As each provider's base URL has it: OpenAI's and Anthropic's /v1, DeepSeek's bare host, Google's own prefix.
_PREFIXES = ("/v1", "", "/v1beta/openai")


class Provider:
    """All providers at once: what they remember between calls."""

    def __init__(self, bill: BillFile, pace: Pace, wishes: Misbehaviours) -> None:
        self._bill = bill
        self._pace = pace
        self._wishes = wishes
        self._cache = PromptCache()

    def endpoint(self, wire: Wire) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint that speaks this wire."""

        async def answer(request: Request) -> Response:
            return await self._answer(wire, request)

        return answer

    async def _answer(self, wire: Wire, request: Request) -> Response:
        request_id = uuid.uuid4().hex
        try:
            asked = _WIRES[wire].asked(body_of(await _body(request)))
        except BadRequest as error:
            blank = Asked(wire, error.model, "", "")
            return await self._refuse(request, blank, 400, request_id, message=error.message, param=error.param)
        if not _has_key(request):
            return await self._refuse(request, asked, 401, request_id)
        phase = read_prompt(asked.first_message).phase
        wish = self._wishes.next_for(asked.model, phase, _client_id(request))
        if (status := error_status(wish, asked)) is not None:
            retry = (wish.retry_after_s if wish else None) or (RETRY_AFTER_S if status == 429 else None)
            return await self._refuse(request, asked, status, request_id, retry_after_s=retry)
        call_id = _ID_PREFIXES[wire] + request_id
        plan = planned(asked, wish, self._cache, id=call_id, created=int(time.time()))
        await self._bill.append(_line(request, asked, request_id, plan.status, 200, plan.billed))
        return self._answered(plan, request_id)

    def _answered(self, plan: Planned, request_id: str) -> Response:
        asked = plan.reply.asked
        headers = {"request-id" if asked.wire == Wire.ANTHROPIC else "x-request-id": f"req_{request_id}"}
        kind = Streamed if asked.stream else Whole
        return kind(plan, _WIRES[asked.wire], self._pace, headers)

    async def _refuse(
        self,
        request: Request,
        asked: Asked,
        status: int,
        request_id: str,
        *,
        message: str = "",
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> Response:
        await self._bill.append(_line(request, asked, request_id, str(status), status, Buckets()))
        name = "request-id" if asked.wire == Wire.ANTHROPIC else "x-request-id"
        headers = {name: f"req_{request_id}"}
        if retry_after_s is not None:
            headers["retry-after"] = f"{retry_after_s:g}"
        body = error_body(asked.wire, asked.provider, status, f"req_{request_id}", message, param)
        return JSONResponse(body, status, headers)

    async def models(self, _request: Request) -> Response:
        """Both shapes of the list of models in one: neither SDK minds the other's fields."""
        listed = [
            {
                "id": model,
                "object": "model",
                "type": "model",
                "created": 0,
                "created_at": "1970-01-01T00:00:00Z",
                "display_name": model,
                "owned_by": provider_of(model, Wire.CHAT),
            }
            for model in MODELS
        ]
        ends = {"first_id": MODELS[0], "last_id": MODELS[-1]}
        return JSONResponse({"object": "list", "data": listed, "has_more": False, **ends})

    async def bill(self, _request: Request) -> Response:
        return JSONResponse(summed(read_bill(self._bill.path)))

    async def misbehave(self, request: Request) -> Response:
        """POST one wish or a list of them; GET shows those in force; DELETE ends all."""
        if request.method == "DELETE":
            self._wishes.clear()
        elif request.method == "POST":
            try:
                value = json.loads(await request.body())
                wishes = [Misbehaviour.model_validate(wish) for wish in (value if isinstance(value, list) else [value])]
                for wish in wishes:
                    self._wishes.add(wish)
            except (ValidationError, ValueError) as error:
                return JSONResponse({"error": str(error)}, 400)
            log.info("simulator.misbehaviour_wished", modes=[wish.mode.value for wish in wishes])
        return JSONResponse({"misbehaviours": list(self._wishes)})

    async def health(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok", "pace": asdict(self._pace)})


def create_app(bill: BillFile, pace: Pace, wishes: Misbehaviours) -> Starlette:
    """The simulator as an ASGI application."""
    provider = Provider(bill, pace, wishes)
    routes = [
        Route("/_simulator/bill", provider.bill),
        Route("/_simulator/health", provider.health),
        Route("/_simulator/misbehave", provider.misbehave, methods=["GET", "POST", "DELETE"]),
        Route("/v1/messages", provider.endpoint(Wire.ANTHROPIC), methods=["POST"]),
    ]
    for prefix in _PREFIXES:
        routes += [
            Route(f"{prefix}/chat/completions", provider.endpoint(Wire.CHAT), methods=["POST"]),
            Route(f"{prefix}/responses", provider.endpoint(Wire.RESPONSES), methods=["POST"]),
            Route(f"{prefix}/models", provider.models),
        ]
    return Starlette(routes=routes)


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise BadRequest(f"the body has more than {BODY_BYTES_MAX} bytes")
    return bytes(body)


def _has_key(request: Request) -> bool:
    bearer = request.headers.get("authorization", "").removeprefix("Bearer").strip()
    return bool(bearer or request.headers.get("x-api-key", "").strip())


def _client_id(request: Request) -> str:
    return request.headers.get(CLIENT_REQUEST_ID, "")


def _line(request: Request, asked: Asked, request_id: str, status: str, http_status: int, billed: Buckets) -> BillLine:
    return BillLine(
        at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        client_request_id=_client_id(request),
        request_id=f"req_{request_id}",
        provider=asked.provider,
        model=asked.model,
        wire=asked.wire.value,
        stream=asked.stream,
        status=status,
        http_status=http_status,
        **asdict(billed),
    )
