"""What services that run apart are prepared with: credentials in files, streams and consumers on a server."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from embedded.apart import Unreachable, bootstrap_apart
from embedded.credentials import AUTHORIZATION_FILE, PASSWORDS_FILE, working_lanes, write_credentials
from embedded.nats import Nats, running
from eventlog import EventLog, connect
from eventlog.preflight import Unsafe
from runtime.rpc import Tokens


def settings(directory: Path, user: str) -> dict[str, str]:
    lines = (directory / f"{user}.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def operator(server: Nats, directory: Path) -> dict[str, str]:
    own = settings(directory, "operator")
    return {**own, "FACTORY_NATS_URL": server.url, "FACTORY_NATS_MONITOR_URL": server.monitor_url}


def test_every_service_and_every_model_has_a_password_of_its_own(tmp_path: Path):
    users = write_credentials(tmp_path, {})
    own = {user: settings(tmp_path, user)["FACTORY_NATS_PASSWORD"] for user in users}

    assert {"operator", "platform", "conductor", "audit", "executor-claude", "executor-deepseek"} <= set(users)
    assert len(set(own.values())) == len(users)
    assert settings(tmp_path, "executor-gpt")["EXECUTOR_MODEL"] == "gpt"


def test_what_was_given_out_once_stays_and_a_new_model_is_added(tmp_path: Path):
    write_credentials(tmp_path, {})
    before = (tmp_path / "conductor.env").read_text(), (tmp_path / "token").read_text()
    models = tmp_path / "models.toml"
    models.write_text(
        '[llama]\nfamily="meta"\nprovider="vllm"\nprovider_model="m"\nwire="openai-chat"\nbase_url="http://x/v1"\n'
        'key_env="LLAMA_KEY"\ncontext_window_tokens=8192\nmax_output_tokens=1024\n'
    )
    users = write_credentials(tmp_path, {"FACTORY_MODELS_FILE": str(models)})

    assert "executor-llama" in users
    assert ((tmp_path / "conductor.env").read_text(), (tmp_path / "token").read_text()) == before


def test_a_password_that_is_taken_out_is_made_anew(tmp_path: Path):
    write_credentials(tmp_path, {})
    before = settings(tmp_path, "audit")
    text = (tmp_path / PASSWORDS_FILE).read_text().splitlines()
    (tmp_path / PASSWORDS_FILE).write_text("\n".join(line for line in text if '"audit"' not in line))
    write_credentials(tmp_path, {})

    assert settings(tmp_path, "audit") != before


def test_only_the_owner_reads_secrets_and_the_token_opens_by_its_hash(tmp_path: Path):
    directory = tmp_path / "credentials"
    write_credentials(directory, {})
    open_to_others = [path.name for path in directory.iterdir() if stat.S_IMODE(path.stat().st_mode) & 0o077]
    token = (directory / "token").read_text()
    holder = Tokens.from_file(directory / "tokens.json").holder(token)

    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert open_to_others == ["tokens.json"]
    assert token not in (directory / "tokens.json").read_text()
    assert holder is not None and holder.subject == "owner"


async def test_the_operator_prepares_the_server_twice_and_a_service_gets_in(tmp_path: Path):
    directory = tmp_path / "credentials"
    write_credentials(directory, {})
    with running(tmp_path / "nats", authorization=(directory / AUTHORIZATION_FILE).read_text()) as server:
        for _ in range(2):
            await bootstrap_apart(operator(server, directory), replicas=1, ack_wait_s=5)
        password = settings(directory, "audit")["FACTORY_NATS_PASSWORD"]
        nc = await connect(server.url, name="audit", user="audit", password=password)
        try:
            past = await EventLog(nc, org="main", service="audit").read("nothing")
        finally:
            await nc.close()

    assert past.events == ()


async def test_a_wrong_password_ends_with_a_sentence_and_not_in_silence(tmp_path: Path):
    directory = tmp_path / "credentials"
    write_credentials(directory, {})
    with running(tmp_path / "nats", authorization=(directory / AUTHORIZATION_FILE).read_text()) as server:
        env = {**operator(server, directory), "FACTORY_NATS_PASSWORD": "guessed"}
        with pytest.raises(Unreachable, match=r"let no operator in within 0\.5 s"):
            await bootstrap_apart(env, replicas=1, ack_wait_s=5, timeout_s=0.5)


async def test_a_server_that_does_not_sync_is_refused(tmp_path: Path):
    with running(tmp_path / "nats", sync="2m") as server:
        env = {"FACTORY_NATS_URL": server.url, "FACTORY_NATS_MONITOR_URL": server.monitor_url}
        with pytest.raises(Unsafe, match="sync_interval: always"):
            await bootstrap_apart(env, replicas=1, ack_wait_s=5)


async def test_a_server_whose_syncing_cannot_be_seen_is_refused(tmp_path: Path):
    with pytest.raises(Unsafe, match="FACTORY_NATS_MONITOR_URL is not set"):
        await bootstrap_apart({"FACTORY_NATS_URL": "nats://127.0.0.1:1"}, replicas=1, ack_wait_s=5)


def test_the_command_says_why_it_cannot_and_ends_with_1(tmp_path: Path):
    with running(tmp_path / "nats", sync="2m") as server:
        env = {"FACTORY_NATS_URL": server.url, "FACTORY_NATS_MONITOR_URL": server.monitor_url}
        done = subprocess.run(
            [sys.executable, "-m", "factory_client", "bootstrap"],
            env={"PATH": os.environ["PATH"], **env},
            capture_output=True,
            text=True,
        )

    assert done.returncode == 1
    assert "factory bootstrap: this nats-server acknowledges before it syncs" in done.stderr


def test_work_is_offered_to_whoever_does_some(tmp_path: Path):
    assert set(working_lanes({})) == {
        "classifier",
        "context",
        "quality_gate",
        "delivery",
        *(f"executor-{model}" for model in ("claude", "gpt", "gemini", "deepseek")),
    }
