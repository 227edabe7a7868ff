"""A model's edits on a real checkout: they become a change, or they touch nothing at all."""

import subprocess
from pathlib import Path

import pytest
from executor.adapters.tree import change_by, prepared
from executor.blocks import read_blocks
from executor.edits import DoesNotApply
from factory.artifact.v1 import Pack, PackFile
from worktree import TreeDiffers, apply_change, checkout, snapshot

FILES = {
    "app.py": "import os\n\nKEY = 'sk-secret'\n\n\ndef run():\n    pass\n",
    "src/util.py": "x = 1\n",
    ".gitignore": "*.log\n",
}


@pytest.fixture
def snapped(tmp_path: Path):
    repository = tmp_path / "repo"
    repository.mkdir()
    for name, text in FILES.items():
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_text(text)
    (repository / "outside").symlink_to("/tmp")
    (repository / "link.py").symlink_to("app.py")
    (repository / "binary.bin").write_bytes(b"\xff\xfe\x00")
    git = ["git", "-C", str(repository), "-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    return snapshot(str(repository), "main", allowed_roots=(tmp_path,), mirror=tmp_path / "mirror")


PACK = Pack(files=[PackFile(path="app.py", text=FILES["app.py"].replace("sk-secret", "[redacted]"), first_line=1)])


def tree_of(snapped, root: Path, change=None, digest="", pack=PACK):
    base = root.parent / "base"  # shared by all of a test, as by all requests of a process
    if not base.exists():
        checkout(snapped.bundle, snapped.base_commit, base)
    return prepared(base, root, snapped.base_commit, change, digest, pack)


def edit(search: str, replace: str, path: str = "app.py") -> str:
    return f"FILE: {path}\n<<<<<<< SEARCH\n{search}=======\n{replace}>>>>>>> REPLACE\n"


def test_edits_become_a_change_and_the_next_phase_sees_the_files_with_it(snapped, tmp_path):
    answer = edit("    pass\n", "    return 1\n") + edit("", "y = 2\n", "src/new.py") + "DELETE: src/util.py\n"
    change = change_by(tree_of(snapped, tmp_path / "a"), read_blocks(answer))
    tree = tree_of(snapped, tmp_path / "b", change, "digest")

    assert change.base_commit == snapped.base_commit
    assert set(tree.touched) == {"app.py", "src/new.py"}
    assert tree.touched["src/new.py"] == "y = 2\n"
    assert "return 1" in str(tree.touched["app.py"])
    assert "+y = 2" in tree.diff

    second = change_by(tree, read_blocks(edit("y = 2\n", "y = 3\n", "src/new.py")))
    assert second.parent == "digest"
    assert b"+y = 3" in second.patch
    assert b"return 1" in second.patch


def test_a_secret_that_the_pack_hides_is_shown_nowhere_and_survives_an_edit_of_its_line(snapped, tmp_path):
    answer = edit("KEY = '[redacted]'\n", "KEY = '[redacted]'\nOTHER = 1\n")
    change = change_by(tree_of(snapped, tmp_path / "a"), read_blocks(answer))
    tree = tree_of(snapped, tmp_path / "b", change, "digest")

    assert (tree.own() / "app.py").read_text().splitlines()[2:4] == ["KEY = 'sk-secret'", "OTHER = 1"]
    assert "sk-secret" not in tree.diff
    assert "sk-secret" not in str(tree.touched["app.py"])


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("../../etc/passwd", "leads upwards"),
        ("/etc/passwd", "not relative"),
        ("src/../../x", "leads upwards"),
        (".git/hooks/pre-commit", "git's own directory"),
        ("outside/x.py", "symbolic link"),
        ("link.py", "symbolic link"),
        ("app.py/x.py", "is a file, not a directory"),
        ("src", "is a directory"),
        ("binary.bin", "is not UTF-8 text"),
        ("debug.log", "it ignores these files"),
    ],
)
def test_a_path_that_may_not_be_written_is_refused_by_name_and_nothing_is_written(snapped, tmp_path, path, why):
    tree = tree_of(snapped, tmp_path / "a")
    tree.own()
    before = {
        file: file.read_bytes() for file in (tmp_path / "a").rglob("*") if file.is_file() and ".git" not in file.parts
    }

    with pytest.raises(DoesNotApply, match=why) as refused:
        change_by(tree, read_blocks(edit("", "x\n", path)))

    after = {
        file: file.read_bytes() for file in (tmp_path / "a").rglob("*") if file.is_file() and ".git" not in file.parts
    }
    assert before == after
    assert path.split("/")[-1] in str(refused.value) or path == "debug.log"


