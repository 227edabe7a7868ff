"""How far this conductor has read the log, and a way to wait until it has read further."""

import asyncio


class Progress:
    """A stream sequence that only grows."""

    def __init__(self) -> None:
        self.sequence = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def move(self, sequence: int) -> None:
        """Everything up to `sequence` has been read."""
        self.sequence = max(self.sequence, sequence)
        waiting, self._waiting = self._waiting, []
        for wanted, reached in waiting:
            if wanted > self.sequence:
                self._waiting.append((wanted, reached))
            elif not reached.done():
                reached.set_result(None)

    async def reach(self, sequence: int) -> None:
        """Waits until everything up to `sequence` has been read."""
        if self.sequence >= sequence:
            return
        reached = asyncio.get_running_loop().create_future()
        self._waiting.append((sequence, reached))
        await reached
