"""Which files of a repository a model may be shown at all. Pure; never opens one."""

from pathlib import PurePosixPath

from worktree import TreeEntry

FILE_BYTES_MAX = 256 * 1024
FILES_MAX = 20_000
# Ranking holds every word of it in memory: about 7 bytes for each of these, measured on Python sources.
TEXT_BYTES_MAX = 12 * 1024 * 1024
# Longer lines are written by machines: minified code, inlined images, notebooks' outputs.
LINE_CHARS_MAX = 4000
# git calls a file binary that has a NUL among its first bytes.
BINARY_PROBE_BYTES = 8000

_REGULAR = ("100644", "100755")
_FOREIGN_DIRECTORIES_IN_WORDS = (
    ".git .hg .venv venv node_modules bower_components vendor third_party site-packages __pycache__ dist "
    "build target .tox .mypy_cache .ruff_cache .pytest_cache .next .terraform .idea"
)
_FOREIGN_DIRECTORIES = frozenset(_FOREIGN_DIRECTORIES_IN_WORDS.split())
_GENERATED_NAMES_IN_WORDS = (
    "package-lock.json npm-shrinkwrap.json yarn.lock pnpm-lock.yaml bun.lockb uv.lock poetry.lock "
    "pdm.lock pipfile.lock cargo.lock gemfile.lock composer.lock go.sum flake.lock mix.lock podfile.lock "
    "packages.lock.json"
)
_GENERATED_NAMES = frozenset(_GENERATED_NAMES_IN_WORDS.split())
_GENERATED_SUFFIXES = (
    *(".min.js", ".min.css", ".js.map", ".css.map", "_pb2.py", "_pb2.pyi", "_pb2_grpc.py", ".pb.go", ".snap", ".svg"),
    *(".csv", ".tsv", ".ipynb", ".pem", ".key", ".p12", ".pfx", ".jks"),
)
# Secrets by their very name; templates for them are for reading.
_PRIVATE_NAMES_IN_WORDS = ".env .netrc .pgpass .npmrc .pypirc id_rsa id_ed25519 id_ecdsa credentials.json"
_PRIVATE_NAMES = frozenset(_PRIVATE_NAMES_IN_WORDS.split())
_KEY_NAMES_IN_WORDS = (
    "readme.md readme.rst readme.txt readme pyproject.toml package.json cargo.toml go.mod pom.xml "
    "build.gradle makefile justfile contributing.md architecture.md"
)
_KEY_NAMES = frozenset(_KEY_NAMES_IN_WORDS.split())


def worth_reading(entries: list[TreeEntry]) -> list[TreeEntry]:
    """Regular files of a size a model can use, written by the people of this repository; at most the limits above."""
    chosen: list[TreeEntry] = []
    bytes_left = TEXT_BYTES_MAX
    for entry in sorted(entries, key=lambda entry: (prior(entry.path), entry.path)):
        if not _may_be_shown(entry) or entry.size > bytes_left:
            continue
        chosen.append(entry)
        bytes_left -= entry.size
        if len(chosen) == FILES_MAX:
            break
    return chosen


def _may_be_shown(entry: TreeEntry) -> bool:
    path = PurePosixPath(entry.path)
    name = path.name.lower()
    return (
        entry.mode in _REGULAR
        and 0 < entry.size <= FILE_BYTES_MAX
        and not _FOREIGN_DIRECTORIES.intersection(part.lower() for part in path.parts[:-1])
        and name not in _GENERATED_NAMES
        and name not in _PRIVATE_NAMES
        and not name.endswith(_GENERATED_SUFFIXES)
        # .env.local and .env.production, but not .env.example
        and not (name.startswith(".env.") and not name.endswith((".example", ".sample", ".template", ".dist")))
    )


def text_of(content: bytes) -> str | None:
    """The text of a file, or None when it is not one that people write."""
    if b"\0" in content[:BINARY_PROBE_BYTES]:
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    if any(len(line) > LINE_CHARS_MAX for line in text.split("\n")):
        return None
    return text


def prior(path: str) -> int:
    """Which of two equally relevant files goes first: what explains the repository, then what is near its root."""
    parts = PurePosixPath(path).parts
    if len(parts) == 1 and parts[0].lower() in _KEY_NAMES:
        return 0
    return len(parts)
