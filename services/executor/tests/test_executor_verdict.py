"""A review is read out of whatever a model wraps around it, and must then be one."""

import json

import pytest
from executor.verdict import Unreadable, read_review
from factory.artifact.v1 import SEVERITY_BLOCKING, SEVERITY_INFO
from factory.phase.v1 import VERDICT_APPROVE, VERDICT_REQUEST_CHANGES
from hypothesis import given
from hypothesis import strategies as st

REVIEW = {
    "verdict": "request_changes",
    "summary": "Tokens never expire.",
    "findings": [
        {"severity": "blocking", "path": "app/auth.py", "line": 12, "rule": "missing-expiry", "message": "No exp."},
        {"severity": "info", "message": "Nice."},
    ],
}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(REVIEW),
        "```json\n" + json.dumps(REVIEW, indent=2) + "\n```",
        "Let me think {about this}. Here it is:\n" + json.dumps(REVIEW) + "\nHope that helps!",
        'An example is {"severity": "blocking"}; mine is ' + json.dumps(REVIEW),
    ],
)
def test_a_review_is_found_within_fences_and_prose(text):
    review = read_review(text)

    assert review.as_verdict == VERDICT_REQUEST_CHANGES
    findings = review.as_findings("gemini").findings
    assert [(f.source, f.severity, f.path, f.line) for f in findings] == [
        ("gemini", SEVERITY_BLOCKING, "app/auth.py", 12),
        ("gemini", SEVERITY_INFO, "", 0),
    ]


def test_other_words_for_the_same_severities_and_lines_are_understood():
    review = read_review(
        '{"verdict": "Approve", "findings": [{"severity": "CRITICAL", "line": "12-15", "path": null, "message": "m"}]}'
    )

    assert review.as_verdict == VERDICT_APPROVE
    assert review.findings[0].severity == "blocking"
    assert review.findings[0].line == 12


def test_half_a_character_in_a_finding_does_no_harm():
    review = read_review('{"verdict": "approve", "findings": [{"severity": "info", "message": "a \\ud83d b"}]}')

    assert review.as_findings("gpt").findings[0].message == "a ? b"


def test_a_request_for_changes_without_findings_is_its_summary():
    review = read_review('{"verdict": "request_changes", "summary": "It does not compile.", "findings": []}')

    assert [found.message for found in review.findings] == ["It does not compile."]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("LGTM!", "It holds no JSON object."),
        ("", "It holds no JSON object."),
        ("{" * 5000, "It holds no JSON object."),
        ('{"a":' * 3000, "It holds no JSON object."),
        ('{"verdict": "maybe"}', "- verdict: Input should be 'approve' or 'request_changes'"),
        ('{"verdict": "request_changes"}', "no finding says why"),
        ('{"verdict": "approve", "findings": [{"severity": "blocking"}]}', "- findings.0.message: Field required"),
        ('{"verdict": "approve", "findings": "none"}', "- findings: Input should be a valid list"),
    ],
)
def test_what_is_no_review_is_complained_about_precisely(text, complaint):
    with pytest.raises(Unreadable) as unreadable:
        read_review(text)

    assert complaint in str(unreadable.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


@given(
    st.dictionaries(st.sampled_from(["verdict", "summary", "findings"]), json_values)
    | st.fixed_dictionaries(
        {
            "verdict": st.sampled_from(["approve", "request_changes"]),
            "findings": st.lists(
                st.dictionaries(st.sampled_from(["severity", "path", "line", "rule", "message"]), json_values),
                max_size=3,
            ),
        }
    )
)
def test_whatever_a_model_writes_is_a_review_or_a_complaint(content):
    try:
        review = read_review(json.dumps(content))
    except Unreadable as complaint:
        assert str(complaint)
    else:
        assert review.as_findings("gpt").SerializeToString() is not None
