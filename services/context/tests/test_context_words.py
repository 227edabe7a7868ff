from context.words import words
from hypothesis import given
from hypothesis import strategies as st


def test_prose_and_identifiers_meet_in_the_same_words():
    assert words("The user stores") == ["user", "store"]
    assert words("UserStore") == ["user", "store", "userstore"]
    assert words("src/user_store.py") == ["src", "user", "store", "py"]
    assert words("parseHTTPResponse2") == ["parse", "http", "response2", "parsehttpresponse2"]


@given(st.text())
def test_any_text_has_words_and_none_is_empty(text):
    assert all(len(word) >= 1 for word in words(text))
