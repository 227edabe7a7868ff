"""The `factory` command, against a real gRPC server: what it prints, and the code it ends with."""

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from factory.task.v1 import TASK_STATE_FAILED, TASK_TYPE_UI
from factory_client.cli import app
from factory_client.lazy import BUILT_IN
from typer.testing import CliRunner

TASK = "01kb2x7mz4e9qhrv5w3n8d6t0c"
CHANGE = "4fd0a1b2c3d4" + "0" * 52


@pytest.fixture
def run(house, nowhere, monkeypatch):
    """Runs a command line against the factory of the test."""
    monkeypatch.setenv("FACTORY_URL", house.url)
    monkeypatch.setenv("FACTORY_TOKEN", "let-me-in")
    monkeypatch.setenv("COLUMNS", "160")

    def _run(*words: str, **settings):
        return CliRunner().invoke(app, list(words), prog_name="factory", **settings)

    return _run


def test_submitting_prints_the_task_and_how_to_watch_it(run, house):
    result = run("submit", "Show the notes in a table", "--project", "shop", "--type", "ui", "--label", "team=core")

    assert result.stdout == f"{TASK}  Show the notes in a table\nwatch it with: factory watch {TASK}\n"
    assert (house.seen[0].type, dict(house.seen[0].labels)) == (TASK_TYPE_UI, {"team": "core"})
    assert house.tokens == ["Bearer let-me-in"]


