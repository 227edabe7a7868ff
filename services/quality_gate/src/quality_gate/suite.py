"""A run of pytest: what its report says, and what two runs, before and after a change, say about the change. Pure.

The report is written by a process in which untrusted code ran: it is capped, carries no entities, and a missing one is
never a pass.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

JUNIT_CHARACTERS_MAX = 8 * 1024 * 1024
MESSAGE_CHARACTERS_MAX = 500
# pytest's exit codes.
USAGE_ERROR = 4
NO_TESTS = 5

_MISSING = re.compile(r"(?:ModuleNotFoundError|ImportError): No module named '([^']{1,200})'")
_PLACE = re.compile(r"^([^\s:][^:\n]{0,400}\.py):(\d{1,7}): ", re.MULTILINE)


class Outcome(Enum):
    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Tested:
    """One test, or one file that could not be collected."""

    __test__ = False

    name: str
    outcome: Outcome
    path: str = ""
    line: int = 0
    message: str = ""
    # Modules whose absence is the reason; empty for an ordinary failure.
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Suite:
    """How one run of the tests ended."""

    # None: no report could be read; `ended` says how the run ended instead.
    tests: Mapping[str, Tested] | None
    ended: str = ""
    # pytest found nothing to run.
    empty: bool = field(default=False)

    def count(self, outcome: Outcome) -> int:
        return sum(one.outcome is outcome for one in (self.tests or {}).values())


def suite_of(exit_code: int | None, report: bytes, stopped: str) -> Suite:
    """What a run of pytest comes to, by its exit code, its report, or why it was stopped."""
    if stopped:
        return Suite(None, stopped)
    if exit_code == NO_TESTS:
        return Suite(None, "there are no tests", empty=True)
    if exit_code not in (0, 1):
        return Suite(None, f"pytest ended with exit code {exit_code}")
    try:
        tests = read_junit(report)
    except NotJunit as error:
        return Suite(None, f"pytest left no report that can be read: {error}")
    if not tests:
        return Suite(None, "pytest's report names no test")
    if exit_code == 1 and all(one.outcome in (Outcome.PASSED, Outcome.SKIPPED) for one in tests.values()):
        return Suite(None, "pytest failed, and its report names no failure")
    return Suite(tests)


class NotJunit(Exception):
    """The report is not one that pytest writes."""


def read_junit(report: bytes) -> dict[str, Tested]:
    """pytest's `--junitxml`, family xunit1."""
    if len(report) > JUNIT_CHARACTERS_MAX:
        raise NotJunit(f"expected at most {JUNIT_CHARACTERS_MAX} bytes, found {len(report)}")
    try:
        text = report.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotJunit("expected UTF-8") from error
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise NotJunit("expected no document type and no entities")
    try:
        root = ET.fromstring(text)  # noqa: S314 - no document type, no entities, capped
    except (ET.ParseError, ValueError) as error:
        raise NotJunit(f"expected XML: {error}") from error
    return {one.name: one for one in map(_tested, root.iter("testcase"))}


def _tested(case: ET.Element) -> Tested:
    name = "::".join(filter(None, (case.get("classname", ""), case.get("name", ""))))[:300]
    path, line = case.get("file", ""), _number(case.get("line", "")) + 1
    path = path if _within(path) else ""
    for tag, outcome in (("error", Outcome.ERROR), ("failure", Outcome.FAILED), ("skipped", Outcome.SKIPPED)):
        found = case.find(tag)
        if found is None:
            continue
        text = found.text or ""
        # The last place in the repository; a library's own lines help nobody.
        places = [place for place in _PLACE.findall(text) if _within(place[0])]
        if places:
            path, line = places[-1][0], _number(places[-1][1])
        message = found.get("message", "") or text.strip().rpartition("\n")[2]
        if outcome is Outcome.ERROR and (errors := re.findall(r"^E\s+(\S.*)$", text, re.MULTILINE)):
            message = errors[-1]
        missing = tuple(dict.fromkeys(_MISSING.findall(text)))
        return Tested(name, outcome, path, line, message[:MESSAGE_CHARACTERS_MAX], missing)
    return Tested(name, Outcome.PASSED, path, line)


def _within(path: str) -> bool:
    return not path.startswith("/") and ".." not in path.split("/")


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 8 else 0
