"""How bad a finding is, as data. Pure.

A change cannot excuse itself: the analysers are called so that `noqa`, `nosec` and `pragma: allowlist` comments do not
count, so everything that is found arrives here.
"""

from pathlib import PurePosixPath

from factory.artifact.v1 import Severity

from quality_gate.introduced import Reported

# Read from the top; the first row that fits decides. "*" fits all.
#   tool, rule, level, only in test files
ROWS: tuple[tuple[str, str, str, bool, Severity], ...] = (
    # Code that does not parse, or names what does not exist, cannot work.
    ("ruff", "invalid-syntax", "*", False, Severity.SEVERITY_BLOCKING),
    ("ruff", "E999", "*", False, Severity.SEVERITY_BLOCKING),
    ("ruff", "F821", "*", False, Severity.SEVERITY_BLOCKING),
    ("ruff", "*", "*", False, Severity.SEVERITY_WARNING),
    ("bandit", "*", "HIGH", False, Severity.SEVERITY_BLOCKING),
    ("bandit", "*", "MEDIUM", False, Severity.SEVERITY_BLOCKING),
    ("bandit", "*", "*", False, Severity.SEVERITY_INFO),
    # Guesses by the look of a word: right in a program, usually an example in a test.
    ("detect-secrets", "Secret Keyword", "*", True, Severity.SEVERITY_WARNING),
    ("detect-secrets", "Base64 High Entropy String", "*", True, Severity.SEVERITY_WARNING),
    ("detect-secrets", "Hex High Entropy String", "*", True, Severity.SEVERITY_WARNING),
    ("detect-secrets", "*", "*", False, Severity.SEVERITY_BLOCKING),
)

# Said of every test there is: an assert, a made-up password. Not worth a reader's time.
SILENT_IN_TESTS = frozenset({("bandit", "B101"), ("bandit", "B105"), ("bandit", "B106"), ("bandit", "B107")})


def severity_of(reported: Reported) -> Severity | None:
    """How bad it is; None for what is not worth saying."""
    in_tests = is_test(reported.path)
    if in_tests and (reported.tool, reported.rule) in SILENT_IN_TESTS:
        return None
    for tool, rule, level, tests_only, severity in ROWS:
        fits = tool in ("*", reported.tool) and rule in ("*", reported.rule) and level in ("*", reported.level)
        if fits and (in_tests or not tests_only):
            return severity
    return Severity.SEVERITY_WARNING


def is_test(path: str) -> bool:
    """Whether a path is a test by the customs of Python."""
    pure = PurePosixPath(path)
    named = pure.name.startswith("test_") or pure.stem.endswith("_test") or pure.name == "conftest.py"
    return named or bool({"tests", "test"} & set(pure.parts[:-1]))
