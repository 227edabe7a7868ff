"""One store, one server: whatever a killed factory has left behind."""

import subprocess
import sys
import time
from pathlib import Path

from embedded.nats import _is_ours, running

LEAVES_ITS_SERVER = """
import sys, time
from pathlib import Path
from embedded.nats import running
with running(Path(sys.argv[1])):
    print("running", flush=True)
    time.sleep(60)
"""


def test_a_server_orphaned_by_kill_9_is_ended_before_another_opens_its_store(tmp_path: Path):
    store = tmp_path / ("a-rather-long-name-" * 6) / "nats"  # longer than a line of ps
    parent = subprocess.Popen([sys.executable, "-c", LEAVES_ITS_SERVER, str(store)], stdout=subprocess.PIPE)
    assert parent.stdout is not None and parent.stdout.readline() == b"running\n"
    orphan = int((store / "nats-server.pid").read_text())
    parent.kill()
    parent.wait()
    assert _is_ours(orphan, store)

    with running(store) as server:
        assert server.pid != orphan
        assert not _is_ours(orphan, store)
        assert _is_ours(server.pid, store)


def test_a_pid_that_belongs_to_another_program_by_now_is_left_alone(tmp_path: Path):
    store = tmp_path / "nats"
    store.mkdir()
    stranger = subprocess.Popen(["sleep", "30"])
    (store / "nats-server.pid").write_text(str(stranger.pid))

    with running(store):
        time.sleep(0.1)
        assert stranger.poll() is None
    stranger.kill()
    stranger.wait()
