"""What the conductor answers about models: which there are, and how well they are."""

from datetime import UTC, datetime, timedelta

import grpc
from eventlog import Conflict, Tip
from factory.log.v1 import LogPosition
from factory.model.v1 import (
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
from policy.health import State, recovered_by_hand, tripped_by_hand
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
        pause = request.duration.ToTimedelta() if request.HasField("duration") else HAND_PAUSE
        if not PAUSE_MIN <= pause <= PAUSE_MAX:
            what = f"1 minute to 24 hours, found {pause.total_seconds():g} s"
            raise Problem(grpc.StatusCode.INVALID_ARGUMENT, f"duration: {what}", violations=[("duration", what)])
        who = caller().subject
        sequence = await self._say(
            request.model, lambda now: tripped_by_hand(request.model, who, now, pause)
        )
        return TripResponse(position=LogPosition(stream="EVENTS", sequence=sequence))

    async def Recover(self, request: RecoverRequest, context: object) -> RecoverResponse:
        self._check(request.model)
        await self._progress.reach(await self._rt.log.last_sequence())
        breakers = self._tasks.book.health.breakers(request.model, datetime.now(UTC))
        if not any(breaker.is_open for breaker in breakers):
            raise Problem(
                grpc.StatusCode.FAILED_PRECONDITION, f"no breaker of {request.model} is open", reason="MODEL_STATE"
            )
        who = caller().subject
        sequence = await self._say(request.model, lambda _: recovered_by_hand(request.model, who))
        return RecoverResponse(position=LogPosition(stream="EVENTS", sequence=sequence))

    async def _say(self, model, fact_at) -> int:
        raise NotImplementedError

    def _check(self, model: str) -> None:
        if model not in self._tasks.rules.models:
            what = f"one of {', '.join(sorted(self._tasks.rules.models))}, found {model[:40]!r}"
            raise Problem(grpc.StatusCode.INVALID_ARGUMENT, f"model: {what}", violations=[("model", what)])
