"""Workers as `runtime/worker.py` has them: one item per slot, the facts first, then the acknowledgement."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from eventlog import Conflict, Past, Stale
from eventlog.work import Request, Work, is_answered, is_void
from factory.classification.v1 import TaskClassified
from factory.context.v1 import CONTEXT_FAILURE_POISON, ContextFailed, ContextFailure, ContextGathered, ContextRequested
from factory.delivery.v1 import (
    DELIVERY_FAILURE_POISON,
    DeliveryFailed,
    DeliveryFailure,
    DeliveryRequested,
    PullRequestOpened,
)
from factory.event.v1 import AnyFact
from factory.gate.v1 import (
    GATE_VERDICT_BLOCK,
    GATE_VERDICT_PASS,
    GATE_VERDICT_UNKNOWN,
    GateJudged,
    GateRequested,
)
from factory.task.v1 import SCOPE_FEATURE, SCOPE_FOCUSED, ClassificationRequested, TaskType
from policy.routes import ROUTES
from runtime.worker import DELIVERIES_MAX, NAK_DELAY_MAX_S
from simulation.bus import Item, Queue
from simulation.process import Doing, Handler, Process, Refused
from simulation.provider import blob

TYPES = tuple(ROUTES)
CONTEXT_FAILURES = (
    ContextFailure.CONTEXT_FAILURE_REPOSITORY_NOT_FOUND,
    ContextFailure.CONTEXT_FAILURE_NEEDS_CREDENTIALS,
    ContextFailure.CONTEXT_FAILURE_UNREACHABLE,
)
DELIVERY_FAILURES = (
    DeliveryFailure.DELIVERY_FAILURE_UNREACHABLE,
    DeliveryFailure.DELIVERY_FAILURE_REJECTED,
    DeliveryFailure.DELIVERY_FAILURE_TREE_DIFFERS,
)
WORK_MS_MAX = 5_000


@dataclass
class Worker(Process):
    """Takes items of one lane; what it makes of one is up to its kind."""

    def sources(self) -> Sequence[tuple[Queue, Handler]]:
        return ((self.world.queues[self.service], self.see_through),)

    def see_through(self, item: Item) -> Doing:
        queue = self.world.queues[self.service]
        stored, request = item.body
        work = Work(stored.event, stored.sequence, request, item.deliveries)
        try:
            past = yield from self.read(work.id, work.sequence)
            if is_answered(past, work, self.service):
                self.world.counts["work found answered"] += 1
                facts: Sequence[AnyFact] = ()
            elif is_void(past, work.request_id):
                self.world.counts["work found void"] += 1
                facts = self.closed(work, past)
            elif work.deliveries > DELIVERIES_MAX:
                facts = self.poison(work)
            else:
                facts = yield from self.handle(work, past, item)
            if facts:
                yield from self.report(work.id, facts, cause=work.event)
            yield from self.ack(queue, item)
        except (Stale, Conflict, Refused):
            self.nak(queue, item, int(min(200 * 4**work.deliveries, NAK_DELAY_MAX_S * 1000)))

    def handle(self, work: Work, past: Past, item: Item) -> Generator[str | int, None, Sequence[AnyFact]]:
        """The facts that answer a request."""
        yield self.world.chance.randint(1, WORK_MS_MAX)
        return [answered(self, work.id, work.request)]

    def closed(self, work: Work, past: Past) -> Sequence[AnyFact]:
        """What is said of a request that was closed before it had an answer."""
        return ()

    def poison(self, work: Work) -> Sequence[AnyFact]:
        self.world.counts["poisoned items"] += 1
        return [poisoned(work.request)]


@dataclass
class Delivery(Worker):
    """Finds or opens the pull request, then says so."""

    def handle(self, work: Work, past: Past, item: Item) -> Generator[str | int, None, Sequence[AnyFact]]:
        assert isinstance(work.request, DeliveryRequested)
        world = self.world
        yield world.chance.randint(1, WORK_MS_MAX)
        if world.happens(world.weather.failure / 2):
            reason = world.chance.choice(DELIVERY_FAILURES)
            return [DeliveryFailed(request_id=work.request_id, reason=reason, detail="the remote has trouble")]
        yield f"opens the pull request of {work.id}"
        url = self.opened(work.id)
        change = work.request.change_digest
        return [PullRequestOpened(request_id=work.request_id, url=url, branch="b", commit="c", change_digest=change)]

    def opened(self, task_id: str) -> str:
        return self.world.outside.open_pull_request(task_id)


def answered(worker: Worker, task_id: str, request: Request) -> AnyFact:
    """What a classifier, a context or a gate finds."""
    world, id = worker.world, request.request_id
    match request:
        case ClassificationRequested():
            scope = SCOPE_FEATURE if world.happens(0.2) else SCOPE_FOCUSED
            return TaskClassified(request_id=id, type=world.chance.choice(TYPES), scope=scope)
        case ContextRequested() if world.happens(world.weather.failure / 4):
            reason = world.chance.choice(CONTEXT_FAILURES)
            return ContextFailed(request_id=id, reason=reason, detail="the repository has trouble")
        case ContextRequested():
            snapshot, pack = blob(f"snapshot-{task_id}"), blob(f"pack-{task_id}")
            return ContextGathered(
                request_id=id, base_commit="b" * 40, base_branch="main", snapshot=snapshot, pack=pack, tokens=900
            )
        case GateRequested(change_digest=change):
            verdict = GATE_VERDICT_PASS
            if world.happens(0.3):
                verdict = world.chance.choice((GATE_VERDICT_BLOCK, GATE_VERDICT_UNKNOWN))
            evidence = blob(f"evidence-{change}")
            return GateJudged(request_id=id, change_digest=change, verdict=verdict, evidence=evidence)
        case _:
            raise AssertionError(f"{worker.name} was offered {request!r}")


def poisoned(request: Request) -> AnyFact:
    """What is said of a request that was delivered too often without an outcome."""
    id = request.request_id
    match request:
        case ClassificationRequested():
            return TaskClassified(request_id=id, type=TaskType.TASK_TYPE_LOGIC, scope=SCOPE_FOCUSED)
        case ContextRequested():
            return ContextFailed(request_id=id, reason=CONTEXT_FAILURE_POISON, detail="delivered too often")
        case GateRequested(change_digest=change):
            return GateJudged(request_id=id, change_digest=change, verdict=GATE_VERDICT_UNKNOWN)
        case DeliveryRequested():
            return DeliveryFailed(request_id=id, reason=DELIVERY_FAILURE_POISON, detail="delivered too often")
        case _:
            raise AssertionError(f"no worker of this kind takes {request!r}")
