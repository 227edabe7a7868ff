"""The demo's parts: its repository, its child, its last object. The whole of it is a journey of its own."""

import os
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import pytest
from embedded.demo_factory import NotStarted, running_factory
from embedded.demo_outcome import Outcome, closing_words, outcome_json, read_bill
from embedded.demo_repository import changed_files, git, prepare_remote
from factory.audit.v1 import TaskReportResponse
from factory.model.v1 import Model
from factory.task.v1 import TASK_STATE_COMPLETED, Task
from rich.console import Console

pytestmark = pytest.mark.slow  # real servers: left to `just test`

MODELS = (Model(model="gpt", display_name="GPT-5", configured=True, pretend=True),)


def outcome(**changes) -> Outcome:
    report = TaskReportResponse(title="Add X")
    line = report.lines.add(model="claude", model_name="Claude 4.5", label="Architecture design")
    line.amount.tokens = 2400
    report.total.tokens, report.total.cost_pico_usd = 2400, "43200000000"
    task = Task(task_id="t", state=TASK_STATE_COMPLETED, pull_request_url="file:///pr", branch="factory/t", commit="c")
    known = {"task": task, "report": report, "models": MODELS, "billed_tokens": 2400, "seconds": 12.345}
    return Outcome(**{**known, **changes})


def test_the_sample_is_the_same_commit_on_every_machine(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = prepare_remote(tmp_path / "a"), prepare_remote(tmp_path / "b")

    assert git("-C", str(first), "rev-parse", "main") == git("-C", str(second), "rev-parse", "main")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["sample.git"]


def test_a_remote_that_is_there_is_kept_as_it_is(tmp_path: Path):
    remote = prepare_remote(tmp_path)
    git("-C", str(remote), "branch", "factory/t", "main")

    assert git("-C", str(prepare_remote(tmp_path)), "branch", "--list", "factory/t").strip() == "factory/t"
    assert changed_files(remote, "factory/t") == ""


def test_the_sample_passes_its_own_tests(tmp_path: Path):
    git("clone", "--quiet", str(prepare_remote(tmp_path)), str(tmp_path / "work"))
    env = {**os.environ, "PYTHONPATH": "src"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", "."]
    done = subprocess.run(command, cwd=tmp_path / "work", env=env, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout


def test_the_last_object_has_the_shape_that_programs_rely_on():
    assert outcome_json(outcome()) == {
        "task": "t",
        "state": "completed",
        "pull_request": {"url": "file:///pr", "branch": "factory/t", "commit": "c"},
        "report": {
            "lines": [{"model": "Claude 4.5", "phase": "Architecture design", "tokens": 2400}],
            "total_tokens": 2400,
        },
        "billed_tokens": 2400,
        "seconds": 12.3,
    }


def test_the_bill_is_the_sum_of_its_lines(tmp_path: Path):
    (tmp_path / "simulator").mkdir()
    (tmp_path / "simulator" / "bill.jsonl").write_text('{"total": 900}\n{"total": 1500}\n')

    assert read_bill(tmp_path) == 2400


def test_without_a_simulator_there_is_no_bill(tmp_path: Path):
    assert read_bill(tmp_path) is None
    assert outcome_json(outcome(billed_tokens=None))["billed_tokens"] is None


def test_the_last_words_name_pull_request_report_cost_and_how_to_go_on(tmp_path: Path):
    git("-C", str(prepare_remote(tmp_path)), "branch", "factory/t", "main")
    screen = Console(record=True, width=120, file=StringIO())
    closing_words(outcome(), tmp_path, screen, kept=True)
    said = screen.export_text()

    assert "Pull request file:///pr" in said
    assert "├── Claude 4.5: 2,400 tokens (Architecture design)" in said
    assert "It would have cost $0.0432 at list prices (2,400 tokens)." in said
    assert "The simulator's own bill says 2,400 tokens, too." in said
    assert "export ANTHROPIC_API_KEY" in said


def test_a_bill_that_differs_is_never_hidden(tmp_path: Path):
    prepare_remote(tmp_path)
    screen = Console(record=True, width=120, file=StringIO())
    closing_words(outcome(billed_tokens=2500), tmp_path, screen, kept=False)

    assert "bill says 2,500 tokens, which differs by +100" in screen.export_text()


def test_a_factory_that_does_not_start_shows_its_last_words(tmp_path: Path):
    refusal = pytest.raises(NotStarted, match=r"(?s)ended with status 2 before it was ready.*found 'nonsense'")

    with refusal, running_factory(tmp_path, "nonsense", lambda _: None):
        pass


@pytest.mark.slow
def test_a_demo_that_is_killed_leaves_no_factory_behind(tmp_path: Path):
    script = (
        "import sys; from pathlib import Path; from embedded.demo_factory import running_factory\n"
        f"with running_factory(Path({str(tmp_path)!r}), 'simulated', print) as running:\n"
        "    print(running.address.pid, flush=True); input()"
    )
    demo = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    factory = next(int(line) for line in demo.stdout if line.strip().isdigit())
    demo.kill()
    demo.wait()

    assert _gone_within(20, factory)
    assert not (tmp_path / "factory.json").exists()


def _gone_within(seconds: float, pid: int) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False
