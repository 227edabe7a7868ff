"""One store, one server: whatever a killed factory has left behind."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from embedded.nats import _orphans, running
from eventlog.preflight import Unsafe, check

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
    (store / "nats-server.pid").unlink()  # as if it had been killed before it wrote that
    assert _orphans(store) == [orphan]

    with running(store) as server:
        assert server.pid != orphan
        assert _orphans(store) == [server.pid]


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


def test_an_orphan_is_found_where_there_is_no_ps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("this platform has no /proc; it has ps")
    with running(tmp_path / "nats") as server:
        monkeypatch.setenv("PATH", str(tmp_path))

        assert _orphans(tmp_path / "nats") == [server.pid]


def test_every_server_of_a_cluster_is_asked_whether_it_syncs(tmp_path: Path):
    with running(tmp_path / "one") as synced, running(tmp_path / "two", sync="2m") as unsynced:
        assert check(synced.monitor_url).sync_always
        with pytest.raises(Unsafe, match="acknowledges before it syncs"):
            check(f"{synced.monitor_url},{unsynced.monitor_url}")
