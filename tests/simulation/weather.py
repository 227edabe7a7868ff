"""How bad a seed's world is: how often things go wrong in it. Drawn from the seed, so that worlds differ in kind."""

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Weather:
    """Chances from 0 to 1: per step for what strikes, per occasion for the rest."""

    crash: float = 0.0
    # an item is handed out a second time although its first taker lives
    duplicate: float = 0.0
    # the work queue and the timers are lost, and the conductors begin again
    wiped: float = 0.0
    person: float = 0.0
    # time passes without anybody getting anything done
    lull: float = 0.0
    # a read is answered by a replica that is behind
    stale: float = 0.0
    # an append is refused by a server that has trouble
    refused: float = 0.0
    # a message that may be lost is lost
    hint_lost: float = 0.0
    # a call, or another worker's job, fails
    failure: float = 0.0
    # a timer is delivered twice
    timer_twice: float = 0.0


CALM = Weather()
# Nothing breaks, and people say what they think.
CIVIL = Weather(person=0.1)
# The worst of every kind; a seed takes a share of each.
WORST = Weather(
    crash=0.06,
    duplicate=0.06,
    wiped=0.005,
    person=0.2,
    lull=0.03,
    stale=0.7,
    refused=0.05,
    hint_lost=0.5,
    failure=0.5,
    timer_twice=0.3,
)


def drawn(chance: Random) -> Weather:
    """The weather of one seed: every kind of trouble in some strength, and some not at all."""
    return Weather(**{name: getattr(WORST, name) * chance.choice((0.0, 0.3, 0.6, 1.0)) for name in Weather.__slots__})
