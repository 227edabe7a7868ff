"""Budgets on the command line, against a real gRPC server."""

import json

import pytest
from factory.project.v1 import Budget
from factory_client.cli import app
from typer.testing import CliRunner

USD = 10**12


@pytest.fixture
def run(house, nowhere, monkeypatch):
    """Runs a command line against the factory of the test."""
    monkeypatch.setenv("FACTORY_URL", house.url)
    monkeypatch.setenv("FACTORY_TOKEN", "let-me-in")
    monkeypatch.setenv("COLUMNS", "100")

    def _run(*words: str):
        return CliRunner().invoke(app, ["budget", *words], prog_name="factory")

    return _run


@pytest.fixture
def spent(house):
    """A project that has spent most of its budget, and one of its models that has no limit but a soft one."""
    whole = Budget(spent_pico_usd=380 * USD, uncertain_pico_usd=USD // 2, reserved_pico_usd=40 * USD)
    whole.hard_pico_usd, whole.soft_pico_usd = 500 * USD, 400 * USD
    model = Budget(model="gpt", spent_pico_usd=USD, soft_pico_usd=10 * USD)
    house.budgets = [whole, model]
    return house


def test_a_budget_shows_what_is_spent_reserved_and_left(run, spent):
    lines = [line.strip() for line in run("show", "shop").stdout.splitlines()]

    assert lines[0] == "shop in 2026-11 (UTC)"
    whole = next(line for line in lines if line.startswith("project"))
    for figure in ("$380.00 (of it", "$40.00", "$500.00", "$400.00", "$80.00", "84%"):
        assert figure in whole
    model = next(line for line in lines if line.startswith("gpt"))
    assert model.split()[1:] == ["$1.00", "$0.00", "none", "$10.00", "no", "limit", "10%", "of", "soft"]
    assert max(map(len, lines)) <= 100


def test_a_budget_that_holds_tasks_says_how_many_and_what_helps(run, spent):
    spent.held_tasks = 2

    shown = run("show", "shop").stdout

    assert "2 tasks wait for money: factory tasks --project shop --state held\n" in shown
    assert "they go on by themselves when there is room: factory budget set shop --hard USD\n" in shown


def test_a_project_without_a_budget_says_how_to_set_one(run, house):
    assert run("show", "shop", "--month", "2026-10").stdout == (
        "shop has no budget in 2026-10; set one with:\nfactory budget set shop --hard USD\n"
    )
    assert house.seen[-1].month == "2026-10"


def test_a_budget_as_json_is_exact(run, spent):
    shown = json.loads(run("show", "shop", "--json").stdout)

    assert shown["budgets"][0]["uncertain_usd"] == "0.5"
    assert (shown["budgets"][1]["hard_usd"], shown["budgets"][1]["soft_usd"]) == (None, "10")


def test_the_limit_that_is_not_named_stays(run, spent):
    result = run("set", "shop", "--hard", "600.000000000001", "--reason", "more work")

    request = spent.seen[-1]
    assert (request.hard_pico_usd, request.soft_pico_usd) == (600 * USD + 1, 400 * USD)
    assert (request.model, request.reason) == ("", "more work")
    assert result.stdout == "shop: hard limit $500.00 → $600.00\nshop: soft limit $400.00\n"


def test_none_takes_a_limit_away(run, spent):
    run("set", "shop", "--hard", "none")

    assert not spent.seen[-1].HasField("hard_pico_usd")
    assert spent.seen[-1].soft_pico_usd == 400 * USD


def test_a_model_has_a_budget_of_its_own(run, spent):
    result = run("set", "shop", "--model", "gpt", "--hard", "20", "--json")

    assert (spent.seen[-1].model, spent.seen[-1].soft_pico_usd) == ("gpt", 10 * USD)
    assert json.loads(result.stdout)["budget"]["hard_usd"] == "20"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["set", "shop"], "name a limit"),
        (["set", "shop", "--hard", "lots"], "--hard: 'lots' is not an amount in US dollars, such as 0.50, or none"),
        (["set", "shop", "--soft", "-1"], "--soft: '-1' is not an amount"),
        (["set", "shop", "--soft", "501"], "the soft limit $501.00 is above the hard limit $500.00"),
        (["show", "shop", "--month", "2026-13"], "--month: '2026-13' is not a month, such as 2026-11"),
    ],
)
def test_a_budget_that_cannot_be_meant_is_refused_before_it_is_set(run, spent, words, said):
    result = run(*words)

    assert (result.exit_code, said in result.stderr) == (2, True)
    assert not any(request.DESCRIPTOR.name == "SetBudgetRequest" for request in spent.seen)
