"""Parts with one mistake each, of the kind that people make. The simulation is worth what it finds of these."""

from collections.abc import Generator, Sequence
from dataclasses import replace
from random import Random

from conductor.budget import Command, Decision, Reserve
from conductor.budget import decide as decide_about_money
from conductor.budget_month import Carried, Month, Orders
from conductor.known import Known
from conductor.next_step import decide
from conductor.state import Task
from conductor.world import World as ToDecideIn
from eventlog import Recorded, Tip
from eventlog.work import Request, Work, is_answered
from executor.phase import Ask, Judgement, Unusable, call_id
from factory.call.v1 import ModelCallStarted
from factory.event.v1 import AnyFact, Event
from factory.phase.v1 import PhaseFailed, PhaseRequested
from policy.health import probe
from simulation.bus import Item, Log, Stored
from simulation.conductors import Conductor
from simulation.executors import Executor, Job
from simulation.process import Doing
from simulation.provider import Line, Outside
from simulation.workers import Delivery, Worker


class ForgetsWhatIsOpen(Known):
    """A fold that does not keep what was asked."""

    def learn(self, recorded: Recorded) -> None:
        super().learn(recorded)
        self.task = replace(self.task, open=None)


class CountsLateFailures(Known):
    """A fold that takes a failure for one of its own, whatever request it answers."""

    def learn(self, recorded: Recorded) -> None:
        before = self.task.open
        super().learn(recorded)
        for fact in recorded.facts:
            if isinstance(fact, PhaseFailed) and (before is None or before.request_id != fact.request_id):
                self.task = replace(self.task, attempts=self.task.attempts + 1)


def goes_on_after_the_end(task: Task, world: ToDecideIn) -> list[AnyFact]:
    """A decider that does not ask whether the task has ended."""
    return decide(replace(task, ended=None) if task.steps else task, world)


class NoConcurrencyControl(Log):
    """A log that takes an append whatever was appended since: the filter strings of two writers differ."""

    def is_taken(self, service: str, id: str, after: Tip) -> bool:
        return False


class OffersBeforeItAppends(Conductor):
    """Work is published right away, and not when the request has come back from the log."""

    def append(
        self, id: str, facts: Sequence[AnyFact], *, after: Tip, cause: Event | None, read_to: int = 0
    ) -> Generator[str | int, None, Stored]:
        for fact in facts:
            if isinstance(fact, Request):
                yield f"offers {fact.request_id} of {id}"
                self.world.offer(Stored(Event(id=id, event_id="not yet"), 0), fact)
        return (yield from super().append(id, facts, after=after, cause=cause, read_to=read_to))


class TrustsAnyReplica(Conductor):
    """A decision does not wait until what has caused it has been read."""

    def reach(self, sequence: int) -> Doing:
        yield "reads on, as far as may be"
        self.watch(self.world.replica())


class OffersNothingAgain(Conductor):
    """A conductor that believes that no queue is ever lost."""

    def offer_again(self) -> Doing:
        yield "rests"


class ForgetsLeases(Conductor):
    """Nobody finds out what became of a reservation whose request was never made."""

    def lease_timer(self, id: str) -> Doing:
        yield "rests"


class ClaimsNoProbe(Conductor):
    """A request is sent to see whether a model is well, without a word to the others."""

    def claimed(self, id: str, fact: PhaseRequested, world: ToDecideIn) -> Generator[str | int, None, bool]:
        claim = probe(fact.model, world.wellness(fact.model).type, id, fact.request_id, world.now)
        yield from self.report(f"model-{fact.model}", [claim], cause=Event(correlation_id=id))
        return True


def reserves_anew(month: Month, commands: Sequence[Command], orders: Orders, carried: Carried) -> Decision:
    """A reservation that is not one when it is asked for again."""
    again = [
        replace(one, reservation=f"{one.reservation}-{month.open}") if isinstance(one, Reserve) else one
        for one in commands
    ]
    return decide_about_money(month, again, orders, carried)


class AcknowledgesBeforeItReports(Worker):
    """An item is acknowledged before its result is in the log."""

    def see_through(self, item: Item) -> Doing:
        queue = self.world.queues[self.service]
        stored, request = item.body
        work = Work(stored.event, stored.sequence, request, item.deliveries)
        past = yield from self.read(work.id, 0)
        yield from self.ack(queue, item)
        if not is_answered(past, work, self.service):
            facts = yield from self.handle(work, past, item)
            yield from self.report(work.id, facts, cause=work.event)


class AsksAgainWhateverIsRecorded(Executor):
    """An answer is recorded at once; who comes after a crash does not read it, and pays for another."""

    def ask(self, job: Job, ask: Ask) -> Generator[str | int, None, Sequence[AnyFact] | None]:
        start = yield from self.started(job, ask)
        reply = yield from self.call(job, start)
        end, job.judged[ask.number] = self.ended(job.request, start, reply)
        stored = yield from self.report(job.work.id, [end], cause=job.work.event)
        yield from self.read_on(job, stored.sequence)
        return None

    def judged_again(self, request: PhaseRequested, digest: str) -> Judgement:
        return Unusable(digest, "was not read")


class CallsBeforeItSaysSo(Executor):
    """The call is made first, and its start is appended when it has an answer."""

    def ask(self, job: Job, ask: Ask) -> Generator[str | int, None, Sequence[AnyFact] | None]:
        name = call_id(job.work.id, job.request.request_id, ask.number)
        start = ModelCallStarted(
            call_id=name, request_id=job.request.request_id, max_output_tokens=100, input_tokens_estimate=100
        )
        yield from self.call(job, start)
        return (yield from super().ask(job, ask))


class OpensAnother(Delivery):
    """Delivery opens a pull request without looking for the one that is there."""

    def opened(self, task_id: str) -> str:
        there = self.world.outside.pull_requests.setdefault(task_id, [])
        there.append(f"https://example.com/{task_id}/pull/{len(there) + 1}")
        return there[-1]


class BillsTwice(Outside):
    """A provider whose bill has every fiftieth line twice: the ledger must not equal it."""

    def billed(self, chance: Random, call_id: str, model: str, input_max: int, output_max: int) -> Line:
        line = super().billed(chance, call_id, model, input_max, output_max)
        if chance.random() < 0.02:
            self.bill.append(line)
        return line
