"""A disk of one's own: an ext4 image on a loop device, whose power can be cut.

What a process has written and not synced lies in memory; what has reached the block device lies in the image. A power
cut is a copy of the image at that moment, mounted elsewhere: its journal is recovered as it would be at the next start.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

# Sparse: it takes the room of what is written to it.
BYTES = 2 * 1024**3
COMMAND_TIMEOUT_S = 60
NEEDED = ("mkfs.ext4", "mount", "umount", "losetup", "cp")
# The kernel's own writing back must not save what nobody has synced: its journal is committed when asked to, only.
OPTIONS = "loop,commit=600"


class Disk:
    """One image; `cut` what its power."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.image = directory / "disk.img"
        self._cuts = 0

    def cut(self) -> Path:
        """The image as the block device holds it now."""
        self._cuts += 1
        copy = self._directory / f"cut-{self._cuts}.img"
        run("cp", "--sparse=always", str(self.image), str(copy))
        return copy


@contextlib.contextmanager
def disk(directory: Path, size: int = BYTES) -> Iterator[tuple[Disk, Path]]:
    """A new disk, and where it is mounted; skips, and says so, where that is not possible."""
    if why_not := cannot_mount():
        pytest.skip(why_not)
    directory.mkdir(parents=True, exist_ok=True)
    made = Disk(directory)
    with made.image.open("wb") as image:
        image.truncate(size)
    run("mkfs.ext4", "-q", "-F", str(made.image))
    with mounted(made.image, directory / "disk") as place:
        yield made, place


def fill(place: Path) -> Path:
    """Takes all the room there is; deleting what it returns gives it back."""
    filler = place / "filler"
    with filler.open("wb") as file:
        room = os.statvfs(place)
        end = room.f_bavail * room.f_frsize * 99 // 100
        os.posix_fallocate(file.fileno(), 0, end)
        with contextlib.suppress(OSError):  # the rest, block by block, until there is none
            while True:
                os.posix_fallocate(file.fileno(), end, room.f_frsize)
                end += room.f_frsize
    return filler


@contextlib.contextmanager
def mounted(image: Path, place: Path) -> Iterator[Path]:
    """An image as a directory; skips where the machine does not let us."""
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-o", OPTIONS, str(image), str(place)],
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"a loop device cannot be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        # Lazily, if somebody who was killed a moment ago still holds it.
        if subprocess.run(["umount", str(place)], capture_output=True, check=False).returncode:
            run("umount", "--lazy", str(place))


def cannot_mount() -> str:
    """Why no disk can be made here; "" where one can."""
    if os.geteuid() != 0:
        return "cutting the power of a disk takes root: it mounts a loop device"
    if missing := [name for name in NEEDED if not shutil.which(name)]:
        return f"cutting the power of a disk takes {', '.join(missing)} (apt-get install e2fsprogs mount)"
    if not Path("/dev/loop-control").exists():
        return "cutting the power of a disk takes loop devices, and there are none here"
    return ""


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
    assert done.returncode == 0, f"{command[0]} failed: {done.stderr.strip()}"
