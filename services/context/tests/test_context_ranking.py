from context.ranking import SourceFile, ranked
from hypothesis import given
from hypothesis import strategies as st


def file(path: str, text: str = "") -> SourceFile:
    return SourceFile(path, "0" * 40, text)


SHOP = [
    file("README.md", "A small shop.\n"),
    file("src/cart.py", "class Cart:\n    def add(self, item): ...\n"),
    file("src/auth/login.py", "def login(user, password): ...\n"),
    file("src/models/user.py", "class User:\n    password_hash: str\n"),
    file("src/report.py", "def monthly_report(): ...\n"),
]


def paths(query: str, files=SHOP) -> list[str]:
    return [one.file.path for one in ranked(query, files)]


def test_files_that_share_words_with_the_task_come_first():
    assert set(paths("Hash the user's password at login")[:2]) == {"src/auth/login.py", "src/models/user.py"}
    assert paths("Monthly reports are empty")[0] == "src/report.py"


def test_a_path_alone_can_make_a_file_relevant():
    assert paths("Rework the cart")[0] == "src/cart.py"


def test_a_task_whose_words_say_nothing_starts_with_what_explains_the_repository():
    assert paths("Überarbeiten")[0] == "README.md"
    assert paths("")[0] == "README.md"
    assert ranked("anything", []) == []


@given(st.permutations(SHOP), st.sampled_from(["login password", "", "cart item report", "nothing known"]))
def test_the_order_of_the_listing_does_not_matter(files, query):
    assert ranked(query, files) == ranked(query, SHOP)
