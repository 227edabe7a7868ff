"""How a conductor decides about a task, as `conductor/adapters/tasks.py` has it: read, decide, reserve, append."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

from conductor.budget import Reserved
from conductor.budget_room import (
    Awaiting,
    Ended,
    NeverMade,
    Outcome,
    lane_id,
    month_of,
    project_and_month,
    reservation_id,
)
from conductor.known import Known
from conductor.next_step import waits
from conductor.world import World
from eventlog import Conflict, Tip
from factory.event.v1 import AnyFact, Event
from factory.phase.v1 import PhaseRequested
from factory.task.v1 import RequestExpired
from policy.health import probe
from simulation.process import Doing
from simulation.treasury import Treasurer

ATTEMPTS_MAX = 12
LOCKED_MS = 20

Judge = Callable[[Known, World], Sequence[AnyFact]]


@dataclass
class Decider(Treasurer):
    """Folds and decides; a decision that somebody else was faster with is made again."""

    deciding: set[str] = field(default_factory=set)
    # what it has said of a task and may not have read yet
    said: dict[str, int] = field(default_factory=dict)

    def forget(self) -> None:
        super().forget()
        self.deciding.clear()
        self.said.clear()

    def known(self, id: str, at_least: int) -> Generator[str | int, None, Known]:
        """The task as the log has it, including the event at `at_least`."""
        yield from self.reach(max(at_least, self.said.get(id, 0)))
        return self.task(id)

    def fresh(self, id: str) -> Generator[str | int, None, Known]:
        """The task with everything that any conductor has decided."""
        tip = yield from self.last_own(id)
        return (yield from self.known(id, tip.sequence))

    def advance(self, id: str, at_least: int, cause: Event | None) -> Generator[str | int, None, Known]:
        known = yield from self.known(id, at_least)
        if waits(known.task, self.world.moment):
            return known
        decide = self.world.parts.decide
        return (yield from self.decide(id, lambda known, world: decide(known.task, world), at_least, cause))

    def go_on_with(self, id: str, at_least: int) -> Doing:
        yield from self.advance(id, at_least, None)

    def judge(self, id: str, judge: Callable[[Known], Sequence[AnyFact]]) -> Generator[str | int, None, Known]:
        """A command, judged against the newest state."""
        tip = yield from self.last_own(id)
        return (yield from self.decide(id, lambda known, _: judge(known), tip.sequence, None))

    def view(self, id: str, known: Known) -> Generator[str | int, None, World]:
        """What deciding about a task needs, as far as this conductor has read."""
        project, month = known.task.project, month_of(self.world.moment)
        if project:
            yield from self.standings(project, month)
            yield from self.reach(self.money_known_to(project, month))
        standings = (self.known_standings(project, month) if project else None) or ()
        lane = lane_id(project, month) if standings else ""

        def reserved(request_id: str, model: str) -> int:
            return self.held(lane, reservation_id(id, request_id, model)) if lane else 0

        return self.book.world(
            id, known, self.world.rules, self.world.moment, lane=lane, budgets=standings, reserved=reserved
        )

    def decide(self, id: str, judge: Judge, at_least: int, cause: Event | None) -> Generator[str | int, None, Known]:
        while id in self.deciding:
            yield LOCKED_MS
        self.deciding.add(id)
        drawn: dict[tuple[str, str], None] = {}
        try:
            known = yield from self.decided(id, judge, at_least, cause, drawn)
        except Exception:
            yield from self.give_back(drawn)
            raise
        finally:
            self.deciding.discard(id)
        yield from self.give_back(drawn)
        return known

    def decided(
        self, id: str, judge: Judge, at_least: int, cause: Event | None, drawn: dict[tuple[str, str], None]
    ) -> Generator[str | int, None, Known]:
        for _ in range(ATTEMPTS_MAX):
            known = yield from self.known(id, at_least)
            world = yield from self.view(id, known)
            yield f"decides about {id}"
            facts = judge(known, world)
            tip, read_to, last = known.tip, known.read_to, known.last
            if not facts:
                return known
            if not (yield from self.secured(id, known, world, facts, drawn)):
                continue
            try:
                stored = yield from self.append(id, facts, after=tip, cause=cause or last, read_to=read_to)
            except Conflict:
                newest = yield from self.last_own(id)
                at_least = max(at_least, newest.sequence)
                continue
            self.said[id] = stored.sequence
            for fact in asked_in(facts):
                drawn.pop((fact.budget, reservation_id(id, fact.request_id, fact.model)), None)
            return known
        raise Conflict(f"{id!r} changed {ATTEMPTS_MAX} times while it was being decided about")

    def give_back(self, drawn: dict[tuple[str, str], None]) -> Doing:
        for lane, reservation in drawn:
            try:
                yield from self.release(lane, reservation)
            except Conflict:
                continue  # its lease ends

    def secured(
        self,
        id: str,
        known: Known,
        world: World,
        facts: Sequence[AnyFact],
        drawn: dict[tuple[str, str], None],
    ) -> Generator[str | int, None, bool]:
        """Reserves the money and claims the probe that a request needs; False where somebody was faster."""
        for fact in asked_in(facts):
            if fact.budget:
                answer = yield from self.reserve(
                    month_of(world.now),
                    id,
                    fact.request_id,
                    fact.model,
                    fact.worst_case_pico_usd,
                    fact.calls_max,
                    known.task.project,
                )
                if isinstance(answer, Reserved):
                    drawn[fact.budget, reservation_id(id, fact.request_id, fact.model)] = None
                if not isinstance(answer, Reserved) or answer.calls_max != fact.calls_max:
                    return False
            if fact.probe and not (yield from self.claimed(id, fact, world)):
                return False
        return True

    def claimed(self, id: str, fact: PhaseRequested, world: World) -> Generator[str | int, None, bool]:
        """Says that this request is the probe of its model; at most one conductor can say so."""
        well, lane = world.wellness(fact.model), f"model-{fact.model}"
        if well.probe == fact.request_id:
            return True  # it is claimed already
        after = self.book.tips.get(lane, Tip())
        if after.sequence > world.read_to:
            return False  # something was said of the model since: what was decided is decided again
        claim = probe(fact.model, well.type, id, fact.request_id, world.now)
        try:
            stored = yield from self.append(lane, [claim], after=after, cause=None, read_to=world.read_to)
        except Conflict:
            newest = yield from self.last_own(lane)
            yield from self.reach(newest.sequence)
            return False
        self.world.counts["probes claimed"] += 1
        yield from self.reach(stored.sequence)
        return False

    def confirmed(self, id: str, known: Known, request: PhaseRequested) -> Generator[str | int, None, bool]:
        """Whether what a request needs is still reserved; where it is not, whether it could be reserved again."""
        sequence, model = known.requested[request.request_id]
        if (yield from self.confirm(request.budget, reservation_id(id, request.request_id, request.model), sequence)):
            return True
        project, month = project_and_month(request.budget)
        answer = yield from self.reserve(
            month, id, request.request_id, model, request.worst_case_pico_usd, request.calls_max, project
        )
        return isinstance(answer, Reserved) and answer.calls_max == request.calls_max

    def withdraw(self, id: str, request_id: str) -> Doing:
        """Makes a request void that nobody may answer any more."""
        self.world.counts["requests withdrawn for want of money"] += 1

        def void(known: Known) -> list[AnyFact]:
            waiting = known.task.open is not None and known.task.open.request_id == request_id
            return [RequestExpired(request_id=request_id)] if waiting else []

        yield from self.judge(id, void)

    def settle(self, id: str, known: Known, request_ids: set[str]) -> Doing:
        """Books what requests have cost that have their result; said again, it changes nothing."""
        for request_id in sorted(request_ids & known.answered & known.requested.keys()):
            sequence, model = known.requested[request_id]
            draw = known.draws.get(request_id)
            month = month_of(self.world.moment)
            reservation, project = reservation_id(id, request_id, model), known.task.project
            lane = draw.lane if draw else (yield from self.draws_on(project, month, sequence, reservation))
            if lane:
                amount, uncertain = self.cost(known, request_id)
                yield from self.book_cost(lane, reservation, model, amount, uncertain, known.read_to)

    def looked_up(self, task_id: str, request_id: str, model: str) -> Generator[str | int, None, Outcome]:
        """What became of a request whose lease has ended."""
        known = yield from self.fresh(task_id)
        if request_id not in known.requested or known.requested[request_id][1] != model:
            return NeverMade()
        if known.is_awaited(request_id, self.world.moment):
            return Awaiting()
        amount, uncertain = self.cost(known, request_id)
        return Ended(amount, uncertain, known.read_to)

    def cost(self, known: Known, request_id: str) -> tuple[int, int]:
        tally = known.cost_of(request_id, self.book.prices)
        most = tally.cost_pico_usd + tally.uncertain_cost_pico_usd
        if tally.unknown_calls:
            draw = known.draws.get(request_id)
            most = max(draw.amount_pico_usd if draw else 0, most)
            return most, most - tally.cost_pico_usd
        return most, tally.uncertain_cost_pico_usd


def asked_in(facts: Sequence[AnyFact]) -> list[PhaseRequested]:
    return [fact for fact in facts if isinstance(fact, PhaseRequested)]
