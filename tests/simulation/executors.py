"""An executor as `executor/app.py` has it: every step is decided by the product's `executor.phase`."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

from eventlog import Conflict, Past, Stale
from eventlog.work import Work, is_void
from executor.making import Making
from executor.outcome import Ending, failure_of, phase_failed
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
    Unusable,
    Usable,
    call_id,
    given_up,
    next_step,
    request_of,
    stopped,
    with_call,
)
from factory.artifact.v1 import ArtifactRef
from factory.call.v1 import CALL_OUTCOME_ABANDONED, ModelCalled, ModelCallStarted
from factory.event.v1 import AnyFact
from factory.phase.v1 import (
    PHASE_FAILURE_ARTIFACT_MISSING,
    PHASE_FAILURE_CONTEXT_TOO_LARGE,
    PHASE_FAILURE_POISON,
    PHASE_FAILURE_STOPPED,
    PHASE_FAILURE_UNAUTHENTICATED,
    VERDICT_APPROVE,
    VERDICT_REQUEST_CHANGES,
    PhaseCompleted,
    PhaseRequested,
)
from factory.task.v1 import PHASE_KIND_REVIEW
from policy.models import DEFAULT_MODELS, Model
from simulation.bus import Item
from simulation.provider import Reply, blob
from simulation.workers import Worker

STAND_BACK_POLL_MS = 500
HEARTBEAT_MS = 15_000
CALL_MS_MAX = 60_000
TIMEOUT_MS = 90_000
REPORTING_MS = 5_000
INPUT_TOKENS_MAX = 5_000

Steps = Generator[str | int, None, Sequence[AnyFact]]


@dataclass(slots=True)
class Job:
    """One request in hand."""

    work: Work
    request: PhaseRequested
    past: Past
    item: Item
    deserted: set[str]
    judged: dict[int, Judgement] = field(default_factory=dict)
    waiting_since: dict[str, int] = field(default_factory=dict)

    @property
    def is_wanted(self) -> bool:
        return not is_void(self.past, self.work.request_id, after=self.work.sequence)


@dataclass
class Executor(Worker):
    """One process of one model."""

    making: Making = field(default_factory=Making)
    # until when calls that have ended still count as this process's own
    leaving: list[tuple[int, str]] = field(default_factory=list)

    @property
    def calls(self) -> Making:
        """The calls that this process is making now."""
        over = [id for until, id in self.leaving if until <= self.world.now]
        self.leaving = [(until, id) for until, id in self.leaving if until > self.world.now]
        for id in over:
            self.making.leave(id)
        return self.making

    @property
    def model(self) -> Model:
        return DEFAULT_MODELS[self.service.removeprefix("executor-")]

    def forget(self) -> None:
        self.making, self.leaving = Making(), []

    def closed(self, work: Work, past: Past) -> Sequence[AnyFact]:
        assert isinstance(work.request, PhaseRequested), f"{work.request_id!r} is no request for a phase"
        return given_up(self.lane(work.request, past), stopped(work.request_id), self.calls.now())

    def poison(self, work: Work) -> Sequence[AnyFact]:
        self.world.counts["poisoned items"] += 1
        return [failure_of(work.request_id, PHASE_FAILURE_POISON, f"delivered {work.deliveries} times")]

    def handle(self, work: Work, past: Past, item: Item) -> Steps:
        """Sees one request through."""
        request, world = work.request, self.world
        assert isinstance(request, PhaseRequested), f"{work.request_id!r} is no request for a phase"
        yield "fetches what it needs"
        if world.happens(world.weather.failure / 8):
            reason = world.chance.choice((PHASE_FAILURE_ARTIFACT_MISSING, PHASE_FAILURE_UNAUTHENTICATED))
            failure = failure_of(request.request_id, reason, "nothing could be asked")
            return given_up(self.lane(request, past), failure, self.calls.now())
        found = {call.started.call_id for call in self.lane(request, past).open}
        return (yield from self.finish(Job(work, request, past, item, found)))

    def finish(self, job: Job) -> Steps:
        while True:
            match self.following(self.lane(job.request, job.past), job):
                case Settled():
                    return []
                case Report(facts):
                    return facts
                case Judge(call):
                    assert call.ended is not None, f"{call.started.call_id!r} was answered"
                    yield f"reads the recorded answer of {call.started.call_id}"
                    self.world.counts["recorded answers read again"] += 1
                    job.judged[call.number] = self.judged_again(job.request, call.ended.response.digest)
                case StandBack(call_ids):
                    yield from self.stand_back(job, call_ids)
                case Ask() as ask:
                    if (facts := (yield from self.ask(job, ask))) is not None:
                        return facts

    def ask(self, job: Job, ask: Ask) -> Generator[str | int, None, Sequence[AnyFact] | None]:
        """Makes one call; the facts that end the request, or None when there is more to do."""
        world = self.world
        if world.happens(world.weather.failure / 16):
            failure = failure_of(job.request.request_id, PHASE_FAILURE_CONTEXT_TOO_LARGE, "too large a prompt")
            return [*ask.lost, failure]
        try:
            start = yield from self.started(job, ask)
        except Conflict:
            yield from self.read_on(job)
            return None
        begun = world.now
        reply = yield from self.call(job, start)
        end, judgement = self.ended(job.request, start, reply)
        job.judged[ask.number] = judgement
        if world.now - begun >= HEARTBEAT_MS:
            try:
                yield from self.read_on(job)
            except Stale:
                world.counts["answers kept although nothing could be read"] += 1
        match self.following(with_call(self.lane(job.request, job.past), ask, start, end), job):
            case Report(facts):
                return [end, *facts]
            case _:
                stored = yield from self.report(job.work.id, [end], cause=job.work.event)
                yield from self.read_on(job, stored.sequence)
                return None

    def started(self, job: Job, ask: Ask) -> Generator[str | int, None, ModelCallStarted]:
        """Obtains the right to make the call: raises Conflict if somebody else has done anything since."""
        start = ModelCallStarted(
            call_id=call_id(job.work.id, job.request.request_id, ask.number),
            request_id=job.request.request_id,
            phase=job.request.phase,
            model=self.model.name,
            provider=self.model.provider,
            provider_model=self.model.provider_model,
            max_output_tokens=job.request.max_output_tokens,
            input_tokens_estimate=min(INPUT_TOKENS_MAX, job.request.max_input_tokens or INPUT_TOKENS_MAX),
        )
        self.making.claim(start.call_id)
        try:
            tip = job.past.tip(self.service)
            yield from self.append(
                job.work.id, [*ask.lost, start], after=tip, cause=job.work.event, read_to=job.past.read_to
            )
        except Exception:
            self.making.leave(start.call_id)
            raise
        self.making.has_begun(start.call_id)
        self.world.counts["calls booked as lost"] += len(ask.lost)
        return start

    def call(self, job: Job, start: ModelCallStarted) -> Generator[str | int, None, Reply]:
        """One attempt on the wire. From the moment that it arrives there, the provider bills it."""
        world = self.world
        yield f"calls {start.model} as {start.call_id}"
        reply = world.outside.call(
            world.chance,
            world.weather.failure,
            start.call_id,
            start.model,
            start.input_tokens_estimate,
            start.max_output_tokens,
        )
        world.counts["calls"] += 1
        until = world.now + world.chance.randint(1, CALL_MS_MAX)
        while (left := until - world.now) > 0:
            yield min(left, HEARTBEAT_MS)
            try:
                yield from self.read_on(job)
            except Stale:
                continue
            if not job.is_wanted and world.now < until:
                world.counts["calls stopped"] += 1
                reply = Reply(CALL_OUTCOME_ABANDONED, PHASE_FAILURE_STOPPED)
                break
        self.leaving.append((world.now + REPORTING_MS, start.call_id))
        return reply

    def ended(self, request: PhaseRequested, start: ModelCallStarted, reply: Reply) -> tuple[ModelCalled, Judgement]:
        end = ModelCalled(
            call_id=start.call_id,
            request_id=start.request_id,
            phase=start.phase,
            model=start.model,
            provider=start.provider,
            provider_model=start.provider_model,
            outcome=reply.outcome,
            usage=reply.usage,
            response=ArtifactRef(digest=reply.response, size=1) if reply.response else None,
            http_status=reply.http_status,
        )
        if reply.failure:
            ending = Ending(reply.outcome, reply.failure, reply.retry_after_s, "the provider has trouble")
            return end, Hopeless(phase_failed(request.request_id, ending))
        return end, self.judged(request, reply.response)

    def judged(self, request: PhaseRequested, digest: str) -> Judgement:
        """What a stored answer is worth; the same whoever reads it, and whenever."""
        answer = self.world.outside.answers[digest]
        if answer.failure:
            return Hopeless(failure_of(request.request_id, answer.failure, "the answer says so"))
        if not answer.is_usable:
            return Unusable(digest, "its edits do not apply")
        if request.phase == PHASE_KIND_REVIEW:
            asks = int(answer.unique) % 3 == 0
            verdict = VERDICT_REQUEST_CHANGES if asks else VERDICT_APPROVE
            return Usable(
                PhaseCompleted(
                    request_id=request.request_id,
                    change_digest=request.change_digest,
                    verdict=verdict,
                    findings=blob(f"findings-{answer.unique}") if asks else None,
                )
            )
        return Usable(PhaseCompleted(request_id=request.request_id, change_digest=f"change-{answer.unique}"))

    def judged_again(self, request: PhaseRequested, digest: str) -> Judgement:
        """Reads a recorded answer as if it had just come: it is not paid for twice."""
        return self.judged(request, digest)

    def stand_back(self, job: Job, call_ids: Sequence[str]) -> Generator[str | int, None, None]:
        """Waits for calls that somebody else is making; one that takes too long is taken for deserted."""
        world = self.world
        world.counts["stood back for another's call"] += 1
        yield STAND_BACK_POLL_MS
        world.queues[self.service].in_progress(job.item, world.now)
        yield from self.read_on(job)
        for id in call_ids:
            since = job.waiting_since.setdefault(id, world.now)
            if world.now - since > TIMEOUT_MS + REPORTING_MS:
                job.deserted.add(id)

    def read_on(self, job: Job, at_least: int = 0) -> Generator[str | int, None, None]:
        job.past = yield from self.read(job.work.id, at_least, job.past)

    def lane(self, request: PhaseRequested, past: Past) -> Request:
        facts = (fact for recorded in past.lane(self.service) for fact in recorded.facts)
        return request_of(facts, request.request_id)

    def following(self, request: Request, job: Job) -> Step:
        """What is next, with the calls that somebody is making as they are now."""
        foreign = self.calls.foreign(request, job.deserted)
        return next_step(request, job.judged, foreign, is_wanted=job.is_wanted, calls_max=job.request.calls_max)
