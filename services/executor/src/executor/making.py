"""The calls that this process makes: what it may wait for, and what it knows that nobody makes any more.

Pure. One request may be in several hands at once, because anything may be delivered twice.
"""

from collections import Counter
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from executor.phase import Request

BEGUN_KNOWN_MAX = 10_000
"""How many of the calls that were begun here are remembered; the oldest is forgotten first."""


@dataclass(slots=True)
class Making:
    """Who in this process is at which call."""

    # one call may be claimed twice: only one of the two will have its start in the log
    _claims: Counter[str] = field(default_factory=Counter)
    _begun: dict[str, None] = field(default_factory=dict)

    def claim(self, call_id: str) -> None:
        self._claims[call_id] += 1

    def leave(self, call_id: str) -> None:
        """Takes back one claim, and no other's."""
        self._claims[call_id] -= 1
        if self._claims[call_id] <= 0:
            del self._claims[call_id]

    def has_begun(self, call_id: str) -> None:
        """The call's start is in the log, and was put there by this process."""
        self._begun[call_id] = None
        if len(self._begun) > BEGUN_KNOWN_MAX:
            del self._begun[next(iter(self._begun))]

    def now(self) -> set[str]:
        """The calls that somebody in this process is making."""
        return set(self._claims)

    def foreign(self, request: Request, found: AbstractSet[str]) -> set[str]:
        """The open calls of a request that somebody may still be making; all others are deserted.

        `found` are those that were open when the request came to us, and those that have taken too long since: whoever
        made them is gone, unless it is this process. The rest began while we were at it, here or in another process.
        """
        ids = {call.started.call_id for call in request.open}
        return {id for id in ids if id in self._claims or (id not in found and id not in self._begun)}
