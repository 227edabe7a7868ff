"""The executor's composition: it takes requests for phases from its queue and sees each through to its result.

What to do next is decided in `phase.py`; here it is done: fetch, ask, store, append. Never retries a call by itself and
never decides what a failure means for the task.
"""

import asyncio
import contextlib
import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog
from artifacts import Artifacts
from eventlog import Conflict, Past, Stale
from factory.artifact.v1 import ArtifactRef
from factory.call.v1 import ModelCalled, ModelCallStarted
from factory.event.v1 import AnyFact
from factory.phase.v1 import (
    PHASE_FAILURE_CONTEXT_TOO_LARGE,
    PHASE_FAILURE_POISON,
    PhaseFailed,
    PhaseRequested,
)
from policy.models import Model, models_from
from runtime import Runtime, Service, Work

from executor.adapters import desk, wires
from executor.adapters.bases import Bases
from executor.adapters.jobs import CannotAsk, Job, preparing
from executor.adapters.live import publishing
from executor.adapters.offload import worked
from executor.adapters.patient import Patient
from executor.adapters.received import Wire
from executor.adapters.stops import Stops, stoppable
from executor.answer import Answer, Question
from executor.making import Making
from executor.outcome import Ending, ending_of, failure_of, phase_failed
from executor.phase import (
    Ask,
    Hopeless,
    Judge,
    Judgement,
    Report,
    Request,
    Settled,
    StandBack,
    Step,
    call_id,
    given_up,
    next_step,
    request_of,
    stopped,
    with_call,
)
from executor.prompt import ContextTooLarge, prompt_for
from executor.settings import Settings, settings_from
from executor.transcript import called, request_json, response_json, started

log = structlog.get_logger()

STAND_BACK_POLL_S = 0.5
# How long after its end a call still counts as ours: its facts are on their way to the log.
REPORTING_S = 5.0


def service(env: Mapping[str, str]) -> Service:
    """The executor of the model that `EXECUTOR_MODEL` names."""
    settings = settings_from(env, models_from(env))
    lane = f"executor-{settings.model.name}"

    async def setup(rt: Runtime) -> None:
        executor = Executor(rt, settings)
        await executor.stops.hear(rt.nc.subscribe, rt.settings.org)
        rt.worker(executor.handle, executor.poison, slots=settings.slots, closed=executor.closed)
        rt.on_ready(executor.warm_up)
        rt.on_stop(executor.bases.close)

    return Service(name=lane, lane=lane, setup=setup)


