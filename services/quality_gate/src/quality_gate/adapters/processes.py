"""How many processes stand below one, and how much memory they hold, by reading /proc. Stops nothing itself."""

import os
from dataclasses import dataclass
from pathlib import Path

# More than any limit: counting stops here.
PROCESSES_COUNTED_MAX = 4096
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    processes: int
    resident_bytes: int


def usage_below(pid: int) -> Usage:
    """Counts the process and all its descendants; what ends meanwhile is not counted."""
    waiting, seen, pages = [pid], 0, 0
    while waiting and seen < PROCESSES_COUNTED_MAX:
        one = Path(f"/proc/{waiting.pop()}")
        try:
            pages += int((one / "statm").read_text().split()[1])
            for thread in (one / "task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
        except (OSError, ValueError, IndexError):
            continue
        seen += 1
    return Usage(seen, pages * PAGE_BYTES)