def test_an_answer_of_which_one_block_does_not_apply_changes_nothing(snapped, tmp_path):
    tree = tree_of(snapped, tmp_path / "a")
    answer = edit("import os\n", "import sys\n") + edit("not there at all\n", "x\n", "src/util.py")

    with pytest.raises(DoesNotApply):
        change_by(tree, read_blocks(answer))

    assert (tmp_path / "a" / "app.py").read_text() == FILES["app.py"]
    assert change_by(tree, read_blocks(edit("import os\n", "import sys\n"))).patch


def test_a_new_file_below_another_new_file_is_refused_and_taken_back(snapped, tmp_path):
    tree = tree_of(snapped, tmp_path / "a")

    with pytest.raises(DoesNotApply, match="lies below something that is a file"):
        change_by(tree, read_blocks(edit("", "1\n", "n") + edit("", "2\n", "n/m.py")))

    assert not (tmp_path / "a" / "n").exists()


def contents(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(file.relative_to(root)): (file.stat().st_mode, file.read_bytes())
        for file in root.rglob("*")
        if file.is_file()
    }


def test_whatever_a_model_edits_the_base_that_others_read_stays_as_it_was(snapped, tmp_path):
    tree = tree_of(snapped, tmp_path / "a")
    before = contents(tmp_path / "base")
    answer = edit("    pass\n", "    return 1\n") + edit("", "y = 2\n", "src/new.py") + "DELETE: src/util.py\n"
    change = change_by(tree, read_blocks(answer))
    later = tree_of(snapped, tmp_path / "b", change, "digest")
    later.own()

    assert contents(tmp_path / "base") == before
    assert contents(tmp_path / "a").keys() - contents(tmp_path / "base").keys() >= {"src/new.py"}
    assert "    pass" in (tree_of(snapped, tmp_path / "c").own() / "app.py").read_text()


def test_a_change_that_git_applies_and_edits_that_are_taken_back_leave_the_base_as_it_was(snapped, tmp_path):
    quoted = edit("", "z = 1\n", "src/ümlaut.py") + edit("x = 1\n", "x = 2\n", "src/util.py")
    first = change_by(tree_of(snapped, tmp_path / "a"), read_blocks(quoted))
    before = contents(tmp_path / "base")
    tree = tree_of(snapped, tmp_path / "b", first, "digest")
    with pytest.raises(DoesNotApply, match="lies below something that is a file"):
        change_by(
            tree, read_blocks(edit("    pass\n", "    return 1\n") + edit("", "1\n", "n") + edit("", "2\n", "n/m.py"))
        )

    assert contents(tmp_path / "base") == before
    assert (tmp_path / "b" / "src/util.py").read_text() == "x = 2\n"
    assert (tmp_path / "b" / "app.py").read_text() == FILES["app.py"]


def test_a_file_that_can_be_run_can_be_run_after_an_edit(snapped, tmp_path):
    tree = tree_of(snapped, tmp_path / "a")
    (tmp_path / "base" / "app.py").chmod(0o755)
    change = change_by(tree, read_blocks(edit("    pass\n", "    return 1\n")))

    assert (tmp_path / "a" / "app.py").stat().st_mode & 0o111
    assert b"new mode 100755" in change.patch


def test_a_checkout_of_ones_own_that_fails_leaves_nothing_behind(snapped, tmp_path):
    first = change_by(tree_of(snapped, tmp_path / "a"), read_blocks(edit("", "z = 1\n", "src/ümlaut.py")))
    first.tree = "0" * 40
    with pytest.raises(TreeDiffers):
        tree_of(snapped, tmp_path / "b", first, "digest")

    assert not (tmp_path / "b").exists()


def test_a_reader_of_a_change_sees_it_without_a_copy(snapped, tmp_path):
    change = change_by(tree_of(snapped, tmp_path / "a"), read_blocks(edit("", "y = 2\n", "src/new.py")))
    tree = tree_of(snapped, tmp_path / "b", change, "digest")

    assert tree.touched == {"src/new.py": "y = 2\n"}
    assert not (tmp_path / "b").exists()


def test_a_change_that_only_git_can_apply_is_applied_by_git(snapped, tmp_path):
    # A name that git quotes, and a file without a last line end.
    first = change_by(tree_of(snapped, tmp_path / "a"), read_blocks(edit("", "z = 1\n", "src/ümlaut.py")))
    tree = tree_of(snapped, tmp_path / "b", first, "digest")
    second = change_by(tree, read_blocks(edit("x = 1\n", "x = 2\n", "src/util.py")))

    assert tree.changed is None
    checkout(snapped.bundle, snapped.base_commit, tmp_path / "c")
    apply_change(tmp_path / "c", second)
    assert (tmp_path / "c" / "src/ümlaut.py").read_text() == "z = 1\n"
    assert (tmp_path / "c" / "src/util.py").read_text() == "x = 2\n"
