from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worktree import UnsafePath, safe_path


@pytest.mark.parametrize(
    "relative", ["a.py", "src/app/main.py", "./src//a.py", ".github/workflows/ci.yml", ".gitignore", "ünï/ço.de"]
)
def test_ordinary_paths_lie_where_one_expects_them(tmp_path, relative):
    assert safe_path(tmp_path, relative) == tmp_path / relative


@pytest.mark.parametrize(
    "relative",
    [
        "",
        "  ",
        ".",
        "./",
        "/etc/passwd",
        "../../etc/passwd",
        "src/../../x",
        "src/..",
        "~/x",
        ".git/config",
        "sub/.GIT/hooks/pre-commit",
        ".git./config",
        ".git /config",
        "git~1/config",
        ".g\u200cit/config",
        ".git::$INDEX_ALLOCATION/config",
        "a\0b",
        "a\nb",
        "..\\..\\x",
        "\ud800",
        "a" * 256,
        "a/" * 600 + "b",
    ],
)
def test_paths_that_could_do_harm_are_refused(tmp_path, relative):
    with pytest.raises(UnsafePath):
        safe_path(tmp_path, relative)


def test_a_path_through_or_onto_a_symbolic_link_is_refused(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root/out").symlink_to(tmp_path)
    (tmp_path / "root/passwd").symlink_to("/etc/passwd")

    with pytest.raises(UnsafePath, match="'out' is a symbolic link"):
        safe_path(tmp_path / "root", "out/x.py")
    with pytest.raises(UnsafePath, match="'passwd' is a symbolic link"):
        safe_path(tmp_path / "root", "passwd")


def test_a_path_below_a_file_is_refused(tmp_path):
    (tmp_path / "a.py").write_text("")

    with pytest.raises(UnsafePath, match=r"'a\.py' is a file"):
        safe_path(tmp_path, "a.py/b.py")


@given(st.text(max_size=60))
def test_whatever_the_text_the_path_is_inside_or_refused(relative):
    root = Path("/nonexistent/root")
    try:
        path = safe_path(root, relative)
    except UnsafePath:
        return
    assert root in path.parents
    assert ".." not in path.parts