def test_a_path_is_submitted_as_the_factory_must_see_it(run, house, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("submit", "Fix it", "--repo", ".")

    assert house.seen[0].repository == str(tmp_path)


def test_a_url_is_submitted_as_it_is(run, house):
    run("submit", "Fix it", "--repo", "https://example.org/x.git")

    assert house.seen[0].repository == "https://example.org/x.git"


def test_the_description_may_come_from_stdin(run, house):
    run("submit", "Fix it", "--project", "shop", "--body-file", "-", input="because it is broken\n")

    assert house.seen[0].body == "because it is broken\n"


def test_submit_as_json_is_one_object(run):
    result = run("submit", "Fix it", "--project", "shop", "--json")

    assert json.loads(result.stdout) == {"task_id": TASK, "existed": False, "position": 10}


def test_a_dry_run_shows_the_plan_and_what_it_can_cost(run):
    result = run("submit", "Fix it", "--project", "shop", "--type", "ui", "--dry-run")

    assert "claude (no key)" in result.stdout
    assert "the project's mode" in result.stdout
    assert result.stdout.endswith(
        "cost: at most $0.4200 without rework; usual cost: not enough data; nothing was submitted\n"
    )


def test_a_dry_run_says_what_such_a_task_usually_costs_where_that_is_known(run, house):
    house.typical_cost_pico_usd = 81_000_000_000

    shown = run("submit", "Fix it", "--project", "shop", "--type", "ui", "--dry-run").stdout
    told = json.loads(run("submit", "Fix it", "--project", "shop", "--type", "ui", "--dry-run", "--json").stdout)

    assert shown.endswith("cost: about $0.0810, at most $0.4200 without rework; nothing was submitted\n")
    assert told["typical_cost_usd"] == "0.081"


def test_a_dry_run_as_json_gives_the_cost_as_a_decimal_string(run):
    result = run("submit", "Fix it", "--project", "shop", "--type", "ui", "--dry-run", "--json")

    shown = json.loads(result.stdout)
    assert (shown["max_cost_usd"], shown["typical_cost_usd"]) == ("0.42", None)
    assert [phase["model"] for phase in shown["plan"]] == ["gpt", "claude"]


def test_a_refusal_is_one_line_on_stderr_that_names_the_field(run):
    result = run("submit", "", "--project", "shop")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "factory: the task is refused (title: expected 1 to 200 characters)\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["submit", "Fix it"], "either --project NAME or --repo PATH_OR_URL"),
        (["submit", "Fix it", "--project", "a", "--repo", "b"], "either --project NAME or --repo PATH_OR_URL"),
        (["submit", "Fix it", "--project", "a", "--type", "poem"], "unknown task type 'poem'"),
        (["submit", "Fix it", "--project", "a", "--max-cost", "lots"], "'lots' is not an amount in US dollars"),
        (["submit", "Fix it", "--project", "a", "--label", "team"], "--label: expected key=value, found 'team'"),
        (["submit", "Fix it", "--project", "a", "--body-file", "/no/such"], "'/no/such' cannot be read"),
        (["tasks", "--state", "sleeping"], "unknown task state 'sleeping'"),
        (["usage", "--by", "moon"], "unknown dimension 'moon'"),
        (["report", "01kb"], "is too short for a task"),
        (["review", "request-changes", TASK], "--remark: say what is wrong"),
        (["review", "request-changes", TASK, "--comment", "here"], "expected PATH:LINE:TEXT, found 'here'"),
        (["erase", TASK, "--json"], "say --yes, too"),
        (["submit", "Fix \udcff", "--project", "a"], "not UTF-8 text"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_was_expected(run, words, said):
    result = run(*words)

    assert result.exit_code == 2
    assert said in result.stderr


def test_without_a_factory_every_command_says_how_to_start_one(nowhere):
    result = CliRunner().invoke(app, ["tasks"])

    assert result.exit_code == 3
    assert result.stderr == (
        f"factory: no factory runs here (no {nowhere}/factory.json); start one with `factory up`, or set FACTORY_URL\n"
    )


def test_a_factory_that_does_not_answer_is_named(nowhere, monkeypatch):
    monkeypatch.setenv("FACTORY_URL", "127.0.0.1:1")
    result = CliRunner().invoke(app, ["tasks"])

    assert result.exit_code == 3
    assert result.stderr.startswith("factory: cannot reach the factory at 127.0.0.1:1 (from FACTORY_URL)")


def test_the_address_is_found_in_the_data_directory(house, nowhere):
    (nowhere / "factory.json").write_text(json.dumps({"url": house.url, "token": "t", "pid": os.getpid()}))

    assert CliRunner().invoke(app, ["tasks", "--data", str(nowhere)]).exit_code == 0
    assert CliRunner().invoke(app, ["tasks"]).exit_code == 0


def test_watching_prints_one_line_per_fact_where_there_is_no_terminal(run):
    result = run("watch", TASK)

    assert "conductor          conductor said it" in result.stdout
    assert result.stdout.endswith(f"pull request: file:///pr/1\nreport: factory report {TASK}\n")
    assert result.exit_code == 0


def test_watching_as_json_gives_one_object_per_event_with_its_facts(run, house):
    result = run("watch", TASK, "--json")

    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(events) == len(house.told)
    assert events[1]["facts"][0]["type"] == "factory.classification.v1.TaskClassified"
    assert events[1]["facts"][0]["content"]["scope"] == "focused"
    assert events[-1]["task"]["state"] == "completed"


def test_watching_a_task_that_fails_ends_with_1(run, house):
    house.told[-1].task.state = TASK_STATE_FAILED
    house.told[-1].task.reason = "no model can serve"
    result = run("watch", TASK)

    assert result.exit_code == 1
    assert result.stderr == f"factory: {TASK} failed: no model can serve\n"


def test_the_first_characters_of_a_task_are_enough(run, house):
    run("why", "01kb2x7mz4e9")

    assert house.seen[-1].task_id == TASK


def test_characters_that_may_mean_two_tasks_are_refused_with_both_named(run, house):
    result = run("why", "01kb2x7")

    assert result.exit_code == 2
    assert "may mean 2 tasks: " + ", ".join(house.task_ids) in result.stderr


def test_a_task_that_nobody_knows_ends_with_1(run):
    result = run("why", "zzzzzz")

    assert (result.exit_code, result.stderr) == (
        1,
        "factory: no task begins with 'zzzzzz'; `factory tasks` lists them\n",
    )


def test_why_answers_in_sentences(run):
    lines = run("why", TASK).stdout.splitlines()

    assert lines[0] == f"'Show the notes in a table' ({TASK}) is running: implement (round 2), asked of gpt."
    assert lines[1].startswith("It is the turn of executor-gpt, since ")


def test_the_report_is_a_tree(run):
    result = run("report", TASK)

    assert result.stdout == (
        'Task: "Show the notes in a table"\n├── GPT-5: 1,500 tokens (Code implementation)\n└── Total: 1,500 tokens\n'
    )


def test_the_report_as_json_gives_money_as_decimal_strings(run):
    assert json.loads(run("report", TASK, "--json").stdout)["total"]["cost_usd"] == "0.0123"


def test_a_review_shows_gate_findings_and_diff_and_cannot_steer_the_terminal(run):
    result = run("review", "show", TASK)

    assert "quality gate: pass · 12 tests passed" in result.stdout
    assert "note: no model review" in result.stdout
    assert "a.py:3" in result.stdout
    assert "tokens never expire␛[31m (missing-expiry)" in result.stdout
    assert "+new" in result.stdout
    assert "\x1b" not in result.stdout


def test_an_approval_names_the_change_and_the_evidence_that_were_shown(run, house):
    result = run("review", "approve", TASK, "--change", CHANGE[:12], "--remark", "fine")

    assert result.exit_code == 0
    assert (house.seen[-1].change_digest, house.seen[-1].evidence_digest) == (CHANGE, "e" * 64)
    assert house.seen[-1].remark == "fine"


def test_approving_a_change_that_has_moved_on_is_refused(run, house):
    result = run("review", "approve", TASK, "--change", "abcdef")

    assert (result.exit_code, result.stderr) == (1, "factory: change abcdef has moved on; 4fd0a1b2c3d4 waits now\n")
    assert not any(request.DESCRIPTOR.name == "ApproveRequest" for request in house.seen)


def test_comments_reach_the_author_with_their_lines(run, house):
    run("review", "request-changes", TASK, "--comment", "src/a.py:12: check exp: here")

    comment = house.seen[-1].comments[0]
    assert (comment.source, comment.path, comment.line) == ("human", "src/a.py", 12)
    assert comment.message == "check exp: here"


def test_rejecting_as_json_says_what_was_decided(run):
    shown = json.loads(run("review", "reject", TASK, "--json").stdout)

    assert shown == {"task_id": TASK, "decision": "rejected", "change_digest": CHANGE}


def test_nothing_to_review_is_said(run):
    assert run("review", "list").stdout == "nothing waits for a decision\n"


def test_tasks_are_listed_with_tokens_and_cost(run):
    result = run("tasks")

    assert TASK in result.stdout
    assert "1,500" in result.stdout
    assert "$0.0123" in result.stdout


def test_models_fit_a_narrow_terminal(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    shown = run("models").stdout

    assert "no: ANTHROPIC_API_KEY is not set" in shown and "$1.25 / $10.00" in shown
    assert max(len(line) for line in shown.splitlines()) <= 80


def test_models_say_why_one_cannot_serve_and_which_are_pretend(run):
    result = run("models")

    assert "no: ANTHROPIC_API_KEY is not set" in result.stdout
    assert "yes, simulated" in result.stdout
    assert "$1.25 / $10.00" in result.stdout


def test_usage_has_a_total(run):
    result = run("usage", "--by", "model")

    assert [line.split()[0] for line in result.stdout.splitlines() if line.strip() and "─" not in line] == [
        "model",
        "gpt",
        "total",
    ]


def test_the_ledger_never_shows_an_unknown_cost_as_zero(run):
    result = run("ledger")

    assert "up to 9,000" in result.stdout
    assert "$0.00" not in result.stdout.replace("$0.0123", "")


def test_the_ledger_as_json_is_one_call_per_line(run):
    lines = [json.loads(line) for line in run("ledger", "--json").stdout.splitlines()]

    assert [line["cost_usd"] for line in lines] == ["0.0123", None]
    assert lines[1]["up_to_tokens"] == 9000


def test_cancel_and_erase_say_what_they_did(run):
    assert run("cancel", TASK).stdout == f"{TASK} is cancelled\n"
    assert json.loads(run("erase", TASK, "--yes", "--json").stdout) == {"task_id": TASK, "erased": 7}


def test_a_held_task_goes_on_with_a_new_limit(run, house):
    assert run("release", TASK, "--max-cost", "2.50", "--reason", "worth it").exit_code == 0
    assert house.seen[-1].limits.max_cost_pico_usd == 2_500_000_000_000
    assert house.seen[-1].reason == "worth it"


def test_erasing_asks_first(run, house):
    result = run("erase", TASK, input="n\n")

    assert result.exit_code == 1
    assert house.seen == []


def test_projects_are_added_and_listed(run, house):
    assert run("project", "add", "shop", "--repo", "https://example.org/shop").stdout == "project shop is created\n"
    assert run("project", "add", "old", "--repo", "https://example.org/old").stdout == "project old was there already\n"
    assert "https://example.org/shop" in run("project", "list").stdout


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_command_explains_itself_with_examples(name):
    result = CliRunner().invoke(app, [name, "--help"], prog_name="factory")
    subcommands = {
        "review": ["list", "show", "approve", "request-changes", "reject"],
        "project": ["add", "list"],
        "settings": ["show", "set", "history", "preview"],
        "budget": ["show", "set"],
        "models": ["trip", "recover"],
    }

    assert result.exit_code == 0
    for words in [[name, sub] for sub in subcommands.get(name, [])] or [[name]]:
        assert "Examples:" in CliRunner().invoke(app, [*words, "--help"], prog_name="factory").stdout


def test_help_lists_every_command():
    done = subprocess.run(
        [sys.executable, "-m", "factory_client", "--help"], capture_output=True, text=True, check=True
    )

    assert [name for name in BUILT_IN if f" {name} " not in done.stdout] == []


def test_help_does_not_import_grpc():
    code = "import sys; from factory_client.cli import app; app(['--help'], standalone_mode=False); print('grpc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "False"


def test_ctrl_c_leaves_the_task_running_and_says_how_to_come_back(house, nowhere):
    house.told = house.told[:3]
    env = {**os.environ, "FACTORY_URL": house.url, "PYTHONUNBUFFERED": "1"}
    watching = subprocess.Popen(
        [sys.executable, "-m", "factory_client", "watch", TASK],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    assert "said it" in watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    _, errors = watching.communicate(timeout=20)

    assert watching.returncode == 130
    assert errors.strip() == f"{TASK} goes on without you; come back with: factory watch {TASK}"


def test_the_address_file_is_only_read_never_widened(house, nowhere: Path):
    file = nowhere / "factory.json"
    file.write_text(json.dumps({"url": house.url, "token": "t"}))
    file.chmod(0o600)
    CliRunner().invoke(app, ["tasks"])

    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("command", ["tasks", "ledger"])
@pytest.mark.parametrize("columns", [80, 100, 160])
def test_a_list_fits_its_terminal_and_keeps_what_tells_how_things_stand(run, monkeypatch, command, columns):
    monkeypatch.setenv("COLUMNS", str(columns))

    lines = run(command).stdout.splitlines()

    assert max(map(len, lines)) <= columns
    heading = next(line for line in lines if line.strip())
    wanted = (
        ["task", "title", "state", "tokens", "cost"] if command == "tasks" else ["call", "outcome", "tokens", "cost"]
    )
    assert [word for word in heading.split() if word in wanted] == wanted


@pytest.mark.parametrize("group", ["review", "project", "settings", "budget", "models"])
def test_a_group_offers_no_completion_of_its_own(run, group):
    assert "completion" not in run(group, "--help").stdout
