"""What the checks mean together."""

import pytest
from factory.artifact.v1 import Severity
from factory.gate.v1 import GateVerdict
from factory.gate.v1 import TestRun as Tally
from quality_gate.introduced import Reported, Side
from quality_gate.severity import severity_of
from quality_gate.suite import NotJunit, Outcome, Suite, Tested, read_junit, suite_of
from quality_gate.tools import Unreadable, read_bandit, read_ruff, read_secrets
from quality_gate.verdict import blocking, compare, decide, links, unknown

PASSED = Tested("t::a", Outcome.PASSED)
FAILED = Tested("t::a", Outcome.FAILED, "t.py", 3, "assert 1 == 2")


def suite(*tests: Tested) -> Suite:
    return Suite({test.name: test for test in tests})


def reported(tool: str, rule: str, level: str = "", path: str = "src/a.py") -> Reported:
    return Reported(Side.AFTER, tool, rule, path, 1, "", level)


def missing(module: str) -> Tested:
    return Tested("t", Outcome.ERROR, "t.py", 1, f"No module named {module!r}", (module,))


def test_an_objection_outweighs_a_doubt():
    verdict = decide([blocking("tests", "failed", "x")], ["no network"], None)

    assert verdict.verdict == GateVerdict.GATE_VERDICT_BLOCK
    assert verdict.blocking == 1


def test_a_doubt_outweighs_a_pass():
    assert decide([], ["ruff: killed"], None).verdict == GateVerdict.GATE_VERDICT_UNKNOWN
    assert unknown("no sandbox").unknown_because == ("no sandbox",)


def test_nothing_to_object_to_is_a_pass():
    assert decide([], [], Tally(passed=1)).verdict == GateVerdict.GATE_VERDICT_PASS


def test_a_test_that_passed_before_and_fails_now_blocks():
    said = compare(suite(PASSED), suite(FAILED), "")

    assert [(one.rule, one.path, one.line) for one in said.findings] == [("failed", "t.py", 3)]
    assert said.run == Tally(failed=1)


def test_a_test_that_failed_before_is_noted_and_does_not_block():
    said = compare(suite(FAILED), suite(FAILED), "")

    assert said.findings == ()
    assert said.remarks == ("t::a failed before the change too",)


def test_a_new_test_that_fails_blocks():
    assert len(compare(suite(), suite(FAILED), "").findings) == 1


def test_a_module_that_the_repository_lacks_here_leaves_the_verdict_open():
    said = compare(suite(missing("flask.json")), suite(missing("flask.json")), "")

    assert said.doubts == ("the repository needs the module 'flask', which the gate does not have",)
    assert said.findings == ()


def test_a_module_that_the_change_declares_leaves_the_verdict_open():
    said = compare(suite(PASSED), suite(missing("jwt")), 'dependencies = ["PyJWT>=2"]')

    assert said.doubts == ("the change needs the module 'jwt', which it declares and the gate does not have",)


def test_a_module_that_nobody_declares_blocks():
    assert compare(suite(PASSED), suite(missing("invented")), "flask").findings[0].rule == "error"


def test_tests_that_ended_without_a_report_block_where_they_ran_before():
    assert compare(suite(PASSED), Suite(None, "it did not end in time"), "").findings[0].rule == "no-report"
    assert compare(Suite(None, "broken"), Suite(None, "broken"), "").doubts != ()


def test_tests_that_disappear_are_said_and_the_last_one_blocks():
    assert compare(suite(PASSED), suite(Tested("t::b", Outcome.PASSED)), "").findings[0].rule == "gone"
    assert compare(suite(PASSED), Suite(None, empty=True), "").findings[0].severity == Severity.SEVERITY_BLOCKING
    assert compare(Suite(None, empty=True), Suite(None, empty=True), "").run is None


@pytest.mark.parametrize(
    ("one", "severity"),
    [
        (reported("ruff", "invalid-syntax"), Severity.SEVERITY_BLOCKING),
        (reported("ruff", "F821"), Severity.SEVERITY_BLOCKING),
        (reported("ruff", "F401"), Severity.SEVERITY_WARNING),
        (reported("bandit", "B602", "HIGH"), Severity.SEVERITY_BLOCKING),
        (reported("bandit", "B104", "MEDIUM"), Severity.SEVERITY_BLOCKING),
        (reported("bandit", "B404", "LOW"), Severity.SEVERITY_INFO),
        (reported("bandit", "B101", "LOW", "tests/test_a.py"), None),
        (reported("detect-secrets", "AWS Access Key", path="tests/test_a.py"), Severity.SEVERITY_BLOCKING),
        (reported("detect-secrets", "Secret Keyword"), Severity.SEVERITY_BLOCKING),
        (reported("detect-secrets", "Secret Keyword", path="tests/test_a.py"), Severity.SEVERITY_WARNING),
    ],
)
def test_how_bad_a_finding_is(one, severity):
    assert severity_of(one) == severity


def test_a_link_out_of_the_repository_blocks_and_one_within_does_not():
    found = links({"a/in": "../b", "a/out": "../../b", "abs": "/etc/passwd", "here": "./x/../y"})

    assert [one.path for one in found] == ["a/out", "abs"]


def test_pytests_report_is_read():
    report = b"""<testsuites><testsuite><testcase classname="tests.test_a" name="test_x" file="tests/test_a.py" line="4"/>
    <testcase classname="tests.test_a" name="test_y" file="tests/test_a.py" line="7"><failure message="assert 0">def test_y():
&gt;   assert 0
tests/test_a.py:9: AssertionError</failure></testcase>
    <testcase classname="" name="tests.test_b"><error message="collection failure">E   ModuleNotFoundError: No module named 'flask'
</error></testcase></testsuite></testsuites>"""

    tests = read_junit(report)

    assert tests["tests.test_a::test_x"] == Tested("tests.test_a::test_x", Outcome.PASSED, "tests/test_a.py", 5)
    assert tests["tests.test_a::test_y"].line == 9
    assert tests["tests.test_b"].missing == ("flask",)
    assert tests["tests.test_b"].message == "ModuleNotFoundError: No module named 'flask'"


@pytest.mark.parametrize(
    "report",
    [b"", b"\xff\xfe", b"<a>", b'<!DOCTYPE a [<!ENTITY x "y">]><testsuites>&x;</testsuites>', b"x" * (9 * 1024 * 1024)],
)
def test_a_report_that_pytest_would_not_write_is_no_report(report):
    with pytest.raises(NotJunit):
        read_junit(report)

    assert suite_of(0, report, "").tests is None


def test_a_run_that_contradicts_its_report_is_not_believed():
    assert suite_of(0, b"<testsuites/>", "").tests is None
    assert suite_of(1, b'<testsuites><testcase name="a"/></testsuites>', "").tests is None
    assert suite_of(5, b"", "").empty
    assert suite_of(None, b"", "it did not end in time").ended == "it did not end in time"


@pytest.mark.parametrize("read", [read_ruff, read_bandit, read_secrets])
@pytest.mark.parametrize(
    "text", ["", "[", "{}", '[{"filename": 1}]', '{"results": 3}', '{"results": [{}]}', "[" * 100_000]
)
def test_a_report_in_another_form_is_unreadable(read, text):
    with pytest.raises(Unreadable):
        read(text)
