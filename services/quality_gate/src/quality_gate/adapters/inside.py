"""The first thing that runs inside a sandbox: takes its limits on, gives its rights up, copies the tree, runs the tool.

Its text is handed to `python -I -S -c`, so it imports the standard library only and nothing of ours. It trusts its one
argument, which the gate wrote, and nothing else. The report goes back through a pipe that the tool does not inherit.
"""

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys

# As a shell says it.
NOT_STARTED = 127


def main() -> None:
    job = json.loads(sys.argv[1])
    pipe = job["pipe"]
    os.set_inheritable(pipe, False)
    for name, value in job["limits"].items():
        number = getattr(resource, name)
        soft = value if resource.getrlimit(number)[1] < 0 else min(value, resource.getrlimit(number)[1])
        resource.setrlimit(number, (soft, soft))
    if job["uid"] is not None:
        # Root put the mounts up; from here on nobody is root, inside or outside.
        os.setgroups([])
        os.setresgid(job["uid"], job["uid"], job["uid"])
        os.setresuid(job["uid"], job["uid"], job["uid"])
    for path in job["directories"]:
        os.makedirs(path, exist_ok=True)  # noqa: PTH103 - this file starts in milliseconds because it imports little
    if job["copy"]:
        shutil.copytree(*job["copy"], symlinks=True, ignore=shutil.ignore_patterns(".git"), dirs_exist_ok=True)
    os.chdir(job["cwd"])
    os.write(pipe, b"started\n")
    os.write(pipe, b"%d\n" % run(job["argv"], job["report"] if job["report_is_stdout"] else os.devnull))
    if job["report"]:
        send(job["report"], pipe, job["report_bytes"])


def run(argv: list[str], report: str) -> int:
    """Runs the tool; what it prints goes to the gate, or to the report where that is what it prints."""
    with contextlib.ExitStack() as stack:
        out = None if report == os.devnull else stack.enter_context(open(report, "wb"))  # noqa: PTH123 - see above
        try:
            return subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=out, check=False).returncode
        except OSError as error:
            os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
            return NOT_STARTED


def send(path: str, pipe: int, most: int) -> None:
    """The report, as far as it may be long. It is the tool's file, so it may be missing, or not a file at all."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    with os.fdopen(fd, "rb") as report:
        left = most
        while left > 0 and (piece := report.read(min(left, 65536))):
            left -= len(piece)
            while piece:
                piece = piece[os.write(pipe, piece) :]


main()