@dataclass(slots=True)
class Executor:
    """One model, its wire, and the calls that this process is making.

    The wire is open for as long as the process lives: to close it in a drain would break off calls that are paid for.
    """

    rt: Runtime
    settings: Settings
    making: Making = field(default_factory=Making)
    stops: Stops = field(default_factory=Stops)
    bases: Bases = field(default_factory=Bases)
    wire: Wire | None = None
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def model(self) -> Model:
        return self.settings.model

    @property
    def artifacts(self) -> Artifacts:
        """Where everything is put: what comes after a call has been paid for."""
        return Patient(self.rt.artifacts)

    async def warm_up(self) -> None:
        """Imports the SDK, which takes seconds, before the first call needs it and after the service is ready."""
        await self._opened()

    async def handle(self, work: Work, past: Past) -> Sequence[AnyFact]:
        """Sees one request through; what it returns is appended by the runtime, in one message."""
        request = work.request
        assert isinstance(request, PhaseRequested), f"{work.request_id!r} is no request for a phase"
        found = {call.started.call_id for call in self._lane(request, past).open}
        with self.stops.hints(work.id) as hinted:
            try:
                ready = preparing(request, past, self.settings, self.rt.artifacts, self.bases)
                async with ready as material:
                    job = Job(work, request, material, past, hinted, found)
                    return await self._see_through(job)
            except CannotAsk as cannot:
                return self._given_up(request, past, cannot.failure)

    def closed(self, work: Work, past: Past) -> Sequence[AnyFact]:
        """What is said of a request that was closed before it had an answer: whoever holds money for it lets go."""
        request = work.request
        assert isinstance(request, PhaseRequested), f"{work.request_id!r} is no request for a phase"
        return self._given_up(request, past, stopped(request.request_id))

    def poison(self, work: Work, past: Past) -> Sequence[AnyFact]:
        """What is said of a request that was delivered too often without an outcome: what was begun for it is lost."""
        request = work.request
        assert isinstance(request, PhaseRequested), f"{work.request_id!r} is no request for a phase"
        detail = f"delivered {work.deliveries} times without an outcome"
        return self._given_up(request, past, failure_of(work.request_id, PHASE_FAILURE_POISON, detail))

    async def _see_through(self, job: Job) -> Sequence[AnyFact]:
        while True:
            match self._next_step(self._lane(job.request, job.past), job):
                case Settled():
                    return []
                case Report(facts):
                    return facts
                case Judge(call):
                    assert call.ended is not None, f"{call.started.call_id!r} was answered"
                    job.judged[call.number] = await self._judged_again(job, call.ended)
                case StandBack(call_ids):
                    await self._stand_back(job, call_ids)
                case Ask() as ask:
                    if (facts := await self._ask(job, ask)) is not None:
                        return facts

    async def _ask(self, job: Job, ask: Ask) -> Sequence[AnyFact] | None:
        """Makes one call; the facts that end the request, or None when there is more to do."""
        wire = await self._opened()
        try:
            start, question = await self._started(job, ask)
        except ContextTooLarge as error:
            failure = failure_of(job.request.request_id, PHASE_FAILURE_CONTEXT_TOO_LARGE, str(error))
            return [*ask.lost, failure]
        except Conflict:
            await self._read_on(job)
            return None
        try:
            end, judgement = await self._called(job, wire, start, question)
        except BaseException:
            self.making.leave(start.call_id)
            raise
        asyncio.get_running_loop().call_later(REPORTING_S, self.making.leave, start.call_id)
        job.judged[ask.number] = judgement
        if end.latency.ToTimedelta().total_seconds() >= self.rt.settings.heartbeat_s or job.hinted.is_set():
            # Else nobody can have taken the request from us, and who closes it says so; it costs a round trip.
            with contextlib.suppress(Stale):  # the end of a paid call is recorded whatever can be read
                await self._read_on(job)
        match self._next_step(with_call(self._lane(job.request, job.past), ask, start, end), job):
            case Report(facts):
                return [end, *facts]
            case _:
                await self._recorded(job, end)
                return None

    async def _recorded(self, job: Job, end: ModelCalled) -> None:
        """Puts the end of a call on record by itself."""
        recorded = await self.rt.log.persist(job.work.id, [end], cause=job.work.event)
        await self._read_on(job, at_least=recorded.sequence)

    async def _started(self, job: Job, ask: Ask) -> tuple[ModelCallStarted, Question]:
        """Obtains the right to make call `ask.number`: raises Conflict if somebody else has done anything since."""
        limit = min(job.request.max_output_tokens or self.model.max_output_tokens, self.model.max_output_tokens)
        window = self.model.context_window_tokens - limit
        budget = min(window, job.request.max_input_tokens or window)
        assignment = job.material.assignment
        prompt = await worked(assignment.characters, prompt_for, assignment, ask.exchanges, budget_tokens=budget)
        question = Question(
            call_id=call_id(job.work.id, job.request.request_id, ask.number),
            provider_model=self.model.provider_model,
            system=prompt.system,
            messages=prompt.messages,
            max_output_tokens=limit,
            timeout_s=self._timeout_s(job.request),
        )
        stored = await self.artifacts.put(request_json(question))
        start = started(question, job.request, self.model, stored, prompt.tokens_estimate)
        self.making.claim(start.call_id)
        try:
            recorded = await self.rt.log.append(
                job.work.id,
                [*ask.lost, start],
                after=job.past.tip(self.rt.lane),
                cause=job.work.event,
                read_to=job.past.read_to,
            )
        except BaseException:
            self.making.leave(start.call_id)
            raise
        self.making.has_begun(start.call_id)
        log.info("call.started", call=start.call_id, sequence=recorded.sequence, lost=len(ask.lost))
        return start, question

    async def _called(
        self, job: Job, wire: Wire, start: ModelCallStarted, question: Question
    ) -> tuple[ModelCalled, Judgement]:
        """One attempt on the wire, and what came of it."""
        begun = time.monotonic()
        told = publishing(self.rt.nc.publish, self.rt.settings.org, job.work.id, start.call_id)
        still_wanted = functools.partial(self._is_wanted, job)
        watched = stoppable(still_wanted, job.hinted, heartbeat_s=self.rt.settings.heartbeat_s)
        async with told as on_text, watched as stopping:
            answer = await wire.ask(question, on_text, stopping)
        latency_s = time.monotonic() - begun
        ending = ending_of(answer, now=datetime.now(UTC), secret=self.settings.api_key)
        log.info("call.ended", call=start.call_id, outcome=ending.outcome, failure=ending.failure, latency_s=latency_s)
        # Both before the event that names what they store, and neither needs the other.
        stored, judgement = await asyncio.gather(self._stored(answer), self._found(job, answer, ending))
        end = called(start, answer, ending, self.model.wire, stored, latency_s)
        if isinstance(judgement, Exception):
            # The answer is paid for. It is read again at the next delivery, and not asked for again.
            await self._recorded(job, end)
            raise judgement
        return end, judgement

    async def _stored(self, answer: Answer) -> ArtifactRef | None:
        """Keeps what was received, if anything was."""
        received = answer.text or answer.refusal or answer.raw_usage or answer.fault is None
        return await self.artifacts.put(response_json(answer)) if received else None

    async def _found(self, job: Job, answer: Answer, ending: Ending) -> Judgement | Exception:
        """What the answer is worth, or why that could not be found out."""
        if ending.failure:
            return Hopeless(phase_failed(job.request.request_id, ending))
        try:
            return await self._judged(job, answer.text)
        except Exception as error:
            return error

    async def _is_wanted(self, job: Job) -> bool:
        await self._read_on(job)
        return job.is_wanted

    async def _judged_again(self, job: Job, end: ModelCalled) -> Judgement:
        """Reads a recorded answer as if it had just come: it is not paid for twice."""
        answer = await desk.recorded(self.rt.artifacts, job.request, end.response)
        if isinstance(answer, Hopeless):
            return answer
        ending = ending_of(answer, now=datetime.now(UTC))
        if ending.failure:
            return Hopeless(phase_failed(job.request.request_id, ending))
        log.info("call.replayed", call=end.call_id)
        return await self._judged(job, answer.text)

    async def _judged(self, job: Job, text: str) -> Judgement:
        return await desk.judged(self.artifacts, job.material.tree, job.request, self.model.name, text)

    async def _stand_back(self, job: Job, call_ids: Sequence[str]) -> None:
        """Waits for calls that somebody else is making; one that takes too long is taken for deserted."""
        await asyncio.sleep(STAND_BACK_POLL_S)
        await self._read_on(job)
        now = time.monotonic()
        for id in call_ids:
            since = job.waiting_since.setdefault(id, now)
            if now - since > self._timeout_s(job.request) + REPORTING_S:
                job.deserted.add(id)

    async def _read_on(self, job: Job, *, at_least: int = 0) -> None:
        job.past = await self.rt.log.read(job.work.id, at_least=at_least, known=job.past)

    def _lane(self, request: PhaseRequested, past: Past) -> Request:
        facts = (fact for recorded in past.lane(self.rt.lane) for fact in recorded.facts)
        return request_of(facts, request.request_id)

    def _next_step(self, request: Request, job: Job) -> Step:
        """What is next, with the calls that somebody is making as they are now."""
        foreign = self.making.foreign(request, job.deserted)
        return next_step(request, job.judged, foreign, is_wanted=job.is_wanted, calls_max=job.request.calls_max)

    def _given_up(self, request: PhaseRequested, past: Past, failure: PhaseFailed) -> Sequence[AnyFact]:
        return given_up(self._lane(request, past), failure, self.making.now())

    def _timeout_s(self, request: PhaseRequested) -> float:
        asked = request.timeout.ToTimedelta().total_seconds() if request.HasField("timeout") else 0.0
        return min(asked or self.settings.call_timeout_s, self.settings.call_timeout_s)

    async def _opened(self) -> Wire:
        if self.wire is None:
            async with self.opening:
                if self.wire is None:
                    self.wire = await asyncio.to_thread(wires.open_wire, self.model, self.settings.api_key)
        return self.wire
