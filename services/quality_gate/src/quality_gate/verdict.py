"""What all the checks together mean for a change. Pure.

A verdict is `pass` only where every check ran and none objects; what could not be told is `unknown`, with the reason in
words.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from factory.artifact.v1 import Finding, Severity
from factory.gate.v1 import GateVerdict, TestRun

from quality_gate.introduced import Reported
from quality_gate.severity import severity_of
from quality_gate.suite import Outcome, Suite, Tested

BAD = frozenset({Outcome.FAILED, Outcome.ERROR})
FINDINGS_MAX = 200

# Modules whose package has another name.
PACKAGES = {
    "PIL": "pillow",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "jose": "python-jose",
    "jwt": "pyjwt",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
DEPENDENCY_FILES = re.compile(r"(^|/)(pyproject\.toml|setup\.(py|cfg)|Pipfile|[^/]*requirements[^/]*\.(txt|in))$")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's word."""

    verdict: GateVerdict
    findings: tuple[Finding, ...] = ()
    unknown_because: tuple[str, ...] = ()
    tests: TestRun | None = None
    # For the evidence: seen, and of no consequence.
    remarks: tuple[str, ...] = ()

    @property
    def blocking(self) -> int:
        return sum(one.severity == Severity.SEVERITY_BLOCKING for one in self.findings)


def unknown(because: str) -> Verdict:
    """The gate could not tell."""
    return Verdict(GateVerdict.GATE_VERDICT_UNKNOWN, unknown_because=(because,))


def refused(rule: str, message: str) -> Verdict:
    """The change itself cannot be."""
    return decide([blocking("gate", rule, message)], [], None)


def decide(
    findings: Iterable[Finding], doubts: Iterable[str], tests: TestRun | None, remarks: Iterable[str] = ()
) -> Verdict:
    """An objection outweighs a doubt, and a doubt outweighs a pass."""
    ordered = tuple(sorted(findings, key=lambda one: (-one.severity, one.path, one.line)))[:FINDINGS_MAX]
    unsure = tuple(dict.fromkeys(doubts))
    said = tuple(remarks)
    if any(one.severity == Severity.SEVERITY_BLOCKING for one in ordered):
        return Verdict(GateVerdict.GATE_VERDICT_BLOCK, ordered, (), tests, (*unsure, *said))
    if unsure:
        return Verdict(GateVerdict.GATE_VERDICT_UNKNOWN, ordered, unsure, tests, said)
    return Verdict(GateVerdict.GATE_VERDICT_PASS, ordered, (), tests, said)


def blocking(source: str, rule: str, message: str, path: str = "", line: int = 0) -> Finding:
    severity = Severity.SEVERITY_BLOCKING
    return Finding(source=source, rule=rule, severity=severity, path=path, line=line, message=message)


def finding_of(reported: Reported) -> Finding | None:
    """A finding for people and models, or None for what is not worth their time."""
    severity = severity_of(reported)
    if severity is None:
        return None
    return Finding(
        source=reported.tool,
        rule=reported.rule,
        severity=severity,
        path=reported.path,
        line=reported.line,
        message=reported.message,
    )


def links(targets: Mapping[str, str]) -> list[Finding]:
    """Symbolic links that the change adds and that point out of the repository."""
    return [
        blocking("gate", "symlink", "a symbolic link must stay within the repository", path)
        for path, target in targets.items()
        if _leaves(path, target)
    ]


def submodules(paths: Iterable[str]) -> list[Finding]:
    """Submodules that the change adds: code from elsewhere that nobody here has seen."""
    return [blocking("gate", "submodule", "a change may not add a submodule", path) for path in paths]


def _leaves(path: str, target: str) -> bool:
    if target.startswith("/"):
        return True
    depth = len(PurePosixPath(path).parts) - 1
    for part in PurePosixPath(target).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return False


@dataclass(frozen=True, slots=True)
class TestsSaid:
    """What two runs of the tests say about the change between them."""

    __test__ = False

    findings: tuple[Finding, ...] = ()
    doubts: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    run: TestRun | None = None


def compare(before: Suite, after: Suite, dependencies: str) -> TestsSaid:
    """Judges the run with the change by the run without it; `dependencies` is the text of what the tree declares."""
    if after.tests is None:
        return _unreadable(before, after)
    old = before.tests or {}
    findings: list[Finding] = []
    doubts: list[str] = []
    remarks: list[str] = []
    for name, test in after.tests.items():
        if test.outcome not in BAD:
            continue
        was = old.get(name)
        if test.missing and (excused := _excused(test, was, dependencies)):
            doubts.append(excused)
        elif was is not None and was.outcome in BAD:
            remarks.append(f"{name} failed before the change too")
        else:
            findings.append(_failure(name, test))
    gone = [name for name, test in old.items() if test.outcome is Outcome.PASSED and name not in after.tests]
    if gone:
        findings.append(_gone(gone))
    return TestsSaid(tuple(findings), tuple(doubts), tuple(remarks), _run(after))


def _unreadable(before: Suite, after: Suite) -> TestsSaid:
    if after.empty:
        none_left = "the repository had tests, and with the change pytest finds none"
        return TestsSaid(findings=(blocking("tests", "gone", none_left),) if before.tests else ())
    if before.tests is None and not before.empty:
        return TestsSaid(doubts=(f"the tests cannot be run here, with or without the change: {after.ended}",))
    return TestsSaid(findings=(blocking("tests", "no-report", f"the tests did not come to an end: {after.ended}"),))


def _excused(test: Tested, was: Tested | None, dependencies: str) -> str:
    """Why a missing module is not the change's fault; empty when it is."""
    module = test.missing[-1].partition(".")[0]
    if was is not None and module in {one.partition(".")[0] for one in was.missing}:
        return f"the repository needs the module {module!r}, which the gate does not have"
    if declares(dependencies, module):
        return f"the change needs the module {module!r}, which it declares and the gate does not have"
    return ""


def declares(dependencies: str, module: str) -> bool:
    """Whether dependency files name the package of a module."""
    names = {_normal(word) for word in re.findall(r"[A-Za-z0-9][A-Za-z0-9._-]*", dependencies)}
    return bool({_normal(module), _normal(PACKAGES.get(module, module))} & names)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _failure(name: str, test: Tested) -> Finding:
    word = "fails" if test.outcome is Outcome.FAILED else "cannot run"
    return blocking("tests", test.outcome.value, f"{name} {word}: {test.message}", test.path, test.line)


def _gone(names: Sequence[str]) -> Finding:
    shown = ", ".join(sorted(names)[:5]) + (", …" if len(names) > 5 else "")
    return Finding(
        source="tests",
        rule="gone",
        severity=Severity.SEVERITY_WARNING,
        message=f"{len(names)} tests that passed before are gone: {shown}",
    )


def _run(suite: Suite) -> TestRun:
    return TestRun(
        passed=suite.count(Outcome.PASSED),
        failed=suite.count(Outcome.FAILED),
        errors=suite.count(Outcome.ERROR),
        skipped=suite.count(Outcome.SKIPPED),
    )
