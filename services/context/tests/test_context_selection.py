import pytest
from context.selection import FILE_BYTES_MAX, text_of, worth_reading
from worktree import SUBMODULE, SYMLINK, TreeEntry


def entry(path: str, *, mode: str = "100644", size: int = 10) -> TreeEntry:
    return TreeEntry(path, "0" * 40, mode, size)


def test_what_people_write_is_read_and_what_explains_the_repository_comes_first():
    entries = [entry("src/shop/cart.py"), entry("README.md"), entry("Dockerfile"), entry(".env.example")]

    assert [one.path for one in worth_reading(entries)] == [
        "README.md",
        ".env.example",
        "Dockerfile",
        "src/shop/cart.py",
    ]


@pytest.mark.parametrize(
    "left_out",
    [
        entry("link", mode=SYMLINK),
        entry("module", mode=SUBMODULE, size=0),
        entry("huge.py", size=FILE_BYTES_MAX + 1),
        entry("empty.py", size=0),
        entry("node_modules/left-pad/index.js"),
        entry("app/Vendor/lib.go"),
        entry("uv.lock"),
        entry("web/package-lock.json"),
        entry("static/app.min.js"),
        entry(".env"),
        entry("deploy/.env.production"),
        entry("keys/server.pem"),
    ],
    ids=lambda one: one.path,
)
def test_links_vendored_generated_huge_and_private_files_are_left_out(left_out):
    assert worth_reading([left_out, entry("a.py")]) == [entry("a.py")]


def test_binary_and_machine_written_content_has_no_text():
    assert text_of(b"a\0b") is None
    assert text_of(b"\xff\xfe\x00") is None
    assert text_of(b"x" * 5000) is None
    assert text_of(b"caf\xc3\xa9\n") == "café\n"
