"""What counts as introduced by a change."""

from hypothesis import given
from hypothesis import strategies as st
from quality_gate.introduced import Reported, Side, introduced

LINES = {
    (Side.BEFORE, "a.py"): ["x = eval(y)", "", "z = eval(y)"],
    (Side.AFTER, "a.py"): ["import os", "x = eval(y)", "", "z = eval(y)", "w = eval(q)"],
}


def text_of(side: Side, path: str, line: int) -> str:
    return LINES[side, path][line - 1]


def found(side: Side, line: int, rule: str = "S307") -> Reported:
    return Reported(side, "ruff", rule, "a.py", line, "eval")


def test_a_flaw_that_only_moved_was_not_introduced():
    reported = [found(Side.BEFORE, 1), found(Side.AFTER, 2)]

    assert introduced(reported, text_of) == []


def test_a_new_line_with_a_flaw_was_introduced():
    reported = [found(Side.BEFORE, 1), found(Side.AFTER, 2), found(Side.AFTER, 5)]

    assert introduced(reported, text_of) == [found(Side.AFTER, 5)]


def test_an_old_line_that_became_wrong_was_introduced():
    assert introduced([found(Side.AFTER, 2, "F821")], text_of) == [found(Side.AFTER, 2, "F821")]


def test_a_flaw_that_was_copied_was_introduced_once():
    LINES[Side.BEFORE, "b.py"] = ["eval(y)"]
    LINES[Side.AFTER, "b.py"] = ["eval(y)", "  eval(y)"]
    one = [Reported(side, "ruff", "S307", "b.py", line, "") for side, line in ((Side.BEFORE, 1), (Side.AFTER, 1))]
    copied = Reported(Side.AFTER, "ruff", "S307", "b.py", 2, "")

    assert introduced([*one, copied], text_of) == [copied]


REPORTS = st.lists(
    st.builds(
        Reported,
        st.just(Side.AFTER),
        st.sampled_from(("ruff", "bandit")),
        st.sampled_from(("A", "B")),
        st.sampled_from(("a.py", "b.py")),
        st.integers(1, 9),
        st.just(""),
    ),
    max_size=20,
)


@given(REPORTS)
def test_a_change_that_changes_nothing_introduces_nothing(after):
    before = [Reported(Side.BEFORE, one.tool, one.rule, one.path, one.line + 3, "") for one in after]

    assert introduced([*before, *after], lambda side, path, line: str(line - 3 * (side is Side.BEFORE))) == []
