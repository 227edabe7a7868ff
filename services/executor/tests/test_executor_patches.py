"""A patch put on its base without git gives what git gives, or is refused."""

import subprocess
from pathlib import Path

import pytest
from executor.patches import NotPlain, Patched, patched
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

lines = st.lists(st.sampled_from([b"a\n", b"b\n", b"c\r\n", b"\n", b"+x\n", b"-- y\n", b"@@ -1 +1 @@\n"]), max_size=30)
contents = st.builds(lambda body, end: b"".join(body) + end, lines, st.sampled_from([b"", b"no end", b"\r"]))
files = st.dictionaries(st.sampled_from(["a.txt", "b c.txt", "d/e.txt", "f"]), contents, max_size=4)


def git(root: Path, *command: str) -> bytes:
    fixed = ["git", "-c", "user.name=A", "-c", "user.email=a@b.invalid", "-c", "core.autocrlf=false"]
    return subprocess.run([*fixed, *command], cwd=root, check=True, capture_output=True).stdout


def written(root: Path, before: dict[str, bytes], after: dict[str, bytes]) -> bytes:
    """The patch that git makes of it."""
    git(root, "init", "-q")
    for content in (before, after):
        git(root, "rm", "-rqf", "--ignore-unmatch", ".")
        for path, data in content.items():
            (root / path).parent.mkdir(exist_ok=True)
            (root / path).write_bytes(data)
        git(root, "add", "-A")
        git(root, "commit", "-qm", "x", "--allow-empty")
    return git(root, "diff-tree", "-r", "-p", "--binary", "--full-index", "--no-renames", "HEAD~", "HEAD")


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=files, after=files)
def test_a_patch_gives_what_git_gives(tmp_path_factory, before, after):
    patch = written(tmp_path_factory.mktemp("r"), before, after)

    found = {file.path: file.content for file in patched(patch, before.get)}

    expected = {path: after.get(path) for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert found == expected


PATCH = (
    b"diff --git a/a.py b/a.py\nindex 587be6b4c3f93f93c489c0111bba5596147a26cb..975fbec8256d3e8a3797e7a3611380f27c49f4ac "
    b"100644\n--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-x\n+y\n"
)


def test_a_mode_is_kept_and_a_new_one_is_told(tmp_path):
    script = PATCH.replace(b"100644\n---", b"100755\n---")
    made = b"diff --git a/a.py b/a.py\nold mode 100644\nnew mode 100755\n"

    assert patched(PATCH, {"a.py": b"x\n"}.get) == (Patched("a.py", b"y\n"),)
    assert patched(script, {"a.py": b"x\n"}.get) == (Patched("a.py", b"y\n"),)
    assert patched(made, {"a.py": b"x\n"}.get) == (Patched("a.py", b"x\n", is_executable=True),)


@pytest.mark.parametrize(
    "patch",
    [
        b"GIT binary patch\n",
        PATCH.replace(b"a/a.py b/a.py", b'"a/\\303" "b/\\303"'),
        PATCH.replace(b"100644", b"120000"),
        PATCH.replace(b"+y", b"+z"),
        PATCH.replace(b"-x", b"-w"),
        PATCH + b"GIT binary patch\n",
        PATCH.replace(b"--- a/a.py\n", b"GIT binary patch\n"),
        PATCH.replace(b"587be6b4", b"00000000"),
    ],
)
def test_what_cannot_be_vouched_for_is_refused(patch):
    with pytest.raises(NotPlain):
        patched(patch, {"a.py": b"x\n"}.get)
