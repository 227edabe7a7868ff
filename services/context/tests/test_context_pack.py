from context.pack import PARTS_MAX, packed
from context.ranking import Ranked, SourceFile, ranked
from context.tokens import count_tokens
from hypothesis import given
from hypothesis import strategies as st


def file(path: str, text: str) -> SourceFile:
    return SourceFile(path, "b" * 40, text)


def by_characters(text: str) -> int:
    """A tokenizer that one can count along with."""
    return (len(text) + 3) // 4


def pack(query: str, files: list[SourceFile], budget: int = 10_000):
    return packed(query, ranked(query, files), budget, by_characters)


def test_a_small_repository_is_packed_whole_and_exactly():
    files = [file("a.py", "one\ntwo"), file("b.py", "three\n")]

    got = pack("two", files)

    assert [(f.path, f.text, f.first_line, f.last_line, f.rank) for f in got.pack.files] == [
        ("a.py", "one\ntwo", 1, 2, 1),
        ("b.py", "three\n", 1, 1, 2),
    ]


def test_the_manifest_says_what_was_taken_and_adds_up():
    got = pack("two", [file("a.py", "one\ntwo\n"), file("b.py", "three\n")])

    assert [(m.path, m.blob, m.first_line, m.last_line, m.rank) for m in got.manifest] == [
        ("a.py", "b" * 40, 1, 2, 1),
        ("b.py", "b" * 40, 1, 1, 2),
    ]
    assert got.tokens == sum(m.tokens for m in got.manifest)


def test_of_a_large_file_the_head_and_the_lines_around_the_matches_are_shown():
    lines = [f"filler {n:05d} filler filler filler" for n in range(1, 2001)]
    lines[1499] = "def refund(order): ..."

    got = pack("refund an order", [file("big.py", "\n".join(lines) + "\n"), file("x.py", "x\n")], budget=3000)

    head, match = [f for f in got.pack.files if f.path == "big.py"]
    assert (head.first_line, head.last_line) == (1, 15)
    assert match.first_line <= 1500 <= match.last_line
    assert match.text.splitlines()[1500 - match.first_line] == "def refund(order): ..."
    assert head.rank == match.rank == 1


def test_no_file_takes_the_whole_budget_when_not_everything_fits():
    big = file("big.py", "refund order\n" * 5000)
    small = file("small.py", "refund\n")

    assert {f.path for f in pack("refund order", [big, small], budget=3000).pack.files} == {"big.py", "small.py"}


def test_secrets_never_get_into_a_pack_and_are_counted():
    key = "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a"

    got = pack("deploy", [file("deploy.py", f'a = 1\nTOKEN = "{key}"\n')])

    assert key not in str(got.pack)
    assert "[REDACTED:GitHub Token]" in got.pack.files[0].text
    assert got.redactions == 1


def test_the_manifest_of_a_huge_repository_still_fits_into_a_fact():
    files = [Ranked(file(f"{n}.py", "refund\n"), 1.0) for n in range(2000)]

    got = packed("refund", files, 200_000, by_characters)

    assert len(got.manifest) == PARTS_MAX


@given(
    st.lists(st.text(alphabet="ab \nrefund", max_size=3000), max_size=8),
    st.integers(0, 2000),
    st.sampled_from(["refund", "a b", ""]),
)
def test_the_budget_is_never_exceeded_and_no_line_is_shown_twice(texts, budget, query):
    got = pack(query, [file(f"{n}.py", text) for n, text in enumerate(texts) if text], budget)

    assert got.tokens <= budget
    shown = [(f.path, line) for f in got.pack.files for line in range(f.first_line, f.last_line + 1)]
    assert len(shown) == len(set(shown))


def test_tokens_are_counted_without_a_network_and_control_tokens_are_text():
    assert count_tokens("hello world") == 2
    assert count_tokens("<|endoftext|>") > 1
