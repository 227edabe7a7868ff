import os
from pathlib import Path

import pytest
import worktree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from worktree import GitFailed, TreeDiffers, apply_change, checkout, diff_text, record_change


@pytest.fixture
def base(make_repository, tmp_path):
    repository = make_repository(
        {
            "app.py": "one\ntwo\nthree\n",
            "gone.py": "bye\n",
            "tool.sh": "#!/bin/sh\n",
            "logo.png": bytes(range(256)) * 4,
            ".gitignore": "*.pyc\n",
            "crlf.txt": "a\r\nb\r\n",
            ".gitattributes": "crlf.txt text eol=crlf\n",
        }
    )
    (repository.path / "link").symlink_to("app.py")
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},vendored")
    repository.git("add", "link")
    repository.git("commit", "-q", "-m", "link")
    return worktree.snapshot(str(repository.path), "", allowed_roots=(tmp_path,), mirror=tmp_path / "mirror")


@pytest.fixture
def fresh(base, tmp_path):
    numbers = iter(range(1000))

    def make() -> Path:
        directory = tmp_path / f"checkout-{next(numbers)}"
        checkout(base.bundle, base.base_commit, directory)
        return directory

    return make


def content(directory: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in directory.rglob("*"):
        name = str(path.relative_to(directory))
        if name.split("/")[0] == ".git":
            continue
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = (path.read_bytes(), bool(path.stat().st_mode & 0o100))
    return found


def edit(directory: Path) -> None:
    (directory / "app.py").write_text("one\nTWO\nthree\n")
    (directory / "gone.py").unlink()
    (directory / "new/deep/file.py").parent.mkdir(parents=True)
    (directory / "new/deep/file.py").write_text("new without newline at end")
    (directory / "tool.sh").chmod(0o755)
    (directory / "logo.png").write_bytes(bytes(reversed(range(256))) * 3)
    (directory / "new.bin").write_bytes(b"\0\1\2\xff" * 100)
    (directory / "crlf.txt").write_bytes(b"a\r\nc\r\n")
    (directory / "empty").write_bytes(b"")
    (directory / "späce näme.txt").write_text("ünïcode\n")
    (directory / "ignored.pyc").write_bytes(b"x")


def test_a_change_put_on_a_fresh_checkout_gives_what_was_recorded(base, fresh):
    first, second = fresh(), fresh()
    edit(first)

    change = record_change(first, base.base_commit, "")
    apply_change(second, change)

    expected = content(first)
    del expected["ignored.pyc"]
    assert content(second) == expected
    assert change.base_commit == base.base_commit


def test_the_same_content_gives_the_same_tree_and_the_same_bytes(base, fresh):
    first, second = fresh(), fresh()
    edit(first)
    edit(second)
    for path in second.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.utime(path, (1, 1))

    assert record_change(first, base.base_commit, "p").SerializeToString(deterministic=True) == record_change(
        second, base.base_commit, "p"
    ).SerializeToString(deterministic=True)


def test_a_chain_of_changes_is_cumulative_from_the_base(base, fresh):
    first, second, third = fresh(), fresh(), fresh()
    (first / "a.py").write_text("a\n")
    one = record_change(first, base.base_commit, "")
    apply_change(second, one)
    (second / "b.py").write_text("b\n")
    two = record_change(second, base.base_commit, "digest-of-one")

    apply_change(third, two)

    assert (third / "a.py").read_text() == "a\n"
    assert (third / "b.py").read_text() == "b\n"
    assert two.parent == "digest-of-one"
    again = record_change(third, base.base_commit, "digest-of-one")
    assert again == two


def test_nothing_changed_is_an_empty_patch_that_applies(base, fresh):
    directory = fresh()

    change = record_change(directory, base.base_commit, "")
    apply_change(fresh(), change)

    assert change.patch == b""


def test_a_change_that_says_another_tree_is_refused_and_the_checkout_left_alone(base, fresh):
    directory, other = fresh(), fresh()
    (directory / "a.py").write_text("a\n")
    change = record_change(directory, base.base_commit, "")
    change.tree = "0" * 40
    before = content(other)

    with pytest.raises(TreeDiffers, match="recorded as"):
        apply_change(other, change)
    assert content(other) == before


@pytest.mark.parametrize(
    "patch",
    [
        b"not a patch",
        b"diff --git a/../../x b/../../x\nnew file mode 100644\n--- /dev/null\n+++ b/../../x\n@@ -0,0 +1 @@\n+x\n",
        b"diff --git a/.git/x b/.git/x\nnew file mode 100644\n--- /dev/null\n+++ b/.git/x\n@@ -0,0 +1 @@\n+x\n",
        b"diff --git a/link/x b/link/x\nnew file mode 100644\n--- /dev/null\n+++ b/link/x\n@@ -0,0 +1 @@\n+x\n",
    ],
)
def test_a_patch_that_is_none_or_leads_out_of_the_tree_is_refused(base, fresh, patch, tmp_path):
    directory = fresh()
    change = record_change(directory, base.base_commit, "")
    change.patch = patch

    with pytest.raises(TreeDiffers):
        apply_change(directory, change)
    assert not (tmp_path / "x").exists()


def test_a_change_beyond_the_limit_is_refused(base, fresh, monkeypatch):
    monkeypatch.setattr("worktree.changes.PATCH_BYTES_MAX", 1000)
    directory = fresh()
    (directory / "big.txt").write_text("line\n" * 1000)

    with pytest.raises(worktree.TooLarge, match="at most 1000"):
        record_change(directory, base.base_commit, "")


def test_the_text_of_a_diff_shows_lines_and_only_mentions_binaries(base, fresh):
    directory = fresh()
    edit(directory)

    text = diff_text(record_change(directory, base.base_commit, ""))

    assert "-two\n+TWO\n" in text
    assert "diff --git a/new.bin b/new.bin" in text
    assert text.count("Binary content differs") == 2
    assert "literal" not in text


def test_a_checkout_never_mixes_with_what_is_there(base, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/precious").write_text("mine")

    with pytest.raises(GitFailed, match="not empty"):
        checkout(base.bundle, base.base_commit, tmp_path / "full")


def test_a_damaged_snapshot_is_an_error_of_its_own(base, tmp_path):
    with pytest.raises(GitFailed):
        checkout(base.bundle[:-50], base.base_commit, tmp_path / "a")
    with pytest.raises(GitFailed):
        checkout(b"", base.base_commit, tmp_path / "b")


FILES = st.dictionaries(
    st.sampled_from(["app.py", "gone.py", "x.bin", "new/a", "new/b.txt", "ü", "-dash", "tool.sh"]),
    st.one_of(st.none(), st.binary(max_size=300), st.text(max_size=60).map(str.encode)),
    max_size=6,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILES)
def test_any_edits_survive_the_round_trip(base, fresh, files):
    first, second = fresh(), fresh()
    for name, data in files.items():
        (first / name).parent.mkdir(exist_ok=True)
        (first / name).unlink(missing_ok=True)
        if data is not None:
            (first / name).write_bytes(data)

    change = record_change(first, base.base_commit, "")
    apply_change(second, change)

    assert content(second) == content(first)
    assert record_change(second, base.base_commit, "") == change
