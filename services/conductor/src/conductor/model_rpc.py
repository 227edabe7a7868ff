"""What the conductor answers about models: which there are, and how well they are."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import grpc
from eventlog import Conflict, Tip
from factory.log.v1 import LogPosition
from factory.model.v1 import (
    BREAKER_STATE_CLOSED,
    ListRequest,
    ListResponse,
    ModelRecovered,
    ModelServiceServicer,
    ModelTripped,
    RecoverRequest,
    RecoverResponse,
    TripRequest,
    TripResponse,
)
from factory.model.v1 import Model as ModelMessage
from policy.breaker import HAND_PAUSE
from policy.health import recovered_by_hand, tripped_by_hand
from policy.models import Model
from runtime import Problem, Runtime, caller

from conductor.adapters.progress import Progress
from conductor.adapters.tasks import ATTEMPTS_MAX, Tasks

PAUSE_MIN, PAUSE_MAX = timedelta(minutes=1), timedelta(days=1)


class ModelRpc(ModelServiceServicer):
    def __init__(self, rt: Runtime, tasks: Tasks, progress: Progress) -> None:
        self._rt = rt
        self._tasks = tasks
        self._progress = progress

    async def List(self, request: ListRequest, context: object) -> ListResponse:
        await self._progress.reach(await self._rt.log.last_sequence())
        now = datetime.now(UTC)
        return ListResponse(models=[self._view(model, now) for model in self._tasks.rules.models.values()])

    async def Trip(self, request: TripRequest, context: object) -> TripResponse:
        self._check(request.model)
        pause = _pause(request)
        who = caller().subject
        sequence = await self._say(request.model, lambda now: tripped_by_hand(request.model, who, now, pause))
        return TripResponse(position=LogPosition(stream="EVENTS", sequence=sequence))

    async def Recover(self, request: RecoverRequest, context: object) -> RecoverResponse:
        self._check(request.model)
        await self._progress.reach(await self._rt.log.last_sequence())
        breakers = self._tasks.book.health.breakers(request.model, datetime.now(UTC))
        if not any(breaker.state != BREAKER_STATE_CLOSED for breaker in breakers):
            raise Problem(
                grpc.StatusCode.FAILED_PRECONDITION, f"no breaker of {request.model} is open", reason="MODEL_STATE"
            )
        who = caller().subject
        sequence = await self._say(request.model, lambda _: recovered_by_hand(request.model, who))
        return RecoverResponse(position=LogPosition(stream="EVENTS", sequence=sequence))

    def _view(self, model: Model, now: datetime) -> ModelMessage:
        rules, book = self._tasks.rules, self._tasks.book
        price = book.prices.at(model.provider, model.provider_model, now)
        tier = price.tiers[0] if price else None
        return ModelMessage(
            model=model.name,
            display_name=model.display_name,
            family=model.family,
            provider=model.provider,
            provider_model=model.provider_model,
            configured=not rules.ruled_out.get(model.name, ""),
            ruled_out=rules.ruled_out.get(model.name, ""),
            pretend=model.pretend,
            context_window_tokens=model.context_window_tokens,
            image_input=model.image_input,
            structured_output=model.structured_output,
            input_pico_usd=tier.input_pico_usd if tier and tier.HasField("input_pico_usd") else None,
            output_pico_usd=tier.output_pico_usd if tier and tier.HasField("output_pico_usd") else None,
            price_version=price.version if price else "",
            health=book.health.message(model.name, now, book.prices),
        )

    async def _say(self, model: str, fact_at: Callable[[datetime], ModelTripped | ModelRecovered]) -> int:
        """Appends what somebody says of a model's health behind whatever was said before."""
        id = f"model-{model}"
        for _ in range(ATTEMPTS_MAX):
            await self._progress.reach(await self._rt.log.last_own(id))
            now, book = datetime.now(UTC), self._tasks.book
            tip = book.tips.get(id, Tip())
            try:
                stored = await self._rt.log.append(id, [fact_at(now)], after=tip, read_to=book.read_to, at=now)
            except Conflict:
                continue
            await self._progress.reach(stored.sequence)
            return stored.sequence
        raise Problem(grpc.StatusCode.ABORTED, f"the health of {model} changed {ATTEMPTS_MAX} times meanwhile")

    def _check(self, model: str) -> None:
        if model not in self._tasks.rules.models:
            what = f"one of {', '.join(sorted(self._tasks.rules.models))}, found {model[:40]!r}"
            raise Problem(grpc.StatusCode.INVALID_ARGUMENT, f"model: {what}", violations=[("model", what)])


def _pause(request: TripRequest) -> timedelta:
    """How long a model is to be left alone; Problem for a time that makes no sense."""
    if not request.HasField("duration"):
        return HAND_PAUSE
    # As seconds: a Duration may hold more than any timedelta.
    seconds = request.duration.seconds + request.duration.nanos / 1e9
    if not PAUSE_MIN.total_seconds() <= seconds <= PAUSE_MAX.total_seconds():
        what = f"1 minute to 24 hours, found {seconds:g} s"
        raise Problem(grpc.StatusCode.INVALID_ARGUMENT, f"duration: {what}", violations=[("duration", what)])
    return timedelta(seconds=seconds)
