"""Misbehaving on request: which calls, in which way, how often.

Pure but for the counting down. Nothing misbehaves unless somebody asked for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from fnmatch import fnmatchcase

from pydantic import BaseModel, ConfigDict, Field

TIMES_MAX = 1_000_000
RULES_MAX = 1_000


class Mode(StrEnum):
    NONE = "none"
    # Errors instead of an answer; they cost nothing.
    RATE_LIMITED = "429"
    UNPAID = "402"
    BROKEN = "500"
    OVERLOADED = "529"
    # Trouble on the wire.
    HANG = "hang"
    CUT = "cut"
    STREAM_ERROR = "stream_error"
    MALFORMED_WIRE = "malformed_wire"
    SLOW = "slow"
    WRONG_USAGE = "wrong_usage"
    # Answers that arrive whole and are not what was asked for.
    MALFORMED = "malformed"
    REFUSAL = "refusal"
    TRUNCATED = "truncated"
    BAD_EDIT = "bad_edit"
    BAD_PATH = "bad_path"
    HUGE_FILE = "huge_file"


class Misbehaviour(BaseModel):
    """One wish, as it arrives at the control endpoint."""

    model_config = ConfigDict(extra="forbid")

    # A pattern such as "gpt*", for the provider's model id.
    model: str = "*"
    mode: Mode
    # How many calls; 0 means all from now on.
    times: int = Field(default=1, ge=0, le=TIMES_MAX)
    # Only calls whose prompt is of this phase.
    phase: str | None = None
    # Only calls whose client request id fits this pattern.
    client_request_id: str | None = None
    retry_after_s: float | None = Field(default=None, ge=0, le=3600)
    # For "cut", "stream_error" and "hang": what still goes out before.
    after_chunks: int = Field(default=3, ge=0, le=1_000_000)
    tokens_per_second: float = Field(default=20.0, gt=0)

    def concerns(self, model: str, phase: str, client_request_id: str) -> bool:
        wanted_id = self.client_request_id
        return (
            fnmatchcase(model.lower(), self.model.lower())
            and self.phase in (None, phase)
            and (wanted_id is None or fnmatchcase(client_request_id, wanted_id))
        )


class Misbehaviours:
    """The wishes in force, oldest first."""

    def __init__(self, wishes: tuple[Misbehaviour, ...] = ()) -> None:
        self._wishes: list[tuple[Misbehaviour, int]] = []
        for wish in wishes:
            self.add(wish)

    def add(self, wish: Misbehaviour) -> None:
        """Takes up a wish; "none" ends those for models that fit its pattern."""
        if wish.mode == Mode.NONE:
            self._wishes = [kept for kept in self._wishes if not _covers(wish.model, kept[0].model)]
        elif len(self._wishes) >= RULES_MAX:
            raise ValueError(f"there are {RULES_MAX} misbehaviours already; end some with mode 'none'")
        else:
            self._wishes.append((wish, wish.times))

    def clear(self) -> None:
        """Everybody behaves again."""
        self._wishes = []

    def next_for(self, model: str, phase: str, client_request_id: str) -> Misbehaviour | None:
        """The oldest wish that concerns this call, counted down."""
        for index, (wish, left) in enumerate(self._wishes):
            if not wish.concerns(model, phase, client_request_id):
                continue
            if left == 1:
                del self._wishes[index]
            elif left > 1:
                self._wishes[index] = (wish, left - 1)
            return wish
        return None

    def __iter__(self) -> Iterator[dict[str, object]]:
        for wish, left in self._wishes:
            yield {**wish.model_dump(mode="json"), "left": left}


def _covers(pattern: str, other: str) -> bool:
    return pattern == other or fnmatchcase(other.lower(), pattern.lower())
