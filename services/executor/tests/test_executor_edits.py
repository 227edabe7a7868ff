"""Search/replace blocks apply as the model meant them, or come back with a complaint that says why not."""

import pytest
from executor.blocks import BadBlocks, Deletion, read_blocks
from executor.edits import DoesNotApply, applied, paths_of
from hypothesis import given
from hypothesis import strategies as st

APP = """\
import os


def load(path):
    with open(path) as f:
        return f.read()


def save(path, text):
    with open(path, "w") as f:
        f.write(text)
"""


def block(search, replace, path="app.py"):
    return f"FILE: {path}\n<<<<<<< SEARCH\n{search}=======\n{replace}>>>>>>> REPLACE\n"


def edited(answer, **files):
    files = {"app.py": APP} | {name.replace("__", "."): text for name, text in files.items()}
    blocks = read_blocks(answer)
    return applied(blocks, {path: files.get(path) for path in paths_of(blocks)})


def complaint(answer, **files):
    with pytest.raises((DoesNotApply, BadBlocks)) as refused:
        edited(answer, **files)
    return str(refused.value)


def test_a_block_replaces_exactly_the_lines_it_names():
    result = edited("I rename it.\n\n" + block("def load(path):\n", "def read(path):\n"))

    assert result == {"app.py": APP.replace("def load", "def read")}


def test_blocks_of_one_file_apply_one_after_the_other():
    answer = block("import os\n", "import os\nimport sys\n") + block("import sys\n", "import sys\nimport re\n")

    assert str(edited(answer)["app.py"]).startswith("import os\nimport sys\nimport re\n")


def test_an_empty_search_makes_a_file_and_replaces_one():
    answer = block("", "print(1)\n", "new.py") + block("", "print(2)\n")

    assert edited(answer) == {"new.py": "print(1)\n", "app.py": "print(2)\n"}


def test_a_file_is_deleted():
    assert edited("DELETE: app.py\n") == {"app.py": None}


def test_fences_and_marks_around_paths_and_blocks_do_no_harm():
    answer = (
        "### FILE: `app.py`\n```python\n<<<<<<< SEARCH\nimport os\n=======\nimport sys\n>>>>>>> REPLACE\n```\n"
        "**DELETE: old.py**\n"
    )
    blocks = read_blocks(answer)

    assert [(type(edit), edit.path) for edit in blocks.edits][1] == (Deletion, "old.py")
    assert blocks.summary == ""
    assert edited(answer, old__py="x\n") == {"app.py": APP.replace("import os", "import sys"), "old.py": None}


def test_prose_around_the_blocks_is_the_summary():
    answer = "First.\n\n" + block("import os\n", "import sys\n") + "\nLast."

    assert read_blocks(answer).summary == "First.\n\n\nLast."


def test_white_space_at_the_end_of_lines_does_not_matter():
    assert edited(block("import os  \n", "import sys\n")) == {"app.py": APP.replace("import os", "import sys")}


def test_a_block_that_lost_its_indentation_gets_the_one_of_the_file():
    answer = block(
        "with open(path) as f:\n    return f.read()\n", "with open(path) as f:\n    return f.read().strip()\n"
    )

    assert edited(answer)["app.py"] == APP.replace("        return f.read()", "        return f.read().strip()")


def test_a_block_that_is_indented_too_far_is_moved_back():
    answer = block("    import os\n", "    import os\n    if os:\n        pass\n")

    assert str(edited(answer)["app.py"]).startswith("import os\nif os:\n    pass\n\n")


def test_lines_of_equals_signs_may_be_part_of_the_text():
    text = "Title\n=======\n\nBody\n"
    answer = block("Title\n=======\n", "Name\n=======\n", "doc.rst")

    assert edited(answer, doc__rst=text) == {"doc.rst": "Name\n=======\n\nBody\n"}


def test_a_file_keeps_its_line_ends():
    answer = block("two\n", "2\n", "dos.txt")

    assert edited(answer, dos__txt="one\r\ntwo\r\n") == {"dos.txt": "one\r\n2\r\n"}


def test_a_block_that_fits_twice_is_refused_with_the_places():
    assert complaint(block("        pass\n", "        x\n"), app__py="        pass\n\n        pass\n") == (
        "Block 1 of app.py fits 2 places (lines 1, 3). "
        "Add lines around it to the SEARCH part until it fits one place only."
    )


def test_a_block_that_fits_nowhere_is_refused_with_the_closest_lines():
    text = complaint(block("import os\n", "import re\n") + block("def save(path, txt):\n    with open(p):\n", "x\n"))

    assert text == (
        "Block 2 of app.py: its SEARCH lines do not stand in the file. The closest lines of the file are:\n"
        "    9 | def save(path, text):\n"
        '   10 |     with open(path, "w") as f:'
    )


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Just do it like this: x = 1", "It holds no edit"),
        ("<<<<<<< SEARCH\na\n=======\nb\n>>>>>>> REPLACE\n", "stands before any line `FILE: path`"),
        ("FILE: app.py\n<<<<<<< SEARCH\nimport os\n=======\nimport sys\n", "Block 1 of app.py does not end"),
        ("FILE: app.py\n<<<<<<< SEARCH\nimport os\n", "there is no line `=======`"),
        (block("a\n", "b\n") + "FILE: x\n<<<<<<< SEARCH\n=======\n<<<<<<< SEARCH\n", "Block 1 of x does not end"),
        (block("a\n", "b\n", "none.py"), "searches a file that does not exist"),
        ("DELETE: none.py", "names a file that does not exist"),
        (block("import os\n", "import os\n"), "change nothing"),
        (block("", "x" * 600_000 + "\n"), "app.py would have 600001 bytes; at most 524288 are allowed."),
        ("".join(block("", "x\n", f"{n}.py") for n in range(61)), "It edits 61 files; at most 60 are allowed."),
        ("FILE: a\n" + block("a\n", "b\n") * 401, "more than 400 blocks"),
        (block("qqqqqqqqq\n", "x\n"), "No line of the file is like them; the file has 11 lines."),
    ],
)
def test_what_cannot_be_applied_is_complained_about_precisely(answer, expected):
    assert expected in complaint(answer)


lines = st.lists(st.sampled_from(["", "a", "b", "  a", "\tb", "=======", "x = 1", "def f():"]), min_size=1, max_size=12)


@given(lines, st.data(), st.lists(st.sampled_from(["a", "", "  z", "======="]), max_size=4))
def test_a_block_that_quotes_lines_which_stand_only_once_puts_its_own_there(file, data, replace):
    start = data.draw(st.integers(0, len(file) - 1))
    end = data.draw(st.integers(start + 1, len(file)))
    search, text = file[start:end], "\n".join([*file, "THE END", ""])
    at = [n for n in range(len(file)) if file[n : n + len(search)] == search]
    if len(at) > 1 or "=======" in search or not any(line.strip() for line in search) or replace == search:
        return
    answer = block("".join(f"{line}\n" for line in search), "".join(f"{line}\n" for line in replace), "f")

    assert applied(read_blocks(answer), {"f": text}) == {
        "f": "\n".join([*file[:start], *replace, *file[end:], "THE END", ""])
    }


@given(st.text(st.sampled_from("<=> SEARCHREPLACE\nFILE: ab"), max_size=200) | st.text(max_size=200))
def test_whatever_a_model_writes_is_edits_or_a_complaint(text):
    try:
        blocks = read_blocks(text)
        applied(blocks, dict.fromkeys(paths_of(blocks), APP))
    except (BadBlocks, DoesNotApply) as refused:
        assert str(refused)
