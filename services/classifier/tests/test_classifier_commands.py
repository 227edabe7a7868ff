import json
import subprocess
import sys

import typer
from classifier.commands import classify
from typer.testing import CliRunner

app = typer.Typer()
app.command()(classify)


def run(*arguments: str, stdin: str = ""):
    return CliRunner().invoke(app, [*arguments], input=stdin)


def test_a_text_is_answered_in_one_line():
    assert run("Add a GET /health endpoint").stdout.startswith("api, focused (")


def test_as_json_there_is_one_object():
    answer = json.loads(run("Create user authentication with JWT tokens", "--json").stdout)

    assert (answer["type"], answer["scope"], answer["abstained"]) == ("api", "feature", False)
    assert set(answer["scores"]) == {"architecture", "logic", "refactoring", "ui", "api", "tests", "documentation"}
    assert "reasons" not in answer


def test_explained_it_says_which_words_decided():
    assert "endpoint → api" in run("Add a GET /health endpoint", "--explain").stdout
    assert "endpoint → api" in json.loads(run("Add a GET /health endpoint", "--json", "--explain").stdout)["reasons"]


def test_many_lines_are_answered_in_order_and_a_broken_one_stops_none():
    lines = ['{"text": "Write unit tests"}', "not json", '{"text": 5}', "", '{"text": "Update the README"}']

    result = run("--jsonl", stdin="\n".join(lines) + "\n")
    answers = [json.loads(line) for line in result.stdout.splitlines()]

    assert [answer.get("type") for answer in answers] == ["tests", None, None, "documentation"]
    assert "expected a JSON object" in answers[1]["error"]
    assert result.exit_code == 1


def test_no_text_is_a_usage_error():
    assert run().exit_code == 2


def test_an_answer_comes_before_the_next_line_is_sent():
    program = "import typer; from classifier.commands import classify; typer.run(classify)"
    with subprocess.Popen(
        [sys.executable, "-c", program, "--jsonl"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout
        for text, type in (("Write unit tests", "tests"), ("Update the README", "documentation")):
            process.stdin.write(json.dumps({"text": text}) + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["type"] == type
        process.stdin.close()


def test_the_command_is_imported_without_the_weight_of_a_service():
    program = "import sys, classifier.commands; print([m for m in ('grpc', 'faststream', 'nats') if m in sys.modules])"

    out = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout

    assert out.strip() == "[]"
